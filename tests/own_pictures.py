"""Draws small folders of pictures and masks in the forms that people have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)
SIZE = (40, 48)  # height, width


def label(index: int) -> np.ndarray:
    """A label map (40, 48) of classes 0, 1 and 2: two rectangles, whose places depend on the index."""
    values = np.zeros(SIZE, np.uint8)
    y, x = 2 + index % 7, 3 + index % 5
    values[y : y + 14, x : x + 16] = 1
    values[y + 16 : y + 30, x + 18 : x + 36] = 2
    return values


def photo(index: int) -> np.ndarray:
    """The picture of `label`, in noisy colours; no two are equal."""
    rng = np.random.default_rng(index)
    base = np.array([(90, 120, 90), (220, 60, 50), (60, 70, 210)], np.float64)[label(index)]
    return (base + rng.normal(0, 12, base.shape)).clip(0, 255).astype(np.uint8)


def numbers(values: np.ndarray) -> Image.Image:
    """A mask of class numbers."""
    return Image.fromarray(values)


def colours(values: np.ndarray) -> Image.Image:
    """A mask of colours."""
    return Image.fromarray(COLOURS[values])


def binary(values: np.ndarray) -> Image.Image:
    """A mask of 0 and 255."""
    return Image.fromarray((values > 0).astype(np.uint8) * np.uint8(255))


def palette(values: np.ndarray) -> Image.Image:
    """A mask with a palette."""
    image = Image.fromarray(values)
    image.putpalette(COLOURS.tobytes())
    return image


def draw(
    root: Path,
    count: int = 6,
    mask: Callable[[np.ndarray], Image.Image] = numbers,
    ending: str = "",
    images: str = "images",
    masks: str = "masks",
    suffix: str = ".png",
) -> Path:
    """Write root/images/N.jpg and root/masks/N.png; returns the root."""
    for index in range(count):
        (root / images).mkdir(parents=True, exist_ok=True)
        (root / masks).mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(index)).save(root / images / f"p{index}.jpg", quality=95)
        mask(label(index)).save(root / masks / f"p{index}{ending}{suffix}")
    return root


def labelme(index: int) -> dict[str, object]:
    """The picture's annotation as LabelMe writes it."""
    y, x = 2 + index % 7, 3 + index % 5
    boxes = [("cat", x, y, x + 15, y + 13), ("dog", x + 18, y + 16, x + 35, y + 29)]
    shapes = [
        {
            "label": name,
            "points": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]],
            "shape_type": "polygon",
            "group_id": None,
            "flags": {},
        }
        for name, x0, y0, x1, y1 in boxes
    ]
    return {
        "version": "5.4.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": f"p{index}.jpg",
        "imageData": None,
        "imageHeight": SIZE[0],
        "imageWidth": SIZE[1],
    }


def coco(count: int) -> dict[str, object]:
    """The pictures' annotations as COCO writes them: a polygon and run lengths."""
    images, annotations = [], []
    for index in range(count):
        images.append({"id": index + 10, "file_name": f"p{index}.jpg", "height": SIZE[0], "width": SIZE[1]})
        y, x = 2 + index % 7, 3 + index % 5
        polygon = [x, y, x + 16, y, x + 16, y + 14, x, y + 14]
        annotations.append(
            {
                "image_id": index + 10,
                "category_id": 7,
                "iscrowd": 0,
                "segmentation": [polygon],
                "id": 2 * index,
            }
        )
        flat = (label(index) == 2).astype(np.uint8).ravel(order="F")
        edges = np.flatnonzero(np.diff(flat)) + 1
        runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
        annotations.append(
            {
                "image_id": index + 10,
                "category_id": 9,
                "iscrowd": 0,
                "segmentation": {"size": list(SIZE), "counts": runs},
                "id": 2 * index + 1,
            }
        )
    categories = [{"id": 9, "name": "dog"}, {"id": 7, "name": "cat"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_json(path: Path, value: object) -> None:
    """Write JSON."""
    path.write_text(json.dumps(value))
