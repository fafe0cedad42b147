"""Upsample: values put back to where max pooling took them from (SegNet)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register


@register
class Upsample(Layer):
    """y[mask[i]] = x[i], and 0 elsewhere, plane by plane (Badrinarayanan, Kendall and Cipolla 2015).

    Bottoms: values (N, C, H, W), and the mask that max pooling gives as its second top, y * W' + x of each maximum.
    The top's size is `upsample_h` x `upsample_w`, or `scale` (2 by default), or `scale_h` and `scale_w`, times the
    bottom's, less a row or column by `pad_out_h` and `pad_out_w`. Where windows share a maximum the last one's value
    stands.
    """

    bottoms = (2, 2)
    no_gradient = frozenset({1})

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.upsample_param
        if p.HasField("scale_h") != p.HasField("scale_w") or p.HasField("upsample_h") != p.HasField(
            "upsample_w"
        ):
            raise self.fail("upsample_h and upsample_w, and scale_h and scale_w, must be given together")
        self.scale = (
            (int(p.scale_h), int(p.scale_w)) if p.HasField("scale_h") else (int(p.scale), int(p.scale))
        )
        fixed = p.HasField("upsample_h")
        if not fixed and (min(self.scale) < 2 or (p.pad_out_h or p.pad_out_w) and self.scale != (2, 2)):
            raise self.fail(f"scale {self.scale} must be at least 2, and 2 with pad_out_h and pad_out_w")
        self.fixed = (int(p.upsample_h), int(p.upsample_w)) if fixed else None

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.same_shape(bottom)
        shape, p = bottom[0].shape, self.param.upsample_param
        if len(shape) != 4:
            raise self.fail(f"the bottom has shape {shape}; N x C x H x W is needed")
        pads = (int(p.pad_out_h), int(p.pad_out_w))
        size = self.fixed or tuple(n * s - pad for n, s, pad in zip(shape[2:], self.scale, pads))
        top[0].reshape(*shape[:2], *size)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        planes, size, out_size = self._sizes(bottom, top)
        self._check_mask(bottom[1], top[0])
        arrays = (bottom[0].data, bottom[1].data, top[0].new_data())
        device.current().launch("upsample_forward", planes, 1, size, out_size, *arrays)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            planes, size, out_size = self._sizes(bottom, top)
            arrays = (top[0].diff, bottom[1].data, bottom[0].new_diff())
            device.current().launch("upsample_backward", planes, size, out_size, *arrays)

    def _sizes(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> tuple[int, int, int]:
        planes = math.prod(bottom[0].shape[:2])
        return planes, math.prod(bottom[0].shape[2:]), math.prod(top[0].shape[2:])

    def _check_mask(self, mask: Blob, top: Blob) -> None:
        """Raise if a place lies outside the top, as where the pooling layer's bottom had another size."""
        if device.current().checks_data:
            size = math.prod(top.shape[2:])
            wrong = ~((mask.data >= 0) & (mask.data < size))  # NaN too
            if wrong.any():
                value = mask.data[wrong].reshape(-1)[0]
                raise self.fail(
                    f"the mask names place {value:g} of a plane of {top.shape[2]} x {top.shape[3]}: give the size of "
                    "the pooling layer's bottom as upsample_h and upsample_w"
                )
