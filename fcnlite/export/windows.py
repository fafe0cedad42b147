"""Caffe's pooling without rounding up: the padding with which rounding down gives the same windows, for any size.

Caffe rounds (H + 2P - K) / S up, which is rounding down with S - 1 more pixels at the end of the axis. Where an axis is
padded it then drops a window that would begin at or beyond H + P, which is having no more than K - 1 pixels there.
"""

from __future__ import annotations

from typing import Any


class PoolingWindow:
    """The window of a Pooling layer that is not global, for each axis.

    Attributes
    ----------
    kernel, stride, pad, dilation : sequence of int
        Caffe's.
    end : list of int
        Padding at the end of each axis; `pad` is that at the beginning.
    overhang : list of int
        How much of it lies beyond Caffe's own padding, which averages do not count.
    """

    def __init__(self, layer: Any):
        window = layer.window
        self.kernel, self.pad, self.stride = window.kernel, window.pad, window.stride
        self.dilation = window.dilation
        up = [0 if layer.floor else stride - 1 for stride in self.stride]
        self.end = [pad + more for pad, more in zip(self.pad, up)]
        if max(self.pad) > 0:  # on all axes, if any is padded
            self.end = [min(end, extent - 1) for end, extent in zip(self.end, window.extent)]
        self.overhang = [end - pad for end, pad in zip(self.end, self.pad)]
