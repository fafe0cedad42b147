"""Fields of Caffe's messages set from plain Python values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from fcnlite.proto.schema import is_repeated, message_class


def param_name_dict() -> dict[str, str]:
    """Field stem in LayerParameter for each layer type, as in `{"InnerProduct": "inner_product", ...}`.

    The key comes from the field's message type (PoolingParameter), the value from its name (pooling_param).
    """
    fields = [
        field for field in message_class("LayerParameter").DESCRIPTOR.fields if field.name.endswith("_param")
    ]
    return {
        field.message_type.name.removesuffix("Parameter"): field.name.removesuffix("_param")
        for field in fields
        if field.message_type is not None
    }


def assign_proto(message: Message, name: str, value: Any) -> None:
    """Set field `name` of `message` from a plain Python value.

    A dict fills a message field, a message is copied into it, a list extends a repeated field (of dicts: repeated
    messages), and a single value given to a repeated field counts as a list of one.

    Raises
    ------
    AttributeError
        The message has no such field.
    """
    repeated = hasattr(getattr(message, name), "extend")
    if repeated and not isinstance(value, list | tuple):
        value = [value]
    if repeated and any(isinstance(item, Mapping) for item in value):
        for item in value:
            added = getattr(message, name).add()
            for key, inner in item.items():
                assign_proto(added, key, inner)
    elif repeated:
        getattr(message, name).extend(value)
    elif isinstance(value, Mapping):
        child = getattr(message, name)
        for key, inner in value.items():
            assign_proto(child, key, inner)
    elif isinstance(value, Message):
        getattr(message, name).CopyFrom(value)
    else:
        setattr(message, name, value)


def default_of(field: FieldDescriptor) -> Any:
    """The value of a field that is not set, as plain Python; None for messages and repeated fields."""
    if is_repeated(field) or field.message_type is not None:
        return None
    if field.enum_type is not None:
        return field.enum_type.values_by_number[field.default_value].name
    return field.default_value


def plain_value(field: FieldDescriptor, value: Any) -> Any:
    """A field's value as plain Python that `assign_proto` takes: enums by name, messages as dicts, one value alone."""
    if is_repeated(field):
        values = [_plain_item(field, item) for item in value]
        return values[0] if len(values) == 1 else values
    return _plain_item(field, value)


def _plain_item(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        return {inner.name: plain_value(inner, item) for inner, item in value.ListFields()}
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    return float(f"{value:.7g}") if isinstance(value, float) else value
