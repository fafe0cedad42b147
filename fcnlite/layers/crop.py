"""Crop one blob to another's size (Caffe's CropLayer), the alignment step of every FCN skip connection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register

_AXES = 4  # of a block that one launch crops
Index = tuple[int, ...]


@register
class Crop(Layer):
    """bottom[0] from `offset` on, for every axis >= `axis`, to bottom[1]'s size; bottom[1] gets no gradient.

    Parameters
    ----------
    axis : int
        First cropped axis, 2 by default.
    offset : int or sequence of int
        For all cropped axes, or one for each; 0 by default.
    """

    bottoms = (2, 2)
    no_gradient = frozenset({1})

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.crop_param
        big, small = bottom[0].shape, bottom[1].shape
        if len(big) != len(small):
            raise self.fail(f"bottoms must have the same number of axes; they are {big} and {small}")
        first = self.axis(p.axis, bottom[0])
        given, cropped = list(p.offset), len(big) - first
        if len(given) > 1 and len(given) != cropped:
            raise self.fail(
                f"{len(given)} offsets for {cropped} cropped axes; give one for all or one for each"
            )
        offsets = given * cropped if len(given) == 1 else given or [0] * cropped
        self.offsets = [0] * first + [int(v) for v in offsets]
        shape = big[:first] + small[first:]
        for axis in range(first, len(big)):
            if small[axis] + self.offsets[axis] > big[axis]:
                raise self.fail(
                    f"axis {axis}: size {small[axis]} from offset {self.offsets[axis]} does not fit in {big[axis]}"
                )
        top[0].reshape(*shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        out, data = top[0].new_data(), bottom[0].data
        for inside, outside in self._blocks(top[0].shape, bottom[0].shape):
            self._launch_forward(data[outside], out[inside])

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if not propagate_down[0]:
            return
        diff, out_diff = bottom[0].new_diff(), top[0].diff
        if len(diff.shape) > _AXES:
            diff.fill(0)
        for inside, outside in self._blocks(top[0].shape, bottom[0].shape):
            self._launch_backward(out_diff[inside], diff[outside])

    def _blocks(self, small: Sequence[int], big: Sequence[int]) -> Iterator[tuple[Index, Index]]:
        """Places, in the top and in the bottom, of the blocks of up to four axes that a launch crops."""
        outer = len(small) - _AXES
        for place in np.ndindex(*small[: max(0, outer)]):
            yield place, tuple(at + offset for at, offset in zip(place, self.offsets))

    def _launch_forward(self, data: Any, out: Any) -> None:
        inner, outer, offsets = _four(out.shape, 1), _four(data.shape, 1), _four(self.offsets[-_AXES:], 0)
        geometry = (inner[3], inner[1], inner[2], *outer[1:], *offsets)
        device.current().launch("crop_forward", inner[0] * inner[1] * inner[2], *geometry, data, out)

    def _launch_backward(self, out_diff: Any, diff: Any) -> None:
        inner, outer, offsets = (
            _four(out_diff.shape, 1),
            _four(diff.shape, 1),
            _four(self.offsets[-_AXES:], 0),
        )
        geometry = (outer[3], outer[1], outer[2], *inner, *offsets)
        device.current().launch("crop_backward", outer[0] * outer[1] * outer[2], *geometry, out_diff, diff)


def _four(values: Sequence[int], filler: int) -> tuple[int, ...]:
    """The values as four, preceded by `filler`."""
    return (filler,) * (_AXES - len(values)) + tuple(values)
