"""ROIPooling: regions of a map max-pooled to one size (Fast R-CNN)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register
from fcnlite.layers.launch import new_array


@register
class ROIPooling(Layer):
    """Bottoms: maps (N, C, H, W), and regions (R, 5) of (image, x1, y1, x2, y2); top: (R, C, pooled_h, pooled_w).

    A region's corners, times `spatial_scale` and rounded, both belong to it; cell p of n along an axis is from floor(p
    l / n) to ceil((p + 1) l / n) of its length l, clipped to the map; its value is the maximum, 0 if it is empty
    (Girshick 2015).
    """

    bottoms = (2, 2)
    no_gradient = frozenset({1})

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.roi_pooling_param
        if p.pooled_h < 1 or p.pooled_w < 1 or p.spatial_scale <= 0:
            raise self.fail("pooled_h, pooled_w and spatial_scale must be given, and positive")

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p, maps, regions = self.param.roi_pooling_param, bottom[0].shape, bottom[1].shape
        if len(maps) != 4 or bottom[1].count != 5 * (regions[0] if regions else 0):
            raise self.fail(f"maps of shape {maps} and regions {regions}; N x C x H x W and R x 5 are needed")
        top[0].reshape(regions[0], maps[1], p.pooled_h, p.pooled_w)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        backend, p = device.current(), self.param.roi_pooling_param
        images, channels, height, width = bottom[0].shape
        if backend.checks_data:
            numbers = bottom[1].data.reshape(-1, 5)[:, 0]
            wrong = ~((numbers >= 0) & (numbers < images))
            if wrong.any():
                raise self.fail(
                    f"a region is of image {numbers[wrong][0]:g}; there are images 0 to {images - 1}"
                )
        self._winner = new_array(top[0].shape, np.int32)
        rows = bottom[1].shape[0] * channels * p.pooled_h
        numbers = (p.pooled_w, images, channels, height, width, p.pooled_h, p.spatial_scale)
        arrays = (bottom[0].data, bottom[1].data, top[0].new_data(), self._winner)
        backend.launch("roi_pool_forward", rows, *numbers, *arrays)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            images, channels, height, width = bottom[0].shape
            regions, _, pooled_h, pooled_w = top[0].shape
            numbers = (width, channels, height, regions, pooled_h * pooled_w)
            arrays = (bottom[1].data, self._winner, top[0].diff, bottom[0].new_diff())
            device.current().launch("roi_pool_backward", images * channels * height, *numbers, *arrays)
