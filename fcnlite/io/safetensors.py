"""safetensors: named tensors in one file, as PyTorch's users exchange them, with the net's description beside them.

A parameter is called `LAYER.weight` or `LAYER.bias`, as in the `state_dict` of `fcnlite.export.to_torch`. The file is a
header of JSON and then the numbers; they are read as views of the mapped file and written without a copy in memory.
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fcnlite.errors import InputError
from fcnlite.io.atomic import atomic_path
from fcnlite.io.plain import parse_json
from fcnlite.io.wire import MAX_AXES, stored, write_array
from fcnlite.proto import upgrade

SUFFIX = ".safetensors"
_HEADER_MOST = 100_000_000  # bytes; the format's own bound
_TYPES = {"F32": "<f4", "F64": "<f8", "F16": "<f2"}
_ENTRY = {"dtype": str, "shape": list[int], "data_offsets": list[int]}
# Names of the parameters of a layer by its type; others than these have a weight, a bias, and then numbers.
_NAMES = {
    "BatchNorm": ("mean", "variance", "scale_factor"),
    "Bias": ("bias",),
    "BN": ("weight", "bias", "mean", "variance"),
}


def parameter_names(kind: str, count: int, bottoms: int = 1) -> list[str]:
    """Names of a layer's parameters.

    Parameters
    ----------
    kind : str
        Caffe's type of the layer; empty if it is not known.
    count : int
        How many there are.
    bottoms : int
        How many blobs the layer reads: of a Scale with two only the bias is a parameter.
    """
    names = ("bias",) if kind == "Scale" and bottoms > 1 else _NAMES.get(kind, ("weight", "bias"))
    return [names[i] if i < len(names) else str(i) for i in range(count)]


def is_safetensors(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file exists and begins as safetensors do: the length of the header, then an object."""
    path = Path(path)
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        start = file.read(9)
    return (
        len(start) == 9
        and start[8:] == b"{"
        and int.from_bytes(start[:8], "little") <= path.stat().st_size - 8
    )


def _open(path: str | os.PathLike[str]) -> tuple[dict[str, Any], memoryview]:
    """The header and the bytes behind it."""
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    if not is_safetensors(path):
        raise InputError(f"{path}: cut short, or not a safetensors file")
    with open(path, "rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    length = int.from_bytes(data[:8], "little")
    if length > _HEADER_MOST:
        raise InputError(f"{path}: a header of {length} bytes; this is not a safetensors file")
    try:
        text = bytes(data[8 : 8 + length]).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: its header is damaged ({error})") from None
    return parse_json(text, f"{path}: its header", dict[str, Any]), data[8 + length :]


def _tensor(path: object, name: str, entry: Any, data: memoryview) -> np.ndarray:
    """A tensor as a view of the file."""
    checked = parse_json(json.dumps(entry), f"{path}: tensor '{name}'", _ENTRY)
    dtype, shape, offsets = (checked[key] for key in _ENTRY)
    if dtype not in _TYPES:
        raise InputError(f"{path}: tensor '{name}' is of type {dtype}; weights are {', '.join(_TYPES)}")
    size = math.prod(shape) * np.dtype(_TYPES[dtype]).itemsize
    fits = len(offsets) == 2 and 0 <= offsets[0] <= offsets[1] <= len(data)
    if not fits or min(shape, default=0) < 0 or len(shape) > MAX_AXES or offsets[1] - offsets[0] != size:
        raise InputError(
            f"{path}: tensor '{name}' of shape {shape} does not lie within the file; it is damaged"
        )
    flat = (
        np.frombuffer(data, _TYPES[dtype], math.prod(shape), offsets[0]) if size else np.empty(0, np.float32)
    )
    return flat.reshape(shape)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The strings that stand beside the tensors."""
    found = _open(path)[0].get("__metadata__", {})
    return parse_json(json.dumps(found), f"{path}: its metadata", dict[str, str])


def iter_safetensors(path: str | os.PathLike[str]) -> Iterator[tuple[str, list[np.ndarray]]]:
    """The layers of a safetensors file, one at a time.

    Parameters
    ----------
    path : path
        Written by fcnlite, or by others with the names of a `to_torch` module's `state_dict`.

    Yields
    ------
    name : str
    arrays : list of arrays
        Read-only views of the mapped file.

    Raises
    ------
    FileNotFoundError, InputError
        There is no such file; it is damaged, or a tensor's name does not tell its layer.
    """
    header, data = _open(path)
    told = read_metadata(path).get("parameters")
    layers = (
        parse_json(told, f"{path}: its parameters", dict[str, list[str]]) if told else _grouped(path, header)
    )
    for layer, names in layers.items():
        missing = next((name for name in names if name and name not in header), None)
        if missing is not None:
            raise InputError(f"{path}: layer '{layer}' has no tensor '{missing}'")
        empty = np.empty(0, np.float32)  # as Caffe leaves out what an earlier layer shares
        yield layer, [_tensor(path, name, header[name], data) if name else empty for name in names]


def _grouped(path: object, header: Mapping[str, Any]) -> dict[str, list[str]]:
    """Tensor names by layer, in Caffe's order of parameters, told from the names alone."""
    order = ["weight", "bias", "mean", "variance", "scale_factor"]
    layers: dict[str, list[str]] = {}
    for name in header:
        layer, _, own = name.rpartition(".")
        if name == "__metadata__":
            continue
        if not layer or not (own in order or own.isdecimal()):
            raise InputError(
                f"{path}: tensor '{name}' is not called LAYER.weight, LAYER.bias or LAYER.NUMBER"
            )
        layers.setdefault(layer, []).append(name)

    def place(name: str) -> int:
        own = name.rpartition(".")[2]
        return order.index(own) if own in order else len(order) + int(own)

    return {layer: sorted(names, key=place) for layer, names in layers.items()}


def write_safetensors(
    path: str | os.PathLike[str],
    params: Iterable[tuple[str, Sequence[np.ndarray]]],
    net: Any = None,
    deploy: str | None = None,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write weights as safetensors.

    Parameters
    ----------
    path : path
        The file to write; it appears whole or not at all.
    params : iterable of (name, arrays)
        The parameters of each layer, float32 or float64.
    net : NetParameter, optional
        Tells the layers' types, by which parameters are named.
    deploy : str, optional
        The prototxt of the net, kept in the metadata, so that the file loads without another.
    notes : mapping, optional
        As `fcnlite.io.write_weights` takes them.
    """
    described = {layer.name: layer for layer in upgrade(net).layer} if net is not None else {}
    layers: dict[str, list[str]] = {}
    tensors: dict[str, np.ndarray] = {}
    for layer, arrays in params:
        param = described.get(layer)
        names = parameter_names(param.type if param else "", len(arrays), len(param.bottom) if param else 1)
        left_out = [array.shape == (0,) for array in arrays]
        layers[layer] = ["" if gone else f"{layer}.{name}" for gone, name in zip(left_out, names)]
        tensors |= {
            f"{layer}.{name}": stored(a) for gone, name, a in zip(left_out, names, arrays) if not gone
        }
    header: dict[str, Any] = {"__metadata__": {"format": "pt", "parameters": json.dumps(layers)}}
    if deploy is not None:
        header["__metadata__"]["prototxt"] = deploy
    if notes:
        header["__metadata__"]["notes"] = json.dumps(notes)
    position = 0
    ordered = sorted(tensors, key=lambda name: -tensors[name].itemsize)  # so that every number lies aligned
    for name in ordered:
        array = tensors[name]
        kind = "F64" if array.itemsize == 8 else "F32"
        offsets = [position, position + array.nbytes]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": offsets}
        position += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in ordered:
            write_array(file, tensors[name])
