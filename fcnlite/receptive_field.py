"""Receptive fields: the part of the input that one position of a map depends on, layer by layer.

A window of extent e, stride s and pad p over a map with field size n, step j and centre c gives n + (e - 1) j, j s and
c + j ((e - 1) / 2 - p); a deconvolution is the same read backwards (paper, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from fcnlite.blob import Blob
from fcnlite.proto import Message


@dataclass(frozen=True)
class Field:
    """The input pixels that one position of a map depends on, along the vertical and the horizontal axis.

    Attributes
    ----------
    size : (int, int)
        Side lengths of the receptive field, in input pixels.
    stride : (Fraction, Fraction)
        Input pixels between neighbouring positions.
    centre : (Fraction, Fraction)
        Input position of the centre of position (0, 0)'s field; 0 is the centre of the first pixel.
    """

    size: tuple[int, int]
    stride: tuple[Fraction, Fraction]
    centre: tuple[Fraction, Fraction]

    @property
    def padding(self) -> tuple[Fraction, Fraction]:
        """Pixels by which the first position's field lies before the input."""
        return _pair(Fraction(n - 1, 2) - c for n, c in zip(self.size, self.centre))


PIXEL = Field((1, 1), (Fraction(1),) * 2, (Fraction(0),) * 2)


def field_above(
    param: Message, layer: Any, bottoms: Sequence[Blob], fields: Sequence[Field | None]
) -> Field | None:
    """Receptive field of a layer's tops.

    Parameters
    ----------
    param : LayerParameter
    layer : Layer or None
        Set up; None for a layer that brings data from outside.
    bottoms : sequence of Blob
        For their shapes.
    fields : sequence of Field or None
        Receptive fields of the bottoms; None where position has no meaning.

    Returns
    -------
    Field or None
    """
    if not fields or (first := fields[0]) is None:
        return None
    window: Any = getattr(layer, "window", None)
    if window is not None and window.axes != 2:
        return None
    if param.type in ("Convolution", "Pooling", "Im2col"):
        return _windowed(first, window.extent, window.stride, window.pad)
    if param.type == "Deconvolution":
        return _spread(first, layer.window)
    if param.type == "Crop":
        return _moved(first, param, len(bottoms[0].shape))
    if param.type in ("InnerProduct", "Flatten") and len(bottoms[0].shape) == 4:
        # As the convolution it amounts to, whose kernel is the whole map.
        return _windowed(first, bottoms[0].shape[2:], (1, 1), (0, 0))
    if layer is not None and layer.is_loss or param.type in ("Accuracy", "Silence", "Reduction"):
        return None
    if len(fields) > 1:
        return _union(param, fields)
    return first


def _windowed(field: Field, extent: Sequence[int], stride: Sequence[int], pad: Sequence[int]) -> Field:
    """The field after a window slides over the map: it grows by the window, in steps of the map's stride."""
    axes = list(zip(field.size, field.stride, field.centre, extent, stride, pad))
    return Field(
        _pair(n + math.ceil((e - 1) * j) for n, j, _, e, _, _ in axes),
        _pair(j * s for _, j, _, _, s, _ in axes),
        _pair(c + j * (Fraction(e - 1, 2) - p) for _, j, c, e, _, p in axes),
    )


def _spread(field: Field, window: Any) -> Field:
    """The field after a deconvolution: finer steps, and a position sees ceil(kernel / stride) of before."""
    axes = list(zip(field.size, field.stride, field.centre, window.extent, window.stride, window.pad))
    return Field(
        _pair(n + math.ceil((-(-e // s) - 1) * j) for n, j, _, e, s, _ in axes),
        _pair(j / s for _, j, _, _, s, _ in axes),
        _pair(c - j / s * (Fraction(e - 1, 2) - p) for _, j, c, e, s, p in axes),
    )


def _moved(field: Field, param: Message, axes: int) -> Field:
    """The field after a Crop: position 0 is what `offset` was."""
    first = param.crop_param.axis % axes
    offsets = list(param.crop_param.offset) or [0]
    every = [0] * first + (offsets * (axes - first) if len(offsets) == 1 else offsets)
    moved = zip(field.centre, field.stride, every[-2:])
    return Field(field.size, field.stride, _pair(c + j * o for c, j, o in moved))


def _union(param: Message, fields: Sequence[Field | None]) -> Field | None:
    """Receptive field of a layer that joins maps: the union of their fields."""
    present = [field for field in fields if field is not None]
    if len(present) < len(fields) or len({field.stride for field in present}) > 1:
        return None
    begin = [min(c - Fraction(n - 1, 2) for c, n in zip(axis[0], axis[1])) for axis in _axes(present)]
    end = [max(c + Fraction(n - 1, 2) for c, n in zip(axis[0], axis[1])) for axis in _axes(present)]
    return Field(
        _pair(math.ceil(last - first) + 1 for first, last in zip(begin, end)),
        present[0].stride,
        _pair((first + last) / 2 for first, last in zip(begin, end)),
    )


def _axes(fields: list[Field]) -> list[tuple[list[Fraction], list[int]]]:
    """For each axis the centres and the sizes of all fields."""
    return [([f.centre[a] for f in fields], [f.size[a] for f in fields]) for a in (0, 1)]


def _pair(values: Any) -> Any:
    first, last = values
    return first, last
