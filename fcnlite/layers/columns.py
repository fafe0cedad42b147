"""Convolution as matrix product, in strips: the one algorithm behind Convolution and Deconvolution.

The column matrix of im2col is never made as a whole, only for a strip of output rows at a time, sized by the
backend (a cache's worth for each thread on the CPU, some tens of MB on a GPU). How the work is cut depends on shapes
alone, never on the number of threads, so the bits do not either.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fcnlite import device
from fcnlite.backend import Array
from fcnlite.layers.window import Window

_MANY_STRIPS = 8  # from here on strips are handed out to threads, below that the threads share each strip


def correlate(
    image: Array, weight: Array, bias: Array, out: Array, window: Window, group: int, slope: float = 1.0
) -> None:
    """A convolution's forward pass: out = act(weight * image + bias).

    Parameters
    ----------
    image : array (N, C, H, W)
        Or with more spatial axes, as the window has.
    weight : array (O, C / group, Kh, Kw)
    bias : array (O,) or None
    out : array (N, O, H', W')
        Overwritten.
    slope : float
        What negative results are multiplied with: 1 for none, 0 for a ReLU folded in.
    """
    backend = device.current()
    channels, outputs = image.shape[1] // group, out.shape[1] // group
    depth, width = channels * window.area, out.shape[-1]
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
            _im2col(source, col, window, out.shape[2:], begin, end)
        backend.gemm(matrix[g], col, target)
        if finish:
            first = planes.reshape(-1)[begin * width :]
            shift = None if bias is None else bias[g * outputs : (g + 1) * outputs]
            rows = end - begin
            backend.launch("bias_forward", outputs * rows, width, rows, planes.shape[1], slope, shift, first)

    height = math.prod(out.shape[2:-1])  # rows of the map, over all axes but the last
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


def image_gradient(weight: Array, out_diff: Array, image_diff: Array, window: Window, group: int) -> None:
    """The adjoint of :func:`correlate`: image_diff = weight' * out_diff; also a deconvolution's forward pass.

    Shapes are those of :func:`correlate`; `image_diff` is overwritten.
    """
    gradients(None, weight, out_diff, image_diff, None, False, window, group)


def weight_gradient(
    image: Array, out_diff: Array, weight_diff: Array, accumulate: bool, window: Window, group: int
) -> None:
    """weight_diff = out_diff * columns(image)', or that added to it."""
    gradients(image, None, out_diff, None, weight_diff, accumulate, window, group)


def gradients(
    image: Array,
    weight: Array,
    out_diff: Array,
    image_diff: Array,
    weight_diff: Array,
    accumulate: bool,
    window: Window,
    group: int,
) -> None:
    """Both gradients of a convolution; either of `image_diff` and `weight_diff` may be None.

    The work is cut into blocks of input channels: a block's part of either gradient depends on no other block.
    """
    if window.pointwise:
        _pointwise_gradients(image, weight, out_diff, image_diff, weight_diff, accumulate, group)
        return
    backend = device.current()
    like = image if image_diff is None else image_diff
    images, channels, outputs = like.shape[0], like.shape[1] // group, out_diff.shape[1] // group
    height, width = math.prod(out_diff.shape[2:-1]), out_diff.shape[-1]
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
            for strip in strips(window, like.shape[2:], height, _even(height, rows)):
                part = diff[:, strip.begin * width : strip.end * width]
                col = space[: depth * part.shape[1]].reshape(depth, -1)
                if weight_diff is not None:
                    _im2col(image[n, mine], col, window, out_diff.shape[2:], strip.begin, strip.end)
                    target = weight_diff[outs].reshape(outputs, -1)[:, taps]
                    backend.gemm(part, col.T, target, accumulate or n > 0 or strip.begin > 0)
                if image_diff is not None:
                    backend.gemm(weight[outs].reshape(outputs, -1)[:, taps].T, part, col)
                    _col2im(col, image_diff[n, mine], window, strip, out_diff.shape[2:])

    backend.parallel(len(tasks), lambda i: block(*tasks[i]))


def _pointwise_gradients(
    image: Array,
    weight: Array,
    out_diff: Array,
    image_diff: Array,
    weight_diff: Array,
    accumulate: bool,
    group: int,
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


def unroll(image: Array, window: Window, col: Array) -> None:
    """The whole column matrix of each image: (N, C, size) to (N, C * area, output size), as Caffe's Im2col gives it."""
    for source, columns in zip(image, col):
        rows = columns.reshape(columns.shape[0], -1)
        _im2col(source, rows, window, columns.shape[1:], 0, math.prod(columns.shape[1:-1]))


def roll(col: Array, window: Window, image: Array) -> None:
    """The adjoint of `unroll`; `image` is overwritten."""
    for columns, target in zip(col, image):
        height = math.prod(columns.shape[1:-1])
        (strip,) = strips(window, target.shape[1:], height, height)
        _col2im(columns.reshape(columns.shape[0], -1), target, window, strip, columns.shape[1:])


def _even(height: int, most: int) -> int:
    """Rows of a strip such that all strips have nearly as many: no last one of a row or two."""
    return -(-height // -(-height // most))


class Strip(NamedTuple):
    """Output rows [begin, end) and the image rows they reach, of which those before `fresh` were reached before."""

    begin: int
    end: int
    image_begin: int
    image_end: int
    fresh: int


def strips(window: Window, size: Sequence[int], height: int, rows: int) -> Iterator[Strip]:
    """Strips of `rows` output rows, the last one maybe of fewer; together they cover the whole image.

    `size` is the image's. With more than two axes each strip reaches all of it.
    """
    fresh, image_height = 0, math.prod(size[:-1])
    if window.axes != 2:
        for begin in range(0, height, rows):
            yield Strip(begin, min(height, begin + rows), 0, image_height, 0 if begin == 0 else image_height)
        return
    for begin in range(0, height, rows):
        end = min(height, begin + rows)
        touched = max(0, begin * window.stride[0] - window.pad[0])
        last = (end - 1) * window.stride[0] - window.pad[0] + window.extent[0]
        image_end = image_height if end == height else min(image_height, max(fresh, last))
        yield Strip(begin, end, min(touched, fresh), image_end, fresh)
        fresh = image_end


def _im2col(image: Array, col: Array, window: Window, out: Sequence[int], begin: int, end: int) -> None:
    rows, width = col.shape[0] * (end - begin), out[-1]
    if window.axes == 2:
        arguments = (*image.shape[1:], *window.numbers(), begin, end - begin, image, col)
        device.current().launch("im2col", rows, width, *arguments)
    else:
        geometry = _geometry(window, tuple(image.shape[1:]), tuple(out))
        numbers = (window.axes, window.area, begin, end - begin)
        device.current().launch("im2col_nd", rows, width, *numbers, geometry, image, col)


def _col2im(col: Array, image: Array, window: Window, strip: Strip, out: Sequence[int]) -> None:
    channels, width = image.shape[0], image.shape[-1]
    lanes, rows = -(-width // window.stride[-1]), strip.image_end - strip.image_begin
    launched, count = channels * rows * window.stride[-1], strip.end - strip.begin
    if window.axes == 2:
        numbers = (strip.begin, count, out[-1], strip.image_begin, rows, strip.fresh)
        arguments = (image.shape[1], width, *window.numbers(), *numbers, col, image)
        device.current().launch("col2im", launched, lanes, *arguments)
    else:
        geometry = _geometry(window, tuple(image.shape[1:]), tuple(out))
        numbers = (window.axes, window.area, strip.begin, count, rows, int(strip.fresh == 0))
        device.current().launch("col2im_nd", launched, lanes, *numbers, geometry, col, image)


def geometry_numbers(window: Window, size: Sequence[int], out: Sequence[int]) -> np.ndarray:
    """The numbers of an N-d window over an image of `size`, an axis after another: see kernels/columns_nd.cu."""
    columns = (size, out, window.kernel, window.pad, window.stride, window.dilation)
    return np.array(columns, np.int32).T.reshape(-1)


def _geometry(window: Window, size: tuple[int, ...], out: tuple[int, ...]) -> Array:
    backend: Any = device.current()
    return _geometry_on(backend, window, size, out)


@lru_cache(64)
def _geometry_on(backend: Any, window: Window, size: tuple[int, ...], out: tuple[int, ...]) -> Any:
    return backend.asarray(geometry_numbers(window, size, out), np.int32)
