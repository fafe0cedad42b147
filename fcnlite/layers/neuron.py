"""Caffe's neuron layers, y = f(x) element by element.

Sigmoid, TanH, AbsVal, BNLL, ELU, Swish, Clip, Threshold, Power, Exp and Log; for ReLU and PReLU see relu.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register
from fcnlite.layers.launch import launch_flat


class Neuron(Layer):
    """Base of the elementwise layers: top and bottom have one shape and may be one blob; one kernel a direction.

    Attributes
    ----------
    kernel : str
        The kernels are `<kernel>_forward` and `<kernel>_backward`.
    from_output : bool
        Whether backward reads the output. Otherwise it reads the input, of which an in-place layer keeps a
        copy. (Caffe does not: its BNLL, Log, Clip, Swish and Power give wrong gradients in place.)
    constants : tuple of float
        What the kernels take ahead of the arrays.
    """

    in_place = True
    pointwise = True
    kernel: ClassVar[str]
    from_output: ClassVar[bool] = False

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.constants = self.read_constants()

    def read_constants(self) -> tuple[float, ...]:
        """The kernels' constants, from the layer's parameters."""
        return ()

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        if not self.from_output:
            self.keep_input(bottom, top)
        launch_flat(
            f"{self.kernel}_forward", bottom[0].count, *self.constants, bottom[0].data, top[0].new_data()
        )

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            seen = top[0].data if self.from_output else self.kept_input(bottom)
            arrays = (seen, top[0].diff, bottom[0].new_diff())
            launch_flat(f"{self.kernel}_backward", bottom[0].count, *self.constants, *arrays)


@register
class Sigmoid(Neuron):
    """y = 1 / (1 + exp(-x))."""

    kernel = "sigmoid"
    from_output = True


@register
class TanH(Neuron):
    """y = tanh(x)."""

    kernel = "tanh"
    from_output = True


@register
class AbsVal(Neuron):
    """y = |x|; never in place."""

    kernel = "absval"
    in_place = False


@register
class BNLL(Neuron):
    """y = log(1 + exp(x)), the binomial normal log likelihood."""

    kernel = "bnll"


@register
class ELU(Neuron):
    """y = x where x > 0, else alpha * (exp(x) - 1) (Clevert et al. 2015)."""

    kernel = "elu"

    def read_constants(self) -> tuple[float, ...]:
        return (self.param.elu_param.alpha,)


@register
class Swish(Neuron):
    """y = x * sigmoid(beta * x) (Ramachandran et al. 2017)."""

    kernel = "swish"

    def read_constants(self) -> tuple[float, ...]:
        return (self.param.swish_param.beta,)


@register
class Clip(Neuron):
    """y = min(max(x, clip_param.min), clip_param.max)."""

    kernel = "clip"

    def read_constants(self) -> tuple[float, ...]:
        p = self.param.clip_param
        if not (p.HasField("min") and p.HasField("max")):
            raise self.fail("clip_param needs both min and max")
        return p.min, p.max


@register
class Threshold(Neuron):
    """y = 1 where x > threshold, else 0; no gradient passes."""

    kernel = "threshold"
    from_output = True
    no_gradient = frozenset({0})

    def read_constants(self) -> tuple[float, ...]:
        return (self.param.threshold_param.threshold,)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        pass


@register
class Power(Neuron):
    """y = (shift + scale * x)^power.

    The gradient recomputes the power; Caffe divides y by x, which gives NaN at 0.
    """

    kernel = "power"

    def read_constants(self) -> tuple[float, ...]:
        p = self.param.power_param
        return p.power, p.scale, p.shift

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        power, scale, shift = self.constants
        if power * scale == 0:  # the input does not matter, be it NaN
            top[0].new_data().fill(np.float32(shift) ** np.float32(power))
        else:
            super().forward(bottom, top)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        power, scale, _ = self.constants
        if power * scale != 0:
            super().backward(top, propagate_down, bottom)
        elif propagate_down[0]:
            bottom[0].new_diff().fill(0)


@register
class Exp(Neuron):
    """y = base^(shift + scale * x), with base e unless given."""

    kernel = "exp"
    from_output = True

    def read_constants(self) -> tuple[float, ...]:
        p = self.param.exp_param
        log_base = _log_base(self, p.base)
        return log_base * p.scale, float(np.exp(log_base * p.shift))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            arrays = (top[0].data, top[0].diff, bottom[0].new_diff())
            launch_flat("exp_backward", bottom[0].count, self.constants[0], *arrays)


@register
class Log(Neuron):
    """y = log_base(shift + scale * x), with base e unless given."""

    kernel = "log"

    def read_constants(self) -> tuple[float, ...]:
        p = self.param.log_param
        log_base = _log_base(self, p.base)
        if log_base == 0:
            raise self.fail("base 1 has no logarithm")
        return 1 / log_base, p.scale, p.shift


def _log_base(layer: Layer, base: float) -> float:
    """The natural logarithm of `base`; -1, the default, stands for e."""
    if base == -1:
        return 1.0
    if base <= 0:
        raise layer.fail(f"base {base:g} must be positive")
    return float(np.log(base))
