"""Local response normalisation, across channels and within a channel (Caffe's LRNLayer)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register
from fcnlite.layers.launch import copied, new_array
from fcnlite.layers.window import POINT, Window
from fcnlite.proto import LRNParameter


@register
class LRN(Layer):
    """y = x * (k + alpha / n * sum of x^2 over the window)^-beta on (N, C, H, W) (Krizhevsky et al. 2012).

    `lrn_param`: local_size (odd), alpha, beta, k, norm_region. ACROSS_CHANNELS: the window is local_size
    neighbouring channels and n is local_size. WITHIN_CHANNEL: it is local_size x local_size pixels, n is
    local_size^2, and k is 1 whatever the parameter says, as in Caffe.
    """

    in_place = True

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.lrn_param
        size = int(p.local_size)
        if size % 2 == 0:
            raise self.fail(f"local_size {size} must be odd")
        across = p.norm_region == LRNParameter.ACROSS_CHANNELS
        reach = (size - 1) // 2
        self.reach = (reach, 0) if across else (0, reach)
        self.k = p.k if across else 1.0
        self.factor, self.beta = p.alpha / (size if across else size * size), p.beta

    def sight(self) -> Window | None:
        return POINT if self.reach[1] == 0 else None

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        if len(bottom[0].shape) != 4:
            raise self.fail(f"the bottom has shape {bottom[0].shape}; N x C x H x W is needed")
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.keep_input(bottom, top)
        self._forward(bottom, None, top[0].new_data())

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if not propagate_down[0]:
            return
        n, c, height, width = bottom[0].shape
        scale = new_array(bottom[0].shape)  # made again here: cheaper than keeping it since forward
        self._forward(bottom, scale, None)
        diff = top[0].diff if top[0] is not bottom[0] else copied(top[0].diff)
        arrays = (self.kept_input(bottom), scale, top[0].data, diff, bottom[0].new_diff())
        geometry = (width, c, height, *self._reach(height, width), self.factor, self.beta)
        device.current().launch("lrn_backward", n * c * height, *geometry, *arrays)

    def _reach(self, height: int, width: int) -> tuple[int, int]:
        """Reach of the window over channels and over pixels; no further than the map, which bounds the work."""
        return self.reach[0], min(self.reach[1], max(height, width))

    def _forward(self, bottom: Sequence[Blob], scale: Any, out: Any) -> None:
        n, c, height, width = bottom[0].shape
        geometry = (width, c, height, *self._reach(height, width), self.k, self.factor, self.beta)
        device.current().launch("lrn_forward", n * c * height, *geometry, self.kept_input(bottom), scale, out)
