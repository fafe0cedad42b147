"""The BLAS description of a row-major matrix product: sizes, transpositions and leading dimensions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Product(NamedTuple):
    """A row-major product out = a @ b: sizes (m, k) @ (k, n), whether each operand lies transposed, and row steps."""

    m: int
    n: int
    k: int
    a_turned: bool
    lda: int
    b_turned: bool
    ldb: int
    ldc: int


def product(a: Any, b: Any, out: Any, dtype: np.dtype) -> Product:
    """Check the operands of `out = a @ b` and say how they lie in memory.

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes do not fit, or an operand has no dense axis.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0] or out.shape != (a.shape[0], b.shape[1]):
        raise ValueError(f"gemm: {a.shape} @ {b.shape} does not give {out.shape}")
    if not a.dtype == b.dtype == out.dtype == dtype:
        raise TypeError(f"gemm: dtypes {a.dtype}, {b.dtype}, {out.dtype}; the device works in {dtype}")
    a_turned, lda = _layout("a", a)
    b_turned, ldb = _layout("b", b)
    out_turned, ldc = _layout("out", out)
    if out_turned:
        raise ValueError(f"gemm: out (shape {out.shape}, strides {out.strides}) must have dense rows")
    m, n = out.shape
    return Product(m, n, a.shape[1], a_turned, lda, b_turned, ldb, ldc)


def _layout(where: str, matrix: Any) -> tuple[bool, int]:
    """(transposed, leading dimension in elements): a matrix may be a slice of a larger one or the transpose of one."""
    rows, columns = matrix.shape
    if matrix.size == 0:  # its strides mean nothing
        return False, max(columns, 1)
    row_step, column_step = (stride // matrix.itemsize for stride in matrix.strides)
    if (column_step == 1 or columns == 1) and (row_step >= columns or rows == 1):
        return False, max(row_step if rows > 1 else columns, columns, 1)
    if (row_step == 1 or rows == 1) and (column_step >= rows or columns == 1):
        return True, max(column_step if columns > 1 else rows, rows, 1)
    raise ValueError(f"gemm: {where} (shape {matrix.shape}, strides {matrix.strides}) has no dense axis")
