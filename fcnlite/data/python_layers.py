"""The data layers of the original FCN experiments, which their prototxts name as Caffe Python layers.

The data sets here serve them: same parameters, same order, same blobs.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fcnlite.data.batches import Batches
from fcnlite.data.dataset import Dataset
from fcnlite.data.nyud import NYUD
from fcnlite.data.pascalcontext import PASCALContext
from fcnlite.data.sbd import SBD
from fcnlite.data.siftflow import SIFTFlow
from fcnlite.data.voc import VOC
from fcnlite.errors import InputError

Open = Callable[[Mapping[str, Any], Callable[[str], Path]], Dataset]


class DataLayer(NamedTuple):
    """One of them: its module, the parameters it cannot do without, and what opens its data."""

    module: str
    needed: tuple[str, ...]
    opened: Open


LAYERS = {
    "VOCSegDataLayer": DataLayer(
        "voc_layers",
        ("voc_dir", "split", "mean"),
        lambda given, at: VOC(at("voc_dir"), given["split"]),
    ),
    "SBDDSegDataLayer": DataLayer(
        "voc_layers",
        ("sbdd_dir", "split", "mean"),
        lambda given, at: SBD(at("sbdd_dir"), given["split"]),
    ),
    "NYUDSegDataLayer": DataLayer(
        "nyud_layers",
        ("nyud_dir", "split", "tops"),
        lambda given, at: NYUD(at("nyud_dir"), given["split"], tops=given["tops"]),
    ),
    "SIFTFlowSegDataLayer": DataLayer(
        "siftflow_layers",
        ("siftflow_dir", "split"),
        lambda given, at: SIFTFlow(at("siftflow_dir"), given["split"]),
    ),
    "PASCALContextSegDataLayer": DataLayer(
        "pascalcontext_layers",
        ("voc_dir", "context_dir", "split"),
        lambda given, at: PASCALContext(at("voc_dir"), given["split"], context_folder=at("context_dir")),
    ),
}


def is_data_layer(module: str, layer: str) -> bool:
    """Tell whether a Python layer of this module and class name is one of the original experiments' data layers."""
    return layer in LAYERS and LAYERS[layer].module == module


def open_data_layer(
    layer: str, param_str: str, tops: Sequence[str], folder: str | os.PathLike = ".", position: int = 0
) -> Batches:
    """Open the batches that a data layer of the original experiments feeds, forward by forward.

    Parameters
    ----------
    layer : str
        Its class name, `python_param.layer`.
    param_str : str
        Its `python_param.param_str`: a Python literal of a dict. It is parsed, never evaluated.
    tops : sequence of str
        The layer's top blobs, in order; the batches go by these names.
    folder : path
        The prototxt's folder: relative paths in the parameters start in the working folder, as in Caffe, or,
        failing that, here.
    position : int
        Forwards already done, when resuming.

    Returns
    -------
    Batches
        Its `dataset` has the classes and all else.

    Raises
    ------
    InputError
        If the layer is none of these, its parameters are wrong, or the number of tops is.
    FileNotFoundError
        If the data is missing.
    """
    if layer not in LAYERS:
        raise InputError(f"{layer} is none of the FCN data layers {', '.join(LAYERS)}")
    given = _parameters(layer, param_str, LAYERS[layer].needed)

    def at(name: str) -> Path:
        path = Path(str(given[name]))
        beside = Path(folder) / path
        return path if path.exists() or not beside.exists() else beside

    dataset = LAYERS[layer].opened(given, at)
    if "mean" in given:
        dataset.mean_bgr = _mean(layer, given["mean"])
    return Batches(
        dataset,
        randomize=bool(given.get("randomize", True)),
        seed=given.get("seed"),
        position=position,
        names=tops,
    )


def _parameters(layer: str, text: str, needed: Sequence[str]) -> Mapping[str, Any]:
    try:
        given = ast.literal_eval(text.strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise InputError(f"param_str of {layer} is not a Python literal: {text[:80]!r}") from None
    if not isinstance(given, dict):
        raise InputError(f"param_str of {layer} is not a dict: {text[:80]!r}")
    for name in needed:
        if name not in given:
            raise InputError(f"param_str of {layer} lacks {name!r}")
    if not isinstance(given["split"], str):
        raise InputError(f"param_str of {layer}: split is {given['split']!r}, not a name")
    seed = given.get("seed")
    if seed is not None and not isinstance(seed, int):
        raise InputError(f"param_str of {layer}: seed is {seed!r}, not a whole number")
    return given


def _mean(layer: str, mean: object) -> np.ndarray:
    try:
        values = np.asarray(mean, np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != (3,):
        raise InputError(f"param_str of {layer}: mean is {mean!r}, not three numbers")
    return values
