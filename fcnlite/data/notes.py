"""Notes: the facts about a net's data that go with its weights, so that a file of weights is enough to predict."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np

from fcnlite.data.dataset import MEAN_BGR, Dataset
from fcnlite.errors import InputError, check_name
from fcnlite.io import check, read_notes

_KINDS = {
    "classes": dict[str, list[str]],
    "mean_bgr": list[float],
    "background": Annotated[int, (0, 255)] | None,
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
    background : int or None
        The class that pictures leave untinted; None where every class is a thing to see.
    """

    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    mean_bgr: Sequence[float] = MEAN_BGR
    background: int | None = 0

    @classmethod
    def of(cls, dataset: Dataset, scores: Mapping[str, Sequence[str]]) -> Notes:
        """The notes of a net for a data set; `scores` are the class names of each score blob.

        Data sets whose mean is not one colour (NYUDv2's colour beside depth) leave `mean_bgr` at VOC's.
        """
        colour = np.shape(dataset.mean_bgr) == (3,)
        mean = tuple(map(float, dataset.mean_bgr)) if colour else MEAN_BGR
        return cls(dict(scores), mean, dataset.background)

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
        return cls(classes, mean, notes.get("background", 0))

    def to_json(self) -> dict[str, Any]:
        """The notes as plain numbers, lists and mappings, as `fcnlite.io.write_weights` takes them."""
        return {
            "classes": {blob: list(names) for blob, names in self.classes.items()},
            "mean_bgr": [float(value) for value in self.mean_bgr],
            "background": self.background,
        }
