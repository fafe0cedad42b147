"""Solver states: where a training run stands, in Caffe's two forms (`.solverstate`, `.solverstate.h5`)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fcnlite.errors import InputError
from fcnlite.io.atomic import atomic_path
from fcnlite.io.hdf5 import (
    Budget,
    check_inside,
    create_array,
    create_hdf5,
    member,
    numbered_arrays,
    open_hdf5,
    variable_text,
)
from fcnlite.io.kinds import STATE, refuse_other_kind
from fcnlite.io.weights import holds_hdf5, names_hdf5
from fcnlite.io.wire import (
    LENGTH,
    MAX_MESSAGE,
    VARINT,
    WireFile,
    blob_frame,
    delimited,
    delimited_key,
    stored,
    varint,
    write_array,
)

_MAX_HISTORY = 100_000
# Ours in Caffe's files: a field number that its message lacks, an attribute that it does not ask for.
_RANDOM_FIELD, _RANDOM_ATTRIBUTE = 1000, "fcnlite_random_state"
_RANDOM_WORDS = 625
_MAX_TEXT = 1 << 16


@dataclass
class SolverSnapshot:
    """The state that Caffe keeps of a solver beside the weights.

    Parameters
    ----------
    iter : int
        Updates made so far.
    current_step : int
        How many steps the learning rate has gone down (policy multistep).
    learned_net : str
        Path of the weights that belong to it; empty if none.
    history : list of arrays
        The solver's running values (SGD: momentum), one for each learnable parameter in the net's order.
    random_state : array, optional
        (625,) uint32, from `fcnlite.random.mask_state`: kept where Caffe does not look, so that a
        resumed run draws the masks that it would have drawn.
    """

    iter: int
    current_step: int = 0
    learned_net: str = ""
    history: list[np.ndarray] = field(default_factory=list)
    random_state: np.ndarray | None = None


def _int32(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - 2**32 if value >= 2**31 else value


def _read_binary(path: Path) -> SolverSnapshot:
    file = WireFile(path, "a Caffe solver state")
    snapshot = SolverSnapshot(0)
    for item in file.fields(0, file.size):
        if item.number == 1:
            file.expect(item, VARINT, "iter")
            snapshot.iter = _int32(item.value)
        elif item.number == 2:
            snapshot.learned_net = file.text(item, "learned_net")
        elif item.number == 3:
            file.expect(item, LENGTH, "history")
            if len(snapshot.history) >= _MAX_HISTORY:
                file.fail(f"more than {_MAX_HISTORY} arrays of history: this is not a Caffe solver state")
            snapshot.history.append(file.blob(item.start, item.end, f"history {len(snapshot.history)}"))
        elif item.number == 4:
            file.expect(item, VARINT, "current_step")
            snapshot.current_step = _int32(item.value)
        elif item.number == _RANDOM_FIELD:
            file.expect(item, LENGTH, "random_state")
            snapshot.random_state = _random_state(path, file.data[item.start : item.end])
        else:
            file.fail(f"field {item.number} does not belong in a solver state; is this a file of weights?")
    return snapshot


def _dataset(file: h5py.File, name: str) -> h5py.Dataset | None:
    """A dataset at the top of the file that really lies in it."""
    dataset = member(file, name)
    if not isinstance(dataset, h5py.Dataset):
        return None
    check_inside(dataset)
    return dataset


def _read_int(file: h5py.File, name: str) -> int:
    dataset = _dataset(file, name)
    if dataset is None or dataset.size != 1 or dataset.dtype.kind not in "iu":
        raise InputError(f"{file.filename}: no number /{name} in this file: it is not a Caffe solver state")
    return int(np.asarray(dataset[()]).reshape(-1)[0])


def _read_text(file: h5py.File, name: str) -> str:
    dataset = _dataset(file, name)
    if dataset is None:
        return ""
    if (
        dataset.shape not in ((), (1,))
        or dataset.dtype.kind not in "SO"
        or dataset.dtype.itemsize > _MAX_TEXT
    ):
        raise InputError(f"{file.filename}: /{name} is not text: this is not a Caffe solver state")
    if dataset.dtype.kind == "O":
        return variable_text(file.filename, name)
    return bytes(np.asarray(dataset[()]).reshape(-1)[0]).rstrip(b"\0").decode("utf-8", "replace")


def _random_state(path: Path, data: Any) -> np.ndarray:
    words = np.frombuffer(bytes(data), "<u4") if len(data) == 4 * _RANDOM_WORDS else np.empty(0, np.uint32)
    if not words.size or words[-1] > 624:
        raise InputError(f"{path}: the state of random numbers in it is damaged")
    return words.astype(np.uint32)


def _read_random_state(file: h5py.File, path: Path) -> np.ndarray | None:
    if _RANDOM_ATTRIBUTE not in file.attrs:
        return None
    held = file.attrs.get_id(_RANDOM_ATTRIBUTE)
    fits = held.shape == (_RANDOM_WORDS,) and held.dtype == np.dtype("<u4")
    return _random_state(path, np.asarray(file.attrs[_RANDOM_ATTRIBUTE]).tobytes() if fits else b"")


def _read_hdf5(path: Path) -> SolverSnapshot:
    with open_hdf5(path) as file:
        history = member(file, "history")
        if not isinstance(history, h5py.Group):
            hint = "; it holds weights" if "data" in file else ""
            raise InputError(f"{path}: no group /history in this file: it is not a Caffe solver state{hint}")
        return SolverSnapshot(
            _read_int(file, "iter"),
            _read_int(file, "current_step"),
            _read_text(file, "learned_net"),
            numbered_arrays(history, Budget(file)),
            _read_random_state(file, path),
        )


def read_state(path: str | os.PathLike[str]) -> SolverSnapshot:
    """Read a solver state.

    Parameters
    ----------
    path : path
        `.solverstate` or `.solverstate.h5`, told apart by content.

    Returns
    -------
    SolverSnapshot
        The history as float32 or float64 arrays; from the binary form they are read-only views of the file.

    Raises
    ------
    FileNotFoundError, InputError
        There is no such file; it is cut short, damaged, or not a solver state.
    """
    path = Path(path)
    refuse_other_kind(path, STATE)
    state = _read_hdf5(path) if holds_hdf5(path) else _read_binary(path)
    if not 0 <= state.iter < 2**31 or not 0 <= state.current_step < 2**31:
        raise InputError(
            f"{path}: damaged, for it stands at iteration {state.iter}, step {state.current_step}"
        )
    return state


def _write_text(file: h5py.File, name: str, text: str) -> None:
    """A string as Caffe reads it: a scalar of fixed length with a zero at its end."""
    data = text.encode() + b"\0"
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(len(data))
    kind.set_strpad(h5py.h5t.STR_NULLTERM)
    dataset = h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create(h5py.h5s.SCALAR))
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array(data, dtype=f"S{len(data)}"), mtype=kind)


def _write_hdf5(path: Path, snapshot: SolverSnapshot) -> None:
    with create_hdf5(path) as file:
        file.create_dataset("iter", data=np.array([snapshot.iter], np.int32))
        if snapshot.learned_net:
            _write_text(file, "learned_net", snapshot.learned_net)
        file.create_dataset("current_step", data=np.array([snapshot.current_step], np.int32))
        if snapshot.random_state is not None:
            file.attrs[_RANDOM_ATTRIBUTE] = snapshot.random_state.astype("<u4")
        history = file.create_group("history")
        for i, array in enumerate(snapshot.history):
            create_array(history, str(i), array)


def _write_binary(path: Path, snapshot: SolverSnapshot) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(b"\x08" + varint(snapshot.iter & 0xFFFFFFFFFFFFFFFF))
        if snapshot.learned_net:
            file.write(delimited(2, snapshot.learned_net.encode()))
        for array in map(stored, snapshot.history):
            before, after = blob_frame(array)
            file.write(delimited_key(3, len(before) + array.nbytes + len(after)) + before)
            write_array(file, array)
            file.write(after)
        file.write(b"\x20" + varint(snapshot.current_step & 0xFFFFFFFFFFFFFFFF))
        if snapshot.random_state is not None:
            file.write(delimited(_RANDOM_FIELD, snapshot.random_state.astype("<u4").tobytes()))
        if file.tell() > MAX_MESSAGE:
            raise InputError(
                f"{path}: over 2 GB, more than Caffe can read from a .solverstate; write .solverstate.h5"
            )


def write_state(
    path: str | os.PathLike[str],
    snapshot: SolverSnapshot,
) -> None:
    """Write a solver state that Caffe can restore.

    Parameters
    ----------
    path : path
        Ending in `.h5` for HDF5 or in `.solverstate` for the binary form; it appears whole or not at all.
    snapshot : SolverSnapshot

    Raises
    ------
    InputError
        The suffix is neither, or the file cannot be written.
    """
    path = Path(path)
    if names_hdf5(path):
        _write_hdf5(path, snapshot)
    elif path.suffix.lower() == ".solverstate":
        _write_binary(path, snapshot)
    else:
        raise InputError(
            f"{path}: solver states are written as .solverstate or .solverstate.h5; end the name so"
        )
