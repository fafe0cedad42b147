"""Caffe's layers: one module a family, each class registered under its Caffe type name."""

from __future__ import annotations

import fcnlite.layers.arithmetic  # noqa: F401  (operators on blobs)
import fcnlite.layers.forks.spatial_dropout  # noqa: F401  (a Python layer that is known by name)
from fcnlite.blob import Blob
from fcnlite.layers.accuracy import Accuracy
from fcnlite.layers.argmax import ArgMax
from fcnlite.layers.base import LAYERS, Layer, build, create, parameters, register
from fcnlite.layers.batch_loss import ContrastiveLoss, EuclideanLoss, HingeLoss, MultinomialLogisticLoss
from fcnlite.layers.batch_norm import MVN, BatchNorm
from fcnlite.layers.common import Input, Parameter, Silence, Split
from fcnlite.layers.concat import Concat, Slice, Tile
from fcnlite.layers.convolution import Convolution, Deconvolution
from fcnlite.layers.crop import Crop
from fcnlite.layers.dropout import Dropout
from fcnlite.layers.eltwise import Eltwise
from fcnlite.layers.forks.axpy import Axpy
from fcnlite.layers.forks.bn import BN
from fcnlite.layers.forks.dense_image_data import DenseImageData
from fcnlite.layers.forks.depthwise import ConvolutionDepthwise, DepthwiseConvolution
from fcnlite.layers.forks.image_seg_data import ImageSegData
from fcnlite.layers.forks.interp import Interp
from fcnlite.layers.forks.mat_write import MatWrite
from fcnlite.layers.forks.meanfield import MultiStageMeanfield
from fcnlite.layers.forks.normalize import Normalize
from fcnlite.layers.forks.permute import Permute
from fcnlite.layers.forks.roi_pooling import ROIPooling
from fcnlite.layers.forks.seg_accuracy import SegAccuracy
from fcnlite.layers.forks.upsample import Upsample
from fcnlite.layers.gather import BatchReindex, Embed, Filter
from fcnlite.layers.im2col import Im2col
from fcnlite.layers.inner_product import InnerProduct
from fcnlite.layers.loss import InfogainLoss, SigmoidCrossEntropyLoss, SoftmaxWithLoss
from fcnlite.layers.lrn import LRN
from fcnlite.layers.neuron import (
    BNLL,
    ELU,
    AbsVal,
    Clip,
    Exp,
    Log,
    Power,
    Sigmoid,
    Swish,
    TanH,
    Threshold,
)
from fcnlite.layers.pooling import Pooling
from fcnlite.layers.python import Python
from fcnlite.layers.recurrent import LSTM, RNN, LSTMUnit
from fcnlite.layers.reduction import Reduction
from fcnlite.layers.relu import PReLU, ReLU
from fcnlite.layers.reshape import Flatten, Reshape
from fcnlite.layers.scale import Bias, Scale
from fcnlite.layers.softmax import Softmax
from fcnlite.layers.sources.data import DummyData, HDF5Data, MemoryData
from fcnlite.layers.sources.database import Data
from fcnlite.layers.sources.hdf5_output import HDF5Output
from fcnlite.layers.sources.images import ImageData
from fcnlite.layers.sources.windows import WindowData
from fcnlite.layers.spp import SPP

__all__ = [
    "AbsVal",
    "Accuracy",
    "ArgMax",
    "Axpy",
    "BN",
    "BNLL",
    "BatchNorm",
    "BatchReindex",
    "Bias",
    "Blob",
    "Clip",
    "Concat",
    "ContrastiveLoss",
    "Convolution",
    "ConvolutionDepthwise",
    "Crop",
    "Data",
    "Deconvolution",
    "DenseImageData",
    "DepthwiseConvolution",
    "Dropout",
    "DummyData",
    "ELU",
    "Eltwise",
    "Embed",
    "EuclideanLoss",
    "Exp",
    "Filter",
    "Flatten",
    "HDF5Data",
    "HDF5Output",
    "HingeLoss",
    "Im2col",
    "ImageData",
    "ImageSegData",
    "InfogainLoss",
    "InnerProduct",
    "Input",
    "Interp",
    "LAYERS",
    "LRN",
    "LSTM",
    "LSTMUnit",
    "Layer",
    "Log",
    "MVN",
    "MatWrite",
    "MemoryData",
    "MultiStageMeanfield",
    "MultinomialLogisticLoss",
    "Normalize",
    "PReLU",
    "Parameter",
    "Permute",
    "Pooling",
    "Power",
    "Python",
    "RNN",
    "ROIPooling",
    "ReLU",
    "Reduction",
    "Reshape",
    "SPP",
    "Scale",
    "SegAccuracy",
    "Sigmoid",
    "SigmoidCrossEntropyLoss",
    "Silence",
    "Slice",
    "Softmax",
    "SoftmaxWithLoss",
    "Split",
    "Swish",
    "TanH",
    "Threshold",
    "Tile",
    "Upsample",
    "WindowData",
    "build",
    "create",
    "parameters",
    "register",
]
