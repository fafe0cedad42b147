"""A stand-in for CuPy, for tests on machines without a GPU: the same surface and rules over NumPy's memory.

It holds no more than fcnlite needs, and refuses what real CuPy would take and get wrong. Functions that are NumPy's
under the same name exist if ../surface.txt, which is recorded from the real package, lists them.
"""

from numpy import bool_, dtype, float32, float64, int32, int64, uint8, uint16, uint32, uint64

from cupy import cuda
from cupy._arrays import (
    array,
    asarray,
    ascontiguousarray,
    asnumpy,
    empty,
    empty_like,
    full,
    ndarray,
    ones,
    zeros,
)
from cupy._arrays import forward as _forward
from cupy._memory import get_default_memory_pool, get_default_pinned_memory_pool
from cupy._raw import RawKernel, RawModule

__version__ = "14.2.0"
__all__ = [
    "RawKernel",
    "RawModule",
    "array",
    "asarray",
    "ascontiguousarray",
    "asnumpy",
    "bool_",
    "cuda",
    "dtype",
    "empty",
    "empty_like",
    "float32",
    "float64",
    "full",
    "get_default_memory_pool",
    "get_default_pinned_memory_pool",
    "int32",
    "int64",
    "ndarray",
    "ones",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
    "zeros",
]


def __getattr__(name: str) -> object:
    return _forward(name)
