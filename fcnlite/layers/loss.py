"""Loss layers: the per-pixel multinomial logistic loss that trains every FCN (Caffe's SoftmaxWithLossLayer)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, new_array, register
from fcnlite.layers.softmax import softmax_rows

FULL, VALID, BATCH_SIZE, NONE = range(4)


@register
class SoftmaxWithLoss(Layer):
    """loss = -sum log max(p[label], FLT_MIN) / normaliser over the pixels whose label is not ``ignore_label``.

    Bottoms: scores (N, C, H, W) and labels (N, 1, H, W); top: a scalar, and optionally the probabilities.
    ``loss_param``: ignore_label; normalization FULL, VALID (default), BATCH_SIZE or NONE, or the older ``normalize``
    (true: VALID, false: BATCH_SIZE). The normaliser is never under 1.
    """

    bottoms = (2, 2)
    tops = (1, 2)
    no_gradient = frozenset({1})
    is_loss = True
    messages = ("loss_param", "softmax_param")

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.loss_param
        self.ignore = p.ignore_label if p.HasField("ignore_label") else -(2**31)
        if not p.HasField("normalization") and p.HasField("normalize"):
            self.normalization = VALID if p.normalize else BATCH_SIZE
        else:
            self.normalization = p.normalization

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.softmax_axis = self.axis(self.param.softmax_param.axis, bottom[0])
        self.rows = outer, _, inner, width = softmax_rows(bottom[0].shape, self.softmax_axis)
        if bottom[1].count != outer * inner * width:
            raise self.fail(
                f"{bottom[1].count} labels ({bottom[1].shape}) for {outer * inner * width} predictions "
                f"({bottom[0].shape}, softmax over axis {self.softmax_axis})"
            )
        top[0].reshape()
        if len(top) > 1:
            top[1].reshape(*bottom[0].shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        backend = device.current()
        outer, channels, inner, width = self.rows
        self._check_labels(bottom[1].data, channels)
        loss, valid = new_array((2, outer * inner * width))
        scores, labels = bottom[0].data, bottom[1].data
        backend.launch(
            "softmax_loss_forward",
            outer * inner,
            width,
            channels,
            inner,
            self.ignore,
            scores,
            labels,
            loss,
            valid,
        )
        self.normaliser = self._normaliser(valid)
        top[0].data = (backend.total(loss) / self.normaliser).reshape(())
        if len(top) > 1:
            backend.launch(
                "softmax_forward", outer * inner, width, channels, inner, scores, top[1].new_data()
            )

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if not propagate_down[0]:
            return
        outer, channels, inner, width = self.rows
        arrays = (top[0].diff, self.normaliser, bottom[0].data, bottom[1].data, bottom[0].new_diff())
        device.current().launch(
            "softmax_loss_backward", outer * inner, width, channels, inner, self.ignore, *arrays
        )

    def _normaliser(self, valid: Any) -> Any:
        """The divisor, as an array of one element on the device."""
        backend = device.current()
        outer, _, inner, width = self.rows
        if self.normalization == VALID:
            return backend.xp.maximum(backend.total(valid), 1)
        fixed = {FULL: outer * inner * width, BATCH_SIZE: outer, NONE: 1}[self.normalization]
        return backend.asarray([max(fixed, 1)])

    def _check_labels(self, labels: Any, channels: int) -> None:
        """A label that is neither a class nor ignored is undefined behaviour in Caffe; here it is an error."""
        backend = device.current()
        if not backend.checks_data:
            return  # the kernel answers with NaN, and whoever reads the loss sees it
        wrong = ((labels < 0) | (labels >= channels)) & (labels != self.ignore)
        if wrong.any():
            value = labels[wrong][0]
            void = f", void label {self.ignore}" if self.ignore >= 0 else ""
            raise self.fail(f"label {value:g} is no class: there are classes 0 to {channels - 1}{void}")
