"""Caffe's messages (NetParameter, SolverParameter, ...), their text form, and Caffe's changes to a net before use.

Every message class is an attribute of this package: `from fcnlite.proto import NetParameter`.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from fcnlite.proto.filter import filter_net, meets_rule
from fcnlite.proto.schema import MESSAGE_NAMES, TEST, TRAIN, message_class
from fcnlite.proto.solver import read_solver
from fcnlite.proto.splits import insert_splits
from fcnlite.proto.text import check_names, folder_of, locate, parse_net, read_net, to_text
from fcnlite.proto.upgrade import upgrade

# A message of Caffe's: its classes are made at run time, so its fields are not known to type checkers.
Message: TypeAlias = Any

__all__ = [
    "Message",
    "TEST",
    "TRAIN",
    "check_names",
    "filter_net",
    "folder_of",
    "insert_splits",
    "locate",
    "meets_rule",
    "parse_net",
    "read_net",
    "read_solver",
    "to_text",
    "upgrade",
]


def __getattr__(name: str) -> Any:
    if name in MESSAGE_NAMES:
        return message_class(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *MESSAGE_NAMES])
