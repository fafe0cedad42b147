"""Weights of the classes in the loss, for data in which some classes are rare.

The loss of a pixel of class c is -w_c log p_c, and the mean is over the pixels that count:

    loss = sum_i w[label_i] * -log p_i[label_i] / N

That is Caffe's InfogainLoss with the weights on the diagonal of its matrix, read from a file in the run's folder, so
that Caffe trains the same net. `balanced` takes w_c = N / (C n_c) for n_c of N pixels and C classes that occur: each
class then has the same share of the loss, and the mean weight of a pixel is 1.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from fcnlite.data import Dataset
from fcnlite.data.files import read_lines
from fcnlite.errors import InputError, nearest
from fcnlite.io import atomic_path
from fcnlite.progress import progress_bar
from fcnlite.proto import BlobProto, NetParameter

BALANCED = "balanced"
CLASS_WEIGHTS = "class_weights.binaryproto"


def class_weights(given: str, dataset: Dataset) -> list[float]:
    """The weights that --class-weights names.

    Parameters
    ----------
    given : str
        "balanced", or a file with lines NAME,WEIGHT; classes it does not name have 1.
    dataset : Dataset
        The images to train on.
    """
    if list(dataset.heads) != ["label"]:
        raise InputError("--class-weights is for data sets with one label map a picture")
    return balanced(class_pixels(dataset)) if given == BALANCED else read_weights(given, dataset.classes)


def class_pixels(dataset: Dataset) -> np.ndarray:
    """Pixels of each class in all label maps of a data set: (C,) int64."""

    def count(name: str) -> np.ndarray:
        return np.bincount(dataset.load(name).label.ravel(), minlength=256)[: len(dataset.classes)]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = pool.map(count, dataset.names)
        bar = progress_bar(counts, total=len(dataset), desc="counting classes", unit="image", leave=False)
        return np.asarray(np.sum(list(bar), axis=0, dtype=np.int64))


def balanced(pixels: np.ndarray) -> list[float]:
    """w_c = N / (C n_c), 0 for a class without a pixel."""
    present = pixels > 0
    weights = np.zeros(len(pixels))
    weights[present] = pixels.sum() / (present.sum() * pixels[present])
    return [float(weight) for weight in weights]


def read_weights(path: str | os.PathLike[str], classes: Sequence[str]) -> list[float]:
    """The weights in a file of lines NAME,WEIGHT."""
    weights = dict.fromkeys(classes, 1.0)
    for number, line in enumerate(read_lines(Path(path)), 1):
        name, _, text = (part.strip() for part in line.rpartition(","))
        if name not in weights:
            raise InputError(f"{path}, line {number}: no class is called '{name}'{nearest(name, classes)}")
        try:
            weights[name] = float(text)
        except ValueError:
            weights[name] = -1.0
        if not 0 <= weights[name] < float("inf"):
            raise InputError(f"{path}, line {number}: {text!r} is not a weight of at least 0")
    if not any(weights.values()):
        raise InputError(f"{path}: every class has the weight 0")
    return list(weights.values())


def write_matrix(path: Path, weights: Sequence[float]) -> None:
    """Write the weights as InfogainLoss reads them: a matrix with them on its diagonal."""
    matrix = BlobProto(data=np.diag(weights).ravel().tolist())
    matrix.shape.dim.extend([len(weights)] * 2)
    with atomic_path(path) as temporary:
        temporary.write_bytes(matrix.SerializeToString())


def weigh_classes(param: NetParameter, path: Path) -> None:
    """Turn a net's SoftmaxWithLoss into InfogainLoss with the matrix in a file."""
    for layer in param.layer:
        if layer.type == "SoftmaxWithLoss":
            layer.type = "InfogainLoss"
            layer.infogain_loss_param.source = str(path.absolute())
