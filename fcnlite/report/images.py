"""Pictures for the page: small, and within it as data URLs."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from fcnlite.data.palette import PALETTE

LONGEST = 320  # pixels of a picture's longer side
_VOID = (224, 224, 224)
_RIGHT, _WRONG, _UNKNOWN = range(3)
_ERRORS = np.array([(236, 240, 236), (200, 30, 45), (255, 255, 255)], np.uint8)


def data_url(image: np.ndarray) -> str:
    """(H, W, 3) uint8 RGB as a JPEG."""
    picture = Image.fromarray(image)
    picture.thumbnail((LONGEST, LONGEST))
    return _url(picture, "JPEG", quality=82)


def label_url(label: np.ndarray, classes: int) -> str:
    """A label map in its classes' colours; what is no class is light grey."""
    small = _shrunk(label)
    indices = np.where((small >= 0) & (small < classes), small, classes)
    distinct, place = np.unique(indices, return_inverse=True)
    colors = [_VOID if k == classes else PALETTE[int(k) % len(PALETTE)] for k in distinct]
    return _indexed(place.reshape(small.shape), np.array(colors, np.uint8))


def error_url(truth: np.ndarray, prediction: np.ndarray, classes: int) -> str:
    """Where a prediction is wrong: red, on light grey; white where the truth is void."""
    true, taken = _shrunk(truth), _shrunk(prediction)
    void = (true < 0) | (true >= classes)
    kinds = np.where(void, _UNKNOWN, np.where(true == taken, _RIGHT, _WRONG))
    return _indexed(kinds, _ERRORS)


def _shrunk(label: np.ndarray) -> np.ndarray:
    """The label map at the size its picture has: every so-many-th row and column, never blended."""
    height, width = label.shape
    scale = min(1.0, LONGEST / max(height, width))
    rows = (np.arange(max(1, round(height * scale))) / scale).astype(int).clip(0, height - 1)
    columns = (np.arange(max(1, round(width * scale))) / scale).astype(int).clip(0, width - 1)
    return np.asarray(label)[rows][:, columns].astype(np.int64)


def _indexed(indices: np.ndarray, colors: np.ndarray) -> str:
    if len(colors) > 256:  # a palette ends there
        return _url(Image.fromarray(colors[indices]), "PNG", optimize=True)
    picture = Image.fromarray(indices.astype(np.uint8))
    picture.putpalette(colors.tobytes())
    return _url(picture, "PNG", optimize=True)


def _url(picture: Image.Image, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
