"""PASCAL-Context (Mottaghi et al., CVPR 2014): the images of VOC 2010 labelled in full with 459 classes.

The 59 most frequent classes are learned; all others are background.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fcnlite.data.classes import PASCALCONTEXT
from fcnlite.data.dataset import Dataset, Sample
from fcnlite.data.files import Folder, missing_folder, read_image, read_list, read_text, same_size
from fcnlite.data.mat import read_matrix
from fcnlite.errors import InputError

# Three classes of the 59 go by other names among the 459.
RAW_NAMES = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}
HOW_TO_GET = (
    "fetch it with `fcnlite download pascalcontext`, or get "
    "VOC 2010 (training/validation data) from http://host.robots.ox.ac.uk/pascal/VOC/voc2010/ and the "
    "annotations with labels.txt from https://cs.stanford.edu/~roozbeh/pascal-context/"
)


class PASCALContext(Dataset):
    """One split of PASCAL-Context's 59-class task.

    Parameters
    ----------
    folder : path
        Folder that holds VOC2010 (or VOCdevkit/VOC2010), or VOC2010 itself.
    split : str
        A list in VOC2010/ImageSets/Main: train, val, trainval.
    context_folder : path, optional
        Folder of the annotations: labels.txt, trainval/ID.mat, and perhaps 59_labels.txt; looked for in
        `folder` and its pascal-context by default.
    check : bool
        Look for every listed file now.

    Notes
    -----
    Labels are 0 (background: every class that is not learned) to 59; there is no void. The order of the 59 is
    that of 59_labels.txt or, without that file, the published one.
    """

    mean_bgr = np.array((104.007, 116.669, 122.679), np.float32)

    def __init__(
        self,
        folder: str | os.PathLike,
        split: str = "train",
        *,
        context_folder: str | os.PathLike | None = None,
        check: bool = True,
    ) -> None:
        self.folder = _find_voc2010(Path(folder))
        self.split = split
        self.context_folder = _find_context(Path(folder), self.folder, context_folder)
        own = self.context_folder / "59_labels.txt"
        self.classes = _task_classes(own) if own.is_file() else PASCALCONTEXT
        self._raw_to_task = self._map_classes(self.context_folder / "labels.txt")
        path = self.folder / "ImageSets" / "Main" / f"{split}.txt"
        self.names = read_list(path)
        self._images = Folder(self.folder / "JPEGImages", (".jpg",))
        self._labels = Folder(self.context_folder / "trainval", (".mat",))
        if check:
            self._images.require(self.names, "image", path)
            self._labels.require(self.names, "label", path)

    def load(self, name: str) -> Sample:
        image_path = self._images.path / f"{name}.jpg"
        label_path = self._labels.path / f"{name}.mat"
        image = read_image(image_path)
        raw = read_matrix(label_path, "LabelMap")
        same_size(image, raw, image_path, label_path)
        known = (raw >= 0) & (raw < len(self._raw_to_task))
        if not known.all():
            raise InputError(
                f"label {label_path} holds the value {raw[~known][0]}; "
                f"{self.context_folder / 'labels.txt'} ends at {len(self._raw_to_task) - 1}"
            )
        return Sample(name, image, self._raw_to_task[raw.astype(np.int64)])

    def _map_classes(self, path: Path) -> np.ndarray:
        """Task label of each raw label, uint8."""
        raw = _numbered(path)
        mapped = np.zeros(max(raw.values()) + 1, np.uint8)
        for label, name in enumerate(self.classes[1:], start=1):
            number = raw.get(RAW_NAMES.get(name, name))
            if number is None:
                raise InputError(f"{path} does not list {RAW_NAMES.get(name, name)}, one of the 59 classes")
            mapped[number] = label
        return mapped


def _numbered(path: Path) -> dict[str, int]:
    """Numbers by name from lines "12: name with blanks", blanks taken out of the names."""
    numbers = {}
    for at, line in enumerate(read_text(path).splitlines(), start=1):
        number, colon, name = line.partition(":")
        if not line.strip():
            continue
        if not colon or not number.strip().isdecimal():
            raise InputError(f"{path}:{at}: expected 'number: class name', not {line.strip()!r}")
        numbers[name.replace(" ", "").strip()] = int(number)
    if not numbers:
        raise InputError(f"{path} lists no classes")
    return numbers


def _task_classes(path: Path) -> tuple[str, ...]:
    names = [name for name in _numbered(path) if name != "background"]
    if len(names) != 59:
        raise InputError(f"{path} lists {len(names)} classes instead of 59")
    return ("background", *names)


def _find_voc2010(root: Path) -> Path:
    places = [root / "VOC2010", root / "VOCdevkit" / "VOC2010", root]
    for place in places:
        if (place / "ImageSets" / "Main").is_dir():
            return place
    raise missing_folder("VOC 2010 (a folder with ImageSets/Main) for PASCAL-Context", places, HOW_TO_GET)


def _find_context(root: Path, voc: Path, given: str | os.PathLike | None) -> Path:
    near = [
        root,
        root / "pascal-context",
        voc.parent,
        voc.parent / "pascal-context",
        voc.parent.parent / "pascal-context",
    ]
    places = near if given is None else [Path(given)]
    for place in places:
        if (place / "labels.txt").is_file() and (place / "trainval").is_dir():
            return place
    raise missing_folder("PASCAL-Context's labels.txt and trainval", places, HOW_TO_GET)
