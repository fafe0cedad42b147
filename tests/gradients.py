"""Central differences: what a layer's backward pass must agree with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fcnlite.blob import Blob
from fcnlite.layers import Layer

STEP, BOUND = 1e-5, 1e-6


def check_gradients(
    layer: Layer,
    inputs: Sequence[np.ndarray],
    wanted: Sequence[int] | None = None,
    parameters: bool = True,
    seed: int = 0,
    bound: float = BOUND,
    step: float = STEP,
) -> None:
    """Compare a layer's gradients with (f(x + step) - f(x - step)) / (2 step) of every element.

    f is the sum of the tops, each element weighted at random; backward starts from those weights. To be called with
    a device in double precision.

    Parameters
    ----------
    layer : Layer
    inputs : sequence of arrays
        Contents of the bottoms.
    wanted : sequence of int, optional
        Bottoms whose gradient to check; all that get one by default.
    parameters : bool
        Whether to check the parameters' gradients too.
    """
    rng = np.random.default_rng(seed)
    bottoms = [Blob(np.array(array, np.float64), needs_diff=True) for array in inputs]
    tops = layer(*bottoms)
    tops = tops if isinstance(tops, tuple) else (tops,)
    weights = [np.asarray(rng.standard_normal(top.shape)) for top in tops]
    wanted = [i for i in range(len(inputs)) if i not in layer.no_gradient] if wanted is None else wanted

    def value() -> float:
        layer.reshape(bottoms, tops)
        layer.forward(bottoms, tops)
        return sum(float((top.data * weight).sum()) for top, weight in zip(tops, weights))

    value()
    for top, weight in zip(tops, weights):
        top.diff = weight.copy()
    for blob in layer.blobs:
        blob.drop_diff()
    layer.backward(tops, [i in wanted for i in range(len(bottoms))], bottoms)
    checked = [(f"bottom {i}", bottoms[i]) for i in wanted]
    if parameters:
        checked += [(f"parameter {i}", blob) for i, blob in enumerate(layer.blobs) if layer.learns(i)]
    assert checked, "no gradient to check"
    gradients = [(name, blob, np.array(blob.diff)) for name, blob in checked]
    for name, blob, got in gradients:
        expected = _differences(blob, value, step)
        assert got.shape == expected.shape
        scale = max(1.0, np.abs(expected).max(initial=0))
        error = np.abs(got - expected).max(initial=0) / scale
        assert error <= bound, f"{layer.type}, {name}: off by {error:.2e}\n{got}\n{expected}"


def _differences(blob: Blob, value: Any, step: float) -> np.ndarray:
    flat = blob.data.reshape(-1)
    out = np.empty(flat.size)
    for i in range(flat.size):
        before = flat[i]
        flat[i] = before + step
        above = value()
        flat[i] = before - step
        out[i] = (above - value()) / (2 * step)
        flat[i] = before
    return out.reshape(blob.shape)
