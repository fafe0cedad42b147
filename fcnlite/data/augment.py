"""Random changes of an image and its label maps: mirrored, moved, zoomed, recoloured, sampled.

Each is drawn from a seed and a position, so that a resumed run sees the same ones. Mirroring and moving are the paper's
(section 4.3, "Augmentation"), and so is sampling (section 3.4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from fcnlite.errors import InputError

SAMPLING, LOOKS = 1, 2  # set these draws apart from those of mirroring and moving, and from one another
GREYS = 64  # grey levels by which a `recolor` of 1 would shift the brightness


@dataclass(frozen=True)
class Augmentation:
    """The changes, and how strong they are.

    Attributes
    ----------
    mirror : bool
        Mirror left to right with probability 1/2.
    jitter : int
        Translate by up to this many pixels in each direction (the paper: 32); what comes in from outside is the mean
        colour, with void labels.
    zoom : float
        Scale by a factor between 1 / zoom and zoom, its logarithm uniform; at least 1.
    recolor : float
        Change contrast by a factor between 1 / (1 + recolor) and 1 + recolor, brightness by up to 64 * recolor grey
        levels and each colour by up to 32 * recolor more.
    keep : float
        Let each position of the label maps count with this probability, else make it void: the paper's patch
        sampling, since a void label takes that output's patch out of the loss and the gradient.
    """

    mirror: bool = False
    jitter: int = 0
    zoom: float = 1.0
    recolor: float = 0.0
    keep: float = 1.0

    def __post_init__(self) -> None:
        if self.jitter < 0:
            raise ValueError(f"jitter must not be negative, not {self.jitter}")
        if not self.zoom >= 1:
            raise ValueError(f"zoom must be at least 1, not {self.zoom}")
        if not self.recolor >= 0:
            raise ValueError(f"recolor must not be negative, not {self.recolor}")
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep must be a probability above 0, not {self.keep}")

    def apply(
        self,
        blobs: Mapping[str, np.ndarray],
        labels: set[str],
        seed: tuple[int, int],
        mean: Any,
        void: int,
    ) -> dict[str, np.ndarray]:
        """Blobs (C, H, W) of one image, changed.

        Parameters
        ----------
        blobs : mapping of str to numpy.ndarray
        labels : set of str
            The blobs that are label maps.
        seed : (int, int)
            The run's seed and the position of the image in it; draws depend on nothing else.
        mean : sequence of 3 floats
            The mean colour that was subtracted, for `recolor`.
        void : int
        """
        changed = dict(blobs)
        if self.zoom > 1 or self.recolor:
            draw = np.random.default_rng((*seed, LOOKS))
            exponent, contrast, *shifts = draw.uniform(
                -1, 1, 6
            )  # all of them, so that no option disturbs another
            if self.recolor:
                pixels = [name for name in changed if name not in labels]
                changed |= {
                    name: recoloured(changed[name], self.recolor, contrast, shifts, mean) for name in pixels
                }
            if self.zoom > 1:
                factor = math.exp(exponent * math.log(self.zoom))
                changed = {name: zoomed(blob, factor, name in labels) for name, blob in changed.items()}
        if self.mirror or self.jitter:
            draw = np.random.default_rng(seed)
            flip = self.mirror and bool(draw.integers(2))
            dy, dx = draw.integers(-self.jitter, self.jitter + 1, size=2)
            fill = {name: void if name in labels else 0 for name in changed}
            changed = {n: moved(blob, int(dy), int(dx), flip, fill[n]) for n, blob in changed.items()}
        if self.keep < 1:
            draw = np.random.default_rng((*seed, SAMPLING))
            changed |= sampled({name: changed[name] for name in labels}, draw, self.keep, void)
        return changed


def moved(blob: np.ndarray, dy: int, dx: int, flip: bool, fill: float) -> np.ndarray:
    """Move the pixels of a (C, H, W) blob, whose size stays.

    It is mirrored left to right if `flip`, then shifted down by `dy` and right by `dx` pixels, and the uncovered
    part is set to `fill`.
    """
    source = blob[:, :, ::-1] if flip else blob
    _, height, width = blob.shape
    out = np.full_like(blob, fill)
    dy, dx = max(-height, min(height, dy)), max(-width, min(width, dx))
    rows, columns = (max(dy, 0), height + min(dy, 0)), (max(dx, 0), width + min(dx, 0))
    out[:, rows[0] : rows[1], columns[0] : columns[1]] = source[
        :, rows[0] - dy : rows[1] - dy, columns[0] - dx : columns[1] - dx
    ]
    return out


def zoomed(blob: np.ndarray, factor: float, nearest: bool) -> np.ndarray:
    """A (C, H, W) blob scaled by a factor: bilinear, averaging where it shrinks, or the nearest pixel of each."""
    size = tuple(max(1, round(side * factor)) for side in blob.shape[1:])
    if nearest:
        rows, columns = (
            ((np.arange(new) + 0.5) * old / new).astype(np.int64)
            for new, old in zip(size, blob.shape[1:], strict=True)
        )
        return np.ascontiguousarray(blob[:, rows[:, None], columns])
    scaled = [Image.fromarray(plane).resize(size[::-1], Image.Resampling.BILINEAR) for plane in blob]
    return np.stack([np.asarray(plane, blob.dtype) for plane in scaled])


def recoloured(
    blob: np.ndarray, strength: float, contrast: float, shifts: Sequence[float], mean: Any
) -> np.ndarray:
    """A (3, H, W) blob of pixels without their mean, in other colours, from numbers in -1 .. 1.

    Raises
    ------
    InputError
        The blob is not one of three colours.
    """
    if blob.shape[0] != 3 or np.shape(mean) != (3,):
        raise InputError("--recolor changes pictures of three colours; this data set has others")
    offset = strength * GREYS * (shifts[0] + np.array(shifts[1:4]) / 2)
    colour = np.asarray(mean, np.float32)[:, None, None]
    factor = np.float32((1 + strength) ** contrast)
    changed = blob * factor + (offset[:, None, None].astype(np.float32) + colour)
    return changed.clip(0, 255) - colour


def sampled(
    labels: Mapping[str, np.ndarray], draw: np.random.Generator, keep: float, void: float
) -> dict[str, np.ndarray]:
    """Label maps (1, H, W) of one image, all but a random share `keep` of the positions set to `void`."""
    (shape,) = {label.shape[1:] for label in labels.values()}
    kept = draw.random(shape) < keep
    return {name: np.where(kept, label, label.dtype.type(void)) for name, label in labels.items()}
