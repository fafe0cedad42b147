"""Binary layers of Caffe's forks, whose field numbers collide with one another's and with Caffe's, brought to ours.

Names never collide, so prototxts need none of this. In binary form a layer's type decides what its numbers mean:

* Interp's settings are field 143 (DeepLab, PSPNet) or 5043 (CRF as RNN), which is Caffe's `input_param`; Upsample's
  are 137 (SegNet) or 147 (ENet), `embed_param` or `swish_param`; DenseImageData's 138 or 46, SegAccuracy's 144,
  MatWrite's 145.
* BN's are 45 in SegNet and ENet, where fields 1 to 3 are `scale_filler`, `shift_filler` and `bn_mode`, 137 in TSN, and
  152 in PSPNet, where they are `slope_filler`, `bias_filler` and `momentum`.
* `loss_param` with `class_weighting` is SegNet's: its field 3 is `weight_by_label_freqs`, not `normalization`, which
  ENet has as 5.
* A convolution's field 17 is `hole` where it is more than 1, for Caffe's `force_nd_im2col` is a truth value; with a
  field 19 (`hole_w`), 18 is `hole_h` and not `dilation`.
* The old type 39 is IMAGE_SEG_DATA if there is an `image_data_param`, else DECONVOLUTION; 40 is SEG_ACCURACY if there
  is field 42, its settings, else CROP; 43 is MAT_WRITE.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from google.protobuf.message import DecodeError

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_SEGNET_BN = {1: 101, 2: 102, 3: 103}
# By layer type: a fork's number of the settings, ours, and the numbers inside that change.
_SETTINGS: dict[str, dict[int, tuple[int, Mapping[int, int]]]] = {
    "BN": {45: (152, _SEGNET_BN), 137: (152, {})},
    "DenseImageData": {46: (5138, {}), 138: (5138, {})},
    "Interp": {143: (2143, {}), 5043: (2143, {})},
    "MatWrite": {145: (2145, {})},
    "SegAccuracy": {144: (2144, {})},
    "Upsample": {137: (5137, {}), 147: (5137, {})},
}
_SEGNET_LOSS = {3: 103, 5: 3}


class _Field(NamedTuple):
    """One field: `raw` is all of it, `payload` what follows its key (and length), `value` a varint's number."""

    number: int
    wire: int
    raw: bytes
    payload: bytes
    value: int


def renumber(layer: bytes, is_v1: bool) -> bytes:
    """A serialised LayerParameter or V1LayerParameter of a fork with the numbers of `fcnlite.proto.schema`.

    Parameters
    ----------
    layer : bytes
        The layer, without its blobs.
    is_v1 : bool
        Whether it is a V1LayerParameter.

    Raises
    ------
    DecodeError
        It is damaged.
    """
    fields = list(_fields(layer))
    return b"".join(_v1_layer(fields) if is_v1 else _layer(fields))


def _layer(fields: list[_Field]) -> Iterator[bytes]:
    kind = next(
        (f.payload.decode("utf-8", "replace") for f in fields if f.number == 2 and f.wire == _LENGTH), ""
    )
    settings = _SETTINGS.get(kind, {})
    for field in fields:
        if field.wire != _LENGTH:
            yield field.raw
        elif field.number in settings:
            number, inner = settings[field.number]
            yield _delimited(number, _renamed(field.payload, inner))
        elif field.number == 106:
            yield _delimited(106, _convolution(field.payload))
        elif field.number == 101 and any(f.number == 4 for f in _fields(field.payload)):
            yield _delimited(101, _renamed(field.payload, _SEGNET_LOSS))
        else:
            yield field.raw


def _v1_layer(fields: list[_Field]) -> Iterator[bytes]:
    present = {field.number for field in fields}
    kinds = {39: 139 if 15 in present else 39, 40: 140 if 42 in present else 40, 43: 143}
    kind = next((field.value for field in fields if field.number == 5), 0)
    for field in fields:
        if field.number == 5 and field.wire == _VARINT:
            yield _varint_field(5, kinds.get(kind, kind))
        elif field.number == 42 and kind == 40 and field.wire == _LENGTH:
            yield _delimited(142, field.payload)
        elif field.number == 10 and field.wire == _LENGTH:
            yield _delimited(10, _convolution(field.payload))
        else:
            yield field.raw


def _convolution(payload: bytes) -> bytes:
    """Settings of a convolution, `hole` as `dilation`."""
    fields = list(_fields(payload))
    by_axis = any(field.number == 19 for field in fields)
    parts = []
    for field in fields:
        if field.wire == _VARINT and field.number == 17 and field.value > 1:
            parts.append(_varint_field(18, field.value))
        elif field.wire == _VARINT and field.number in (18, 19) and by_axis:
            parts.append(_varint_field(field.number + 100, field.value))
        else:
            parts.append(field.raw)
    return b"".join(parts)


def _renamed(payload: bytes, numbers: Mapping[int, int]) -> bytes:
    """A message with other numbers for some of its fields."""
    if not numbers:
        return payload
    parts = []
    for field in _fields(payload):
        number = numbers.get(field.number, field.number)
        if field.wire == _LENGTH:
            parts.append(_delimited(number, field.payload))
        else:
            parts.append(_varint(number << 3 | field.wire) + field.payload)
    return b"".join(parts)


def _fields(data: bytes) -> Iterator[_Field]:
    at = 0
    while at < len(data):
        start = at
        key, at = _read_varint(data, at)
        number, wire, value = key >> 3, key & 7, 0
        first = at
        if wire == _VARINT:
            value, at = _read_varint(data, at)
        elif wire == _LENGTH:
            size, first = _read_varint(data, at)
            at = first + size
        elif wire in (_FIXED32, _FIXED64):
            at += 4 if wire == _FIXED32 else 8
        else:
            raise DecodeError(f"wire type {wire}")
        if at > len(data):
            raise DecodeError("cut short")
        yield _Field(number, wire, data[start:at], data[first:at], value)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise DecodeError("a number is cut short")


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _varint_field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _delimited(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH) + _varint(len(payload)) + payload
