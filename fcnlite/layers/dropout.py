"""Dropout with Caffe's own random mask (Caffe's DropoutLayer)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.errors import mistake
from fcnlite.layers.base import Layer, register
from fcnlite.layers.launch import launch_flat
from fcnlite.layers.window import POINT, Window
from fcnlite.proto import TRAIN
from fcnlite.random import bernoulli


@register
class Dropout(Layer):
    """TRAIN: x * kept / (1 - dropout_ratio), with each element kept by the seeded draw; TEST: identity.

    Parameters
    ----------
    dropout_ratio : float
        Share of the elements that are dropped, 0.5 by default.
    sample_weights_test : bool
        SegNet's: draw in TEST too. Bayesian SegNet averages many such passes.
    """

    in_place = True

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.ratio = self.param.dropout_param.dropout_ratio
        if not 0 <= self.ratio <= 1:
            raise self.fail(f"dropout_ratio {self.ratio:g} must be at least 0 and at most 1")
        if self.ratio == 1 and self.phase == TRAIN:
            mistake(
                f"layer '{self.name}' (Dropout): dropout_ratio 1 drops everything, of which Caffe makes NaN"
            )
        self._kept: Any = None

    def sight(self) -> Window | None:
        return None if self._draws else POINT

    @property
    def _draws(self) -> bool:
        return self.phase == TRAIN or self.param.dropout_param.sample_weights_test

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        top[0].reshape(*bottom[0].shape)

    def mask_draws(self, bottom: Sequence[Blob]) -> int:
        return bottom[0].count if self._draws else 0

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        if self._draws:
            kept = bernoulli(bottom[0].count, 1 - self.ratio)
            self._kept = device.current().asarray(kept, np.uint8)
            self._run(bottom[0].data, top[0].new_data())
        elif top[0] is not bottom[0]:
            launch_flat("copy_scaled", bottom[0].count, 1.0, bottom[0].data, top[0].new_data())

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if not propagate_down[0]:
            return
        if self._draws:
            self._run(top[0].diff, bottom[0].new_diff())
        elif top[0] is not bottom[0]:
            launch_flat("copy_scaled", bottom[0].count, 1.0, top[0].diff, bottom[0].new_diff())

    def _run(self, source: Any, target: Any) -> None:
        with np.errstate(divide="ignore"):
            scale = float(1 / (1 - np.float32(self.ratio)))
        launch_flat(
            "dropout", source.size, scale, self._kept.reshape(-1), source.reshape(-1), target.reshape(-1)
        )
