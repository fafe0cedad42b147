"""Arithmetic on blobs: `a + b` is an Eltwise layer, `a * 2` a Power layer."""

from __future__ import annotations

from numbers import Real
from typing import Any

from fcnlite.blob import Blob, operators
from fcnlite.layers.eltwise import Eltwise
from fcnlite.layers.neuron import Power


def add(a: Blob, b: Any) -> Blob:
    """The sum of two blobs of one shape, or of a blob and a number."""
    if isinstance(b, Blob):
        return Eltwise(operation="SUM")(a, b)
    return Power(shift=float(b))(a) if isinstance(b, Real) else NotImplemented


def multiply(a: Blob, b: Any) -> Blob:
    """The product of two blobs of one shape, element by element, or of a blob and a number."""
    if isinstance(b, Blob):
        return Eltwise(operation="PROD")(a, b)
    return Power(scale=float(b))(a) if isinstance(b, Real) else NotImplemented


operators.update(add=add, multiply=multiply)
