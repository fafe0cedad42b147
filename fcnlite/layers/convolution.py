"""Convolution and Deconvolution: the same window algebra run forwards and backwards (Caffe's BaseConvolutionLayer)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import MANY, Layer, register
from fcnlite.layers.columns import Window, correlate, gradients, image_gradient, weight_gradient


class _Sliding(Layer):
    """What both have in common: the window, the group, the parameters' shapes and the bias."""

    bottoms = (1, MANY)
    tops = (1, MANY)
    messages = ("convolution_param",)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.convolution_param
        if len(bottom) != len(top):
            raise self.fail(f"{len(bottom)} bottoms for {len(top)} tops; there must be as many")
        if len(bottom[0].shape) != 4:
            raise self.fail(f"the bottom has shape {bottom[0].shape}; N x C x H x W is needed")
        if self.axis(p.axis, bottom[0]) != 1:
            raise self.fail(f"axis {p.axis}: the channels must be axis 1, as in N x C x H x W")
        self.window = self._read_window(p)
        self.outputs, self.group = int(p.num_output), int(p.group)
        channels = bottom[0].shape[1]
        if self.outputs < 1:
            raise self.fail("num_output is missing or 0")
        if channels < 1:
            raise self.fail(f"the bottom has shape {bottom[0].shape}, no channels")
        if self.group < 1 or channels % self.group or self.outputs % self.group:
            raise self.fail(
                f"group {p.group} must divide the {channels} input channels and num_output {self.outputs}"
            )
        self.blobs = [self.make_blob(self.weight_shape(channels), p.weight_filler)]
        if p.bias_term:
            self.blobs.append(self.make_blob((self.outputs,), p.bias_filler))

    def weight_shape(self, channels: int) -> tuple[int, ...]:
        """Shape of the weight for that many input channels."""
        raise NotImplementedError

    def top_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the top for a bottom of ``size``."""
        raise NotImplementedError

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        for below, above in zip(bottom, top):
            if len(below.shape) != 4 or below.shape[1] != self._input_channels():
                raise self.fail(
                    f"the bottom has shape {below.shape}; {self._input_channels()} channels are needed"
                )
            size = self.top_size((below.shape[2], below.shape[3]))
            if min(size) < 1:
                raise self.fail(
                    f"a bottom of {below.shape[2]} x {below.shape[3]} is too small for kernel {self.window.kernel}, "
                    f"pad {self.window.pad}, stride {self.window.stride}, dilation {self.window.dilation}"
                )
            above.reshape(below.shape[0], self.outputs, *size)

    @property
    def bias(self) -> Any:
        """The bias array, or None."""
        return self.blobs[1].data if len(self.blobs) > 1 else None

    def bias_backward(self, out_diff: Any) -> None:
        """Add each channel's sum of the gradient to the bias's diff."""
        if len(self.blobs) > 1 and self.learns(1):
            for image in out_diff:
                target, held = self.blobs[1].sum_diff()
                device.current().row_sums(image.reshape(self.outputs, -1), target, held)

    def _input_channels(self) -> int:
        raise NotImplementedError

    def _read_window(self, p: Any) -> Window:
        kernel = self._pair(p, "kernel_size", "kernel_h", "kernel_w", None)
        pad = self._pair(p, "pad", "pad_h", "pad_w", 0)
        stride = self._pair(p, "stride", "stride_h", "stride_w", 1)
        dilation = self._pair(p, "dilation", None, None, 1)
        if min(kernel) < 1 or min(stride) < 1 or min(dilation) < 1:
            raise self.fail(f"kernel {kernel}, stride {stride} and dilation {dilation} must be at least 1")
        return Window(kernel, pad, stride, dilation)

    def _pair(self, p: Any, both: str, h: str | None, w: str | None, default: int | None) -> tuple[int, int]:
        """(vertical, horizontal) value of a field that is given once, twice, or as _h and _w."""
        values = list(getattr(p, both))
        if h and w and (p.HasField(h) or p.HasField(w)):
            if values:
                raise self.fail(f"give either {both} or {h} and {w}, not both")
            if not (p.HasField(h) and p.HasField(w)) and default is None:
                raise self.fail(f"{h} and {w} must both be given")
            return int(getattr(p, h)), int(getattr(p, w))
        if len(values) not in (1, 2) and not (not values and default is not None):
            raise self.fail(f"{both} is given {len(values)} times; once for both axes or twice is needed")
        first, last = (values[0], values[-1]) if values else (default, default)
        return int(first), int(last)  # type: ignore[arg-type]


@register
class Convolution(_Sliding):
    """Caffe's Convolution: (N, C, H, W) -> (N, O, H', W'), weight (O, C / group, Kh, Kw), bias (O,).

    H' = floor((H + 2 pad - (dilation (Kh - 1) + 1)) / stride) + 1. ``convolution_param``: num_output, kernel_size,
    pad, stride, dilation, group, bias_term, and _h / _w forms.

    Attributes
    ----------
    slope : float
        What negative results are multiplied with: 1, or the slope of an in-place ReLU that a Net has folded in.
    """

    slope = 1.0

    def weight_shape(self, channels: int) -> tuple[int, ...]:
        return (self.outputs, channels // self.group, *self.window.kernel)

    def top_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return self.window.output_size(size)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        for below, above in zip(bottom, top):
            weight = self.blobs[0].data
            correlate(below.data, weight, self.bias, above.new_data(), self.window, self.group, self.slope)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        for below, above, wanted in zip(bottom, top, propagate_down):
            self.bias_backward(above.diff)
            weight_diff, held = self.blobs[0].sum_diff() if self.learns(0) else (None, False)
            image_diff = below.new_diff() if wanted else None
            if weight_diff is None and image_diff is None:
                continue
            image = below.data if weight_diff is not None else None
            weight = self.blobs[0].data if wanted else None
            gradients(image, weight, above.diff, image_diff, weight_diff, held, self.window, self.group)

    def _input_channels(self) -> int:
        return self.blobs[0].shape[1] * self.group


@register
class Deconvolution(_Sliding):
    """Caffe's Deconvolution (transposed convolution): weight (I, O / group, Kh, Kw), bias (O,).

    H' = stride (H - 1) + dilation (Kh - 1) + 1 - 2 pad. Forward is a convolution's gradient with respect to its
    image, backward is that convolution.
    """

    def weight_shape(self, channels: int) -> tuple[int, ...]:
        return (channels, self.outputs // self.group, *self.window.kernel)

    def top_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return self.window.transposed_size(size)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        backend = device.current()
        for below, above in zip(bottom, top):
            out = above.new_data()
            image_gradient(self.blobs[0].data, below.data, out, self.window, self.group)
            if self.bias is not None:
                height, width = out.shape[2:]
                plane = (width, height, height * width)
                for image in out:
                    backend.launch("bias_forward", self.outputs * height, *plane, 1.0, self.bias, image)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        for below, above, wanted in zip(bottom, top, propagate_down):
            self.bias_backward(above.diff)
            if self.learns(0):
                weight_diff, held = self.blobs[0].sum_diff()
                weight_gradient(above.diff, below.data, weight_diff, held, self.window, self.group)
            if wanted:
                correlate(above.diff, self.blobs[0].data, None, below.new_diff(), self.window, self.group)

    def _input_channels(self) -> int:
        return self.blobs[0].shape[0]
