"""Interp: bilinear resizing (DeepLab, PSPNet, ICNet)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register


class _Axis(NamedTuple):
    """The inputs that each output position reads, and the outputs that read each input; arrays of the device."""

    begin: Any
    end: Any
    low: Any
    high: Any
    part: Any


@register
class Interp(Layer):
    """y[v] = (1 - f) x[i] + f x[i + 1] along both axes, with i + f = v (in - 1) / (out - 1): corners meet corners.

    The size (Chen, Papandreou and others, DeepLab v2's interp_layer): `shrink_factor` s, (in - 1) / s + 1;
    `zoom_factor` z, in + (in - 1) (z - 1); both, one after the other; or `height` and `width`; or a second bottom's.
    `pad_beg` and `pad_end`, never positive, crop the bottom first.
    """

    bottoms = (1, 2)
    no_gradient = frozenset({1})

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.interp_param
        if p.pad_beg > 0 or p.pad_end > 0:
            raise self.fail(
                f"pad_beg {p.pad_beg} and pad_end {p.pad_end} must not be positive: they only crop"
            )
        if p.shrink_factor < 1 or p.zoom_factor < 1:
            raise self.fail("shrink_factor and zoom_factor must be at least 1")
        self._axes: dict[tuple[int, int], _Axis] = {}

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape, p = bottom[0].shape, self.param.interp_param
        if len(shape) != 4:
            raise self.fail(f"the bottom has shape {shape}; N x C x H x W is needed")
        size = tuple(n + p.pad_beg + p.pad_end for n in shape[2:])
        if min(size) < 1:
            raise self.fail(f"nothing of a bottom of {shape[2]} x {shape[3]} is left between its pads")
        top[0].reshape(*shape[:2], *self._out(size, bottom))

    def _out(self, size: tuple[int, ...], bottom: Sequence[Blob]) -> tuple[int, ...]:
        p = self.param.interp_param
        shrinks, zooms, fixed = (p.HasField(name) for name in ("shrink_factor", "zoom_factor", "height"))
        if fixed and p.HasField("width") and not (shrinks != zooms):
            if p.height < 1 or p.width < 1:
                raise self.fail(f"height {p.height} and width {p.width} must be at least 1")
            return (p.height, p.width)
        if shrinks or zooms:
            shrunk = [(n - 1) // p.shrink_factor + 1 for n in size]
            return tuple(n + (n - 1) * (p.zoom_factor - 1) for n in shrunk)
        if len(bottom) == 2:
            return bottom[1].shape[2:]
        raise self.fail("height and width, zoom_factor, shrink_factor or a second bottom must give its size")

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        (down, right), planes = self._tables(bottom, top), math.prod(top[0].shape[:2])
        (in_h, in_w), (out_h, out_w) = bottom[0].shape[2:], top[0].shape[2:]
        numbers = (planes * out_h, out_w, in_h, in_w, out_h)
        arrays = (*down[2:], *right[2:], bottom[0].data, top[0].new_data())
        device.current().launch("interp_forward", *numbers, *arrays)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            (down, right), planes = self._tables(bottom, top), math.prod(top[0].shape[:2])
            (in_h, in_w), (out_h, out_w) = bottom[0].shape[2:], top[0].shape[2:]
            numbers = (planes * in_h, in_w, in_h, out_h, out_w)
            device.current().launch(
                "interp_backward", *numbers, *down, *right, top[0].diff, bottom[0].new_diff()
            )

    def _tables(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> tuple[_Axis, _Axis]:
        pairs = list(zip(bottom[0].shape[2:], top[0].shape[2:]))
        if any(pair not in self._axes for pair in pairs):
            self._axes = {pair: self._axis_table(*pair) for pair in pairs}
        return self._axes[pairs[0]], self._axes[pairs[1]]

    def _axis_table(self, whole: int, out: int) -> _Axis:
        """The table for an axis of `whole` pixels, of which some may be cropped; in single precision, as in DeepLab."""
        p = self.param.interp_param
        size = whole + p.pad_beg + p.pad_end
        ratio = np.float32(size - 1) / np.float32(out - 1) if out > 1 else np.float32(0)
        place = ratio * np.arange(out, dtype=np.float32)
        low = np.minimum(place.astype(np.int32), size - 1)
        part = place - low.astype(np.float32)
        high = np.minimum(low + 1, size - 1)
        inputs = np.arange(whole) + p.pad_beg
        begin, end = np.searchsorted(high, inputs, "left"), np.searchsorted(low, inputs, "right")
        tables = (begin, np.maximum(end, begin), low - p.pad_beg, high - p.pad_beg)
        begin, end, low, high = (device.current().asarray(table, np.int32) for table in tables)
        return _Axis(begin, end, low, high, device.current().asarray(part))
