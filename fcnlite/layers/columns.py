"""Convolution as matrix product, in strips: the one algorithm behind Convolution and Deconvolution.

The column matrix of im2col is never made as a whole, only for a strip of output rows at a time, sized by the
backend (a cache's worth for each thread on the CPU, some tens of MB on a GPU). How the work is cut depends on shapes
alone, never on the number of threads, so the bits do not either.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from fcnlite import device

_MANY_STRIPS = 8  # from here on strips are handed out to threads, below that the threads share each strip


@dataclass(frozen=True)
class Window:
    """Geometry of a sliding window; each field is (vertical, horizontal)."""

    kernel: tuple[int, int]
    pad: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]

    @property
    def area(self) -> int:
        """Pixels in a window."""
        return self.kernel[0] * self.kernel[1]

    @property
    def extent(self) -> tuple[int, int]:
        """Size a window covers, dilation included."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation))  # type: ignore[return-value]

    @property
    def pointwise(self) -> bool:
        """Whether the image is its own column matrix."""
        return self.kernel == self.stride == (1, 1) and self.pad == (0, 0)

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) that a convolution makes of ``size``; may be less than 1 where the window does not fit."""
        return tuple((n + 2 * p - e) // s + 1 for n, p, e, s in zip(size, self.pad, self.extent, self.stride))  # type: ignore[return-value]

    def transposed_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) that a deconvolution makes of ``size``."""
        return tuple(s * (n - 1) + e - 2 * p for n, p, e, s in zip(size, self.pad, self.extent, self.stride))  # type: ignore[return-value]

    def numbers(self) -> tuple[int, ...]:
        """The geometry in the order in which the kernels take it."""
        return (*self.kernel, *self.pad, *self.stride, *self.dilation)


def correlate(
    image: Any, weight: Any, bias: Any, out: Any, window: Window, group: int, slope: float = 1.0
) -> None:
    """A convolution's forward pass: out = act(weight * image + bias).

    Parameters
    ----------
    image : array (N, C, H, W)
    weight : array (O, C / group, Kh, Kw)
    bias : array (O,) or None
    out : array (N, O, H', W')
        Overwritten.
    slope : float
        What negative results are multiplied with: 1 for none, 0 for a ReLU folded in.
    """
    backend = device.current()
    channels, outputs = image.shape[1] // group, out.shape[1] // group
    depth, width = channels * window.area, out.shape[3]
    matrix = weight.reshape(group, outputs, depth)
    finish = bias is not None or slope != 1
    itemsize = out.itemsize

    def strip(n: int, g: int, begin: int, end: int) -> None:
        planes = out[n, g * outputs : (g + 1) * outputs].reshape(outputs, -1)
        target = planes[:, begin * width : end * width]
        source = image[n, g * channels : (g + 1) * channels]
        if window.pointwise:
            col = source.reshape(depth, -1)[:, begin * width : end * width]
        else:
            col = backend.workspace(depth * (end - begin) * width).reshape(depth, -1)
            _im2col(source, col, window, begin, end, width)
        backend.gemm(matrix[g], col, target)
        if finish:
            first = planes.reshape(-1)[begin * width :]
            shift = None if bias is None else bias[g * outputs : (g + 1) * outputs]
            rows = end - begin
            backend.launch("bias_forward", outputs * rows, width, rows, planes.shape[1], slope, shift, first)

    height = out.shape[2]
    rows = max(1, backend.strip_bytes // (depth * width * itemsize))
    if -(-height // rows) < _MANY_STRIPS:
        rows = max(1, min(height, backend.whole_bytes // (depth * width * itemsize)))
    rows = _even(height, rows)
    tasks = [
        (n, g, begin, min(height, begin + rows))
        for n in range(out.shape[0])
        for g in range(group)
        for begin in range(0, height, rows)
    ]
    if len(tasks) < _MANY_STRIPS:
        for task in tasks:
            strip(*task)
    else:
        backend.parallel(len(tasks), lambda i: strip(*tasks[i]))


def image_gradient(weight: Any, out_diff: Any, image_diff: Any, window: Window, group: int) -> None:
    """The adjoint of :func:`correlate`: image_diff = weight' * out_diff; also a deconvolution's forward pass.

    Shapes are those of :func:`correlate`; ``image_diff`` is overwritten.
    """
    gradients(None, weight, out_diff, image_diff, None, False, window, group)


def weight_gradient(
    image: Any, out_diff: Any, weight_diff: Any, accumulate: bool, window: Window, group: int
) -> None:
    """weight_diff = out_diff * columns(image)', or that added to it."""
    gradients(image, None, out_diff, None, weight_diff, accumulate, window, group)


def gradients(
    image: Any,
    weight: Any,
    out_diff: Any,
    image_diff: Any,
    weight_diff: Any,
    accumulate: bool,
    window: Window,
    group: int,
) -> None:
    """Both gradients of a convolution; either of ``image_diff`` and ``weight_diff`` may be None.

    The work is cut into blocks of input channels: a block's part of either gradient depends on no other block.
    """
    if window.pointwise:
        _pointwise_gradients(image, weight, out_diff, image_diff, weight_diff, accumulate, group)
        return
    backend = device.current()
    like = image if image_diff is None else image_diff
    images, channels, outputs = like.shape[0], like.shape[1] // group, out_diff.shape[1] // group
    height, width = out_diff.shape[2:]
    area = window.area
    blocks = backend.channel_blocks(channels, area)
    tasks = [
        (g, channels * b // blocks, channels * (b + 1) // blocks) for g in range(group) for b in range(blocks)
    ]

    def block(g: int, first: int, last: int) -> None:
        depth = (last - first) * area
        rows = max(1, min(height, backend.strip_bytes // (depth * width * out_diff.itemsize)))
        space = backend.workspace(depth * rows * width)
        mine = slice(g * channels + first, g * channels + last)
        outs = slice(g * outputs, (g + 1) * outputs)
        taps = slice(first * area, last * area)
        for n in range(images):
            diff = out_diff[n, outs].reshape(outputs, -1)
            for strip in strips(window, like.shape[2], height, _even(height, rows)):
                part = diff[:, strip.begin * width : strip.end * width]
                col = space[: depth * part.shape[1]].reshape(depth, -1)
                if weight_diff is not None:
                    _im2col(image[n, mine], col, window, strip.begin, strip.end, width)
                    target = weight_diff[outs].reshape(outputs, -1)[:, taps]
                    backend.gemm(part, col.T, target, accumulate or n > 0 or strip.begin > 0)
                if image_diff is not None:
                    backend.gemm(weight[outs].reshape(outputs, -1)[:, taps].T, part, col)
                    _col2im(col, image_diff[n, mine], window, strip, width)

    backend.parallel(len(tasks), lambda i: block(*tasks[i]))


def _pointwise_gradients(
    image: Any, weight: Any, out_diff: Any, image_diff: Any, weight_diff: Any, accumulate: bool, group: int
) -> None:
    backend = device.current()
    outputs = out_diff.shape[1] // group
    channels = (image if image_diff is None else image_diff).shape[1] // group
    for n in range(out_diff.shape[0]):
        for g in range(group):
            outs, ins = slice(g * outputs, (g + 1) * outputs), slice(g * channels, (g + 1) * channels)
            diff = out_diff[n, outs].reshape(outputs, -1)
            if weight_diff is not None:
                target = weight_diff[outs].reshape(outputs, -1)
                backend.gemm(diff, image[n, ins].reshape(channels, -1).T, target, accumulate or n > 0)
            if image_diff is not None:
                backend.gemm(
                    weight[outs].reshape(outputs, -1).T, diff, image_diff[n, ins].reshape(channels, -1)
                )


def _even(height: int, most: int) -> int:
    """How many rows a strip gets so that all have nearly as many: no last one of a row or two."""
    return -(-height // -(-height // most))


class Strip(NamedTuple):
    """Output rows [begin, end) and the image rows they reach, of which those before ``fresh`` were reached before."""

    begin: int
    end: int
    image_begin: int
    image_end: int
    fresh: int


def strips(window: Window, image_height: int, height: int, rows: int) -> Iterator[Strip]:
    """Strips of ``rows`` output rows, the last one maybe of fewer; together they cover the whole image."""
    fresh = 0
    for begin in range(0, height, rows):
        end = min(height, begin + rows)
        touched = max(0, begin * window.stride[0] - window.pad[0])
        last = (end - 1) * window.stride[0] - window.pad[0] + window.extent[0]
        image_end = image_height if end == height else min(image_height, max(fresh, last))
        yield Strip(begin, end, min(touched, fresh), image_end, fresh)
        fresh = image_end


def _im2col(image: Any, col: Any, window: Window, begin: int, end: int, width: int) -> None:
    arguments = (*image.shape[1:], *window.numbers(), begin, end - begin, image, col)
    device.current().launch("im2col", col.shape[0] * (end - begin), width, *arguments)


def _col2im(col: Any, image: Any, window: Window, strip: Strip, out_width: int) -> None:
    channels, height, width = image.shape
    lanes, rows = -(-width // window.stride[1]), strip.image_end - strip.image_begin
    numbers = (strip.begin, strip.end - strip.begin, out_width, strip.image_begin, rows, strip.fresh)
    arguments = (height, width, *window.numbers(), *numbers, col, image)
    device.current().launch("col2im", channels * rows * window.stride[1], lanes, *arguments)
