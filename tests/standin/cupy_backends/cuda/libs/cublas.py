"""cuBLAS on raw addresses: sizes and leading dimensions checked as it does, and that matrices lie in device memory."""

from __future__ import annotations

import ctypes
import operator
from functools import cache
from typing import Any

import numpy as np
from cupy import _memory, _standin
from cupy._standin import Refused
from cupy.cuda import device

from fcnlite.backend.host import _blas_function

_function = cache(_blas_function)
CUBLAS_OP_N, CUBLAS_OP_T = 0, 1
CUBLAS_POINTER_MODE_HOST = 0


class CUBLASError(RuntimeError):
    pass


def setPointerMode(handle: int, mode: int) -> None:  # noqa: N802
    if mode != CUBLAS_POINTER_MODE_HOST:
        raise NotImplementedError("the stand-in reads alpha and beta from the host only")


def sgemm(
    handle: int, transa: int, transb: int, m: int, n: int, k: int, alpha: int, A: int, lda: int,
    B: int, ldb: int, beta: int, C: int, ldc: int,
) -> None:  # fmt: skip # noqa: N803
    _gemm("s", np.float32, handle, transa, transb, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc)


def dgemm(
    handle: int, transa: int, transb: int, m: int, n: int, k: int, alpha: int, A: int, lda: int,
    B: int, ldb: int, beta: int, C: int, ldc: int,
) -> None:  # fmt: skip # noqa: N803
    _gemm("d", np.float64, handle, transa, transb, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc)


def _gemm(prefix: str, dtype: Any, *arguments: int) -> None:
    handle, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc = map(operator.index, arguments)
    for value in (ta, tb, m, n, k, lda, ldb, ldc):
        if not -(2**31) <= value < 2**31:
            raise OverflowError("value too large to convert to int")
    if handle != device.get_cublas_handle():
        raise Refused("this cuBLAS handle is not the current device's")
    # Rows and columns of the matrices as they lie in memory, column after column.
    sides = {
        "A": (a, lda, (k, m) if ta else (m, k)),
        "B": (b, ldb, (n, k) if tb else (k, n)),
        "C": (c, ldc, (m, n)),
    }
    if ta not in (0, 1) or tb not in (0, 1) or min(m, n, k) < 0:
        raise CUBLASError("CUBLAS_STATUS_INVALID_VALUE")
    size = np.dtype(dtype).itemsize
    for name, (address, ld, (rows, columns)) in sides.items():
        if ld < max(1, rows):
            raise CUBLASError(f"CUBLAS_STATUS_INVALID_VALUE (ld of {name} is {ld}, {rows} rows)")
        extent = (ld * (columns - 1) + rows) * size if rows and columns else 0
        memory = _memory.holder(address, extent)
        if memory is not None and memory.device_id != device.Device().id:
            raise Refused(f"gemm: matrix {name} is on GPU {memory.device_id}, the handle another's")
        if memory is not None and name == "C":
            memory.written = _standin.ask()
        if address % size or (extent and memory is None):
            raise Refused(
                f"gemm: matrix {name} ({rows} x {columns}, ld {ld}) does not lie in one array on the device"
            )
    for name, address in (("alpha", alpha), ("beta", beta)):
        if _memory.on_device(address):
            raise Refused(f"gemm: {name} must be on the host, the pointer mode's default")
    if m and n:
        number = [ctypes.byref(ctypes.c_int(v)) for v in (m, n, k, lda, ldb, ldc)]
        trans = [b"T" if t else b"N" for t in (ta, tb)]
        alpha_, a_, b_, beta_, c_ = map(ctypes.c_void_p, (alpha, a, b, beta, c))
        _function(f"{prefix}gemm")(
            *trans,
            number[0],
            number[1],
            number[2],
            alpha_,
            a_,
            number[3],
            b_,
            number[4],
            beta_,
            c_,
            number[5],
        )
