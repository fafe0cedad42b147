"""Normalize: values over their L2 norm, times a learned scale (SSD, ParseNet)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register
from fcnlite.layers.launch import add_channel_sums, launch_flat, new_array, rows_of
from fcnlite.proto import FillerParameter


@register
class Normalize(Layer):
    """y = scale[c] x / sqrt(sum x^2 + eps), the sum over an image or over a pixel's channels (Liu et al. 2015).

    `norm_param`: across_spatial (true: over the image), channel_shared (true: one scale for all channels),
    scale_filler (1 by default), eps. The gradient is the formula's; SSD's own leaves the scale out of a sum, which is
    the same only where all channels have one scale.
    """

    messages = ("norm_param",)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.norm_param
        if len(bottom[0].shape) < 2:
            raise self.fail(f"the bottom has shape {bottom[0].shape}; at least 2 axes are needed")
        filler = p.scale_filler if p.HasField("scale_filler") else FillerParameter(type="constant", value=1)
        self.blobs = [self.make_blob(() if p.channel_shared else (bottom[0].shape[1],), filler)]

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape, scales = bottom[0].shape, self.blobs[0].shape
        if len(shape) < 2 or scales not in ((), shape[1:2]):
            raise self.fail(
                f"the bottom has shape {shape}; {scales[0] if scales else 'some'} channels are needed"
            )
        self.outer, self.channels = shape[:2]
        self.inner_rows, self.width = rows_of(shape[2:])
        self.across = self.param.norm_param.across_spatial
        top[0].reshape(*shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        data = bottom[0].data
        norm = self._sums(data, data, None, self.param.norm_param.eps)
        self._norm = device.current().asarray(device.current().xp.sqrt(norm))
        self._launch("l2_normalise_forward", data, self._norm, self._scales(), top[0].new_data())

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        data, diff = bottom[0].data, top[0].diff
        if self.learns(0):
            terms = new_array(data.shape)
            self._launch("l2_normalise_forward", data, self._norm, None, terms)
            launch_flat("eltwise_prod", terms.size, terms, diff, terms)
            shared = self.blobs[0].shape == ()
            add_channel_sums(
                terms, 1 if shared else self.outer, 1 if shared else self.channels, self.blobs[0]
            )
        if propagate_down[0]:
            scales = self._scales()
            dots = self._sums(data, diff, scales, 0.0)
            self._launch("l2_normalise_backward", data, self._norm, dots, scales, diff, bottom[0].new_diff())

    def _sums(self, first: Any, second: Any, scales: Any, start: float) -> Any:
        """Start + the sum of first * second (* scale) over each pixel's channels, or over each image."""
        backend = device.current()
        out = backend.empty((self.outer, self.inner_rows * self.width))
        numbers = (self.outer * self.inner_rows, self.width, self.channels, self.inner_rows)
        arrays = (first, second, scales, out)
        backend.launch("channel_dots", *numbers, 0.0 if self.across else start, *arrays)
        if not self.across:
            return out
        images = backend.empty((self.outer,))
        backend.row_sums(out, images)
        images += start
        return images

    def _launch(self, kernel: str, *arrays: Any) -> None:
        rows = self.outer * self.channels * self.inner_rows
        numbers = (self.width, self.channels, self.inner_rows, int(self.across))
        device.current().launch(kernel, rows, *numbers, *arrays)

    def _scales(self) -> Any:
        """A scale for each channel."""
        scale = self.blobs[0].data
        if scale.shape:
            return scale
        return device.current().asarray(scale + device.current().zeros((self.channels,)))
