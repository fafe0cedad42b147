"""The RGB-D nets of NYUDv2: FCN-32s with depth as a fourth channel, and a colour and an HHA tower fused, 32s and 16s.

RGB alone and HHA alone are FCN-32s with 40 classes (nyud-fcn32s-color, nyud-fcn32s-hha in the catalogue).
Options are as in `fcnlite.models.vgg16`.
"""

from __future__ import annotations

from fcnlite.coord_map import crop
from fcnlite.models.blocks import Filler, add, image, named, pixel_loss, positive, score, upsample
from fcnlite.models.vgg16 import base, convolutions, fully_convolutional
from fcnlite.netspec import NetSpec, Top
from fcnlite.netspec import layers as L
from fcnlite.netspec import params as P
from fcnlite.proto import NetParameter

SIZE = (480, 640)
MODALITIES = ("color", "hha")


def nyud_early_fusion(
    classes: int = 40,
    width: int = 64,
    fc: int | None = None,
    *,
    size: tuple[int, int] = SIZE,
    deploy: bool = False,
    normalize: bool = False,
    filler: Filler = None,
) -> NetParameter:
    """FCN-32s RGB-D: color (3 channels) and depth (1) enter conv1_1_bgrd as four channels (section 5)."""
    positive(classes=classes, width=width, fc=fc)
    n = NetSpec()
    n.color = image(3, size)
    n.depth = image(1, size)
    if not deploy:
        n.label = image(1, size)
    n.data = L.Concat(n.color, n.depth)
    base(n, width, fc, filler, first="conv1_1_bgrd")
    n.score_fr = score(n.drop7, classes)
    n.upscore = upsample(n.score_fr, classes, 32)
    n.score = crop(n.upscore, n.data)
    if not deploy:
        n.loss = pixel_loss(n.score, n.label, normalize)
    return named(n, "nyud-fcn32s-color-d")


def nyud_late_fusion(
    classes: int = 40,
    width: int = 64,
    fc: int | None = None,
    *,
    size: tuple[int, int] = SIZE,
    deploy: bool = False,
    normalize: bool = False,
    filler: Filler = None,
) -> NetParameter:
    """FCN-32s RGB-HHA: the mean of the scores of a color and an hha tower, upsampled once (section 5)."""
    n = _towers(classes, width, fc, size, deploy, filler)
    n.upscore = upsample(n.score_fused, classes, 32)
    n.score = crop(n.upscore, n.color)
    if not deploy:
        n.loss = pixel_loss(n.score, n.label, normalize)
    return named(n, "nyud-fcn32s-color-hha")


def nyud_late_fusion_16s(
    classes: int = 40,
    width: int = 64,
    fc: int | None = None,
    *,
    size: tuple[int, int] = SIZE,
    deploy: bool = False,
    normalize: bool = False,
    filler: Filler = None,
) -> NetParameter:
    """FCN-16s RGB-HHA: the fused scores joined by the mean of those of both towers' pool4 (CVPR 2015, Table 4)."""
    n = _towers(classes, width, fc, size, deploy, filler)
    n.upscore2 = upsample(n.score_fused, classes, 2)

    for modality in MODALITIES:
        n["score_pool4" + modality] = score(n["pool4" + modality], classes)
    n.score_pool4 = _mean(n.score_pool4color, n.score_pool4hha)
    n.score_pool4c = crop(n.score_pool4, n.upscore2)
    n.fuse_pool4 = add(n.upscore2, n.score_pool4c)
    n.upscore16 = upsample(n.fuse_pool4, classes, 16)

    n.score = crop(n.upscore16, n.color)
    if not deploy:
        n.loss = pixel_loss(n.score, n.label, normalize)
    return named(n, "nyud-fcn16s-color-hha")


def _towers(
    classes: int, width: int, fc: int | None, size: tuple[int, int], deploy: bool, filler: Filler
) -> NetSpec:
    """A color and an hha tower, up to n.score_fused, the mean of their scores at stride 32."""
    positive(classes=classes, width=width, fc=fc)
    n = NetSpec()
    n.color = image(3, size)
    n.hha = image(3, size)
    if not deploy:
        n.label = image(1, size)
    for modality in MODALITIES:
        convolutions(n, width, filler, pad=100, data=modality, suffix=modality)
        fully_convolutional(n, width, fc, filler, suffix=modality)
        n["score_fr" + modality] = score(n["drop7" + modality], classes)
    n.score_fused = _mean(n.score_frcolor, n.score_frhha)
    return n


def _mean(one: Top, other: Top) -> Top:
    return L.Eltwise(one, other, operation=P.Eltwise.SUM, coeff=[0.5, 0.5])
