"""Caffe's parameters out of an ONNX file that `fcnlite.export` wrote, as views of the mapped file."""

from __future__ import annotations

import base64
import binascii
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fcnlite.errors import InputError
from fcnlite.io.plain import parse_json
from fcnlite.io.wire import LENGTH, VARINT, WireFile, delimited

SUFFIX = ".onnx"
KEY = "fcnlite."  # before the names of our metadata
PRODUCER = "fcnlite"
_PRODUCER = delimited(2, PRODUCER.encode())
_GRAPH, _METADATA = 7, 14  # field numbers of onnx.proto: ModelProto's
_INITIALIZER = 5  # GraphProto's
_NAME, _RAW_DATA, _EXTERNAL = 8, 9, 13  # TensorProto's
_PARAMETERS = dict[str, list[dict[str, Any]]]


class _Place(NamedTuple):
    """Where a tensor's numbers lie: in another file of the same folder, or here."""

    offset: int
    length: int
    location: str = ""


def is_onnx(path: str | os.PathLike[str]) -> bool:
    """Tell an ONNX model by its first bytes, in which fcnlite is its producer, or by its suffix.

    Caffe's solver states begin alike, so that nothing less would do.
    """
    path = Path(path)
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        start = file.read(len(_PRODUCER) + 2)
    return path.suffix.lower() == SUFFIX or (start[:1] == b"\x08" and start[2:] == _PRODUCER)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata that fcnlite wrote, without the prefix of their names."""
    file = WireFile(path, "an ONNX model")
    found = {}
    for field in file.fields(0, file.size):
        if field.number == _METADATA:
            key, value = _pair(file, field)
            if key.startswith(KEY):
                found[key.removeprefix(KEY)] = value
    return found


def iter_onnx(path: str | os.PathLike[str]) -> Iterator[tuple[str, list[np.ndarray]]]:
    """The layers of an ONNX file, one at a time, with the parameters that it was written from, bit for bit.

    Parameters
    ----------
    path : path
        Written by `fcnlite export`.

    Yields
    ------
    name : str
    arrays : list of arrays, float32
        Read-only.

    Raises
    ------
    FileNotFoundError, InputError
        There is no such file; it is damaged, or others wrote it.
    """
    told = read_metadata(path).get("parameters")
    if told is None:
        raise InputError(
            f"{path}: this ONNX file was not written by fcnlite, so it does not tell Caffe's parameters"
        )
    layers = parse_json(told, f"{path}: its parameters", _PARAMETERS)
    file = WireFile(path, "an ONNX model")
    places = dict(_places(file))
    others: dict[str, WireFile] = {}
    for layer, entries in layers.items():
        yield layer, [_array(file, f"layer '{layer}'", entry, places, others) for entry in entries]


def _pair(file: WireFile, field: Any) -> tuple[str, str]:
    """Key and value of a StringStringEntryProto."""
    file.expect(field, LENGTH, "entry")
    texts = {part.number: file.text(part, "entry") for part in file.fields(field.start, field.end)}
    return texts.get(1, ""), texts.get(2, "")


def _places(file: WireFile) -> Iterator[tuple[str, _Place]]:
    """Each initializer's name and place."""
    for outer in file.fields(0, file.size):
        if outer.number != _GRAPH:
            continue
        file.expect(outer, LENGTH, "graph")
        for field in file.fields(outer.start, outer.end):
            if field.number == _INITIALIZER:
                file.expect(field, LENGTH, "initializer")
                yield _place(file, field)


def _place(file: WireFile, tensor: Any) -> tuple[str, _Place]:
    name, place, external = "", _Place(0, 0), {}
    for field in file.fields(tensor.start, tensor.end):
        if field.number == _NAME:
            name = file.text(field, "name")
        elif field.number == _RAW_DATA:
            file.expect(field, LENGTH, "raw_data")
            place = _Place(field.start, field.end - field.start)
        elif field.number == _EXTERNAL:
            key, value = _pair(file, field)
            external[key] = value
        elif field.wire not in (LENGTH, VARINT):
            file.fail(f"tensor '{name}' holds its numbers otherwise than fcnlite writes them")
    if external:
        numbers = [external.get(key, "") for key in ("offset", "length")]
        if not all(number.isascii() and number.isdecimal() for number in numbers):
            file.fail(f"tensor '{name}' does not say where in '{external.get('location')}' it lies")
        offset, length = map(int, numbers)
        place = _Place(offset, length, external.get("location", ""))
    return name, place


def _array(
    file: WireFile, where: str, entry: dict[str, Any], places: dict[str, _Place], others: dict[str, WireFile]
) -> np.ndarray:
    """A parameter, from its tensor or from the metadata."""
    shape = entry.get("shape")
    if not isinstance(shape, list) or any(type(n) is not int or n < 0 for n in shape):
        file.fail(f"{where} has a parameter of shape {shape}; the file is damaged")
    count = math.prod(shape)
    if "base64" in entry:
        try:
            raw: Any = base64.b64decode(entry["base64"], validate=True)
        except (binascii.Error, TypeError, ValueError):
            file.fail(f"{where} has parameters that are damaged")
        place, holder = _Place(0, len(raw)), memoryview(raw)
    else:
        place = places.get(str(entry.get("tensor")), _Place(0, -1))
        holder = _holder(file, place, others).data
    if place.length != 4 * count or place.offset + place.length > len(holder):
        file.fail(f"{where} has a parameter of shape {tuple(shape)}, whose numbers are not in the file")
    array = np.frombuffer(holder, "<f4", count, place.offset) if count else np.empty(0, np.float32)
    array.flags.writeable = False
    return array.reshape(shape)


def _holder(file: WireFile, place: _Place, others: dict[str, WireFile]) -> WireFile:
    """The file that a place is in; one beside the model, never elsewhere."""
    if not place.location:
        return file
    if Path(place.location).name != place.location:
        file.fail(f"its weights are in '{place.location}', outside its folder; refused")
    if place.location not in others:
        others[place.location] = WireFile(file.path.with_name(place.location), "the weights of an ONNX model")
    return others[place.location]
