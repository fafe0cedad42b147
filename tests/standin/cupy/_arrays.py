"""Arrays on the device: not NumPy's, never turned into one by accident, never mixed with one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from cupy import _standin
from cupy._memory import Memory, MemoryPointer
from cupy._standin import Refused, current_device, surface, waits

# Functions whose result's size, or whose checks, depend on values: CuPy reads those back.
_WAITING = {
    "argwhere",
    "array_equal",
    "bincount",
    "flatnonzero",
    "nonzero",
    "unique",
    "allclose",
    "where_one",
}
# Attributes that are NumPy's, values or views or small methods.
_PLAIN = ("dtype", "itemsize", "nbytes", "ndim", "shape", "size", "strides")
_METHODS = (
    "all any argmax argmin astype clip copy cumsum dot flatten max mean min prod ravel repeat reshape round squeeze std"
    " sum swapaxes take transpose var view"
).split()


class _Flags:
    def __init__(self, flags: Any):
        self.c_contiguous, self.f_contiguous = bool(flags.c_contiguous), bool(flags.f_contiguous)
        self.owndata = bool(flags.owndata)


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of undefined content, or with `memptr` a view of memory."""

    __array_priority__ = 100
    _memory: Memory
    _array: np.ndarray

    def __new__(
        cls, shape: Any, dtype: Any = float, memptr: Any = None, strides: Any = None, order: str = "C"
    ) -> ndarray:
        dtype = np.dtype(dtype)
        shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        count = int(np.prod(shape, dtype=np.int64))
        memory = Memory(count * dtype.itemsize) if memptr is None else memptr.mem
        offset = 0 if memptr is None else memptr.ptr - memory.ptr
        flat = memory.bytes[offset : offset + count * dtype.itemsize].view(dtype)
        return cls._of(flat.reshape(shape, order=order), memory)

    @classmethod
    def _of(cls, array: np.ndarray, memory: Memory) -> ndarray:
        made = object.__new__(cls)
        made._array, made._memory = array, memory
        return made

    @property
    def data(self) -> MemoryPointer:
        return MemoryPointer(self._memory, self._array.ctypes.data - self._memory.ptr if self.size else 0)

    @property
    def flags(self) -> Any:
        return _Flags(self._array.flags)

    @property
    def T(self) -> ndarray:  # noqa: N802
        return self.transpose()

    # To the host

    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> np.ndarray:
        copied = np.array(self._array, order=order)
        if stream is None or not stream.aside:
            _standin.wait("get")
        elif self._memory.written > _standin.done:
            raise Refused("read on another stream ahead of what has been asked on the default one")
        if out is None:
            return copied
        if not isinstance(out, np.ndarray) or out.dtype != self.dtype or out.shape != self.shape:
            raise TypeError(
                f"Only numpy.ndarray of this shape and dtype can be obtained from cupy.ndarray: {out!r}"
            )
        out[...] = copied
        return out

    def item(self) -> Any:
        _standin.wait("item")
        return self._array.item()

    def tolist(self) -> Any:
        _standin.wait("tolist")
        return self._array.tolist()

    def __float__(self) -> float:
        _standin.wait("float")
        return float(self._array)

    def __int__(self) -> int:
        _standin.wait("int")
        return int(self._array)

    def __index__(self) -> int:
        _standin.wait("int")
        return self._array.__index__()

    def __bool__(self) -> bool:
        _standin.wait("bool")
        return bool(self._array)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array "
            "explicitly."
        )

    def __str__(self) -> str:
        _standin.wait("str")
        return str(self._array)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__} of {self.shape} {self.dtype} on the stand-in's device"

    def __format__(self, spec: str) -> str:
        _standin.wait("format")
        return format(self._array, spec)

    # From the host

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not (self.flags.c_contiguous or self.flags.f_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        self._array[...] = arr

    def fill(self, value: Any) -> None:
        _here(self)._array.fill(_operand(value))
        self._memory.written = _standin.ask()

    def __setitem__(self, slices: Any, value: Any) -> None:
        _here(self)._array[_index(slices)] = _operand(value)
        self._memory.written = _standin.ask()

    # On the device

    def __getitem__(self, slices: Any) -> ndarray:
        return _wrap(self._array[_index(slices)], self)

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Iterator[ndarray]:
        return (self[i] for i in range(len(self)))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        if method != "__call__" or f"cupy.{ufunc.__name__}" not in surface():
            return NotImplemented
        return _call(ufunc, inputs, keywords)

    def __array_function__(self, function: Any, types: Any, arguments: Any, keywords: Any) -> Any:
        if any(not issubclass(t, ndarray) for t in types):
            return NotImplemented
        return forward(function.__name__)(*arguments, **keywords)


def _delegate(name: str) -> None:
    def method(self: ndarray, *arguments: Any, **keywords: Any) -> Any:
        return _call(getattr(self._array, name), arguments, keywords, like=self)

    method.__name__ = name
    setattr(ndarray, name, method)


for _name in _METHODS:
    _delegate(_name)
for _name in _PLAIN:
    setattr(ndarray, _name, property(lambda self, name=_name: getattr(self._array, name)))


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return ndarray(shape, dtype, order=order)


def empty_like(
    prototype: ndarray, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None
) -> ndarray:
    return ndarray(prototype.shape if shape is None else shape, dtype or prototype.dtype)


def zeros(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return full(shape, 0, dtype, order)


def ones(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return full(shape, 1, dtype, order)


def full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> ndarray:
    made = ndarray(shape, dtype or np.array(fill_value).dtype, order=order)
    made.fill(fill_value)
    return made


def array(
    obj: Any,
    dtype: Any = None,
    copy: bool = True,
    order: str = "K",
    subok: bool = False,
    ndmin: int = 0,
    *,
    blocking: bool = False,
) -> ndarray:
    if isinstance(obj, ndarray):
        copy = copy or obj.data.device_id != current_device()
        converted = np.array(obj._array, dtype, copy=copy or None, order=order, ndmin=ndmin)  # type: ignore[call-overload]
        return _wrap(converted, obj)
    return _wrap(np.array(obj, dtype, order="C" if order == "K" else order, ndmin=ndmin))  # type: ignore[call-overload]


def asarray(
    a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: bool = False
) -> ndarray:
    return array(a, dtype, bool(copy), order or "K", blocking=blocking)


def ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    return array(a, dtype, False, "C")


def asnumpy(
    a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True
) -> np.ndarray:
    return a.get(stream, order, out, blocking) if isinstance(a, ndarray) else np.asarray(a, order=order)  # type: ignore[call-overload]


def forward(name: str) -> Any:
    """NumPy's function of this name, on device arrays, if the real CuPy has one too."""
    if name.startswith("__"):
        raise AttributeError(name)
    parameters = surface().get(f"cupy.{name}")
    if parameters is None:
        raise AttributeError(f"module 'cupy' has no attribute '{name}' (nor has the real one)")
    function = getattr(np, name, None)
    if not callable(function) or isinstance(function, type):
        raise AttributeError(f"real CuPy has cupy.{name}, the stand-in has not; add it to tests/standin/cupy")

    def call(*arguments: Any, **keywords: Any) -> Any:
        known = parameters.strip("()").replace(",", " ").replace("=", " ").split()
        for keyword in keywords:
            if parameters != "?" and keyword not in known and "**kwargs" not in known:
                raise TypeError(f"cupy.{name}() got an unexpected keyword argument '{keyword}'")
        if name in _WAITING or (name == "where" and len(arguments) == 1):
            waits[name] += 1
        return _call(function, arguments, keywords)

    call.__name__ = name
    return call


def _call(function: Any, arguments: Any, keywords: Any, like: ndarray | None = None) -> Any:
    out = keywords.get("out")
    out = out[0] if isinstance(out, tuple) else out
    plain = {key: _operand(value) for key, value in keywords.items() if key != "out"}
    if out is not None:
        if not isinstance(out, ndarray):
            raise TypeError(f"out must be a cupy.ndarray, not {type(out)}")
        plain["out"] = out._array
    result = function(*map(_operand, arguments), **plain)
    if out is not None:
        out._memory.written = _standin.ask()
        return out
    return tuple(_wrap(r, like) for r in result) if isinstance(result, tuple) else _wrap(result, like)


def _operand(value: Any) -> Any:
    """What NumPy may work with in place of a device array; its own arrays are refused as CuPy refuses them."""
    if isinstance(value, ndarray):
        return _here(value)._array
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, (tuple, list)):
        return type(value)(_operand(v) for v in value)
    return value


def _here(array: ndarray) -> ndarray:
    """The array, which real CuPy takes another GPU's memory for only where that can be reached, and slowly."""
    if array.data.device_id != current_device():
        raise Refused(f"an array of GPU {array.data.device_id} is used on GPU {current_device()}")
    return array


def _index(slices: Any) -> Any:
    parts = slices if isinstance(slices, tuple) else (slices,)
    if any(isinstance(part, ndarray) and part.dtype == bool for part in parts):
        waits["boolean index"] += 1
    return tuple(p._array if isinstance(p, ndarray) else p for p in parts)


def _wrap(result: Any, like: ndarray | None = None) -> Any:
    """A result as a device array: a view of the same memory where NumPy made a view, else memory of its own."""
    if not isinstance(result, (np.ndarray, np.generic)):
        return result
    if (
        like is not None
        and isinstance(result, np.ndarray)
        and result.size
        and np.may_share_memory(result, like._array)
    ):
        return ndarray._of(result, like._memory)
    result = np.asarray(result)
    order = "F" if result.flags.f_contiguous and not result.flags.c_contiguous else "C"
    made = ndarray(result.shape, result.dtype, order=order)
    made._array[...] = result
    return made
