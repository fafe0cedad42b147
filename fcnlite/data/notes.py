"""Notes: the facts about a net's data that go with its weights, so that a file of weights is enough to predict."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np

from fcnlite.data.dataset import MEAN_BGR, Dataset
from fcnlite.errors import InputError, check_name
from fcnlite.io import check, read_notes

_KINDS = {
    "classes": dict[str, list[str]],
    "mean_bgr": list[float],
    "scale": float,
    "bgr": bool,
    "background": Annotated[int, (0, 255)] | None,
    "max_size": Annotated[int, (0, 2**31 - 1)],
}


@dataclass(frozen=True)
class Notes:
    """Facts about the training data that prediction needs.

    Attributes
    ----------
    classes : mapping of str to tuple of str
        Names of the classes of each score blob, where they are known.
    mean_bgr : tuple of float
        The blue, green and red (0 to 255) that were subtracted from every pixel.
    scale : float
        The factor that the difference was multiplied by.
    bgr : bool
        False where the channels of pictures are fed in their own order, as HHA's; so then is the mean.
    background : int or None
        The class that pictures leave untinted; None where every class is a thing to see.
    max_size : int
        Larger pictures were scaled down to so many pixels on their longer side; 0 where none were.
    told : bool
        False where nothing tells of mean and scale, and VOC's are assumed.
    """

    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    mean_bgr: Sequence[float] = MEAN_BGR
    scale: float = 1.0
    bgr: bool = True
    background: int | None = 0
    max_size: int = 0
    told: bool = False

    @classmethod
    def of(cls, dataset: Dataset, scores: Mapping[str, Sequence[str]]) -> Notes:
        """The notes of a net for a data set; `scores` are the class names of each score blob."""
        mean = tuple(map(float, np.ravel(dataset.mean_bgr)))
        own = (dataset.scale, dataset.bgr, dataset.background, dataset.max_size)
        return cls(dict(scores), mean, *own, told=True)

    @classmethod
    def read(cls, path: str | os.PathLike[str], channels: Mapping[str, int]) -> Notes:
        """The notes in a file of weights; defaults for what it does not tell, as a `.caffemodel` tells nothing.

        Parameters
        ----------
        path : path
        channels : mapping of str to int
            Channels of the net's blobs, which the class names are compared with.

        Raises
        ------
        InputError
            The notes are damaged.
        """
        notes = read_notes(path)
        where = f"{os.fspath(path)}: its note on classes and mean colour"
        check(notes, {name: kind for name, kind in _KINDS.items() if name in notes}, where)
        classes = {blob: tuple(names) for blob, names in notes.get("classes", {}).items()}
        for name in (name for blob, names in classes.items() for name in (blob, *names)):
            check_name(name, where)
        mean = tuple(notes.get("mean_bgr", MEAN_BGR))
        wrong = [blob for blob, names in classes.items() if channels.get(blob, len(names)) != len(names)]
        if len(mean) != 3 or wrong:
            of = f"the classes of {wrong[0]}" if wrong else "blue, green and red"
            raise InputError(f"{where} is damaged: it has another number of values than {of}")
        told = "mean_bgr" in notes
        bgr, background = notes.get("bgr", True), notes.get("background", 0)
        return cls(classes, mean, notes.get("scale", 1.0), bgr, background, notes.get("max_size", 0), told)

    def use(self, mean_bgr: Sequence[float] | None, scale: float | None) -> Notes:
        """The notes with another mean or scale, where one is given."""
        changes: dict[str, Any] = {} if mean_bgr is None else {"mean_bgr": tuple(mean_bgr)}
        changes |= {} if scale is None else {"scale": scale}
        return replace(self, **changes, told=True) if changes else self

    def feed(
        self, dataset: Dataset, mean_bgr: Sequence[float] | None = None, scale: float | None = None
    ) -> str:
        """Let a data set feed a net as it was trained; where these notes do not tell, as the data set does by itself.

        Parameters
        ----------
        dataset : Dataset
        mean_bgr, scale : optional
            Use these in any case.

        Returns
        -------
        str
            Mean and scale in words.
        """
        own = Notes.of(dataset, {})
        wanted = (self if self.told and self.bgr == own.bgr else own).use(mean_bgr, scale)
        if wanted.pixels != own.pixels:
            dataset.use_pixels(wanted.mean_bgr, wanted.scale)
        return wanted.pixels

    @property
    def pixels(self) -> str:
        """Mean and scale in words."""
        mean = " ".join(f"{value:g}" for value in self.mean_bgr)
        order = "blue, green, red" if self.bgr else "in the picture's order"
        return f"mean {mean} ({order})" + ("" if self.scale == 1 else f", scale {self.scale:g}")

    def to_json(self) -> dict[str, Any]:
        """The notes as plain numbers, lists and mappings, as `fcnlite.io.write_weights` takes them."""
        return {
            "classes": {blob: list(names) for blob, names in self.classes.items()},
            "mean_bgr": [float(value) for value in self.mean_bgr],
            "scale": self.scale,
            "bgr": self.bgr,
            "background": self.background,
            "max_size": self.max_size,
        }
