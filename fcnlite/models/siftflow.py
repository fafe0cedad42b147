"""The two-headed nets of SIFT Flow: semantic (sem) and geometric (geo) scores of one VGG16, learned jointly.

`classes` counts the semantic classes and `geometric` the geometric ones; the labels enter as sem and geo.
The other options are as in `fcnlite.models.vgg16`.
"""

from __future__ import annotations

from collections.abc import Callable

from fcnlite.coord_map import crop
from fcnlite.models.blocks import Filler, add, image, named, pixel_loss, positive, score, upsample
from fcnlite.models.vgg16 import base
from fcnlite.netspec import NetSpec, Top
from fcnlite.proto import NetParameter

SIZE = (256, 256)


def siftflow_fcn32s(
    classes: int = 33,
    width: int = 64,
    fc: int | None = None,
    *,
    geometric: int = 3,
    size: tuple[int, int] = SIZE,
    deploy: bool = False,
    normalize: bool = False,
    filler: Filler = None,
) -> NetParameter:
    """Two-headed FCN-32s (section 5)."""
    return _two_heads(
        "siftflow-fcn32s", _head32s, classes, geometric, width, fc, size, deploy, normalize, filler
    )


def siftflow_fcn16s(
    classes: int = 33,
    width: int = 64,
    fc: int | None = None,
    *,
    geometric: int = 3,
    size: tuple[int, int] = SIZE,
    deploy: bool = False,
    normalize: bool = False,
    filler: Filler = None,
) -> NetParameter:
    """Two-headed FCN-16s (section 5)."""
    return _two_heads(
        "siftflow-fcn16s", _head16s, classes, geometric, width, fc, size, deploy, normalize, filler
    )


def siftflow_fcn8s(
    classes: int = 33,
    width: int = 64,
    fc: int | None = None,
    *,
    geometric: int = 3,
    size: tuple[int, int] = SIZE,
    deploy: bool = False,
    normalize: bool = False,
    filler: Filler = None,
) -> NetParameter:
    """Two-headed FCN-8s (section 5)."""
    return _two_heads(
        "siftflow-fcn8s", _head8s, classes, geometric, width, fc, size, deploy, normalize, filler
    )


def _two_heads(
    name: str,
    head: Callable[[NetSpec, str, int], Top],
    classes: int,
    geometric: int,
    width: int,
    fc: int | None,
    size: tuple[int, int],
    deploy: bool,
    normalize: bool,
    filler: Filler,
) -> NetParameter:
    positive(classes=classes, geometric=geometric, width=width, fc=fc)
    n = NetSpec()
    n.data = image(3, size)
    if not deploy:
        n.sem = image(1, size)
        n.geo = image(1, size)
    base(n, width, fc, filler)
    for task, outputs in (("sem", classes), ("geo", geometric)):
        n[f"score_{task}"] = crop(head(n, task, outputs), n.data)
        if not deploy:
            # The semantic loss is plain "loss", the name that solvers and scoring scripts look for.
            n["loss" if task == "sem" else f"loss_{task}"] = pixel_loss(
                n[f"score_{task}"], n[task], normalize
            )
    return named(n, name)


def _head32s(n: NetSpec, task: str, classes: int) -> Top:
    n[f"score_fr_{task}"] = score(n.drop7, classes)
    n[f"upscore_{task}"] = upsample(n[f"score_fr_{task}"], classes, 32)
    return n[f"upscore_{task}"]


def _head16s(n: NetSpec, task: str, classes: int) -> Top:
    n[f"upscore16_{task}"] = upsample(_fuse_pool4(n, task, classes), classes, 16)
    return n[f"upscore16_{task}"]


def _head8s(n: NetSpec, task: str, classes: int) -> Top:
    n[f"upscore_pool4_{task}"] = upsample(_fuse_pool4(n, task, classes), classes, 2)
    n[f"score_pool3_{task}"] = score(n.pool3, classes)
    n[f"score_pool3_{task}c"] = crop(n[f"score_pool3_{task}"], n[f"upscore_pool4_{task}"])
    n[f"fuse_pool3_{task}"] = add(n[f"upscore_pool4_{task}"], n[f"score_pool3_{task}c"])
    n[f"upscore8_{task}"] = upsample(n[f"fuse_pool3_{task}"], classes, 8)
    return n[f"upscore8_{task}"]


def _fuse_pool4(n: NetSpec, task: str, classes: int) -> Top:
    n[f"score_fr_{task}"] = score(n.drop7, classes)
    n[f"upscore2_{task}"] = upsample(n[f"score_fr_{task}"], classes, 2)
    n[f"score_pool4_{task}"] = score(n.pool4, classes)
    n[f"score_pool4_{task}c"] = crop(n[f"score_pool4_{task}"], n[f"upscore2_{task}"])
    n[f"fuse_pool4_{task}"] = add(n[f"upscore2_{task}"], n[f"score_pool4_{task}c"])
    return n[f"fuse_pool4_{task}"]
