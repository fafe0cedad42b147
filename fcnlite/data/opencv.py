"""Images as OpenCV reads and resizes them, to the bit: what Caffe's ImageData and WindowData feed a net with."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image, ImageOps

from fcnlite.data.files import open_image, to_rgb

_GREY_PNG = (
    9797,
    19234,
    3737,
)  # libpng's weights of red, green and blue, in 2^15ths, cut off and not rounded
_GREY = (4899, 9617, 1868)  # OpenCV's own, in 2^14ths
_ONE = 2048  # weights of a resize are whole numbers of 2^-11


def read(path: str | os.PathLike, color: bool = True) -> np.ndarray:
    """Read an image file as `cv::imread` does: turned upright as EXIF says, 16 bits cut to 8, without transparency.

    Parameters
    ----------
    path : path
    color : bool
        Three channels, else one, whatever the file has.

    Returns
    -------
    numpy.ndarray
        (3, H, W) uint8 blue, green, red, or (1, H, W) grey.

    Raises
    ------
    FileNotFoundError
        It is missing.
    InputError
        It cannot be decoded.
    """
    image = open_image(path, grey=not color)
    kind = image.format
    image = ImageOps.exif_transpose(image)
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA"):
        image = Image.fromarray(
            np.asarray(image.convert("RGBA"))[:, :, :3]
        )  # colours under it stay as they are
    if color:
        return np.ascontiguousarray(to_rgb(image)[:, :, ::-1].transpose(2, 0, 1))
    if image.mode in ("L", "1"):
        return np.asarray(image.convert("L"))[None]
    return brightness(to_rgb(image), kind == "PNG")[None]


def brightness(rgb: np.ndarray, is_png: bool) -> np.ndarray:
    """Brightness of (H, W, 3) uint8: as libpng computes it, or as OpenCV does for other files."""
    weighted = rgb.astype(np.int32) @ np.array(_GREY_PNG if is_png else _GREY, np.int32)
    return (weighted >> 15 if is_png else (weighted + (1 << 13)) >> 14).astype(np.uint8)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize (C, H, W) uint8 as `cv::resize` does by default: bilinear, in fixed-point numbers.

    Nothing is averaged where the image shrinks, but where both sides are halved exactly.
    """
    if image.shape[1:] == (height, width):
        return image
    values = image.astype(np.int32)
    if image.shape[1:] == (2 * height, 2 * width):
        return ((values.reshape(len(image), height, 2, width, 2).sum(axis=(2, 4)) + 2) >> 2).astype(np.uint8)
    left, right, (to_left, to_right) = _taps(image.shape[2], width)
    values = values[:, :, left] * to_left + values[:, :, right] * to_right
    above, below, (up, down) = _taps(image.shape[1], height, held=False)
    upper = ((values[:, above] >> 4) * up[:, None]) >> 16
    lower = ((values[:, below] >> 4) * down[:, None]) >> 16
    return ((upper + lower + 2) >> 2).astype(np.uint8)


def _taps(
    size: int, new_size: int, held: bool = True
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Along one axis: the two pixels that each new one lies between, and the weights of both.

    Beyond the border both are its pixel. Columns are `held` there, with all of the weight on one; rows share it, which
    may differ in the last bit.
    """
    scale = 1.0 / (new_size / size)
    place = ((np.arange(new_size) + 0.5) * scale - 0.5).astype(np.float32)
    low = np.floor(place).astype(np.int64)
    part = place - low.astype(np.float32)
    if held:
        part[(low < 0) | (low >= size - 1)] = 0
    weights = np.rint((1 - part) * _ONE).astype(np.int32), np.rint(part * _ONE).astype(np.int32)
    return low.clip(0, size - 1), (low + 1).clip(0, size - 1), weights
