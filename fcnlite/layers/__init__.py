"""Caffe's layers: one module a family, each class registered under its Caffe type name."""

from fcnlite.layers.base import LAYERS, Layer, create, register
from fcnlite.layers.common import Input, Split
from fcnlite.layers.concat import Concat, Slice, Tile
from fcnlite.layers.convolution import Convolution, Deconvolution
from fcnlite.layers.crop import Crop
from fcnlite.layers.dropout import Dropout
from fcnlite.layers.eltwise import Eltwise
from fcnlite.layers.inner_product import InnerProduct
from fcnlite.layers.loss import SoftmaxWithLoss
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
from fcnlite.layers.relu import PReLU, ReLU
from fcnlite.layers.scale import Scale
from fcnlite.layers.softmax import Softmax

__all__ = [
    "AbsVal",
    "BNLL",
    "Clip",
    "Concat",
    "Convolution",
    "Crop",
    "Deconvolution",
    "Dropout",
    "ELU",
    "Eltwise",
    "Exp",
    "InnerProduct",
    "Input",
    "LAYERS",
    "LRN",
    "Layer",
    "Log",
    "PReLU",
    "Pooling",
    "Power",
    "Python",
    "ReLU",
    "Scale",
    "Sigmoid",
    "Slice",
    "Softmax",
    "SoftmaxWithLoss",
    "Split",
    "Swish",
    "TanH",
    "Threshold",
    "Tile",
    "create",
    "register",
]
