"""ONNX files, written array by array without a copy of the weights in memory, and read back into Caffe's parameters."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from onnx import ModelProto, TensorProto, helper

from fcnlite.export.onnx.model import Model
from fcnlite.io.atomic import atomic_path
from fcnlite.io.wire import MAX_MESSAGE, delimited, delimited_key, varint, write_array

_MODEL_GRAPH, _GRAPH_INITIALIZER = 7, 5  # field numbers of onnx.proto
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA = 1, 2, 8, 9
_ALIGNMENT = 4096  # bytes, so that a runtime can map an array of an external file
_SLACK = 16 << 20  # bytes for all but the arrays
EMBEDDED_MOST = MAX_MESSAGE - _SLACK  # bytes of arrays that one file can hold


class Written:
    """A model on disk under temporary names, and where each of its arrays lies.

    Attributes
    ----------
    data : Path
        The file with the arrays: the model's own, or the one beside it.
    places : dict of str to (int, int)
        Offset and length of each array in it.
    """

    def __init__(self, model: Model, data: Path, places: dict[str, tuple[int, int]]):
        self.model, self.data, self.places = model, data, places

    def skeleton(self) -> ModelProto:
        """The model with its arrays where they lie on disk, to be saved in the same folder; extra values are outputs.

        Checkers and runtimes read the arrays from there, so that nothing large is parsed or copied.
        """
        proto = _with_external(self.model, self.data.name, self.places)
        proto.graph.output.extend(self.model.extra)
        return proto


@contextmanager
def writing(path: str | os.PathLike[str], model: Model, most: int = EMBEDDED_MOST) -> Iterator[Written]:
    """Write a model; it appears at `path` if the block, which may check it, succeeds.

    Parameters
    ----------
    path : path
    model : Model
    most : int
        With more bytes of arrays than this they go into a file of their own, `path` with ".data" behind it. (A
        protobuf message, and so an ONNX file, holds 2 GB.)
    """
    path = Path(path)
    with ExitStack() as stack:
        if model.nbytes <= most:
            temporary = stack.enter_context(atomic_path(path))
            with open(temporary, "wb") as file:
                places = _write_embedded(file, model)
            yield Written(model, temporary, places)
            return
        beside = path.with_name(path.name + ".data")
        data = stack.enter_context(atomic_path(beside))
        with open(data, "wb") as file:
            places = _write_aligned(file, model)
        temporary = stack.enter_context(atomic_path(path))
        temporary.write_bytes(_with_external(model, beside.name, places).SerializeToString())
        yield Written(model, data, places)


def _tensor_frame(name: str, array: np.ndarray) -> bytes:
    """Encode the bytes of a TensorProto before its raw numbers."""
    dims = delimited(_DIMS, b"".join(map(varint, array.shape))) if array.ndim else b""
    kind = varint(_DATA_TYPE << 3) + varint(helper.np_dtype_to_tensor_dtype(array.dtype))
    return dims + kind + delimited(_NAME, name.encode()) + delimited_key(_RAW_DATA, array.nbytes)


def _write_embedded(file: BinaryIO, model: Model) -> dict[str, tuple[int, int]]:
    """Write everything as one message, returning the places of the arrays."""
    outer = ModelProto()
    outer.CopyFrom(model.proto)
    outer.ClearField("graph")
    graph = model.proto.graph.SerializeToString()
    arrays = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in model.tensors.items()}
    frames = {name: _tensor_frame(name, array) for name, array in arrays.items()}
    keys = {
        name: delimited_key(_GRAPH_INITIALIZER, len(frames[name]) + array.nbytes)
        for name, array in arrays.items()
    }
    total = len(graph) + sum(len(keys[name]) + len(frames[name]) + arrays[name].nbytes for name in arrays)
    file.write(outer.SerializeToString() + delimited_key(_MODEL_GRAPH, total) + graph)
    places = {}
    for name, array in arrays.items():
        file.write(keys[name] + frames[name])
        places[name] = (file.tell(), array.nbytes)
        write_array(file, array)
    return places


def _write_aligned(file: BinaryIO, model: Model) -> dict[str, tuple[int, int]]:
    """Write the arrays alone, returning their places."""
    places = {}
    for name, array in model.tensors.items():
        file.write(b"\0" * (-file.tell() % _ALIGNMENT))
        places[name] = (file.tell(), array.nbytes)
        write_array(file, np.ascontiguousarray(array))
    return places


def _with_external(model: Model, location: str, places: dict[str, tuple[int, int]]) -> ModelProto:
    """The model with initializers that say where their numbers are."""
    proto = ModelProto()
    proto.CopyFrom(model.proto)
    for name, array in model.tensors.items():
        tensor = proto.graph.initializer.add(name=name, dims=array.shape)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor.data_location = TensorProto.EXTERNAL
        offset, length = places[name]
        for key, value in (("location", location), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
    return proto
