"""GoogLeNet as BVLC publishes it, and FCN-GoogLeNet, with BVLC's layer names so that its weights transplant.

`width` is the channels of the first convolution (64 in the published net) and scales the others. The other
options are as in `fcnlite.models.vgg16`.
"""

from __future__ import annotations

from fcnlite.coord_map import crop
from fcnlite.models.blocks import (
    LEARNED,
    Filler,
    classify,
    conv_relu,
    data_and_label,
    dropout,
    image,
    max_pool,
    named,
    pixel_loss,
    positive,
    score,
    upsample,
)
from fcnlite.netspec import NetSpec, Top
from fcnlite.netspec import layers as L
from fcnlite.netspec import params as P
from fcnlite.proto import NetParameter

# Channels at width 64:   1x1, 3x3 reduced, 3x3, 5x5 reduced, 5x5, projected pool; None is a pooling between.
INCEPTIONS: dict[str, tuple[int, ...] | None] = {
    "inception_3a": (64, 96, 128, 16, 32, 32),
    "inception_3b": (128, 128, 192, 32, 96, 64),
    "pool3/3x3_s2": None,
    "inception_4a": (192, 96, 208, 16, 48, 64),
    "inception_4b": (160, 112, 224, 24, 64, 64),
    "inception_4c": (128, 128, 256, 24, 64, 64),
    "inception_4d": (112, 144, 288, 32, 64, 64),
    "inception_4e": (256, 160, 320, 32, 128, 128),
    "pool4/3x3_s2": None,
    "inception_5a": (256, 160, 320, 32, 128, 128),
    "inception_5b": (384, 192, 384, 48, 128, 128),
}


def fcn_googlenet(
    classes: int = 21,
    width: int = 64,
    *,
    size: tuple[int, int] = (500, 500),
    deploy: bool = False,
    normalize: bool = False,
    filler: Filler = None,
) -> NetParameter:
    """FCN-GoogLeNet: scores of inception_5b, not averaged, at stride 32, enlarged to the image (section 4.1).

    Every convolution keeps its map's size, so the classifier's own padding serves for any image of at least
    31 pixels a side. The original authors did not release theirs.
    """
    positive(classes=classes, width=width)
    n = NetSpec()
    data_and_label(n, size, deploy)
    convolutions(n, width, filler)
    n["pool5/drop_7x7_s1"] = dropout(n["inception_5b/output"], 0.4)
    n.score_fr = score(n["pool5/drop_7x7_s1"], classes)
    n.upscore = upsample(n.score_fr, classes, 32, kernel=63)
    n.score = crop(n.upscore, n.data)
    if not deploy:
        n.loss = pixel_loss(n.score, n.label, normalize)
    return named(n, "fcn-googlenet")


def googlenet(
    classes: int = 1000,
    width: int = 64,
    *,
    size: tuple[int, int] = (224, 224),
    deploy: bool = False,
    filler: Filler = None,
) -> NetParameter:
    """The BVLC GoogLeNet classifier, without the two auxiliary classifiers used to train it."""
    positive(classes=classes, width=width)
    n = NetSpec()
    n.data = image(3, size)
    convolutions(n, width, filler)
    n["pool5/7x7_s1"] = L.Pooling(n["inception_5b/output"], pool=P.Pooling.AVE, kernel_size=7, stride=1)
    n["pool5/drop_7x7_s1"] = dropout(n["pool5/7x7_s1"], 0.4)
    fillers = {"weight_filler": dict(filler)} if filler else {}
    n["loss3/classifier"] = L.InnerProduct(
        n["pool5/drop_7x7_s1"], num_output=classes, param=LEARNED, **fillers
    )
    classify(n, n["loss3/classifier"], deploy)
    return named(n, "googlenet")


def convolutions(n: NetSpec, width: int, filler: Filler) -> None:
    """Add conv1/7x7_s2 to inception_5b/output."""
    n["conv1/7x7_s2"], n["conv1/relu_7x7"] = conv_relu(n.data, width, 7, stride=2, pad=3, filler=filler)
    n["pool1/3x3_s2"] = max_pool(n["conv1/relu_7x7"], 3)
    n["pool1/norm1"] = L.LRN(n["pool1/3x3_s2"], local_size=5, alpha=1e-4, beta=0.75)
    reduced = conv_relu(n["pool1/norm1"], width, 1, filler=filler)
    n["conv2/3x3_reduce"], n["conv2/relu_3x3_reduce"] = reduced
    n["conv2/3x3"], n["conv2/relu_3x3"] = conv_relu(reduced[1], scaled(192, width), 3, pad=1, filler=filler)
    n["conv2/norm2"] = L.LRN(n["conv2/relu_3x3"], local_size=5, alpha=1e-4, beta=0.75)
    bottom = n["pool2/3x3_s2"] = max_pool(n["conv2/norm2"], 3)
    for name, channels in INCEPTIONS.items():
        if channels is None:
            bottom = n[name] = max_pool(bottom, 3)
        else:
            bottom = inception(n, name, bottom, [scaled(c, width) for c in channels], filler)


def inception(n: NetSpec, name: str, bottom: Top, channels: list[int], filler: Filler) -> Top:
    """Add one module: four views of the same map (1x1, 3x3, 5x5, pooled), joined along channels."""
    one, three_reduced, three, five_reduced, five, projected = channels

    def branch(view: str, below: Top, width: int, kernel: int) -> Top:
        made = conv_relu(below, width, kernel, pad=kernel // 2, filler=filler)
        n[f"{name}/{view}"], n[f"{name}/relu_{view}"] = made
        return made[1]

    views = [
        branch("1x1", bottom, one, 1),
        branch("3x3", branch("3x3_reduce", bottom, three_reduced, 1), three, 3),
        branch("5x5", branch("5x5_reduce", bottom, five_reduced, 1), five, 5),
    ]
    n[f"{name}/pool"] = max_pool(bottom, 3, 1, pad=1)
    views.append(branch("pool_proj", n[f"{name}/pool"], projected, 1))
    n[f"{name}/output"] = L.Concat(*views)
    return n[f"{name}/output"]


def scaled(channels: int, width: int) -> int:
    """Channels of a layer that has `channels` at width 64."""
    return max(1, round(channels * width / 64))
