"""Flatten and Reshape: the same values in another shape; tops share their bottom's memory, as in Caffe."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register


class _Reshaped(Layer):
    """Data and diff pass by, in the top's shape."""

    def top_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The top's shape for a bottom of `shape`."""
        raise NotImplementedError

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        top[0].reshape(*self.top_shape(bottom[0].shape))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        top[0].data = bottom[0].data.reshape(top[0].shape)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            bottom[0].diff = top[0].diff.reshape(bottom[0].shape)


@register
class Flatten(_Reshaped):
    """Axes from `axis` (1 by default) to `end_axis` (the last) become one."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.flatten_param
        self.first, self.last = self.axis(p.axis, bottom[0]), self.axis(p.end_axis, bottom[0])
        if self.first > self.last:
            raise self.fail(f"axis {p.axis} lies behind end_axis {p.end_axis}")
        super().reshape(bottom, top)

    def top_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        end = self.last + 1
        return (*shape[: self.first], math.prod(shape[self.first : end]), *shape[end:])


@register
class Reshape(_Reshaped):
    """`num_axes` axes from `axis` on (all, by default) are replaced by `reshape_param.shape`.

    A dim of 0 keeps the bottom's axis at that place, one -1 takes what is left over.
    """

    def top_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        p = self.param.reshape_param
        dims = list(p.shape.dim)
        first = p.axis if p.axis >= 0 else len(shape) + 1 + p.axis
        end = len(shape) if p.num_axes == -1 else first + p.num_axes
        if not 0 <= first <= end <= len(shape):
            raise self.fail(f"axis {p.axis} and num_axes {p.num_axes} do not fit a bottom of shape {shape}")
        if dims.count(-1) > 1 or any(dim < -1 for dim in dims):
            raise self.fail(f"dims {dims}: there may be one -1, and nothing below it")
        for i, dim in enumerate(dims):
            if dim == 0:
                if first + i >= len(shape):
                    raise self.fail(
                        f"dim {i} is 0, but a bottom of shape {shape} has no axis {first + i} to keep"
                    )
                dims[i] = shape[first + i]
        around = math.prod(shape[:first]) * math.prod(shape[end:])
        if -1 in dims:
            known = around * math.prod(dim for dim in dims if dim != -1)
            if known == 0 or math.prod(shape) % known:
                raise self.fail(f"no dim in place of -1 in {dims} makes {math.prod(shape)} values of {shape}")
            dims[dims.index(-1)] = math.prod(shape) // known
        if around * math.prod(dims) != math.prod(shape):
            raise self.fail(
                f"a bottom of shape {shape} has {math.prod(shape)} values; dims {dims} need "
                f"{around * math.prod(dims)}"
            )
        return (*shape[:first], *dims, *shape[end:])
