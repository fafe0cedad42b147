"""PASCAL VOC 2011 and 2012 segmentation, and any folder laid out like it.

Such a folder has ImageSets/Segmentation/SPLIT.txt, JPEGImages/ID.jpg, SegmentationClass/ID.png and, for classes of
one's own, a file classes.txt.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fcnlite.data import sbd
from fcnlite.data.classes import VOC as CLASSES
from fcnlite.data.dataset import IGNORE, Dataset, Sample
from fcnlite.data.files import (
    IMAGE_SUFFIXES,
    LABEL_SUFFIXES,
    Entry,
    Folder,
    missing_folder,
    read_entries,
    read_image,
    read_label,
    read_lines,
    read_list,
    same_size,
)
from fcnlite.errors import InputError, check_name

# The paper validates on 2011, so that year is taken where a folder has both and none was asked for.
YEARS = (2011, 2012)
HOW_TO_GET = (
    "fetch the data with `fcnlite download voc2012` (or from http://host.robots.ox.ac.uk/pascal/VOC/voc2012/) "
    "and name its folder with --data, or lay out images of your own likewise (JPEGImages, "
    "SegmentationClass, ImageSets/Segmentation); the demo needs no data: fcnlite train shapes"
)


def find_voc(folder: str | os.PathLike, year: int | None = None) -> Path:
    """The VOC year folder in or at `folder`.

    Parameters
    ----------
    folder : path
        The year folder itself (it has ImageSets/Segmentation), VOCdevkit, or what the archives unpack into.
    year : int, optional
        2011 or 2012 where both may lie there.

    Raises
    ------
    FileNotFoundError
        If it is not there: says where it looked and how to get the data.
    InputError
        If `folder` is another year's.
    """
    root = Path(folder)
    years = YEARS if year is None else (year,)
    places = [root]
    for devkit in (root, root / "VOCdevkit", root / "TrainVal" / "VOCdevkit"):
        places += [devkit / f"VOC{y}" for y in years]
    for place in places:
        if (place / "ImageSets" / "Segmentation").is_dir():
            named = re.fullmatch(r"VOC(20\d\d)", place.resolve().name)
            if year is not None and named and int(named[1]) != year:
                raise InputError(f"{place} is VOC {named[1]}, but VOC {year} was asked for")
            return place
    if not root.is_dir():
        raise FileNotFoundError(f"VOC data not found: there is no folder {root}; {HOW_TO_GET}")
    inside = ", ".join(str(place.relative_to(root)) for place in places[1:])
    raise missing_folder(
        "VOC data (a folder with ImageSets/Segmentation)", [f"{root} and its {inside}"], HOW_TO_GET
    )


def read_classes(path: str | os.PathLike) -> tuple[str, ...]:
    """Class names from a file with one a line, in label order, the background first.

    Raises
    ------
    InputError
        If there are none, more than 255, or one twice.
    """
    names = read_lines(Path(path))
    for name in names:
        check_name(name, f"{path}")
    if not 1 < len(names) <= IGNORE:
        raise InputError(
            f"{path} lists {len(names)} classes; a data set has 2 to {IGNORE}, the background first"
        )
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise InputError(f"{path} lists the class {twice!r} twice")
    return tuple(names)


class VOC(Dataset):
    """One split of a VOC folder.

    Parameters
    ----------
    folder : path
        As `find_voc` takes it.
    split : str
        A list in ImageSets/Segmentation (train, val, trainval, test), of ids, of file names or of two columns
        (see `read_entries`); or "seg11valid": the images of VOC 2011 val that are not in SBD's training set, on which
        the paper validates. A list of that name is used if the folder has one, else it is computed from both.
    year : int, optional
        2011 or 2012 where `folder` has both; 2011 if not given.
    sbd_folder : path, optional
        Where SBD lies, for seg11valid; by default it is looked for beside the VOC folder.
    labels : path, optional
        The folder of label pictures in place of SegmentationClass, such as SegmentationClassAug: one in `folder`,
        or any other. It comes before a list's second column.
    check : bool
        Look for every listed image and label now instead of failing when its turn comes.

    Raises
    ------
    FileNotFoundError
        If the folder, the list, or a listed file is missing.
    InputError
        If the list is empty or the year is another.

    Notes
    -----
    A split none of whose images has a label, as VOC's test, opens with `has_labels` False and void labels.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        split: str = "train",
        *,
        year: int | None = None,
        sbd_folder: str | os.PathLike | None = None,
        labels: str | os.PathLike | None = None,
        check: bool = True,
    ) -> None:
        self.folder = find_voc(folder, 2011 if split == "seg11valid" and year is None else year)
        self.split = split
        lists = self.folder / "ImageSets" / "Segmentation"
        path = lists / f"{split}.txt"
        if split == "seg11valid" and not path.is_file():
            entries = [
                Entry(name) for name in seg11valid(self.folder, _find_sbd(folder, self.folder, sbd_folder))
            ]
            path = lists / "val.txt"
        else:
            entries = read_entries(path)
        self.names = [entry.name for entry in entries]
        own = self.folder / "classes.txt"
        self.classes = read_classes(own) if own.is_file() else CLASSES
        self._images = _Files(self.folder, self.folder / "JPEGImages", IMAGE_SUFFIXES)
        self._images.named = {entry.name: entry.image for entry in entries if entry.image}
        truth = self.folder / "SegmentationClass" if labels is None else _find_labels(self.folder, labels)
        self._labels = _Files(self.folder, truth, LABEL_SUFFIXES)
        if labels is None:
            self._labels.named = {entry.name: entry.label for entry in entries if entry.label}
        # A test set's truth may be unpublished.
        self.has_labels = "test" not in split or any(map(self._labels.find, self.names))
        if check:
            self._images.require(self.names, "image", path)
            if self.has_labels:
                self._labels.require(self.names, "label", path)

    def load(self, name: str) -> Sample:
        image_path = self._images.path_of(name)
        image = read_image(image_path)
        if not self.has_labels:
            return Sample(name, image, np.full(image.shape[:2], self.ignore_label, np.uint8))
        label = self.label(name)
        same_size(image, label, image_path, self._labels.path_of(name))
        return Sample(name, image, label)

    def label(self, name: str) -> np.ndarray:
        return read_label(self._labels.path_of(name), len(self.classes), self.ignore_label)

    def label_path(self, name: str) -> Path | None:
        return self._labels.path_of(name) if self.has_labels else None

    def sized_by(self, name: str) -> Path | None:
        return self._images.path_of(name)


class _Files:
    """The images or the labels: files of a folder by id, unless a list of two columns names them.

    Attributes
    ----------
    named : dict of str to str
        Files by id, from the data set's folder.
    """

    def __init__(self, root: Path, folder: Path, suffixes: tuple[str, ...]) -> None:
        self.root, self.folder, self.suffixes = root, folder, suffixes
        self.named: dict[str, str] = {}
        self._inside: Folder | None = None

    def find(self, name: str) -> Path | None:
        """The file of an id, or None where there is none."""
        if name in self.named:
            path = self.root / self.named[name]
            return path if path.is_file() else None
        if self._inside is None:
            if not self.folder.is_dir():
                return None
            self._inside = Folder(self.folder, self.suffixes)
        return self._inside.find(name)

    def path_of(self, name: str) -> Path:
        """The file of an id; where there is none, the one that is missing."""
        missing = (
            self.root / self.named[name] if name in self.named else self.folder / (name + self.suffixes[0])
        )
        return self.find(name) or missing

    def require(self, names: Sequence[str], what: str, listed_in: object) -> None:
        """Raise FileNotFoundError for the first of `names` without a file; says how many more lack theirs."""
        if not self.named and not self.folder.is_dir():
            raise FileNotFoundError(f"data folder {self.folder} is missing")
        missing = [name for name in names if self.find(name) is None]
        if missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise FileNotFoundError(
                f"{what} {self.path_of(missing[0])} is missing{more}, though {listed_in} lists it"
            )


def _find_labels(folder: Path, labels: str | os.PathLike) -> Path:
    """The folder of labels that an option names: in the data set's folder, or anywhere."""
    for place in (folder / labels, Path(labels)):
        if place.is_dir():
            return place
    there = sorted(path.name for path in folder.iterdir() if path.is_dir())
    raise FileNotFoundError(f"there is no folder of labels {labels}, be it in {folder} ({', '.join(there)})")


def seg11valid(voc2011: str | os.PathLike, sbd_dataset: str | os.PathLike) -> list[str]:
    """Ids of VOC 2011 val that SBD's train does not have, in VOC's order (736 in the full data sets).

    Raises
    ------
    FileNotFoundError
        If one of the two lists is missing.
    InputError
        If nothing is left.
    """
    val = Path(voc2011) / "ImageSets" / "Segmentation" / "val.txt"
    train = Path(sbd_dataset) / "train.txt"
    trained_on = set(read_list(train))
    names = [name for name in read_list(val) if name not in trained_on]
    if not names:
        raise InputError(f"seg11valid is empty: every image of {val} is in {train}")
    return names


def _find_sbd(folder: str | os.PathLike, year_folder: Path, given: str | os.PathLike | None) -> Path:
    if given is not None:
        return sbd.find_sbd(given)
    for place in (Path(folder), *year_folder.resolve().parents[:3]):
        try:
            return sbd.find_sbd(place)
        except FileNotFoundError:
            continue
    raise FileNotFoundError(
        f"split seg11valid is VOC 2011 val minus SBD train, and SBD was not found beside {year_folder}; "
        "name its folder with --sbd, or put a list seg11valid.txt into ImageSets/Segmentation; "
        f"{sbd.HOW_TO_GET}"
    )
