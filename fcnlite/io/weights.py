"""Weights of a net, whatever file they are in: one way to read it and one to write it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fcnlite.errors import InputError, check_name
from fcnlite.io import hdf5, onnx, safetensors
from fcnlite.io.caffemodel import iter_caffemodel, write_caffemodel
from fcnlite.io.hdf5 import is_hdf5, iter_hdf5, write_hdf5
from fcnlite.io.kinds import WEIGHTS, refuse_other_kind
from fcnlite.io.onnx import is_onnx, iter_onnx
from fcnlite.io.plain import parse_json
from fcnlite.io.safetensors import is_safetensors, iter_safetensors, write_safetensors

Layer = tuple[str, list[np.ndarray]]

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")


def names_hdf5(path: str | os.PathLike[str]) -> bool:
    """Tell whether the suffix of a path asks for HDF5."""
    return Path(path).suffix.lower() in HDF5_SUFFIXES


def holds_hdf5(path: str | os.PathLike[str]) -> bool:
    """Tell a file of HDF5 by its content, or by its suffix when the content does not decide."""
    return is_hdf5(path) or names_hdf5(path)


def holds_caffemodel(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file of weights is none of the others: Caffe's binary files have no mark of their own."""
    return not (holds_hdf5(path) or is_safetensors(path) or is_onnx(path))


def read_deploy(path: str | os.PathLike[str]) -> str | None:
    """The prototxt that fcnlite stored with the weights; None where there is none, as in a `.caffemodel`.

    Raises
    ------
    FileNotFoundError, InputError
        There is no such file, or it is damaged.
    """
    if is_safetensors(path):
        return safetensors.read_metadata(path).get("prototxt")
    return onnx.read_metadata(path).get("prototxt") if is_onnx(path) else hdf5.read_deploy(path)


def read_notes(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The notes that fcnlite stored with the weights; empty where there are none, as in a `.caffemodel`.

    Raises
    ------
    FileNotFoundError, InputError
        There is no such file, or it is damaged.
    """
    if not (is_safetensors(path) or is_onnx(path)):
        return hdf5.read_notes(path)
    text = (safetensors if is_safetensors(path) else onnx).read_metadata(path).get("notes")
    return {} if text is None else parse_json(text, f"{path}: its notes", dict[str, Any])


def iter_weights(path: str | os.PathLike[str]) -> Iterator[tuple[str, list[np.ndarray]]]:
    """The layers of a file of weights, one at a time.

    Parameters
    ----------
    path : path
        Caffe's HDF5 or `.caffemodel` (present or old form), safetensors, or an ONNX file that fcnlite wrote; told
        apart by content.

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
    if holds_caffemodel(path) or holds_hdf5(path):
        refuse_other_kind(path, WEIGHTS)
    for name, arrays in _reader(path)(path):
        check_name(name, f"{os.fspath(path)}")
        yield name, arrays


def _reader(path: str | os.PathLike[str]) -> Callable[[str | os.PathLike[str]], Iterator[Layer]]:
    """The function that reads a file's format."""
    if holds_hdf5(path):
        return iter_hdf5
    if is_safetensors(path):
        return iter_safetensors
    return iter_onnx if is_onnx(path) else iter_caffemodel


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
    """Write weights in the format that the suffix names.

    Parameters
    ----------
    path : path
        Ending in `.h5`, `.hdf5`, `.caffemodel` or `.safetensors`; it appears whole or not at all.
    params : mapping from layer name to arrays
        float32 and float64 stay, other numbers become float32.
    net : NetParameter, optional
        The net they belong to: gives a `.caffemodel` its layers' types, bottoms and tops, safetensors the
        parameters' names, and every format its layers without parameters.
    deploy : str, optional
        Prototxt stored in HDF5 and safetensors, from which `fcnlite.net.load` builds the net.
    notes : mapping, optional
        Plain values stored in HDF5 and safetensors as JSON: what `fcnlite.net.Net` keeps of the data it was trained on.

    Raises
    ------
    InputError
        The suffix is none of these, or the file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if names_hdf5(path) or suffix == safetensors.SUFFIX:
        names = [layer.name for layer in [*net.layer, *net.layers]] if net is not None else []
        layers = ((name, params.get(name, ())) for name in dict.fromkeys([*names, *params]))
        if suffix == safetensors.SUFFIX:
            write_safetensors(path, layers, net, deploy, notes)
        else:
            write_hdf5(path, layers, deploy, notes)
    elif suffix == ".caffemodel":
        write_caffemodel(path, params.items(), net)
    else:
        raise InputError(
            f"{path}: weights are written as .h5, .caffemodel or .safetensors; end the name with one of these"
        )
