"""Elementwise sum, product and maximum of several blobs (Caffe's EltwiseLayer); the sum fuses FCN's skips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fcnlite.blob import Blob
from fcnlite.errors import mistake
from fcnlite.layers.base import Layer, register
from fcnlite.layers.launch import launch_flat, new_array
from fcnlite.proto import EltwiseParameter


@register
class Eltwise(Layer):
    """Sum, product or maximum of bottoms of one shape, element by element.

    Parameters
    ----------
    operation : str
        "SUM" (default), "PROD" or "MAX".
    coeff : sequence of float
        Factors of the bottoms of a SUM, 1 by default.
    stable_prod_grad : bool
        Compute the gradient of PROD as a product of the other bottoms (default), which holds at 0.

    Notes
    -----
    MAX sends the gradient to one bottom. Among equal maxima that is the second bottom rather than the first,
    else the earliest, as on Caffe's CPU. The first bottom may be the top, but for a
    sum, of which Caffe then loses the first bottom.
    """

    _lost = False  # whether a sum in place goes without its first bottom

    bottoms = (2, 255)
    in_place = True

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.eltwise_param
        self.operation, self.stable = p.operation, p.stable_prod_grad
        self.factors = list(p.coeff) or [1.0] * len(bottom)
        if len(self.factors) != len(bottom):
            raise self.fail(f"{len(self.factors)} coefficients for {len(bottom)} bottoms")
        if p.coeff and self.operation != EltwiseParameter.SUM:
            raise self.fail("coefficients go with the SUM operation only")
        if top[0] is bottom[0] and self.operation == EltwiseParameter.SUM:
            mistake(
                f"layer '{self.name}' (Eltwise): a sum in place loses bottom 0, which Caffe clears before it "
                "adds up; give the top a name of its own"
            )
            self._lost = True
        self._winner: Any = None

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.same_shape(bottom)
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.keep_input(bottom, top)
        count, out = bottom[0].count, top[0].new_data()
        first, second = bottom[0].data, bottom[1].data
        if self.operation == EltwiseParameter.SUM:
            factor = 0.0 if self._lost else self.factors[0]
            launch_flat("eltwise_sum", count, factor, first, self.factors[1], second, out)
            for factor, blob in zip(self.factors[2:], bottom[2:]):
                launch_flat("add_scaled", count, factor, blob.data, out)
        elif self.operation == EltwiseParameter.PROD:
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
        read = [self.kept_input(bottom), *(blob.data for blob in bottom[1:])]
        for i, blob in reversed(list(enumerate(bottom))):  # in place the first's diff is the top's
            if not propagate_down[i]:
                continue
            target = blob.new_diff()
            if self.operation == EltwiseParameter.SUM:
                launch_flat("copy_scaled", count, self.factors[i], diff, target)
            elif self.operation == EltwiseParameter.MAX:
                launch_flat("eltwise_max_backward", count, i, self._winner, diff, target)
            elif self.stable:
                launch_flat("copy_scaled", count, 1.0, diff, target)
                for other in (array for j, array in enumerate(read) if j != i):
                    launch_flat("eltwise_prod", count, other, target, target)
            else:
                launch_flat("eltwise_prod_ratio", count, top[0].data, read[i], diff, target)
