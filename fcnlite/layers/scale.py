"""Scale: a factor, and if wanted a bias, for each channel (Caffe's ScaleLayer)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fcnlite import device
from fcnlite.blob import Blob, launch_flat
from fcnlite.layers.base import Layer, add_channel_sums, new_array, register
from fcnlite.proto import FillerParameter


@register
class Scale(Layer):
    """y = x * factor (+ bias), the factor having the shape of ``num_axes`` axes of the bottom from ``axis`` on.

    With a second bottom the factor is that blob; otherwise it is a parameter (filled with 1 by default).
    """

    bottoms = (1, 2)
    in_place = True

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.scale_param
        if len(bottom) == 1:
            first = self.axis(p.axis, bottom[0])
            if p.num_axes < -1 or (p.num_axes >= 0 and first + p.num_axes > len(bottom[0].shape)):
                raise self.fail(
                    f"num_axes {p.num_axes} from axis {first} on do not fit the bottom {bottom[0].shape}"
                )
            last = len(bottom[0].shape) if p.num_axes == -1 else first + p.num_axes
            filler = p.filler if p.HasField("filler") else FillerParameter(type="constant", value=1)
            self.blobs = [self.make_blob(bottom[0].shape[first:last], filler)]
        if p.bias_term:
            shape = self._factor(bottom).shape
            self.blobs.append(self.make_blob(shape, p.bias_filler))
        self._input: Any = None

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape, factor = bottom[0].shape, self._factor(bottom).shape
        first = 0 if factor == () else self.axis(self.param.scale_param.axis, bottom[0])
        if shape[first : first + len(factor)] != factor:
            raise self.fail(
                f"a factor of shape {factor} does not fit axes from {first} on of the bottom {shape}"
            )
        self.outer, self.channels = _count(shape[:first]), _count(factor)
        inner = shape[first + len(factor) :]
        self.width = inner[-1] if inner else 1
        self.inner = _count(inner)
        top[0].reshape(*shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        if top[0] is bottom[0]:  # backward needs what this overwrites
            self._input = new_array(bottom[0].shape)
            launch_flat("copy_scaled", bottom[0].count, 1.0, bottom[0].data, self._input)
        bias = self.blobs[-1].data if self.param.scale_param.bias_term else None
        self._run(self._factor(bottom).data, bias, bottom[0].data, top[0].new_data())

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        diff = top[0].diff
        if self.param.scale_param.bias_term and self.learns(len(self.blobs) - 1):
            add_channel_sums(diff, self.outer, self.channels, self.blobs[-1])
        factor = self._factor(bottom)
        if propagate_down[1] if len(bottom) > 1 else self.learns(0):
            product = new_array(bottom[0].shape)
            data = self._input if top[0] is bottom[0] else bottom[0].data
            launch_flat("eltwise_prod", bottom[0].count, data, diff, product)
            if len(bottom) > 1:
                factor.drop_diff()
            add_channel_sums(product, self.outer, self.channels, factor)
        if propagate_down[0]:
            self._run(factor.data, None, diff, bottom[0].new_diff())

    def _factor(self, bottom: Sequence[Blob]) -> Blob:
        return bottom[1] if len(bottom) > 1 else self.blobs[0]

    def _run(self, factor: Any, bias: Any, source: Any, target: Any) -> None:
        inner_rows = self.inner // self.width if self.width else 0
        rows = self.outer * self.channels * inner_rows
        device.current().launch(
            "scale_forward", rows, self.width, self.channels, inner_rows, factor, bias, source, target
        )


def _count(shape: Sequence[int]) -> int:
    product = 1
    for dim in shape:
        product *= dim
    return product
