"""Layers that work value by value or channel by channel: neurons, sums, scales, normalisation, softmax."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fcnlite import device
from fcnlite.blob import Node
from fcnlite.export.onnx.graph import OnnxGraph
from fcnlite.export.onnx.registry import converts

_PLAIN = {"Sigmoid": "Sigmoid", "TanH": "Tanh", "AbsVal": "Abs", "BNLL": "Softplus"}


@converts(*_PLAIN)
def plain(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """The operator of the same function."""
    return [graph.op(_PLAIN[node.layer.type], bottoms[0])]


@converts("ReLU")
def relu(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """Relu, or LeakyRelu with negative_slope."""
    slope = node.layer.param.relu_param.negative_slope
    return [graph.op("LeakyRelu", bottoms[0], alpha=slope) if slope else graph.op("Relu", bottoms[0])]


@converts("PReLU")
def prelu(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """PRelu; the slopes stand along axis 1, so they get axes of 1 behind them."""
    layer = node.layer
    behind = [1] * (len(node.bottoms[0].shape) - 2)
    return [graph.op("PRelu", bottoms[0], graph.parameter(layer, 0, (layer.blobs[0].count, *behind)))]


@converts("ELU")
def elu(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """Elu."""
    return [graph.op("Elu", bottoms[0], alpha=node.layer.param.elu_param.alpha)]


@converts("Swish")
def swish(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """X * sigmoid(beta * x)."""
    x = bottoms[0]
    scaled = times(graph, x, node.layer.param.swish_param.beta)
    return [graph.op("Mul", x, graph.op("Sigmoid", scaled))]


@converts("Clip")
def clip(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """Clip."""
    p = node.layer.param.clip_param
    return [graph.op("Clip", bottoms[0], graph.constant(p.min), graph.constant(p.max))]


@converts("Threshold")
def threshold(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """Greater, as 0 and 1."""
    limit = graph.constant(node.layer.param.threshold_param.threshold)
    return [graph.op("Cast", graph.op("Greater", bottoms[0], limit), to=1)]


@converts("Power")
def power(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """(shift + scale * x)^power; a constant where the input does not matter."""
    p = node.layer.param.power_param
    if p.power * p.scale == 0:
        value = np.float32(p.shift) ** np.float32(p.power)
        return [graph.op("Expand", graph.constant(value), graph.shape_of(bottoms[0]))]
    base = plus(graph, times(graph, bottoms[0], p.scale), p.shift)
    if p.power == 2:
        return [graph.op("Mul", base, base)]
    return [base if p.power == 1 else graph.op("Pow", base, graph.constant(p.power))]


@converts("Exp")
def exp(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """base^(shift + scale * x), as outer * exp(inner * x)."""
    p = node.layer.param.exp_param
    log_base = 1.0 if p.base == -1 else math.log(p.base)
    inner = graph.op("Exp", times(graph, bottoms[0], log_base * p.scale))
    return [times(graph, inner, math.exp(log_base * p.shift))]


@converts("Log")
def log(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """log(shift + scale * x) / log(base)."""
    p = node.layer.param.log_param
    factor = 1.0 if p.base == -1 else 1 / math.log(p.base)
    return [times(graph, graph.op("Log", plus(graph, times(graph, bottoms[0], p.scale), p.shift)), factor)]


@converts("Dropout", "Split")
def same(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """Nothing: Dropout in phase TEST passes its input, Split's tops are its bottom."""
    return bottoms * len(node.tops)


@converts("Eltwise")
def eltwise(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """Add with coefficients, Mul or Max."""
    p = node.layer.param.eltwise_param
    if p.operation == p.MAX:
        return [graph.op("Max", *bottoms)]
    operator, terms = "Mul", list(bottoms)
    if p.operation == p.SUM:
        coefficients = list(p.coeff) or [1.0] * len(bottoms)
        operator, terms = "Add", [times(graph, x, c) for x, c in zip(bottoms, coefficients)]
    total = terms[0]
    for term in terms[1:]:
        total = graph.op(operator, total, term)
    return [total]


@converts("Scale")
def scale(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """Mul, and Add for the bias."""
    layer = node.layer
    p = layer.param.scale_param
    top = graph.op("Mul", bottoms[0], _operand(graph, node, bottoms, p.axis))
    if p.bias_term:
        bias = len(layer.blobs) - 1
        top = graph.op(
            "Add", top, graph.parameter(layer, bias, _aligned(node, layer.blobs[bias].shape, p.axis))
        )
    return [top]


@converts("Bias")
def bias(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """Add."""
    return [graph.op("Add", bottoms[0], _operand(graph, node, bottoms, node.layer.param.bias_param.axis))]


def _aligned(node: Node, shape: Sequence[int], axis: int) -> tuple[int, ...]:
    """The shape with as many axes of 1 behind it as let it meet the bottom from `axis` on."""
    rank = len(node.bottoms[0].shape)
    return (*shape, *[1] * (rank - axis % rank - len(shape) if shape else 0))


def _operand(graph: OnnxGraph, node: Node, bottoms: list[str], axis: int) -> str:
    """Factor or bias of a channelwise layer, its parameter or its second bottom, shaped to meet the first bottom."""
    if len(bottoms) == 1:
        return graph.parameter(node.layer, 0, _aligned(node, node.layer.blobs[0].shape, axis))
    own = node.bottoms[1].shape
    behind = len(_aligned(node, own, axis)) - len(own)
    if not behind:
        return bottoms[1]
    return graph.op("Unsqueeze", bottoms[1], graph.integers(*range(len(own), len(own) + behind)))


@converts("BatchNorm")
def batch_norm(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """BatchNormalization with the moving sums divided by their weight; by the batch's own statistics if asked for."""
    layer: Any = node.layer
    eps = layer.param.batch_norm_param.eps
    channels = layer.blobs[0].count
    if not layer.is_global:
        axes = [axis for axis in range(len(node.bottoms[0].shape)) if axis != 1]
        return [normalised(graph, bottoms[0], axes, eps)]
    weight = float(device.current().tonumpy(layer.blobs[2].data).reshape(-1)[0])
    factor = np.float32(weight)
    mean, variance = (
        device.current().tonumpy(blob.data) / factor if weight else np.zeros(channels)
        for blob in layer.blobs[:2]
    )
    ones, zeros = graph.constant(np.ones(channels)), graph.constant(np.zeros(channels))
    statistics = (graph.constant(mean), graph.constant(variance))
    return [graph.op("BatchNormalization", bottoms[0], ones, zeros, *statistics, epsilon=eps)]


def normalised(graph: OnnxGraph, x: str, axes: Sequence[int], eps: float) -> str:
    """(x - mean) / sqrt(variance + eps), mean and variance over some axes."""
    centred = graph.op("Sub", x, graph.op("ReduceMean", x, axes=list(axes), keepdims=1))
    variance = graph.op("ReduceMean", graph.op("Mul", centred, centred), axes=list(axes), keepdims=1)
    return graph.op("Div", centred, graph.op("Sqrt", plus(graph, variance, eps)))


@converts("MVN")
def mvn(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """(x - mean) / (standard deviation + eps) over each image's channel, or the image."""
    p = node.layer.param.mvn_param
    axes = list(range(1 if p.across_channels else 2, len(node.bottoms[0].shape)))
    centred = graph.op("Sub", bottoms[0], graph.op("ReduceMean", bottoms[0], axes=axes, keepdims=1))
    if not p.normalize_variance:
        return [centred]
    variance = graph.op("ReduceMean", graph.op("Mul", centred, centred), axes=axes, keepdims=1)
    return [graph.op("Div", centred, plus(graph, graph.op("Sqrt", variance), p.eps))]


@converts("Softmax")
def softmax(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """Softmax."""
    return [graph.op("Softmax", bottoms[0], axis=node.layer.param.softmax_param.axis)]


def times(graph: OnnxGraph, x: str, factor: float) -> str:
    """Factor * x, or x itself for factor 1."""
    return x if factor == 1 else graph.op("Mul", x, graph.constant(factor))


def plus(graph: OnnxGraph, x: str, term: float) -> str:
    """X + term, or x itself for term 0."""
    return x if term == 0 else graph.op("Add", x, graph.constant(term))
