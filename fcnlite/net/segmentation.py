"""A segmented picture: its labels, what they mean and how sure the net was, to look at in a notebook."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from fcnlite import vis


@dataclass(frozen=True, repr=False)
class Segmentation:
    """A picture and what a net made of it; a notebook shows it tinted, above a legend.

    Attributes
    ----------
    image : numpy.ndarray
        (H, W, 3) uint8 RGB.
    labels : numpy.ndarray
        (H, W): each pixel's class.
    classes : sequence of str
        Names of all classes.
    scores : numpy.ndarray
        (C, H, W) float32, as the net gives them.
    background : int or None
        The class that stays untinted.
    """

    image: np.ndarray
    labels: np.ndarray
    classes: Sequence[str]
    scores: np.ndarray
    background: int | None = 0

    @property
    def probabilities(self) -> np.ndarray:
        """(C, H, W) float32: the softmax of the scores over the classes."""
        powers = np.exp(self.scores - self.scores.max(0))
        return powers / powers.sum(0)

    @property
    def shares(self) -> dict[str, float]:
        """The share of the pixels that each class takes, of those that are there, largest first."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.classes))
        order = [int(k) for k in np.argsort(-counts, kind="stable") if counts[k]]
        return {self.classes[k]: counts[k] / self.labels.size for k in order}

    def overlay(self, **options: Any) -> np.ndarray:
        """The picture tinted with its labels, above a legend, (h, w, 3) RGB; options as for `fcnlite.vis.overlay`."""
        given = {"background": self.background, "classes": self.classes} | options
        return vis.overlay(self.image, self.labels, **given)

    def __repr__(self) -> str:
        height, width = self.labels.shape
        told = ", ".join(f"{name} {100 * share:.1f} %" for name, share in self.shares.items())
        return f"Segmentation({height} x {width}: {told})"

    def _repr_html_(self) -> str:
        picture = Image.fromarray(self.overlay())
        picture.thumbnail((900, 900))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        data = base64.b64encode(buffer.getvalue()).decode()
        return f'<img alt="{html.escape(repr(self), quote=True)}" src="data:image/png;base64,{data}">'
