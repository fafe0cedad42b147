"""BN: batch normalisation with a scale and a shift of its own, in SegNet's form and in PSPNet's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register
from fcnlite.layers.batch_norm import Groups
from fcnlite.layers.launch import add_channel_sums, new_array
from fcnlite.proto import TEST, FillerParameter

_SEGNET_EPS = 1e-9
_SEGNET_FIELDS = ("scale_filler", "shift_filler", "bn_mode")
INFERENCE = 1


@register
class BN(Layer):
    """y = scale * (x - mean) / sqrt(variance + eps) + shift for each channel, axis 1 (Ioffe and Szegedy 2015).

    Two forks have a layer of this name. Which is meant is told by the names of its settings:

    * SegNet's (`scale_filler`, `shift_filler`, `bn_mode`; alexgkendall/caffe-segnet): scale and shift, (1, C, 1, 1)
      each. LEARN takes mean and variance from the batch, in both phases, with eps 1e-9; INFERENCE is scale * x +
      shift, for weights into which the statistics have been folded.
    * PSPNet's (`slope_filler`, `bias_filler`, `momentum`, `eps`, `frozen`; hszhao/PSPNet), and any other: slope, bias
      and the moving mean and variance, which become momentum * old + (1 - momentum) * the batch's in TRAIN and are
      used in TEST. `frozen` uses them in TRAIN, too, and learns nothing.
    """

    in_place = True
    messages = ("bn_param",)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.bn_param
        if len(bottom[0].shape) < 2:
            raise self.fail(f"the bottom has shape {bottom[0].shape}; at least 2 axes are needed")
        self.is_segnet = any(p.HasField(name) for name in _SEGNET_FIELDS)
        self.affine_only = self.is_segnet and p.bn_mode == INFERENCE
        self.is_global = not self.is_segnet and (p.frozen or self.phase == TEST)
        self.eps = _SEGNET_EPS if self.is_segnet else p.eps
        shape = (1, bottom[0].shape[1], 1, 1)
        fillers = (p.scale_filler, p.shift_filler) if self.is_segnet else (p.slope_filler, p.bias_filler)
        self.blobs = [self.make_blob(shape, filler) for filler in fillers]
        if not self.is_segnet:
            self._make_statistics(shape)

    def _make_statistics(self, shape: tuple[int, ...]) -> None:
        """Moving mean and variance, which no solver touches; nor the other two if all is frozen."""
        frozen = self.param.bn_param.frozen
        for value in (0, 1 if frozen else 0):
            self.blobs.append(self.make_blob(shape, FillerParameter(type="constant", value=value)))
        while len(self.param.param) < 4:
            self.param.param.add()
        for i in range(0 if frozen else 2, 4):
            self.param.param[i].lr_mult = self.param.param[i].decay_mult = 0

    def learns(self, index: int) -> bool:
        """True if parameter `index` gets a gradient: scale and shift do, unless frozen."""
        return index < 2 and not self.param.bn_param.frozen and super().learns(index)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape, channels = bottom[0].shape, self.blobs[0].count
        if len(shape) < 2 or shape[1] != channels:
            raise self.fail(f"the bottom has shape {shape}; {channels} channels are needed")
        self.groups = Groups(shape[0], channels, shape[2:])
        top[0].reshape(*shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.keep_input(bottom, top)
        data, out = self.kept_input(bottom), top[0].new_data()
        scale, shift = (blob.data.reshape(-1) for blob in self.blobs[:2])
        if self.affine_only:
            self.groups.launch("scale_forward", scale, shift, data, out)
            return
        self.mean, variance = self._statistics(data)
        self.std = device.current().asarray(device.current().xp.sqrt(variance + self.eps))
        self.groups.launch("normalise_forward", self.mean, self.std, data, out)
        self.groups.launch("scale_forward", scale, shift, out, out)

    def _statistics(self, data: Any) -> tuple[Any, Any]:
        """Mean and variance to normalise with."""
        if self.is_global:
            return self.blobs[2].data.reshape(-1), self.blobs[3].data.reshape(-1)
        mean, squares = self.groups.means(data), new_array(data.shape)
        self.groups.launch("centred_squares", mean, data, squares)
        variance = self.groups.means(squares)
        if not self.is_segnet:
            momentum = self.param.bn_param.momentum
            for blob, value in zip(self.blobs[2:], (mean, variance)):
                blob.data *= momentum
                blob.data += ((1 - momentum) * value).reshape(blob.shape)
        return mean, variance

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        data, diff, scale = self.kept_input(bottom), top[0].diff, self.blobs[0].data.reshape(-1)
        if self.learns(1):
            add_channel_sums(diff, self.groups.outer, self.groups.groups, self.blobs[1])
        if self.learns(0):
            products = new_array(data.shape)
            if self.affine_only:
                device.current().xp.multiply(data, diff, out=products)
            else:
                self.groups.launch("normalise_products", self.mean, self.std, data, diff, products)
            add_channel_sums(products, self.groups.outer, self.groups.groups, self.blobs[0])
        if not propagate_down[0]:
            return
        if self.affine_only:
            self.groups.launch("scale_forward", scale, None, diff, bottom[0].new_diff())
            return
        scaled = new_array(diff.shape)
        self.groups.launch("scale_forward", scale, None, diff, scaled)
        self._normalisation_gradient(data, scaled, bottom[0].new_diff())

    def _normalisation_gradient(self, data: Any, out_diff: Any, in_diff: Any) -> None:
        mean_g = mean_gy = None
        if not self.is_global:  # mean and variance are functions of the data
            products = new_array(data.shape)
            self.groups.launch("normalise_products", self.mean, self.std, data, out_diff, products)
            mean_g, mean_gy = self.groups.means(out_diff), self.groups.means(products)
        self.groups.launch(
            "normalise_backward", self.mean, self.std, mean_g, mean_gy, data, out_diff, in_diff
        )
