"""protobuf's wire format, read in place: the fields of a message in a mapped file, and its arrays as views.

protobuf itself would copy half a gigabyte of weights twice and trust what lengths a file claims; here nothing
is copied, every length is checked against the bytes that exist, and the work that a file can cause is
bounded.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn

import numpy as np

from fcnlite.errors import InputError

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
_WIRE_NAMES = {VARINT: "a number", FIXED64: "8 bytes", LENGTH: "bytes with a length", FIXED32: "4 bytes"}
MAX_FIELDS = 300_000  # the deepest nets have tens of thousands; a hostile file must not keep us busy
MAX_AXES = 32  # Caffe's kMaxBlobAxes
MAX_MESSAGE = 2**31 - 1  # bytes that protobuf, and so Caffe, can read
_MAX_DIM = 2**31 - 1
_RUN_BLOCK = 1 << 16  # fields looked at together
PIECE = 8 << 20  # bytes handled at a time where an array goes through a buffer


class Field(NamedTuple):
    """One field of a message, or a run of fields of one fixed size under the same key.

    `start` is where the (first) payload begins and `end` where the (last) one ends. In a run of `repeat`
    fields the payloads begin `stride` bytes apart. `value` is the number of a varint.
    """

    number: int
    wire: int
    start: int
    end: int
    value: int = 0
    repeat: int = 1
    stride: int = 0


class WireFile:
    """A file of protobuf wire data, mapped into memory; arrays taken from it are read-only views of the map.

    Parameters
    ----------
    path : path
        The file.
    what : str
        What it should be, for messages: `"a Caffe model"`.

    Raises
    ------
    FileNotFoundError, InputError
        There is no such file, it is empty, or it cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str], what: str):
        self.path = Path(path)
        self.what = what
        self.budget = MAX_FIELDS
        try:
            with open(self.path, "rb") as file:
                if os.fstat(file.fileno()).st_size == 0:
                    raise InputError(f"{self.path}: this file is empty")
                self.data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except FileNotFoundError:
            raise FileNotFoundError(f"{self.path}: there is no such file") from None
        except IsADirectoryError:
            raise InputError(f"{self.path}: this is a folder, not {what}") from None
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read ({error.strerror or error})") from None
        self.size = len(self.data)

    def fail(self, message: str) -> NoReturn:
        raise InputError(f"{self.path}: {message}")

    def _damaged(self, position: int, message: str) -> NoReturn:
        self.fail(f"{message} at byte {position}; the file is damaged or cut short, or it is not {self.what}")

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        """The number at `position` (unsigned 64 bits) and the position behind it."""
        value, shift, start = 0, 0, position
        while position < end and shift < 70:
            byte = self.data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, position
            shift += 7
        self._damaged(start, "a number has no end")

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """The fields of the message that lies in bytes `start` to `end`, in the order of the file."""
        position = start
        while position < end:
            self.budget -= 1
            if self.budget < 0:
                self.fail(f"more than {MAX_FIELDS} fields: this is not {self.what}")
            here = position
            key = self.data[position]
            position += 1
            if key > 0x7F:
                key, position = self._varint(here, end)
            number, wire = key >> 3, key & 7
            if number == 0 or number >= 1 << 29:
                self._damaged(here, f"impossible field number {number}")
            if wire == VARINT:
                value, position = self._varint(position, end)
                yield Field(number, wire, here, position, value)
                continue
            if wire == LENGTH:
                length, position = self._varint(position, end)
            elif wire in (FIXED32, FIXED64):
                length = 4 if wire == FIXED32 else 8
            else:
                self._damaged(here, f"impossible wire type {wire}")
            if length > end - position:
                self._damaged(here, f"a field claims {length} bytes where {end - position} are left")
            if wire == LENGTH:
                yield Field(number, wire, position, position + length)
                position += length
            else:
                stride = position - here + length
                repeat = self._run(here, end, stride) if stride == length + 1 else 1
                yield Field(number, wire, position, here + repeat * stride, 0, repeat, stride)
                position = here + repeat * stride

    def _run(self, start: int, end: int, stride: int) -> int:
        """Count the fields in a row, `stride` bytes each, that begin with the one-byte key at `start`."""
        total = (end - start) // stride
        keys = np.frombuffer(self.data, np.uint8)[start : start + total * stride : stride]
        for begin in range(0, total, _RUN_BLOCK):
            other = np.flatnonzero(keys[begin : begin + _RUN_BLOCK] != keys[0])
            if other.size:
                return begin + int(other[0])
        return total

    def expect(self, field: Field, wire: int, name: str) -> None:
        """Refuse a field that does not have the wire type its name demands."""
        if field.wire != wire:
            self._damaged(
                field.start, f"'{name}' should be {_WIRE_NAMES[wire]} but is {_WIRE_NAMES[field.wire]}"
            )

    def text(self, field: Field, name: str) -> str:
        """The string in a field."""
        self.expect(field, LENGTH, name)
        return bytes(self.data[field.start : field.end]).decode("utf-8", "replace")

    def _numbers(self, field: Field, dtype: str, name: str) -> np.ndarray:
        """The floats of one field, packed or a run of single ones, as a view."""
        size = np.dtype(dtype).itemsize
        if field.wire == (FIXED32 if size == 4 else FIXED64):
            return np.ndarray((field.repeat,), dtype, self.data, field.start, (field.stride,))
        self.expect(field, LENGTH, name)
        length = field.end - field.start
        if length % size:
            self._damaged(
                field.start, f"{length} bytes of '{name}' are no whole number of {size}-byte floats"
            )
        return np.frombuffer(self.data, dtype, length // size, field.start)

    def _dims(self, field: Field) -> list[int]:
        """The dimensions in a BlobShape message."""
        self.expect(field, LENGTH, "shape")
        dims: list[int] = []
        for inner in self.fields(field.start, field.end):
            if inner.number != 1:
                continue
            if inner.wire == VARINT:
                dims.append(inner.value)
                continue
            self.expect(inner, LENGTH, "dim")
            position = inner.start
            while position < inner.end and len(dims) <= MAX_AXES:
                value, position = self._varint(position, inner.end)
                dims.append(value)
        return dims

    def blob(self, start: int, end: int, where: str) -> np.ndarray:
        """The array of a BlobProto in bytes `start` to `end`.

        Parameters
        ----------
        start, end : int
            Where the message lies.
        where : str
            What it is, for messages: `"layer 'conv1', blob 0"`.

        Returns
        -------
        array, float32 or float64, read-only
            A view of the file, of the shape that the blob states (4 dimensions in the oldest files). Only
            numbers that were written in several pieces are copied.

        Raises
        ------
        InputError
            The message is damaged, or holds another count of numbers than its shape needs.
        """
        legacy = [0, 0, 0, 0]
        has_legacy = False
        dims: list[int] = []
        parts: dict[int, list[np.ndarray]] = {5: [], 8: []}
        for field in self.fields(start, end):
            if field.number <= 4:
                self.expect(field, VARINT, ("num", "channels", "height", "width")[field.number - 1])
                legacy[field.number - 1] = field.value
                has_legacy = True
            elif field.number == 5:
                parts[5].append(self._numbers(field, "<f4", "data"))
            elif field.number == 7:
                dims += self._dims(field)
            elif field.number == 8:
                parts[8].append(self._numbers(field, "<f8", "double_data"))
        shape = tuple(legacy if has_legacy else dims)
        if len(shape) > MAX_AXES:
            self.fail(f"{where}: a shape of more than {MAX_AXES} axes")
        if max(shape, default=0) > _MAX_DIM or math.prod(dim or 1 for dim in shape) > self.size:
            self.fail(f"{where}: shape {_shown(shape)} is impossible in a file of {self.size} bytes")
        found = [part for part in parts[8] or parts[5] if part.size]
        count = sum(part.size for part in found)
        if math.prod(shape) != count:
            self.fail(
                f"{where}: shape {_shown(shape)} needs {math.prod(shape)} numbers, but {count} are stored"
            )
        if not found:
            return np.zeros(shape, np.float32)
        array = (found[0] if len(found) == 1 else np.concatenate(found)).reshape(shape)
        array.flags.writeable = False
        return array


def _shown(shape: tuple[int, ...]) -> str:
    """A shape for a message, with numbers that are negative in the file shown so."""
    return str(tuple(dim - 2**64 if dim >= 2**63 else dim for dim in shape))


def varint(value: int) -> bytes:
    """A number (0 or more) as protobuf writes it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def delimited_key(number: int, length: int) -> bytes:
    """Encode what precedes a payload of `length` bytes in field `number`: key and length."""
    return varint(number << 3 | LENGTH) + varint(length)


def delimited(number: int, payload: bytes) -> bytes:
    """A whole field: a string or a message."""
    return delimited_key(number, len(payload)) + payload


def stored(array: np.ndarray) -> np.ndarray:
    """The array as files hold it: little-endian float64 stays, everything else becomes float32; C order."""
    array = np.asarray(array)
    kind = "<f8" if array.dtype == np.float64 else "<f4"
    return (
        array
        if array.dtype == kind and array.flags.c_contiguous
        else np.ascontiguousarray(array, kind).reshape(array.shape)
    )


def blob_frame(array: np.ndarray) -> tuple[bytes, bytes]:
    """Encode the bytes of a BlobProto before and after the raw numbers of a `stored` array."""
    shape = delimited(7, delimited(1, b"".join(map(varint, array.shape)))) if array.ndim else b""
    if array.dtype == np.float64:
        return shape + delimited_key(8, array.nbytes), b""
    return delimited_key(5, array.nbytes), shape


def write_array(file: BinaryIO, array: np.ndarray) -> None:
    """Write the raw numbers of a `stored` array, `PIECE` bytes at a time."""
    flat = array.reshape(-1).view(np.uint8)
    for start in range(0, flat.size, PIECE):
        file.write(flat[start : start + PIECE].data)
