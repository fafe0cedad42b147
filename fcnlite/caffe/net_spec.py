"""pycaffe's `caffe.net_spec`: nets written as Python."""

from __future__ import annotations

from fcnlite.netspec import (
    Function,
    Layers,
    NetSpec,
    Parameters,
    Top,
    layers,
    params,
    to_proto,
)
from fcnlite.proto.fields import assign_proto, param_name_dict

__all__ = [
    "Function",
    "Layers",
    "NetSpec",
    "Parameters",
    "Top",
    "assign_proto",
    "layers",
    "param_name_dict",
    "params",
    "to_proto",
]
