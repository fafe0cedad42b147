"""Embed, BatchReindex and Filter: rows of a table, or images of a batch, picked by number, as in Caffe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import MANY, Layer, register
from fcnlite.layers.inner_product import add_bias, add_bias_gradient
from fcnlite.layers.launch import rows_of


def pick(index: Any, source: Any, target: Any) -> None:
    """target[m] = source[index[m]] along the first axis; `index` holds whole numbers as reals."""
    inner_rows, width = rows_of(source.shape[1:])
    arguments = (width, inner_rows, source.shape[0], index, source, target)
    device.current().launch("gather_forward", index.size * inner_rows, *arguments)


def send_back(index: Any, target_diff: Any, source_diff: Any, accumulate: bool = False) -> None:
    """The gradient of :func:`pick` with respect to `source`."""
    inner_rows, width = rows_of(source_diff.shape[1:])
    arguments = (width, inner_rows, index.size, int(accumulate), index, target_diff, source_diff)
    device.current().launch("gather_backward", source_diff.shape[0] * inner_rows, *arguments)


def check_numbers(layer: Layer, index: Any, count: int) -> None:
    """Raise unless every index lies in [0, count)."""
    if device.current().checks_data:
        wrong = ~((index >= 0) & (index < count))  # NaN too
        if wrong.any():
            raise layer.fail(f"index {index[wrong][0]:g} is not one of 0 to {count - 1}")


@register
class Embed(Layer):
    """Row i of a learned table for each number i of the bottom: (...) -> (..., num_output).

    Weight (input_dim, num_output), bias (num_output,) unless `bias_term` is false. The product of a one-hot
    vector with the weight, without the vector.
    """

    no_gradient = frozenset({0})

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.embed_param
        if p.num_output < 1 or p.input_dim < 1:
            raise self.fail(f"num_output {p.num_output} and input_dim {p.input_dim} must be at least 1")
        self.blobs = [self.make_blob((int(p.input_dim), int(p.num_output)), p.weight_filler)]
        if p.bias_term:
            self.blobs.append(self.make_blob((int(p.num_output),), p.bias_filler))

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        top[0].reshape(*bottom[0].shape, self.blobs[0].shape[1])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        check_numbers(self, bottom[0].data, self.blobs[0].shape[0])
        out = top[0].new_data().reshape(bottom[0].count, -1)
        pick(bottom[0].data, self.blobs[0].data, out)
        if len(self.blobs) > 1:
            add_bias(self.blobs[1].data, out)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        diff = top[0].diff.reshape(bottom[0].count, -1)
        if self.learns(0):
            target, held = self.blobs[0].sum_diff()
            send_back(bottom[0].data, diff, target, held)
        if len(self.blobs) > 1:
            add_bias_gradient(self, 1, diff)


@register
class BatchReindex(Layer):
    """Image index[m] of bottom[0] as image m, index being bottom[1] (M,); images may come several times."""

    bottoms = (2, 2)
    no_gradient = frozenset({1})

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        if len(bottom[1].shape) != 1 or not bottom[0].shape:
            raise self.fail(f"indices of shape {bottom[1].shape} for a bottom of shape {bottom[0].shape}")
        top[0].reshape(bottom[1].count, *bottom[0].shape[1:])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        check_numbers(self, bottom[1].data, bottom[0].shape[0])
        pick(bottom[1].data, bottom[0].data, top[0].new_data())

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            send_back(bottom[1].data, top[0].diff, bottom[0].new_diff())


@register
class Filter(Layer):
    """Of every bottom but the last, those images for which the last bottom, the selector (N,), is not 0.

    The tops are as long as the selector says, so its content decides their shape; before it has any, they are
    of full size.
    """

    bottoms = (2, MANY)
    tops = (1, MANY)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        if len(top) != len(bottom) - 1:
            raise self.fail(
                f"{len(top)} tops for {len(bottom)} bottoms; one top for each but the last is needed"
            )

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        selector = bottom[-1]
        if not selector.shape or selector.count != selector.shape[0]:
            raise self.fail(f"the selector has shape {selector.shape}; one number for each image is needed")
        for blob in bottom[:-1]:
            if blob.shape[:1] != selector.shape[:1]:
                raise self.fail(f"a bottom of shape {blob.shape} for a selector of {selector.count} numbers")
        chosen = selector.count
        if selector.has_data:
            backend = device.current()
            self.chosen = backend.asarray(backend.xp.flatnonzero(selector.data))
            chosen = self.chosen.size
        for below, above in zip(bottom, top):
            above.reshape(chosen, *below.shape[1:])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        for below, above in zip(bottom, top):
            pick(self.chosen, below.data, above.new_data())

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        for below, above, wanted in zip(bottom, top, propagate_down):
            if wanted:
                send_back(self.chosen, above.diff, below.new_diff())
