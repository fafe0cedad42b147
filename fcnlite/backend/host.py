"""The CPU: NumPy arrays, kernels built by the host C++ compiler, rows shared out over threads, GEMM by OpenBLAS."""

from __future__ import annotations

import ctypes
import itertools
import os
import platform
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any, TypeAlias
from weakref import WeakSet

import numpy as np
import threadpoolctl
from scipy.linalg import cython_blas

from fcnlite.backend import Backend, split
from fcnlite.backend import compile as compiler
from fcnlite.backend.blas import Product, product
from fcnlite.backend.source import Signature, signature, source, unit_of
from fcnlite.errors import InputError
from fcnlite.memory import resident
from fcnlite.resources import kernels_folder

_REALS = {
    np.dtype(np.float32): ("float", ctypes.c_float, "s"),
    np.dtype(np.float64): ("double", ctypes.c_double, "d"),
}
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of mallopt, from glibc's malloc.h
_KEPT = 1 << 30  # bytes of free memory above which glibc gives some back
_FEW_ROWS = 8  # of a product: below, the BLAS takes less time
_SMALL = 1 << 14  # lanes below which handing work to another thread costs more than it saves

_Call: TypeAlias = Callable[[int, int, int], None]  # with the addresses of a, b and out


class HostBackend(Backend):
    """Arrays, kernel launches and matrix products on the CPU.

    All results are the same bits whatever the number of threads: kernels treat rows independently, and matrix
    products are cut into tiles by shape alone, each computed by one thread.

    Attributes
    ----------
    own_products : bool
        Products whose right side lies in rows go by `kernels/product.cpp`, not by the BLAS.
    """

    name = "cpu"
    xp = np
    strip_bytes = 3 << 20
    whole_bytes = 32 << 20
    strip_depth = 576
    checks_data = True
    ahead = 0
    fast = False

    def __init__(self, dtype: np.dtype, threads: int | None = None):
        if dtype not in _REALS:
            raise InputError(f"dtype {dtype} is not one fcnlite computes in; choose float32 or float64")
        self.dtype = dtype
        self.threads = threads or _default_threads()
        real, self._real, prefix = _REALS[dtype]
        self._libraries = {source(): ctypes.CDLL(str(compiler.library(source(), real)))}
        self._functions: dict[tuple[str, str], Any] = {}  # by name and translation unit
        self._blas_gemm = _blas_function(prefix + "gemm")
        self._products, self.own_products = _products_function(real)
        self._start_threads()
        _started.add(self)
        _single_threaded_blas()
        _keep_freed_memory()

    def _start_threads(self) -> None:
        self._pool = ThreadPoolExecutor(max(1, self.threads - 1), "fcnlite") if self.threads > 1 else None
        self._local = threading.local()

    def select(self) -> None:
        pass

    # Arrays

    def empty(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        return np.empty(shape, dtype or self.dtype)

    def zeros(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        return np.zeros(shape, dtype or self.dtype)

    def asarray(self, array: Any, dtype: Any = None) -> np.ndarray:
        return np.asarray(array, dtype or self.dtype, order="C")

    def tonumpy(self, array: np.ndarray) -> np.ndarray:
        return array

    def later(self, scalar: np.ndarray) -> np.ndarray:
        return scalar

    def held_bytes(self) -> int:
        if (libc := _glibc()) is not None:
            libc.malloc_trim(0)  # memory that was kept for the next array is not in use
        return resident()

    def workspace(self, count: int) -> np.ndarray:
        space = getattr(self._local, "space", None)
        if space is None or space.size < count:
            self._local.space = None  # free the old one first
            space = self._local.space = np.empty(count, self.dtype)
        return space[:count]

    # Work

    def launch(self, name: str, rows: int, *arguments: Any) -> None:
        kernel = signature(name)
        kernel.check(rows, arguments, self.dtype, np.ndarray)
        function = self._function(kernel)
        values = [_address(a) if isinstance(a, np.ndarray) else a for a in arguments]
        if self._inside_task() or rows * max(1, arguments[0]) < _SMALL:
            function(0, rows, *values)
            return
        bounds = split(rows, self.threads * 4)
        self.parallel(len(bounds), lambda i: function(*bounds[i], *values))

    def parallel(self, count: int, task: Callable[[int], None]) -> None:
        if count <= 1 or self._inside_task():
            for i in range(count):
                task(i)
            return
        numbers = itertools.count()  # next() on it is atomic: each thread takes the next task not yet taken

        def work() -> None:
            self._local.inside = True
            try:
                while (i := next(numbers)) < count:
                    task(i)
            finally:
                self._local.inside = False

        if self._pool is None:  # a lone thread goes the same way: what runs inside a task is not cut further
            work()
            return
        others = [self._pool.submit(copy_context().run, work) for _ in range(min(self.threads, count) - 1)]
        try:
            work()
        finally:
            errors = [error for other in others if (error := other.exception())]
        if errors:
            raise errors[0]

    def gemm(self, a: np.ndarray, b: np.ndarray, out: np.ndarray, accumulate: bool = False) -> None:
        if self._inside_task():
            self._gemm_tile(a, b, out, accumulate)
            return
        rows, columns = out.shape
        tiles = _tiles(rows, columns, a.shape[1])

        def compute(i: int) -> None:
            r, c = tiles[i]
            self._gemm_tile(a[r], b[:, c], out[r, c], accumulate)

        self.parallel(len(tiles), compute)

    def gemms(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        count = out.shape[0]
        parts = [slice(*part) for part in split(count, 1 if self._inside_task() else 12)]
        self.parallel(len(parts), lambda i: self._multiply(a[parts[i]], b[parts[i]], out[parts[i]], False))

    def _gemm_tile(self, a: np.ndarray, b: np.ndarray, out: np.ndarray, accumulate: bool) -> None:
        self._multiply(a[None], b[None], out[None], accumulate)

    def _multiply(self, a: np.ndarray, b: np.ndarray, out: np.ndarray, accumulate: bool) -> None:
        """out[i] = a[i] @ b[i], or that added, one after the other.

        How many columns `out` has does not decide between fcnlite's own product and the BLAS, so a product cut by
        columns goes the same way as a whole: with the former it has the same bits.
        """
        p = product(a[0], b[0], out[0], self.dtype)
        if not out.size:
            return
        if not self.own_products or p.b_turned or p.m < _FEW_ROWS:
            call = self._blas_call(p, accumulate)
            for matrices in zip(a, b, out):
                call(*_addresses(*matrices))
            return
        a_rows = (1, p.lda) if p.a_turned else (p.lda, 1)
        (a_at, b_at, out_at), sizes = _addresses(a, b, out), (len(out), p.m, p.n, p.k)
        a_step, b_step, out_step = (array.strides[0] // array.itemsize for array in (a, b, out))
        self._products(
            *sizes, a_at, a_step, *a_rows, b_at, b_step, p.ldb, out_at, out_step, p.ldc, accumulate
        )

    def _blas_call(self, p: Product, accumulate: bool) -> _Call:
        """The BLAS's product of matrices that lie like these, to be given their addresses."""
        # BLAS counts columns first: a row-major product is its transpose, out' = b' a'.
        turned = b"T" if p.b_turned else b"N", b"T" if p.a_turned else b"N"
        sizes = _int(p.n), _int(p.m), _int(p.k)
        lda, ldb, ldc = _int(p.lda), _int(p.ldb), _int(p.ldc)
        alpha, beta = self._number(1), self._number(1 if accumulate else 0)
        blas, at = self._blas_gemm, ctypes.c_void_p

        def call(a: int, b: int, out: int) -> None:
            blas(*turned, *sizes, alpha, at(b), ldb, at(a), lda, beta, at(out), ldc)

        return call

    def row_sums(self, matrix: np.ndarray, out: np.ndarray, accumulate: bool = False) -> None:
        rows, columns = matrix.shape
        ones = np.ones((columns, 1), self.dtype)
        bounds = split(rows, 16)

        def compute(i: int) -> None:
            begin, end = bounds[i]
            block, sums = matrix[begin:end], out[begin:end].reshape(-1, 1)
            # The BLAS keeps several sums at a time: over so many columns it is closer than one after the other.
            self._blas_call(product(block, ones, sums, self.dtype), accumulate)(
                *_addresses(block, ones, sums)
            )

        self.parallel(len(bounds), compute)

    def total(self, array: np.ndarray) -> np.ndarray:
        """The sum of all elements, shape (1,), added up one after the other as Caffe's loops do."""
        return np.add.accumulate(array.reshape(-1))[-1:] if array.size else self.zeros((1,))

    def channel_blocks(self, channels: int, window: int) -> int:
        """Into how many blocks of channels a convolution's gradient is cut; each is one thread's task."""
        return max(1, min(channels, 16, max(4, channels * window // 256)))

    def synchronize(self) -> None:
        pass

    def _inside_task(self) -> bool:
        return getattr(self._local, "inside", False)

    def _number(self, value: float) -> Any:
        return ctypes.byref(self._real(value))

    def _function(self, kernel: Signature) -> Any:
        unit = unit_of(kernel.name)
        function = self._functions.get((kernel.name, unit))
        if function is None:
            function = getattr(self._library(unit), kernel.name)
            function.restype = None
            function.argtypes = [ctypes.c_int, ctypes.c_int] + [
                ctypes.c_void_p if p.pointer else ctypes.c_int if p.ctype == "int" else self._real
                for p in kernel.parameters
            ]
            self._functions[kernel.name, unit] = function
        return function

    def _library(self, unit: str) -> ctypes.CDLL:
        """The compiled kernels of a translation unit: fcnlite's own, or those of a user's file."""
        if unit not in self._libraries:
            real, _, _ = _REALS[self.dtype]
            self._libraries[unit] = ctypes.CDLL(str(compiler.library(unit, real)))
        return self._libraries[unit]


_started: WeakSet[HostBackend] = WeakSet()


def _restart_threads() -> None:
    """Give every backend threads again in a forked process, which has only the thread that forked."""
    for backend in _started:
        backend._start_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restart_threads)


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def _addresses(*arrays: np.ndarray) -> list[int]:
    return [_address(array) for array in arrays]


def _tiles(rows: int, columns: int, depth: int) -> list[tuple[slice, slice]]:
    """A product's output cut into up to 8 tiles along its longer side, by shape alone."""
    if rows * columns * depth < 1 << 20:
        return [(slice(None), slice(None))]
    if rows >= columns:
        return [(part, slice(None)) for part in _slices(rows, 24)]
    return [(slice(None), part) for part in _slices(columns, 48)]


def _slices(count: int, unit: int) -> list[slice]:
    """[0, count) in up to 8 parts of whole units, into which the product's tiles fit; the last part has the rest."""
    parts = [slice(first * unit, last * unit) for first, last in split(max(1, count // unit), 8)]
    return [*parts[:-1], slice(parts[-1].start, count)]


def _default_threads() -> int:
    wanted = os.environ.get("FCNLITE_THREADS")
    if wanted:
        if not wanted.isdigit() or int(wanted) < 1:
            raise InputError(f"FCNLITE_THREADS is '{wanted}'; give a whole number from 1 on")
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _int(value: int) -> Any:
    return ctypes.byref(ctypes.c_int(value))


def _blas_function(name: str) -> Any:
    """SciPy's own BLAS by its public C interface: unlike numpy.matmul it adds in place and writes into slices."""
    capsule = cython_blas.__pyx_capi__[name]
    get_name = ctypes.pythonapi.PyCapsule_GetName
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return ctypes.CFUNCTYPE(None)(get_pointer(capsule, get_name(capsule)))


def _products_function(real: str) -> tuple[Any, bool]:
    """The function of `kernels/product.cpp`, and whether it is faster than the BLAS here."""
    text = (kernels_folder() / "product.cpp").read_text(encoding="utf-8")
    library = ctypes.CDLL(str(compiler.library(text, real, compiler.FUSED)))
    function = library.products
    size, step, at = ctypes.c_int, ctypes.c_ssize_t, ctypes.c_void_p
    function.restype = None
    matrix = (at, step, step)
    function.argtypes = [size, size, size, size, *matrix, step, *matrix, *matrix, size]
    return function, bool(library.product_gains())


def _single_threaded_blas() -> None:
    """One thread for each BLAS call: the calls themselves run side by side, and their bits stay fixed.

    SciPy's wheels carry a BLAS of their own, so that NumPy's keeps its threads; elsewhere the two share one.
    """
    libraries = threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers
    own = [library for library in libraries if Path(library.filepath).parent.name == "scipy.libs"]
    for library in own or libraries:
        library.set_num_threads(1)


def _keep_freed_memory() -> None:
    """Have glibc keep the memory of freed arrays: a net frees and takes the same tens of MB in every pass.

    By itself glibc maps each large array anew, and new pages cost some 5 % of an inference. Settings that the user
    made in the environment stay as they are.
    """
    libc = _glibc()
    if libc is not None and not any(name.startswith("MALLOC_") for name in os.environ):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT)


def _glibc() -> Any:
    """The C library, if it is glibc."""
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
