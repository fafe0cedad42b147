"""Convolution as matrix product, in strips: the one algorithm behind Convolution and Deconvolution.

The column matrix of im2col is never made as a whole, only for a strip of output rows at a time, sized by the
backend (some tens of MB on a GPU). On the CPU a thread takes a strip and goes through it by blocks of channels, whose
products it adds up: a block stays in the cache from im2col to the product. How the work is cut depends on shapes
alone, never on the number of threads, so the bits do not either.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fcnlite import device
from fcnlite.backend import Array, split
from fcnlite.layers.window import Window

_TASKS = 8  # strips that threads take in turn come in multiples of this, so that all threads end together
_FEW_COLUMNS = 200  # a strip of fewer is slow to multiply: then the threads share each product


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
    channels, outputs = image.shape[1] // group, out.shape[1] // group
    height = math.prod(out.shape[2:-1])  # rows of the map, over all axes but the last
    cut = _cut(channels, window.area, height, out.shape[-1], out.itemsize)

    def strip(n: int, g: int, begin: int, end: int) -> None:
        source = image[n, g * channels : (g + 1) * channels]
        outs = slice(g * outputs, (g + 1) * outputs)
        shift = None if bias is None else bias[outs]
        _strip(source, weight[outs], shift, out[n, outs], window, slope, (begin, end), cut.blocks)

    tasks = [(n, g, *rows) for n in range(out.shape[0]) for g in range(group) for rows in cut.strips]
    if cut.apart:
        device.current().parallel(len(tasks), lambda i: strip(*tasks[i]))
    else:
        for task in tasks:
            strip(*task)


def _strip(
    image: Array,
    weight: Array,
    bias: Array,
    out: Array,
    window: Window,
    slope: float,
    rows: tuple[int, int],
    blocks: Sequence[tuple[int, int]],
) -> None:
    """Rows [begin, end) of one image and one group: the products of all blocks of channels, then bias and slope."""
    backend = device.current()
    outputs, size, area = out.shape[0], out.shape[1:], window.area
    begin, end = (row * size[-1] for row in rows)
    planes, matrix = out.reshape(outputs, -1), weight.reshape(outputs, -1)
    for first, last in blocks:
        if window.pointwise:
            col = image[first:last].reshape(last - first, -1)[:, begin:end]
        else:
            depth = (last - first) * area
            col = backend.workspace(depth * (end - begin)).reshape(depth, -1)
            _im2col(image[first:last], col, window, size, *rows)
        backend.gemm(matrix[:, first * area : last * area], col, planes[:, begin:end], first > 0)
    if bias is not None or slope != 1:
        count = rows[1] - rows[0]
        numbers = (size[-1], count, planes.shape[1], slope)
        backend.launch("bias_forward", outputs * count, *numbers, bias, planes.reshape(-1)[begin:])


class _Cut(NamedTuple):
    """Strips of output rows, each by blocks of channels; `apart` if a thread takes a strip for itself."""

    strips: list[tuple[int, int]]
    blocks: list[tuple[int, int]]
    apart: bool


def _cut(channels: int, area: int, height: int, width: int, itemsize: int) -> _Cut:
    """Cut the work for one image and one group by its shapes."""
    backend = device.current()
    apart = backend.strip_bytes < backend.whole_bytes and height * width >= _TASKS * _FEW_COLUMNS
    count = min(channels, round(channels * area / backend.strip_depth)) if apart else 1
    blocks = split(channels, max(1, count))
    row_bytes = max(last - first for first, last in blocks) * area * width * itemsize
    most = max(1, (backend.strip_bytes if apart else backend.whole_bytes) // max(1, row_bytes))
    strips = -(-height // most)
    return _Cut(split(height, _TASKS * -(-strips // _TASKS) if apart else strips), blocks, apart)


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
    blocks = split(channels, backend.channel_blocks(channels, area))
    tasks = [(g, *block) for g in range(group) for block in blocks]

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
