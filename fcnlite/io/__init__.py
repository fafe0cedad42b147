"""Files of weights and solver states, Caffe's and others', read with suspicion and written atomically."""

from __future__ import annotations

from fcnlite.io.atomic import atomic_path, write_text
from fcnlite.io.caffemodel import read_definition
from fcnlite.io.plain import check, parse_json, read_json
from fcnlite.io.state import SolverSnapshot, read_state, write_state
from fcnlite.io.weights import iter_weights, read_deploy, read_notes, read_weights, write_weights

__all__ = [
    "SolverSnapshot",
    "atomic_path",
    "check",
    "iter_weights",
    "parse_json",
    "read_definition",
    "read_deploy",
    "read_json",
    "read_notes",
    "read_state",
    "read_weights",
    "write_state",
    "write_text",
    "write_weights",
]
