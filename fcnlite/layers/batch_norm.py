"""BatchNorm and MVN bring values to mean 0 and variance 1, by channel of a batch or by image, as in Caffe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register
from fcnlite.layers.launch import new_array, rows_of
from fcnlite.proto import TEST, FillerParameter


class Groups:
    """An array seen as (outer, groups, inner): the values with one group index are normalised together."""

    def __init__(self, outer: int, groups: int, inner: Sequence[int]):
        self.outer, self.groups = outer, groups
        self.inner_rows, self.width = rows_of(inner)

    @property
    def members(self) -> int:
        """Values in a group."""
        return self.outer * self.inner_rows * self.width

    def launch(self, kernel: str, *arrays: Any) -> None:
        """Run a kernel over all rows."""
        rows = self.outer * self.groups * self.inner_rows
        device.current().launch(kernel, rows, self.width, self.groups, self.inner_rows, *arrays)

    def means(self, values: Any) -> Any:
        """The mean of each group, shape (groups,)."""
        sums = device.current().empty((self.groups,))
        for n, block in enumerate(values.reshape(self.outer, self.groups, -1)):
            device.current().row_sums(block, sums, n > 0)
        sums /= self.members
        return sums


class _Normalise(Layer):
    """Base of both: y = (x - mean) / std by group, and its gradient."""

    mean: Any
    std: Any  # None: the variance stays as it is

    def variance(self, groups: Groups, data: Any) -> Any:
        """The mean of (x - mean)^2 of each group."""
        squares = new_array(data.shape)
        groups.launch("centred_squares", self.mean, data, squares)
        return groups.means(squares)

    def gradient(
        self, groups: Groups, data: Any, out_diff: Any, in_diff: Any, constants: bool = False
    ) -> None:
        """in_diff from out_diff; `constants`: mean and std do not depend on the data."""
        mean_g = mean_gy = None
        if not constants:
            mean_g = groups.means(out_diff)
            if self.std is not None:
                products = new_array(data.shape)
                groups.launch("normalise_products", self.mean, self.std, data, out_diff, products)
                mean_gy = groups.means(products)
        groups.launch("normalise_backward", self.mean, self.std, mean_g, mean_gy, data, out_diff, in_diff)


@register
class BatchNorm(_Normalise):
    """y = (x - mean) / sqrt(variance + eps) for each channel, axis 1; no scale, no shift.

    (Ioffe and Szegedy 2015.) In TRAIN mean and variance are the batch's, and enter the moving sums in the
    three parameters (mean, variance, weight of both); in TEST, or by `use_global_stats`, they are those
    sums divided by the weight. No solver touches the parameters: their lr_mult is 0, and a prototxt that says
    otherwise is refused.
    """

    in_place = True

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.batch_norm_param
        if len(bottom[0].shape) < 2:
            raise self.fail(f"the bottom has shape {bottom[0].shape}; at least 2 axes are needed")
        self.is_global = p.use_global_stats if p.HasField("use_global_stats") else self.phase == TEST
        self.fraction, self.eps = p.moving_average_fraction, p.eps
        channels = bottom[0].shape[1]
        zeros = FillerParameter(type="constant", value=0)
        self.blobs = [self.make_blob(shape, zeros) for shape in ((channels,), (channels,), (1,))]
        for i in range(3):
            if i == len(self.param.param):
                self.param.param.add(lr_mult=0)
            elif self.param.param[i].lr_mult != 0:
                raise self.fail(f"param {i} must have lr_mult 0: the statistics are no weights to learn")

    def running(self) -> list[Blob]:
        return [] if self.is_global else self.blobs

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape, channels = bottom[0].shape, self.blobs[0].count
        if len(shape) < 2 or shape[1] != channels:
            raise self.fail(f"the bottom has shape {shape}; {channels} channels are needed")
        self.groups = Groups(shape[0], channels, shape[2:])
        top[0].reshape(*shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        data = bottom[0].data
        if self.is_global:
            weight = self.blobs[2].data
            divisor = device.current().xp.where(weight == 0, 1, weight)
            self.mean = self.blobs[0].data / divisor * (weight != 0)
            variance = self.blobs[1].data / divisor * (weight != 0)
        else:
            self.keep_input(bottom, top)
            self.mean = self.groups.means(data)
            variance = self.variance(self.groups, data)
            self._remember(variance)
        self.std = device.current().asarray(device.current().xp.sqrt(variance + self.eps))
        self.mean = device.current().asarray(self.mean)
        self.groups.launch("normalise_forward", self.mean, self.std, data, top[0].new_data())

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            arrays = (self.kept_input(bottom), top[0].diff, bottom[0].new_diff())
            self.gradient(self.groups, *arrays, constants=self.is_global)

    def _remember(self, variance: Any) -> None:
        """Let the batch's statistics enter the moving sums, the variance without its bias."""
        members = self.groups.members
        unbiased = members / (members - 1) if members > 1 else 1.0
        for blob, value in zip(self.blobs, (self.mean, variance * unbiased, 1.0)):
            blob.data *= self.fraction
            blob.data += value


@register
class MVN(_Normalise):
    """y = (x - mean) / (std + eps) over each image's channel, or over the image with `across_channels`.

    With `normalize_variance: false` only the mean is taken away.
    """

    in_place = True

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape = bottom[0].shape
        if not 1 <= len(shape) <= 4:
            raise self.fail(f"the bottom has shape {shape}; N x C x H x W is needed")
        own = 1 if self.param.mvn_param.across_channels else 2
        self.groups = Groups(1, math.prod(shape[:own]), shape[own:])
        top[0].reshape(*shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.mvn_param
        self.keep_input(bottom, top)
        self.mean, self.std = self.groups.means(bottom[0].data), None
        if p.normalize_variance:
            self.std = device.current().xp.sqrt(self.variance(self.groups, bottom[0].data))
            self.std += p.eps
        self.groups.launch("normalise_forward", self.mean, self.std, bottom[0].data, top[0].new_data())

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            self.gradient(self.groups, self.kept_input(bottom), top[0].diff, bottom[0].new_diff())
