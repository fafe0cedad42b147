"""The whole autograd: a Blob knows its data, its diff and the node that made it; `backward` walks the nodes back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from fcnlite import device
from fcnlite.backend import Array
from fcnlite.errors import InputError

if TYPE_CHECKING:
    from fcnlite.layers.base import Layer

_recording: ContextVar[bool] = ContextVar("fcnlite_tape", default=True)
# Arithmetic on blobs by name ("add", "multiply"), filled by `fcnlite.layers.arithmetic`: operators are layers.
operators: dict[str, Callable[..., Blob]] = {}


@contextmanager
def no_tape() -> Iterator[None]:
    """While active, layers remember nothing for a backward pass: their inputs are freed as soon as nobody holds them.

    Layers keep their phase; this only saves memory.

    Examples
    --------
    >>> from fcnlite import Blob, no_tape
    >>> with no_tape():
    ...     doubled = Blob([1, 2], needs_diff=True) * 2
    >>> doubled.node is None
    True
    """
    token = _recording.set(False)
    try:
        yield
    finally:
        _recording.reset(token)


def recording() -> bool:
    """True if layers that are applied now are remembered."""
    return _recording.get()


class Blob:
    """An array and its gradient, on the current device.

    A blob owns its array: what is given is copied, on every device. (Assigning an array to `data` or `diff` hands that
    array over instead.)

    Parameters
    ----------
    data : array_like, optional
        The content, converted to the device's precision.
    shape : sequence of int, optional
        The shape, if there is no content yet; memory comes with the first use.
    name : str
        Name of the blob in its net.
    needs_diff : bool
        Whether `backward` computes this blob's gradient. Parameters need one; images do not unless asked for.

    Attributes
    ----------
    data, diff : array
        Arrays of `shape`; both are zeros when read before they were written.
    node : Node or None
        The layer application that made this blob; None for inputs and parameters.

    Examples
    --------
    >>> from fcnlite import Blob
    >>> x = Blob([1, 2, 3], needs_diff=True)
    >>> (x * x).backward([1, 1, 1])
    >>> x.diff.tolist()
    [2.0, 4.0, 6.0]
    """

    def __init__(
        self, data: Any = None, shape: Sequence[int] = (), name: str = "", needs_diff: bool = False
    ) -> None:
        self.name, self.needs_diff = name, needs_diff
        self.node: Node | None = None
        self._data: Array | None = None
        self._diff: Array | None = None
        self._stale = False  # the diff's memory is kept but its content forgotten
        self._shape = tuple(shape)
        if data is not None:
            given = device.current().asarray(data)
            self._data, self._shape = device.current().empty(given.shape), tuple(given.shape)
            self._data[...] = given

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, (N, C, H, W) for images."""
        return self._shape

    @property
    def data(self) -> Array:
        """The content."""
        if self._data is None:
            self._data = device.current().zeros(self._shape)
        return self._data

    @data.setter
    def data(self, array: Array) -> None:
        if tuple(array.shape) != self._shape:
            self.drop_diff()
        self._data, self._shape = array, tuple(array.shape)

    @property
    def diff(self) -> Array:
        """The gradient."""
        if self._diff is None:
            self._diff = device.current().zeros(self._shape)
        elif self._stale:
            self._diff.fill(0)
        self._stale = False
        return self._diff

    @diff.setter
    def diff(self, array: Array) -> None:
        if tuple(array.shape) != self._shape:
            raise ValueError(
                f"blob {self.name}: a diff of shape {array.shape} does not fit the shape {self._shape}"
            )
        self._diff, self._stale = array, False

    @property
    def has_data(self) -> bool:
        """True if data has been written (and not dropped) since the last reshape."""
        return self._data is not None

    @property
    def has_diff(self) -> bool:
        """True if a diff has been written since it was last dropped or cleared."""
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

    def new_data(self) -> Array:
        """The data array for a layer that overwrites all of it (undefined content)."""
        if self._data is None:
            self._data = device.current().empty(self._shape)
        return self._data

    def new_diff(self) -> Array:
        """The diff array for a layer that overwrites all of it (undefined content)."""
        if self._diff is None:
            self._diff = device.current().empty(self._shape)
        self._stale = False
        return self._diff

    def sum_diff(self) -> tuple[Array, bool]:
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
        """Send a gradient back to every blob and parameter that needs one and that this blob was computed from.

        Parameters
        ----------
        diff : array_like, optional
            d(objective)/d(this blob); by default ones, or a loss layer's loss_weight. Parameters' diffs are added to,
            all other diffs are overwritten.

        Raises
        ------
        InputError
            Nothing that this blob was computed from needs a gradient, or it was computed under `no_tape`.
        """
        if self.node is None and not self.needs_diff:
            raise InputError(
                f"{self!r} has no way back: no blob or parameter that needs a diff leads to it, or it was made under "
                "no_tape()"
            )
        if diff is not None:
            self.diff = device.current().asarray(diff).reshape(self._shape)
        elif self.node is not None and self.node.layer.loss_weights:
            self.node.seed()
        else:
            self.new_diff().fill(1)
        reached = {self}  # blobs whose diff this walk has written
        for node in reversed(self._tape()):
            node.drop_diffs_but(reached)
            bottoms = [
                blob.alias() if wanted and (blob in reached or blob in node.bottoms[:i]) else blob
                for i, (blob, wanted) in enumerate(zip(node.bottoms, node.propagate_down))
            ]
            node.backward(bottoms)
            for blob, written in zip(node.bottoms, bottoms):
                if written is not blob:  # another reader has sent its gradient already
                    blob.diff = blob.diff + written.diff
            reached.update(blob for blob, wanted in zip(node.bottoms, node.propagate_down) if wanted)

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

    def alias(self) -> Blob:
        """A blob with this one's data and a diff of its own."""
        other = Blob(shape=self._shape, name=self.name, needs_diff=self.needs_diff)
        other._data = self._data
        return other

    def __add__(self, other: Blob | float) -> Blob:
        return operators["add"](self, other)

    def __mul__(self, other: Blob | float) -> Blob:
        return operators["multiply"](self, other)

    def __neg__(self) -> Blob:
        return self * -1

    def __sub__(self, other: Blob | float) -> Blob:
        return self + -other

    def __rsub__(self, other: float) -> Blob:
        return -self + other

    def __truediv__(self, other: float) -> Blob:
        return self * (1 / other)

    __radd__, __rmul__ = __add__, __mul__

    def __float__(self) -> float:
        if self.count != 1:
            raise TypeError(f"{self!r} has {self.count} elements; float() takes one")
        return float(device.current().tonumpy(self.data).reshape(()))

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self._shape)) or "scalar"
        return f"Blob({self.name!r}, {shape})" if self.name else f"Blob({shape})"


class Node:
    """One application of a layer: from `bottoms` to `tops`."""

    def __init__(self, layer: Layer, bottoms: list[Blob], tops: list[Blob]) -> None:
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

    def backward(self, bottoms: Sequence[Blob] | None = None) -> None:
        """Overwrite the diffs of the wanted bottoms (or of their stand-ins); add to those of parameters."""
        for top in self.tops:
            _ = top.diff  # zeros, if it has none
        self.layer.backward(self.tops, self.propagate_down, self.bottoms if bottoms is None else bottoms)

    def drop_diffs_but(self, reached: set[Blob]) -> None:
        """Forget the diffs of tops that nothing has sent a gradient to, left by an earlier walk."""
        for top in self.tops:
            if top not in reached:
                top.drop_diff()
