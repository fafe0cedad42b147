"""The update rules of Caffe's solvers, for any list of parameters: on the tape as well as inside a solver.

>>> step = SGD(parameters(conv, score), lr=0.1, momentum=0.9)  # doctest: +SKIP
>>> loss.backward()                                            # doctest: +SKIP
>>> step()                                                     # doctest: +SKIP
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from fcnlite import device
from fcnlite.backend import Array
from fcnlite.blob import Blob
from fcnlite.errors import InputError
from fcnlite.layers.launch import launch_flat


class Learnable(Protocol):
    """A parameter with its own multipliers of learning rate and weight decay."""

    blob: Blob
    lr_mult: float
    decay_mult: float


@dataclass
class _Plain:
    """A parameter that learns at the common rate."""

    blob: Blob
    lr_mult: float = 1.0
    decay_mult: float = 1.0


class UpdateRule:
    """One way to turn gradients into steps; a subclass names its kernel and its numbers.

    Every rule does, for each parameter and in this order: clip the whole gradient's L2 norm, average over accumulated
    passes, add weight decay, compute the step, subtract it. All numbers are float32, as in Caffe.

    Parameters
    ----------
    parameters : iterable of Blob or Learnable
        From `fcnlite.parameters`, or a net's `learnable_params`.
    lr : float
        Learning rate of a call; change it by assignment.
    weight_decay : float
    regularization_type : str
        "L2", decay in proportion to the weight, or "L1", to its sign.
    clip_gradients : float
        Upper bound of the gradient's L2 norm over all parameters; negative for none.

    Attributes
    ----------
    iter : int
        Updates made so far.
    history : list of array
        Running values: one array for each parameter, then, where the rule keeps two, another one for each.
    """

    type: ClassVar[str]  # Caffe's name
    kernel: ClassVar[str]
    histories: ClassVar[int] = 1  # arrays for each parameter
    settings: ClassVar[tuple[str, ...]] = ()  # attributes that a SolverParameter has, too

    def __init__(
        self,
        parameters: Iterable[Blob | Learnable],
        lr: float = 0.01,
        *,
        weight_decay: float = 0.0,
        regularization_type: str = "L2",
        clip_gradients: float = -1.0,
    ) -> None:
        self.parameters: list[Learnable] = [_Plain(p) if isinstance(p, Blob) else p for p in parameters]
        self.lr, self.weight_decay = lr, weight_decay
        self.regularization_type, self.clip_gradients = regularization_type, clip_gradients
        self.iter = 0
        shapes = [parameter.blob.shape for parameter in self.parameters] * self.histories
        self.history = [device.current().zeros(shape) for shape in shapes]
        self._still = [True] * len(self.parameters)  # whether the history is known to be all zeros

    def __call__(self) -> None:
        """Make one step by the diffs, and clear them for the next backward pass."""
        self.check()
        self.step(np.float32(self.lr))
        for parameter in self.parameters:
            parameter.blob.clear_diff()

    def step(self, rate: np.float32, passes: int = 1) -> None:
        """Change the parameters by their diffs, which hold the steps afterwards, as in Caffe.

        Parameters
        ----------
        rate : numpy.float32
            Learning rate of this step.
        passes : int
            Backward passes that were added up in the diffs; the step is by their mean.
        """
        clip, share = self._clip_factor(), np.float32(1) / np.float32(passes)
        for number, parameter in enumerate(self.parameters):
            if parameter.lr_mult or not self._rests(number):
                self._still[number] = False
                self._update(parameter, self.history[number :: len(self.parameters)], rate, clip, share)
        self.iter += 1

    def restore(self, history: Sequence[np.ndarray]) -> None:
        """Take over running values that were saved, in the order of `history`."""
        for number, (mine, saved) in enumerate(zip(self.history, history, strict=True)):
            mine[...] = device.current().asarray(saved.reshape(mine.shape))
            self._still[number % len(self.parameters)] &= not saved.any()

    def check(self) -> None:
        """Refuse settings with which the rule does not work.

        Raises
        ------
        InputError
        """
        if self.regularization_type not in ("L1", "L2"):
            raise InputError(
                f"regularization_type '{self.regularization_type}' is unknown; there are L1 and L2"
            )

    def numbers(self) -> Sequence[Any]:
        """Hyperparameters that the update kernel takes after the rate."""
        raise NotImplementedError

    def correction(self) -> np.float32:
        """Factor on the learning rate (Adam's bias correction; otherwise 1)."""
        return np.float32(1)

    def _rests(self, number: int) -> bool:
        """True if a parameter with lr_mult 0 and its history stay as they are."""
        return False

    def _update(
        self,
        parameter: Learnable,
        history: Sequence[Array],
        rate: np.float32,
        clip: np.float32,
        share: np.float32,
    ) -> None:
        blob = parameter.blob
        decay = np.float32(self.weight_decay) * np.float32(parameter.decay_mult)
        local_rate = rate * np.float32(parameter.lr_mult) * self.correction()
        l1 = int(self.regularization_type == "L1")
        numbers = (clip, share, decay, l1, local_rate, *self.numbers())
        launch_flat(self.kernel, blob.count, *map(_scalar, numbers), blob.diff, *history, blob.data)

    def _clip_factor(self) -> np.float32:
        """Factor that limits the gradient's global L2 norm to clip_gradients."""
        if self.clip_gradients < 0:
            return np.float32(1)
        diffs = [p.blob.diff.reshape(-1) for p in self.parameters if p.blob.has_diff]
        squares = [(d @ d).astype(np.float64) for d in diffs]
        norm = math.sqrt(float(sum(squares)))  # the only value an iteration reads back
        return np.float32(self.clip_gradients / norm) if norm > self.clip_gradients else np.float32(1)


class _MomentumRule(UpdateRule):
    """Rules whose step is zero where the rate and the history are."""

    settings = ("momentum",)

    def __init__(
        self, parameters: Iterable[Blob | Learnable], lr: float = 0.01, momentum: float = 0.0, **common: Any
    ) -> None:
        super().__init__(parameters, lr, **common)
        self.momentum = momentum

    def numbers(self) -> Sequence[Any]:
        return (self.momentum,)

    def _rests(self, number: int) -> bool:
        return self._still[number]


class SGD(_MomentumRule):
    """Stochastic gradient descent with momentum: h = momentum h + lr g; w = w - h (Caffe's SGDSolver)."""

    type = "SGD"
    kernel = "sgd_update"


class Nesterov(_MomentumRule):
    """SGD with Nesterov momentum: the gradient step is taken at the look-ahead point (Caffe's NesterovSolver).

    Source: Y. Nesterov, 1983.
    """

    type = "Nesterov"
    kernel = "nesterov_update"


class _RootMeanSquareRule(UpdateRule):
    """Steps divided by the root of a running sum or mean of squared gradients; there is no momentum."""

    kernel = "rms_update"
    settings: ClassVar[tuple[str, ...]] = ("momentum", "delta")

    def __init__(
        self, parameters: Iterable[Blob | Learnable], lr: float = 0.01, delta: float = 1e-8, **common: Any
    ) -> None:
        super().__init__(parameters, lr, **common)
        self.delta, self.momentum = delta, 0.0

    def check(self) -> None:
        super().check()
        if self.momentum:
            raise InputError(f"momentum {self.momentum:g} cannot be used with {self.type}; take it out")


class AdaGrad(_RootMeanSquareRule):
    """Each weight's step shrinks as its squared gradients add up: h = h + g^2; w = w - lr g / (sqrt(h) + delta).

    Caffe's AdaGradSolver. Source: Duchi et al., 2011.
    """

    type = "AdaGrad"

    def numbers(self) -> Sequence[Any]:
        return 1, 1, self.delta


class RMSProp(_RootMeanSquareRule):
    """AdaGrad with a mean that forgets by `rms_decay` (Caffe's RMSPropSolver; Tieleman and Hinton, 2012)."""

    type = "RMSProp"
    settings = ("momentum", "delta", "rms_decay")

    def __init__(
        self,
        parameters: Iterable[Blob | Learnable],
        lr: float = 0.01,
        rms_decay: float = 0.99,
        delta: float = 1e-8,
        **common: Any,
    ) -> None:
        super().__init__(parameters, lr, delta, **common)
        self.rms_decay = rms_decay

    def numbers(self) -> Sequence[Any]:
        keep = np.float32(self.rms_decay)
        return keep, np.float32(1) - keep, self.delta

    def check(self) -> None:
        super().check()
        if not 0 <= self.rms_decay < 1:
            raise InputError(f"rms_decay {self.rms_decay:g} must be at least 0 and less than 1")


class AdaDelta(UpdateRule):
    """Steps on the scale of former steps; `momentum` is the decay (Caffe's AdaDeltaSolver; Zeiler, 2012)."""

    type = "AdaDelta"
    kernel = "adadelta_update"
    histories = 2  # squared gradients, squared steps
    settings = ("momentum", "delta")

    def __init__(
        self,
        parameters: Iterable[Blob | Learnable],
        lr: float = 1.0,
        momentum: float = 0.95,
        delta: float = 1e-6,
        **common: Any,
    ) -> None:
        super().__init__(parameters, lr, **common)
        self.momentum, self.delta = momentum, delta

    def numbers(self) -> Sequence[Any]:
        return self.momentum, self.delta


class Adam(UpdateRule):
    """Mean over root mean square, with decays `momentum` and `momentum2` (Caffe's AdamSolver; Kingma and Ba, 2015)."""

    type = "Adam"
    kernel = "adam_update"
    histories = 2  # means, means of squares
    settings = ("momentum", "momentum2", "delta")

    def __init__(
        self,
        parameters: Iterable[Blob | Learnable],
        lr: float = 1e-3,
        momentum: float = 0.9,
        momentum2: float = 0.999,
        delta: float = 1e-8,
        **common: Any,
    ) -> None:
        super().__init__(parameters, lr, **common)
        self.momentum, self.momentum2, self.delta = momentum, momentum2, delta

    def numbers(self) -> Sequence[Any]:
        return self.momentum, self.momentum2, self.delta

    def correction(self) -> np.float32:
        beta1, beta2 = (np.float64(np.float32(decay)) for decay in (self.momentum, self.momentum2))
        return np.float32(np.sqrt(1 - beta2 ** (self.iter + 1)) / (1 - beta1 ** (self.iter + 1)))

    def check(self) -> None:
        super().check()
        for name in ("momentum", "momentum2"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name):g} must be at least 0 and less than 1")


RULES: dict[str, type[UpdateRule]] = {
    rule.type: rule for rule in (SGD, Nesterov, AdaGrad, RMSProp, AdaDelta, Adam)
}
COMMON_SETTINGS = ("weight_decay", "regularization_type", "clip_gradients")


def _scalar(value: Any) -> float | int:
    return value if isinstance(value, int) else float(value)
