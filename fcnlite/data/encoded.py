"""Encoded images in Caffe's databases, decoded as Caffe's OpenCV decodes them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from fcnlite.data.files import FORMATS, MOST_PIXELS
from fcnlite.data.opencv import brightness
from fcnlite.errors import InputError

_PNG = b"\x89PNG\r\n\x1a\n"
_BITS_PER_SAMPLE = 258  # a TIFF tag


def decode(data: bytes, color: bool | None = None) -> np.ndarray:
    """Decode a file of an image, held in memory.

    Parameters
    ----------
    data : bytes
        PNG, JPEG or the like.
    color : bool, optional
        True for three channels, false for one, whatever the file has (Caffe's force_color and force_gray). By default
        the channels are the file's: one of a grey image, three of a colour or palette image, and a fourth, opacity,
        where it has transparency.

    Returns
    -------
    numpy.ndarray
        (C, H, W) uint8: grey, or blue, green, red and, where there is one, opacity.

    Raises
    ------
    InputError
        It cannot be decoded, has more than `MOST_PIXELS`, or, with its own channels, more than 8 bits in each, which
        Caffe refuses.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise InputError(f"has more than {MOST_PIXELS:,} pixels")
            if color is False:
                image.draft("L", image.size)  # a JPEG's own brightness
            deep = _bits(data, image) > 8
            if deep and color is None:
                raise InputError(
                    "has more than 8 bits a channel, which Caffe refuses; force_color takes the first 8"
                )
            pixels = _grey_of_8_bits(image) if deep and image.mode not in ("RGB", "RGBA", "LA") else image
            return _planes(pixels, color, image.format)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"is not an image that can be decoded ({error})") from None


def look(data: bytes) -> tuple[tuple[int, int, int], str]:
    """The shape that `decode` gives an image file of its own channels, and the file's format, from its beginning.

    Raises
    ------
    InputError
        It is no image.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            is_grey = image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16")
            channels = 4 if _is_seen_through(image) else 1 if is_grey else 3
            return (channels, image.height, image.width), str(image.format)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"is not an image ({error})") from None


def _is_seen_through(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info


def _bits(data: bytes, image: Image.Image) -> int:
    """Bits a channel; Pillow itself hides those of a 16-bit colour PNG."""
    if data.startswith(_PNG):
        return data[24]
    tags = getattr(image, "tag_v2", {})
    return max(tags.get(_BITS_PER_SAMPLE, (8,))) if image.format == "TIFF" else 8


def _grey_of_8_bits(image: Image.Image) -> Image.Image:
    """The high byte of each 16-bit value."""
    return Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))


def _planes(image: Image.Image, color: bool | None, kind: str | None) -> np.ndarray:
    if not color and image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))[None]
    seen_through = _is_seen_through(image)
    planes = np.asarray(image.convert("RGBA" if seen_through else "RGB")).transpose(2, 0, 1)
    if color is False:
        return brightness(planes[:3].transpose(1, 2, 0), kind == "PNG")[None]
    bgr = planes[2::-1]
    return np.concatenate([bgr, planes[3:]]) if seen_through and not color else np.ascontiguousarray(bgr)
