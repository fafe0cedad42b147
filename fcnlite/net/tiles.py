"""Tiles of a picture that is too large for the memory, and which of their scores are those of the whole picture.

A tile is cut out with a margin. Inside, where windows reach beyond its edge, a net sees padding instead of the
picture, and the layers carry that on; so each blob of a tile has an inner range of positions, followed here from
layer to layer, that have read what they would have read in the whole picture. At the picture's own borders the range
ends there, since the padding is the same. Tiles begin at multiples of the net's total stride, so that every window
lies in a tile as it does in the whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

from fcnlite import device
from fcnlite.blob import Blob, Node
from fcnlite.errors import InputError
from fcnlite.layers import Convolution, Deconvolution, winograd
from fcnlite.layers.window import POINT
from fcnlite.memory import shown
from fcnlite.net.graph import Graph

Size = tuple[int, int]  # height and width

_BESIDES = 48 << 20  # what a pass takes besides its arrays: the BLAS's own buffers, memory given back late
_WINOGRAD = 4  # side of the tiles of Winograd's algorithm, on which its rounding depends
_PROBE = 4096  # pixels of a map on which reaches are measured, which takes no memory
_WIDTHS = 24  # widths of tiles that are tried


class TooLittle(InputError):
    """The memory is too little for the smallest tile; `needed` is how many bytes would do."""

    def __init__(self, message: str, needed: int):
        super().__init__(message)
        self.needed = needed


class Span(NamedTuple):
    """The positions [begin, end) of a tile's blob, along one axis, whose values are those of the whole picture.

    `step` is the number of the picture's pixels from a position to the next.
    """

    step: Fraction
    begin: int
    end: int


@dataclass(frozen=True)
class Reach:
    """The lie of a net's scores over its picture, along one axis.

    Attributes
    ----------
    multiple : int
        Tiles begin at multiples of so many pixels.
    step : Fraction
        Pixels from one score to the next.
    head, tail : int
        Scores at the beginning and at the end of a tile that depend on what lies beyond it; the tail is counted from
        where the scores of a tile of `multiple` times n pixels would end if there were n * multiple / step.
    """

    multiple: int
    step: Fraction
    head: int
    tail: int


class Cut(NamedTuple):
    """A tile along one axis: pixels [begin, end) of the picture, which give the whole's scores [first, last).

    In the tile's own scores these begin at `skip`.
    """

    begin: int
    end: int
    first: int
    last: int
    skip: int

    @property
    def kept(self) -> slice:
        """The tile's own scores that are the whole's."""
        return slice(self.skip, self.skip + self.last - self.first)


@dataclass(frozen=True)
class Tiling:
    """A picture cut into tiles.

    Attributes
    ----------
    rows, columns : tuple of Cut
    size : (int, int)
        Height and width of the whole picture's scores.
    """

    rows: tuple[Cut, ...]
    columns: tuple[Cut, ...]
    size: Size

    def __iter__(self) -> Iterator[tuple[Cut, Cut]]:
        return ((row, column) for row in self.rows for column in self.columns)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    @property
    def pixels(self) -> int:
        """Pixels of all tiles, those that lie in several counted as often."""
        height, width = (sum(cut.end - cut.begin for cut in axis) for axis in (self.rows, self.columns))
        return height * width


def tiling(net: Graph, output: str, size: Size, memory: int, result_bytes: int = 0) -> Tiling:
    """Cut a picture into the tiles that cost least among those that fit the memory.

    Parameters
    ----------
    net : Graph
        Whose inputs are maps of one size; its blobs are reshaped, and what they hold is dropped.
    output : str
        The scores wanted.
    size : (int, int)
        The picture's height and width.
    memory : int
        Bytes that the process may hold in all (on a GPU: the GPU's).
    result_bytes : int
        Of which the caller needs so many for each score position.

    Raises
    ------
    InputError
        A layer may see the whole picture at once.
    TooLittle
        Not even the smallest tile fits.
    """
    net.drop_blobs()
    held = device.current().held_bytes()
    probe = _Probe(net, output)
    probe.reshape(size)
    scores = _size(net.blob(output))
    room = memory - held - _BESIDES - result_bytes * math.prod(scores)
    if probe.peak(size) <= room:
        return Tiling((Cut(0, size[0], 0, scores[0], 0),), (Cut(0, size[1], 0, scores[1], 0),), scores)
    reaches = probe.reaches()
    smallest = [_narrowest(reach, n, total, total) for reach, n, total in zip(reaches, size, scores)]
    least = probe.peak((smallest[0], smallest[1]))
    if least > room:
        needed = memory - room + least
        raise TooLittle(
            f"a memory of {shown(memory)} (--memory) is too little: with tiles of {smallest[1]} x {smallest[0]} pixels,"
            f" the smallest for this net, it takes {shown(needed)}, of which {shown(held)} are held before",
            needed,
        )
    made = [
        Tiling(
            tuple(cuts(reaches[0], size[0], scores[0], height)),
            tuple(cuts(reaches[1], size[1], scores[1], width)),
            scores,
        )
        for width in _widths(reaches[1], size[1], scores[1], smallest[1])
        if (height := _tallest(probe, reaches[0].multiple, smallest[0], size[0], width, room))
    ]
    return min(made, key=lambda tiles: tiles.pixels)


def _widths(reach: Reach, length: int, total: int, smallest: int) -> list[int]:
    """Lengths of tiles from the smallest to the whole, each the least with which there are no more of them."""
    tried = {round(smallest * (length / smallest) ** (i / (_WIDTHS - 1))) for i in range(_WIDTHS)}
    numbers = {len(cuts(reach, length, total, max(smallest, width))) for width in tried}
    return sorted(_narrowest(reach, length, total, number) for number in numbers)


def _narrowest(reach: Reach, length: int, total: int, number: int) -> int:
    """The least length of tiles of which at most `number` cover the axis."""
    low, high = 1, -(-length // reach.multiple)
    while low < high:
        middle = (low + high) // 2
        made = cuts(reach, length, total, middle * reach.multiple)
        if made and len(made) <= number:
            high = middle
        else:
            low = middle + 1
    return min(length, low * reach.multiple)


def _tallest(probe: _Probe, multiple: int, smallest: int, height: int, width: int, room: int) -> int:
    """The largest height, a multiple or the whole, at which tiles of that width fit; 0 for none."""
    if probe.peak((smallest, width)) > room:
        return 0
    low, high = smallest // multiple, -(-height // multiple)
    while low < high:
        middle = (low + high + 1) // 2
        if probe.peak((min(height, middle * multiple), width)) <= room:
            low = middle
        else:
            high = middle - 1
    return max(smallest, min(height, low * multiple))


def cuts(reach: Reach, length: int, total: int, most: int) -> list[Cut]:
    """Cut an axis of `length` pixels and `total` scores into tiles of at most `most` pixels; empty if too few."""
    if most >= length:
        return [Cut(0, length, 0, total, 0)]
    most = most // reach.multiple * reach.multiple
    made: list[Cut] = []
    begin = first = 0
    while True:
        end = min(begin + most, length)
        last = total if end == length else int(end / reach.step) - reach.tail
        if last <= first:
            return []
        made.append(Cut(begin, end, first, last, first - int(begin / reach.step)))
        if end == length:
            return made
        first, before = last, begin
        begin = math.floor((first - reach.head) * reach.step / reach.multiple) * reach.multiple
        if begin <= before:
            return []


class _Probe:
    """Sizes of a net's blobs, for pictures of any size, without a number computed."""

    def __init__(self, net: Graph, output: str) -> None:
        self.net = net
        self.output = net.blob(output)
        self.nodes = _leading_to(net.nodes, self.output)

    def reshape(self, size: Size) -> None:
        """Shape every blob for pictures of a size."""
        for name in self.net.inputs:
            blob = self.net.blobs[name]
            if len(blob.shape) != 4:
                raise InputError(f"input '{name}' is not a picture, so the net cannot work in tiles")
            blob.reshape(*blob.shape[:2], *size)
        self.net.reshape()

    def reaches(self) -> tuple[Reach, Reach]:
        """The reach along the vertical and the horizontal axis."""
        multiples = [self._multiple(axis) for axis in (0, 1)]
        side = [-(-_PROBE // multiple) * multiple for multiple in multiples]
        self.reshape((side[0], side[1]))
        made = []
        for axis in (0, 1):
            span = self._spans(axis)[self.output]
            if span.begin >= span.end:
                raise InputError(
                    f"the net cannot work in tiles: a score depends on more than {_PROBE} pixels"
                )
            ideal = side[axis] / span.step
            made.append(Reach(multiples[axis], span.step, span.begin, int(ideal) - span.end))
        return made[0], made[1]

    def _multiple(self, axis: int) -> int:
        """What the places of tiles must be divisible by, for all windows to lie in them as in the whole picture."""
        spans = self._spans(axis)
        found = math.lcm(*(span.step.numerator for span in spans.values()))
        if device.current().fast:
            rough = [spans[top].step for node in self.nodes if _is_square(node.layer) for top in node.tops]
            found = math.lcm(found, *(step.numerator * _WINOGRAD for step in rough))
        return found

    def _spans(self, axis: int) -> dict[Blob, Span]:
        """The spans of the blobs that lead to the output, in a tile with no border of the picture."""
        spans: dict[Blob, Span] = {}
        for node in self.nodes:
            below = [spans[blob] for blob in node.bottoms]
            size = node.tops[0].shape
            if node.bottoms:
                made = _above(node, below, axis)
            elif len(size) == 4 and node.tops[0].name in self.net.inputs:
                made = Span(Fraction(1), 0, size[axis + 2])
            else:
                raise _sees_all(node)
            begin = min(max(0, made.begin), size[axis + 2])
            for top in node.tops:
                spans[top] = Span(made.step, begin, min(made.end, size[axis + 2]))
        return spans

    def peak(self, size: Size) -> int:
        """Bytes that `Graph.infer` holds at most for a picture of that size, beyond the parameters."""
        self.reshape(size)
        backend: Any = device.current()
        last = {blob: node for node in self.net.nodes for blob in node.bottoms}
        inputs = {self.net.blobs[name] for name in self.net.inputs}
        alive: set[Blob] = set()
        alike: dict[Blob, Blob] = {}  # a Split's tops are its bottom
        most = kept = widest = 0
        for node in self.net.nodes:
            if node.layer.type == "Split":
                alike.update((top, alike.get(node.bottoms[0], node.bottoms[0])) for top in node.tops)
            alive.update(node.tops)
            held = {alike.get(blob, blob) for blob in alive} - inputs
            once_more = (
                0 if node.layer.sight() is POINT else sum(b.count for b in node.bottoms if b in node.tops)
            )
            most = max(most, sum(blob.count for blob in held) + once_more)
            done = {blob for blob in node.bottoms if last[blob] is node}
            alive -= (done | {top for top in node.tops if top not in last}) - {self.output}
            if node.layer.type == "Pooling":
                kept += sum(top.count for top in node.tops) // 2  # the places of maxima
            widest = max(widest, _row_of_columns(node, backend.fast))
        item, threads = backend.dtype.itemsize, getattr(backend, "threads", 1)
        widest *= item
        strip = winograd.strip_bytes() if backend.fast else backend.strip_bytes
        buffers = max(backend.whole_bytes, widest) + threads * max(strip, widest)
        # The inputs' content, and the arrays that it was copied from.
        fed = 2 * sum(blob.count for blob in inputs)
        return (fed + max(most, 2 * self.output.count) + kept) * item + buffers


def _row_of_columns(node: Node, fast: bool) -> int:
    """Numbers in the shortest strip in which a layer's convolution can go: one row of it."""
    if not isinstance(node.layer, (Convolution, Deconvolution)):
        return 0
    small, big = (
        (node.tops, node.bottoms) if isinstance(node.layer, Convolution) else (node.bottoms, node.tops)
    )
    channels, outputs, width = big[0].shape[1], small[0].shape[1], small[0].shape[-1]
    plain = channels * node.layer.window.area * width
    if not (fast and _is_square(node.layer)):
        return plain
    transformed = 36 * channels * outputs
    return max(plain, 36 * (channels + outputs) * -(-width // _WINOGRAD)) + transformed


def _is_square(layer: object) -> bool:
    """True for a convolution that `--fast` may compute by Winograd's algorithm."""
    return isinstance(layer, Convolution) and layer.window.kernel == (3, 3)


def _leading_to(nodes: Sequence[Node], output: Blob) -> list[Node]:
    """The nodes that a blob depends on."""
    wanted, found = {output}, []
    for node in reversed(nodes):
        if wanted.intersection(node.tops):
            wanted.update(node.bottoms)
            found.append(node)
    return found[::-1]


def _above(node: Node, below: Sequence[Span], axis: int) -> Span:
    """The span of a layer's tops."""
    layer, first = node.layer, below[0]
    if layer.type == "Crop":
        return _cropped(node, below, axis)
    if (
        isinstance(layer, Deconvolution)
        and len(below) == 1
        and layer.window.axes == 2
        and layer.channel_axis == 1
    ):
        window = layer.window
        pad, extent, stride = window.pad[axis], window.extent[axis], window.stride[axis]
        return Span(first.step / stride, (first.begin - 1) * stride + extent - pad, first.end * stride - pad)
    seen = layer.sight()
    if seen is not None and len(below) == 1:
        pad, extent, stride = seen.pad[axis], seen.extent[axis], seen.stride[axis]
        return Span(
            first.step * stride, -(-(first.begin + pad) // stride), (first.end + pad - extent) // stride + 1
        )
    if not _computes_each_position(node) or any(span.step != first.step for span in below):
        raise _sees_all(node)
    return Span(first.step, max(span.begin for span in below), min(span.end for span in below))


def _cropped(node: Node, below: Sequence[Span], axis: int) -> Span:
    """The span of a Crop's top: the place of the reference, whose size alone counts, is that of the tile."""
    first, reference = below
    if first.step != reference.step:
        raise _sees_all(node)
    offset = node.layer.offsets[axis + 2]  # type: ignore[attr-defined]
    return Span(first.step, first.begin - offset, first.end - offset)


def _computes_each_position(node: Node) -> bool:
    """True for layers that join maps position by position, or work along the channels alone."""
    layer, bottom = node.layer, node.bottoms[0]
    if any(len(blob.shape) != 4 for blob in node.bottoms):
        return False
    if layer.type == "Eltwise" or layer.sight() is POINT:
        return True
    if layer.type == "BatchNorm":
        return bool(layer.is_global)  # type: ignore[attr-defined]
    if layer.type in ("Scale", "Bias"):
        operand = layer.operand(node.bottoms).shape  # type: ignore[attr-defined]
        first = layer.axis(layer.settings.axis, bottom) if operand else 0  # type: ignore[attr-defined]
        return first + len(operand) <= 2
    if layer.type in ("Concat", "Slice"):
        kept = (bottom.shape[0], *bottom.shape[2:])
        return all((top.shape[0], *top.shape[2:]) == kept for top in node.tops)
    return layer.type == "Softmax" and layer.axis(layer.param.softmax_param.axis, bottom) == 1


def _sees_all(node: Node) -> InputError:
    return InputError(
        f"the net cannot work in tiles: what layer '{node.layer.name}' ({node.layer.type}) makes of a position may"
        " depend on the whole picture; leave the memory (--memory) out",
        layer=node.layer.name,
    )


def _size(blob: Blob) -> Size:
    if len(blob.shape) != 4:
        raise InputError(
            f"blob '{blob.name}' has the shape {blob.shape}, no map that tiles could be put together to"
        )
    return blob.shape[2], blob.shape[3]
