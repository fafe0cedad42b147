"""FCN-AlexNet, and its classifiers as Caffe ships them: CaffeNet, and AlexNet, which pools after its LRN.

`width` is the channels of conv1 (96 in the published nets; even, since conv2, conv4 and conv5 work in two
groups) and scales the others; `fc` is the channels of fc6 and fc7. The other options are as in
`fcnlite.models.vgg16`.
"""

from __future__ import annotations

from typing import Any

from fcnlite.coord_map import crop
from fcnlite.errors import InputError
from fcnlite.models.blocks import (
    LEARNED,
    Filler,
    classify,
    conv_relu,
    data_and_label,
    dropout,
    image,
    inner_products,
    max_pool,
    named,
    pixel_loss,
    positive,
    score,
    upsample,
)
from fcnlite.netspec import NetSpec, Top
from fcnlite.netspec import layers as L
from fcnlite.proto import NetParameter

# Caffe's defaults: the original FCN-AlexNet leaves every rate at 1 but the score layer's.
EVEN_RATES: list[dict[str, Any]] = []


def fcn_alexnet(
    classes: int = 21,
    width: int = 96,
    fc: int | None = None,
    *,
    size: tuple[int, int] = (500, 500),
    deploy: bool = False,
    normalize: bool = True,
    filler: Filler = None,
) -> NetParameter:
    """FCN-AlexNet: CaffeNet's scores at stride 32, upsampled to the image (paper, section 4.1)."""
    positive(classes=classes, width=width, fc=fc)
    n = NetSpec()
    data_and_label(n, size, deploy)
    convolutions(n, width, filler, pad=100, pool_first=True, rates=EVEN_RATES)
    fc = fc or scaled(4096, width)
    n.fc6, n.relu6 = conv_relu(n.pool5, fc, 6, filler=filler, param=EVEN_RATES)
    n.drop6 = dropout(n.relu6)
    n.fc7, n.relu7 = conv_relu(n.drop6, fc, 1, filler=filler, param=EVEN_RATES)
    n.drop7 = dropout(n.relu7)

    n.score_fr = score(n.drop7, classes)
    # An odd kernel: the map's centre falls on a pixel here, where it falls between two in VGG16.
    n.upscore = upsample(n.score_fr, classes, 32, kernel=63)
    n.score = crop(n.upscore, n.data)
    if not deploy:
        n.loss = pixel_loss(n.score, n.label, normalize)
    return named(n, "fcn-alexnet")


def caffenet(
    classes: int = 1000,
    width: int = 96,
    fc: int | None = None,
    *,
    size: tuple[int, int] = (227, 227),
    deploy: bool = False,
    filler: Filler = None,
) -> NetParameter:
    """The BVLC CaffeNet classifier: AlexNet with pooling before normalisation; the base of FCN-AlexNet."""
    return _classifier("caffenet", classes, width, fc, size, deploy, filler, pool_first=True)


def alexnet(
    classes: int = 1000,
    width: int = 96,
    fc: int | None = None,
    *,
    size: tuple[int, int] = (227, 227),
    deploy: bool = False,
    filler: Filler = None,
) -> NetParameter:
    """The BVLC AlexNet classifier: normalisation before pooling."""
    return _classifier("alexnet", classes, width, fc, size, deploy, filler, pool_first=False)


def convolutions(
    n: NetSpec, width: int, filler: Filler, *, pad: int, pool_first: bool, rates: list[dict[str, Any]]
) -> None:
    """Add conv1 to pool5; `pad` is that of conv1, `pool_first` CaffeNet's order of pooling and LRN."""
    if width % 2:
        raise InputError(
            f"width must be even for AlexNet, whose convolutions work in two groups, not {width}"
        )
    given: dict[str, Any] = {"filler": filler, "param": rates}
    n.conv1, n.relu1 = conv_relu(n.data, width, 11, stride=4, pad=pad, **given)
    bottom = pool_and_normalise(n, 1, n.relu1, pool_first)
    n.conv2, n.relu2 = conv_relu(bottom, scaled(256, width), 5, pad=2, group=2, **given)
    bottom = pool_and_normalise(n, 2, n.relu2, pool_first)
    n.conv3, n.relu3 = conv_relu(bottom, scaled(384, width), 3, pad=1, **given)
    n.conv4, n.relu4 = conv_relu(n.relu3, scaled(384, width), 3, pad=1, group=2, **given)
    n.conv5, n.relu5 = conv_relu(n.relu4, scaled(256, width), 3, pad=1, group=2, **given)
    n.pool5 = max_pool(n.relu5, 3)


def pool_and_normalise(n: NetSpec, i: int, bottom: Top, pool_first: bool) -> Top:
    """Add pool{i} and norm{i} in either order, and return the second."""
    if pool_first:
        n[f"pool{i}"] = max_pool(bottom, 3)
        n[f"norm{i}"] = L.LRN(n[f"pool{i}"], local_size=5, alpha=1e-4, beta=0.75)
        return n[f"norm{i}"]
    n[f"norm{i}"] = L.LRN(bottom, local_size=5, alpha=1e-4, beta=0.75)
    n[f"pool{i}"] = max_pool(n[f"norm{i}"], 3)
    return n[f"pool{i}"]


def scaled(channels: int, width: int) -> int:
    """Channels of a layer that has `channels` at width 96, rounded to even for the groups."""
    return max(2, 2 * round(channels * width / 96 / 2))


def _classifier(
    name: str,
    classes: int,
    width: int,
    fc: int | None,
    size: tuple[int, int],
    deploy: bool,
    filler: Filler,
    pool_first: bool,
) -> NetParameter:
    positive(classes=classes, width=width, fc=fc)
    n = NetSpec()
    n.data = image(3, size)
    convolutions(n, width, filler, pad=0, pool_first=pool_first, rates=LEARNED)
    inner_products(n, fc or scaled(4096, width), classes, filler)
    classify(n, n.fc8, deploy)
    return named(n, name)
