"""Deconvolutions that join no two channels, as bilinear upsampling, leave the zeros out and change no bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcnlite import Blob, device, no_tape
from fcnlite.layers import Deconvolution

pair = st.tuples(st.integers(1, 3), st.integers(1, 3))


def run(layer: Deconvolution, image: np.ndarray) -> np.ndarray:
    with no_tape():
        return np.array(layer(Blob(image)).data)


def launched(layer: Deconvolution, image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    names: set[str] = set()
    backend, launch = device.current(), device.current().launch
    with monkeypatch.context() as patch:
        patch.setattr(backend, "launch", lambda name, *given: (names.add(name), launch(name, *given))[1])
        run(layer, image)
    return names


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 7), st.integers(1, 9)),
    pair,
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.integers(1, 4),
    st.integers(1, 2),
    st.tuples(st.integers(3, 9), st.integers(3, 40)),
    st.booleans(),
)
def test_zeros_between_channels_change_no_bit(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
    channels: int,
    images: int,
    size: tuple[int, int],
    bias: bool,
) -> None:
    sides = zip(size, kernel, stride)
    pad = tuple(min(p, (s * (n - 1) + k - 1) // 2) for p, (n, k, s) in zip(pad, sides))  # type: ignore[assignment]
    layer = Deconvolution(
        num_output=channels,
        kernel_h=kernel[0],
        kernel_w=kernel[1],
        pad_h=pad[0],
        pad_w=pad[1],
        stride_h=stride[0],
        stride_w=stride[1],
        bias_term=bias,
    )
    layer.build((images, channels, *size))
    rng = np.random.default_rng(sum(size))
    for c in range(channels):
        layer.blobs[0].data[c, c] = rng.normal(size=kernel)
    if bias:
        layer.blobs[1].data[...] = rng.normal(size=channels)
    image = rng.normal(size=(images, channels, *size))
    alone = run(layer, image)
    joined = _joining(layer)
    np.testing.assert_array_equal(alone, run(joined, image))


def _joining(layer: Deconvolution) -> Deconvolution:
    """The same layer, going the general way."""
    layer._joins_no_channels = lambda: False  # type: ignore[method-assign]
    return layer


def test_which_way_a_layer_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Deconvolution(num_output=3, kernel_size=4, stride=2, pad=1, weight_filler={"type": "bilinear"})
    image = np.random.default_rng(0).normal(size=(1, 3, 5, 6))
    layer.build(image.shape)
    every = layer.blobs[0].data
    every[...] = np.eye(3)[:, :, None, None] * every[0, 0]
    assert launched(layer, image, monkeypatch) >= {"deconvolve_planes"}
    for other in (1e-30, np.nan):
        every[0, 1, 2, 2] = other
        assert "deconvolve_planes" not in launched(layer, image, monkeypatch)
    every[0, 1] = 0
    image[0, 2, 1, 1] = np.nan  # stays in its channel
    assert np.isfinite(run(layer, image)[0, :2]).all()
