"""Converts Caffe's weights and solver states between their binary and HDF5 forms."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from fcnlite.io.caffemodel import read_definition, write_caffemodel
from fcnlite.io.hdf5 import is_hdf5, iter_hdf5, read_deploy, read_notes, write_hdf5
from fcnlite.io.state import read_state, write_state
from fcnlite.io.weights import holds_hdf5, names_hdf5, read_weights
from fcnlite.proto import parse_net, read_net, to_text

Layers = Iterable[tuple[str, Sequence[np.ndarray]]]
Watch = Callable[[Layers], Layers]


def _read_layers(source: Path) -> Layers:
    """The layers of a file: those of a mapped file all at once, as views; those of HDF5 one after the
    other."""
    return iter_hdf5(source) if holds_hdf5(source) else read_weights(source).items()


def convert_weights(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    prototxt: str | os.PathLike[str] | None = None,
    watch: Watch = iter,
) -> None:
    """Write the weights in `source` to `target`, in the format that its suffix names.

    Parameters
    ----------
    source, target : path
        `.caffemodel` (any generation) or HDF5, in any combination.
    prototxt : path, optional
        The net that the weights belong to. An HDF5 file stores its text, so that `fcnlite.net.load` can
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
    text = to_text(read_net(Path(prototxt))) if prototxt is not None else read_deploy(source)
    if names_hdf5(target):
        write_hdf5(target, layers, text, read_notes(source))
    elif text is not None:
        write_caffemodel(target, layers, parse_net(text, f"{prototxt or source}"))
    else:
        net = None if is_hdf5(source) else read_definition(source)
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
