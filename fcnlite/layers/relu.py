"""ReLU, plain or leaky, and PReLU, whose slope is learned (Caffe's ReLULayer and PReLULayer)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register
from fcnlite.layers.launch import add_channel_sums, launch_flat, new_array, rows_of
from fcnlite.proto import FillerParameter


@register
class ReLU(Layer):
    """y = max(x, 0) + negative_slope * min(x, 0); top has the bottom's shape and may be it.

    Parameters
    ----------
    negative_slope : float
        0 by default.

    Attributes
    ----------
    folded : bool
        Whether a Net lets the convolution before do the forward pass.
    """

    in_place = True
    pointwise = True
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


@register
class PReLU(Layer):
    """y = max(x, 0) + slope[c] * min(x, 0) with a learned slope for each channel, axis 1 (He et al. 2015).

    `prelu_param`: filler (0.25 by default), channel_shared (one slope for all, shape ()). May be in place.
    """

    in_place = True
    pointwise = True

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.prelu_param
        if len(bottom[0].shape) < 2:
            raise self.fail(f"the bottom has shape {bottom[0].shape}; at least 2 axes are needed")
        filler = p.filler if p.HasField("filler") else FillerParameter(type="constant", value=0.25)
        self.shared = p.channel_shared
        self.blobs = [self.make_blob(() if self.shared else bottom[0].shape[1:2], filler)]

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) < 2 or (not self.shared and shape[1] != self.blobs[0].count):
            raise self.fail(f"the bottom has shape {shape}; {self.blobs[0].count} channels are needed")
        top[0].reshape(*shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.keep_input(bottom, top)
        self._run("prelu_forward", bottom[0].data, top[0].new_data())

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        data = self.kept_input(bottom)
        if self.learns(0):
            terms = new_array(bottom[0].shape)
            launch_flat("prelu_slope_terms", bottom[0].count, data, top[0].diff, terms)
            outer, channels = (1, 1) if self.shared else bottom[0].shape[:2]
            add_channel_sums(terms, outer, channels, self.blobs[0])
        if propagate_down[0]:
            self._run("prelu_backward", data, top[0].diff, bottom[0].new_diff())

    def _run(self, kernel: str, *arrays: Any) -> None:
        shape = arrays[0].shape
        channels = 1 if self.shared else shape[1]
        inner_rows, width = rows_of(shape[2:])
        rows = shape[0] * shape[1] * inner_rows
        device.current().launch(kernel, rows, width, channels, inner_rows, self.blobs[0].data, *arrays)
