"""The whole autograd: a Blob knows its data, its diff and the node that made it; a Node knows how to go back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fcnlite import device

if TYPE_CHECKING:
    from fcnlite.layers.base import Layer


class Blob:
    """An array and its gradient, on the current device.

    Parameters
    ----------
    data : array_like, optional
        The content, converted to the device's precision.
    shape : sequence of int, optional
        The shape, if there is no content yet; memory comes with the first use.
    name : str
        What a net calls the blob.

    Attributes
    ----------
    data, diff : array
        Arrays of ``shape``; both start as zeros when read before they were written.
    node : Node or None
        What made this blob; None for inputs and parameters.
    """

    def __init__(self, data: Any = None, shape: Sequence[int] = (), name: str = ""):
        self.name = name
        self.node: Node | None = None
        self._data = None if data is None else device.current().asarray(data)
        self._diff: Any = None
        self._stale = False  # whether the diff's memory is kept but its content forgotten
        self._shape = tuple(shape) if self._data is None else self._data.shape

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, (N, C, H, W) for images."""
        return self._shape

    @property
    def data(self) -> Any:
        if self._data is None:
            self._data = device.current().zeros(self._shape)
        return self._data

    @data.setter
    def data(self, array: Any) -> None:
        if tuple(array.shape) != self._shape:
            self.drop_diff()
        self._data, self._shape = array, tuple(array.shape)

    @property
    def diff(self) -> Any:
        if self._diff is None:
            self._diff = device.current().zeros(self._shape)
        elif self._stale:
            self._diff.fill(0)
        self._stale = False
        return self._diff

    @diff.setter
    def diff(self, array: Any) -> None:
        if tuple(array.shape) != self._shape:
            raise ValueError(
                f"blob {self.name}: a diff of shape {array.shape} does not fit the shape {self._shape}"
            )
        self._diff, self._stale = array, False

    @property
    def has_data(self) -> bool:
        """Whether data has been written (and not dropped) since the last reshape."""
        return self._data is not None

    @property
    def has_diff(self) -> bool:
        """Whether a diff has been written since it was last dropped or cleared."""
        return self._diff is not None and not self._stale

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self._shape)

    @property
    def num(self) -> int:
        """First axis, the batch (1 where there are fewer axes)."""
        return self._legacy(0)

    @property
    def channels(self) -> int:
        """Second axis."""
        return self._legacy(1)

    @property
    def height(self) -> int:
        """Third axis."""
        return self._legacy(2)

    @property
    def width(self) -> int:
        """Fourth axis."""
        return self._legacy(3)

    def _legacy(self, axis: int) -> int:
        return self._shape[axis] if axis < len(self._shape) else 1

    def reshape(self, *shape: int) -> None:
        """Give the blob another shape; data and diff are kept if it holds as many elements as before, else dropped."""
        if shape != self._shape:
            same = math.prod(shape) == self.count
            self._data = self._data.reshape(shape) if same and self._data is not None else None
            self._diff = self._diff.reshape(shape) if same and self._diff is not None else None
            self._shape = tuple(shape)

    def new_data(self) -> Any:
        """The data array for a layer that overwrites all of it (undefined content)."""
        if self._data is None:
            self._data = device.current().empty(self._shape)
        return self._data

    def new_diff(self) -> Any:
        """The diff array for a layer that overwrites all of it (undefined content)."""
        if self._diff is None:
            self._diff = device.current().empty(self._shape)
        self._stale = False
        return self._diff

    def sum_diff(self) -> tuple[Any, bool]:
        """The diff array to add a parameter's gradient to, and whether it already holds one (else: overwrite)."""
        held = self.has_diff
        return self.new_diff(), held

    def drop_data(self) -> None:
        """Free the data."""
        self._data = None

    def drop_diff(self) -> None:
        """Free the diff."""
        self._diff, self._stale = None, False

    def clear_diff(self) -> None:
        """Count the diff as zero, keeping its memory: the next gradient overwrites it."""
        self._stale = self._diff is not None

    def backward(self, diff: Any = None) -> None:
        """Send a gradient back to everything this blob was computed from.

        Parameters
        ----------
        diff : array_like, optional
            d(objective)/d(this blob); by default ones, or a loss layer's loss_weight. Parameters' diffs are added to,
            all other diffs are overwritten.
        """
        nodes = self._tape()
        if diff is not None:
            self.diff = device.current().asarray(diff).reshape(self._shape)
        elif self.node is not None and self.node.layer.loss_weights:
            self.node.seed()
        else:
            self.new_diff().fill(1)
        reached = {self}
        for node in reversed(nodes):
            node.backward(reached)

    def _tape(self) -> list[Node]:
        """The nodes this blob depends on, each after those it depends on itself."""
        order: list[Node] = []
        seen: set[int] = set()
        stack = [(self.node, False)]
        while stack:
            node, done = stack.pop()
            if node is None or (id(node) in seen and not done):
                continue
            if done:
                order.append(node)
                continue
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((blob.node, False) for blob in node.bottoms)
        return order

    def __repr__(self) -> str:
        return f"Blob({self.name!r}, {' x '.join(map(str, self._shape)) or 'scalar'})"


class Node:
    """One application of a layer: from ``bottoms`` to ``tops``."""

    def __init__(self, layer: Layer, bottoms: list[Blob], tops: list[Blob]):
        self.layer, self.bottoms, self.tops = layer, bottoms, tops
        self.propagate_down = [i not in layer.no_gradient for i in range(len(bottoms))]
        self.runs_back = True

    def reshape(self) -> None:
        """Size the tops for the bottoms as they are now."""
        self.layer.reshape(self.bottoms, self.tops)
        for top in self.tops:
            self.layer.check_size(top.shape)

    def forward(self) -> None:
        """Size the tops for the bottoms as they are now, then compute them."""
        self.reshape()
        self.layer.forward(self.bottoms, self.tops)

    def seed(self) -> None:
        """Give a loss layer's tops their loss_weight as diff."""
        for top, weight in zip(self.tops, self.layer.loss_weights):
            if weight:
                top.new_diff().fill(weight)

    def backward(self, reached: set[Blob] | None = None) -> None:
        """Compute the bottoms' diffs.

        ``reached`` holds the blobs whose diff this walk has already written, and grows by the bottoms: such a bottom,
        having another reader, gets the sum. Without it every bottom's diff is overwritten, as in a Net, where a
        Split stands behind each blob that several layers read.
        """
        reached = set() if reached is None else reached
        for top in self.tops:
            if top not in reached and reached:
                top.drop_diff()  # nobody read it on this walk
            _ = top.diff  # zeros, if it has none
        held = {}
        for blob, wanted in zip(self.bottoms, self.propagate_down):
            if wanted and blob in reached:
                held[blob] = blob.diff
                blob.drop_diff()
        self.layer.backward(self.tops, self.propagate_down, self.bottoms)
        for blob, diff in held.items():
            # A new array: Flatten and its kin leave their top's own here.
            total = device.current().empty(blob.shape)
            launch_flat("eltwise_sum", blob.count, 1.0, diff, 1.0, blob.diff, total)
            blob.diff = total
        reached.update(blob for blob, wanted in zip(self.bottoms, self.propagate_down) if wanted)


def launch_flat(kernel: str, count: int, *arguments: Any) -> None:
    """Launch an elementwise kernel over ``count`` contiguous elements.

    The count is cut into full rows of 1024 lanes and one shorter row, so that every machine gets enough rows.
    """
    backend = device.current()
    full = count // 1024 * 1024
    if full:
        backend.launch(kernel, full // 1024, 1024, *arguments)
    if count - full:
        tail = [a.reshape(-1)[full:] if hasattr(a, "shape") and a.ndim else a for a in arguments]
        backend.launch(kernel, 1, count - full, *tail)
