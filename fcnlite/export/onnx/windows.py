"""Layers whose outputs read a window of the input: convolution both ways, pooling, normalisation, pyramids.

Caffe's pooling rounds its output size up, and runtimes disagree about ONNX's own `ceil_mode`; it is not used
(see `fcnlite.export.windows`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fcnlite.blob import Node
from fcnlite.export.onnx.graph import OnnxGraph
from fcnlite.export.onnx.registry import converts, refuse
from fcnlite.export.windows import PoolingWindow

_LOWEST = float(np.finfo(np.float32).min)  # the maximum of no pixels, in Caffe


@converts("Convolution", "DepthwiseConvolution", "ConvolutionDepthwise")
def convolution(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """Conv; one for each bottom, with the same weights."""
    layer: Any = node.layer
    _check_axes(layer)
    weights = [graph.parameter(layer, i) for i in range(len(layer.blobs))]
    return [graph.op("Conv", bottom, *weights, **_window(layer, layer.group)) for bottom in bottoms]


@converts("Deconvolution")
def deconvolution(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """ConvTranspose, whose weights lie as Caffe's do."""
    layer: Any = node.layer
    _check_axes(layer)
    weights = [graph.parameter(layer, i) for i in range(len(layer.blobs))]
    return [graph.op("ConvTranspose", bottom, *weights, **_window(layer, layer.group)) for bottom in bottoms]


def _check_axes(layer: Any) -> None:
    if layer.channel_axis != 1 or not 1 <= layer.window.axes <= 3:
        raise refuse(layer, f"channels on axis {layer.channel_axis} and {layer.window.axes} spatial axes")


def _window(layer: Any, group: int) -> dict[str, Any]:
    window = layer.window
    return {
        "kernel_shape": list(window.kernel),
        "pads": [*window.pad, *window.pad],
        "strides": list(window.stride),
        "dilations": list(window.dilation),
        "group": group,
    }


def _settings(window: PoolingWindow) -> dict[str, Any]:
    """The attributes of every operator over a pooling window."""
    dilated = max(window.dilation) > 1
    return {
        "kernel_shape": list(window.kernel),
        "strides": list(window.stride),
        "dilations": list(window.dilation) if dilated else None,
    }


def padded(graph: OnnxGraph, value: str, begin: Sequence[int], end: Sequence[int], filler: float) -> str:
    """The value with its spatial axes padded."""
    if not any([*begin, *end]):
        return value
    return graph.op("Pad", value, graph.integers(0, 0, *begin, 0, 0, *end), graph.constant(filler))


@converts("Pooling")
def pooling(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """MaxPool or AveragePool over padding that gives Caffe's sizes; of global pooling ONNX has operators."""
    layer: Any = node.layer
    (bottom,) = bottoms
    if layer.is_global:
        if len(node.tops) > 1:
            raise refuse(layer, "global pooling with a second top")
        return [graph.op("GlobalMaxPool" if layer.is_max else "GlobalAveragePool", bottom)]
    window = PoolingWindow(layer)
    if not layer.is_max:
        return [_average(graph, bottom, window)]
    return _maximum(graph, bottom, window, places=len(node.tops) > 1)


def _maximum(graph: OnnxGraph, bottom: str, window: PoolingWindow, places: bool) -> list[str]:
    reaches = [end < kernel for end, kernel in zip(window.end, window.kernel)]
    if all(reaches):
        pads = [*window.pad, *window.end]
    else:  # windows without a single pixel, which no operator pads for
        bottom = padded(graph, bottom, window.pad, window.end, _LOWEST)
        pads = None
    if not places:
        return [graph.op("MaxPool", bottom, pads=pads, **_settings(window))]
    top, indices = graph.op("MaxPool", bottom, outputs=2, pads=pads, **_settings(window))
    plane = graph.op("ReduceProd", graph.shape_of(bottom, start=2), keepdims=1)
    return [top, graph.op("Cast", graph.op("Mod", indices, plane), to=1)]


def _average(graph: OnnxGraph, bottom: str, window: PoolingWindow) -> str:
    overhang = window.overhang
    dilated = max(window.dilation) > 1
    if dilated or any(more >= kernel for more, kernel in zip(overhang, window.kernel)):
        return _average_by_hand(graph, bottom, window, overhang)
    if not any(overhang):
        pads = [*window.pad, *window.pad]
        return graph.op("AveragePool", bottom, pads=pads, count_include_pad=1, **_settings(window))
    # Caffe's own padding counts, what hangs over beyond it does not.
    bottom = padded(graph, bottom, window.pad, window.pad, 0)
    pads = [*[0] * len(overhang), *overhang]
    return graph.op("AveragePool", bottom, pads=pads, count_include_pad=0, **_settings(window))


def _average_by_hand(graph: OnnxGraph, bottom: str, window: PoolingWindow, overhang: Sequence[int]) -> str:
    """The sum over each window through a convolution with ones, divided by the same of ones.

    AveragePool has dilations from opset 19 on only.
    """
    one = graph.constant(np.ones((1, 1, *window.kernel)))
    sizes = graph.shape_of(bottom, start=2)
    planes = graph.op("Reshape", bottom, graph.op("Concat", graph.integers(-1, 1), sizes, axis=0))
    inside = padded(graph, planes, window.pad, window.pad, 0)
    covered = graph.op(
        "Expand", graph.constant(np.ones((1, 1, *[1] * len(overhang)))), graph.shape_of(inside)
    )
    attributes = {**_settings(window), "pads": [*[0] * len(overhang), *overhang]}
    total, count = (graph.op("Conv", values, one, **attributes) for values in (inside, covered))
    mean = graph.op("Div", total, count)
    channels = graph.shape_of(bottom, end=2)
    return graph.op("Reshape", mean, graph.op("Concat", channels, graph.shape_of(mean, start=2), axis=0))


@converts("Im2col")
def columns(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """A convolution in groups, each of whose filters picks one pixel of the window."""
    layer: Any = node.layer
    _check_axes(layer)
    window, channels = layer.window, node.bottoms[0].shape[1]
    picks = np.eye(window.area).reshape(window.area, 1, *window.kernel)
    weight = graph.constant(np.tile(picks, (channels, *[1] * (picks.ndim - 1))))
    return [graph.op("Conv", bottoms[0], weight, **_window(layer, channels))]


@converts("LRN")
def lrn(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """LRN across channels; within a channel x / (1 + alpha * mean of x^2)^beta by a pooling."""
    p = node.layer.param.lrn_param
    (x,) = bottoms
    size = int(p.local_size)
    if p.norm_region == p.ACROSS_CHANNELS:
        return [graph.op("LRN", x, size=size, alpha=p.alpha, beta=p.beta, bias=p.k)]
    reach = (size - 1) // 2
    window: dict[str, Any] = {"kernel_shape": [size, size], "pads": [reach] * 4, "strides": [1, 1]}
    mean = graph.op("AveragePool", graph.op("Mul", x, x), count_include_pad=1, **window)
    scale = graph.op("Add", graph.op("Mul", mean, graph.constant(p.alpha)), graph.constant(1))
    return [graph.op("Div", x, graph.op("Pow", scale, graph.constant(p.beta)))]


@converts("SPP", fixed_size=True)
def pyramid(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """A pooling for each level, flattened and concatenated."""
    layer: Any = node.layer
    levels = []
    for pool in layer.pools:
        window = PoolingWindow(pool)
        average = not pool.is_max
        levels.append(
            _average(graph, bottoms[0], window) if average else _maximum(graph, bottoms[0], window, False)[0]
        )
    if len(levels) == 1:
        return levels
    return [graph.op("Concat", *(graph.op("Flatten", level, axis=1) for level in levels), axis=1)]
