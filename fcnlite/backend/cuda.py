"""The GPU: CuPy arrays, the same kernels compiled by NVRTC, GEMM by cuBLAS in full float32 (no TF32).

All of fcnlite's code that only a GPU runs is in this file. CuPy converts a launch's arguments by their Python type
alone, so each one is made exactly what its C parameter is; see `fcnlite.backend.source` for the checks.
"""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from fcnlite.backend import Backend
from fcnlite.backend.blas import product
from fcnlite.backend.source import Parameter, signature, source, unit_of
from fcnlite.errors import InputError

_REALS = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
BLOCK_THREADS = 256
WARP = 32
DEVICE_THREADS = 1 << 18  # about what the largest GPUs keep in flight: 132 multiprocessors of 2048 threads
_int32 = lru_cache(1 << 12)(np.int32)  # a launch takes a dozen numbers, mostly the same as the one before
_INSTALL = "pip install 'fcnlite[cuda12]' or 'fcnlite[cuda13]', by the CUDA version of the driver"


def options(real: str) -> tuple[str, ...]:
    """NVRTC options: the working precision, and no fused multiply-add, so that sums round as on the CPU."""
    return ("-std=c++14", "--fmad=false", f"-DREAL={real}")


def installed() -> bool:
    """Tell whether CuPy is installed, usable or not."""
    return importlib.util.find_spec("cupy") is not None


def problem() -> str | None:
    """Why no GPU can be used, in a few words; None if one can."""
    if not installed():
        return f"CuPy is not installed ({_INSTALL})"
    try:
        import cupy
        from cupy_backends.cuda.libs import cublas  # noqa: F401
    except Exception as error:  # a broken installation can fail in any way
        return f"does not import ({_first_line(error)}; {_INSTALL})"
    try:
        if cupy.cuda.runtime.getDeviceCount() > 0:
            return None
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"finds no GPU ({_first_line(error)})"
    return "finds no GPU"


class CudaBackend(Backend):
    """Arrays, kernel launches and matrix products on one GPU; the counterpart of HostBackend.

    Everything runs in order on the current stream, and nothing waits for it but `tonumpy`.
    """

    strip_bytes = whole_bytes = 64 << 20
    strip_depth = 1 << 30
    checks_data = False
    ahead = 1
    fast = False

    def __init__(self, dtype: np.dtype, index: int = 0):
        if dtype not in _REALS:
            raise InputError(f"dtype {dtype} is not one fcnlite computes in; choose float32 or float64")
        trouble = problem()
        if trouble:
            reason = trouble if trouble.startswith("CuPy") else f"CuPy {trouble}"
            raise InputError(f"no GPU can be used: {reason}; use the cpu device instead")
        import cupy
        from cupy_backends.cuda.libs import cublas

        count = cupy.cuda.runtime.getDeviceCount()
        if index >= count:
            raise InputError(f"GPU {index} does not exist; there are {count}, numbered from 0")
        self._device, self._process = cupy.cuda.Device(index), os.getpid()
        self.select()
        self.name = f"cuda:{index}"
        self.xp, self.dtype = cupy, dtype
        self._blas_gemm = cublas.sgemm if dtype == np.float32 else cublas.dgemm
        self._one, self._zero = np.ones((), dtype), np.zeros((), dtype)
        self._modules = {source(): self._compile(source())}
        self._functions: dict[tuple[str, str], Any] = {}  # by name and translation unit
        self._aside = cupy.cuda.Stream(non_blocking=True)
        self._local = threading.local()
        self._ones = cupy.empty((0, 1), dtype)

    def _compile(self, unit: str) -> Any:
        """Kernels, compiled now: what an installation lacks for that is known before any work is begun."""
        module = self.xp.RawModule(code=unit, options=options(_REALS[self.dtype]))
        try:
            module.compile()
        except Exception as error:  # no NVRTC, no CUDA headers, a GPU it does not know ..
            raise InputError(
                f"CuPy cannot compile the kernels ({_first_line(error)}; {_INSTALL}); use the cpu device instead"
            ) from error
        return module

    def select(self) -> None:
        """Make this GPU the one the calling thread works on, of which CUDA keeps one for each thread.

        Raises
        ------
        InputError
            The process was forked from the one that made the backend, and with it CUDA is lost.
        """
        if os.getpid() != self._process:
            raise InputError(
                "a GPU does not outlive a fork; start processes that use it with multiprocessing's method 'spawn'"
            )
        self._device.use()

    # Arrays

    def empty(self, shape: Sequence[int], dtype: Any = None) -> Any:
        return self.xp.empty(shape, dtype or self.dtype)

    def zeros(self, shape: Sequence[int], dtype: Any = None) -> Any:
        return self.xp.zeros(shape, dtype or self.dtype)

    def asarray(self, array: Any, dtype: Any = None) -> Any:
        return self.xp.asarray(array, dtype or self.dtype, order="C")

    def tonumpy(self, array: Any) -> np.ndarray:
        return self.xp.asnumpy(array)

    def later(self, scalar: Any) -> Later:
        computed = self.xp.cuda.Event(disable_timing=True)
        computed.record()
        return Later(scalar, computed, self._aside)

    def held_bytes(self) -> int:
        return int(self.xp.get_default_memory_pool().used_bytes())

    def workspace(self, count: int) -> Any:
        space = getattr(self._local, "space", None)
        if space is None or space.size < count:
            self._local.space = space = None  # free the old one first
            space = self._local.space = self.xp.empty(count, self.dtype)
        return space[:count]

    # Work

    def launch(self, name: str, rows: int, *arguments: Any) -> None:
        kernel = signature(name)
        kernel.check(rows, arguments, self.dtype, self.xp.ndarray)
        if rows == 0:
            return
        unit = unit_of(name)
        if (name, unit) not in self._functions:
            makers = [self._maker(parameter) for parameter in kernel.parameters]
            self._functions[name, unit] = self._module(unit).get_function(name), makers
        function, makers = self._functions[name, unit]
        values = [value if make is None else make(value) for make, value in zip(makers, arguments)]
        grid, block = launch_shape(rows, arguments[0])
        function(grid, block, (np.int32(0), np.int32(rows), *values))

    def _module(self, unit: str) -> Any:
        """The compiled kernels of a translation unit: fcnlite's own, or those of a user's file."""
        if unit not in self._modules:
            self._modules[unit] = self._compile(unit)
        return self._modules[unit]

    def _maker(self, parameter: Parameter) -> Callable[[Any], Any] | None:
        """Constructor of the numbers that CuPy passes as this parameter; None for pointers."""
        if parameter.pointer:
            return None
        return _int32 if parameter.ctype == "int" else parameter.dtype(self.dtype).type

    def parallel(self, count: int, task: Callable[[int], None]) -> None:
        for i in range(count):
            task(i)

    def gemm(self, a: Any, b: Any, out: Any, accumulate: bool = False) -> None:
        p = product(a, b, out, self.dtype)
        if out.size == 0:
            return
        beta = self._one if accumulate else self._zero
        handle = self.xp.cuda.device.get_cublas_handle()
        # BLAS counts columns first: a row-major product is its transpose, out' = b' a'.
        self._blas_gemm(
            handle, int(p.b_turned), int(p.a_turned), p.n, p.m, p.k, self._one.ctypes.data, b.data.ptr, p.ldb,
            a.data.ptr, p.lda, beta.ctypes.data, out.data.ptr, p.ldc,
        )  # fmt: skip

    def row_sums(self, matrix: Any, out: Any, accumulate: bool = False) -> None:
        ones = self._ones
        if ones.shape[0] < matrix.shape[1]:
            ones = self._ones = self.xp.ones((matrix.shape[1], 1), self.dtype)
        self.gemm(matrix, ones[: matrix.shape[1]], out.reshape(-1, 1), accumulate)

    def total(self, array: Any) -> Any:
        """The sum of all elements, shape (1,), on the device: as Caffe's GPU code, not one after another.

        The loss over an image of 334 x 500 so differs by 9e-4 from that of Caffe on the CPU, which rounds more.
        """
        return array.sum().reshape(1)

    def channel_blocks(self, channels: int, window: int) -> int:
        """Into how many blocks of channels a convolution's gradient is cut: one GPU takes all at once."""
        return 1

    def synchronize(self) -> None:
        self.xp.cuda.get_current_stream().synchronize()


class Later:
    """A number that a GPU is still computing when this is made; see `CudaBackend.later`.

    On the current stream a copy would come after all that has been launched since; hence `aside`, another one.
    """

    def __init__(self, scalar: Any, computed: Any, aside: Any):
        self._scalar, self._computed, self._aside = scalar, computed, aside

    def __float__(self) -> float:
        self._computed.synchronize()
        return float(self._scalar.get(stream=self._aside))


def launch_shape(rows: int, width: int) -> tuple[tuple[int], tuple[int, int]]:
    """(grid, block) for a kernel: at first a warp of threads along a row, the rest of the block over rows.

    A thread that has several lanes of its row divides its way from the row's number to its arrays but once. Only where
    there are too few rows to occupy a GPU that way do more threads share a row. A map narrower than a warp gets as
    many threads as it has lanes (11 x 23 for a width of 11), so that none of them is idle.
    """
    lanes = min(max(1, width), WARP)
    while lanes < min(width, BLOCK_THREADS) and rows * lanes < DEVICE_THREADS:
        lanes = min(2 * lanes, width, BLOCK_THREADS)
    block_rows = min(BLOCK_THREADS // lanes, max(1, rows))
    return (min(-(-rows // block_rows), 2**31 - 1),), (lanes, block_rows)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
