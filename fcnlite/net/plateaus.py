"""Equal windows are computed once: rows and columns of a blob that are known to be equal are kept a few times only.

FCNs pad the image by 100 pixels, so that about half of all windows in the first layers read nothing but padding
along an axis. Rows whose windows are equal form a *plateau*; all but a few of them are left out of the blob (its
`cut`). Layers know nothing of it: what a convolution or pooling makes of the shorter blob is the shorter form of
what it makes of the whole one, as long as a window fits on what is left of a plateau. Where none does, or before a
layer that may treat positions differently, the rows left out are copied in again. On the way back their gradients
are added up, which is the chain rule for that copying.

It follows from shapes, kernels, pads and strides alone, so a net without plateaus does nothing of all this.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from fcnlite import device
from fcnlite.blob import Blob, Node
from fcnlite.layers import Convolution
from fcnlite.layers.window import POINT, Window

_WORTHWHILE = 32  # padding is cut only if that shortens an axis by at least one in so many
_NARROW = 40  # a margin is kept, rather than copied in again by the next layer, if it is less than one row in so many


class Plateau(NamedTuple):
    """Equal rows (or columns) [begin, end) of the whole blob; the last `cut` of them are left out."""

    begin: int
    end: int
    cut: int


Axis = tuple[Plateau, ...]  # in order and apart from each other
Axes = tuple[Axis, Axis]  # of rows, of columns
WHOLE: Axes = ((), ())


class Margin(NamedTuple):
    """The length at which a plateau is kept so that the layers up to the next stride find a whole window on it.

    `multiple` is what its cut is to be divisible by: the stride of the layers that read it.
    """

    length: int = 1
    multiple: int = 1


class Plateaus:
    """The plateaus of one pass over a net, from its inputs on; a context that leaves every blob with its whole shape.

    Parameters
    ----------
    nodes : sequence of Node
        All nodes of the pass, in order.
    whole : iterable of Blob
        Blobs that are read from outside and so are never cut.
    """

    def __init__(self, nodes: Sequence[Node], whole: Iterable[Blob]):
        self._whole = set(whole)
        self._cuts: dict[Blob, Axes] = {}  # blobs that are cut now
        self._shapes: dict[Blob, tuple[int, ...]] = {}  # whole shapes of all that were cut in this pass
        self._trimmed: list[Convolution] = []
        self._copied: dict[
            Node, list[tuple[Blob, Axes]]
        ] = {}  # bottoms lengthened for a node, as they were before
        self._margins: dict[Blob, tuple[Margin, Margin]] = {}
        for node in reversed(nodes):
            self._note_margins(node)

    def __enter__(self) -> Plateaus:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for layer in self._trimmed:
            layer.trim = ()
        for blob, shape in self._shapes.items():
            if blob.shape != shape:
                blob.drop_data()
                blob.drop_diff()
                blob.reshape(*shape)

    def before_forward(self, node: Node) -> None:
        """Lengthen the node's bottoms as far as its layer needs, and cut its padding."""
        window = self._window(node)
        if window is None:
            for blob in node.bottoms:
                self._lengthen(node, blob, WHOLE)
            for blob in node.tops:
                self._cuts.pop(blob, None)
            return
        bottom = node.bottoms[0]
        axes, shape = self._cuts.get(bottom, WHOLE), self._whole_shape(bottom)
        trims = isinstance(node.layer, Convolution) and min(bottom.shape) > 0
        margins = self._margins.get(node.tops[0], (Margin(), Margin()))
        seen = [
            _through(
                axes[i],
                shape[i + 2],
                _side(window, i),
                margins[i] if window.stride[i] == 1 else Margin(),
                trims,
            )
            for i in (0, 1)
        ]
        self._lengthen(node, bottom, (seen[0].below, seen[1].below))
        if any(any(axis.trim) for axis in seen):
            node.layer.trim = (seen[0].trim, seen[1].trim)  # type: ignore[attr-defined]
            self._trimmed.append(node.layer)  # type: ignore[arg-type]
        above = (seen[0].above, seen[1].above)
        for blob in node.tops:
            self._cuts.pop(blob, None)
            if above != WHOLE:
                self._cuts[blob] = above

    def after_forward(self, node: Node) -> None:
        """Remember the whole shapes of the node's tops."""
        for blob in node.tops:
            if blob in self._cuts:
                self._shapes[blob] = self._whole_shape(blob)

    def after_backward(self, node: Node) -> None:
        """Undo the copying ahead of this node: gradients of equal rows are added up."""
        for blob, before in self._copied.pop(node, ()):
            self._shorten(blob, before)

    def _window(self, node: Node) -> Window | None:
        """The window of a layer that plateaus pass; None if they end ahead of it."""
        if len(node.bottoms) != 1 or len(node.bottoms[0].shape) != 4 or node.layer.loss_weights:
            return None
        if self._whole.intersection(node.tops):
            return None
        window = node.layer.sight()
        if window is not POINT and node.bottoms[0] in node.tops:
            return None
        return window

    def _note_margins(self, node: Node) -> None:
        window = self._window(node)
        if window is None:
            return
        above = [self._margins.get(blob, (Margin(), Margin())) for blob in node.tops]
        bottom = node.bottoms[0]
        held = self._margins.get(bottom, (Margin(), Margin()))
        wanted = []
        for i in (0, 1):
            _, extent, stride = _side(window, i)
            longest = max((margins[i].length for margins in above), default=1)
            multiple = int(np.lcm.reduce([margins[i].multiple for margins in above] or [1]))
            mine = (
                Margin(longest + extent - 1, multiple) if stride == 1 else Margin(extent + stride - 1, stride)
            )
            shared = int(np.lcm(held[i].multiple, mine.multiple))
            wanted.append(Margin(max(held[i].length, mine.length), shared))
        self._margins[bottom] = wanted[0], wanted[1]

    def _whole_shape(self, blob: Blob) -> tuple[int, ...]:
        if len(blob.shape) != 4:
            return blob.shape
        cuts = [sum(plateau.cut for plateau in axis) for axis in self._cuts.get(blob, WHOLE)]
        return (*blob.shape[:2], blob.shape[2] + cuts[0], blob.shape[3] + cuts[1])

    def _lengthen(self, node: Node, blob: Blob, after: Axes) -> None:
        before = self._cuts.get(blob, WHOLE)
        if before == after:
            return
        n, c, height, width = blob.shape
        whole = self._whole_shape(blob)
        backend: Any = device.current()
        tables = [_tables(backend, whole[i + 2], before[i], after[i]) for i in (0, 1)]
        size = tables[0].index.shape[0], tables[1].index.shape[0]
        longer = backend.empty((n, c, *size))
        arguments = (size[1], size[0], height, width, tables[0].index, tables[1].index, blob.data, longer)
        backend.launch("pick_lines", n * c * size[0], *arguments)
        self._copied.setdefault(node, []).append((blob, before))
        blob.data = longer
        self._set(blob, after)

    def _shorten(self, blob: Blob, before: Axes) -> None:
        n, c, height, width = blob.shape
        whole, after = self._whole_shape(blob), self._cuts.get(blob, WHOLE)
        backend: Any = device.current()
        tables = [_tables(backend, whole[i + 2], before[i], after[i]) for i in (0, 1)]
        size = tables[0].first.shape[0] - 1, tables[1].first.shape[0] - 1
        data, diff = (blob.data if blob.has_data else None), (blob.diff if blob.has_diff else None)
        blob.reshape(n, c, *size)
        for kernel, longer in (("pick_lines", data), ("sum_lines", diff)):
            if longer is not None:
                shorter = backend.empty(blob.shape)
                arguments = (
                    size[1],
                    size[0],
                    height,
                    width,
                    tables[0].first,
                    tables[1].first,
                    longer,
                    shorter,
                )
                backend.launch(kernel, n * c * size[0], *arguments)
                if kernel == "pick_lines":
                    blob.data = shorter
                else:
                    blob.diff = shorter
        self._set(blob, before)

    def _set(self, blob: Blob, axes: Axes) -> None:
        if axes == WHOLE:
            self._cuts.pop(blob, None)
        else:
            self._cuts[blob] = axes


class _Seen(NamedTuple):
    """An axis at a layer: the bottom's plateaus it needs, rows left out of its padding, and the top's plateaus."""

    below: Axis
    trim: tuple[int, int]
    above: Axis


def _side(window: Window, i: int) -> tuple[int, int, int]:
    """(pad, extent, stride) along one axis."""
    return window.pad[i], window.extent[i], window.stride[i]


def _through(axis: Axis, size: int, side: tuple[int, int, int], margin: Margin, trims: bool) -> _Seen:
    """Follow an axis of the whole `size` through a window; each plateau keeps `margin.length` rows of the top or one.

    Padding is a plateau, too, which is cut where `trims`.
    """
    pad, extent, stride = side
    below, above, trim = [], [], [0, 0]
    padding, out = ((-pad, 0), (size, size + pad)), (size + 2 * pad - extent) // stride + 1
    kept = margin.length if (margin.length - 1) * _NARROW < out else 1
    for begin, end, cut in (Plateau(*padding[0], -1), *axis, Plateau(*padding[1], -1)):
        first, last = -(-(begin + pad) // stride), (end - extent + pad) // stride + 1
        most = last - first - kept
        if cut >= 0:
            most = min(most, cut // stride)
        elif not trims or most * _WORTHWHILE < out:
            continue
        left_out = max(0, most) // margin.multiple * margin.multiple
        if not left_out:
            continue
        above.append(Plateau(first, last, left_out))
        if cut >= 0:
            below.append(Plateau(begin, end, left_out * stride))
        else:
            trim[int(begin >= 0)] = left_out * stride
    return _Seen(tuple(below), (trim[0], trim[1]), tuple(above))


class _Tables(NamedTuple):
    """Where each row of the longer form lies in the shorter one, and where each row of that, or none, first occurs."""

    index: Any
    first: Any


@lru_cache(256)
def _tables(backend: Any, size: int, shorter: Axis, longer: Axis) -> _Tables:
    index = np.searchsorted(_kept(size, shorter), _kept(size, longer), "right") - 1
    first = np.searchsorted(index, np.arange(index[-1] + 2))
    return _Tables(backend.asarray(index, np.int32), backend.asarray(first, np.int32))


def _kept(size: int, axis: Axis) -> np.ndarray:
    """The rows of the whole that are not left out."""
    kept = np.ones(size, bool)
    for plateau in axis:
        kept[plateau.end - plateau.cut : plateau.end] = False
    return np.flatnonzero(kept)
