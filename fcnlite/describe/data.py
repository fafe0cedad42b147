"""Describes files that nets learn from: databases, HDF5 files of rows, lists of files, and arrays such as means."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from google.protobuf.message import DecodeError

from fcnlite.data.encoded import look
from fcnlite.data.files import PICTURE_SUFFIXES, open_image, read_lines, read_text
from fcnlite.errors import InputError, printable
from fcnlite.io.hdf5 import Budget, check_inside, is_hdf5, member, open_hdf5
from fcnlite.io.lmdb import Database
from fcnlite.io.wire import PIECE, WireFile
from fcnlite.layers.sources.windows import windows_of
from fcnlite.proto import Datum

_RECORDS, _BYTES = 2000, 1 << 28  # of a database, or of a data set, that are looked at
_NUMBERS = 256  # different whole numbers that are listed
_LINES = 20  # of a text that tell its kind
_FILES = 1000  # of a list that are looked for
_HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
_IMAGE_LINE = re.compile(rf"\S.*({'|'.join(map(re.escape, PICTURE_SUFFIXES))})(\s+\S+)*", re.IGNORECASE)


def describe_database(path: Path) -> dict[str, Any]:
    """An LMDB: how many records, and what the first ones are."""
    database = Database(path)
    shapes: Counter[tuple[int, ...]] = Counter()
    kinds: Counter[str] = Counter()
    labels: Counter[float] = Counter()
    first, read = "", 0
    for number, record in enumerate(database.records()):
        read += len(record.value)
        if number == _RECORDS or read > _BYTES:
            break
        first = first if number else _shown(record.key)
        shape, kind, label = _look_at(record.value)
        kinds[kind] += 1
        if shape is not None:
            shapes[shape] += 1
            labels[label] += 1
    last = [_shown(record.key) for record in database.records(max(0, len(database) - 1))]
    return {
        "kind": "database",
        "name": os.fspath(path),
        "records": len(database),
        "bytes": database.path.stat().st_size,
        "first_key": first,
        "last_key": last[-1] if last else "",
        "looked_at": sum(kinds.values()),
        "shapes": [{"shape": list(shape), "count": count} for shape, count in shapes.most_common()],
        "formats": dict(kinds.most_common()),
        "labels": _range(list(labels)),
    }


def _shown(name: bytes | str) -> str:
    return printable(name if isinstance(name, str) else name.decode("utf-8", "replace"))


def _look_at(value: memoryview) -> tuple[tuple[int, ...] | None, str, float]:
    """A record's shape (None if it has none), how its values are kept, and its label."""
    try:
        datum: Any = Datum.FromString(bytes(value))
    except DecodeError:
        return None, "no Datum", 0
    label = float(datum.label)
    if datum.encoded:
        try:
            shape, kind = look(datum.data)
        except InputError:
            return None, "encoded, but no picture", label
        return shape, kind, label
    shape = datum.channels, datum.height, datum.width
    count = len(datum.data) or len(datum.float_data)
    if min(shape) < 1 or math.prod(shape) != count:
        return None, "no Datum", label
    return shape, "bytes" if datum.data else "floats", label


def describe_rows(path: Path) -> dict[str, Any]:
    """An HDF5 file of rows, as HDF5Data reads it: its data sets."""
    with open_hdf5(path) as file:
        budget = Budget(file)
        sets = [
            _data_set(name, found, budget)
            for name in file
            if isinstance(found := member(file, name), h5py.Dataset)
        ]
        groups = [_shown(name) for name in file if isinstance(member(file, name), h5py.Group)]
    return {"kind": "rows", "name": os.fspath(path), "data_sets": sets, "groups": groups}


def _data_set(name: str, data: h5py.Dataset, budget: Budget) -> dict[str, Any]:
    shape = data.shape or ()
    told: dict[str, Any] = {"name": _shown(name), "shape": list(shape), "dtype": str(data.dtype)}
    if data.dtype.kind not in "fiu" or 0 in shape or data.shape is None:
        return told | {"looked_at": 0, "values": None}
    check_inside(data)
    budget.take(data)
    read, least, most, whole, nan = 0, np.inf, -np.inf, True, False
    numbers: set[float] = set()
    for band in _bands(data):
        read += len(band) if band.ndim else 1
        nan = nan or bool(np.isnan(band).any())
        least, most = np.fmin(least, np.nanmin(band)), np.fmax(most, np.nanmax(band))
        whole = whole and not nan and bool((band == np.trunc(band)).all())
        if whole and len(numbers) <= _NUMBERS:
            numbers.update(np.unique(band).tolist())
    listed = whole and len(numbers) <= _NUMBERS
    return told | {
        "looked_at": read,
        "values": {
            "least": None if math.isinf(least) else float(least),
            "most": None if math.isinf(most) else float(most),
            "different": sorted(map(int, numbers)) if listed else None,
            "not_a_number": nan,
        },
    }


def _bands(data: h5py.Dataset) -> Iterator[np.ndarray]:
    """A data set in bands of rows, as far as it is looked at."""
    if not data.shape:
        yield np.asarray(data[()])
        return
    row = max(1, data.size // data.shape[0] * data.dtype.itemsize)
    step = max(1, PIECE // row)
    for start in range(0, min(data.shape[0], max(1, _BYTES // row)), step):
        yield data[start : start + step]


def is_npy(path: Path) -> bool:
    """True of a file that begins as NumPy's arrays do."""
    with path.open("rb") as file:
        return file.read(6) == b"\x93NUMPY"


def describe_array(path: Path) -> dict[str, Any]:
    """A binaryproto or NumPy file: a mean, or the like."""
    array = _npy(path) if is_npy(path) else _binaryproto(path)
    planes = array.reshape(-1, *array.shape[-2:]) if array.ndim > 2 else array[None]
    return {
        "kind": "array",
        "name": os.fspath(path),
        "shape": list(array.shape),
        "values": array.size,
        "least": float(array.min()) if array.size else None,
        "most": float(array.max()) if array.size else None,
        "means": [float(plane.mean(dtype=np.float64)) for plane in planes] if array.size else [],
    }


def _binaryproto(path: Path) -> np.ndarray:
    file = WireFile(path, "a binaryproto")
    return file.blob(0, file.size, "its array")


def _npy(path: Path) -> np.ndarray:
    """A NumPy file's array, mapped, so that it cannot claim more than there is."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # reading the header may raise anything over a damaged file
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not a NumPy array, or a damaged one ({reason})") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise InputError(f"{path}: its array holds no numbers")
    return array


def describe_list(path: Path) -> dict[str, Any] | None:
    """A list of HDF5 files, of images, of windows in images or of names, as data layers read them; or else None."""
    with path.open("rb") as file:
        begin = file.read(1 << 16).decode("utf-8-sig", "replace").splitlines()
    lines = [line for line in begin if line.strip()][:_LINES]
    if not lines:
        return None
    if re.fullmatch(r"#\s*\d+", lines[0].strip()) and len(lines) > 5 and lines[2].strip().isdecimal():
        return _describe_windows(path)
    if all(_names_hdf5(word, path) for line in lines for word in line.split()):
        return _describe_hdf5_list(path)
    if all(_IMAGE_LINE.fullmatch(line.rstrip()) for line in lines):
        return _describe_images(path)
    if path.suffix.lower() == ".txt" and not any(mark in line for line in lines for mark in ":{}"):
        return _describe_names(path)
    return None


def _names_hdf5(word: str, path: Path) -> bool:
    found = _beside(word, path)
    return word.lower().endswith(_HDF5_SUFFIXES) or (found is not None and is_hdf5(found))


def _beside(name: str, path: Path) -> Path | None:
    """A file that a list names, from the working folder or the list's."""
    try:
        return next((found for found in (Path(name), path.parent / name) if found.is_file()), None)
    except (OSError, ValueError):
        return None


def _describe_hdf5_list(path: Path) -> dict[str, Any]:
    names = read_text(path).split()
    first = _beside(names[0], path)
    return _listed(path, "HDF5 files", names) | {"first": describe_rows(first) if first else None}


def _describe_images(path: Path) -> dict[str, Any]:
    entries = [_entry(line.strip()) for line in read_text(path).splitlines() if line.strip()]
    names = [name for name, _ in entries]
    first = _beside(names[0], path)
    return _listed(path, "images", names) | {
        "labels": _labels_of({label for _, label in entries}),
        "first": _picture(first) if first else None,
    }


def _entry(line: str) -> tuple[str, str]:
    """A line's image, whose name may have spaces, and its label, if there is one."""
    name, _, label = line.replace("\t", " ").rpartition(" ")
    if name.rstrip().lower().endswith(PICTURE_SUFFIXES):
        return name.rstrip(), label
    if line.lower().endswith(PICTURE_SUFFIXES):
        return line, ""
    name, *others = line.split()
    return name, " ".join(others)


def _labels_of(labels: set[str]) -> Any:
    """Classes as a range; or "images", "none", "other words"."""
    if labels == {""}:
        return "none"
    if all(re.fullmatch(r"[+-]?\d+", label) for label in labels):
        return _range([float(label) for label in labels])
    return "images" if all(label.lower().endswith(PICTURE_SUFFIXES) for label in labels) else "other words"


def _picture(path: Path) -> dict[str, Any]:
    image = open_image(path)
    return {"name": os.fspath(path), "height": image.height, "width": image.width, "mode": image.mode}


def _describe_names(path: Path) -> dict[str, Any]:
    """A list of ids or of classes."""
    names = read_lines(path)
    told = {"first": _shown(names[0]), "last": _shown(names[-1])}
    return {"kind": "list", "name": os.fspath(path), "of": "names", "files": len(names), "missing": 0} | told


def _describe_windows(path: Path) -> dict[str, Any]:
    names: list[str] = []
    labels: Counter[float] = Counter()
    try:
        for window, _, _ in windows_of(iter(read_text(path).split()), names):
            labels[float(window.label)] += 1
    except ValueError as error:
        raise InputError(f"{path}: not a list of windows, at image {len(names)}: {error}") from None
    first = _beside(names[0], path) if names else None
    return _listed(path, "windows", names) | {
        "windows": sum(labels.values()),
        "labels": _range(list(labels)),
        "first": _picture(first) if first else None,
    }


def _listed(path: Path, of: str, names: Sequence[str]) -> dict[str, Any]:
    """What all lists have: how many files, and which of the first ones are not found."""
    missing = [name for name in names[:_FILES] if _beside(name, path) is None]
    return {
        "kind": "list",
        "name": os.fspath(path),
        "of": of,
        "files": len(names),
        "looked_for": min(len(names), _FILES),
        "missing": len(missing),
        "first_missing": _shown(missing[0]) if missing else None,
    }


def _range(values: Sequence[float]) -> dict[str, Any] | None:
    if not values:
        return None
    return {"least": min(values), "most": max(values), "different": len(set(values))}
