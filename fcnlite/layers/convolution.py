"""Convolution and Deconvolution: the same window algebra run forwards and backwards (Caffe's BaseConvolutionLayer)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fcnlite import device
from fcnlite.backend import Array
from fcnlite.blob import Blob
from fcnlite.layers import winograd
from fcnlite.layers.base import MANY, Layer, register
from fcnlite.layers.columns import correlate, gradients, image_gradient, weight_gradient
from fcnlite.layers.launch import copied
from fcnlite.layers.window import Sizes, Window


class _Sliding(Layer):
    """Base of both: the window, the group, the parameters' shapes and the bias.

    All axes before `axis` count images, it is the channels, and the window slides over those after it.
    """

    bottoms = (1, MANY)
    tops = (1, MANY)
    in_place = True
    messages = ("convolution_param",)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p, shape = self.param.convolution_param, bottom[0].shape
        if len(bottom) != len(top):
            raise self.fail(f"{len(bottom)} bottoms for {len(top)} tops; there must be as many")
        self.channel_axis = self.axis(p.axis, bottom[0])
        self.window = Window.read(p, len(shape) - self.channel_axis - 1, self.fail)
        self.lifted = self.window.lifted()
        self.outputs, self.group = int(p.num_output), int(p.group)
        channels = shape[self.channel_axis]
        if self.outputs < 1:
            raise self.fail("num_output is missing or 0")
        if channels < 1:
            raise self.fail(f"the bottom has shape {shape}, no channels")
        if self.group < 1 or channels % self.group or self.outputs % self.group:
            raise self.fail(
                f"group {p.group} must divide the {channels} input channels and num_output {self.outputs}"
            )
        self.blobs = [self.make_blob(self.weight_shape(channels), p.weight_filler)]
        if p.bias_term:
            self.blobs.append(self.make_blob((self.outputs,), p.bias_filler))

    def weight_shape(self, channels: int) -> Sizes:
        """Shape of the weight for that many input channels."""
        raise NotImplementedError

    def top_size(self, size: Sequence[int]) -> Sizes:
        """Spatial size of the top for a bottom of `size`."""
        raise NotImplementedError

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        images, axes = self.channel_axis, self.channel_axis + 1 + self.window.axes
        for below, above in zip(bottom, top):
            if len(below.shape) != axes or below.shape[images] != self._input_channels():
                raise self.fail(
                    f"the bottom has shape {below.shape}; {self._input_channels()} channels on axis {images} of {axes} "
                    "are needed"
                )
            size = self.top_size(below.shape[images + 1 :])
            if min(size, default=1) < 1:
                raise self.fail(
                    f"a bottom of {' x '.join(map(str, below.shape[images + 1 :]))} is too small for kernel "
                    f"{self.window.kernel}, pad {self.window.pad}, stride {self.window.stride}, dilation "
                    f"{self.window.dilation}"
                )
            shape = (*below.shape[:images], self.outputs, *size)
            if above is below and shape != below.shape:
                raise self.fail(
                    f"in place it would make {shape} of {below.shape}; give the top a name of its own"
                )
            above.reshape(*shape)

    def keep_images(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy the bottoms that this forward overwrites, being in place."""
        self._kept = {i: copied(b.data) for i, (b, t) in enumerate(zip(bottom, top)) if t is b}

    def image(self, number: int, bottom: Sequence[Blob]) -> Array:
        """The images of a bottom as forward reads them."""
        return self.images(self._kept.get(number, bottom[number].data))

    def out_diff(self, number: int, bottom: Sequence[Blob], top: Sequence[Blob]) -> Array:
        """The gradient of a top, copied if it is to be overwritten."""
        diff = top[number].diff
        return self.images(copied(diff) if top[number] is bottom[number] else diff)

    @property
    def bias(self) -> Array:
        """The bias array, or None."""
        return self.blobs[1].data if len(self.blobs) > 1 else None

    def bias_backward(self, out_diff: Array) -> None:
        """Add each channel's sum of the gradient to the bias's diff."""
        if len(self.blobs) > 1 and self.learns(1):
            for image in out_diff:
                target, held = self.blobs[1].sum_diff()
                device.current().row_sums(image.reshape(self.outputs, -1), target, held)

    def images(self, array: Array) -> Array:
        """A blob's array as (images, channels, spatial axes), of which there are at least two."""
        size = array.shape[self.channel_axis + 1 :]
        ones = (1,) * (self.lifted.axes - len(size))
        images = math.prod(array.shape[: self.channel_axis])
        return array.reshape(images, array.shape[self.channel_axis], *ones, *size)

    @property
    def weight(self) -> Array:
        """The weight's array, of whose window every spatial axis of `images` has a side."""
        held = self.blobs[0].data
        return held.reshape(*held.shape[:2], *self.lifted.kernel)

    def weight_diff(self) -> tuple[Array, bool]:
        """The weight's diff in the shape of `weight`, and whether to add to it."""
        diff, held = self.blobs[0].sum_diff()
        return diff.reshape(*diff.shape[:2], *self.lifted.kernel), held

    def _input_channels(self) -> int:
        raise NotImplementedError


@register
class Convolution(_Sliding):
    """Caffe's Convolution: (N, C, H, W) -> (N, O, H', W'), weight (O, C / group, Kh, Kw), bias (O,).

    H' = floor((H + 2 pad - (dilation (Kh - 1) + 1)) / stride) + 1; likewise over any number of spatial axes.

    Parameters
    ----------
    num_output : int
        Channels of the top.
    kernel_size : int or sequence of int
        Side of the window, for all spatial axes or for each; with two axes also `kernel_h` and `kernel_w`.
    pad, stride, dilation : int or sequence of int
        Zeros on each border, steps between windows, steps between a window's pixels; `pad_h`, `stride_w` and so on.
    group : int
        Groups of channels that are convolved apart.
    axis : int
        The channels' axis: those before it count images, the window slides over those after it.
    bias_term : bool
    weight_filler, bias_filler : dict
        As in a prototxt: `{"type": "xavier"}`.

    Attributes
    ----------
    slope : float
        Factor of negative results: 1, or the slope of an in-place ReLU that a Net has folded in.
    trim : sequence of (int, int)
        Rows of padding that a Net leaves out before and behind each axis, since their windows are equal.
    """

    slope = 1.0
    trim: tuple[tuple[int, int], ...] = ()

    def weight_shape(self, channels: int) -> Sizes:
        return (self.outputs, channels // self.group, *self.window.kernel)

    def top_size(self, size: Sequence[int]) -> Sizes:
        if self.trim:
            size = [n - sum(left_out) for n, left_out in zip(size, self.trim)]
        return self.window.output_size(size)

    def sight(self) -> Window | None:
        return self.window if self.window.axes == 2 and self.channel_axis == 1 else None

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.keep_images(bottom, top)
        for i, above in enumerate(top):
            image, out = self.image(i, bottom), self.images(above.new_data())
            run = winograd.correlate if self._fast() else correlate
            run(image, self.weight, self.bias, out, self._trimmed(), self.group, self.slope)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        for i, (below, wanted) in enumerate(zip(bottom, propagate_down)):
            out_diff = self.out_diff(i, bottom, top)
            self.bias_backward(out_diff)
            weight_diff, held = self.weight_diff() if self.learns(0) else (None, False)
            image_diff = self.images(below.new_diff()) if wanted else None
            if weight_diff is None and image_diff is None:
                continue
            image = self.image(i, bottom) if weight_diff is not None else None
            if wanted and self._fast() and max(self.window.pad) <= winograd.MOST_PAD:
                winograd.image_gradient(self.weight, out_diff, image_diff, self.lifted, self.group)
                image_diff = None
            weight = self.weight if image_diff is not None else None
            if weight_diff is None and image_diff is None:
                continue
            gradients(image, weight, out_diff, image_diff, weight_diff, held, self._trimmed(), self.group)

    def _fast(self) -> bool:
        """True to go Winograd's way."""
        channels = self._input_channels() // self.group
        return device.current().fast and winograd.suits(self.lifted, channels, self.outputs // self.group)

    def _trimmed(self) -> Window:
        """The window with the padding as it is trimmed: what is left out behind shows in the top's size alone."""
        if not self.trim:
            return self.lifted
        pad = tuple(n - left_out for n, (left_out, _) in zip(self.lifted.pad, self.trim))
        return replace(self.lifted, pad=pad)

    def _input_channels(self) -> int:
        return self.blobs[0].shape[1] * self.group


@register
class Deconvolution(_Sliding):
    """Caffe's Deconvolution (transposed convolution): weight (I, O / group, Kh, Kw), bias (O,).

    H' = stride (H - 1) + dilation (Kh - 1) + 1 - 2 pad. Forward is a convolution's gradient with respect to its
    image, backward is that convolution. Parameters are those of `Convolution`.
    """

    def weight_shape(self, channels: int) -> Sizes:
        return (channels, self.outputs // self.group, *self.window.kernel)

    def top_size(self, size: Sequence[int]) -> Sizes:
        return self.window.transposed_size(size)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        backend = device.current()
        self.keep_images(bottom, top)
        for i, above in enumerate(top):
            out = self.images(above.new_data())
            if self._joins_no_channels():
                self._each_channel(self.image(i, bottom), out)
            else:
                image_gradient(self.weight, self.image(i, bottom), out, self.lifted, self.group)
            if self.bias is not None:
                rows, width = math.prod(out.shape[2:-1]), out.shape[-1]
                plane = (width, rows, rows * width)
                for image in out:
                    backend.launch("bias_forward", self.outputs * rows, *plane, 1.0, self.bias, image)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        for i, (below, wanted) in enumerate(zip(bottom, propagate_down)):
            out_diff = self.out_diff(i, bottom, top)
            self.bias_backward(out_diff)
            if self.learns(0):
                weight_diff, held = self.weight_diff()
                weight_gradient(out_diff, self.image(i, bottom), weight_diff, held, self.lifted, self.group)
            if wanted:
                image_diff = self.images(below.new_diff())
                correlate(out_diff, self.weight, None, image_diff, self.lifted, self.group)

    def _joins_no_channels(self) -> bool:
        """True if each output channel comes from the input channel of its number alone, as in bilinear upsampling.

        Leaving the zeros out changes no bit, but for channels with infinities or NaN, which stay among themselves.
        """
        inputs, outputs = self.blobs[0].shape[:2]
        window, looks = self.lifted, device.current().checks_data
        if self.group > 1 or inputs != outputs or window.axes != 2 or max(window.dilation) > 1 or not looks:
            return False
        return bool((self.weight.any(axis=(2, 3)) <= np.eye(inputs, dtype=bool)).all())

    def _each_channel(self, image: Array, out: Array) -> None:
        """Deconvolve each channel by itself."""
        window, planes = self.lifted, math.prod(out.shape[:2])
        geometry = (*image.shape[1:], *out.shape[2:], *window.kernel, *window.pad, *window.stride)
        rows, lanes = planes * out.shape[2] * window.stride[1], -(-out.shape[3] // window.stride[1])
        device.current().launch("deconvolve_planes", rows, lanes, *geometry, self.weight, image, out)

    def _input_channels(self) -> int:
        return self.blobs[0].shape[0]
