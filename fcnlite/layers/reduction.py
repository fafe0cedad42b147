"""Sum, sum of absolute values, sum of squares or mean of the trailing axes (Caffe's ReductionLayer)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register
from fcnlite.layers.launch import launch_flat, new_array, rows_of
from fcnlite.proto import ReductionParameter


@register
class Reduction(Layer):
    """The axes from `axis` (0 by default) on become one number, times `coeff`; axes before it stay."""

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.operation = self.param.reduction_param.operation

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p, shape = self.param.reduction_param, bottom[0].shape
        axis = self.axis(p.axis, bottom[0])
        self.groups, self.members = math.prod(shape[:axis]), math.prod(shape[axis:])
        self.inner_rows, self.width = rows_of(shape[axis:])
        self.factor = p.coeff / self.members if self.operation == ReductionParameter.MEAN else p.coeff
        top[0].reshape(*shape[:axis])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        terms, count = bottom[0].data, bottom[0].count
        if self.operation == ReductionParameter.ASUM:
            terms = new_array(bottom[0].shape)
            launch_flat("absval_forward", count, bottom[0].data, terms)
        elif self.operation == ReductionParameter.SUMSQ:
            terms = new_array(bottom[0].shape)
            launch_flat("eltwise_prod", count, bottom[0].data, bottom[0].data, terms)
        out = top[0].new_data()
        device.current().row_sums(terms.reshape(self.groups, self.members), out.reshape(-1))
        launch_flat("copy_scaled", self.groups, self.factor, out, out)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            operation = (
                ReductionParameter.SUM if self.operation == ReductionParameter.MEAN else self.operation
            )
            rows, arrays = self.groups * self.inner_rows, (bottom[0].data, top[0].diff, bottom[0].new_diff())
            arguments = (self.width, self.inner_rows, operation, self.factor, *arrays)
            device.current().launch("reduction_backward", rows, *arguments)
