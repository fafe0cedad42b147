"""Fetches the weights that the paper's authors published and turns them into HDF5 files ready to load."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import pooch
import requests
from tqdm import tqdm

from fcnlite import models
from fcnlite.convolutionalise import fresh
from fcnlite.data import MEAN_BGR, classes, nyud, siftflow
from fcnlite.data.notes import Notes
from fcnlite.errors import InputError
from fcnlite.io import read_weights, write_weights
from fcnlite.proto import to_text
from fcnlite.resources import cache_folder, weights_folder
from fcnlite.surgery import transplant

_CHUNK = 1 << 16  # what an interruption can lose
_TIMEOUT = 30  # seconds without a byte
_INTERRUPTIONS = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


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
    """All published weights, by the name of their net in :mod:`fcnlite.models`."""
    entries = json.loads((weights_folder() / "catalogue.json").read_text())
    return {name: Published(name, **entry) for name, entry in entries.items()}


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
    """Download a published file, or find it downloaded already.

    A file appears under its name only when it is complete and its checksum, if one is known, is right. An
    interrupted transfer goes on from where it stopped.

    Parameters
    ----------
    weights : Published
    folder : Path
        Made if it is missing.
    attempts : int
        How often in a row a connection may fail without bringing anything.
    pause : float
        Seconds before the second attempt; each further one waits twice as long.

    Raises
    ------
    InputError
        In one line: no network, no such file on the server, a wrong checksum, a folder not to be written.
    """
    by_hand = f"or fetch {weights.url} yourself, put it in {folder} and run this again"
    try:
        path = pooch.retrieve(
            weights.url,
            known_hash=f"sha1:{weights.sha1}" if weights.sha1 else None,
            fname=weights.file_name,
            path=folder,
            downloader=_Download(weights, attempts, pause),
        )
    except requests.HTTPError as error:
        answer = f"{error.response.status_code} {error.response.reason}"
        raise InputError(f"{weights.name}: the server answers {answer} for {weights.url}") from error
    except requests.RequestException as error:
        host = urlsplit(weights.url).netloc
        raise InputError(
            f"{weights.name}: cannot download from {host} ({_reason(error)}); check the network, {by_hand}"
        ) from error
    except InputError:
        raise
    except ValueError as error:  # how pooch says that a checksum is wrong
        raise InputError(
            f"{weights.name}: what {weights.url} sends has not the published checksum (sha1 {weights.sha1}): "
            f"it is damaged or has been changed, and was not kept"
        ) from error
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error}); try --to DIR") from error
    return Path(path)


class _Download:
    """Pooch's hook for transfers: one that survives interruptions and shows how far it is."""

    def __init__(self, weights: Published, attempts: int, pause: float):
        self.weights, self.attempts, self.pause = weights, attempts, pause
        self.version = ""  # what the server calls this state of the file: no other may be continued

    def __call__(self, url: str, output_file: str, _pooch: Any, check_only: bool = False) -> None:
        failures = 0
        bar = tqdm(
            desc=self.weights.name,
            total=self.weights.bytes,
            unit="B",
            unit_scale=True,
            leave=False,
            disable=None,
        )
        with open(output_file, "wb") as file, bar:
            while True:
                before = file.tell()
                try:
                    return self._transfer(url, file, bar)
                except _INTERRUPTIONS:
                    failures = 1 if file.tell() > before else failures + 1
                    if failures >= self.attempts:
                        raise
                    time.sleep(self.pause * 2 ** (failures - 1))

    def _transfer(self, url: str, file: BinaryIO, bar: Any) -> None:
        """Fetch what is still missing, or all of it where the server cannot or should not continue."""
        headers = {"Accept-Encoding": "identity"}  # or the length announced would be that of something else
        begin = file.tell() if self.version else 0
        if begin:
            headers |= {"Range": f"bytes={begin}-", "If-Range": self.version}
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if response.status_code >= 500:
                raise requests.ConnectionError(f"the server answers {response.status_code} {response.reason}")
            response.raise_for_status()
            if not response.headers.get("Content-Range", "").startswith(f"bytes {begin}-"):
                begin = 0
            file.seek(begin)
            file.truncate()
            self.version = _version(response)
            length = response.headers.get("Content-Length")
            total = None if length is None else begin + int(length)
            self._check(response, total)
            bar.reset(total)
            bar.update(begin)
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
        if total is not None and file.tell() < total:
            raise requests.ConnectionError(f"cut off after {file.tell()} of {total} bytes")

    def _check(self, response: requests.Response, total: int | None) -> None:
        """Refuse at once what cannot be the file, such as a provider's page of its own."""
        url = self.weights.url
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise InputError(f"{self.weights.name}: {url} is a web page now: not the published file")
        if None not in (total, self.weights.bytes) and total != self.weights.bytes:
            raise InputError(
                f"{self.weights.name}: {url} is {total} bytes long instead of {self.weights.bytes}: "
                "not the published file"
            )


def _version(response: requests.Response) -> str:
    """What If-Range takes: a strong ETag or the date of the last change; empty without either."""
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


def _reason(error: BaseException) -> str:
    """The innermost cause of a failed request: requests wraps it several times over."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return getattr(error, "strerror", None) or str(error).splitlines()[0] or type(error).__name__


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
    return Notes(scores, tuple(map(float, mean)), background)
