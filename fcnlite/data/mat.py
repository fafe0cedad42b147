"""Label maps in MATLAB files (versions 4 to 7), read without a line of C that a damaged file could crash.

SciPy's reader walks a file in compiled code and ends the process on some damaged ones. Only full matrices of numbers,
and such matrices in a struct, are needed here: every tag is checked against what the file holds, and all else is
passed over by its length. Format: MathWorks, "MAT-File Format".
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fcnlite.errors import InputError

MOST_BYTES = 1 << 28  # of a variable; a label map of 10,000 x 10,000 in bytes is 100 MB
_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_STRUCT = 2
_NUMERIC = range(6, 16)  # the classes of full matrices of numbers
# Types in which numbers are stored, whatever the array's class.
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_BYTES = 2  # the type of the part that an empty matrix may lack
_V4_TYPES = {0: "f8", 1: "f4", 2: "i4", 3: "i2", 4: "u2", 5: "u1"}


class _Damaged(Exception):
    """The file contradicts itself; the message says how."""


class _Element(NamedTuple):
    """A tag and the bytes it announces."""

    type: int
    data: memoryview


class _Array(NamedTuple):
    """The head of a miMATRIX element, and the elements after it."""

    kind: int
    dims: tuple[int, ...]
    name: str
    rest: Iterator[_Element]


def read_matrix(path: str | os.PathLike[str], variable: str, field: str = "") -> np.ndarray:
    """The matrix of whole numbers `variable` of a .mat file, in whatever type it was saved.

    Parameters
    ----------
    path : path
    variable : str
    field : str
        If not empty, the variable is a struct (1 x 1) and this field of it holds the matrix.

    Returns
    -------
    numpy.ndarray
        Two axes; integers or floats of whole values.

    Raises
    ------
    FileNotFoundError
        If the file is missing.
    InputError
        If it is damaged, is not a MATLAB file, lacks the variable, or the variable is something else.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"label {path} is missing")
    try:
        held = _find(memoryview(Path(path).read_bytes()), variable, field, os.fspath(path))
    except (_Damaged, struct.error, zlib.error, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"cannot read MATLAB file {path}: {reason}; it is damaged or is another file"
        ) from None
    if held.ndim != 2 or not np.array_equal(held, np.trunc(held)):
        raise _not_a_matrix(path, variable)
    return held


def _not_a_matrix(path: str | os.PathLike[str], variable: str) -> InputError:
    return InputError(f"{path}: variable {variable} is not a matrix of whole numbers")


def _find(raw: memoryview, variable: str, field: str, path: str) -> np.ndarray:
    if bytes(raw[124:128]) in (b"\x00\x02IM", b"\x02\x00MI"):
        raise InputError(f"{path} is in MATLAB's 7.3 format; save it with the option -v7")
    version_4 = len(raw) >= 20 and (0 in raw[:4].tolist())
    return (_find_v4 if version_4 else _find_v5)(raw, variable, field, path)


def _find_v5(raw: memoryview, variable: str, field: str, path: str) -> np.ndarray:
    if len(raw) < _HEADER or bytes(raw[126:128]) not in (b"IM", b"MI"):
        raise _Damaged("no header of MATLAB's is at its start")
    order = "<" if bytes(raw[126:128]) == b"IM" else ">"
    seen = []
    for element in _elements(raw[_HEADER:], order, padded=False):
        data = element.data
        if element.type == _COMPRESSED:
            data = _inflate(data, order)
        elif element.type != _MATRIX:
            raise _Damaged(f"an element of type {element.type} lies where a variable is wanted")
        array = _array(data, order)
        if array.name == variable:
            return (
                _field(array, field, variable, order, path)
                if field
                else _numbers(array, variable, order, path)
            )
        if array.name:
            seen.append(array.name)
    raise _lacks(path, variable, seen)


def _lacks(path: str, variable: str, seen: list[str]) -> InputError:
    return InputError(f"{path} has no variable {variable}; it holds {', '.join(sorted(seen)) or 'nothing'}")


def _elements(raw: memoryview, order: str, padded: bool = True) -> Iterator[_Element]:
    """The elements one after another; those within a variable, and short ones, are padded to eight bytes."""
    at = 0
    while at < len(raw):
        if len(raw) - at < 8:
            if any(raw[at:]):
                raise _Damaged(f"{len(raw) - at} bytes are left over at the end of an element")
            return
        first, size = struct.unpack_from(f"{order}II", raw, at)
        if first >> 16:  # a small element: type and length share four bytes, the data is the other four
            kind, size, begin, step = first & 0xFFFF, first >> 16, at + 4, 8
            if size > 4:
                raise _Damaged(f"a small element announces {size} bytes")
        else:
            kind, begin = first, at + 8
            step = 8 + size + (-size % 8 if padded or kind != _COMPRESSED else 0)
        if begin + size > len(raw):
            raise _Damaged(f"an element announces {size} bytes where {len(raw) - begin} are left")
        yield _Element(kind, raw[begin : begin + size])
        at += step


def _inflate(data: memoryview, order: str) -> memoryview:
    """The matrix inside a compressed element."""
    inflater = zlib.decompressobj()
    head = inflater.decompress(data, 8)
    if len(head) < 8:
        raise _Damaged("a compressed variable is cut short")
    kind, size = struct.unpack(f"{order}II", head)
    if kind != _MATRIX or size > MOST_BYTES:
        raise _Damaged(
            f"a compressed element of type {kind} with {size} bytes lies where a variable is wanted"
        )
    content = inflater.decompress(inflater.unconsumed_tail, max(1, size))
    if len(content) < size:
        raise _Damaged("a compressed variable is cut short")
    return memoryview(content)[:size]


def _array(data: memoryview, order: str) -> _Array:
    if not data:  # what MATLAB writes for an empty field
        return _Array(_NUMERIC[0], (0, 0), "", iter(()))
    rest = _elements(data, order)
    flags, dims, name = (next(rest, _Element(0, memoryview(b""))) for _ in range(3))
    if (
        flags.type != 6
        or len(flags.data) != 8
        or dims.type != 5
        or len(dims.data) < 8
        or name.type not in (1, 16)
    ):
        raise _Damaged("a variable does not begin with its flags, dimensions and name")
    shape = struct.unpack(f"{order}{len(dims.data) // 4}i", dims.data)
    if min(shape) < 0 or len(shape) > 32:
        raise _Damaged(f"a variable has the dimensions {shape[:32]}")
    return _Array(
        struct.unpack(f"{order}I", flags.data[:4])[0] & 0xFF, shape, bytes(name.data).decode(), rest
    )


def _numbers(array: _Array, what: str, order: str, path: str) -> np.ndarray:
    """The real part of a full matrix of numbers."""
    if array.kind not in _NUMERIC:
        raise _not_a_matrix(path, what)
    count = math.prod(array.dims)
    part = next(array.rest, _Element(_BYTES, memoryview(b"")))
    if part.type not in _TYPES:
        raise _Damaged(f"variable {what} is stored as type {part.type}, which holds no numbers")
    dtype = np.dtype(order + _TYPES[part.type])
    if len(part.data) != count * dtype.itemsize:
        raise _Damaged(f"variable {what} has {len(part.data)} bytes for {count} numbers of {dtype.itemsize}")
    values = np.frombuffer(part.data, dtype).astype(dtype.newbyteorder("="))
    return values.reshape(array.dims, order="F")


def _field(array: _Array, field: str, variable: str, order: str, path: str) -> np.ndarray:
    """One field of a 1 x 1 struct."""
    wanted = InputError(f"{path}: {variable} is not a struct with a field {field}")
    if array.kind != _STRUCT or math.prod(array.dims) != 1:
        raise wanted
    length, names = (next(array.rest, _Element(0, memoryview(b""))) for _ in range(2))
    if len(length.data) != 4 or names.type not in (1, 16):
        raise _Damaged(f"struct {variable} does not list its fields")
    (width,) = struct.unpack(f"{order}i", length.data)
    if width < 1 or len(names.data) % width:
        raise _Damaged(f"struct {variable} has {len(names.data)} bytes of field names of {width}")
    listed = [
        bytes(names.data[at : at + width]).split(b"\0")[0].decode() for at in range(0, len(names.data), width)
    ]
    if field not in listed:
        raise wanted
    for name, element in zip(listed, array.rest):
        if element.type != _MATRIX:
            raise _Damaged(f"field {name} of {variable} is not an array")
        if name == field:
            return _numbers(_array(element.data, order), f"{variable}.{field}", order, path)
    raise _Damaged(f"struct {variable} ends before its field {field}")


def _find_v4(raw: memoryview, variable: str, field: str, path: str) -> np.ndarray:
    """A header of five numbers and the name before each matrix (MOPT: machine, 0, precision, kind)."""
    order = "<" if struct.unpack_from("<i", raw)[0] in range(5000) else ">"
    at, seen = 0, []
    while at < len(raw):
        if len(raw) - at < 20:
            raise _Damaged(f"{len(raw) - at} bytes are left over at its end")
        mopt, rows, columns, imaginary, length = struct.unpack_from(f"{order}5i", raw, at)
        precision, kind = mopt // 10 % 10, mopt % 10
        if (
            mopt not in range(5000)
            or precision not in _V4_TYPES
            or kind > 2
            or min(rows, columns, length) < 0
        ):
            raise _Damaged(
                "no header of MATLAB's is at its start" if at == 0 else f"no variable is at byte {at}"
            )
        dtype = np.dtype(order + _V4_TYPES[precision])
        begin = at + 20 + length
        size = rows * columns * dtype.itemsize
        if begin + size > len(raw):
            raise _Damaged(f"a variable of {rows} x {columns} numbers is cut short")
        name = bytes(raw[at + 20 : begin]).split(b"\0")[0].decode()
        if name == variable and field:
            raise InputError(f"{path}: {variable} is not a struct with a field {field}")
        if name == variable and kind != 0:  # a string or a sparse matrix
            raise _not_a_matrix(path, variable)
        if name == variable:
            values = np.frombuffer(raw[begin : begin + size], dtype).astype(dtype.newbyteorder("="))
            return values.reshape((rows, columns), order="F")
        seen.append(name)
        at = begin + size * (2 if imaginary else 1)
    raise _lacks(path, variable, seen)
