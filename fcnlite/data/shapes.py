"""The demo's data set, drawn by the program: shapes of six classes on textured backgrounds.

Each class has a pattern and a range of colours of its own. The pictures are written as a folder in the layout of
PASCAL VOC, with void borders around the objects.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from fcnlite.data.dataset import IGNORE, Sample
from fcnlite.data.palette import PALETTE
from fcnlite.data.voc import VOC
from fcnlite.errors import InputError
from fcnlite.io.atomic import atomic_buffer, write_text

Field = np.ndarray  # a number for each pixel, (H, W) float64
Draw = np.random.RandomState  # its stream is frozen: a seed gives the same pictures under every NumPy

SIDES = (176, 240)
SAMPLES = 3  # each way in a pixel, for smooth outlines
VOID = 1  # pixels on either side of an outline


def _polygon(u: Field, v: Field, corners: int, inner: float) -> np.ndarray:
    """A star of `corners` points at radius 1 whose notches lie at radius `inner`."""
    half = np.pi / corners
    angle = np.abs((np.arctan2(u, -v) + half) % (2 * half) - half)
    # The edge runs from (1, 0) to the notch; a point is inside on the origin's side of it.
    nx, ny = inner * np.cos(half), inner * np.sin(half)
    radius = np.hypot(u, v)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    return (x - 1) * ny - y * (nx - 1) <= 0


def _inside_cross(u: Field, v: Field) -> np.ndarray:
    u, v = np.abs(u), np.abs(v)
    return (np.minimum(u, v) <= 0.34) & (np.maximum(u, v) <= 1)


# Membership in the object's own coordinates: turned upright, centre (0, 0), radius about 1.
OUTLINES: dict[str, Callable[[Field, Field], np.ndarray]] = {
    "circle": lambda u, v: np.hypot(u, v) <= 0.9,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) <= 0.8,
    "triangle": lambda u, v: _polygon(u / 1.25, v / 1.25 - 0.1, 3, 0.5),
    "star": lambda u, v: _polygon(u, v, 5, 0.52),
    "ring": lambda u, v: np.abs(np.hypot(u, v) - 0.76) <= 0.26,
    "cross": _inside_cross,
}
# How far a pixel of each class is from its first colour to its second, 0 .. 1; t is 2 pi times a frequency.
PATTERNS: dict[str, Callable[[Field, Field, float], Field]] = {
    "circle": lambda u, v, t: 0.5 + 0.5 * np.sign(np.sin(t * np.hypot(u, v))),
    "square": lambda u, v, t: 0.5 + 0.5 * np.sign(np.sin(t * u) * np.sin(t * v)),
    "triangle": lambda u, v, t: 0.5 + 0.5 * np.sign(np.sin(t * v)),
    "star": lambda u, v, t: 0.8 * np.hypot(u, v).clip(0, 1),
    "ring": lambda u, v, t: (np.sin(4 * np.arctan2(u, v)) > 0).astype(float),
    "cross": lambda u, v, t: (np.sin(t * u) * np.sin(t * v) > 0.35).astype(float),
}
CLASSES = ("background", *OUTLINES)


def draw(seed: int, index: int) -> Sample:
    """Picture number `index` of the series `seed`.

    Returns
    -------
    Sample
        Image (H, W, 3) uint8 RGB with sides of 176 to 240; label (H, W) uint8 with 0 background, 1 .. 6 the
        shapes, 255 along the outlines.
    """
    rng = Draw([seed & 0xFFFFFFFF, index])
    height, width = rng.randint(SIDES[0], SIDES[1] + 1, size=2)
    image = _background(rng, height, width)
    label = np.zeros((height, width), np.uint8)
    # The classes take turns, so that none is rare.
    turns = np.concatenate([rng.permutation(len(OUTLINES)), rng.permutation(len(OUTLINES))])
    for kind in turns[: rng.randint(5, 11)]:
        _place(rng, image, label, int(kind))
    image = image + rng.normal(0, 4, size=image.shape)
    return Sample(f"{index:06d}", image.clip(0, 255).astype(np.uint8), _with_void(label))


def _place(rng: Draw, image: np.ndarray, label: np.ndarray, kind: int) -> None:
    """Draw an object of class `kind` + 1 into both where it covers little of others, if there is room."""
    height, width = label.shape
    name = CLASSES[kind + 1]
    for _ in range(20):
        radius = rng.uniform(18, 34)
        y, x = rng.uniform(radius * 0.6, [height - radius * 0.6, width - radius * 0.6])
        turn = rng.uniform(0, 2 * np.pi)
        # All that follows happens in a box that holds the object and its shadow.
        reach = 1.3 * radius + 8
        box = slice(max(0, int(y - reach)), int(y + reach)), slice(max(0, int(x - reach)), int(x + reach))
        below = label[box]
        spot = (below.shape, (y - box[0].start) / radius, (x - box[1].start) / radius, radius, turn)
        if np.mean(below[OUTLINES[name](*_coordinates(*spot, 1))] > 0) < 0.2:
            break
    else:
        return
    u, v = _coordinates(*spot, SAMPLES)
    cover = _pooled(OUTLINES[name](u, v))
    pattern = _pooled(PATTERNS[name](u, v, rng.uniform(0.8, 1.2) * max(9.0, radius * 0.45)))[:, :, None]
    first, second = _two_colours(rng, kind)
    colour = first + (second - first) * pattern
    shadow = ndimage.gaussian_filter(ndimage.shift(cover, (2, 2), order=1), 2)[:, :, None]
    image[box] *= 1 - 0.45 * shadow
    image[box] += cover[:, :, None] * (colour - image[box])
    below[cover > 0.5] = kind + 1


def _coordinates(
    shape: tuple[int, ...], y: float, x: float, radius: float, turn: float, samples: int
) -> tuple[Field, Field]:
    """A box's sample points, `samples` each way in a pixel, in an object's coordinates (turned, in radii)."""
    rows = (np.arange(shape[0] * samples) + 0.5)[:, None] / (samples * radius) - y
    columns = (np.arange(shape[1] * samples) + 0.5)[None, :] / (samples * radius) - x
    cos, sin = np.cos(turn), np.sin(turn)
    return cos * columns + sin * rows, cos * rows - sin * columns


def _pooled(fine: np.ndarray) -> Field:
    """Mean over the samples of each pixel."""
    height, width = (side // SAMPLES for side in fine.shape)
    return fine.reshape(height, SAMPLES, width, SAMPLES).mean(axis=(1, 3))


def _two_colours(rng: Draw, kind: int) -> tuple[np.ndarray, np.ndarray]:
    """Two strong colours well apart in hue and brightness, RGB 0 .. 255.

    The first keeps to the class's sixth of the colour circle, as things in photographs have their usual colours:
    that is what a net sees first, and outlines and patterns later.
    """
    hue = (kind + rng.uniform(-0.4, 0.4)) / len(OUTLINES)
    first = _hsv(hue, rng.uniform(0.6, 1), rng.uniform(0.85, 1))
    second = _hsv(hue + rng.uniform(0.25, 0.75), rng.uniform(0.5, 1), rng.uniform(0.2, 0.5))
    return first, second


def _hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    wheel = np.clip(np.abs((hue * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    return 255 * value * (1 - saturation * (1 - wheel))


def _background(rng: Draw, height: int, width: int) -> np.ndarray:
    """Muted colours mixed by clouds, a gradient, broad stripes or tiles: (H, W, 3) float."""
    y, x = np.mgrid[:height, :width] / 100.0
    turn = rng.uniform(0, 2 * np.pi)
    along = np.cos(turn) * x + np.sin(turn) * y
    across = np.cos(turn) * y - np.sin(turn) * x
    kind = rng.randint(4)
    clouds = _clouds(rng, height, width)
    if kind == 0:
        mix = clouds
    elif kind == 1:
        mix = (along - along.min()) / np.ptp(along)
    elif kind == 2:
        mix = 0.5 + 0.3 * np.sin(along * rng.uniform(10, 25)) + 0.2 * clouds
    else:
        tile = rng.uniform(3, 6)
        mix = 0.3 + 0.3 * ((np.floor(along * tile) + np.floor(across * tile)) % 2) + 0.4 * clouds
    first, second = (
        _hsv(rng.uniform(), rng.uniform(0.05, 0.35), rng.uniform(*value))
        for value in ((0.35, 0.6), (0.6, 0.9))
    )
    return first + (second - first) * mix[:, :, None]


def _clouds(rng: Draw, height: int, width: int) -> Field:
    """Smooth noise in 0 .. 1: coarse random grids, blown up and added."""
    total = np.zeros((height, width))
    for cells, weight in ((4, 0.6), (9, 0.3), (24, 0.1)):
        grid = Image.fromarray(rng.uniform(size=(cells, cells)).astype(np.float32))
        total += weight * np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC))
    return total.clip(0, 1)


def _with_void(label: np.ndarray) -> np.ndarray:
    """The label map with void where another label is within VOID pixels."""
    window = 2 * VOID + 1
    edge = ndimage.maximum_filter(label, window) != ndimage.minimum_filter(label, window)
    return np.where(edge, np.uint8(IGNORE), label)


def write(folder: str | os.PathLike, *, train: int = 200, val: int = 40, seed: int = 1337) -> Path:
    """Draw the data set into a folder in VOC's layout; one that is there with these settings stays as it is.

    Parameters
    ----------
    folder : path
        Made if missing.
    train, val : int
        Images in each split; no image is in both.
    seed : int
        Of all drawing.

    Returns
    -------
    pathlib.Path
        The folder: JPEGImages, SegmentationClass, ImageSets/Segmentation/{train,val}.txt, classes.txt.

    Raises
    ------
    InputError
        If the folder holds something else, or a split would be empty.
    """
    if train < 1 or val < 1:
        raise InputError(f"the shapes data set needs images in both splits, not {train} and {val}")
    folder = Path(folder)
    settings = {"drawing": 2, "train": train, "val": val, "seed": seed}
    stamp = folder / "shapes.json"
    if stamp.is_file() and _read_stamp(stamp) == settings:
        return folder
    if folder.exists() and not stamp.is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} holds other files; name a new or empty folder for the shapes data set")
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    # From here to the new stamp the folder is not a finished data set, and must not pass for one.
    write_text(stamp, json.dumps({"unfinished": True}))
    names = [_write_sample(folder, draw(seed, index)) for index in range(train + val)]
    for split, listed in (("train", names[:train]), ("val", names[train:])):
        write_text(folder / "ImageSets" / "Segmentation" / f"{split}.txt", "".join(f"{n}\n" for n in listed))
    write_text(folder / "classes.txt", "".join(f"{name}\n" for name in CLASSES))
    write_text(stamp, json.dumps(settings))
    return folder


def open_shapes(folder: str | os.PathLike, split: str = "train", **settings: int) -> VOC:
    """The demo data set in `folder`, drawn first where needed; `settings` as for `write`."""
    return VOC(write(folder, **settings), split)


def _write_sample(folder: Path, sample: Sample) -> str:
    with atomic_buffer(folder / "JPEGImages" / f"{sample.name}.jpg") as buffer:
        Image.fromarray(sample.image).save(buffer, format="JPEG", quality=92)
    label = Image.fromarray(sample.label)
    label.putpalette(PALETTE.tobytes())
    with atomic_buffer(folder / "SegmentationClass" / f"{sample.name}.png") as buffer:
        label.save(buffer, format="PNG")
    return sample.name


def _read_stamp(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
