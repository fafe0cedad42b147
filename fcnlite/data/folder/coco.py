"""COCO's annotation file: polygons and run lengths drawn as a label map by pycocotools."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fcnlite.errors import InputError
from fcnlite.io import read_json

BACKGROUND = "background"
VOID = 255
_KINDS = {
    "images": list[dict[str, Any]],
    "annotations": list[dict[str, Any]],
    "categories": list[dict[str, Any]],
}
_IMAGE = {"id": int, "file_name": str, "width": int, "height": int}
_CATEGORY = {"id": int, "name": str}
_ANNOTATION = {"image_id": int, "category_id": int}


def looks_like_coco(path: Path) -> bool:
    """True if a JSON file has the keys of a COCO annotation file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(value, dict) and _KINDS.keys() <= value.keys()


class Coco:
    """A COCO annotation file.

    Attributes
    ----------
    names : tuple of str
        The background, then the categories in the order of their ids.
    """

    def __init__(self, path: Path) -> None:
        from fcnlite.io import check

        self.path = path
        content = read_json(path, _KINDS)
        for i, image in enumerate(content["images"]):
            check(image, _IMAGE, path, f"images[{i}]")
        for i, category in enumerate(content["categories"]):
            check(category, _CATEGORY, path, f"categories[{i}]")
        for i, annotation in enumerate(content["annotations"]):
            check(annotation, _ANNOTATION, path, f"annotations[{i}]")
        categories = sorted(content["categories"], key=lambda category: category["id"])
        self._index = {category["id"]: i + 1 for i, category in enumerate(categories)}
        self.names = (BACKGROUND, *(category["name"] for category in categories))
        self._images: dict[str, Mapping[str, Any]] = {}
        for image in content["images"]:
            file = Path(image["file_name"])
            self._images[file.with_suffix("").as_posix()] = image
            self._images.setdefault(file.stem, image)
        self._annotations: dict[int, list[Mapping[str, Any]]] = {}
        for annotation in content["annotations"]:
            self._annotations.setdefault(annotation["image_id"], []).append(annotation)

    def holds(self, name: str) -> bool:
        """True if the file lists a picture."""
        return self._find(name) is not None

    def _find(self, name: str) -> Mapping[str, Any] | None:
        return self._images.get(name) or self._images.get(name.rpartition("/")[2])

    def draw(self, name: str) -> np.ndarray:
        """The label map of a picture: (H, W) uint8, an index of `names`; crowds are void (255).

        Larger objects are drawn first, so that small ones on top of them are seen.
        """
        image = self._find(name)
        if image is None:
            raise InputError(f"{self.path} lists no picture called {name}")
        height, width = image["height"], image["width"]
        label = np.zeros((height, width), np.uint8)
        drawn = []
        for annotation in self._annotations.get(image["id"], ()):
            category = annotation["category_id"]
            if category not in self._index:
                raise InputError(
                    f"{self.path}: an annotation of {name} has the unknown category_id {category}"
                )
            where = self._mask(annotation.get("segmentation"), height, width, name)
            drawn.append((where, VOID if annotation.get("iscrowd") else self._index[category]))
        for where, value in sorted(drawn, key=lambda each: -int(each[0].sum())):
            label[where] = value
        return label

    def _mask(self, segmentation: Any, height: int, width: int, name: str) -> np.ndarray:
        coco_mask = _pycocotools(self.path)
        try:
            if isinstance(segmentation, list):
                runs = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
            elif isinstance(segmentation["counts"], list):
                runs = coco_mask.frPyObjects(segmentation, height, width)
            else:
                runs = {**segmentation, "counts": segmentation["counts"].encode()}
            mask = coco_mask.decode(runs).astype(bool)
        except Exception as error:  # pycocotools raises whatever its C code meets
            raise InputError(f"{self.path}: a segmentation of {name} is damaged ({error})") from None
        if mask.shape != (height, width):
            raise InputError(f"{self.path}: a segmentation of {name} is of another size than the picture")
        return mask


def _pycocotools(path: Path) -> Any:
    try:
        from pycocotools import mask
    except ImportError:
        raise InputError(
            f"{path} holds COCO annotations; reading them takes pycocotools: pip install 'fcnlite[coco]'"
        ) from None
    return mask


@lru_cache(maxsize=4)
def open_coco(path: Path) -> Coco:
    """The file, read once."""
    return Coco(path)
