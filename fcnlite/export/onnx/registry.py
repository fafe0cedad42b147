"""The table of converters: for each of Caffe's layer types the function that writes it as ONNX operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TypeAlias

from fcnlite.blob import Node
from fcnlite.errors import InputError
from fcnlite.export.onnx.graph import OnnxGraph
from fcnlite.layers import Layer

# Takes the graph, the node and the names of its bottoms' values; returns those of its tops'.
Converter: TypeAlias = Callable[[OnnxGraph, Node, list[str]], Sequence[str]]

_CONVERTERS: dict[str, Converter] = {}
FIXED_SIZE: set[str] = set()  # types whose operators depend on the size of the maps


def converts(*types: str, fixed_size: bool = False) -> Callable[[Converter], Converter]:
    """Decorate the converter of some layer types.

    Parameters
    ----------
    *types : str
        Caffe's names.
    fixed_size : bool
        Its operators hold only for maps of the size that the net was built for.
    """

    def register(converter: Converter) -> Converter:
        _CONVERTERS.update(dict.fromkeys(types, converter))
        if fixed_size:
            FIXED_SIZE.update(types)
        return converter

    return register


def converters() -> dict[str, Converter]:
    """All converters, by layer type."""
    for family in ("elementwise", "forks", "shapes", "windows"):
        import_module(f"fcnlite.export.onnx.{family}")
    return _CONVERTERS


def refuse(layer: Layer, reason: str) -> InputError:
    """The error, to raise, that ONNX cannot express a layer."""
    return InputError(f"layer '{layer.name}' ({layer.type}) cannot be written as ONNX: {reason}")
