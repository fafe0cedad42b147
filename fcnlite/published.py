"""Fetches the weights that the paper's authors published and turns them into HDF5 files ready to load."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from fcnlite import models
from fcnlite.convolutionalise import fresh
from fcnlite.data import MEAN_BGR, classes, nyud, siftflow
from fcnlite.data.notes import Notes
from fcnlite.errors import InputError
from fcnlite.io import read_weights, write_weights
from fcnlite.io.fetch import Remote
from fcnlite.io.fetch import fetch as fetch_file
from fcnlite.proto import to_text
from fcnlite.resources import cache_folder, weights_folder
from fcnlite.surgery import transplant


@dataclass(frozen=True)
class Published:
    """Weights as their authors published them; `sha1` and `bytes` are None where no one told."""

    name: str
    about: str
    url: str
    licence: str
    sha1: str | None = None
    bytes: int | None = None

    @property
    def file_name(self) -> str:
        """The published file's own name."""
        return PurePosixPath(urlsplit(self.url).path).name


@cache
def catalogue() -> dict[str, Published]:
    """All published weights, by the name of their net in `fcnlite.models`."""
    entries = json.loads((weights_folder() / "catalogue.json").read_text())
    return {name: Published(name, **entry) for name, entry in entries.items()}


def licence_of(path: str | os.PathLike[str]) -> str:
    """The licence of a file that is called as the authors' own; "" for any other."""
    name = Path(path).name
    return next((entry.licence for entry in catalogue().values() if entry.file_name == name), "")


def find(name: str) -> Published:
    """The weights published for a net.

    Raises
    ------
    InputError
        If there is no such net, or none of its weights were published.
    """
    net = models.canonical(name)
    if net not in catalogue():
        raise InputError(f"no weights of {net} were ever published; there are {', '.join(catalogue())}")
    return catalogue()[net]


def default_folder() -> Path:
    """Where downloads go unless told otherwise."""
    return cache_folder() / "weights"


def fetch(weights: Published, folder: Path, attempts: int = 3, pause: float = 1.0) -> Path:
    """Download a published file, or find it downloaded already; see `fcnlite.io.fetch.fetch`."""
    remote = Remote(weights.name, weights.url, weights.bytes, weights.sha1)
    return fetch_file(remote, folder, attempts, pause)


def convert(weights: Published, source: Path) -> Path:
    """Turn a published `.caffemodel` into an HDF5 file beside it that carries its net.

    Parameters
    ----------
    weights : Published
        Says which net it is.
    source : Path
        The downloaded file.

    Returns
    -------
    Path
        `NAME.h5`; every array has the shape that the net gives it.

    Raises
    ------
    InputError
        If the file is damaged, or lacks a layer of the net.
    """
    options = {"deploy": True} if "deploy" in models.CATALOGUE[weights.name].defaults() else {}
    net = models.build(weights.name, **options)
    params = fresh(net)
    report = transplant(params, read_weights(source))
    if report.untouched:
        raise InputError(f"{source}: has no parameters for {', '.join(report.untouched)} of {weights.name}")
    path = source.with_name(f"{weights.name}.h5")
    write_weights(path, params, net=net, deploy=to_text(net), notes=_notes(weights.name).to_json())
    return path


def _notes(name: str) -> Notes:
    """Class names, mean colour and background class of a published net."""
    scores: dict[str, Sequence[str]] = {}
    mean: Iterable[float] = MEAN_BGR
    background = None
    if name.startswith("siftflow"):
        scores = {"score_sem": classes.SIFTFLOW, "score_geo": classes.SIFTFLOW_GEOMETRIC}
        mean = siftflow.SIFTFlow.mean_bgr
    elif name.startswith("nyud"):
        scores = {"score": classes.NYUD}
        mean = nyud.MEAN_HHA if name == "nyud-fcn32s-hha" else nyud.MEAN_BGR
    elif name.startswith("pascalcontext"):
        scores, background = {"score": classes.PASCALCONTEXT}, 0
    elif "fcn" in name:
        scores, background = {"score": classes.VOC}, 0
    return Notes(
        scores, tuple(map(float, mean)), bgr=name != "nyud-fcn32s-hha", background=background, told=True
    )
