"""SegAccuracy: pixel accuracy, mean class accuracy and mean IU of what has been seen so far (DeepLab)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register
from fcnlite.layers.loss import check_whole


@register
class SegAccuracy(Layer):
    """Bottoms: scores (N, C, H, W) and labels (N, 1, H, W); top: (1, 1, 1, 3) of three fractions.

    From a confusion matrix, n_ij pixels of class i taken for j: sum n_ii / sum n_ij; the mean over the classes of n_ii
    / sum_j n_ij, of those that occur; the mean of n_ii / (sum_j n_ij + sum_j n_ji - n_ii), 1 where that is 0 / 0.
    `seg_accuracy_param`: ignore_label, any number of them; reset (true), whether the matrix starts anew in each
    forward.
    """

    bottoms = (2, 2)
    no_gradient = frozenset({0, 1})

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        if len(bottom[0].shape) != 4:
            raise self.fail(f"the scores have shape {bottom[0].shape}; N x C x H x W is needed")
        classes = bottom[0].shape[1]
        self.matrix = np.zeros((classes, classes), np.int64)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        scores, labels = bottom[0].shape, bottom[1].shape
        if scores[1:2] != self.matrix.shape[:1] or labels != (scores[0], 1, *scores[2:]):
            raise self.fail(
                f"labels of shape {labels} for scores of shape {scores}; (N, 1, H, W) and "
                f"(N, {len(self.matrix)}, H, W) are needed"
            )
        top[0].reshape(1, 1, 1, 3)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p, classes = self.param.seg_accuracy_param, len(self.matrix)
        if p.reset:
            self.matrix[...] = 0
        tonumpy = device.current().tonumpy
        check_whole(self, bottom[1].data)
        labels = tonumpy(bottom[1].data).reshape(-1).astype(np.int64)
        taken = tonumpy(bottom[0].data).argmax(1).reshape(-1)
        counts = ~np.isin(labels, list(p.ignore_label))
        wrong = counts & ((labels < 0) | (labels >= classes))
        if wrong.any():
            raise self.fail(f"label {labels[wrong][0]} is no class: there are classes 0 to {classes - 1}")
        pairs = labels[counts] * classes + taken[counts]
        self.matrix[...] += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
        top[0].data = device.current().asarray(_fractions(self.matrix).reshape(1, 1, 1, 3))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        pass


def _fractions(matrix: np.ndarray) -> np.ndarray:
    """Pixel accuracy, mean accuracy of the classes that occur, mean IU (1 for a class neither seen nor taken)."""
    right, truth, taken = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    union = truth + taken - right
    recall = (right / np.maximum(truth, 1)).sum() / max((truth > 0).sum(), 1)
    iou = np.where(union > 0, right / np.maximum(union, 1), 1)
    return np.array([right.sum() / max(matrix.sum(), 1), recall, iou.mean()])
