"""Layers without arithmetic: Input and Parameter, where data comes from, Split and Silence, where it goes."""

from __future__ import annotations

from collections.abc import Sequence

from fcnlite.blob import Blob
from fcnlite.layers.base import MANY, Layer, register
from fcnlite.layers.launch import launch_flat
from fcnlite.proto import FillerParameter


@register
class Input(Layer):
    """Caffe's Input: tops of the shapes in `input_param`, filled from outside."""

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
class Parameter(Layer):
    """Caffe's Parameter: a blob to learn, of the shape in `parameter_param`, filled with 0."""

    bottoms = (0, 0)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        zeros = FillerParameter(type="constant", value=0)
        self.blobs = [self.make_blob(tuple(self.param.parameter_param.shape.dim), zeros)]

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        top[0].reshape(*self.blobs[0].shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        top[0].data = self.blobs[0].data

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if self.learns(0):
            target, held = self.blobs[0].sum_diff()
            kernel = "add_scaled" if held else "copy_scaled"
            launch_flat(kernel, top[0].count, 1.0, top[0].diff, target)


@register
class Silence(Layer):
    """Caffe's Silence: reads blobs so that they are no outputs; sends them a gradient of 0."""

    bottoms = (1, MANY)
    tops = (0, 0)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        pass

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        pass

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        for blob, wanted in zip(bottom, propagate_down):
            if wanted:
                blob.new_diff().fill(0)


@register
class Split(Layer):
    """Caffe's Split: tops share the bottom's data; the bottom's diff is the sum of theirs."""

    tops = (1, MANY)
    pointwise = True

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
