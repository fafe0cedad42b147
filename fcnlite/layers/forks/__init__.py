"""Layer types that only Caffe's forks for segmentation have, a module each.

SegNet and ENet: BN, Upsample, DenseImageData, SpatialDropout. DeepLab: Interp, ImageSegData, SegAccuracy, MatWrite.
PSPNet and ICNet: BN, Interp. CRF as RNN: MultiStageMeanfield. SSD: Normalize, Permute. SENet: Axpy. MobileNet:
ConvolutionDepthwise, also called DepthwiseConvolution. Fast R-CNN: ROIPooling.
"""
