"""Max and average pooling (Caffe's PoolingLayer); output sizes round up, windows are clipped to the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register
from fcnlite.layers.launch import new_array

MAX, AVE = 0, 1


@register
class Pooling(Layer):
    """(N, C, H, W) -> (N, C, H', W'), H' = ceil((H + 2 pad - kernel) / stride) + 1, or floor by round_mode.

    A window that would start beyond the image and its upper padding is dropped. MAX: the first maximum in
    row-major order alone gets the gradient; a second top, if wanted, gets its place in the plane, y * W + x.
    AVE: divides by the window's size clipped to the padded image.

    ``dilation`` (one number, or one for each axis) spreads the window's pixels as in Convolution, its extent
    then being dilation * (kernel - 1) + 1. Caffe's Pooling has no such field; `fcnlite.dense` needs it.
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
        self.dilation = self._read_dilation(list(p.dilation))
        self._kernel = (0, 0) if self.is_global else self._read_kernel(p)
        self._extent = _extent(self._kernel, self.dilation)
        if min(self.stride) < 1:
            raise self.fail(f"stride {self.stride} must be at least 1")
        if self.is_global and (max(self.pad) > 0 or max(self.stride + self.dilation) > 1):
            raise self.fail("global_pooling goes with pad 0, stride 1 and dilation 1")
        if not self.is_global and (self.pad[0] >= self._extent[0] or self.pad[1] >= self._extent[1]):
            raise self.fail(f"pad {self.pad} must be smaller than the kernel {self._extent}")
        self._winner: Any = None
        self._taps: dict[tuple[int, ...], tuple[Any, Any]] = {}

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) != 4:
            raise self.fail(f"the bottom has shape {shape}; N x C x H x W is needed")
        self.kernel = (shape[2], shape[3]) if self.is_global else self._kernel
        self.extent = _extent(self.kernel, self.dilation)
        size = tuple(self._out(n, axis) for axis, n in enumerate(shape[2:]))
        if min(size) < 1:
            raise self.fail(
                f"a bottom of {shape[2]} x {shape[3]} is too small for kernel {self.extent}, pad {self.pad}"
            )
        if self.pool == MAX and self.kernel[0] * self.kernel[1] > 65535:
            raise self.fail(f"a max window of {self.kernel} is larger than 65535 pixels")
        for blob in top:
            blob.reshape(shape[0], shape[1], *size)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        n, c, height, width = top[0].shape
        window = (*self.kernel, *self.pad, *self.stride, *self.dilation)
        numbers = (n * c * height, width, *bottom[0].shape[2:], height, *window)
        arrays = (bottom[0].data, top[0].new_data())
        if self.pool == AVE:
            taps = self._taps_for(bottom[0].shape[2:], top[0].shape[2:])
            device.current().launch("ave_pool_forward", *numbers, *taps, *arrays)
            return
        self._winner = self._winner_for(top[0].shape)
        device.current().launch("max_pool_forward", *numbers, *arrays, self._winner)
        if len(top) > 1:
            numbers = (n * c * height, width, bottom[0].shape[3], height, *window)
            arrays = (self._winner, top[1].new_data())
            device.current().launch("max_pool_mask", *numbers, *arrays)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if not propagate_down[0]:
            return
        n, c, height, width = bottom[0].shape
        rows, lanes = n * c * height * self.stride[1], -(-width // self.stride[1])
        window = (*self.kernel, *self.pad, *self.stride, *self.dilation)
        numbers = (rows, lanes, height, width, *top[0].shape[2:], *window)
        arrays = (top[0].diff, bottom[0].new_diff())
        if self.pool == AVE:
            taps = self._taps_for(bottom[0].shape[2:], top[0].shape[2:])
            device.current().launch("ave_pool_backward", *numbers, *taps, *arrays)
        else:
            device.current().launch("max_pool_backward", *numbers, arrays[0], self._winner, arrays[1])

    def _winner_for(self, shape: tuple[int, ...]) -> Any:
        """Two bytes an output pixel: where in its window the maximum was."""
        if self._winner is not None and self._winner.shape == shape:
            return self._winner
        return new_array(shape, np.uint16)

    def _taps_for(self, size: Sequence[int], out: Sequence[int]) -> tuple[Any, Any]:
        """How many of a window's rows, and columns, lie within the padded image, for each output position."""
        key = (*size, *out)
        if key not in self._taps:
            counts = []
            for axis in (0, 1):
                first = np.arange(out[axis]) * self.stride[axis] - self.pad[axis]
                end = np.minimum(first + self.extent[axis], size[axis] + self.pad[axis])
                counts.append(device.current().asarray(-((first - end) // self.dilation[axis]), np.int32))
            self._taps = {key: (counts[0], counts[1])}
        return self._taps[key]

    def _out(self, size: int, axis: int) -> int:
        pad, extent, stride = self.pad[axis], self.extent[axis], self.stride[axis]
        span = size + 2 * pad - extent
        out = (span // stride if self.floor else -(-span // stride)) + 1
        if max(self.pad) > 0 and (out - 1) * stride >= size + pad:  # on both axes, if either is padded
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

    def _read_dilation(self, given: Sequence[int]) -> tuple[int, int]:
        if len(given) > 2 or any(d < 1 for d in given):
            raise self.fail(f"dilation {given} must be one number of at least 1, or one for each axis")
        return (given[0], given[-1]) if given else (1, 1)


def _extent(kernel: Sequence[int], dilation: Sequence[int]) -> tuple[int, int]:
    """Side lengths of what a window spans."""
    return dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1
