"""Accuracy: the share of labels among the best scores, overall and by class (Caffe's AccuracyLayer)."""

from __future__ import annotations

from collections.abc import Sequence

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register
from fcnlite.layers.launch import new_array
from fcnlite.layers.loss import NO_LABEL, check_labels
from fcnlite.layers.softmax import softmax_rows


@register
class Accuracy(Layer):
    """The share of labels whose class is among the `top_k` best scores along `axis` (1 by default).

    Bottoms: scores (N, C, ...) and as many labels as there are scores without that axis; those equal to
    `ignore_label` do not count. A class tied with others ranks behind them. Tops: a scalar and, if wanted,
    the share for each class, (C,); a class that no label names has 0.
    """

    bottoms = (2, 2)
    tops = (1, 2)
    no_gradient = frozenset({0, 1})

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.accuracy_param
        self.top_k = int(p.top_k)
        self.ignore = p.ignore_label if p.HasField("ignore_label") else NO_LABEL

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        axis = self.axis(self.param.accuracy_param.axis, bottom[0])
        self.rows = outer, channels, inner, width = softmax_rows(bottom[0].shape, axis)
        if bottom[1].count != outer * inner * width:
            raise self.fail(
                f"{bottom[1].count} labels ({bottom[1].shape}) for {outer * inner * width} predictions "
                f"({bottom[0].shape}, classes along axis {axis})"
            )
        if not 1 <= self.top_k <= channels:
            raise self.fail(f"top_k {self.top_k} must lie between 1 and the {channels} classes")
        top[0].reshape()
        if len(top) > 1:
            top[1].reshape(channels)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        backend = device.current()
        xp = backend.xp
        outer, channels, inner, width = self.rows
        labels = bottom[1].data
        check_labels(self, labels, channels, self.ignore)
        hit, valid = new_array((2, outer * inner * width))
        arrays = (bottom[0].data, labels, hit, valid)
        numbers = (width, channels, inner, self.top_k, self.ignore)
        backend.launch("accuracy_forward", outer * inner, *numbers, *arrays)
        top[0].data = (backend.total(hit) / xp.maximum(backend.total(valid), 1)).reshape(())
        if len(top) > 1:
            classes = xp.clip(labels.reshape(-1), 0, channels - 1).astype(xp.int64)
            hits, counts = (xp.bincount(classes, values, channels) for values in (hit, valid))
            top[1].data = backend.asarray(hits / xp.maximum(counts, 1))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        pass
