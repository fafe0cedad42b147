"""Launching kernels over arrays of any shape, and the sums that layers share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fcnlite import device
from fcnlite.backend import Array
from fcnlite.blob import Blob

_LANES = 1024  # a row of an elementwise kernel


def launch_flat(kernel: str, count: int, *arguments: Any) -> None:
    """Launch an elementwise kernel over `count` contiguous elements.

    The count is cut into full rows of 1024 lanes and one shorter row, so that every machine gets enough rows.
    """
    backend = device.current()
    full = count // _LANES * _LANES
    if full:
        backend.launch(kernel, full // _LANES, _LANES, *arguments)
    if count - full:
        tail = [a.reshape(-1)[full:] if hasattr(a, "shape") and a.ndim else a for a in arguments]
        backend.launch(kernel, 1, count - full, *tail)


def rows_of(shape: Sequence[int]) -> tuple[int, int]:
    """(rows, width) of an array seen as rows along its last axis."""
    width = shape[-1] if shape else 1
    return (math.prod(shape) // width if width else 0), width


def new_array(shape: Sequence[int], dtype: Any = None) -> Array:
    """An array of the current device with undefined content."""
    return device.current().empty(shape, dtype)


def copied(array: Array) -> Array:
    """A copy of an array."""
    copy = new_array(array.shape)
    launch_flat("copy_scaled", math.prod(array.shape), 1.0, array, copy)
    return copy


def add_channel_sums(values: Array, outer: int, channels: int, target: Blob) -> None:
    """Add each channel's sum to `target.diff`, or write it there if the blob holds no gradient yet.

    `values` is (outer, channels, ...) in memory; `target` has `channels` elements.
    """
    for block in values.reshape(outer, channels, -1):
        diff, held = target.sum_diff()
        device.current().row_sums(block, diff.reshape(-1), held)
