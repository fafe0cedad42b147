"""pycaffe's `caffe.proto.caffe_pb2`: Caffe's message classes by name, and TRAIN and TEST."""

from __future__ import annotations

from typing import Any

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from fcnlite.proto import schema
from fcnlite.proto.schema import TEST, TRAIN

DESCRIPTOR = schema.descriptor("NetParameter").file
Phase = EnumTypeWrapper(DESCRIPTOR.enum_types_by_name["Phase"])

globals().update({name: schema.message_class(name) for name in schema.MESSAGE_NAMES})
__all__ = ["DESCRIPTOR", "TEST", "TRAIN", "Phase"]
__all__.extend(schema.MESSAGE_NAMES)


def __getattr__(name: str) -> Any:
    raise AttributeError(f"Caffe has no message '{name}'")
