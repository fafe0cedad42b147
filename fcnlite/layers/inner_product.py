"""InnerProduct: the fully connected layer (Caffe's InnerProductLayer), three matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register


def add_bias(bias: Any, out: Any) -> None:
    """out[m] += bias for every row of a matrix."""
    backend = device.current()
    ones = backend.empty((out.shape[0], 1))
    ones.fill(1)
    backend.gemm(ones, bias.reshape(1, -1), out, accumulate=True)


def add_bias_gradient(layer: Layer, index: int, out_diff: Any) -> None:
    """Add the sum of the rows of `out_diff` to the diff of parameter `index`, if it learns."""
    if layer.learns(index):
        target, held = layer.blobs[index].sum_diff()
        device.current().row_sums(out_diff.T, target, held)


@register
class InnerProduct(Layer):
    """y = W x + b, the axes from `axis` on (1 by default) taken as one vector x.

    Weight (num_output, K), with `transpose` (K, num_output), K being the length of x; bias (num_output,)
    unless `bias_term` is false. The top keeps the axes ahead of `axis` and has num_output in place of the
    others.

    Parameters
    ----------
    num_output : int
    bias_term, transpose : bool
    axis : int
        First axis of x, 1 by default.
    weight_filler, bias_filler : dict
        As in a prototxt: `{"type": "xavier"}`.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.inner_product_param
        self.outputs, self.transpose = int(p.num_output), p.transpose
        if self.outputs < 1:
            raise self.fail("num_output is missing or 0")
        self.length = math.prod(bottom[0].shape[self.axis(p.axis, bottom[0]) :])
        shape = (self.length, self.outputs) if self.transpose else (self.outputs, self.length)
        self.blobs = [self.make_blob(shape, p.weight_filler)]
        if p.bias_term:
            self.blobs.append(self.make_blob((self.outputs,), p.bias_filler))

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        axis = self.axis(self.param.inner_product_param.axis, bottom[0])
        outer, inner = bottom[0].shape[:axis], bottom[0].shape[axis:]
        if math.prod(inner) != self.length:
            raise self.fail(
                f"the bottom has {math.prod(inner)} values from axis {axis} on ({bottom[0].shape}); "
                f"the weights are made for {self.length}"
            )
        self.samples = math.prod(outer)
        top[0].reshape(*outer, self.outputs)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        out = top[0].new_data().reshape(self.samples, self.outputs)
        device.current().gemm(self._vectors(bottom[0].data), self._weight(self.blobs[0].data).T, out)
        if len(self.blobs) > 1:
            add_bias(self.blobs[1].data, out)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        gemm = device.current().gemm
        diff = top[0].diff.reshape(self.samples, self.outputs)
        if self.learns(0):
            target, held = self.blobs[0].sum_diff()
            vectors = self._vectors(bottom[0].data)
            if self.transpose:
                gemm(vectors.T, diff, target, held)
            else:
                gemm(diff.T, vectors, target, held)
        if len(self.blobs) > 1:
            add_bias_gradient(self, 1, diff)
        if propagate_down[0]:
            gemm(diff, self._weight(self.blobs[0].data), self._vectors(bottom[0].new_diff()))

    def _vectors(self, array: Any) -> Any:
        return array.reshape(self.samples, self.length)

    def _weight(self, array: Any) -> Any:
        """The weight as (num_output, K), whichever way it is stored."""
        return array.T if self.transpose else array
