"""A net as visitors see it: its name, its classes with their colours, and what it makes of a picture."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fcnlite import vis
from fcnlite.data.files import read_photo
from fcnlite.data.palette import PALETTE
from fcnlite.errors import InputError
from fcnlite.net import Segmenter
from fcnlite.net.segmenter import check_size, class_names, picture_scores


@dataclass
class Model:
    """A net with a name.

    Attributes
    ----------
    name : str
        By which requests choose it.
    net : Segmenter
    output : str
        Its score blob.
    classes : tuple of str
    memory : int or None
        Bytes that the process may hold; pictures that take more are worked on in tiles.
    """

    name: str
    net: Segmenter
    output: str
    classes: tuple[str, ...]
    memory: int | None = None

    @classmethod
    def of(
        cls,
        net: Segmenter,
        path: str | os.PathLike[str],
        output: str | None = None,
        memory: int | None = None,
    ) -> Model:
        """The model of a net, named after its file."""
        scores = picture_scores(net, output)
        return cls(Path(path).stem, net, scores, class_names(net, scores), memory)

    def segment(self, image: np.ndarray) -> np.ndarray:
        """The label map (H, W) of an image (H, W, 3) uint8 RGB."""
        label = self.net.predict(image, output=self.output, memory=self.memory)
        check_size(self.output, label, image.shape[:2])
        return label

    def described(self) -> dict[str, Any]:
        """The net for a client."""
        classes = [{"index": i, "name": name, "colour": _colour(i)} for i, name in enumerate(self.classes)]
        return {"name": self.name, "classes": classes, "background": self.net.notes.background}

    def summary(self, label: np.ndarray) -> dict[str, Any]:
        """A label map for a client: the classes in it with their shares, most pixels first, and its PNG in base64."""
        counts = np.bincount(label.ravel(), minlength=len(self.classes))
        found = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i]]
        classes = [
            {
                "index": i,
                "name": self.classes[i],
                "colour": _colour(i),
                "pixels": int(counts[i]),
                "share": counts[i] / label.size,
            }
            for i in found
        ]
        height, width = label.shape
        png = base64.b64encode(vis.encode_label(label)).decode()
        return {"net": self.name, "width": width, "height": height, "classes": classes, "png": png}


def _colour(index: int) -> str:
    return "#" + "".join(f"{value:02x}" for value in PALETTE[index % len(PALETTE)])


def named_apart(models: list[Model]) -> list[Model]:
    """The models, those of equal names with numbers behind them."""
    seen: dict[str, int] = {}
    for model in models:
        seen[model.name] = seen.get(model.name, 0) + 1
        if seen[model.name] > 1:
            model.name = f"{model.name} ({seen[model.name]})"
    return models


def decode(body: bytes, most_pixels: int) -> np.ndarray:
    """The upright RGB pixels of a picture's file.

    Raises
    ------
    InputError
        It is not a picture, damaged, or too large; the message says nothing of this machine.
    """
    try:
        return read_photo(io.BytesIO(body), most_pixels)
    except InputError as error:
        # That is where pictures without a name usually come from.
        raise InputError(str(error).replace("image from standard input", "the picture")) from None
