"""Weight fillers: the initial content of parameters, by Caffe's FillerParameter."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fcnlite.errors import InputError
from fcnlite.proto import Message
from fcnlite.random import filler_stream


def fill(filler: Message, shape: Sequence[int]) -> np.ndarray:
    """Draw an array as a FillerParameter describes it.

    Parameters
    ----------
    filler : FillerParameter
        `type` is constant, uniform, gaussian, positive_unitball, xavier, msra or bilinear.
    shape : sequence of int

    Returns
    -------
    numpy.ndarray
        float32, from the stream that `fcnlite.random.set_random_seed` seeds.
    """
    try:
        draw = _FILLERS[filler.type]
    except KeyError:
        raise InputError(f"filler type '{filler.type}' is unknown; there are {', '.join(_FILLERS)}") from None
    if filler.sparse != -1 and filler.type != "gaussian":
        raise InputError(f"sparse goes with the gaussian filler only, not with {filler.type}")
    if 0 in shape:
        return np.zeros(tuple(shape), np.float32)  # nothing to draw; a fan may be 0
    return np.asarray(draw(filler, tuple(shape)), np.float32)


def bilinear(shape: Sequence[int]) -> np.ndarray:
    """Upsampling weights: the bilinear kernel in every (output, input) pair, as Caffe's bilinear filler.

    `shape` is (O, I, K, K); for a Deconvolution with a group for each channel, I is 1.
    """
    if len(shape) != 4 or shape[2] != shape[3]:
        raise InputError(
            f"the bilinear filler needs square 4-axis weights; these are {' x '.join(map(str, shape))}"
        )
    size = shape[3]
    factor = (size + 1) // 2
    centre = (size - 1) / (2.0 * factor)
    ramp = 1 - np.abs(np.arange(size) / factor - centre)
    return np.broadcast_to(np.outer(ramp, ramp), shape)


def _fan(filler: Message, shape: tuple[int, ...]) -> float:
    """The divisor of the variance: FAN_IN (default), FAN_OUT, or AVERAGE, their mean."""
    count = int(np.prod(shape))
    fan_in = count / shape[0] if shape else 1
    fan_out = count / shape[1] if len(shape) > 1 else count
    fans = {filler.FAN_IN: fan_in, filler.FAN_OUT: fan_out, filler.AVERAGE: (fan_in + fan_out) / 2}
    return fans[filler.variance_norm]


def _constant(filler: Message, shape: tuple[int, ...]) -> np.ndarray:
    # Zeros cost no memory until they are written to, and most of a net's parameters start as zeros.
    return np.full(shape, filler.value, np.float32) if filler.value else np.zeros(shape, np.float32)


def _gaussian(filler: Message, shape: tuple[int, ...]) -> np.ndarray:
    values = filler_stream().standard_normal(shape, np.float32) * np.float32(filler.std) + np.float32(
        filler.mean
    )
    if filler.sparse >= 0:  # about `sparse` non-zero weights for each output
        keep = min(1.0, filler.sparse / shape[0])
        values *= filler_stream().random(shape) < keep
    return values


def _uniform(filler: Message, shape: tuple[int, ...]) -> np.ndarray:
    if not math.isfinite(filler.max - filler.min):
        raise InputError(f"uniform filler: {filler.min:g} to {filler.max:g} is not a range of numbers")
    if filler.min > filler.max:
        raise InputError(f"uniform filler: min {filler.min:g} lies above max {filler.max:g}")
    return filler_stream().uniform(filler.min, filler.max, shape)


def _xavier(filler: Message, shape: tuple[int, ...]) -> np.ndarray:
    limit = np.sqrt(3.0 / _fan(filler, shape))
    return filler_stream().uniform(-limit, limit, shape)


def _msra(filler: Message, shape: tuple[int, ...]) -> np.ndarray:
    return filler_stream().standard_normal(shape, np.float32) * np.float32(np.sqrt(2.0 / _fan(filler, shape)))


def _positive_unitball(filler: Message, shape: tuple[int, ...]) -> np.ndarray:
    values = filler_stream().random(shape)
    return values / values.reshape(shape[0], -1).sum(1).reshape(-1, *[1] * (len(shape) - 1))


_FILLERS: dict[str, Callable[[Any, tuple[int, ...]], np.ndarray]] = {
    "constant": _constant,
    "uniform": _uniform,
    "gaussian": _gaussian,
    "positive_unitball": _positive_unitball,
    "xavier": _xavier,
    "msra": _msra,
    "bilinear": lambda filler, shape: bilinear(shape),
}
