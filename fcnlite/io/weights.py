"""Weights of a net, whatever file they are in: one way to read and one to write `.caffemodel` and HDF5."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fcnlite.errors import InputError, check_name
from fcnlite.io.caffemodel import iter_caffemodel, write_caffemodel
from fcnlite.io.hdf5 import is_hdf5, iter_hdf5, write_hdf5

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")


def names_hdf5(path: str | os.PathLike[str]) -> bool:
    """Tell whether the suffix of a path asks for HDF5."""
    return Path(path).suffix.lower() in HDF5_SUFFIXES


def holds_hdf5(path: str | os.PathLike[str]) -> bool:
    """Tell a file of HDF5 by its content, or by its suffix when the content does not decide."""
    return is_hdf5(path) or names_hdf5(path)


def iter_weights(path: str | os.PathLike[str]) -> Iterator[tuple[str, list[np.ndarray]]]:
    """The layers of a file of weights, one at a time.

    Parameters
    ----------
    path : path
        Caffe's HDF5 or `.caffemodel` (present or old form), told apart by content.

    Yields
    ------
    name : str
    arrays : list of arrays, float32 or float64
        The layer's parameters; empty for a layer without any. From a `.caffemodel` they are read-only views
        of the mapped file, with 4 dimensions each if it is of the oldest form. In an HDF5 file Caffe leaves
        out parameters that an earlier layer shares: such a one is an array of shape (0,).

    Raises
    ------
    FileNotFoundError, InputError
        There is no such file; it is cut short, damaged, or holds no weights.
    """
    for name, arrays in iter_hdf5(path) if holds_hdf5(path) else iter_caffemodel(path):
        check_name(name, f"{os.fspath(path)}")
        yield name, arrays


def read_weights(path: str | os.PathLike[str]) -> dict[str, list[np.ndarray]]:
    """All layers of a file of weights by name, as `iter_weights` gives them.

    If a name occurs twice, the later layer that has parameters counts, as in Caffe.
    """
    weights: dict[str, list[np.ndarray]] = {}
    for name, arrays in iter_weights(path):
        if arrays or name not in weights:
            weights[name] = arrays
    return weights


def write_weights(
    path: str | os.PathLike[str],
    params: Mapping[str, Sequence[np.ndarray]],
    net: Any = None,
    deploy: str | None = None,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write weights as Caffe does, in the format that the suffix names.

    Parameters
    ----------
    path : path
        Ending in `.h5`, `.hdf5` or `.caffemodel`; it appears whole or not at all.
    params : mapping from layer name to arrays
        float32 and float64 stay, other numbers become float32.
    net : NetParameter, optional
        The net they belong to: gives a `.caffemodel` its layers' types, bottoms and tops, and either format
        its layers without parameters.
    deploy : str, optional
        Prototxt stored in an HDF5 file, from which `fcnlite.net.load` builds the net.
    notes : mapping, optional
        Plain values stored in an HDF5 file as JSON: what `fcnlite.net.Net` keeps of the data it was trained on.

    Raises
    ------
    InputError
        The suffix is neither, or the file cannot be written.
    """
    if names_hdf5(path):
        names = [layer.name for layer in [*net.layer, *net.layers]] if net is not None else []
        layers = ((name, params.get(name, ())) for name in dict.fromkeys([*names, *params]))
        write_hdf5(path, layers, deploy, notes=notes)
    elif Path(path).suffix.lower() == ".caffemodel":
        write_caffemodel(path, params.items(), net)
    else:
        raise InputError(f"{path}: weights are written as .h5 or .caffemodel; end the name with one of these")
