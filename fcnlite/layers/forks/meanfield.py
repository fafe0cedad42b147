"""MultiStageMeanfield: mean-field inference of a dense CRF as a recurrent net (CRF as RNN)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.errors import InputError
from fcnlite.layers.base import Layer, register
from fcnlite.layers.forks.lattice import Lattice
from fcnlite.layers.launch import launch_flat, new_array
from fcnlite.proto import FillerParameter, Message

_NOT_HERE = ("detection_potentials_enabled", "ho_potentials_enabled", "is_no_class_weights")
_DETECTIONS = 200  # numbers in the second top
_REFUSED = ("forced_spatial_filter_weight", "forced_bilateral_filter_weight")


class _Kernel(NamedTuple):
    """A Gaussian kernel over an image's pixels, normalised pixel by pixel."""

    lattice: Lattice
    factor: Any  # (pixels,): one over the filter's answer to ones
    ones: Any

    def filter(self, values: Any) -> Any:
        """Filter (channels, pixels) values by the kernel."""
        return self.lattice.filter(values, self.factor)

    def filter_back(self, diff: Any) -> Any:
        """The transpose of `filter`."""
        scaled = new_array(diff.shape)
        width = diff.shape[1]
        for source, target in zip(diff, scaled):
            launch_flat("eltwise_prod", width, source, self.factor, target)
        return self.lattice.filter(scaled, self.ones, transposed=True)


def _kernel(features: np.ndarray) -> _Kernel:
    backend = device.current()
    lattice = Lattice(features)
    ones = backend.asarray(np.ones((1, lattice.points)))
    norm = lattice.filter(ones, ones.reshape(-1))
    return _Kernel(lattice, backend.asarray(1 / (norm.reshape(-1) + 1e-20)), ones.reshape(-1))


class _Step(NamedTuple):
    """The arrays that an iteration over an image keeps for backward; arrays (channels, pixels)."""

    prob: Any
    spatial: Any
    bilateral: Any
    message: Message


@register
class MultiStageMeanfield(Layer):
    """Q <- U - M (W_s K_s softmax(Q) + W_b K_b softmax(Q)), `num_iterations` times (Zheng et al., ICCV 2015).

    Bottoms: the unaries U and the first Q, (N, C, H, W) each, and the image (N, 3, H, W), which gets no gradient. K_s
    is a Gaussian of the distance over `theta_gamma`, K_b one of the distance over `theta_alpha` and the difference of
    colours over `theta_beta`, both by a permutohedral lattice and normalised so that ones stay ones. Learned, (1, 1,
    C, C) each: W_s, W_b and the compatibility M, which starts as minus the unit matrix.

    W_s and W_b start as diagonals of: `spatial_filter_weights_str` and `bilateral_filter_weights_str`, numbers; else
    the files spatial.par and bilateral.par, as in the original; else `spatial_filter_weight` and
    `bilateral_filter_weight`.

    The later form has a fourth bottom, the image's number, a second top, (1, 1, 1, 200) of what detections say, and
    seven parameters, of which the last four belong to detections and superpixels. These potentials are refused;
    without them the bottom is not looked at, the top is zero, and so are the four.
    """

    bottoms = (3, 4)
    tops = (1, 2)
    no_gradient = frozenset({2, 3})

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.multi_stage_meanfield_param
        if p.num_iterations < 1 or min(p.theta_alpha, p.theta_beta, p.theta_gamma) <= 0:
            raise self.fail("num_iterations, theta_alpha, theta_beta and theta_gamma must be positive")
        if any(p.HasField(name) for name in _REFUSED):
            raise self.fail(
                f"{' and '.join(_REFUSED)} have no effect in any version of this layer; leave them out"
            )
        for name in filter(lambda name: getattr(p, name), _NOT_HERE):
            raise self.fail(f"{name} is not here; leave it out for the dense CRF alone")
        if len(bottom[0].shape) != 4:
            raise self.fail(f"the unaries have shape {bottom[0].shape}; N x C x H x W is needed")
        classes = bottom[0].shape[1]
        zeros = FillerParameter(type="constant", value=0)
        self.blobs = [self.make_blob((1, 1, classes, classes), zeros) for _ in range(3)]
        for blob, diagonal in zip(self.blobs, self._diagonals(classes)):
            blob.data = device.current().asarray(np.diag(diagonal).reshape(blob.shape))
        if len(bottom) == 4 or len(top) == 2:
            shapes = [(1, 1, 1, classes)] * 2 + [(1, 1, 1, p.ho_num_layers)] * 2
            self.blobs += [self.make_blob(shape, zeros) for shape in shapes]
        self._spatial: tuple[tuple[int, int], _Kernel] | None = None

    def _diagonals(self, classes: int) -> list[np.ndarray]:
        p = self.param.multi_stage_meanfield_param
        found = []
        for kind in ("spatial", "bilateral"):
            text = getattr(p, f"{kind}_filter_weights_str") or self._file(f"{kind}.par")
            try:
                numbers = [float(word) for word in text.split()] or [getattr(p, f"{kind}_filter_weight")]
            except ValueError as error:
                raise self.fail(f"the {kind} weights must be numbers ({error})") from None
            if len(numbers) not in (1, classes):
                raise self.fail(
                    f"{len(numbers)} {kind} weights for {classes} classes; give one, or one for each"
                )
            found.append(np.broadcast_to(np.array(numbers), (classes,)))
        return [*found, np.full(classes, -1.0)]

    def _file(self, name: str) -> str:
        """The text of a file beside the prototxt or in the working folder; empty if there is none."""
        try:
            return self.find_file(name).read_text(encoding="utf-8")
        except InputError:
            return ""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape, classes = bottom[0].shape, self.blobs[0].shape[2]
        self.same_shape(bottom[:2])
        if len(shape) != 4 or shape[1] != classes:
            raise self.fail(f"the unaries have shape {shape}; {classes} channels are needed")
        if bottom[2].shape != (shape[0], 3, *shape[2:]):
            raise self.fail(f"the image has shape {bottom[2].shape}; {(shape[0], 3, *shape[2:])} is needed")
        top[0].reshape(*shape)
        for blob in top[1:]:
            blob.reshape(1, 1, 1, _DETECTIONS)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        n, classes, height, width = bottom[0].shape
        image = device.current().tonumpy(bottom[2].data)
        self._kernels = [(self._spatial_kernel(height, width), self._bilateral_kernel(one)) for one in image]
        self._steps: list[list[_Step]] = []
        out = top[0].new_data()
        for i in range(n):
            unary, q = (bottom[b].data[i].reshape(classes, -1) for b in (0, 1))
            steps = []
            for _ in range(self.param.multi_stage_meanfield_param.num_iterations):
                q, step = self._iterate(unary, q, *self._kernels[i])
                steps.append(step)
            out[i] = q.reshape(classes, height, width)
            self._steps.append(steps)
        for blob in top[1:]:
            blob.data = device.current().zeros(blob.shape)

    def _iterate(self, unary: Any, q: Any, spatial: _Kernel, bilateral: _Kernel) -> tuple[Any, _Step]:
        backend = device.current()
        classes, pixels = unary.shape
        prob = new_array(unary.shape)
        backend.launch("softmax_forward", 1, pixels, classes, 1, q, prob)
        near, alike, message = spatial.filter(prob), bilateral.filter(prob), new_array(unary.shape)
        space, colour, compatibility = self._matrices()
        backend.gemm(space, near, message)
        backend.gemm(colour, alike, message, True)
        pairwise = new_array(unary.shape)
        backend.gemm(compatibility, message, pairwise)
        return unary - pairwise, _Step(prob, near, alike, message)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        classes = bottom[0].shape[1]
        diffs = [blob.new_diff() if wanted else None for blob, wanted in zip(bottom, propagate_down)]
        for i, (kernels, steps) in enumerate(zip(self._kernels, self._steps)):
            diff = top[0].diff[i].reshape(classes, -1)
            unary = device.current().zeros(diff.shape)
            for step in reversed(steps):
                unary += diff
                diff = self._iterate_back(diff, step, *kernels)
            for target, value in zip(diffs, (unary, diff)):
                if target is not None:
                    target[i] = value.reshape(target.shape[1:])

    def _iterate_back(self, diff: Any, step: _Step, spatial: _Kernel, bilateral: _Kernel) -> Any:
        """The gradient of Q before an iteration from that after it; adds to those of the parameters."""
        backend = device.current()
        classes, pixels = diff.shape
        space, colour, compatibility = self._matrices()
        pairwise = backend.asarray(-diff)
        self._learn(2, pairwise, step.message)
        message = new_array(diff.shape)
        backend.gemm(compatibility.T, pairwise, message)
        self._learn(0, message, step.spatial)
        self._learn(1, message, step.bilateral)
        filtered, prob_diff = new_array(diff.shape), backend.zeros(diff.shape)
        for weight, kernel in ((space, spatial), (colour, bilateral)):
            backend.gemm(weight.T, message, filtered)
            prob_diff += kernel.filter_back(filtered)
        before = new_array(diff.shape)
        backend.launch("softmax_backward", 1, pixels, classes, 1, step.prob, prob_diff, before)
        return before

    def _learn(self, index: int, diff: Any, values: Any) -> None:
        if self.learns(index):
            target, held = self.blobs[index].sum_diff()
            device.current().gemm(diff, values.T, target.reshape(target.shape[2:]), held)

    def _matrices(self) -> list[Any]:
        return [blob.data.reshape(blob.shape[2:]) for blob in self.blobs[:3]]

    def _spatial_kernel(self, height: int, width: int) -> _Kernel:
        if self._spatial is None or self._spatial[0] != (height, width):
            gamma = np.float32(self.param.multi_stage_meanfield_param.theta_gamma)
            self._spatial = (height, width), _kernel(_places(height, width) / gamma)
        return self._spatial[1]

    def _bilateral_kernel(self, image: np.ndarray) -> _Kernel:
        p = self.param.multi_stage_meanfield_param
        places = _places(*image.shape[1:]) / np.float32(p.theta_alpha)
        colours = image.reshape(3, -1).T.astype(np.float32) / np.float32(p.theta_beta)
        return _kernel(np.concatenate([places, colours], axis=1))


def _places(height: int, width: int) -> np.ndarray:
    """(x, y) of each pixel in row-major order, (pixels, 2)."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([x, y], axis=-1).reshape(-1, 2)
