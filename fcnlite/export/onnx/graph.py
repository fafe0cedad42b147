"""An ONNX graph under construction: operators in order, the arrays they read, and the net's parameters among these."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers import Layer

OPSET = 17  # the newest that TensorRT 8, OpenVINO 2022 and ONNX Runtime 1.12 know


class OnnxGraph:
    """Operators and constant arrays, named after the layers that they stand for.

    Attributes
    ----------
    nodes : list of NodeProto
        In the order in which they run.
    constants : list of TensorProto
        Small arrays, such as axes and factors.
    tensors : dict of str to numpy.ndarray
        The parameters, as views of the net's own memory.
    values : dict of Blob to str
        Name of the value that a blob holds at this point of the pass: layers in place give a blob several.
    parameters : dict
        Name of the tensor with a parameter's numbers, by the parameter's blob and the tensor's shape.
    """

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.tensors: dict[str, np.ndarray] = {}
        self.values: dict[Blob, str] = {}
        self.parameters: dict[tuple[Blob, tuple[int, ...]], str] = {}
        self._taken: set[str] = set()
        self._scope = ""

    def enter(self, layer: str) -> None:
        """Name what follows after a layer."""
        self._scope = layer

    def unique(self, name: str) -> str:
        """The name, with a number behind it if it is taken."""
        names = itertools.chain([name], (f"{name}_{n}" for n in itertools.count(2)))
        free = next(candidate for candidate in names if candidate not in self._taken)
        self._taken.add(free)
        return free

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add an operator.

        Parameters
        ----------
        kind : str
            ONNX's name of it.
        *inputs : str
            Names of values; "" for an optional input that is left out.
        outputs : int
            How many values it makes.
        **attributes
            As `onnx.helper.make_node` takes them; None leaves one out.

        Returns
        -------
        str, or tuple of str for several outputs
            Names of the new values.
        """
        made = [
            self.unique(f"{self._scope}/{kind}:{n}" if n else f"{self._scope}/{kind}") for n in range(outputs)
        ]
        given = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(helper.make_node(kind, inputs, made, name=made[0], **given))
        return made[0] if outputs == 1 else tuple(made)

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Add a small constant array; returns its name."""
        name = self.unique(f"{self._scope}/constant")
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def integers(self, *values: int) -> str:
        """Add a constant list of whole numbers, as shapes and axes are given; returns its name."""
        return self.constant(values, np.int64)

    def parameter(self, layer: Layer, index: int, shape: Sequence[int] | None = None) -> str:
        """The tensor with a layer's parameter; one that layers share is there once.

        Parameters
        ----------
        layer : Layer
        index : int
            Which of its blobs.
        shape : sequence of int, optional
            Another shape for the same numbers.
        """
        blob = layer.blobs[index]
        wanted = tuple(blob.shape if shape is None else shape)
        if (blob, wanted) not in self.parameters:
            name = self.unique(f"{layer.name}/{index}")
            self.parameters[blob, wanted] = name
            self.tensors[name] = device.current().tonumpy(blob.data).reshape(wanted)
        return self.parameters[blob, wanted]

    def shape_of(self, value: str, start: int = 0, end: int | None = None) -> str:
        """The value's shape, or axes `start` to `end` of it, as a list of whole numbers."""
        return self.op("Shape", value, start=start, end=end)

    def rename(self, value: str, name: str, since: int) -> str:
        """Give a value that an operator from number `since` on makes another name; returns the name it then has."""
        for node in self.nodes[since:]:
            if value in node.output:
                name = self.unique(name)
                for other in self.nodes[since:]:
                    for names in (other.input, other.output):
                        for i, old in enumerate(names):
                            if old == value:
                                names[i] = name
                return name
        return value
