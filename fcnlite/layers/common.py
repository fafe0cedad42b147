"""Layers without arithmetic: Input, where data enters a net, and Split, which gives a blob several readers."""

from __future__ import annotations

from collections.abc import Sequence

from fcnlite.blob import Blob, launch_flat
from fcnlite.layers.base import Layer, register

MANY = 1 << 20


@register
class Input(Layer):
    """Caffe's Input: tops of the shapes in ``input_param``, filled from outside."""

    bottoms = (0, 0)
    tops = (1, MANY)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shapes = self.param.input_param.shape
        if len(shapes) not in (0, 1, len(top)):
            raise self.fail(f"{len(shapes)} shapes for {len(top)} tops; give one for all or one for each")
        for i, blob in enumerate(top):
            if shapes:
                dims = tuple(shapes[i if len(shapes) > 1 else 0].dim)
                if any(d < 0 for d in dims):
                    raise self.fail(f"the shape {' x '.join(map(str, dims))} has a negative dimension")
                blob.reshape(*dims)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        pass  # the tops have whatever shape they were given

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        pass

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        pass


@register
class Split(Layer):
    """Caffe's Split: tops share the bottom's data; the bottom's diff is the sum of theirs."""

    tops = (1, MANY)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        for blob in top:
            blob.reshape(*bottom[0].shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        for blob in top:
            blob.data = bottom[0].data

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if not propagate_down[0]:
            return
        count, total = bottom[0].count, bottom[0].new_diff()
        if len(top) == 1:
            launch_flat("copy_scaled", count, 1.0, top[0].diff, total)
            return
        launch_flat("eltwise_sum", count, 1.0, top[0].diff, 1.0, top[1].diff, total)
        for blob in top[2:]:
            launch_flat("add_scaled", count, 1.0, blob.diff, total)
