"""Layers that only Caffe's forks have: SegNet's and PSPNet's BN, Interp, Permute, Upsample and others."""

from __future__ import annotations

from typing import Any

from fcnlite.blob import Node
from fcnlite.export.onnx.elementwise import normalised, plus
from fcnlite.export.onnx.graph import OnnxGraph
from fcnlite.export.onnx.registry import converts
from fcnlite.export.onnx.shapes import END

FLOAT, INT64 = 1, 7  # element types of onnx.proto


@converts("Axpy")
def axpy(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """Mul and Add, the factor with axes of 1 behind it."""
    factor, rank = bottoms[0], len(node.bottoms[0].shape)
    if rank < 4:
        factor = graph.op("Unsqueeze", factor, graph.integers(*range(rank, 4)))
    return [graph.op("Add", graph.op("Mul", bottoms[1], factor), bottoms[2])]


@converts("BN")
def bn(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """BatchNormalization by the moving statistics; Mul and Add alone, or after the batch's own statistics."""
    layer: Any = node.layer
    (x,), rank, channels = bottoms, len(node.bottoms[0].shape), layer.blobs[0].count
    if layer.is_global:
        parts = [graph.parameter(layer, i, (channels,)) for i in range(4)]
        return [graph.op("BatchNormalization", x, *parts, epsilon=layer.eps)]
    if not layer.affine_only:
        x = normalised(graph, x, [axis for axis in range(rank) if axis != 1], layer.eps)
    scale, shift = (graph.parameter(layer, i, (channels, *[1] * (rank - 2))) for i in range(2))
    return [graph.op("Add", graph.op("Mul", x, scale), shift)]


@converts("Interp")
def interp(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """Resize with aligned corners, of the bottom without its pads."""
    p, x = node.layer.param.interp_param, bottoms[0]
    if p.pad_beg or p.pad_end:
        ends = graph.integers(*[p.pad_end or END] * 2)
        x = graph.op("Slice", x, graph.integers(*[-p.pad_beg] * 2), ends, graph.integers(2, 3))
    sizes = graph.op("Concat", graph.shape_of(x, end=2), _interp_size(graph, p, x, bottoms), axis=0)
    corners = "align_corners"
    return [graph.op("Resize", x, "", "", sizes, mode="linear", coordinate_transformation_mode=corners)]


def _interp_size(graph: OnnxGraph, p: Any, x: str, bottoms: list[str]) -> str:
    """Height and width of the top, by the rules of `fcnlite.layers.forks.interp.Interp`."""
    shrinks, zooms = p.HasField("shrink_factor"), p.HasField("zoom_factor")
    if p.HasField("height") and p.HasField("width") and shrinks == zooms:
        return graph.integers(p.height, p.width)
    if not (shrinks or zooms):
        return graph.shape_of(bottoms[1], start=2)
    one = graph.integers(1)
    gaps = graph.op("Div", graph.op("Sub", graph.shape_of(x, start=2), one), graph.integers(p.shrink_factor))
    return graph.op("Add", graph.op("Mul", gaps, graph.integers(p.zoom_factor)), one)


@converts("Normalize")
def normalize(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """X / sqrt(sum x^2 + eps), times the scale."""
    p, rank, layer = node.layer.param.norm_param, len(node.bottoms[0].shape), node.layer
    axes = graph.integers(*(range(1, rank) if p.across_spatial else [1]))
    squares = graph.op("ReduceSum", graph.op("Mul", bottoms[0], bottoms[0]), axes, keepdims=1)
    unit = graph.op("Div", bottoms[0], graph.op("Sqrt", plus(graph, squares, p.eps)))
    shape = () if p.channel_shared else (layer.blobs[0].count, *[1] * (rank - 2))
    return [graph.op("Mul", unit, graph.parameter(layer, 0, shape))]


@converts("Permute")
def permute(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """Transpose."""
    layer: Any = node.layer
    return [graph.op("Transpose", bottoms[0], perm=list(layer.order))]


@converts("Upsample")
def upsample(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """ScatterElements of the values into planes of zeros, at the mask's places."""
    layer: Any = node.layer
    p = layer.param.upsample_param
    if layer.fixed:
        size = graph.integers(*layer.fixed)
    else:
        size = graph.op("Mul", graph.shape_of(bottoms[0], start=2), graph.integers(*layer.scale))
        size = graph.op("Sub", size, graph.integers(p.pad_out_h, p.pad_out_w))
    rows = graph.integers(0, 0, -1)
    values, mask = (graph.op("Reshape", each, rows) for each in bottoms)
    channels = graph.shape_of(bottoms[0], end=2)
    planes = graph.op("Concat", channels, graph.op("ReduceProd", size, keepdims=1), axis=0)
    zeros = graph.op("Expand", graph.constant(0), planes)
    placed = graph.op("ScatterElements", zeros, graph.op("Cast", mask, to=INT64), values, axis=2)
    return [graph.op("Reshape", placed, graph.op("Concat", channels, size, axis=0))]


@converts("ROIPooling")
def roi_pooling(graph: OnnxGraph, node: Node, bottoms: list[str]) -> list[str]:
    """MaxRoiPool."""
    p = node.layer.param.roi_pooling_param
    regions = graph.op("Reshape", bottoms[1], graph.integers(-1, 5))
    shape = [int(p.pooled_h), int(p.pooled_w)]
    return [graph.op("MaxRoiPool", bottoms[0], regions, pooled_shape=shape, spatial_scale=p.spatial_scale)]
