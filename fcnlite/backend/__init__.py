"""The machines a net can run on, `host` (NumPy, a C++ compiler) and `cuda` (CuPy, NVRTC), behind one contract."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

# An array of the machine in use, NumPy's or CuPy's: both are used by what they have in common.
Array: TypeAlias = Any


class Backend(Protocol):
    """A machine: its arrays, kernel launches and matrix products.

    Attributes
    ----------
    name : str
        "cpu", or "cuda:N".
    xp : module
        The array library.
    dtype : numpy.dtype
        Working precision, the kernels' `real`.
    strip_bytes, whole_bytes : int
        Size to which convolutions keep a thread's column buffer, and the one that all threads share; equal where
        there are no threads.
    strip_depth : int
        Rows of a thread's column buffer: beyond, a product is added up block after block.
    checks_data : bool
        Looking at data costs next to nothing, so that layers check labels before use.
    ahead : int
        Iterations that are begun before the loss of an earlier one is looked at: a GPU must not run dry meanwhile.
    fast : bool
        Convolve 3 x 3 kernels by Winograd's algorithm where that pays (`fcnlite.layers.winograd`).
    """

    name: str
    xp: Any
    dtype: np.dtype
    strip_bytes: int
    whole_bytes: int
    strip_depth: int
    checks_data: bool
    ahead: int
    fast: bool

    def select(self) -> None:
        """Make this machine the one that the calling thread works on, of which CUDA keeps one for each thread."""

    def empty(self, shape: Sequence[int], dtype: Any = None) -> Array:
        """An array whose content is undefined."""

    def zeros(self, shape: Sequence[int], dtype: Any = None) -> Array:
        """An array of zeros."""

    def asarray(self, array: Any, dtype: Any = None) -> Array:
        """A contiguous array of this machine with the working precision (or `dtype`); maybe the argument itself."""

    def tonumpy(self, array: Array) -> np.ndarray:
        """The array as NumPy's: a copy from a GPU, for which it waits; on the CPU the array itself."""

    def later(self, scalar: Array) -> Any:
        """A number for float() to read, which then waits for what has been launched up to now, and no more."""

    def held_bytes(self) -> int:
        """Memory in use: on the CPU all of the process's, on a GPU that of arrays."""

    def workspace(self, count: int) -> Array:
        """A flat scratch array of at least `count` elements, one for each thread, reused from call to call."""

    def launch(self, name: str, rows: int, *arguments: Any) -> None:
        """Run kernel `name` over `rows` rows; the arguments are those after ROWS in its source."""

    def parallel(self, count: int, task: Callable[[int], None]) -> None:
        """Call `task(0) .. task(count - 1)`, shared out over threads where there are any; a task runs on one thread."""

    def gemm(self, a: Array, b: Array, out: Array, accumulate: bool = False) -> None:
        """Out = a @ b, or out += a @ b, without temporaries.

        Each matrix may be a slice of a larger one or its transpose; `out` has dense rows.
        """

    def gemms(self, a: Array, b: Array, out: Array) -> None:
        """out[i] = a[i] @ b[i] for each of many products of one shape, all three arrays contiguous."""
        for i in range(out.shape[0]):
            self.gemm(a[i], b[i], out[i])

    def row_sums(self, matrix: Array, out: Array, accumulate: bool = False) -> None:
        """out[r] = sum over the columns of a (rows, columns) matrix, or out[r] += that."""

    def total(self, array: Array) -> Array:
        """The sum of all elements, shape (1,)."""

    def channel_blocks(self, channels: int, window: int) -> int:
        """Number of blocks of channels into which a convolution's gradient is cut."""

    def synchronize(self) -> None:
        """Wait for everything launched."""


def split(count: int, parts: int) -> list[tuple[int, int]]:
    """[0, count) in at most `parts` nearly equal ranges, none of them empty."""
    parts = min(count, max(1, parts))
    return list(itertools.pairwise(count * i // parts for i in range(parts + 1))) if parts else []
