"""SpatialDropout: whole channels dropped (ENet, where it is a Python layer of the module spatial_dropout)."""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence

import numpy as np

from fcnlite.blob import Blob
from fcnlite.errors import InputError
from fcnlite.hostblob import HostBlob
from fcnlite.layers.python import WELL_KNOWN, PythonLayer
from fcnlite.random import bernoulli


class SpatialDropoutLayer(PythonLayer):
    """y = x * kept[n][c] / (1 - p) where `param_str` says phase TRAIN, else y = x / (1 - p), as ENet has it.

    `param_str` is a dict of phase and p. A channel of an image is kept with probability 1 - p (Tompson et al. 2015);
    the gradient is the formula's, of every image, where ENet's own sends all images back by the last one's draw.
    """

    def setup(self, bottom: Sequence[HostBlob], top: Sequence[HostBlob]) -> None:
        """Read `param_str`, as a literal that is never evaluated."""
        try:
            given = ast.literal_eval(self.param_str)
            self.draws, self.p = given["phase"] == "TRAIN", float(given["p"])
        except (ValueError, SyntaxError, KeyError, TypeError):
            raise InputError(
                f"SpatialDropoutLayer: param_str must say phase and p, as {{'phase': 'TRAIN', 'p': 0.1}}, not "
                f"{self.param_str!r}"
            ) from None
        if not 0 < self.p < 1:
            raise InputError(f"SpatialDropoutLayer: p {self.p:g} must lie between 0 and 1")

    def reshape(self, bottom: Sequence[HostBlob], top: Sequence[HostBlob]) -> None:
        """Give the top the bottom's shape."""
        top[0].reshape(*bottom[0].data.shape)

    def mask_draws(self, bottom: Sequence[Blob]) -> int:
        """Count of numbers that a forward pass draws."""
        return math.prod(bottom[0].shape[:2]) if self.draws else 0

    def forward(self, bottom: Sequence[HostBlob], top: Sequence[HostBlob]) -> None:
        """Draw, and drop."""
        shape = bottom[0].data.shape
        self.factor = np.full(shape[:2], 1 / (1 - self.p))
        if self.draws:
            self.factor *= bernoulli(self.factor.size, 1 - self.p).reshape(shape[:2])
        self.factor = self.factor.reshape(*shape[:2], *[1] * (len(shape) - 2))
        top[0].data[...] = bottom[0].data * self.factor

    def backward(
        self, top: Sequence[HostBlob], propagate_down: Sequence[bool], bottom: Sequence[HostBlob]
    ) -> None:
        """Send the gradient back by the same draw."""
        if propagate_down[0]:
            bottom[0].diff[...] = top[0].diff * self.factor


WELL_KNOWN["spatial_dropout", "SpatialDropoutLayer"] = SpatialDropoutLayer
