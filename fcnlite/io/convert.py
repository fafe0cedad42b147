"""Converts Caffe's weights and solver states between their binary and HDF5 forms."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from fcnlite.io.caffemodel import read_definition, write_caffemodel
from fcnlite.io.hdf5 import iter_hdf5, write_hdf5
from fcnlite.io.safetensors import SUFFIX as SAFETENSORS
from fcnlite.io.safetensors import write_safetensors
from fcnlite.io.state import read_state, write_state
from fcnlite.io.weights import (
    holds_caffemodel,
    holds_hdf5,
    names_hdf5,
    read_deploy,
    read_notes,
    read_weights,
)
from fcnlite.proto import NetParameter, parse_net, read_net, to_text

Layers = Iterable[tuple[str, Sequence[np.ndarray]]]
Watch = Callable[[Layers], Layers]


def _read_layers(source: Path) -> Layers:
    """Read the layers of a file: a mapped file's all at once, as views; those of HDF5 one after the other."""
    return iter_hdf5(source) if holds_hdf5(source) else read_weights(source).items()


def convert_weights(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    prototxt: str | os.PathLike[str] | NetParameter | None = None,
    watch: Watch = iter,
) -> None:
    """Write the weights in `source` to `target`, in the format that its suffix names.

    Parameters
    ----------
    source, target : path
        `.caffemodel` (any generation), HDF5 or safetensors, in any combination; `source` may be an ONNX file that
        fcnlite wrote, too.
    prototxt : path or NetParameter, optional
        The net that the weights belong to. HDF5 and safetensors store its text, so that `fcnlite.net.load` can
        build the net; a `.caffemodel` takes its layers' types and connections from it. Without it, the
        description stored in `source` is kept.
    watch : callable
        Hands the layers on, one after the other, as they are written: a place for a progress bar.

    Raises
    ------
    FileNotFoundError, InputError
        A file is missing, damaged, or cannot be written.
    """
    source, target = Path(source), Path(target)
    layers = watch(_read_layers(source))
    if prototxt is None:
        text = read_deploy(source)
    else:
        text = to_text(prototxt if isinstance(prototxt, NetParameter) else read_net(Path(prototxt)))
    if names_hdf5(target):
        write_hdf5(target, layers, text, read_notes(source))
        return
    if text is not None:
        net = parse_net(text, f"{source}, its net")
    else:
        net = read_definition(source) if holds_caffemodel(source) else None
    if target.suffix.lower() == SAFETENSORS:
        write_safetensors(target, layers, net, text, read_notes(source))
    else:
        write_caffemodel(target, layers, net)


def convert_state(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Write the solver state in `source` to `target`, in the format that its suffix names.

    The path of the weights that belong to it (`learned_net`) is kept as it stands.

    Parameters
    ----------
    source, target : path
        `.solverstate` or `.solverstate.h5`.

    Raises
    ------
    FileNotFoundError, InputError
        A file is missing, damaged, or cannot be written.
    """
    write_state(target, read_state(source))
