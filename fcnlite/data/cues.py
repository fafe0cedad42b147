"""A data set whose images are masked by their own labels (PAMI 2016, section 6, "Cues").

The masks leave foreground, background or shape, and so ask which of them a net goes by.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fcnlite.data.dataset import Dataset, Sample, preprocess
from fcnlite.errors import InputError

HIDE = ("nothing", "foreground", "background", "both")


class Masked(Dataset):
    """Another data set's samples with part of each image hidden, scored without the background class.

    Parameters
    ----------
    dataset : Dataset
        One with an image, "data", a label map, "label", and a background.
    hide : str
        "foreground": only background pixels are shown; "background": only those of objects; "both": no image
        but the objects' shape, white on black; "nothing": the image as it is. Void pixels are neither.

    Raises
    ------
    InputError
        The data set has no such blobs, no background or no labels.

    Notes
    -----
    Hidden pixels have the mean colour, 0 in the net's input. As in the paper's table 8, the means leave the
    background class out (`not_scored`).
    """

    def __init__(self, dataset: Dataset, hide: str) -> None:
        if hide not in HIDE:
            raise InputError(f"cannot hide {hide!r}; choose {', '.join(HIDE)}")
        if list(dataset.heads) != ["label"] or dataset.background is None or not dataset.has_labels:
            raise InputError(
                f"{dataset.folder} ({dataset.split}) has no labels that tell objects from a background"
            )
        self.dataset, self.hide = dataset, hide
        self.folder: Path = dataset.folder
        self.split = dataset.split
        self.names = dataset.names
        self.classes = dataset.classes
        self.mean_bgr, self.scale = dataset.mean_bgr, dataset.scale
        self.ignore_label = dataset.ignore_label
        self.background = dataset.background
        self.not_scored = (dataset.background,)

    def shown(self, label: np.ndarray) -> np.ndarray:
        """Which pixels of an (H, W) label map are not hidden."""
        objects = (label != self.background) & (label != self.ignore_label)
        if self.hide == "both":
            return np.zeros(label.shape, bool)
        return {
            "nothing": np.ones(label.shape, bool),
            "background": objects,
            "foreground": label == self.background,
        }[self.hide]

    def load(self, name: str) -> Sample:
        sample = self.dataset.load(name)
        return Sample(name, self._masked(sample.image, sample.label), sample.label, sample.others)

    def label(self, name: str) -> np.ndarray:
        return self.dataset.label(name)

    def label_path(self, name: str) -> Path | None:
        return self.dataset.label_path(name)

    def blobs(self, index: int) -> dict[str, np.ndarray]:
        blobs = self.dataset.blobs(index)
        if self.hide == "both":
            label = blobs["label"][0]
            return blobs | {"data": preprocess(self._shape(label), self.mean_bgr, self.scale)}
        return blobs | {"data": blobs["data"] * self.shown(blobs["label"][0])}

    def use_pixels(self, mean_bgr: Any, scale: float) -> None:
        super().use_pixels(mean_bgr, scale)
        self.dataset.use_pixels(mean_bgr, scale)

    def _masked(self, image: np.ndarray, label: np.ndarray) -> np.ndarray:
        if self.hide == "both":
            return self._shape(label)
        mean = np.round(np.asarray(self.mean_bgr)[::-1]).astype(np.uint8)
        return np.where(self.shown(label)[:, :, None], image, mean)

    def _shape(self, label: np.ndarray) -> np.ndarray:
        """The objects of a label map, white on black: (H, W, 3) uint8."""
        objects = (label != self.background) & (label != self.ignore_label)
        return np.repeat(objects[:, :, None], 3, axis=2) * np.uint8(255)
