"""Caffe's binary files told apart by their content: weights, a solver's state, a single array, rows of data."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import h5py

from fcnlite.errors import InputError
from fcnlite.io.hdf5 import is_hdf5, member, open_hdf5
from fcnlite.io.wire import LENGTH, VARINT, WireFile

WEIGHTS, STATE, ARRAY, ROWS = "weights", "a solver's state", "a single array", "rows of data (for HDF5Data)"
_LOOKED_AT = 1000  # fields at the top of a file


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """`WEIGHTS`, `STATE`, `ARRAY` (a binaryproto, such as a mean) or `ROWS` (an HDF5 file for HDF5Data).

    None if the file is none of these or damaged.

    A file that could be weights is taken for weights.
    """
    try:
        return _kind_of_hdf5(path) if is_hdf5(path) else _kind_of_binary(path)
    except (InputError, OSError):
        return None


def refuse_other_kind(path: str | os.PathLike[str], wanted: str) -> None:
    """Raise if a file holds weights where a solver's state is wanted, or the like.

    Raises
    ------
    InputError
        Naming what the file holds, and the file beside it that is wanted.
    """
    found = kind_of(path)
    if found is None or found == wanted:
        return
    advice = ""
    if wanted == WEIGHTS and found == STATE:
        advice = f"; the weights are in {_beside(path, 'solverstate', 'caffemodel')}, and --resume goes on from a state"
    elif wanted == STATE and found == WEIGHTS:
        advice = f"; the state is in {_beside(path, 'caffemodel', 'solverstate')}, and --weights starts from weights"
    elif found == ARRAY:
        advice = ", such as a mean (a binaryproto)"
    raise InputError(f"{os.fspath(path)}: it holds {found}, not {wanted}{advice}")


def _beside(path: str | os.PathLike[str], old: str, new: str) -> str:
    """The name of a snapshot's other file."""
    path = Path(path)
    name = path.name.replace(f".{old}", f".{new}")
    if name == path.name:
        name = f"the .{new} file"
    elif not path.with_name(name).exists() and path.suffix.lower() != ".h5":
        held = path.with_name(f"{name}.h5")
        name = held.name if held.exists() else name
    return name + (" beside it" if path.with_name(name).exists() else " of the same snapshot")


def _kind_of_hdf5(path: str | os.PathLike[str]) -> str | None:
    with open_hdf5(path) as file:
        if isinstance(member(file, "data"), h5py.Group):
            return WEIGHTS
        if "iter" in file or isinstance(member(file, "history"), h5py.Group):
            return STATE
        return ROWS if any(isinstance(member(file, name), h5py.Dataset) for name in file) else None


def _kind_of_binary(path: str | os.PathLike[str]) -> str | None:
    file = WireFile(path, "a file of Caffe's")
    seen = set()
    for field in islice(file.fields(0, file.size), _LOOKED_AT):
        if field.number in (100, 2) and field.wire == LENGTH and (1, VARINT) not in seen:
            return WEIGHTS  # layers, with the net's name, if any, ahead of them
        seen.add((field.number, field.wire))
    if seen & {(2, LENGTH), (3, LENGTH)} and (1, VARINT) in seen:
        return STATE
    if seen & {(5, LENGTH), (7, LENGTH), (8, LENGTH)} and seen <= _ARRAY_FIELDS:
        return ARRAY
    return STATE if seen and seen <= {(1, VARINT), (4, VARINT)} else None


_ARRAY_FIELDS = (
    {(n, VARINT) for n in (1, 2, 3, 4)} | {(n, LENGTH) for n in (5, 6, 7, 8, 9)} | {(5, 5), (6, 5)}
)
