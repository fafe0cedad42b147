"""The paper's data sets as their authors published them: what to fetch, how to lay it out, and a look at the result."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from fcnlite.data.catalogue import SPLITS, open_dataset
from fcnlite.errors import InputError
from fcnlite.io.archive import unpack
from fcnlite.io.fetch import Remote, fetch
from fcnlite.resources import weights_folder

_ARCHIVES = (".tar", ".tgz", ".tar.gz", ".zip")


@dataclass(frozen=True)
class Part:
    """One published file of a data set.

    Attributes
    ----------
    url : str
    md5, sha1 : str or None
        Checksum in hexadecimal, where the authors or a widely used reader of the data published one.
    bytes : int or None
        Size, where known.
    into : str
        Folder of the data set that an archive is unpacked into.
    """

    url: str
    md5: str | None = None
    sha1: str | None = None
    bytes: int | None = None
    into: str = ""

    @property
    def is_archive(self) -> bool:
        """True if the file is to be unpacked."""
        return self.url.endswith(_ARCHIVES)

    def fetch(self, folder: Path) -> Path:
        """Download the file into a folder, or find it there (see `fcnlite.io.fetch`)."""
        name = PurePosixPath(urlsplit(self.url).path).name
        return fetch(Remote(name, self.url, self.bytes, self.sha1, self.md5), folder)


@dataclass(frozen=True)
class PublishedData:
    """A data set as it is published.

    Attributes
    ----------
    name, about, licence : str
    data_set : str
        Its name in `fcnlite.data.open_dataset`.
    files : tuple of Part
        Fetched in this order; those that are not archives are lists, which belong into the data set's folder.
    landmark : str
        A folder that lies directly in the data set's folder: archives differ in what they wrap around it.
    joined : dict of str to list of str
        Lists that are others one after another, where the authors did not publish them.
    """

    name: str
    about: str
    data_set: str
    licence: str
    files: tuple[Part, ...]
    landmark: str = ""
    joined: dict[str, list[str]] = field(default_factory=dict)


@cache
def catalogue() -> dict[str, PublishedData]:
    """All published data sets by name."""
    entries = json.loads((weights_folder() / "datasets.json").read_text(encoding="utf-8"))
    return {
        name: PublishedData(name, **{**entry, "files": tuple(Part(**part) for part in entry["files"])})
        for name, entry in entries.items()
    }


def install(data: PublishedData, folder: Path) -> Path:
    """Fetch a data set, unpack it and open it.

    Parameters
    ----------
    data : PublishedData
    folder : path
        The data set gets a folder of its own name in it. One that is there already is opened, and nothing is fetched.

    Returns
    -------
    Path
        The folder to name with `--data`.

    Raises
    ------
    InputError, FileNotFoundError
        A download failed, an archive is damaged, or the result is not the data set. What was fetched stays then, so
        that the same call goes on from there.
    """
    target = folder / data.name
    if not target.is_dir():
        parts = folder / f"{data.name}-download"
        files = [part.fetch(parts) for part in data.files]
        unpacked = parts / "unpacked"  # gets the data set's name only when every part is in it and it opens
        shutil.rmtree(unpacked, ignore_errors=True)
        _lay_out(data, files, unpacked)
        _check(data, _root(data, unpacked))
        unpacked.rename(target)
        shutil.rmtree(parts, ignore_errors=True)
    root = _root(data, target)
    _check(data, root)
    return root


def _lay_out(data: PublishedData, files: list[Path], folder: Path) -> None:
    """Unpack the archives, then put the lists where the data set's reader looks for them."""
    lists = []
    for part, file in zip(data.files, files, strict=True):
        if part.is_archive:
            unpack(file, folder / part.into)
        else:
            lists.append(file)
    root = _root(data, folder)
    for file in lists:
        shutil.copyfile(file, root / file.name)
    for name, pieces in data.joined.items():
        if not (root / name).exists():
            (root / name).write_text("".join((root / piece).read_text().rstrip() + "\n" for piece in pieces))


def _root(data: PublishedData, folder: Path) -> Path:
    """The folder that the data set's reader takes: the one with the landmark, the nearest to the top."""
    if not data.landmark:
        return folder
    found = sorted(
        (path for path in folder.rglob(data.landmark) if path.is_dir()), key=lambda p: len(p.parts)
    )
    if not found:
        raise InputError(
            f"{folder}: {data.name} holds no folder {data.landmark}; it is not the published one"
        )
    return found[0].parent


def _check(data: PublishedData, root: Path) -> None:
    """Open both splits and read the first and last image of each with its labels."""
    splits = SPLITS[data.data_set]
    for split in dict.fromkeys((splits.train, splits.evaluate)):
        dataset = open_dataset(data.data_set, root, split)
        for index in {0, len(dataset) - 1}:
            dataset[index]
