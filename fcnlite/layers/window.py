"""The geometry of sliding windows over any number of axes, read once for convolutions, poolings and their like."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fcnlite.errors import InputError
from fcnlite.proto import Message

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Window:
    """A sliding window; each field has one number for each spatial axis, (vertical, horizontal) for images."""

    kernel: Sizes
    pad: Sizes
    stride: Sizes
    dilation: Sizes

    @classmethod
    def read(cls, message: Message, axes: int = 2, fail: Callable[[str], InputError] = InputError) -> Window:
        """The window that a convolution_param or pooling_param describes.

        Parameters
        ----------
        message : ConvolutionParameter or PoolingParameter
            kernel_size, pad, stride and dilation are given once for all axes or once per axis; with two axes also as
            kernel_h, kernel_w and so on.
        axes : int
            Number of spatial axes.
        fail : callable
            Makes the error from its message.

        Raises
        ------
        InputError
            A field is missing, is given another number of times, or is out of range.
        """
        kernel = _sides(message, "kernel_size", "kernel", axes, None, fail)
        pad = _sides(message, "pad", "pad", axes, 0, fail)
        stride = _sides(message, "stride", "stride", axes, 1, fail)
        dilation = _sides(message, "dilation", "", axes, 1, fail)
        if min((*kernel, *stride, *dilation), default=1) < 1:
            raise fail(f"kernel {kernel}, stride {stride} and dilation {dilation} must be at least 1")
        return cls(kernel, pad, stride, dilation)

    @property
    def axes(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel)

    @property
    def area(self) -> int:
        """Pixels in a window."""
        return math.prod(self.kernel)

    @property
    def extent(self) -> Sizes:
        """Size a window covers, dilation included."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation))

    @property
    def pointwise(self) -> bool:
        """True if the image is its own column matrix."""
        return {*self.kernel, *self.stride} <= {1} and not any(self.pad)

    def output_size(self, size: Sequence[int]) -> Sizes:
        """Size that a convolution makes of `size`; may be less than 1 where the window does not fit."""
        return tuple((n + 2 * p - e) // s + 1 for n, p, e, s in zip(size, self.pad, self.extent, self.stride))

    def transposed_size(self, size: Sequence[int]) -> Sizes:
        """Size that a deconvolution makes of `size`."""
        return tuple(s * (n - 1) + e - 2 * p for n, p, e, s in zip(size, self.pad, self.extent, self.stride))

    def pooled_size(self, size: Sequence[int], floor: bool = False) -> Sizes:
        """Size that a pooling makes of `size`: rounded up, but no window begins beyond the image and its padding."""
        out = []
        for n, p, e, s in zip(size, self.pad, self.extent, self.stride):
            count = ((n + 2 * p - e) // s if floor else -(-(n + 2 * p - e) // s)) + 1
            if any(self.pad) and (count - 1) * s >= n + p:  # on every axis, if any is padded
                count -= 1
            out.append(count)
        return tuple(out)

    def lifted(self) -> Window:
        """The same window over at least two axes: it stands still on those that are put before."""
        missing = max(0, 2 - self.axes)
        ones, zeros = (1,) * missing, (0,) * missing
        return Window(ones + self.kernel, zeros + self.pad, ones + self.stride, ones + self.dilation)

    def numbers(self) -> Sizes:
        """The geometry in the order in which the kernels take it."""
        return (*self.kernel, *self.pad, *self.stride, *self.dilation)


POINT = Window((1, 1), (0, 0), (1, 1), (1, 1))  # a single pixel of an image


def _sides(
    message: Message, name: str, stem: str, axes: int, default: int | None, fail: Callable[[str], InputError]
) -> Sizes:
    """A field given once, once per axis, or (with two axes) as STEM_h and STEM_w."""
    held = getattr(message, name)
    single = isinstance(held, int)  # a pooling_param's
    values = ([held] if message.HasField(name) else []) if single else list(held)
    high, wide = f"{stem}_h", f"{stem}_w"
    given = [part for part in (high, wide) if stem and message.HasField(part)]
    if given:
        if values:
            raise fail(f"{name} goes without {high} and {wide}; give one or the other")
        if axes != 2:
            raise fail(f"{high} and {wide} are for two axes; here are {axes}: give {name} once per axis")
        if len(given) < 2 and (single or default is None):  # as Caffe has it
            raise fail(f"{high} and {wide} go together; {given[0]} stands alone")
        return int(getattr(message, high)), int(getattr(message, wide))
    if not values and default is None and axes:
        raise fail(f"{name} is missing; give it once, or once per axis")
    if len(values) > 1 and len(values) != axes:
        raise fail(f"{name} is given {len(values)} times; give it once, or once for each of the {axes} axes")
    values = values or [default or 0]
    return tuple(int(value) for value in (values * axes if len(values) == 1 else values))
