"""Axpy: a * x + y with a factor for each channel (SENet)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register
from fcnlite.layers.launch import launch_flat, new_array, rows_of


@register
class Axpy(Layer):
    """z = a[n][c] x + y: bottoms a (N, C, 1, 1) or (N, C), x and y (N, C, H, W) (Hu, Shen and Sun 2018)."""

    bottoms = (3, 3)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        factor, shape = bottom[0].shape, bottom[1].shape
        if factor[:2] != shape[:2] or math.prod(factor) != math.prod(shape[:2]) or bottom[2].shape != shape:
            raise self.fail(
                f"bottoms of shapes {[blob.shape for blob in bottom]}; (N, C, 1, 1) and twice (N, C, H, W) are needed"
            )
        top[0].reshape(*shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self._scale(bottom[0].data, bottom[1].data, top[0].new_data())
        launch_flat("add_scaled", top[0].count, 1.0, bottom[2].data, top[0].data)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        diff = top[0].diff
        if propagate_down[0]:
            products = new_array(diff.shape)
            launch_flat("eltwise_prod", top[0].count, bottom[1].data, diff, products)
            sums = bottom[0].new_diff().reshape(-1)
            device.current().row_sums(products.reshape(sums.size, -1), sums)
        if propagate_down[1]:
            self._scale(bottom[0].data, diff, bottom[1].new_diff())
        if propagate_down[2]:
            launch_flat("copy_scaled", top[0].count, 1.0, diff, bottom[2].new_diff())

    def _scale(self, factor: Any, source: Any, target: Any) -> None:
        channels = factor.size
        inner_rows, width = rows_of(source.shape[2:])
        arguments = (width, channels, inner_rows, factor.reshape(-1), None, source, target)
        device.current().launch("scale_forward", channels * inner_rows, *arguments)
