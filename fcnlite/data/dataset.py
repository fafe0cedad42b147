"""The base of the data sets: a sequence of samples (name, image, label map).

A data set also knows how each sample becomes the input blobs of a net.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, overload

import numpy as np

from fcnlite.errors import InputError

IGNORE = 255
# The training images' mean of the ILSVRC nets, as the original experiments give it.
MEAN_BGR = (104.00699, 116.66877, 122.67892)


@dataclass(frozen=True, eq=False)
class Sample:
    """One image with its truth.

    Attributes
    ----------
    name : str
        The id its data set lists it by.
    image : numpy.ndarray
        (H, W, 3) uint8 RGB.
    label : numpy.ndarray
        (H, W) uint8; all void where the split has no published truth.
    others : mapping of str to numpy.ndarray
        Further maps of a data set that has some (depth, hha, geo), each (H, W) or (H, W, C).
    """

    name: str
    image: np.ndarray
    label: np.ndarray
    others: Mapping[str, np.ndarray] = field(default_factory=lambda: MappingProxyType({}))


def preprocess(image: np.ndarray, mean_bgr: Any = MEAN_BGR, scale: float = 1.0) -> np.ndarray:
    """An image as the nets take it: float32, BGR, mean subtracted, scaled, channels first.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W, 3) uint8 RGB.
    mean_bgr : sequence of 3 floats, or numpy.ndarray
        Subtracted in the precision it comes in, then rounded to float32, as the original data layers do.
    scale : float
        Multiplied last.

    Returns
    -------
    numpy.ndarray
        (3, H, W) float32, contiguous.

    Raises
    ------
    InputError
        The mean has not three values.
    """
    planes = np.ascontiguousarray(image[:, :, ::-1].transpose(2, 0, 1), dtype=np.float32)
    mean = np.asarray(mean_bgr)
    if mean.size != 3:
        raise InputError(f"the mean colour has {mean.size} values; blue, green and red are needed")
    planes -= mean.reshape(3, 1, 1)
    if scale != 1:
        planes *= np.float32(scale)
    return planes


class Dataset(Sequence[Sample]):
    """A split of a data set on disk, in the order of its list.

    Subclasses set the attributes and implement `load`; those whose nets take other inputs than "data" and
    "label" override `heads` and `blobs`.

    Attributes
    ----------
    folder : pathlib.Path
        Where it lies.
    split : str
        The list in use.
    names : list of str
        Image ids in list order.
    classes : tuple of str
        Class names; a label value indexes it.
    mean_bgr : tuple or numpy.ndarray
        Subtracted by `blobs` from the image's blue, green and red.
    scale : float
        Multiplied by then.
    bgr : bool
        False where the channels of pictures are fed in their own order, as HHA's; so then is the mean.
    ignore_label : int
        The void label, 255.
    has_labels : bool
        False for a split whose truth is not published (the VOC test set).
    background : int or None
        The class that pictures leave untinted; None where every class is a thing to see.
    max_size : int
        Larger images are scaled down to so many pixels on their longer side; 0 for none.
    not_scored : tuple of int
        Classes that the data set's own evaluation leaves out of the means.
    """

    folder: Path
    split: str
    names: list[str]
    classes: tuple[str, ...]
    mean_bgr: Any = MEAN_BGR
    scale: float = 1.0
    bgr: bool = True
    ignore_label: int = IGNORE
    has_labels: bool = True
    background: int | None = 0
    max_size: int = 0
    not_scored: tuple[int, ...] = ()

    @abstractmethod
    def load(self, name: str) -> Sample:
        """The sample listed as `name`."""

    def label(self, name: str) -> np.ndarray:
        """The label map listed as `name`, (H, W) uint8, read without its image where that is possible."""
        return self.load(name).label

    def label_path(self, name: str) -> Path | None:
        """The picture that holds the label map listed as `name`; None where it is kept otherwise."""
        return None

    def sized_by(self, name: str) -> Path | None:
        """The picture that has, as it is stored, the size of the "data" and "label" listed as `name`; None if none."""
        return None

    @property
    def heads(self) -> dict[str, tuple[str, ...]]:
        """Class names of each label blob; one blob "label" unless a data set has several tasks."""
        return {"label": self.classes}

    def blobs(self, index: int) -> dict[str, np.ndarray]:
        """Net inputs of one sample: blob name to (C, H, W) float32, in the order of the data layer's tops."""
        sample = self[index]
        return {"data": preprocess(sample.image, self.mean_bgr, self.scale), "label": as_blob(sample.label)}

    def use_pixels(self, mean_bgr: Any, scale: float) -> None:
        """Let `blobs` subtract and multiply by these instead of the data set's own."""
        self.mean_bgr, self.scale = mean_bgr, scale

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self.load(name) for name in self.names[index]]
        return self.load(self.names[index])

    def __repr__(self) -> str:
        kind = f"{type(self).__name__}({str(self.folder)!r}, {self.split!r})"
        return f"{kind}: {len(self)} images, {len(self.classes)} classes"


def as_blob(label: np.ndarray) -> np.ndarray:
    """An (H, W) map as a (1, H, W) float32 blob."""
    return label[np.newaxis].astype(np.float32)
