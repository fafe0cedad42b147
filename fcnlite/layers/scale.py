"""Scale and Bias: a factor and a bias, or a bias alone, for each channel (Caffe's ScaleLayer, BiasLayer)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register
from fcnlite.layers.launch import add_channel_sums, launch_flat, new_array, rows_of
from fcnlite.proto import FillerParameter, Message


class _Channelwise(Layer):
    """An operand with the shape of `num_axes` axes of the bottom from `axis` on meets all of the bottom.

    The operand is a parameter or, if there is one, the second bottom. In place is allowed.
    """

    bottoms = (1, 2)
    in_place = True
    settings: Any

    def make_operand(self, bottom: Blob, filler: Message) -> Blob:
        """The operand as a new parameter."""
        p = self.settings
        first = self.axis(p.axis, bottom)
        if p.num_axes < -1 or (p.num_axes >= 0 and first + p.num_axes > len(bottom.shape)):
            raise self.fail(
                f"num_axes {p.num_axes} from axis {first} on do not fit the bottom {bottom.shape}"
            )
        last = len(bottom.shape) if p.num_axes == -1 else first + p.num_axes
        return self.make_blob(bottom.shape[first:last], filler)

    def operand(self, bottom: Sequence[Blob]) -> Blob:
        """The second bottom, or the parameter in its place."""
        return bottom[1] if len(bottom) > 1 else self.blobs[0]

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape, operand = bottom[0].shape, self.operand(bottom).shape
        first = 0 if operand == () else self.axis(self.settings.axis, bottom[0])
        if shape[first : first + len(operand)] != operand:
            raise self.fail(
                f"an operand of shape {operand} does not fit axes from {first} on of the bottom {shape}"
            )
        self.outer, self.channels = math.prod(shape[:first]), math.prod(operand)
        self.inner_rows, self.width = rows_of(shape[first + len(operand) :])
        top[0].reshape(*shape)

    def run(self, factor: Any, bias: Any, source: Any, target: Any) -> None:
        """Target = source * factor + bias; either may be None."""
        rows = self.outer * self.channels * self.inner_rows
        arguments = (self.width, self.channels, self.inner_rows, factor, bias, source, target)
        device.current().launch("scale_forward", rows, *arguments)

    def learn(self, bottom: Sequence[Blob], propagate_down: Sequence[bool]) -> bool:
        """True if the operand gets a gradient."""
        return propagate_down[1] if len(bottom) > 1 else self.learns(0)

    def operand_gradient(self, bottom: Sequence[Blob], terms: Any) -> None:
        """Sum each channel's terms: added to a parameter's diff, written to a bottom's."""
        operand = self.operand(bottom)
        if len(bottom) > 1:
            operand.drop_diff()
        add_channel_sums(terms, self.outer, self.channels, operand)


@register
class Scale(_Channelwise):
    """y = x * factor (+ bias), the factor shaped like `num_axes` axes of the bottom from `axis` on.

    With a second bottom the factor is that blob; otherwise it is a parameter (filled with 1 by default).
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.settings = p = self.param.scale_param
        if len(bottom) == 1:
            ones = FillerParameter(type="constant", value=1)
            self.blobs = [self.make_operand(bottom[0], p.filler if p.HasField("filler") else ones)]
        if p.bias_term:
            self.blobs.append(self.make_blob(self.operand(bottom).shape, p.bias_filler))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.keep_input(bottom, top)
        bias = self.blobs[-1].data if self.settings.bias_term else None
        self.run(self.operand(bottom).data, bias, bottom[0].data, top[0].new_data())

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        diff = top[0].diff
        if self.settings.bias_term and self.learns(len(self.blobs) - 1):
            add_channel_sums(diff, self.outer, self.channels, self.blobs[-1])
        if self.learn(bottom, propagate_down):
            products = new_array(bottom[0].shape)
            launch_flat("eltwise_prod", bottom[0].count, self.kept_input(bottom), diff, products)
            self.operand_gradient(bottom, products)
        if propagate_down[0]:
            self.run(self.operand(bottom).data, None, diff, bottom[0].new_diff())


@register
class Bias(_Channelwise):
    """y = x + bias, the bias shaped like `num_axes` axes of the bottom from `axis` on.

    With a second bottom the bias is that blob; otherwise it is a parameter (filled with 0 by default).
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.settings = self.param.bias_param
        if len(bottom) == 1:
            self.blobs = [self.make_operand(bottom[0], self.settings.filler)]

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.run(None, self.operand(bottom).data, bottom[0].data, top[0].new_data())

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if self.learn(bottom, propagate_down):
            self.operand_gradient(bottom, top[0].diff)
        if propagate_down[0] and top[0] is not bottom[0]:
            launch_flat("copy_scaled", bottom[0].count, 1.0, top[0].diff, bottom[0].new_diff())
