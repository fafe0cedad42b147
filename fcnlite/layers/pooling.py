"""Max and average pooling (Caffe's PoolingLayer); output sizes round up, windows are clipped to the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fcnlite import device
from fcnlite.backend import Array
from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register
from fcnlite.layers.launch import new_array
from fcnlite.layers.window import Sizes, Window
from fcnlite.proto import Message

_MOST_TAPS = 65535  # a winner's place in its window is stored in two bytes


@dataclass
class _Stage:
    """Pooling over two axes at a time: (planes, rows, lanes) to (planes, out_rows, out_lanes).

    A box is pooled axis by axis: its maximum is the maximum of maxima, with the same one winning among equals, and the
    size that an average divides by is the product of its sides.
    """

    planes: int
    size: Sizes
    out: Sizes
    window: Window
    winner: Any = None  # two bytes an output pixel: where in its window the maximum was
    taps: tuple[Any, ...] = field(default=())

    @property
    def numbers(self) -> tuple[int, ...]:
        return self.window.numbers()

    def max_forward(self, below: Array, above: Array) -> None:
        height, width = self.out
        if self.winner is None:
            self.winner = new_array((self.planes, height, width), np.uint16)
        arguments = (*self.size, height, *self.numbers, below, above, self.winner)
        device.current().launch("max_pool_forward", self.planes * height, width, *arguments)

    def ave_forward(self, below: Array, above: Array) -> None:
        height, width = self.out
        arguments = (*self.size, height, *self.numbers, *self._taps(), below, above)
        device.current().launch("ave_pool_forward", self.planes * height, width, *arguments)

    def max_backward(self, above_diff: Array, below_diff: Array) -> None:
        arguments = (*self._rows_back(), *self.out, *self.numbers, above_diff, self.winner, below_diff)
        device.current().launch("max_pool_backward", *arguments)

    def ave_backward(self, above_diff: Array, below_diff: Array) -> None:
        arguments = (*self._rows_back(), *self.out, *self.numbers, *self._taps(), above_diff, below_diff)
        device.current().launch("ave_pool_backward", *arguments)

    def mask(self, places: Array) -> None:
        """Where each maximum lies in its plane, y * W + x."""
        height, width = self.out
        arguments = (self.size[1], height, *self.numbers, self.winner, places)
        device.current().launch("max_pool_mask", self.planes * height, width, *arguments)

    def _rows_back(self) -> tuple[int, ...]:
        stride = self.window.stride[1]
        return self.planes * self.size[0] * stride, -(-self.size[1] // stride), *self.size

    def _taps(self) -> tuple[Any, ...]:
        """Numbers of a window's rows, and columns, that lie within the padded image, for each output position."""
        if not self.taps:
            w, counts = self.window, []
            for n, out, pad, stride, extent, dilation in zip(
                self.size, self.out, w.pad, w.stride, w.extent, w.dilation
            ):
                first = np.arange(out) * stride - pad
                end = np.minimum(first + extent, n + pad)
                counts.append(device.current().asarray(-((first - end) // dilation), np.int32))
            self.taps = tuple(counts)
        return self.taps


@register
class Pooling(Layer):
    """(N, C, H, W) -> (N, C, H', W'), H' = ceil((H + 2 pad - kernel) / stride) + 1, or floor by round_mode.

    A window that would start beyond the image and its upper padding is dropped. MAX: the first maximum in
    row-major order alone gets the gradient; a second top, if wanted, gets its place in the plane, y * W + x.
    AVE: divides by the window's size clipped to the padded image.

    Caffe pools over two axes. Here a bottom may have any number of spatial axes, over all of which the same kernel, pad
    and stride hold, or `kernel_shape`, `pad_shape` and `stride_shape` with a number for each.

    Parameters
    ----------
    pool : str
        "MAX" or "AVE".
    kernel_size, pad, stride : int
        As for `Convolution`; `kernel_h`, `kernel_w` and so on with two axes.
    kernel_shape, pad_shape, stride_shape : sequence of int
        One number for each spatial axis (not Caffe's).
    dilation : int or sequence of int
        Spreads the window's pixels as in Convolution (not Caffe's; `fcnlite.dense` needs it).
    global_pooling : bool
        The window is the whole map.
    round_mode : str
        "CEIL" or "FLOOR".
    """

    tops = (1, 2)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.pooling_param
        if p.pool not in (p.MAX, p.AVE):
            raise self.fail("only MAX and AVE pooling exist here (Caffe's STOCHASTIC needs a GPU there)")
        self.is_max, self.is_global, self.floor = p.pool == p.MAX, p.global_pooling, p.round_mode == p.FLOOR
        if self.is_global and any(p.HasField(f"kernel_{side}") for side in ("size", "h", "w")):
            raise self.fail("global_pooling takes the whole map for its window; take the kernel's size out")
        axes = len(bottom[0].shape) - 2
        if axes < 1:
            raise self.fail(f"the bottom has shape {bottom[0].shape}; N x C x H x W is needed")
        if len(top) > 1 and (not self.is_max or axes > 2):
            raise self.fail("only MAX pooling over two axes has a second top, the places of the maxima")
        self.window = self._read_window(p, axes)
        w = self.window
        if self.is_global and (max(w.pad) > 0 or max(w.stride + w.dilation) > 1):
            raise self.fail("global_pooling goes with pad 0, stride 1 and dilation 1")
        if not self.is_global and any(pad >= extent for pad, extent in zip(w.pad, w.extent)):
            raise self.fail(f"pad {w.pad} must be smaller than the kernel {w.extent}")
        self._stages: list[_Stage] = []
        self._staged: tuple[Sizes, Sizes] = (), ()

    def _read_window(self, p: Message, axes: int) -> Window:
        """The window, whose kernel stands for nothing yet where the pooling is global."""
        for name, field_name in (
            ("kernel_shape", "kernel_size"),
            ("pad_shape", "pad"),
            ("stride_shape", "stride"),
        ):
            if len(getattr(p, name)) not in (0, axes):
                raise self.fail(
                    f"{name} needs {axes} numbers, one for each axis; it has {len(getattr(p, name))}"
                )
            if getattr(p, name) and p.HasField(field_name):
                raise self.fail(f"{name} goes without {field_name}; give one or the other")
        message = p
        if self.is_global or p.kernel_shape:
            message = type(p)()
            message.CopyFrom(p)
            if not (p.HasField("kernel_h") or p.HasField("kernel_w")):
                message.kernel_size = p.kernel_size or 1
        read = Window.read(message, axes, self.fail)
        return Window(
            tuple(p.kernel_shape) or read.kernel,
            tuple(p.pad_shape) or read.pad,
            tuple(p.stride_shape) or read.stride,
            read.dilation,
        )

    def sight(self) -> Window | None:
        return None if self.is_global or self.window.axes != 2 or len(self.param.top) > 1 else self.window

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) != self.window.axes + 2:
            raise self.fail(f"the bottom has shape {shape}; {self.window.axes + 2} axes are needed")
        size = shape[2:]
        if self.is_global:
            w = self.window
            self.window = Window(size, w.pad, w.stride, w.dilation)
        out = self.window.pooled_size(size, self.floor)
        if min(out) < 1:
            raise self.fail(
                f"a bottom of {' x '.join(map(str, size))} is too small for kernel {self.window.extent}, "
                f"pad {self.window.pad}"
            )
        for blob in top:
            blob.reshape(*shape[:2], *out)
        if self._staged != (shape, out):
            self._stages, self._staged = list(self._plan(shape, out)), (shape, out)
            if self.is_max and any(stage.window.area > _MOST_TAPS for stage in self._stages):
                raise self.fail(f"a max window of {self.window.kernel} is larger than {_MOST_TAPS} pixels")

    def _plan(self, shape: Sizes, out: Sizes) -> list[_Stage]:
        """The last two axes together, then the others one by one from the inside."""
        w, size = self.window.lifted(), (1,) * (2 - self.window.axes) + tuple(shape[2:])
        made = (1,) * (2 - self.window.axes) + tuple(out)
        outer, stages = len(size) - 2, []
        for axis in range(outer, -1, -1):
            planes = math.prod(shape[:2]) * math.prod(size[:axis])
            inner = math.prod(made[axis + 1 :])
            if axis == outer:
                stages.append(_Stage(planes, size[axis:], made[axis:], _sub(w, axis, axis + 2)))
            else:
                still = Window((1,), (0,), (1,), (1,))
                window = Window(*(a + b for a, b in zip(_parts(_sub(w, axis, axis + 1)), _parts(still))))
                stages.append(_Stage(planes, (size[axis], inner), (made[axis], inner), window))
        return stages

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        below = bottom[0].data
        for stage in self._stages:
            above = top[0].new_data() if stage is self._stages[-1] else new_array((stage.planes, *stage.out))
            (stage.max_forward if self.is_max else stage.ave_forward)(below, above)
            below = above
        if len(top) > 1:
            self._stages[0].mask(top[1].new_data())

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if not propagate_down[0]:
            return
        above = top[0].diff
        for stage in reversed(self._stages):
            below = (
                bottom[0].new_diff() if stage is self._stages[0] else new_array((stage.planes, *stage.size))
            )
            (stage.max_backward if self.is_max else stage.ave_backward)(above, below)
            above = below


def _parts(window: Window) -> tuple[Sizes, Sizes, Sizes, Sizes]:
    return window.kernel, window.pad, window.stride, window.dilation


def _sub(window: Window, first: int, end: int) -> Window:
    """The window's sides along some of its axes."""
    return Window(*(part[first:end] for part in _parts(window)))
