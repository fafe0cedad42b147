"""NYUDv2 (Silberman et al., ECCV 2012) with the 40-class task of Gupta et al. (CVPR 2013).

It is read from the folder of the original FCN experiments or from the official labelled .mat file, and gives colour,
depth and HHA inputs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

from fcnlite.data import hha
from fcnlite.data.classes import NYUD as CLASSES
from fcnlite.data.dataset import Dataset, Sample, as_blob, preprocess
from fcnlite.data.files import Folder, check_label, missing_folder, read_image, read_list, same_size
from fcnlite.data.mat import read_matrix
from fcnlite.errors import InputError
from fcnlite.io.hdf5 import check_inside, member

MEAN_BGR = np.array((116.190, 97.203, 92.318), np.float32)
MEAN_HHA = np.array((132.431, 94.076, 118.477), np.float32)
MEAN_LOG_DEPTH = np.float32(7.844)
# The paper's four ways to use depth, as the tops of its data layer.
MODES = {
    "rgb": ("color", "label"),
    "rgbd": ("color", "depth", "label"),
    "hha": ("hha", "label"),
    "rgb-hha": ("color", "hha", "label"),
}
LABELLED = "nyu_depth_v2_labeled.mat"
HOW_TO_GET = (
    "fetch it with `fcnlite download nyud`, or get "
    "nyud.tar.gz as linked from data/nyud of github.com/shelhamer/fcn.berkeleyvision.org, or the "
    f"labelled data set {LABELLED} from https://cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html"
)
# The labelled file's variables; it may lack the last.
STORED = {"labels": np.unsignedinteger, "images": np.uint8, "depths": np.floating, "rawDepths": np.floating}
FIRST_ID = 5001  # Gupta et al. number the 1449 images from here


class Source(Protocol):
    """Where the maps of an image come from."""

    def require(self, names: Sequence[str], tops: Sequence[str], listed_in: object) -> None:
        """Raise for the first listed image that lacks a map."""

    def color(self, name: str) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""

    def depth(self, name: str) -> np.ndarray:
        """(H, W) float32, millimetres."""

    def hha(self, name: str) -> np.ndarray:
        """(H, W, 3) uint8."""

    def label(self, name: str) -> np.ndarray:
        """(H, W) uint8, 0 void, 1 .. 40 classes."""

    def place(self, top: str, name: str) -> str:
        """Name a map in an error."""


class NYUD(Dataset):
    """One split of NYUDv2.

    Parameters
    ----------
    folder : path
        Either in the layout of the original experiments (SPLIT.txt, data/images/img_ID.png,
        data/hha/img_ID.png, data/depth/img_ID.png in millimetres, segmentation/img_ID.mat), or with the
        official nyu_depth_v2_labeled.mat, a class mapping, and SPLIT.txt or splits.mat.
    split : str
        train, val, trainval or test; of splits.mat, train and trainval are its training images.
    tops : sequence of str
        What the net reads, of color, depth, hha and label, as in the original data layer; see `MODES`.
    mapping : path, optional
        For the labelled .mat: the file that maps its 894 classes to 40, classMapping40.mat (variable
        mapClass) or text with the 894 numbers; by default classMapping40.mat in the folder.
    check : bool
        Look for every listed file now.

    Notes
    -----
    Labels are 0 .. 39, void 255. Blobs: "data" where one map enters, else named color, depth, hha; depth is
    log(millimetres) minus 7.844, and 0 where depth is unknown. HHA is computed from depth where the folder
    has none. Samples carry depth and hha, where the tops have them, in `others`.
    """

    mean_bgr: Any = MEAN_BGR
    background = None

    def __init__(
        self,
        folder: str | os.PathLike,
        split: str = "trainval",
        *,
        tops: Sequence[str] = MODES["rgb"],
        mapping: str | os.PathLike | None = None,
        check: bool = True,
    ) -> None:
        _check_tops(tops)
        self.folder = Path(folder)
        self.split = split
        self.tops = tuple(tops)
        self.classes = CLASSES
        if set(tops) - {"label"} == {"hha"}:
            self.mean_bgr, self.bgr = MEAN_HHA, False
        self._source: Source
        path = self.folder / f"{split}.txt"
        labelled = self.folder if self.folder.is_file() else self.folder / LABELLED
        if labelled.is_file():
            self.folder = labelled.parent
            path = self.folder / f"{split}.txt"
            self._source = LabelledFile(
                labelled, self.folder / "classMapping40.mat" if mapping is None else mapping
            )
            if not path.is_file():
                path = self.folder / "splits.mat"
                self.names = _official_split(path, split)
            else:
                self.names = read_list(path)
        elif (self.folder / "segmentation").is_dir():
            self._source = Files(self.folder, self.tops)
            self.names = read_list(path)
        else:
            raise missing_folder(
                "NYUDv2 data", [self.folder / "segmentation", self.folder / LABELLED], HOW_TO_GET
            )
        if check:
            self._source.require(self.names, self.tops, path)

    def load(self, name: str) -> Sample:
        image = self._source.color(name)
        raw = check_label(self._source.label(name), self._source.place("label", name), 41, 0)
        label = raw - np.uint8(1)  # void 0 becomes 255
        same_size(image, label, self._source.place("color", name), self._source.place("label", name))
        others = {top: getattr(self._source, top)(name) for top in self.tops if top in ("depth", "hha")}
        for top, held in others.items():
            same_size(image, held, self._source.place("color", name), self._source.place(top, name))
        return Sample(name, image, label, others)

    def blobs(self, index: int) -> dict[str, np.ndarray]:
        sample = self[index]
        made = {top: self._blob(top, sample) for top in self.tops}
        inputs = [top for top in self.tops if top != "label"]
        return {"data" if [top] == inputs else top: blob for top, blob in made.items()}

    def _blob(self, top: str, sample: Sample) -> np.ndarray:
        if top == "label":
            return as_blob(sample.label)
        if top == "color":
            return preprocess(sample.image, self.mean_bgr, self.scale)
        if top == "depth":
            return log_depth(sample.others["depth"])[np.newaxis]
        mean = MEAN_HHA if self.bgr else self.mean_bgr
        return preprocess(sample.others["hha"][:, :, ::-1], mean, self.scale)  # HHA has no colours to swap


def log_depth(depth: np.ndarray) -> np.ndarray:
    """(H, W) float32 log of millimetres minus its mean; unknown depth (0) becomes 0, the mean."""
    known = depth > 0
    return np.where(known, np.log(np.where(known, depth, 1).astype(np.float32)) - MEAN_LOG_DEPTH, 0).astype(
        np.float32
    )


class Files:
    """The folder of the original experiments."""

    def __init__(self, folder: Path, tops: Sequence[str]) -> None:
        self._folders = {
            "color": Folder(folder / "data" / "images", (".png",)),
            "label": Folder(folder / "segmentation", (".mat",)),
        }
        has_hha = (folder / "data" / "hha").is_dir()
        if "hha" in tops and has_hha:
            self._folders["hha"] = Folder(folder / "data" / "hha", (".png",))
        if "depth" in tops or ("hha" in tops and not has_hha):
            self._folders["depth"] = Folder(folder / "data" / "depth", (".png",))

    def require(self, names: Sequence[str], tops: Sequence[str], listed_in: object) -> None:
        for top, folder in self._folders.items():
            folder.require([f"img_{name}" for name in names], top, listed_in)

    def color(self, name: str) -> np.ndarray:
        return read_image(self.place("color", name))

    def depth(self, name: str) -> np.ndarray:
        return hha.read_depth(self.place("depth", name))

    def hha(self, name: str) -> np.ndarray:
        if "hha" in self._folders:
            return read_image(self.place("hha", name))
        return _encode(self.depth(name), None, self.place("depth", name))

    def label(self, name: str) -> np.ndarray:
        return read_matrix(self.place("label", name), "segmentation")

    def place(self, top: str, name: str) -> str:
        folder = self._folders.get(top, self._folders.get("depth", self._folders["color"]))
        return str(folder.path / f"img_{name}{folder.suffixes[0]}")


class LabelledFile:
    """The official labelled data set: one HDF5 file of MATLAB arrays, thus with all axes reversed.

    Images of 640 x 480 are cut to the 561 x 427 that the projection of depth covers, as the toolbox does.
    """

    def __init__(self, path: Path, mapping: str | os.PathLike) -> None:
        self._path = path
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise InputError(f"cannot read {path} as a MATLAB 7.3 (HDF5) file: {error}") from None
        self._check()
        self._to_40 = read_class_mapping(mapping)

    def _check(self) -> None:
        """Refuse a file whose variables are not the data set's: of each, a map for every image."""
        size = getattr(member(self._file, "labels"), "shape", ())
        for key, kind in STORED.items():
            held = member(self._file, key)
            if held is None and key == "rawDepths":
                continue
            if isinstance(held, h5py.Dataset):
                check_inside(held)
            shape = (*size[:1], 3, *size[1:]) if key == "images" else size
            fits = len(size) == 3 and getattr(held, "shape", None) == shape
            if held is None or not fits or not np.issubdtype(held.dtype, kind):
                wrong = "no variable" if held is None else f"no map of {kind.__name__} for each image in"
                raise InputError(f"{self._path} is not NYUDv2's labelled data set: it has {wrong} {key}")

    def require(self, names: Sequence[str], tops: Sequence[str], listed_in: object) -> None:
        for name in names:
            self._index(name, listed_in)

    def color(self, name: str) -> np.ndarray:
        return np.ascontiguousarray(self._read("images", name).transpose(1, 2, 0))

    def depth(self, name: str) -> np.ndarray:
        return (1000 * self._read("depths", name)).astype(np.float32)

    def hha(self, name: str) -> np.ndarray:
        missing = self._read("rawDepths", name) == 0 if "rawDepths" in self._file else None
        return _encode(self.depth(name), missing, self.place("depth", name))

    def label(self, name: str) -> np.ndarray:
        fine = self._read("labels", name).astype(np.int64)
        if fine.max(initial=0) >= len(self._to_40):
            raise InputError(
                f"{self.place('label', name)} has class {fine.max()}, "
                f"but the class mapping ends at {len(self._to_40) - 1}"
            )
        return self._to_40[fine]

    def place(self, top: str, name: str) -> str:
        return f"{self._path} ({top} of image {name})"

    def _index(self, name: str, listed_in: object = "the list") -> int:
        count = len(self._file["images"])
        number = int(name) if name.isdecimal() else 0
        # Lists count from 1, or from 5001 as Gupta et al. do.
        index = number - FIRST_ID if number >= FIRST_ID else number - 1
        if not 0 <= index < count:
            raise InputError(f"{listed_in} lists image {name}, but {self._path} holds {count} images")
        return index

    def _read(self, key: str, name: str) -> np.ndarray:
        index = self._index(name)
        try:
            held = np.swapaxes(self._file[key][index], -1, -2)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"{self._path} is damaged: {key} of image {name} cannot be read ({error})"
            ) from None
        if held.shape[-2:] == (480, 640):
            return held[..., 44:471, 40:601]
        return held


def read_class_mapping(path: str | os.PathLike) -> np.ndarray:
    """The mapping of NYUDv2's 894 fine classes to 40, (895,) uint8 indexed by fine class, 0 void.

    Parameters
    ----------
    path : path
        classMapping40.mat (variable mapClass, 1 x 894), or a text file with the 894 numbers.

    Raises
    ------
    FileNotFoundError, InputError
        If it is missing, or no such mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"the mapping of NYUDv2's 894 classes to 40 is missing: {path}; it is classMapping40.mat of "
            "github.com/ankurhanda/nyuv2-meta-data, or any text file with the 894 numbers (option mapping)"
        )
    if path.suffix == ".mat":
        numbers: Any = read_matrix(path, "mapClass").ravel()
    else:
        try:
            numbers = np.array(path.read_text(encoding="utf-8").replace(",", " ").split(), dtype=np.float64)
        except ValueError as error:
            raise InputError(f"class mapping {path} holds more than numbers: {error}") from None
    numbers = check_label(np.atleast_2d(numbers), path, 41, 0).ravel()
    if not numbers.any():
        raise InputError(f"class mapping {path} maps every class to void")
    return np.concatenate([np.zeros(1, np.uint8), numbers])


def _official_split(path: Path, split: str) -> list[str]:
    variables = {"train": "trainNdxs", "trainval": "trainNdxs", "test": "testNdxs"}
    if split not in variables:
        raise InputError(f"splits.mat has the splits train, trainval and test, not {split}")
    if not path.is_file():
        raise FileNotFoundError(
            f"neither {path} nor {path.parent / f'{split}.txt'} is there to list split {split}"
        )
    numbers = read_matrix(path, variables[split]).ravel()
    if not numbers.size:
        raise InputError(f"{path}: {variables[split]} is empty: no image to load")
    return [str(int(number)) for number in numbers]


def _check_tops(tops: Sequence[str]) -> None:
    if isinstance(tops, str) or not isinstance(tops, Sequence):
        raise InputError(f"tops is {tops!r}, not a list of maps such as ['color', 'label']")
    for top in tops:
        if top not in ("color", "depth", "hha", "label"):
            raise InputError(f"NYUDv2 has no map {top!r}; it has color, depth, hha and label")
    if not set(tops) - {"label"} or len(set(tops)) != len(tops):
        raise InputError(
            f"tops {', '.join(tops)} must be different and name at least one of color, depth, hha"
        )


def _encode(depth: np.ndarray, missing: np.ndarray | None, place: str) -> np.ndarray:
    try:
        return hha.encode(depth / 1000, missing=missing)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None
