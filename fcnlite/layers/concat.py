"""Concat, Slice and Tile: blobs joined, cut apart and repeated along one axis (Caffe's layers)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import MANY, Layer, register
from fcnlite.layers.launch import rows_of


class Runs:
    """The place of a piece of a blob, cut out along `axis`, in the whole: a run in each stretch of memory."""

    def __init__(self, whole: Sequence[int], axis: int):
        self.axis, self.stretches = axis, math.prod(whole[:axis])
        self.inner = math.prod(whole[axis + 1 :])
        self.stretch = whole[axis] * self.inner

    def extract(self, piece: Sequence[int], first: int, whole: Any, part: Any) -> None:
        """Part = the piece of `whole` from index `first` of the axis on."""
        run = piece[self.axis] * self.inner
        self._copy(piece, self.stretch, first * self.inner, run, 0, whole, part)

    def insert(self, piece: Sequence[int], first: int, part: Any, whole: Any) -> None:
        """The reverse: that piece of `whole` = part."""
        run = piece[self.axis] * self.inner
        self._copy(piece, run, 0, self.stretch, first * self.inner, part, whole)

    def _copy(self, piece: Sequence[int], *arguments: Any) -> None:
        rows, width = rows_of(piece[self.axis :])
        device.current().launch("copy_run", self.stretches * rows, width, rows, *arguments)


@register
class Concat(Layer):
    """Bottoms one after the other along `concat_param.axis` (1 by default); all other axes agree."""

    bottoms = (1, MANY)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.concat_param
        if p.HasField("axis") and p.HasField("concat_dim"):
            raise self.fail("give either axis or concat_dim, not both")
        first = bottom[0].shape
        axis = self.axis(p.concat_dim if p.HasField("concat_dim") else p.axis, bottom[0])
        for i, blob in enumerate(bottom):
            if len(blob.shape) != len(first) or any(
                a != b for j, (a, b) in enumerate(zip(first, blob.shape)) if j != axis
            ):
                raise self.fail(
                    f"bottoms must agree on all axes but axis {axis}; "
                    f"bottom 0 is {first}, bottom {i} is {blob.shape}"
                )
        shape = list(first)
        shape[axis] = sum(blob.shape[axis] for blob in bottom)
        top[0].reshape(*shape)
        self.runs = Runs(shape, axis)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        if len(bottom) == 1:
            top[0].data = bottom[0].data
            return
        out, first = top[0].new_data(), 0
        for blob in bottom:
            self.runs.insert(blob.shape, first, blob.data, out)
            first += blob.shape[self.runs.axis]

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if len(bottom) == 1:
            if propagate_down[0]:
                bottom[0].diff = top[0].diff
            return
        first = 0
        for blob, wanted in zip(bottom, propagate_down):
            if wanted:
                self.runs.extract(blob.shape, first, top[0].diff, blob.new_diff())
            first += blob.shape[self.runs.axis]


@register
class Slice(Layer):
    """Tops cut from the bottom along `slice_param.axis`, at the slice_points or into equal parts."""

    tops = (1, MANY)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.slice_param
        if p.HasField("axis") and p.HasField("slice_dim"):
            raise self.fail("give either axis or slice_dim, not both")
        axis = self.axis(p.slice_dim if p.HasField("slice_dim") else p.axis, bottom[0])
        shape = list(bottom[0].shape)
        edges = self._edges(list(p.slice_point), len(top), shape[axis], axis)
        self.runs = Runs(shape, axis)
        for blob, begin, end in zip(top, edges, edges[1:]):
            shape[axis] = end - begin
            blob.reshape(*shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        if len(top) == 1:
            top[0].data = bottom[0].data
            return
        first = 0
        for blob in top:
            self.runs.extract(blob.shape, first, bottom[0].data, blob.new_data())
            first += blob.shape[self.runs.axis]

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if not propagate_down[0]:
            return
        if len(top) == 1:
            bottom[0].diff = top[0].diff
            return
        diff, first = bottom[0].new_diff(), 0
        for blob in top:
            self.runs.insert(blob.shape, first, blob.diff, diff)
            first += blob.shape[self.runs.axis]

    def _edges(self, points: list[int], parts: int, size: int, axis: int) -> list[int]:
        """Where the parts begin, and the end."""
        if not points:
            if size % parts:
                raise self.fail(f"{parts} tops do not divide axis {axis} of size {size}; give slice_point")
            return [size * i // parts for i in range(parts + 1)]
        edges = [0, *points, size]
        if len(points) != parts - 1:
            raise self.fail(f"{len(points)} slice_points for {parts} tops; one less than tops is needed")
        if any(begin >= end for begin, end in zip(edges, edges[1:])):
            raise self.fail(f"slice_points {points} must increase within axis {axis} of size {size}")
        return edges


@register
class Tile(Layer):
    """The bottom repeated `tile_param.tiles` times along `axis` (1 by default)."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.tile_param
        if p.tiles < 1:
            raise self.fail(f"tiles {p.tiles} must be at least 1")
        self.tiles, self.repeated = int(p.tiles), self.axis(p.axis, bottom[0])
        shape = list(bottom[0].shape)
        shape[self.repeated] *= self.tiles
        top[0].reshape(*shape)
        self.runs = Runs(shape, self.repeated)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape, out = bottom[0].shape, top[0].new_data()
        for k in range(self.tiles):
            self.runs.insert(shape, k * shape[self.repeated], bottom[0].data, out)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            rows, width = rows_of(bottom[0].shape[self.repeated :])
            arguments = (width, rows, self.tiles, top[0].diff, bottom[0].new_diff())
            device.current().launch("tile_backward", self.runs.stretches * rows, *arguments)
