"""Winograd's convolution against the exact one: any size, padding and group, forwards and for the image's gradient."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from cases import relative_error
from hypothesis import given, settings
from hypothesis import strategies as st

from fcnlite import Blob, device
from fcnlite.backend.host import HostBackend
from fcnlite.commands.predict import parser
from fcnlite.layers import Convolution, columns, winograd
from fcnlite.layers.window import Window
from fcnlite.models import build
from fcnlite.net import Net

BOUND = 1e-5


@pytest.fixture
def fast() -> Iterator[None]:
    """A device that convolves by Winograd's algorithm."""
    backend = HostBackend(np.dtype(np.float32))
    backend.fast = True
    with device.using(backend):
        yield


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 20), st.integers(1, 20)),
    st.tuples(st.integers(1, 14), st.integers(1, 40)),
    st.tuples(st.integers(0, 5), st.integers(0, 5)),
    st.sampled_from([1.0, 0.0, 0.1]),
    st.integers(0, 999),
)
def test_it_gives_what_the_product_gives(
    counts: tuple[int, int, int, int], size: tuple[int, int], pad: tuple[int, int], slope: float, seed: int
) -> None:
    images, group, channels, outputs = counts
    size = tuple(max(n, 3 - 2 * p) for n, p in zip(size, pad))  # type: ignore[assignment]
    window = Window((3, 3), pad, (1, 1), (1, 1))
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(images, group * channels, *size)).astype(np.float32)
    weight = rng.normal(size=(group * outputs, channels, 3, 3)).astype(np.float32)
    bias = None if seed % 2 else rng.normal(size=group * outputs).astype(np.float32)
    expected, got = (
        np.full((images, group * outputs, *window.output_size(size)), np.nan, np.float32) for _ in "ab"
    )
    columns.correlate(image, weight, bias, expected, window, group, slope)
    winograd.correlate(image, weight, bias, got, window, group, slope)
    assert relative_error(got, expected) < BOUND
    if max(pad) <= winograd.MOST_PAD:
        back, gradient = np.empty_like(image), np.full_like(image, np.nan)
        columns.image_gradient(weight, expected, back, window, group)
        winograd.image_gradient(weight, expected, gradient, window, group)
        assert relative_error(gradient, back) < BOUND


def test_only_windows_of_its_kind() -> None:
    plain = ((3, 3), (1, 1), (1, 1), (1, 1))
    assert winograd.suits(Window(*plain), 64, 64)
    assert not winograd.suits(Window(*plain), 3, 64)
    for i, other in enumerate([(1, 3), (0, 0), (2, 2), (1, 2)]):
        window = Window(*(other if i == j else part for j, part in enumerate(plain)))
        assert winograd.suits(window, 64, 64) == (i == 1)
    assert not winograd.suits(Window((3,), (1,), (1,), (1,)), 64, 64)


def test_threads_do_not_change_the_bits() -> None:
    rng = np.random.default_rng(5)
    image, weight = rng.normal(size=(1, 64, 90, 130)), rng.normal(size=(64, 64, 3, 3))
    results = []
    for threads in (1, 2, 3):
        with device.using(HostBackend(np.dtype(np.float32), threads)):
            arrays = [device.current().asarray(a) for a in (image, weight)]
            results.append(device.current().empty((1, 64, 90, 130)))
            window = Window((3, 3), (1, 1), (1, 1), (1, 1))
            winograd.correlate(arrays[0], arrays[1], None, results[-1], window, 1)
    assert all((result == results[0]).all() for result in results)


def test_a_fast_device_trains_and_infers_alike() -> None:
    """A narrow FCN-8s whose middle layers are wide enough: close to the exact one, but by other means."""
    rng = np.random.default_rng(1)
    param = build("fcn8s", width=8, fc=16)
    image, label = rng.normal(size=(1, 3, 64, 80)) * 50, rng.integers(0, 21, (1, 1, 64, 80))
    results: list[list[np.ndarray]] = []
    for fast in (False, True):
        backend = HostBackend(np.dtype(np.float32))
        backend.fast = fast
        with device.using(backend):
            net = Net(param, "TRAIN")
            filler = np.random.default_rng(2)
            for blobs in net.params.values():
                scale = np.sqrt(2 / np.prod(blobs[0].shape[1:]))
                blobs[0].data[...] = filler.normal(size=blobs[0].shape) * scale
                for bias in blobs[1:]:  # on padding a bias of 0 would put ReLU at 0, where rounding decides
                    bias.data[...] = filler.normal(size=bias.shape)
            for layer in net.layers:  # whose masks would differ
                if layer.type == "Dropout":
                    layer.phase = "TEST"
            net.forward_backward(data=image, label=label)
            results.append([np.array(p.blob.diff) for p in net.learnable_params if p.blob.has_diff])
            results[-1].append(np.array(net.infer("score", data=image, label=label)))
    assert relative_error(results[1][-1], results[0][-1]) < BOUND
    assert any((fast != exact).any() for fast, exact in zip(*results))
    for got, expected in zip(results[1], results[0]):
        assert relative_error(got, expected) < 5e-5


def test_convolutions_of_a_fast_device_go_this_way(fast: None, monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[str] = []
    launch = device.current().launch
    monkeypatch.setattr(
        device.current(), "launch", lambda name, *rest: (launched.append(name), launch(name, *rest))
    )
    conv = Convolution(num_output=16, kernel_size=3, pad=1)
    conv(Blob(np.ones((1, 16, 8, 8)), needs_diff=True)).backward()
    assert launched.count("winograd_tiles") == 2  # forwards, and the image's gradient
    assert "im2col" in launched  # the weight's


def test_commands_take_the_option() -> None:
    assert parser().parse_args(["--fast", "--weights", "w.h5", "--out", "seg", "a.png"]).fast
