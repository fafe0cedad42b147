"""Softmax over one axis (Caffe's SoftmaxLayer)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register
from fcnlite.layers.launch import rows_of


def softmax_rows(shape: Sequence[int], axis: int) -> tuple[int, int, int, int]:
    """(outer, channels, inner rows, width) of an array whose softmax runs over `axis`."""
    return math.prod(shape[:axis]), shape[axis], *rows_of(shape[axis + 1 :])


@register
class Softmax(Layer):
    """p = exp(x - max) / sum exp(x - max) over `softmax_param.axis` (1 by default)."""

    in_place = True

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        axis = self.axis(self.param.softmax_param.axis, bottom[0])
        self.rows = softmax_rows(bottom[0].shape, axis)
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        outer, channels, inner, width = self.rows
        data = (bottom[0].data, top[0].new_data())
        device.current().launch("softmax_forward", outer * inner, width, channels, inner, *data)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            outer, channels, inner, width = self.rows
            arrays = (top[0].data, top[0].diff, bottom[0].new_diff())
            device.current().launch("softmax_backward", outer * inner, width, channels, inner, *arrays)
