"""Windows that are equal are computed once, and nothing changes: random nets with wide padding, forwards and back."""

from __future__ import annotations

import numpy as np
import pytest
from cases import relative_error
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fcnlite import device
from fcnlite.backend.host import HostBackend
from fcnlite.errors import InputError
from fcnlite.models import build
from fcnlite.net import Net
from fcnlite.net.plateaus import Plateaus

BOUND = 1e-6

sides = st.tuples(st.integers(0, 12), st.integers(0, 12))
convolutions = st.builds(
    "convolution_param {{ num_output: 3 kernel_h: {0[0]} kernel_w: {0[1]} pad_h: {1[0]} pad_w: {1[1]}"
    " stride_h: {2[0]} stride_w: {2[1]} dilation: {3[0]} dilation: {3[1]} group: {4} }}".format,
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    sides,
    st.tuples(st.integers(1, 3), st.integers(1, 2)),
    st.tuples(st.integers(1, 2), st.integers(1, 3)),
    st.sampled_from([1, 3]),
)
poolings = st.builds(
    "pooling_param {{ pool: {} kernel_size: {} stride: {} pad: {} round_mode: {} }}".format,
    st.sampled_from(["MAX", "AVE"]),
    st.integers(2, 3),
    st.integers(1, 2),
    st.integers(0, 1),
    st.sampled_from(["CEIL", "FLOOR"]),
)
others = st.sampled_from(
    [
        ("ReLU", "relu_param { negative_slope: 0.1 }"),
        ("LRN", "lrn_param { local_size: 3 }"),
        ("LRN", "lrn_param { local_size: 3 norm_region: WITHIN_CHANNEL }"),
        ("Softmax", ""),
        ("Power", "power_param { scale: 0.5 shift: 1 }"),
    ]
)
layers = st.one_of(
    st.tuples(st.just("Convolution"), convolutions), st.tuples(st.just("Pooling"), poolings), others
)


def describe(chain: list[tuple[str, str]], size: tuple[int, int], skip: int) -> str:
    """A chain of layers behind a widely padded one; a blob on the way is read once more, at the end."""
    shape = f"shape {{ dim: [1, 3, {size[0]}, {size[1]}] }}"
    text = f"layer {{ name: 'data' type: 'Input' top: 'data' input_param {{ {shape} }} }}"
    first = (
        "Convolution",
        "convolution_param { num_output: 3 kernel_size: 3 pad: 25 weight_filler { type: 'xavier' } }",
    )
    for i, (kind, param) in enumerate([first, *chain]):
        top = f"b{i}" if kind == "ReLU" else f"b{i + 1}"
        bottom = f"b{i}" if i else "data"
        text += f" layer {{ name: 'l{i}' type: '{kind}' bottom: '{bottom}' top: '{top}' {param} }}"
        if kind == "ReLU":  # in place
            text += f" layer {{ name: 'copy{i}' type: 'Power' bottom: '{top}' top: 'b{i + 1}' }}"
    last = len(chain) + 1
    crop = f"bottom: 'b{min(skip, last - 1)}' bottom: 'b{last}' top: 'skip' crop_param {{ axis: 1 }}"
    text += f" layer {{ name: 'crop' type: 'Crop' {crop} }}"
    text += f" layer {{ name: 'sum' type: 'Eltwise' bottom: 'b{last}' bottom: 'skip' top: 'score' }}"
    return text


def built(text: str, seed: int, phase: str = "TEST") -> Net:
    net = Net(text, phase)
    rng = np.random.default_rng(seed)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = rng.normal(size=blob.shape)
    return net


@settings(max_examples=120, deadline=None)
@given(
    st.lists(layers, min_size=1, max_size=5),
    st.tuples(st.integers(3, 30), st.integers(3, 30)),
    st.integers(1, 5),
    st.integers(0, 999),
)
def test_any_net_gives_what_it_gives_without(
    chain: list[tuple[str, str]], size: tuple[int, int], skip: int, seed: int
) -> None:
    text = describe(chain, size, skip)
    try:
        net = built(text, seed)
    except InputError:  # a window that does not fit
        assume(False)
    image = np.random.default_rng(seed).normal(size=(1, 3, *size))
    expected = np.array(net.forward(data=image)["score"])
    shapes = {name: blob.shape for name, blob in net.blobs.items()}
    assert relative_error(net.infer(data=image), expected) < BOUND
    assert {name: blob.shape for name, blob in net.blobs.items()} == shapes


@settings(max_examples=40, deadline=None)
@given(
    st.lists(layers, min_size=1, max_size=5),
    st.tuples(st.integers(3, 30), st.integers(3, 30)),
    st.integers(1, 5),
    st.integers(0, 999),
)
def test_gradients_are_what_they_are_without(
    chain: list[tuple[str, str]], size: tuple[int, int], skip: int, seed: int
) -> None:
    text = describe(chain, size, skip)
    text += " layer { name: 'ip' type: 'InnerProduct' bottom: 'score' top: 'ip' inner_product_param { num_output: 4 } }"
    text += " layer { name: 'square' type: 'Reduction' bottom: 'ip' top: 'loss' loss_weight: 1"
    text += " reduction_param { operation: SUMSQ } }"
    with device.using(double_precision()):
        try:
            net = built(text, seed, "TRAIN")
        except InputError:
            assume(False)
        image = np.random.default_rng(seed).normal(size=(1, 3, *size))
        gradients = []
        for keep in (True, False):
            net.clear_param_diffs()
            net.forward_backward(keep_blobs=keep, data=image)
            gradients.append([np.array(p.blob.diff) for p in net.learnable_params])
    for expected, got in zip(*gradients):
        assert relative_error(got, expected) < BOUND


def double_precision() -> HostBackend:
    return HostBackend(np.dtype(np.float64))


def computed(net: Net, image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, ...]]:
    """The shapes in which the layers ran."""
    shapes = {}
    after = Plateaus.after_forward

    def note(self: Plateaus, node: object) -> None:
        shapes.update({blob.name: blob.shape for blob in node.tops})
        after(self, node)

    monkeypatch.setattr(Plateaus, "after_forward", note)
    net.infer(data=image)
    return shapes


def test_the_padding_of_an_fcn_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net(build("fcn8s", deploy=True, width=2, fc=4))
    image = np.zeros((1, 3, 120, 150), np.float32)
    shapes = computed(net, image, monkeypatch)
    assert net.blobs["conv1_1"].shape == (1, 2, 318, 348)
    assert shapes["conv1_1"] == (1, 2, 134, 164)
    assert shapes["pool2"][2:] == (40, 47)
    assert shapes["conv4_1"][2:] == (
        32,
        36,
    )  # where equal rows are kept once, though the next layer needs three
    assert shapes["conv4_3"] == net.blobs["conv4_3"].shape == (1, 16, 40, 44)
    assert shapes["score"] == (1, 21, 120, 150)


def test_a_net_without_plateaus_pays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    text = describe(
        [("Convolution", "convolution_param { num_output: 3 kernel_size: 3 pad: 1 }")], (20, 20), 1
    )
    net = Net(text.replace("pad: 25", "pad: 1"))
    monkeypatch.setattr(device.current(), "launch", lambda name, *_: launched.append(name))
    launched: list[str] = []
    net.infer(data=np.zeros((1, 3, 20, 20)))
    assert launched and not {"pick_lines", "sum_lines"} & set(launched)


def test_an_inner_blob_can_be_asked_for() -> None:
    net = built(describe([("Pooling", "pooling_param { kernel_size: 2 stride: 2 }")], (12, 9), 1), 3)
    image = np.random.default_rng(0).normal(size=(1, 3, 12, 9))
    expected = np.array(net.forward(["b1"], data=image)["b1"])
    assert relative_error(net.infer("b1", data=image), expected) < BOUND


def test_a_failed_pass_leaves_whole_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    net = built(describe([("Pooling", "pooling_param { kernel_size: 2 stride: 2 }")], (12, 9), 1), 3)
    image = np.random.default_rng(0).normal(size=(1, 3, 12, 9))
    expected = np.array(net.forward(data=image)["score"])
    shapes = {name: blob.shape for name, blob in net.blobs.items()}

    def fails(*_: object) -> None:
        raise MemoryError("no memory left")

    with monkeypatch.context() as patch:
        patch.setattr(net.layer("crop"), "forward", fails)
        with pytest.raises(MemoryError):
            net.infer(data=image)
    assert {name: blob.shape for name, blob in net.blobs.items()} == shapes
    assert relative_error(net.forward(data=image)["score"], expected) == 0
