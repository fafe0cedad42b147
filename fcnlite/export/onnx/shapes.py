"""Layers that move, cut, join, count or pick values, and inner products, which flatten what they read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fcnlite.blob import Node
from fcnlite.export.onnx.elementwise import times
from fcnlite.export.onnx.graph import OnnxGraph
from fcnlite.export.onnx.registry import converts
from fcnlite.export.prediction import dummy_tops

END = 2**31 - 1  # beyond any axis


@converts("Crop")
def crop(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """Slice from the offsets on, as far as the second bottom's shape says."""
    layer: Any = node.layer
    rank = len(node.bottoms[0].shape)
    first = layer.param.crop_param.axis % rank
    offsets = layer.offsets[first:]
    ends = graph.shape_of(bottoms[1], start=first)
    if any(offsets):
        ends = graph.op("Add", ends, graph.integers(*offsets))
    return [
        graph.op("Slice", bottoms[0], graph.integers(*offsets), ends, graph.integers(*range(first, rank)))
    ]


@converts("Concat")
def concat(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """Concat."""
    p = node.layer.param.concat_param
    return [graph.op("Concat", *bottoms, axis=int(p.concat_dim if p.HasField("concat_dim") else p.axis))]


@converts("Slice")
def cut(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """Split into equal parts, or a Slice between each two slice_points."""
    p = node.layer.param.slice_param
    axis = int(p.slice_dim if p.HasField("slice_dim") else p.axis)
    if len(node.tops) == 1:
        return bottoms
    if not p.slice_point:
        return list(graph.op("Split", bottoms[0], outputs=len(node.tops), axis=axis))
    edges = [0, *map(int, p.slice_point), END]
    return [
        graph.op("Slice", bottoms[0], graph.integers(begin), graph.integers(end), graph.integers(axis))
        for begin, end in zip(edges, edges[1:])
    ]


@converts("Tile")
def tile(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """Tile."""
    p, rank = node.layer.param.tile_param, len(node.bottoms[0].shape)
    repeats = [int(p.tiles) if axis == p.axis % rank else 1 for axis in range(rank)]
    return [graph.op("Tile", bottoms[0], graph.integers(*repeats))]


@converts("Flatten")
def flatten(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """Flatten, or a Reshape that keeps the axes around those that become one."""
    p, rank = node.layer.param.flatten_param, len(node.bottoms[0].shape)
    first, last = p.axis % rank, p.end_axis % rank
    if first == 1 and last == rank - 1:
        return [graph.op("Flatten", bottoms[0], axis=1)]
    return [replaced(graph, bottoms[0], first, last + 1, [-1], rank)]


@converts("Reshape")
def reshape(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """Reshape; a dim of 0 keeps the axis in both, as long as the axes ahead of it are as many as before."""
    p, rank = node.layer.param.reshape_param, len(node.bottoms[0].shape)
    first = p.axis if p.axis >= 0 else rank + 1 + p.axis
    end = rank if p.num_axes == -1 else first + p.num_axes
    return [replaced(graph, bottoms[0], first, end, list(p.shape.dim), rank)]


def replaced(graph: OnnxGraph, x: str, first: int, end: int, dims: Sequence[int], rank: int) -> str:
    """The value with axes `first` to `end` replaced by `dims`, in which 0 stands for the axis at that place."""
    if end == rank:
        return graph.op("Reshape", x, graph.integers(*[0] * first, *dims))
    around = graph.shape_of(x, start=end)
    ahead = graph.integers(*[0] * first, *dims)
    return graph.op("Reshape", x, graph.op("Concat", ahead, around, axis=0))


@converts("InnerProduct")
def inner_product(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """Gemm on the axes from `axis` on, taken as one."""
    layer = node.layer
    p, rank = layer.param.inner_product_param, len(node.bottoms[0].shape)
    axis = p.axis % rank
    vectors = bottoms[0] if (axis, rank) == (1, 2) else graph.op("Flatten", bottoms[0], axis=axis)
    weights = [graph.parameter(layer, i) for i in range(len(layer.blobs))]
    product = graph.op("Gemm", vectors, *weights, transB=0 if p.transpose else 1)
    if axis == 1:
        return [product]
    outer = [graph.shape_of(bottoms[0], end=axis)] if axis else []
    shape = graph.op("Concat", *outer, graph.integers(int(p.num_output)), axis=0)
    return [graph.op("Reshape", product, shape)]


@converts("Reduction")
def reduction(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """ReduceSum, also of |x| and x^2, or ReduceMean of the axes from `axis` on, times coeff."""
    p, rank = node.layer.param.reduction_param, len(node.bottoms[0].shape)
    axes = list(range(p.axis % rank, rank))
    terms = bottoms[0]
    if p.operation == p.MEAN:
        return [times(graph, graph.op("ReduceMean", terms, axes=axes, keepdims=0), p.coeff)]
    if p.operation == p.ASUM:
        terms = graph.op("Abs", terms)
    elif p.operation == p.SUMSQ:
        terms = graph.op("Mul", terms, terms)
    return [times(graph, graph.op("ReduceSum", terms, graph.integers(*axes), keepdims=0), p.coeff)]


@converts("ArgMax")
def argmax(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """TopK of the axis turned round, since of equal values Caffe takes the later and ONNX the earlier."""
    p, rank = node.layer.param.argmax_param, len(node.bottoms[0].shape)
    by_axis, x = p.HasField("axis"), bottoms[0]
    axis = p.axis % rank if by_axis else 1
    if not by_axis:
        x = graph.op("Flatten", x, axis=1)
    backwards = (graph.integers(-1), graph.integers(-END), graph.integers(axis), graph.integers(-1))
    turned = graph.op("Slice", x, *backwards)
    values, places = graph.op("TopK", turned, graph.integers(int(p.top_k)), outputs=2, axis=axis)
    last = graph.op("Sub", graph.shape_of(x, start=axis, end=axis + 1), graph.integers(1))
    indices = graph.op("Cast", graph.op("Sub", last, places), to=1)
    if by_axis:
        return [values if p.out_max_val else indices]
    found = [indices, values] if p.out_max_val else [indices]
    rows = [graph.op("Unsqueeze", each, graph.integers(1)) for each in found]
    top = graph.op("Concat", *rows, axis=1) if len(rows) > 1 else rows[0]
    ones = [1] * (max(rank, 3) - 3)
    return [graph.op("Reshape", top, graph.integers(0, 0, 0, *ones)) if ones else top]


@converts("Embed")
def embed(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """Gather of the table's rows, and the bias."""
    layer = node.layer
    rows = graph.op("Gather", graph.parameter(layer, 0), graph.op("Cast", bottoms[0], to=7), axis=0)
    return [graph.op("Add", rows, graph.parameter(layer, 1)) if len(layer.blobs) > 1 else rows]


@converts("BatchReindex")
def batch_reindex(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """Gather of images."""
    return [graph.op("Gather", bottoms[0], graph.op("Cast", bottoms[1], to=7), axis=0)]


@converts("Filter")
def keep_chosen(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """Compress by the selector."""
    chosen = graph.op("Cast", graph.op("Reshape", bottoms[-1], graph.integers(-1)), to=9)
    return [graph.op("Compress", bottom, chosen, axis=0) for bottom in bottoms[:-1]]


@converts("Parameter")
def parameter(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """The array itself."""
    return [graph.parameter(node.layer, 0)]


@converts("DummyData")
def dummy_data(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """The values that its fillers give, if they draw nothing."""
    return [graph.constant(array) for array in dummy_tops(node)]


@converts("Silence")
def silence(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """Nothing: it reads blobs so that they are not outputs."""
    return []
