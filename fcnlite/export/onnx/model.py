"""From a net to an ONNX model: operators for every layer, inputs of any size where the net takes them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

import fcnlite
from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.data.notes import Notes
from fcnlite.data.palette import PALETTE
from fcnlite.errors import InputError
from fcnlite.export.onnx.graph import OPSET, OnnxGraph
from fcnlite.export.onnx.registry import FIXED_SIZE, converters, refuse
from fcnlite.export.prediction import needed
from fcnlite.io.onnx import KEY, PRODUCER
from fcnlite.net import Net
from fcnlite.proto import to_text

_IR_VERSION = 8  # that of OPSET
_MORE = (32, 64)  # a net is tried with inputs that are this much higher and wider than it was built for


@dataclass
class Model:
    """A model and the arrays that belong to it.

    Attributes
    ----------
    proto : ModelProto
        Without the parameters, which need not be copied into it.
    tensors : dict of str to numpy.ndarray
        The parameters, further initializers of its graph.
    extra : list of ValueInfoProto
        Values that are not outputs, but worth comparing: the scores behind a label map.
    """

    proto: ModelProto
    tensors: dict[str, np.ndarray]
    extra: list[ValueInfoProto] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Size of all arrays."""
        return sum(array.nbytes for array in self.tensors.values())


def build_model(net: Net, output: str | None = None, whole: bool = False, licence: str = "") -> Model:
    """An ONNX model of a net in phase TEST.

    Parameters
    ----------
    net : Net
        Without losses (see `for_prediction`).
    output : str, optional
        Scores to give, the net's outputs by default.
    whole : bool
        From an H x W x 3 uint8 RGB image to its H x W label map, rather than from input blobs to scores.
    licence : str
        Told in the metadata.

    Raises
    ------
    InputError
        A layer cannot be written as ONNX; all such are named.
    """
    graph = OnnxGraph()
    sizes = Sizes(net)
    inputs = [_value(name, sizes.dims(name)) for name in net.inputs]
    for name in net.inputs:
        graph.values[net.blobs[name]] = graph.unique(name)
    if whole:
        from fcnlite.export.onnx.whole import image_input, label_output

        inputs = [image_input(graph, net)]
    _refuse_unknown(net)
    _add_layers(graph, net, [output] if output else net.outputs)
    wanted = [output] if output else list(net.outputs)
    scores = [_value(_named(graph, net.blobs[name]), sizes.dims(name)) for name in wanted]
    outputs = [label_output(graph, net, scores)] if whole else scores
    made = helper.make_graph(graph.nodes, net.name or "net", inputs, outputs, graph.constants)
    proto = helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        producer_name=PRODUCER,
        producer_version=fcnlite.__version__,
    )
    for key, value in _metadata(graph, net, licence).items():
        proto.metadata_props.add(key=KEY + key, value=value)
    return Model(proto, graph.tensors, scores if whole else [])


def _refuse_unknown(net: Net) -> None:
    unknown = [n.layer for n in net.nodes if n.layer.type not in converters() and n.layer.type != "Input"]
    if unknown:
        named = ", ".join(f"'{layer.name}' ({layer.type})" for layer in unknown)
        raise InputError(f"ONNX cannot express the layers {named}")


def _add_layers(graph: OnnxGraph, net: Net, wanted: Sequence[str]) -> None:
    """Add the operators of every layer that the wanted blobs depend on; each blob's last value has its name."""
    last = {blob: node for node in net.nodes for blob in node.tops}
    for node in needed(net, wanted):
        layer = node.layer
        if layer.type == "Input":
            continue
        graph.enter(layer.name)
        since = len(graph.nodes)
        made = converters()[layer.type](graph, node, [graph.values[blob] for blob in node.bottoms])
        if len(made) != len(node.tops):
            raise refuse(layer, f"{len(node.tops)} tops")
        for blob, value in zip(node.tops, made):
            name = blob.name if last[blob] is node else f"{blob.name}/{layer.name}"
            graph.values[blob] = graph.rename(value, name, since)


def _named(graph: OnnxGraph, blob: Blob) -> str:
    """The blob's value under the blob's own name: a blob that is another's by Split or Dropout gets an Identity."""
    value = graph.values[blob]
    if value != blob.name:
        graph.enter(blob.name)
        value = graph.rename(graph.op("Identity", value), blob.name, len(graph.nodes) - 1)
    return value


def _value(name: str, dims: Sequence[int | str]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)


class Sizes:
    """Which axes of a net's blobs may have any size, found by trying some."""

    def __init__(self, net: Net):
        self.net = net
        # An Upsample of a given size puts values at places of a map of that size.
        self.is_fixed = any(
            node.layer.type in FIXED_SIZE or getattr(node.layer, "fixed", None) for node in net.nodes
        )
        self.built = {name: blob.shape for name, blob in net.blobs.items()}
        self.seen = [self.built]
        for batch in (1, 0):
            other = next((found for more in self._trials() if (found := self._try(batch, *more))), None)
            if other:
                self.seen.append(other)
                break

    def _trials(self) -> list[tuple[int, int]]:
        return [(0, 0)] if self.is_fixed else [_MORE, (0, 0)]

    def _try(self, batch: int, high: int, wide: int) -> dict[str, tuple[int, ...]] | None:
        """Every blob's shape with inputs that much larger; None if the net does not take them."""
        more = (batch, 0, high, wide)
        inputs = {
            name: tuple(n + (more[i] if i < len(more) and (len(self.built[name]) == 4 or i == 0) else 0)
                        for i, n in enumerate(self.built[name]))
            for name in self.net.inputs
        }  # fmt: skip
        with reshaped(self.net, inputs) as fits:
            return {name: blob.shape for name, blob in self.net.blobs.items()} if fits else None

    def dims(self, name: str) -> list[int | str]:
        """A blob's shape for ONNX: numbers, and names for the axes that may have any size."""
        built, other = self.built[name], self.seen[-1][name]
        return [n if n == m else self._symbol(name, i) for i, (n, m) in enumerate(zip(built, other))]

    def _symbol(self, name: str, axis: int) -> str:
        first = next(iter(self.net.inputs), name)
        for at, symbol in ((0, "N"), (2, "H"), (3, "W")):
            as_input = [seen[first][at : at + 1] == seen[name][axis : axis + 1] for seen in self.seen]
            if axis == at and all(as_input):
                return symbol
        return f"{name}_{axis}"


@contextmanager
def reshaped(net: Net, inputs: dict[str, tuple[int, ...]]) -> Iterator[bool]:
    """The net with inputs of other shapes for the length of the block; yields whether it takes them."""
    before = {name: net.blobs[name].shape for name in net.inputs}
    try:
        for name, shape in inputs.items():
            net.blobs[name].reshape(*shape)
        try:
            net.reshape()
            fits = True
        except InputError:
            fits = False
        yield fits
    finally:
        for name, shape in before.items():
            net.blobs[name].reshape(*shape)
        net.reshape()


def _metadata(graph: OnnxGraph, net: Net, licence: str) -> dict[str, str]:
    """The net's description and notes, and where each parameter of Caffe's is, to bring it back bit for bit."""
    notes = getattr(net, "notes", None) or Notes()
    found = {"prototxt": to_text(net.param), "notes": json.dumps(notes.to_json())}
    found["parameters"] = json.dumps(_parameters(graph, net))
    classes = next(iter(notes.classes.values()), ())
    if classes:
        found["classes"] = json.dumps(list(classes))
        found["palette"] = json.dumps(PALETTE[: len(classes)].tolist())
    found["pixels"] = json.dumps(
        {"mean_bgr": [float(value) for value in notes.mean_bgr], "scale": notes.scale}
    )
    if licence:
        found["licence"] = licence
    return found


def _parameters(graph: OnnxGraph, net: Net) -> dict[str, list[dict[str, Any]]]:
    """For each layer and parameter its shape and the tensor with its numbers, or else the numbers themselves."""
    tensors: dict[Blob, str] = {}
    for (blob, _), name in graph.parameters.items():
        tensors.setdefault(blob, name)
    where: dict[str, list[dict[str, Any]]] = {}
    for layer in net.layers:
        for blob in layer.blobs:
            entry: dict[str, Any] = {"shape": list(blob.shape)}
            if blob in tensors:
                entry["tensor"] = tensors[blob]
            else:
                raw = np.ascontiguousarray(device.current().tonumpy(blob.data), "<f4").tobytes()
                entry["base64"] = base64.b64encode(raw).decode()
            where.setdefault(layer.name, []).append(entry)
    return where
