"""The Semantic Boundaries Dataset (Hariharan et al., ICCV 2011): more images of PASCAL VOC with its classes.

The paper trains on 8498 of them. Labels are MATLAB structs, one file an image.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fcnlite.data.classes import VOC as CLASSES
from fcnlite.data.dataset import Dataset, Sample
from fcnlite.data.files import Folder, check_label, missing_folder, read_image, read_list, same_size
from fcnlite.data.mat import read_matrix

HOW_TO_GET = (
    "SBD: `fcnlite download sbd`, or benchmark.tgz from "
    "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/ and unpack it"
)


def find_sbd(folder: str | os.PathLike) -> Path:
    """SBD's `dataset` folder (with img/ and cls/): `folder` itself, or inside it or its benchmark_RELEASE.

    Raises
    ------
    FileNotFoundError
        If it is not there: says where it looked and how to get the data.
    """
    root = Path(folder)
    places = [root, root / "dataset", root / "benchmark_RELEASE" / "dataset"]
    places += [
        root / name / sub
        for name in ("sbd", "sbdd", "SBD")
        for sub in ("", "dataset", "benchmark_RELEASE/dataset")
    ]
    for place in places:
        if (place / "cls").is_dir() and (place / "img").is_dir():
            return place
    inside = ", ".join(str(place.relative_to(root)) for place in places[1:])
    raise missing_folder("SBD data (a folder with img and cls)", [f"{root} and its {inside}"], HOW_TO_GET)


class SBD(Dataset):
    """One split of SBD.

    Parameters
    ----------
    folder : path
        As `find_sbd` takes it.
    split : str
        A list in it: train, val, or one of one's own.
    check : bool
        Look for every listed image and label now instead of failing when its turn comes.

    Raises
    ------
    FileNotFoundError
        If the folder, the list, or a listed file is missing.
    InputError
        If the list is empty.
    """

    def __init__(self, folder: str | os.PathLike, split: str = "train", *, check: bool = True) -> None:
        self.folder = find_sbd(folder)
        self.split = split
        self.classes = CLASSES
        path = self.folder / f"{split}.txt"
        self.names = read_list(path)
        self._images = Folder(self.folder / "img", (".jpg",))
        self._labels = Folder(self.folder / "cls", (".mat",))
        if check:
            self._images.require(self.names, "image", path)
            self._labels.require(self.names, "label", path)

    def load(self, name: str) -> Sample:
        image_path = self.sized_by(name)
        label_path = self._labels.path / f"{name}.mat"
        image = read_image(image_path)
        label = check_label(read_segmentation(label_path), label_path, len(self.classes), self.ignore_label)
        same_size(image, label, image_path, label_path)
        return Sample(name, image, label)

    def sized_by(self, name: str) -> Path:
        return self._images.path / f"{name}.jpg"


def read_segmentation(path: str | os.PathLike) -> np.ndarray:
    """The map in field Segmentation of struct GTcls of an SBD label file: (H, W) uint8.

    Raises
    ------
    InputError
        The file is not a MATLAB file, or lacks the field.
    """
    return read_matrix(path, "GTcls", "Segmentation")
