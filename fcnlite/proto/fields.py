"""Fields of Caffe's messages set from plain Python values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message

from fcnlite.proto.schema import message_class


def param_name_dict() -> dict[str, str]:
    """Field stem in LayerParameter for each layer type, as in ``{"InnerProduct": "inner_product", ...}``.

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
    """Set field ``name`` of ``message`` from a plain Python value.

    A dict fills a message field, a list extends a repeated field (a list of dicts: repeated messages), and a
    single value given to a repeated field counts as a list of one.

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
    else:
        setattr(message, name, value)
