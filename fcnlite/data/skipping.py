"""A data set that goes on where a file cannot be read: the next image takes the bad one's place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fcnlite.data.dataset import Dataset, Sample
from fcnlite.errors import InputError


class Skipping(Dataset):
    """Another data set; an image that cannot be read is replaced by the next one in the list that can.

    Parameters
    ----------
    dataset : Dataset
    tell : callable
        Called with a line for each bad image, once.

    Attributes
    ----------
    skipped : dict of str to str
        Names of the images found bad so far, and why.
    """

    def __init__(self, dataset: Dataset, tell: Callable[[str], object]) -> None:
        self.dataset, self.tell = dataset, tell
        self.folder, self.split, self.names = dataset.folder, dataset.split, dataset.names
        self.classes, self.mean_bgr, self.scale = dataset.classes, dataset.mean_bgr, dataset.scale
        self.ignore_label, self.has_labels = dataset.ignore_label, dataset.has_labels
        self.background, self.not_scored = dataset.background, dataset.not_scored
        self.bgr, self.max_size = dataset.bgr, dataset.max_size
        self.skipped: dict[str, str] = {}
        self._shown: dict[int, int] = {}

    @property
    def heads(self) -> dict[str, tuple[str, ...]]:
        return self.dataset.heads

    def load(self, name: str) -> Sample:
        return self.dataset.load(name)

    def use_pixels(self, mean_bgr: Any, scale: float) -> None:
        super().use_pixels(mean_bgr, scale)
        self.dataset.use_pixels(mean_bgr, scale)

    def label(self, name: str) -> np.ndarray:
        return self.dataset.label(name)

    def label_path(self, name: str) -> Path | None:
        return self.dataset.label_path(name)

    def blobs(self, index: int) -> dict[str, np.ndarray]:
        """Blobs of an image, or of the first one behind it that can be read.

        Raises
        ------
        InputError
            None can.
        """
        for step in range(len(self.names)):
            other = (index + step) % len(self.names)
            if self.names[other] in self.skipped:
                continue
            try:
                blobs = self.dataset.blobs(other)
            except (InputError, OSError) as error:
                self.skipped[self.names[other]] = str(error)
                self.tell(f"skipped: {error}")
                continue
            if step:
                self._shown[index] = other
            return blobs
        raise InputError(f"{self.folder}: not one image of the list '{self.split}' can be read")

    def shown(self, index: int) -> str:
        """Name of the image that `blobs` gave for an index."""
        return self.names[self._shown.get(index, index)]

    def without_bad(self) -> Skipping:
        """Read every image once and take those that cannot be read out of the list; returns the data set itself."""
        for index, name in enumerate(self.names):
            try:
                self.dataset.blobs(index)
            except (InputError, OSError) as error:
                self.skipped[name] = str(error)
                self.tell(f"skipped: {error}")
        self.dataset.names = self.names = [name for name in self.names if name not in self.skipped]
        if not self.names:
            raise InputError(f"{self.folder}: not one image of the list '{self.split}' can be read")
        return self
