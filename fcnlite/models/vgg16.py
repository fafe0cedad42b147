"""VGG16 and the fully convolutional nets on it: FCN-32s, 16s, 8s and 8s at once.

Each function returns a NetParameter, with layers and blobs named as in the original nets. Common options:

* `classes`, `width`: outputs, and channels of conv1 (the rest are multiples; 64 is the published net);
* `fc`: channels of fc6 and fc7, 64 * width (4096) unless given;
* `size`: (height, width) in pixels that the inputs are declared with, until an image of another size comes;
* `deploy`: leave out the label and the loss;
* `normalize`: the loss is the mean over labelled pixels, not their sum (the paper's heavy learning sums);
* `filler`: weight filler such as `dict(type="msra")` to train from nothing; without it the convolutions
  are zero until weights are copied in.
"""

from __future__ import annotations

from fcnlite.coord_map import crop
from fcnlite.models.blocks import (
    Filler,
    add,
    classify,
    conv_relu,
    damp,
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
from fcnlite.netspec import NetSpec
from fcnlite.proto import NetParameter

# Convolutions in each of the five blocks, and their channels as a multiple of the width; a pooling ends each.
BLOCKS = [(2, 1), (2, 2), (3, 4), (3, 8), (3, 8)]
SIZE = (500, 500)


def convolutions(
    n: NetSpec,
    width: int,
    filler: Filler,
    *,
    pad: int,
    data: str = "data",
    suffix: str = "",
    first: str = "conv1_1",
) -> None:
    """Add conv1_1 to pool5. `pad` is that of the first convolution; `suffix` ends every layer's name."""
    bottom = n[data]
    for block, (depth, multiple) in enumerate(BLOCKS, 1):
        for i in range(1, depth + 1):
            is_first = (block, i) == (1, 1)
            name = first if is_first else f"conv{block}_{i}"
            made = conv_relu(bottom, multiple * width, pad=pad if is_first else 1, filler=filler)
            n[name + suffix], n[f"relu{block}_{i}" + suffix] = made
            bottom = made[1]
        bottom = n[f"pool{block}" + suffix] = max_pool(bottom)


def fully_convolutional(n: NetSpec, width: int, fc: int | None, filler: Filler, suffix: str = "") -> None:
    """Add fc6 to drop7, the classifier's inner products as convolutions: the 7 x 7 map is the kernel."""
    fc = fc or 64 * width
    n["fc6" + suffix], n["relu6" + suffix] = conv_relu(n["pool5" + suffix], fc, 7, pad=0, filler=filler)
    n["drop6" + suffix] = dropout(n["relu6" + suffix])
    n["fc7" + suffix], n["relu7" + suffix] = conv_relu(n["drop6" + suffix], fc, 1, pad=0, filler=filler)
    n["drop7" + suffix] = dropout(n["relu7" + suffix])


def base(n: NetSpec, width: int, fc: int | None, filler: Filler, first: str = "conv1_1") -> None:
    """Add all of VGG16 up to the scores, n.conv1_1 to n.drop7, as a fully convolutional net.

    The pad of 100 leaves fc6, which loses 6 positions of its map, enough to cover any image.
    """
    convolutions(n, width, filler, pad=100, first=first)
    fully_convolutional(n, width, fc, filler)


def fcn32s(
    classes: int = 21,
    width: int = 64,
    fc: int | None = None,
    *,
    size: tuple[int, int] = SIZE,
    deploy: bool = False,
    normalize: bool = False,
    filler: Filler = None,
) -> NetParameter:
    """FCN-32s: VGG16's scores at stride 32, upsampled to the image (paper, section 4.1)."""
    positive(classes=classes, width=width, fc=fc)
    n = NetSpec()
    data_and_label(n, size, deploy)
    base(n, width, fc, filler)
    n.score_fr = score(n.drop7, classes)
    n.upscore = upsample(n.score_fr, classes, 32)
    n.score = crop(n.upscore, n.data)
    if not deploy:
        n.loss = pixel_loss(n.score, n.label, normalize)
    return named(n, "fcn32s")


def fcn16s(
    classes: int = 21,
    width: int = 64,
    fc: int | None = None,
    *,
    size: tuple[int, int] = SIZE,
    deploy: bool = False,
    normalize: bool = False,
    filler: Filler = None,
) -> NetParameter:
    """FCN-16s: the stride 32 scores joined by those of pool4, upsampled to the image (paper, section 4.2)."""
    positive(classes=classes, width=width, fc=fc)
    n = NetSpec()
    data_and_label(n, size, deploy)
    base(n, width, fc, filler)
    n.score_fr = score(n.drop7, classes)
    n.upscore2 = upsample(n.score_fr, classes, 2)

    n.score_pool4 = score(n.pool4, classes)
    n.score_pool4c = crop(n.score_pool4, n.upscore2)
    n.fuse_pool4 = add(n.upscore2, n.score_pool4c)
    n.upscore16 = upsample(n.fuse_pool4, classes, 16)

    n.score = crop(n.upscore16, n.data)
    if not deploy:
        n.loss = pixel_loss(n.score, n.label, normalize)
    return named(n, "fcn16s")


def fcn8s(
    classes: int = 21,
    width: int = 64,
    fc: int | None = None,
    *,
    size: tuple[int, int] = SIZE,
    deploy: bool = False,
    normalize: bool = False,
    filler: Filler = None,
) -> NetParameter:
    """FCN-8s: the stride 32 scores joined by those of pool4 and pool3, then enlarged (section 4.2)."""
    positive(classes=classes, width=width, fc=fc)
    n = NetSpec()
    data_and_label(n, size, deploy)
    base(n, width, fc, filler)
    n.score_fr = score(n.drop7, classes)
    n.upscore2 = upsample(n.score_fr, classes, 2)

    n.score_pool4 = score(n.pool4, classes)
    n.score_pool4c = crop(n.score_pool4, n.upscore2)
    n.fuse_pool4 = add(n.upscore2, n.score_pool4c)
    n.upscore_pool4 = upsample(n.fuse_pool4, classes, 2)

    n.score_pool3 = score(n.pool3, classes)
    n.score_pool3c = crop(n.score_pool3, n.upscore_pool4)
    n.fuse_pool3 = add(n.upscore_pool4, n.score_pool3c)
    n.upscore8 = upsample(n.fuse_pool3, classes, 8)

    n.score = crop(n.upscore8, n.data)
    if not deploy:
        n.loss = pixel_loss(n.score, n.label, normalize)
    return named(n, "fcn8s")


def fcn8s_atonce(
    classes: int = 21,
    width: int = 64,
    fc: int | None = None,
    *,
    size: tuple[int, int] = SIZE,
    deploy: bool = False,
    normalize: bool = False,
    filler: Filler = None,
) -> NetParameter:
    """FCN-8s at once: FCN-8s with pool4 and pool3 damped, so that all streams learn together.

    The factors 0.01 and 0.0001 bring the skips to the scale of the deep scores (PAMI paper, section 4.3).
    """
    positive(classes=classes, width=width, fc=fc)
    n = NetSpec()
    data_and_label(n, size, deploy)
    base(n, width, fc, filler)
    n.score_fr = score(n.drop7, classes)
    n.upscore2 = upsample(n.score_fr, classes, 2)

    n.scale_pool4 = damp(n.pool4, 0.01)
    n.score_pool4 = score(n.scale_pool4, classes)
    n.score_pool4c = crop(n.score_pool4, n.upscore2)
    n.fuse_pool4 = add(n.upscore2, n.score_pool4c)
    n.upscore_pool4 = upsample(n.fuse_pool4, classes, 2)

    n.scale_pool3 = damp(n.pool3, 0.0001)
    n.score_pool3 = score(n.scale_pool3, classes)
    n.score_pool3c = crop(n.score_pool3, n.upscore_pool4)
    n.fuse_pool3 = add(n.upscore_pool4, n.score_pool3c)
    n.upscore8 = upsample(n.fuse_pool3, classes, 8)

    n.score = crop(n.upscore8, n.data)
    if not deploy:
        n.loss = pixel_loss(n.score, n.label, normalize)
    return named(n, "fcn8s-atonce")


def vgg16(
    classes: int = 1000,
    width: int = 64,
    fc: int | None = None,
    *,
    size: tuple[int, int] = (224, 224),
    deploy: bool = False,
    filler: Filler = None,
) -> NetParameter:
    """The VGG16 classifier, with the published file's layer names (fc6, fc7 and fc8 are inner products)."""
    positive(classes=classes, width=width, fc=fc)
    n = NetSpec()
    n.data = image(3, size)
    convolutions(n, width, filler, pad=1)
    inner_products(n, fc or 64 * width, classes, filler)
    classify(n, n.fc8, deploy)
    return named(n, "vgg16")
