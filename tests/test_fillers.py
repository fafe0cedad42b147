"""Fillers: moments, bounds and shapes of what they draw, by the rules of Caffe's filler.hpp."""

import cases  # noqa: F401  (puts the reference rule on the path)
import numpy as np
import pytest
import rule
from hypothesis import given, settings
from hypothesis import strategies as st

import fcnlite.random
from fcnlite import fillers
from fcnlite.errors import InputError
from fcnlite.proto import FillerParameter

SHAPE = (40, 30, 5, 4)  # fan in 600, fan out 800, average 700
FANS = {"FAN_IN": 600, "FAN_OUT": 800, "AVERAGE": 700}


@pytest.fixture(autouse=True)
def seed():
    fcnlite.random.set_random_seed(1)


def fill(shape=SHAPE, **fields):
    values = fillers.fill(FillerParameter(**fields), shape)
    assert values.shape == tuple(shape) and values.dtype == np.float32
    return values


def moments(values, mean, std):
    """Mean and standard deviation lie within five standard errors."""
    error = std / np.sqrt(values.size)
    assert abs(values.mean(dtype=np.float64) - mean) < 5 * error
    assert abs(values.std(dtype=np.float64) - std) < 5 * error


def test_constant_is_the_default():
    assert not fill().any()
    assert (fill(value=2.5) == 2.5).all()
    assert fill(shape=(), value=3).item() == 3


def test_uniform():
    values = fill(type="uniform", min=-1, max=3)
    assert values.min() >= -1 and values.max() <= 3
    moments(values, 1, 4 / np.sqrt(12))
    assert 0 <= fill(type="uniform").min() and fill(type="uniform").max() <= 1


def test_gaussian():
    moments(fill(type="gaussian", mean=2, std=0.5), 2, 0.5)
    moments(fill(type="gaussian"), 0, 1)


def test_sparse_gaussian_keeps_that_many_weights_for_an_output_on_average():
    values = fill(type="gaussian", sparse=10)
    share = 10 / SHAPE[0]
    spread = np.sqrt(share * (1 - share) / values.size)
    assert abs((values != 0).mean() - share) < 5 * spread
    moments(values[values != 0], 0, 1)
    assert not fill(type="gaussian", sparse=0).any()


@pytest.mark.parametrize("norm", FANS)
def test_xavier_and_msra_scale_by_fan(norm):
    limit = np.sqrt(3 / FANS[norm])
    values = fill(type="xavier", variance_norm=norm)
    assert np.abs(values).max() <= np.float32(limit)
    moments(values, 0, limit / np.sqrt(3))
    moments(fill(type="msra", variance_norm=norm), 0, np.sqrt(2 / FANS[norm]))


def test_fan_in_is_the_default_and_vectors_have_one():
    moments(fill(type="msra"), 0, np.sqrt(2 / 600))
    moments(fill(shape=(5000,), type="msra"), 0, np.sqrt(2))
    moments(fill(shape=(5000,), type="msra", variance_norm="FAN_OUT"), 0, np.sqrt(2 / 5000))


def test_positive_unitball():
    values = fill(type="positive_unitball")
    assert (values >= 0).all()
    np.testing.assert_allclose(values.reshape(40, -1).sum(1), 1, rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 16))
def test_bilinear(outputs, inputs, size):
    values = fill(shape=(outputs, inputs, size, size), type="bilinear")
    expected = rule.bilinear((1, 1, size, size))[0, 0]
    np.testing.assert_allclose(values, np.broadcast_to(expected, values.shape), rtol=1e-6)


def test_bilinear_interpolates():
    """Upsampled by it, a ramp stays a ramp."""
    factor = 4
    row = np.sqrt(np.diag(fill(shape=(1, 1, 2 * factor, 2 * factor), type="bilinear")[0, 0]))
    out = np.zeros(factor * 5 + factor)
    for i in range(5):
        out[factor * i : factor * i + 2 * factor] += i * row
    middle = out[factor : 5 * factor]
    np.testing.assert_allclose(np.diff(middle), 1 / factor, rtol=1e-5)


@pytest.mark.parametrize("shape", [(2, 2, 3, 4), (3, 3)])
def test_bilinear_needs_square_windows(shape):
    with pytest.raises(InputError, match="square 4-axis weights; these are"):
        fill(shape=shape, type="bilinear")


def test_mistakes():
    with pytest.raises(InputError, match="filler type 'gausian' is unknown; there are .*gaussian"):
        fill(type="gausian")
    with pytest.raises(InputError, match="sparse goes with the gaussian filler only"):
        fill(type="xavier", sparse=3)
    with pytest.raises(InputError, match="min 2 lies above max 1"):
        fill(type="uniform", min=2)


@pytest.mark.parametrize("kind", ["xavier", "msra", "gaussian", "positive_unitball", "uniform"])
@pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
def test_nothing_is_drawn_for_no_weights(kind, shape):
    assert fill(shape=shape, type=kind, sparse=2 if kind == "gaussian" else -1).shape == shape


def test_the_seed_decides():
    first = [fill(type=kind) for kind in ("gaussian", "xavier", "uniform")]
    fcnlite.random.set_random_seed(1)
    for before, again in zip(first, [fill(type=kind) for kind in ("gaussian", "xavier", "uniform")]):
        np.testing.assert_array_equal(before, again)
    assert not np.array_equal(first[0], fill(type="gaussian"))
