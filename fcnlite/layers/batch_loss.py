"""Losses divided by the batch size alone: Euclidean, hinge, multinomial logistic, contrastive, as in Caffe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register
from fcnlite.layers.launch import launch_flat, new_array
from fcnlite.layers.loss import check_labels, check_similarities
from fcnlite.proto import HingeLossParameter


def _difference(bottom: Sequence[Blob]) -> Any:
    """bottom[0] - bottom[1]."""
    out = new_array(bottom[0].shape)
    launch_flat("eltwise_sum", bottom[0].count, 1.0, bottom[0].data, -1.0, bottom[1].data, out)
    return out


def _sum_of_squares(array: Any) -> Any:
    """The sum of all squares, shape (1,)."""
    out = new_array((1, 1))
    device.current().gemm(array.reshape(1, -1), array.reshape(-1, 1), out)
    return out.reshape(1)


class _BatchLoss(Layer):
    """A scalar: the sum of a batch's losses over the batch size."""

    bottoms = (2, 2)
    no_gradient = frozenset({1})
    is_loss = True

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        batches = {blob.shape[:1] for blob in bottom}
        if len(batches) > 1 or batches == {()}:
            raise self.fail(
                f"bottoms of shapes {[blob.shape for blob in bottom]} are not batches of one size"
            )
        self.batch = bottom[0].shape[0]
        top[0].reshape()


class _LabelledBatchLoss(_BatchLoss):
    """One label for each sample; the rest of a sample is a vector of scores."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().reshape(bottom, top)
        if bottom[1].count != self.batch:
            raise self.fail(
                f"labels of shape {bottom[1].shape}; one for each of {self.batch} samples is needed"
            )
        self.classes = bottom[0].count // self.batch if self.batch else 0


@register
class EuclideanLoss(_BatchLoss):
    """loss = sum (x1 - x2)^2 / (2 N); either bottom may get a gradient."""

    no_gradient = frozenset()

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().reshape(bottom, top)
        if bottom[0].count != bottom[1].count:
            raise self.fail(f"bottoms of shapes {bottom[0].shape} and {bottom[1].shape} have other sizes")

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        top[0].data = (_sum_of_squares(_difference(bottom)) / self.batch / 2).reshape(())

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        arrays = (top[0].diff, bottom[0].data, bottom[1].data)
        for blob, sign, wanted in zip(bottom, (1, -1), propagate_down):
            if wanted:
                factor = sign / self.batch
                launch_flat("euclidean_loss_backward", blob.count, factor, *arrays, blob.new_diff())


@register
class HingeLoss(_LabelledBatchLoss):
    """One against all: loss = sum of max(0, 1 - x[label]) and max(0, 1 + x) of all other scores x, over N.

    `hinge_loss_param.norm`: L1 (default) or L2, which squares each term.
    """

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        backend = device.current()
        check_labels(self, bottom[1].data, self.classes)
        margins = new_array(bottom[0].shape)
        backend.launch("hinge_margins", self.batch, self.classes, bottom[0].data, bottom[1].data, margins)
        if self.param.hinge_loss_param.norm == HingeLossParameter.L2:
            total = _sum_of_squares(margins)
        else:
            total = new_array((1,))
            backend.row_sums(margins.reshape(1, -1), total)
        top[0].data = (total / self.batch).reshape(())

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            squared = int(self.param.hinge_loss_param.norm == HingeLossParameter.L2)
            arrays = (top[0].diff, bottom[0].data, bottom[1].data, bottom[0].new_diff())
            arguments = (self.classes, squared, 1 / self.batch, *arrays)
            device.current().launch("hinge_backward", self.batch, *arguments)


@register
class MultinomialLogisticLoss(_LabelledBatchLoss):
    """loss = -sum log max(p[label], 1e-20) / N of probabilities p, as a Softmax layer gives them."""

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        backend = device.current()
        check_labels(self, bottom[1].data, self.classes)
        loss = new_array((self.batch,))
        arrays = (bottom[0].data, bottom[1].data, loss)
        backend.launch("logistic_loss_forward", self.batch, 1, self.classes, *arrays)
        top[0].data = (backend.total(loss) / self.batch).reshape(())

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            arrays = (top[0].diff, bottom[0].data, bottom[1].data, bottom[0].new_diff())
            arguments = (self.classes, 1 / self.batch, *arrays)
            device.current().launch("logistic_loss_backward", self.batch, *arguments)


@register
class ContrastiveLoss(_BatchLoss):
    """loss = sum of d^2 (similar pairs) and max(0, margin - d)^2 (others) over 2 N (Hadsell et al. 2006).

    Bottoms: vectors (N, C) and (N, C), and for each pair whether it is similar. `legacy_version` takes
    max(0, margin - d^2) for the other pairs.
    """

    bottoms = (3, 3)
    no_gradient = frozenset({2})

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().reshape(bottom, top)
        self.same_shape(bottom[:2])
        if bottom[2].count != self.batch:
            raise self.fail(f"similarities of shape {bottom[2].shape} for {self.batch} pairs")

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        backend = device.current()
        check_similarities(self, bottom[2].data)
        squares = _difference(bottom)
        launch_flat("eltwise_prod", bottom[0].count, squares, squares, squares)
        self.squares, loss = new_array((2, self.batch))
        backend.row_sums(squares.reshape(self.batch, -1), self.squares)
        arrays = (self.squares, bottom[2].data, loss)
        backend.launch("contrastive_loss_forward", self.batch, 1, *self._rule(), *arrays)
        top[0].data = (backend.total(loss) / self.batch / 2).reshape(())

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        arrays = (top[0].diff, self.squares, bottom[2].data, bottom[0].data, bottom[1].data)
        for blob, sign, wanted in zip(bottom, (1, -1), propagate_down):
            if wanted:
                width = blob.count // self.batch
                arguments = (width, sign / self.batch, *self._rule(), *arrays, blob.new_diff())
                device.current().launch("contrastive_loss_backward", self.batch, *arguments)

    def _rule(self) -> tuple[float, int]:
        p = self.param.contrastive_loss_param
        return p.margin, int(p.legacy_version)
