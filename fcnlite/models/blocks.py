"""The pieces of the paper's nets, each a line of the architecture: convolution, pooling, score, upsampling.

Learning rates follow the original nets: weights 1, biases twice that and undecayed, upsampling fixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fcnlite.errors import InputError
from fcnlite.netspec import NetSpec, Top
from fcnlite.netspec import layers as L
from fcnlite.netspec import params as P
from fcnlite.proto import NetParameter

Filler = Mapping[str, Any] | None

LEARNED = [{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 2, "decay_mult": 0}]
FIXED = [{"lr_mult": 0}]
IGNORE_LABEL = 255


def positive(**numbers: int | None) -> None:
    """Refuse class counts, widths and sizes under 1; None stands for a default and passes.

    Raises
    ------
    InputError
        Naming the option and its value.
    """
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1, not {value}")


def image(channels: int, size: tuple[int, int]) -> Top:
    """Input of one image, (1, channels, height, width); nets reshape to whatever comes in."""
    height, width = size
    positive(height=height, width=width)
    return L.Input(shape={"dim": [1, channels, height, width]})


def data_and_label(n: NetSpec, size: tuple[int, int], deploy: bool) -> None:
    """Add n.data and, in a net to be trained, n.label, the (1, 1, height, width) map of class indices."""
    n.data = image(3, size)
    if not deploy:
        n.label = image(1, size)


def conv(bottom: Top, channels: int, kernel: int, *, filler: Filler = None, **params: Any) -> Top:
    """Convolution with learned weights and bias. Without a filler it starts at zero, to be given weights."""
    if filler:
        params["weight_filler"] = dict(filler)
    params.setdefault("param", LEARNED)
    return L.Convolution(bottom, num_output=channels, kernel_size=kernel, **params)


def conv_relu(bottom: Top, channels: int, kernel: int = 3, **params: Any) -> tuple[Top, Top]:
    """Convolution and the ReLU in place after it."""
    convolved = conv(bottom, channels, kernel, **params)
    return convolved, relu(convolved)


def relu(bottom: Top) -> Top:
    """ReLU in place."""
    return L.ReLU(bottom, in_place=True)


def max_pool(bottom: Top, kernel: int = 2, stride: int = 2, **params: Any) -> Top:
    """Max pooling; halves the map by default."""
    return L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=kernel, stride=stride, **params)


def dropout(bottom: Top, ratio: float = 0.5) -> Top:
    """Dropout in place."""
    return L.Dropout(bottom, dropout_ratio=ratio, in_place=True)


def score(bottom: Top, classes: int) -> Top:
    """1 x 1 convolution to one channel a class; it starts at zero, so a new skip changes nothing at first."""
    return conv(bottom, classes, 1, pad=0)


def upsample(bottom: Top, classes: int, stride: int, kernel: int | None = None) -> Top:
    """Deconvolution that enlarges `stride` times; fixed, to be given bilinear weights by `fcnlite.surgery`.

    The kernel is 2 * stride unless given; the weight is dense, (classes, classes, kernel, kernel).
    """
    shape = {"num_output": classes, "kernel_size": kernel or 2 * stride, "stride": stride, "bias_term": False}
    return L.Deconvolution(bottom, convolution_param=shape, param=FIXED)


def add(one: Top, other: Top) -> Top:
    """Sum of two maps of the same size: where a skip joins."""
    return L.Eltwise(one, other, operation=P.Eltwise.SUM)


def damp(bottom: Top, factor: float) -> Top:
    """Fixed multiplication, which brings a skip to the scale of what it joins when all learn at once."""
    return L.Scale(bottom, filler={"type": "constant", "value": factor}, param=FIXED)


def pixel_loss(scores: Top, label: Top, normalize: bool) -> Top:
    """Softmax loss over every pixel whose label is not 255: the sum, or with `normalize` the mean."""
    return L.SoftmaxWithLoss(scores, label, loss_param={"normalize": normalize, "ignore_label": IGNORE_LABEL})


def inner_products(n: NetSpec, fc: int, classes: int, filler: Filler) -> None:
    """Add fc6 to fc8, a classifier's inner products on n.pool5, with dropout behind the first two."""
    given: dict[str, Any] = {"param": LEARNED, **({"weight_filler": dict(filler)} if filler else {})}
    n.fc6 = L.InnerProduct(n.pool5, num_output=fc, **given)
    n.relu6 = relu(n.fc6)
    n.drop6 = dropout(n.relu6)
    n.fc7 = L.InnerProduct(n.drop6, num_output=fc, **given)
    n.relu7 = relu(n.fc7)
    n.drop7 = dropout(n.relu7)
    n.fc8 = L.InnerProduct(n.drop7, num_output=classes, **given)


def classify(n: NetSpec, scores: Top, deploy: bool) -> None:
    """End a classifier: n.prob to use it, or n.label and n.loss to train it."""
    if deploy:
        n.prob = L.Softmax(scores)
    else:
        n.label = L.Input(shape={"dim": [1]})
        n.loss = L.SoftmaxWithLoss(scores, n.label)


def named(n: NetSpec, name: str) -> NetParameter:
    """Return the NetParameter of the spec, under a name."""
    net = n.to_proto()
    net.name = name
    return net
