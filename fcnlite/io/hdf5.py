"""Caffe's HDF5 weights: `/data/LAYER/0`, `/data/LAYER/1`, ... and a group for every layer without parameters."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fcnlite.errors import InputError
from fcnlite.io.atomic import atomic_path
from fcnlite.io.plain import parse_json
from fcnlite.io.wire import PIECE, stored

DEPLOY = "prototxt"  # the root attribute with the net that the weights belong to
NOTES = "fcnlite"  # the root attribute with what else a user of the weights must know, as JSON
_MAX_DEPTH = 32  # of groups, for layer names with slashes
_MAX_EXPANSION = 100  # bytes of numbers for a byte of the file (weights shrink to nine tenths), beyond
_FREE_EXPANSION = 1 << 28  # so many bytes, for files of zeros
_TEXT_PIECE = 60_000  # bytes of text in an attribute; an object header's message ends at 64 KB
_TEXT_SECONDS, _TEXT_MEMORY = 4, 1 << 30
_BROKEN = (
    OSError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    UnicodeDecodeError,
)  # what h5py makes of damage


def is_hdf5(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file exists and begins as HDF5 files do."""
    return Path(path).is_file() and bool(h5py.is_hdf5(path))


@contextmanager
def open_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """An HDF5 file to read, with what h5py says of damaged ones turned into one clear line."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    if path.is_dir():
        raise InputError(f"{path}: this is a folder, not an HDF5 file")
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except InputError:
        raise
    except _BROKEN as error:
        reason = str(error).strip("'\"").split("\n")[0]
        raise InputError(f"{path}: damaged or cut short, or not an HDF5 file ({reason})") from None


def member(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """Look up a group or dataset by name, None if there is none; links, which may lead out of the file, are refused."""
    link = group.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise InputError(
            f"{group.file.filename}: {group.name.rstrip('/')}/{name} is a link, which Caffe never writes; refused"
        )
    return group[name]


def check_inside(dataset: h5py.Dataset) -> None:
    """Refuse a dataset that keeps its numbers outside its file: reading it would read whatever it names."""
    if dataset.external or dataset.is_virtual:
        raise InputError(
            f"{dataset.file.filename}: {dataset.name} keeps its numbers in another file; refused"
        )


class Budget:
    """Counts the bytes read from a file against what it can hold: chunks of zeros let a small file claim any size."""

    def __init__(self, file: h5py.File) -> None:
        self.left = _FREE_EXPANSION + _MAX_EXPANSION * file.id.get_filesize()

    def take(self, dataset: h5py.Dataset) -> None:
        """Spend a dataset's bytes, in memory as float32 or float64.

        Raises
        ------
        InputError
            The file claims more than it can hold.
        """
        self.left -= math.prod(dataset.shape) * max(4, dataset.dtype.itemsize)
        if self.left < 0:
            raise InputError(
                f"{dataset.file.filename}: {dataset.name} claims shape {dataset.shape}, more than the file stores; "
                "it is damaged"
            )


def read_array(dataset: h5py.Dataset, budget: Budget | None = None) -> np.ndarray:
    """A dataset of numbers as float32 (float64 stays), after checking that the file can hold what it claims.

    Parameters
    ----------
    dataset : h5py.Dataset
    budget : Budget, optional
        Shared by the arrays of a file that are kept together.

    Raises
    ------
    InputError
        It is not an array of numbers, lies outside the file, or claims far more than the file stores.
    """
    check_inside(dataset)
    if dataset.shape is None or dataset.dtype.kind not in "fiu":
        raise InputError(f"{dataset.file.filename}: {dataset.name} is not an array of numbers")
    (budget or Budget(dataset.file)).take(dataset)
    wide = dataset.dtype.kind == "f" and dataset.dtype.itemsize == 8
    array = np.empty(dataset.shape, np.float64 if wide else np.float32)
    if array.size:
        dataset.read_direct(array)
    return array


def numbered_arrays(group: h5py.Group, budget: Budget) -> list[np.ndarray]:
    """The datasets "0", "1", ... of a group; a number left out gives an array of shape (0,)."""
    names = [name for name in group if name.isascii() and name.isdecimal()]
    numbers = sorted(int(name) for name in names if isinstance(member(group, name), h5py.Dataset))
    if numbers and numbers[-1] > 4 * len(numbers) + 8:
        raise InputError(
            f"{group.file.filename}: {group.name} has a parameter number {numbers[-1]}; it is damaged"
        )
    found = {number: read_array(group[str(number)], budget) for number in numbers}
    return [found.get(number, np.empty(0, np.float32)) for number in range(numbers[-1] + 1 if numbers else 0)]


def _layer_groups(
    group: h5py.Group, prefix: str = "", depth: int = 0, seen: set[int] | None = None
) -> Iterator[tuple[str, h5py.Group]]:
    """Every layer below the group: one whose name has a slash lies in a group of groups."""
    seen = set() if seen is None else seen
    address = h5py.h5o.get_info(group.id).addr
    if depth > _MAX_DEPTH or address in seen:
        raise InputError(
            f"{group.file.filename}: {group.name} is nested without end; this is not a file of weights"
        )
    seen.add(address)
    for name in group:
        layer = member(group, name)
        if not isinstance(layer, h5py.Group):
            continue
        nested = [isinstance(member(layer, inner), h5py.Group) for inner in layer]
        if not nested or not all(nested):
            yield prefix + name, layer
        if any(nested):
            yield from _layer_groups(layer, f"{prefix}{name}/", depth + 1, seen)


def iter_hdf5(path: str | os.PathLike[str]) -> Iterator[tuple[str, list[np.ndarray]]]:
    """The layers of an HDF5 file of weights, one at a time.

    Parameters
    ----------
    path : path
        Written by Caffe (`PREFIX_iter_N.caffemodel.h5`) or by fcnlite.

    Yields
    ------
    name : str
    arrays : list of arrays, float32 or float64
        Empty for a layer without parameters. Where Caffe left out a parameter because an earlier layer shares
        it, an array of shape (0,).

    Raises
    ------
    FileNotFoundError, InputError
        There is no such file; it is damaged, or not a file of weights.
    """
    with open_hdf5(path) as file:
        data = member(file, "data")
        if not isinstance(data, h5py.Group):
            raise InputError(f"{path}: no group /data with the weights in this HDF5 file")
        budget = Budget(file)
        for name, group in _layer_groups(data):
            yield name, numbered_arrays(group, budget)


def read_deploy(path: str | os.PathLike[str]) -> str | None:
    """The prototxt that fcnlite stored with the weights in an HDF5 file; None if there is none.

    Raises
    ------
    FileNotFoundError, InputError
        There is no such file, or it is damaged.
    """
    return _read_text(path, DEPLOY)


def read_notes(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The notes that fcnlite stored with the weights in an HDF5 file; empty if there are none.

    Raises
    ------
    FileNotFoundError, InputError
        There is no such file, or it is damaged.
    """
    text = _read_text(path, NOTES)
    return {} if text is None else parse_json(text, f"{path}: the attribute '{NOTES}'", dict[str, Any])


def _read_text(path: str | os.PathLike[str], name: str) -> str | None:
    """An attribute of the root; None if there is none, or this is another kind of file."""
    if Path(path).exists() and not is_hdf5(path):
        return None
    with open_hdf5(path) as file:
        pieces = [_text_piece(path, file, key) for key in _piece_names(file, name)]
    return b"".join(pieces).decode("utf-8", "replace") if pieces else None


def _piece_names(file: h5py.File, name: str) -> Iterator[str]:
    """The attributes that hold a text: NAME, and NAME.1, NAME.2 ... where it is long."""
    number = 0
    while (key := f"{name}.{number}" if number else name) in file.attrs:
        yield key
        number += 1


def _text_piece(path: str | os.PathLike[str], file: h5py.File, name: str) -> bytes:
    held = file.attrs.get_id(name)
    kind = h5py.check_string_dtype(held.dtype)
    if kind is None or held.shape not in ((), (1,)):
        raise InputError(f"{path}: the attribute '{name}' is not text")
    if kind.length is None:
        return variable_text(path, name).encode()
    return bytes(np.asarray(file.attrs[name]).reshape(-1)[0])


# Run by a process of its own: reads the attribute, or else the dataset, of a name at the top of a file.
_READ_TEXT = """
import sys
path, name, memory = sys.argv[1:4]
sys.path[:] = sys.argv[4:]
import resource
import h5py
resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
with h5py.File(path, "r", locking=False) as file:
    held = file.attrs[name] if name in file.attrs else file[name][()]
held = held.encode() if isinstance(held, str) else bytes(getattr(held, "flat", [held])[0])
sys.stdout.buffer.write(held)
"""


def variable_text(path: str | os.PathLike[str], name: str) -> str:
    """A text of variable length, as h5py stores a `str` by default, at the top of a file.

    Such texts lie in a heap, and on a damaged one libhdf5 can loop for ever, deaf to signals. So another process
    reads it, with bounds on its time and memory; files that fcnlite writes today hold texts of fixed length.

    Raises
    ------
    InputError
        The text cannot be read.
    """
    where = [entry for entry in sys.path if entry]  # not the working folder, which may be a stranger's
    command = [sys.executable, "-I", "-c", _READ_TEXT, os.fspath(path), name, str(_TEXT_MEMORY), *where]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TEXT_SECONDS, check=True)
    except (subprocess.SubprocessError, OSError):
        raise InputError(f"{path}: damaged: its text '{name}' cannot be read") from None
    return done.stdout.decode("utf-8", "replace")


def write_text_attribute(file: h5py.File, name: str, text: str) -> None:
    """Store a text of fixed length with the root; a long one in pieces, NAME.1 and so on for the second and further."""
    raw = text.encode()
    for number, at in enumerate(range(0, max(1, len(raw)), _TEXT_PIECE)):
        piece = raw[at : at + _TEXT_PIECE]
        file.attrs[f"{name}.{number}" if number else name] = np.array(piece, dtype=f"S{max(1, len(piece))}")


def _bands(shape: tuple[int, ...], row_bytes: int) -> Iterator[tuple[slice | int, ...]]:
    """Selections that cut an array into bands of about `PIECE` bytes along its first axis longer than 1."""
    axis = next((i for i, dim in enumerate(shape) if dim > 1), None)
    if axis is None:
        yield (...,)  # type: ignore[misc]
        return
    step = max(1, PIECE // row_bytes)
    for start in range(0, shape[axis], step):
        yield (*(slice(None),) * axis, slice(start, min(start + step, shape[axis])))


def create_array(group: h5py.Group, name: str, array: np.ndarray) -> None:
    """Store an array as a plain dataset, in bands, so that a mapped file is never copied as a whole."""
    array = stored(array)
    dataset = group.create_dataset(name, array.shape, array.dtype)
    if not array.size:
        return
    rows = next((dim for dim in array.shape if dim > 1), 1)
    for band in _bands(array.shape, array.nbytes // rows):
        dataset[band] = array[band]


def _check_name(path: Path, name: str) -> None:
    if not name or "\0" in name or any(part in ("", ".") for part in name.split("/")):
        raise InputError(
            f"{path}: a layer called {name!r} cannot be stored in HDF5; rename it or write a .caffemodel"
        )


class _Disk(io.FileIO):
    """File object for h5py that remembers a write error until HDF5 has closed.

    Raising inside HDF5's callback crashes the process.
    """

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        try:
            while rest and self.failure is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.failure = error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return self.tell() if size is None else size


@contextmanager
def create_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """A new HDF5 file that appears at `path` when the block succeeds."""
    with atomic_path(path) as temporary:
        try:
            with _Disk(temporary, "w+") as disk:
                with h5py.File(disk, "w") as file:
                    yield file
                if disk.failure is not None:
                    raise disk.failure
        except (RuntimeError, KeyError, TypeError) as error:
            raise InputError(f"{path}: HDF5 cannot store this ({error})") from error


def write_hdf5(
    path: str | os.PathLike[str],
    params: Iterable[tuple[str, Sequence[np.ndarray]]],
    deploy: str | None = None,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write weights in Caffe's HDF5 layout.

    Parameters
    ----------
    path : path
        The file to write; it appears whole or not at all.
    params : iterable of (name, arrays)
        Every layer in order, those without parameters with an empty list. float32 and float64 stay, other
        numbers become float32.
    deploy : str, optional
        The prototxt of the net that the weights belong to, stored as the root attribute "prototxt".
    notes : mapping, optional
        Facts that a user of the weights must know (class names, mean colour), stored as JSON.

    Raises
    ------
    InputError
        The file cannot be written, or a layer's name cannot be stored.
    """
    path = Path(path)
    with create_hdf5(path) as file:
        if deploy is not None:
            write_text_attribute(file, DEPLOY, deploy)
        if notes:
            write_text_attribute(file, NOTES, json.dumps(notes))
        data = file.create_group("data", track_order=True)
        for name, arrays in params:
            _check_name(path, name)
            try:
                group = data.require_group(name)
                for i, array in enumerate(arrays):
                    create_array(group, str(i), array)
            except (
                RuntimeError,
                TypeError,
                ValueError,
            ) as error:  # a layer "a/1" where a layer "a" has a parameter 1
                raise InputError(
                    f"{path}: layer '{name}' cannot be stored in HDF5 beside the others ({error}); rename it or "
                    "write a .caffemodel"
                ) from error
