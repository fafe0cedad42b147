"""Permute: axes in another order (SSD)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register


@register
class Permute(Layer):
    """Top axis i is bottom axis order[i]; axes that `permute_param.order` does not name follow in their order."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        axes, given = len(bottom[0].shape), [int(axis) for axis in self.param.permute_param.order]
        if len(set(given)) != len(given) or any(axis >= axes for axis in given):
            raise self.fail(f"order {given} must name each of the bottom's axes 0 to {axes - 1} once at most")
        self.order = given + [axis for axis in range(axes) if axis not in given]
        top[0].reshape(*(bottom[0].shape[axis] for axis in self.order))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        _permute(bottom[0].data, self.order, top[0].new_data())

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            _permute(top[0].diff, list(np.argsort(self.order)), bottom[0].new_diff())


def _permute(source: Any, order: Sequence[int], target: Any) -> None:
    """Target = source with its axes in that order."""
    shape = source.shape or (1,)
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    size, stride = (list(target.shape or (1,)), [strides[axis] for axis in order] or [1])
    asarray = device.current().asarray
    tables = (asarray(np.array(size), np.int32), asarray(np.array(stride), np.int32))
    device.current().launch("permute", math.prod(size[:-1]), size[-1], len(size), *tables, source, target)
