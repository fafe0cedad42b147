"""Depthwise convolution under the two names that forks gave it: each channel by a filter of its own (MobileNet)."""

from __future__ import annotations

from collections.abc import Sequence

from fcnlite.blob import Blob
from fcnlite.layers.base import register
from fcnlite.layers.convolution import Convolution


@register
class DepthwiseConvolution(Convolution):
    """A Convolution whose `group` is the number of channels: weight (O, 1, Kh, Kw), bias (O,).

    y[c] = w[c] * x[c] + b[c] (Howard et al. 2017). `convolution_param` as in Convolution; `group` may be left out.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.convolution_param
        channels = bottom[0].shape[1] if len(bottom[0].shape) > 1 else 0
        if p.HasField("group") and p.group not in (1, channels):
            raise self.fail(f"group {p.group} must be the number of channels, {channels}, or left out")
        p.group = max(channels, 1)
        super().setup(bottom, top)


@register
class ConvolutionDepthwise(DepthwiseConvolution):
    """DepthwiseConvolution under its other name."""
