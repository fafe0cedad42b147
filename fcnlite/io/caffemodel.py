"""`.caffemodel`: Caffe's binary weights, in the present form and both older ones.

Files are read in place and written as a stream.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from fcnlite.errors import InputError
from fcnlite.io.atomic import atomic_path
from fcnlite.io.wire import (
    LENGTH,
    MAX_MESSAGE,
    Field,
    WireFile,
    blob_frame,
    delimited,
    delimited_key,
    stored,
    write_array,
)
from fcnlite.proto import LayerParameter, NetParameter, check_names, upgrade
from fcnlite.proto.forks import renumber

_MAX_BLOBS = 1000  # a layer of Caffe's has at most some tens
_MAX_DEFINITION = 16 << 20  # bytes of a net without its weights
_LAYER, _V1_LAYER = 100, 2


class _Form(NamedTuple):
    """The field numbers of one generation of layer messages."""

    name: int
    blobs: int
    inner: int = -1  # the message of the generation before, inside this one


_FORMS = {_LAYER: _Form(1, 7), _V1_LAYER: _Form(4, 6, inner=1)}
_V0_FORM = _Form(1, 50)


def _open(path: str | os.PathLike[str]) -> WireFile:
    file = WireFile(path, "a Caffe model")
    start = bytes(file.data[:512])
    if start.startswith(b"version https://git-lfs"):
        file.fail("this is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`")
    if start.lstrip()[:1] == b"<" and b"html" in start.lower():
        file.fail("this is a web page, not a Caffe model; the download went wrong")
    if b"{" in start and b"\0" not in start and start.isascii():
        file.fail("this is text, not a Caffe model: weights come in a .caffemodel or .h5 file")
    return file


def _layer_fields(file: WireFile) -> Iterator[Field]:
    """The layer messages at the top of the file."""
    found = False
    for field in file.fields(0, file.size):
        if field.number in _FORMS:
            file.expect(field, LENGTH, "layer")
            found = True
            yield field
        elif field.number == 1:
            file.expect(field, LENGTH, "name")
    if not found:
        file.fail("no layers in this file: it is not a Caffe model")


def _layer(file: WireFile, start: int, end: int, form: _Form, index: int) -> tuple[str, list[np.ndarray]]:
    """Name and arrays of the layer message in bytes `start` to `end`."""
    name, blobs = "", []
    for field in file.fields(start, end):
        if field.number == form.name:
            name = file.text(field, "name")
        elif field.number == form.blobs:
            blobs.append(field)
        elif field.number == form.inner:
            file.expect(field, LENGTH, "layer")
            name, arrays = _layer(file, field.start, field.end, _V0_FORM, index)
            if arrays:
                return name, arrays
        if len(blobs) > _MAX_BLOBS:
            file.fail(
                f"layer '{name}' (number {index}) has more than {_MAX_BLOBS} blobs: this is not a Caffe model"
            )
    arrays = []
    for i, field in enumerate(blobs):
        file.expect(field, LENGTH, "blobs")
        arrays.append(file.blob(field.start, field.end, f"layer '{name or index}', blob {i}"))
    return name, arrays


def iter_caffemodel(path: str | os.PathLike[str]) -> Iterator[tuple[str, list[np.ndarray]]]:
    """The layers of a `.caffemodel` in the file's order, one at a time.

    Parameters
    ----------
    path : path
        A binary NetParameter: present (`layer`), V1 (`layers`) or V0 form.

    Yields
    ------
    name : str
    arrays : list of arrays, float32 or float64
        The layer's parameters (weight, bias, ...), as read-only views of the mapped file; empty for a layer
        without any. Files of the oldest form give 4 dimensions everywhere: (1, 1, outputs, inputs) for an
        inner product.

    Raises
    ------
    FileNotFoundError, InputError
        There is no such file; it is cut short, damaged, or not a Caffe model.
    """
    file = _open(path)
    for index, field in enumerate(_layer_fields(file)):
        yield _layer(file, field.start, field.end, _FORMS[field.number], index)


def _without_blobs(file: WireFile, start: int, end: int, form: _Form | None) -> Iterator[bytes]:
    """The bytes of a message (a net if `form` is None, else a layer) but for the weights."""
    position, kept = start, 0
    for field in file.fields(start, end):
        begin, position = position, field.end
        if form is None:
            inner = _FORMS.get(field.number)
        else:
            inner = _V0_FORM if field.number == form.inner else None
        if inner is not None:
            file.expect(field, LENGTH, "layer")
            content = b"".join(_without_blobs(file, field.start, field.end, inner))
            if form is None:
                content = renumber(content, is_v1=field.number == _V1_LAYER)
            part = delimited(field.number, content)
        elif form is None or field.number != form.blobs:
            part = bytes(file.data[begin : min(position, begin + _MAX_DEFINITION + 1)])
        else:
            continue
        kept += len(part)
        if kept > _MAX_DEFINITION:
            file.fail(f"more than {_MAX_DEFINITION} bytes beside the weights: this is not a Caffe model")
        yield part


def read_definition(path: str | os.PathLike[str]) -> Any:
    """The net that a `.caffemodel` describes, without its weights.

    Parameters
    ----------
    path : path
        A binary NetParameter.

    Returns
    -------
    NetParameter
        As written: `fcnlite.proto.upgrade` brings V1 layers up to date.

    Raises
    ------
    FileNotFoundError, InputError
        As `iter_caffemodel`.
    """
    file = _open(path)
    net = NetParameter()
    try:
        net.ParseFromString(b"".join(_without_blobs(file, 0, file.size, None)))
    except DecodeError:
        file.fail("its description of the net is damaged, or this is not a Caffe model")
    if not net.layer and not net.layers:
        file.fail("no layers in this file: it is not a Caffe model")
    check_names(net, f"{os.fspath(path)}")
    return net


def _described_layers(
    net: Any, params: Iterable[tuple[str, Sequence[np.ndarray]]]
) -> Iterator[tuple[Any, Any]]:
    """Pair each LayerParameter to write (without blobs) with its arrays; one that `net` lacks has only a name."""
    if net is None:
        for name, arrays in params:
            yield LayerParameter(name=name), arrays
        return
    net = upgrade(net)
    known = {layer.name for layer in net.layer}
    given: dict[str, Sequence[np.ndarray]] = dict(params)
    for layer in net.layer:
        described = LayerParameter()
        described.CopyFrom(layer)
        del described.blobs[:]
        yield described, given.get(layer.name, ())
    for name, arrays in given.items():
        if name not in known:
            yield LayerParameter(name=name), arrays


def write_caffemodel(
    path: str | os.PathLike[str],
    params: Iterable[tuple[str, Sequence[np.ndarray]]],
    net: Any = None,
) -> None:
    """Write a `.caffemodel` in the present form, array by array: no copy of the weights is made.

    Parameters
    ----------
    path : path
        The file to write; it appears whole or not at all.
    params : iterable of (name, arrays)
        The parameters of each layer, float32 or float64 (other numbers become float32).
    net : NetParameter, optional
        Says the layers' types, bottoms, tops and settings, and their order. Without it the file has names and
        weights only, which is all that Caffe looks at when it loads weights.

    Raises
    ------
    InputError
        The file cannot be written, or would be larger than the 2 GB that Caffe can read.
    """
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        if net is not None and net.name:
            file.write(delimited(1, net.name.encode()))
        for layer, arrays in _described_layers(net, params):
            _write_layer(file, layer, [stored(array) for array in arrays])
            if file.tell() > MAX_MESSAGE:
                raise InputError(
                    f"{path}: over 2 GB, more than Caffe can read from a .caffemodel; write .caffemodel.h5"
                )


def _halves(layer: Any) -> tuple[bytes, bytes]:
    """A layer's description, cut where protobuf puts blobs: files come out as Caffe's, byte for byte."""
    head, tail = LayerParameter(), LayerParameter()
    for part in (head, tail):
        part.CopyFrom(layer)
    for field, _ in layer.ListFields():
        (tail if field.number < 7 else head).ClearField(field.name)
    return head.SerializeToString(), tail.SerializeToString()


def _write_layer(file: BinaryIO, layer: Any, arrays: list[np.ndarray]) -> None:
    head, tail = _halves(layer)
    frames = [blob_frame(array) for array in arrays]
    sizes = [
        len(before) + array.nbytes + len(after) for (before, after), array in zip(frames, arrays, strict=True)
    ]
    keys = [delimited_key(7, size) for size in sizes]
    file.write(delimited_key(100, len(head) + sum(sizes) + sum(map(len, keys)) + len(tail)))
    file.write(head)
    for key, (before, after), array in zip(keys, frames, arrays, strict=True):
        file.write(key + before)
        write_array(file, array)
        file.write(after)
    file.write(tail)
