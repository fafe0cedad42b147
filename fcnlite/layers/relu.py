"""ReLU, plain or leaky (Caffe's ReLULayer)."""

from __future__ import annotations

from collections.abc import Sequence

from fcnlite.blob import Blob, launch_flat
from fcnlite.layers.base import Layer, register


@register
class ReLU(Layer):
    """y = max(x, 0) + negative_slope * min(x, 0); top has the bottom's shape and may be it.

    Attributes
    ----------
    folded : bool
        Whether a Net lets the convolution before do the forward pass.
    """

    in_place = True
    folded = False

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.slope = self.param.relu_param.negative_slope

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        if not self.folded:
            launch_flat("relu_forward", bottom[0].count, self.slope, bottom[0].data, top[0].new_data())

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            count, diff = bottom[0].count, top[0].diff
            launch_flat("relu_backward", count, self.slope, bottom[0].data, diff, bottom[0].new_diff())
