"""The ends of a model that is ready to serve: an image in, its label map out."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, ValueInfoProto, helper

from fcnlite.data.notes import Notes
from fcnlite.errors import InputError
from fcnlite.export.onnx.graph import OnnxGraph
from fcnlite.net import Net


def image_input(graph: OnnxGraph, net: Net) -> ValueInfoProto:
    """Make the net's input of an "image", H x W x 3 uint8 RGB: BGR, the mean subtracted, channels first.

    As in `fcnlite.data.dataset.preprocess` the mean is subtracted in double precision.
    """
    if (
        len(net.inputs) != 1
        or len(net.blobs[net.inputs[0]].shape) != 4
        or net.blobs[net.inputs[0]].channels != 3
    ):
        raise InputError(f"the net takes {', '.join(net.inputs)}, not one picture; leave out --whole")
    blob = net.blobs[net.inputs[0]]
    notes: Any = getattr(net, "notes", None) or Notes()
    graph.enter("image")
    image = graph.unique("image")
    bgr = graph.op("Gather", graph.op("Cast", image, to=TensorProto.DOUBLE), graph.integers(2, 1, 0), axis=2)
    centred = graph.op("Sub", bgr, graph.constant(notes.mean_bgr, np.float64))
    single = graph.op("Cast", centred, to=TensorProto.FLOAT)
    if notes.scale != 1:
        single = graph.op("Mul", single, graph.constant(notes.scale))
    planes = graph.op("Transpose", single, perm=[2, 0, 1])
    graph.values[blob] = graph.op("Unsqueeze", planes, graph.integers(0))
    return helper.make_tensor_value_info(image, TensorProto.UINT8, ["H", "W", 3])


def label_output(graph: OnnxGraph, net: Net, scores: list[ValueInfoProto]) -> ValueInfoProto:
    """Make the label map "labels", H x W, of the scores: of equal ones the first, as `Segmenter.predict` does.

    It is uint8, or int32 above 256 classes.
    """
    if len(scores) != 1:
        raise InputError(
            f"the net has the outputs {', '.join(net.outputs)}; say which are the scores, with --output"
        )
    blob = net.blobs[scores[0].name]
    if len(blob.shape) != 4:
        raise InputError(
            f"blob '{scores[0].name}' has shape {blob.shape}, not the N x C x H x W of score maps"
        )
    dtype = TensorProto.UINT8 if blob.channels <= 256 else TensorProto.INT32
    graph.enter("labels")
    best = graph.op("ArgMax", scores[0].name, axis=1, keepdims=0)
    since = len(graph.nodes)
    labels = graph.op("Cast", graph.op("Squeeze", best, graph.integers(0)), to=dtype)
    return helper.make_tensor_value_info(graph.rename(labels, "labels", since), dtype, ["H", "W"])
