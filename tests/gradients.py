"""Central differences, with which a layer's backward pass must agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from cases import relative_error

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
        expected = central_differences(blob.data, value, step)
        error = relative_error(got, expected, scale=max(1.0, np.abs(expected).max(initial=0)))
        assert error <= bound, f"{layer.type}, {name}"


def central_differences(array: np.ndarray, value: Callable[[], float], step: float = STEP) -> np.ndarray:
    """Differences of a scalar function of an array, which is changed in place one element at a time."""
    differences = np.empty(array.shape)
    for index in np.ndindex(array.shape):
        before = array[index]
        array[index] = before + step
        above = value()
        array[index] = before - step
        differences[index] = (above - value()) / (2 * step)
        array[index] = before
    return differences
