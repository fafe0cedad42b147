"""ArgMax: which channel, or which value of a whole image, is largest (Caffe's ArgMaxLayer)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register
from fcnlite.layers.launch import new_array
from fcnlite.layers.softmax import softmax_rows


@register
class ArgMax(Layer):
    """The indices of the `top_k` largest values, largest first; of equal values the later one, as in Caffe.

    With `axis` the top has top_k in place of that axis and holds indices, or the values with
    `out_max_val`. Without it each image is taken as one vector: the top is (N, 1, top_k), or with
    `out_max_val` (N, 2, top_k), indices ahead of values.
    """

    no_gradient = frozenset({0})

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p, shape = self.param.argmax_param, list(bottom[0].shape)
        self.top_k, self.by_axis = int(p.top_k), p.HasField("axis")
        if self.by_axis:
            axis = self.axis(p.axis, bottom[0])
            self.rows = softmax_rows(shape, axis)
            shape[axis] = self.top_k
        else:
            self.rows = (shape[0], math.prod(shape[1:]), 1, 1) if shape else (1, 1, 1, 1)
            ones = [1] * (max(len(shape), 3) - 3)
            shape = [self.rows[0], 2 if p.out_max_val else 1, self.top_k, *ones]
        if not 1 <= self.top_k <= self.rows[1]:
            raise self.fail(
                f"top_k {self.top_k} must lie between 1 and the {self.rows[1]} values to choose from"
            )
        top[0].reshape(*shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        outer, channels, inner, width = self.rows
        with_values, out = self.param.argmax_param.out_max_val, top[0].new_data()
        if not with_values:
            value, index = None, out
        elif self.by_axis:
            value, index = out, None
        else:
            value, index = new_array((outer, self.top_k)), new_array((outer, self.top_k))
        arrays = (bottom[0].data, value, index)
        device.current().launch("top_k_forward", outer * inner, width, channels, inner, self.top_k, *arrays)
        if with_values and not self.by_axis:
            pairs = out.reshape(outer, 2, self.top_k)
            pairs[:, 0], pairs[:, 1] = index, value

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        pass
