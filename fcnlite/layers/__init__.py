"""Caffe's layers: one module a family, each class registered under its Caffe type name."""

from fcnlite.layers.base import LAYERS, Layer, create, register
from fcnlite.layers.common import Input, Split
from fcnlite.layers.convolution import Convolution, Deconvolution
from fcnlite.layers.crop import Crop
from fcnlite.layers.dropout import Dropout
from fcnlite.layers.eltwise import Eltwise
from fcnlite.layers.loss import SoftmaxWithLoss
from fcnlite.layers.pooling import Pooling
from fcnlite.layers.relu import ReLU
from fcnlite.layers.scale import Scale
from fcnlite.layers.softmax import Softmax

__all__ = [
    "LAYERS",
    "Convolution",
    "Crop",
    "Deconvolution",
    "Dropout",
    "Eltwise",
    "Input",
    "Layer",
    "Pooling",
    "ReLU",
    "Scale",
    "Softmax",
    "SoftmaxWithLoss",
    "Split",
    "create",
    "register",
]
