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
NOT_EXPORTED = "LSTM", "RNN", "LSTMUnit", "Python"
OPENVINOS_MISTAKES = {
    "more-lrn-across-wide": "a window wider than all channels",
    "more-shared-in-a-layer": "one matrix in two products, once transposed",
}
# Channels on another axis than 1, and windows over no axis, have no form elsewhere.
OTHER_AXES = "more-conv-0d", "more-conv-axis2", "more-im2col-axis2", "more-im2col-0d"
NOT_IN_PYTORCH = {
    "more-im2col-3d": "columns over three axes",
    "more-shared-permissive": "one parameter in two shapes, which PyTorch trains as two",
}
CAFFES_MISTAKES = {"more-mvn-eps": "the gradient of MVN leaves eps out"}


def prediction(file: str, case: str) -> tuple[Net, dict[str, np.ndarray]]:
    """The case's net in phase TEST without losses, every gradient wanted, and its inputs."""
    with h5py.File(cases.REFERENCE / file) as reference:
        group = reference[case]
        built = cases.build(case, group)
        net = Net("force_backward: true\n" + group.attrs["prototxt"], "TEST")
    cases.fill_params(case, net)
    if case in OTHER_AXES:
        pytest.skip("other axes than those of images")
    for layer in net.layers:
        if layer.type == "BatchNorm":  # the rule's statistics are not positive
            for blob in layer.blobs[1:]:
                blob.data[...] = np.abs(blob.data) + 0.5
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
    if case in NOT_IN_PYTORCH:
        pytest.skip(NOT_IN_PYTORCH[case])
    net, feeds = prediction(file, case)
    shapes = {name: array.shape for name, array in runtimes.ours(net, feeds).items()}
    diffs: dict[str, Any] = {name: cases.rule.diff(case, name, shape) for name, shape in shapes.items()}
    diffs = {name: np.asarray(diff, np.float32) for name, diff in diffs.items()}
    no_gradient = case in CAFFES_MISTAKES or "ArgMax" in {layer.type for layer in net.layers}
    gradient_bound = np.inf if no_gradient else BOUND
    runtimes.check_torch(net, feeds, diffs, BOUND, gradient_bound)


def test_regions_are_pooled_as_here(tmp_path: Path) -> None:
    net = Net("""
    layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 12 dim: 15 } } }
    layer { name: "rois" type: "Input" top: "rois" input_param { shape { dim: 4 dim: 5 } } }
    layer { name: "pool" type: "ROIPooling" bottom: "data" bottom: "rois" top: "pool"
            roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.5 } }
    """)
    regions = [[0, 0, 0, 29, 23], [1, 3, 5, 20, 11], [0, 8, 8, 9, 9], [1, 20, 2, 40, 60]]
    feeds = {
        "data": np.random.default_rng(0).normal(size=(2, 3, 12, 15)).astype(np.float32),
        "rois": np.array(regions, np.float32),
    }
    write_onnx(net, tmp_path / "net.onnx")
    error = runtimes.worst(runtimes.ours(net, feeds), runtimes.in_onnxruntime(tmp_path / "net.onnx", feeds))
    assert error <= BOUND, error


def test_every_layer_is_exported_or_known_not_to_be() -> None:
    """Those that are not: losses and measures, sources of data, and what the documentation names."""
    from fcnlite.export.onnx.registry import converters
    from fcnlite.layers import LAYERS

    left_out = {
        "LSTM",
        "RNN",
        "LSTMUnit",
        "RNNUnit",
        "Python",
        "MultiStageMeanfield",
        "Accuracy",
        "SegAccuracy",
    }
    left_out |= {"MatWrite", "HDF5Output", "Input"}
    missing = {
        name
        for name, layer in LAYERS.items()
        if name not in converters()
        and not layer.is_loss
        and not name.endswith("Data")
        and layer.__module__.startswith("fcnlite")
    }
    assert missing <= left_out
