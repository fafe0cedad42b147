"""Reads a mask file as what it is: whole numbers, colours, or the names of annotation files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from fcnlite.data.files import open_image
from fcnlite.data.folder import labelme
from fcnlite.data.folder.coco import open_coco
from fcnlite.data.folder.layout import Pair
from fcnlite.errors import InputError

MOST_COLOURS = 4096  # more are no drawing but a photograph, or a drawing that JPEG went over
NUMBERS, COLOURS, NAMES = "numbers", "colours", "names"
Key: TypeAlias = "int | str"  # a pixel value, a colour as 0xRRGGBB, or a name


@dataclass(frozen=True)
class Mask:
    """A mask as it is stored.

    Attributes
    ----------
    kind : str
        `NUMBERS` for grey and palette images, `COLOURS` for colour images, `NAMES` for annotation files.
    codes : numpy.ndarray
        (H, W) int32: the value, the colour as 0xRRGGBB, or the place in `names`.
    names : tuple of str
        Of `NAMES`; the place 255 is void.
    palette : dict of int to int
        Colours of the values, where the image has a palette.
    """

    kind: str
    codes: np.ndarray
    names: tuple[str, ...] = ()
    palette: dict[int, int] | None = None


def read_mask(pair: Pair, colours: bool = False) -> Mask:
    """The mask of a pair.

    Parameters
    ----------
    pair : Pair
    colours : bool
        Take the colours of a palette or grey image instead of its values.

    Raises
    ------
    FileNotFoundError, InputError
        It is missing, damaged or not a mask.
    """
    path = pair.mask
    assert path is not None
    if path.suffix.lower() == ".json":
        return _annotated(pair, path)
    image = open_image(path)
    if image.mode in ("LA", "RGBA", "PA"):
        image = image.convert(image.mode[:-1])
    if image.mode == "P":
        codes = np.asarray(image, np.int32)
        table = _palette(image)
        if colours:
            return Mask(COLOURS, np.array([table.get(i, 0) for i in range(256)], np.int32)[codes])
        return Mask(NUMBERS, codes, palette={int(v): table.get(int(v), 0) for v in np.unique(codes)})
    if image.mode in ("1", "L", "I") or image.mode.startswith("I;16"):
        grey = np.asarray(image.convert("L") if image.mode == "1" else image, np.int32)
        return Mask(COLOURS, grey * 0x010101) if colours else Mask(NUMBERS, grey)
    if image.mode not in ("RGB", "CMYK", "YCbCr", "HSV", "LAB"):
        raise InputError(f"mask {path} is a {image.mode} image, which holds no class numbers")
    red, green, blue = np.moveaxis(np.asarray(image.convert("RGB"), np.int32), 2, 0)
    if not colours and (red == green).all() and (green == blue).all():
        return Mask(NUMBERS, red)
    return Mask(COLOURS, red << 16 | green << 8 | blue)


def _annotated(pair: Pair, path: Path) -> Mask:
    from fcnlite.data.folder.coco import looks_like_coco

    if looks_like_coco(path):
        coco = open_coco(path)
        return Mask(NAMES, coco.draw(pair.name).astype(np.int32), coco.names)
    codes, names = labelme.draw(path)
    return Mask(NAMES, codes, tuple(names))


def _palette(image: Image.Image) -> dict[int, int]:
    table = np.array(image.getpalette("RGB") or [], np.int64).reshape(-1, 3)
    return {i: int(r) << 16 | int(g) << 8 | int(b) for i, (r, g, b) in enumerate(table)}


def counts(mask: Mask) -> dict[Key, int]:
    """Pixels of each value, colour or name of a mask; more than `MOST_COLOURS` of them are an error."""
    values, numbers = np.unique(mask.codes, return_counts=True)
    if len(values) > MOST_COLOURS:
        raise InputError(
            f"{len(values)} colours in it: a photograph, or saved as JPEG; a mask is saved as PNG"
        )
    keys: Sequence[Key] = [_name(mask, int(v)) if mask.kind == NAMES else int(v) for v in values]
    return {key: int(n) for key, n in zip(keys, numbers, strict=True)}


def _name(mask: Mask, code: int) -> str:
    return mask.names[code] if code < len(mask.names) else labelme.VOID_NAMES[0]


def shown(key: Key, kind: str) -> str:
    """A value, colour or name as people write it."""
    return f"#{key:06x}" if kind == COLOURS else str(key)
