"""Caffe's Im2col: each window of the image as a column, for inspection and for layers of one's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register
from fcnlite.layers.columns import roll, unroll
from fcnlite.layers.window import Window


@register
class Im2col(Layer):
    """(N, C, H, W) -> (N, C Kh Kw, H', W'): the pixels of the window at each position of a convolution.

    Takes `convolution_param`: kernel_size, pad, stride, dilation and axis as `Convolution` does.
    """

    messages = ("convolution_param",)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p, shape = self.param.convolution_param, bottom[0].shape
        self.channel_axis = self.axis(p.axis, bottom[0])
        self.window = Window.read(p, len(shape) - self.channel_axis - 1, self.fail)
        self.lifted = self.window.lifted()

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape, axis = bottom[0].shape, self.channel_axis
        size = self.window.output_size(shape[axis + 1 :])
        if min(size, default=1) < 1:
            raise self.fail(f"a bottom of {shape} is too small for kernel {self.window.extent}")
        top[0].reshape(*shape[:axis], shape[axis] * self.window.area, *size)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        unroll(self._images(bottom[0].data), self.lifted, self._images(top[0].new_data()))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            roll(self._images(top[0].diff), self.lifted, self._images(bottom[0].new_diff()))

    def _images(self, array: Any) -> Any:
        axis, ones = self.channel_axis, (1,) * (self.lifted.axes - self.window.axes)
        return array.reshape(
            math.prod(array.shape[:axis]), array.shape[axis], *ones, *array.shape[axis + 1 :]
        )
