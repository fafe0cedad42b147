"""Elementwise sum, product and maximum of several blobs (Caffe's EltwiseLayer); the sum fuses FCN's skips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register
from fcnlite.layers.launch import launch_flat, new_array

PROD, SUM, MAX = 0, 1, 2


@register
class Eltwise(Layer):
    """All bottoms have one shape. SUM takes a coefficient for each; MAX sends the gradient to one bottom.

    Among equal maxima that is the second bottom rather than the first, else the earliest, as on Caffe's CPU.
    """

    bottoms = (2, 255)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.eltwise_param
        self.operation, self.stable = p.operation, p.stable_prod_grad
        self.factors = list(p.coeff) or [1.0] * len(bottom)
        if len(self.factors) != len(bottom):
            raise self.fail(f"{len(self.factors)} coefficients for {len(bottom)} bottoms")
        if p.coeff and self.operation != SUM:
            raise self.fail("coefficients go with the SUM operation only")
        self._winner: Any = None

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.same_shape(bottom)
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        count, out = bottom[0].count, top[0].new_data()
        first, second = bottom[0].data, bottom[1].data
        if self.operation == SUM:
            launch_flat("eltwise_sum", count, self.factors[0], first, self.factors[1], second, out)
            for factor, blob in zip(self.factors[2:], bottom[2:]):
                launch_flat("add_scaled", count, factor, blob.data, out)
        elif self.operation == PROD:
            launch_flat("eltwise_prod", count, first, second, out)
            for blob in bottom[2:]:
                launch_flat("eltwise_prod", count, blob.data, out, out)
        else:
            if self._winner is None or self._winner.shape != out.shape:
                self._winner = new_array(out.shape, np.uint8)
            for number, blob in enumerate(bottom):
                launch_flat("eltwise_max", count, number, blob.data, out, self._winner)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        count, diff = bottom[0].count, top[0].diff
        for i, blob in enumerate(bottom):
            if not propagate_down[i]:
                continue
            target = blob.new_diff()
            if self.operation == SUM:
                launch_flat("copy_scaled", count, self.factors[i], diff, target)
            elif self.operation == MAX:
                launch_flat("eltwise_max_backward", count, i, self._winner, diff, target)
            elif self.stable:
                launch_flat("copy_scaled", count, 1.0, diff, target)
                for other in (b for j, b in enumerate(bottom) if j != i):
                    launch_flat("eltwise_prod", count, other.data, target, target)
            else:
                launch_flat("eltwise_prod_ratio", count, top[0].data, blob.data, diff, target)
