"""Every layer that Caffe was run with, exported, in ONNX Runtime, OpenVINO and PyTorch: the numbers are our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cases
import h5py
import numpy as np
import pytest

from fcnlite.errors import InputError
from fcnlite.export import write_onnx
from fcnlite.export.prediction import for_prediction
from fcnlite.net import Net

runtimes = pytest.importorskip("runtimes", reason="onnx or onnxruntime is not installed")

BOUND = 1e-5
FILES = [file for file in ("layers.h5", "more-layers.h5") if (cases.REFERENCE / file).exists()]
CASES = [(file, case) for file in FILES for case in cases.names(file)]
# What is left out, and why.
NOT_EXPORTED = "LSTM", "RNN", "LSTMUnit", "RNNUnit", "Im2col", "DummyData", "Python"
OPENVINOS_MISTAKES = {
    "more-lrn-across-wide": "a window wider than all channels",
    "more-shared-in-a-layer": "one matrix in two products, once transposed",
}
CAFFES_MISTAKES = {"more-mvn-eps": "the gradient of MVN leaves eps out"}


def prediction(file: str, case: str) -> tuple[Net, dict[str, np.ndarray]]:
    """The case's net in phase TEST without losses, every gradient wanted, and its inputs."""
    with h5py.File(cases.REFERENCE / file) as reference:
        group = reference[case]
        built = cases.build(case, group)
        net = Net("force_backward: true\n" + group.attrs["prototxt"], "TEST")
    cases.fill_params(case, net)
    try:
        bare = for_prediction(net)
    except InputError:
        pytest.skip("a layer reads a loss")
    kinds = {node.layer.type for node in bare.nodes}
    if not kinds - {"Input", "Split"}:
        pytest.skip("nothing but losses")
    unable = sorted(kinds.intersection(NOT_EXPORTED))
    if unable:
        pytest.skip(f"not exported: {', '.join(unable)}")
    bare.param.force_backward = True
    whole = Net(bare.param, "TEST")
    whole.share_with(bare)
    return whole, {name: np.array(built.blobs[name].data) for name in whole.inputs}


@pytest.mark.parametrize(("file", "case"), CASES, ids=[case for _, case in CASES])
def test_runtimes_give_our_numbers(file: str, case: str, tmp_path: Path) -> None:
    net, feeds = prediction(file, case)
    expected = runtimes.ours(net, feeds)
    path = tmp_path / "layer.onnx"
    write_onnx(net, path)
    error = runtimes.worst(expected, runtimes.in_onnxruntime(path, feeds))
    assert error <= BOUND, error
    if runtimes.HAS_OPENVINO and case not in OPENVINOS_MISTAKES:
        error = runtimes.worst(expected, runtimes.in_openvino(path, feeds))
        assert error <= BOUND, error


@pytest.mark.skipif(not runtimes.HAS_TORCH, reason="PyTorch is not installed")
@pytest.mark.parametrize(("file", "case"), CASES, ids=[case for _, case in CASES])
def test_pytorch_gives_our_numbers_and_gradients(file: str, case: str) -> None:
    net, feeds = prediction(file, case)
    if "ArgMax" in {layer.type for layer in net.layers}:
        net.param.force_backward = False  # no gradient passes it here
    diffs: dict[str, Any] = {name: cases.rule.diff(case, name, net.blobs[name].shape) for name in net.outputs}
    diffs = {name: np.asarray(diff, np.float32) for name, diff in diffs.items()}
    gradient_bound = np.inf if case in CAFFES_MISTAKES else BOUND
    runtimes.check_torch(net, feeds, diffs, BOUND, gradient_bound)
