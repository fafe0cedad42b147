"""Pictures of one's own as a data set: a manifest says which files there are and what their masks mean."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from fcnlite.data.dataset import Dataset, Sample
from fcnlite.data.files import is_id, open_image, to_rgb
from fcnlite.data.folder.encoding import Encoding
from fcnlite.data.folder.layout import Pair, find_pairs, locate
from fcnlite.data.folder.masks import COLOURS, NAMES, NUMBERS, read_mask
from fcnlite.errors import InputError
from fcnlite.io import check, read_json, write_text

MANIFEST = "data.json"
_KINDS = {
    "images": str,
    "masks": str,
    "encoding": {
        "kind": str,
        "classes": list[str],
        "keys": list[int | str],
        "void": list[int | str],
        "remarks": list[str],
    },
    "parts": {str: list[list[str]]},
    "turned": list[str],
    "max_size": int,
    "resize_masks": bool,
}


@dataclass
class Manifest:
    """Files of pictures and masks, the classes of the masks, and the parts to train and to validate on.

    Attributes
    ----------
    images, masks : str
        Absolute paths of the folders, or of the COCO file.
    encoding : Encoding
    parts : dict of str to list of (str, str, str)
        "train" and "val": name, picture and mask of each pair, the files relative to the folders.
    turned : list of str
        Names of pictures that are turned upright as their EXIF says, since their masks are.
    max_size : int
        Larger pictures are scaled down to this many pixels on their longer side; 0 for none.
    resize_masks : bool
        Masks of another size than their picture are scaled to it.
    """

    images: str
    masks: str
    encoding: Encoding
    parts: dict[str, list[tuple[str, str, str]]]
    turned: list[str] = field(default_factory=list)
    max_size: int = 0
    resize_masks: bool = False

    def write(self, path: Path) -> None:
        """Write the manifest as JSON."""
        write_text(path, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Manifest:
        """The manifest in a file, or in a run's folder.

        Raises
        ------
        FileNotFoundError, InputError
            There is none, or it is damaged.
        """
        file = Path(path)
        file = file / MANIFEST if file.is_dir() else file
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file; {MANIFEST} lies in the folder of a run")
        values = read_json(file, _KINDS)
        encoding = Encoding(**values.pop("encoding"))
        if encoding.kind not in (NUMBERS, COLOURS, NAMES) or len(encoding.keys) != len(encoding.classes):
            raise InputError(f"{file} is damaged: it has as many classes as keys, of a known kind")
        check(values["parts"], dict.fromkeys(("train", "val"), list[list[str]]), file, "parts")
        if any(len(row) != 3 for rows in values["parts"].values() for row in rows):
            raise InputError(f"{file} is damaged: a pair is a name and two files")
        names = [row[0] for rows in values["parts"].values() for row in rows]
        outside = next((name for name in names if not is_id(name)), None)
        if outside is not None:  # names become names of files, for predictions
            raise InputError(f"{file} is damaged: {outside!r} is not the name of a picture")
        parts = {part: [(row[0], row[1], row[2]) for row in rows] for part, rows in values["parts"].items()}
        known = {name: values[name] for name in ("images", "masks", "turned", "max_size", "resize_masks")}
        return cls(encoding=encoding, parts=parts, **known)

    def pairs(self, part: str) -> list[Pair]:
        """The pairs of a part, or of "all"."""
        if part != "all" and part not in self.parts:
            raise InputError(f"your own pictures have the parts train, val and all, not {part!r}")
        rows = [row for name, rows in self.parts.items() if part in (name, "all") for row in rows]
        masks = Path(self.masks)
        return [
            Pair(name, Path(self.images) / image, masks / mask if mask else masks)
            for name, image, mask in rows
        ]


class OwnPictures(Dataset):
    """A part of a manifest's pictures.

    Parameters
    ----------
    folder : path
        The manifest, or the run's folder that holds it.
    split : str
        "train", "val" or "all".
    images, masks : path, optional
        Other pictures and masks, read as the manifest says; all of them are taken then.

    Raises
    ------
    FileNotFoundError, InputError
        The manifest is missing or damaged, or the part is empty.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        split: str = "train",
        *,
        images: str | os.PathLike[str] | None = None,
        masks: str | os.PathLike[str] | None = None,
    ) -> None:
        self.manifest = Manifest.read(folder)
        self.folder = Path(self.manifest.images if images is None else images)
        self.split = split
        pairs = self.manifest.pairs(split)
        if images is not None or masks is not None:
            found = find_pairs(locate(None, self.folder, self.manifest.masks if masks is None else masks))
            pairs = [pair for pair in found if pair.image is not None and pair.mask is not None]
        self._pairs = {pair.name: pair for pair in pairs}
        self.names = list(self._pairs)
        if not self.names:
            raise InputError(f"{folder}: the part '{split}' of the pictures is empty")
        self.classes = tuple(self.manifest.encoding.classes)
        self.background = self.manifest.encoding.background
        self.max_size = self.manifest.max_size
        self._turned = frozenset(self.manifest.turned)

    def load(self, name: str) -> Sample:
        pair = self._pairs[name]
        assert pair.image is not None
        image = open_image(pair.image)
        if name in self._turned:
            image = ImageOps.exif_transpose(image)
        encoding = self.manifest.encoding
        label = encoding.apply(read_mask(pair, encoding.kind == COLOURS), pair.mask)
        if label.shape != (image.height, image.width):
            if not self.manifest.resize_masks:
                raise InputError(
                    f"mask {pair.mask} is {label.shape[1]} x {label.shape[0]} but picture {pair.image} is "
                    f"{image.width} x {image.height}; --resize-masks scales masks to their pictures"
                )
            label = resized(label, (image.height, image.width))
        pixels = shrunk(to_rgb(image), self.max_size)
        return Sample(name, pixels, resized(label, pixels.shape[:2]))

    def sized_by(self, name: str) -> Path | None:
        return None if self.max_size or name in self._turned else self._pairs[name].image


def resized(maps: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Maps (..., H, W) at another (height, width): each pixel the nearest one's."""
    if maps.shape[-2:] == size:
        return maps
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(size, maps.shape[-2:], strict=True)
    )
    return maps[..., rows[:, None], columns]


def shrunk(image: np.ndarray, longest: int) -> np.ndarray:
    """An image (H, W, 3) scaled down to `longest` pixels on the longer side where it is larger; 0 for never."""
    height, width = image.shape[:2]
    if not longest or max(height, width) <= longest:
        return image
    factor = longest / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def relative(path: Path, root: Path) -> str:
    """A file as the manifest names it; empty for the root itself, a COCO file."""
    return "" if path == root else path.relative_to(root).as_posix()
