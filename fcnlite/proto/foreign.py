"""Names that only forks of Caffe know and fcnlite lacks, with the fork: so that no error sends people astray."""

from __future__ import annotations

_SSD = "SSD (weiliu89/caffe)"
_NVIDIA = "NVIDIA Caffe (NVIDIA/caffe)"
# Layer types by fork.
_TYPES = {
    _SSD: "AnnotatedData DetectionEvaluate DetectionOutput MultiBoxLoss PriorBox SmoothL1Loss VideoData",
    "Faster R-CNN and its kin (rbgirshick/caffe-fast-rcnn)": "BoxAnnotatorOHEM Proposal PSROIPooling ROIAlign ROIMask"
    " SmoothL1LossOHEM SoftmaxLossOHEM",
    "FlowNet (lmb-freiburg/flownet2)": "Accum ChannelNorm Correlation Correlation1D CustomData DataAugmentation"
    " Downsample FlowAugmentation FlowWarp GenerateAugmentationParameters L1Loss LpqLoss Mean Resample",
    "C3D (facebook/C3D)": "Convolution3D Deconvolution3D Pooling3D",
    "DeepLab": "DenseCRF DomainTransform MatRead UniqueLabel WindowSegData",
    "DeconvNet (HyeonwooNoh/caffe)": "Unpooling",
    "the first FCN branches": "AutoCrop",
    "MobileNet's ports": "DepthwiseConv ReLU6",
    "ShuffleNet's ports": "ShuffleChannel",
    "YOLO's ports": "DetectionLoss EvalDetection RegionLoss Reorg",
    "forks for face recognition": "CenterLoss LabelSpecificAdd LabelSpecificMargin MarginInnerProduct TripletLoss",
    "forks for text recognition": "CTCLoss CtcLoss Lstm Reverse Transpose WarpCTC",
    "several forks": "BatchReNorm CuDNNBatchNorm DiceLoss FocalLoss L2Norm Resize SoftmaxFocalLoss SpatialTransformer",
}
_FORK_OF = {name: fork for fork, names in _TYPES.items() for name in names.split()}
# What does the same, or nearly.
_ADVICE = {
    "ReLU6": 'write type: "Clip" clip_param { min: 0 max: 6 }',
    "AutoCrop": "Crop with an offset does it (fcnlite.coord_map derives the offset)",
    "Unpooling": "SegNet's Upsample, with the pooling's second top, is the nearest",
    "Convolution3D": "Convolution takes any number of axes: kernel_size, pad and stride once for each",
    "Deconvolution3D": "Deconvolution takes any number of axes: kernel_size, pad and stride once for each",
    "Pooling3D": "Pooling takes kernel_shape, pad_shape and stride_shape here, a number for each axis",
    "CuDNNBatchNorm": "BatchNorm with a Scale layer behind it does it",
    "DepthwiseConv": "Convolution with a group for each channel does it",
    "Resize": "Interp, or a bilinear Deconvolution, is the nearest",
    "L2Norm": "Normalize is SSD's layer of the kind",
}
# Fields by message: the fork, and what to write instead.
_FIELDS = {
    ("BatchNormParameter", "scale_filler"): (_NVIDIA, "a Scale layer behind it scales"),
    ("BatchNormParameter", "bias_filler"): (_NVIDIA, "a Scale layer with bias_term: true behind it adds"),
    ("BatchNormParameter", "scale_bias"): (_NVIDIA, "a Scale layer with bias_term: true behind it does both"),
    ("LossParameter", "class_loss_weights"): (
        "several forks",
        "class_weighting is SegNet's field of the kind",
    ),
    ("LossParameter", "hard_ratio"): ("several forks", ""),
    ("ImageDataParameter", "new_dim"): ("several forks", "give new_height and new_width"),
    ("TransformationParameter", "distort_param"): (_SSD, ""),
    ("TransformationParameter", "emit_constraint"): (_SSD, ""),
    ("TransformationParameter", "expand_param"): (_SSD, ""),
    ("TransformationParameter", "resize_param"): (_SSD, "ImageData has new_height and new_width"),
    ("PoolingParameter", "torch_pooling"): ("Facebook's port", "round_mode: FLOOR rounds as Torch does"),
}


def foreign_type(name: str) -> str:
    """`"; it is a layer of SSD (..)"` and what to do, for a layer type of a fork of Caffe; "" for any other name."""
    return _told("a layer", _FORK_OF[name], _ADVICE.get(name, "")) if name in _FORK_OF else ""


def foreign_field(message: str, name: str) -> str:
    """The same for a field of a message, such as `"PoolingParameter"`; those of a layer are the settings of a type."""
    if message in ("LayerParameter", "V1LayerParameter"):
        stem = name.removesuffix("_param").replace("_", "")
        kind = next((kind for kind in _FORK_OF if kind.lower() == stem), None)
        return "" if kind is None else _told(f"for {kind}, a layer", _FORK_OF[kind], _ADVICE.get(kind, ""))
    if name == "strict_dim":  # of no one message
        return _told("a field", "a fork", "take it out where sizes agree")
    return _told("a field", *_FIELDS[message, name]) if (message, name) in _FIELDS else ""


def foreign_types() -> list[str]:
    """The layer types that are known to be forks'."""
    return list(_FORK_OF)


def _told(what: str, fork: str, advice: str) -> str:
    return f"; it is {what} of {fork}, which Caffe and fcnlite lack" + (f": {advice}" if advice else "")
