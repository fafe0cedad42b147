"""Doubts about a net: arrangements of which Caffe makes a wrong answer in silence, each told in a line.

They are in the description, the weights or the data that its layers fetch; nothing is computed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import PurePosixPath

from fcnlite.coord_map import misplaced_crops
from fcnlite.errors import warn
from fcnlite.layers import Layer
from fcnlite.layers.sources.batches import ImageBatches
from fcnlite.layers.sources.database import Data
from fcnlite.net.core import Net
from fcnlite.proto import TRAIN


def warn_of_doubts(net: Net, where: object = "") -> None:
    """Issue an `InputWarning` for each doubt about a net whose weights are in place; `where` is the file it is from."""
    for doubt in doubts(net):
        warn(f"{where}: {doubt}" if where else doubt)


def doubts(net: Net) -> Iterator[str]:
    """Find what can hardly be meant in a net whose weights are in place."""
    yield from map(str, misplaced_crops(net.param))
    yield from _zero_upsampling(net)
    yield from _drawn_apart(net)
    yield from _keys_out_of_order(net)


def _zero_upsampling(net: Net) -> Iterator[str]:
    rising = [layer for layer in net.layers if layer.type == "Deconvolution"]
    zero = [f"'{layer.name}'" for layer in rising if not bool(layer.blobs[0].data.any())]
    if zero:
        yield (
            f"all weights are zero in the upsampling layer{'s' if zero[1:] else ''} {', '.join(zero)}; a weight_filler"
            " of type bilinear, or fcnlite.surgery.interpolate, makes them interpolate"
        )


def _drawn_apart(net: Net) -> Iterator[str]:
    """Layers with images of one size, at least one of which is cropped or mirrored at random by itself."""
    maps = [
        (node.layer, node.tops[0].shape[2:])
        for node in net.nodes
        if not node.bottoms and node.tops and len(node.tops[0].shape) == 4
    ]
    for (one, size), (other, other_size) in combinations(maps, 2):
        if size == other_size and (_draws(one) or _draws(other)) and not _draw_together(one, other):
            yield (
                f"layers '{one.name}' and '{other.name}' crop or mirror their images at random, each for itself: an"
                " image and its labels are then out of line (fcnlite solve --draw-together draws once for both)"
            )


def _draws(layer: Layer) -> bool:
    given = layer.param.transform_param
    return given.mirror or (given.crop_size > 0 and layer.phase == TRAIN)


def _draw_together(one: Layer, other: Layer) -> bool:
    return isinstance(one, ImageBatches) and isinstance(other, ImageBatches) and one.seed == other.seed


def _keys_out_of_order(net: Net) -> Iterator[str]:
    """Databases that are read side by side, but do not have the same names in the same order."""
    feeds = [layer for layer in net.layers if isinstance(layer, Data)]
    for one, other in combinations(feeds, 2):
        names, others = list(map(_name, one.keys())), list(map(_name, other.keys()))
        if len(names) != len(others):
            yield f"the databases of layers '{one.name}' and '{other.name}' hold {len(names)} and {len(others)} records"
        elif names != others and sorted(names) == sorted(others):
            i = next(i for i, pair in enumerate(zip(names, others)) if pair[0] != pair[1])
            yield (
                f"the databases of layers '{one.name}' and '{other.name}' have their records in another order: record"
                f" {i} is {names[i]!r} in the one, {others[i]!r} in the other"
            )


def _name(key: bytes) -> str:
    """A record's name, without the number that Caffe's convert_imageset begins a key with, folder and suffix."""
    text = key.decode("utf-8", "replace")
    return PurePosixPath(re.sub(r"^\d+_", "", text)).stem
