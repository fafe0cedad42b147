"""Max and average pooling (Caffe's PoolingLayer); output sizes round up, windows are clipped to the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, new_array, register

MAX, AVE = 0, 1


@register
class Pooling(Layer):
    """(N, C, H, W) -> (N, C, H', W'), H' = ceil((H + 2 pad - kernel) / stride) + 1, or floor by round_mode.

    A window that would start beyond the image and its upper padding is dropped. MAX: the first maximum in
    row-major order alone gets the gradient; a second top, if wanted, gets its place in the plane, y * W + x.
    AVE: divides by the window's size clipped to the padded image.
    """

    tops = (1, 2)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.pooling_param
        if p.pool not in (MAX, AVE):
            raise self.fail("only MAX and AVE pooling exist here (Caffe's STOCHASTIC needs a GPU there)")
        self.pool, self.is_global, self.floor = p.pool, p.global_pooling, p.round_mode == 1
        if len(top) > 1 and p.pool != MAX:
            raise self.fail("only MAX pooling has a second top, the places of the maxima")
        self.pad = self._pair(p, "pad", "pad_h", "pad_w")
        self.stride = self._pair(p, "stride", "stride_h", "stride_w")
        self._kernel = (0, 0) if self.is_global else self._read_kernel(p)
        if min(self.stride) < 1:
            raise self.fail(f"stride {self.stride} must be at least 1")
        if self.is_global and (max(self.pad) > 0 or max(self.stride) > 1):
            raise self.fail("global_pooling goes with pad 0 and stride 1")
        if not self.is_global and (self.pad[0] >= self._kernel[0] or self.pad[1] >= self._kernel[1]):
            raise self.fail(f"pad {self.pad} must be smaller than the kernel {self._kernel}")
        self._winner: Any = None

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) != 4:
            raise self.fail(f"the bottom has shape {shape}; N x C x H x W is needed")
        self.kernel = (shape[2], shape[3]) if self.is_global else self._kernel
        size = tuple(self._out(n, axis) for axis, n in enumerate(shape[2:]))
        if min(size) < 1:
            raise self.fail(
                f"a bottom of {shape[2]} x {shape[3]} is too small for kernel {self.kernel}, pad {self.pad}"
            )
        if self.pool == MAX and self.kernel[0] * self.kernel[1] > 65535:
            raise self.fail(f"a max window of {self.kernel} is larger than 65535 pixels")
        for blob in top:
            blob.reshape(shape[0], shape[1], *size)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        n, c, height, width = top[0].shape
        geometry = (*bottom[0].shape[2:], height, *self.kernel, *self.pad, *self.stride)
        arguments = (n * c * height, width, *geometry, bottom[0].data, top[0].new_data())
        if self.pool == AVE:
            device.current().launch("ave_pool_forward", *arguments)
            return
        self._winner = self._winner_for(top[0].shape)
        device.current().launch("max_pool_forward", *arguments, self._winner)
        if len(top) > 1:
            numbers = (width, bottom[0].shape[3], height, *self.kernel, *self.pad, *self.stride)
            arrays = (self._winner, top[1].new_data())
            device.current().launch("max_pool_mask", n * c * height, *numbers, *arrays)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if not propagate_down[0]:
            return
        n, c, height, width = bottom[0].shape
        rows, lanes = n * c * height * self.stride[1], -(-width // self.stride[1])
        geometry = (height, width, *top[0].shape[2:], *self.kernel, *self.pad, *self.stride)
        if self.pool == AVE:
            name, diffs = "ave_pool_backward", [top[0].diff, bottom[0].new_diff()]
        else:
            name, diffs = "max_pool_backward", [top[0].diff, self._winner, bottom[0].new_diff()]
        device.current().launch(name, rows, lanes, *geometry, *diffs)

    def _winner_for(self, shape: tuple[int, ...]) -> Any:
        """Two bytes an output pixel: where in its window the maximum was."""
        if self._winner is not None and self._winner.shape == shape:
            return self._winner
        return new_array(shape, np.uint16)

    def _out(self, size: int, axis: int) -> int:
        pad, kernel, stride = self.pad[axis], self.kernel[axis], self.stride[axis]
        span = size + 2 * pad - kernel
        out = (span // stride if self.floor else -(-span // stride)) + 1
        if pad > 0 and (out - 1) * stride >= size + pad:
            out -= 1
        return out

    def _pair(self, p: Any, both: str, h: str, w: str) -> tuple[int, int]:
        if p.HasField(h) or p.HasField(w):
            if p.HasField(both):
                raise self.fail(f"give either {both} or {h} and {w}, not both")
            return int(getattr(p, h)), int(getattr(p, w))
        return int(getattr(p, both)), int(getattr(p, both))

    def _read_kernel(self, p: Any) -> tuple[int, int]:
        if not p.HasField("kernel_size") and not (p.HasField("kernel_h") and p.HasField("kernel_w")):
            raise self.fail("kernel_size, or kernel_h and kernel_w, is missing")
        kernel = self._pair(p, "kernel_size", "kernel_h", "kernel_w")
        if min(kernel) < 1:
            raise self.fail(f"kernel {kernel} must be at least 1")
        return kernel
