"""LabelMe's annotation files: one .json a picture, whose polygons are drawn as a label map."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from fcnlite.errors import InputError
from fcnlite.io import read_json

BACKGROUND = "background"
VOID_NAMES = ("__ignore__", "ignore", "void")
_BACKGROUND_NAMES = ("_background_", "__background__", BACKGROUND)
_KIND = {"shapes": list[dict[str, Any]], "imageHeight": int, "imageWidth": int}
_SHAPE = {"label": str, "points": list[list[float]]}


def draw(path: Path) -> tuple[np.ndarray, list[str]]:
    """The shapes of a file as a map of indices into a list of labels, the background first.

    Returns
    -------
    numpy.ndarray
        (H, W) int32.
    list of str

    Raises
    ------
    InputError
        The file is damaged, or a shape covers no area (points, lines).
    """
    from fcnlite.io import check

    content = read_json(path, _KIND)
    width, height = content["imageWidth"], content["imageHeight"]
    if not (0 < width < 1 << 16 and 0 < height < 1 << 16):
        raise InputError(f"{path} is damaged: its picture is {width} x {height}")
    names = [BACKGROUND]
    canvas = Image.new("I", (width, height), 0)
    pen = ImageDraw.Draw(canvas)
    for i, shape in enumerate(content["shapes"]):
        check(shape, _SHAPE, path, f"shapes[{i}]")
        label = BACKGROUND if shape["label"] in _BACKGROUND_NAMES else shape["label"]
        if label not in names:
            names.append(label)
        _draw_shape(pen, shape, names.index(label), path)
    return np.asarray(canvas, np.int32), names


def _draw_shape(pen: ImageDraw.ImageDraw, shape: dict[str, Any], value: int, path: Path) -> None:
    points = [tuple(point) for point in shape["points"] if len(point) == 2]
    kind = shape.get("shape_type", "polygon")
    if kind == "polygon" and len(points) > 2:
        pen.polygon(points, fill=value, outline=value)
    elif kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        pen.rectangle((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), fill=value)
    elif kind == "circle" and len(points) == 2:
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=value)
    else:
        raise InputError(
            f"{path}: the shape '{shape['label']}' is a {kind} of {len(points)} points, which covers no area; "
            "polygons, rectangles and circles do"
        )
