"""Whole nets exported: the catalogue, and a zoo in the style of public ones, in three runtimes of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcnlite import models
from fcnlite.export import write_onnx
from fcnlite.net import Net
from fcnlite.proto import read_net

runtimes = pytest.importorskip("runtimes", reason="onnx or onnxruntime is not installed")

BOUND = 5e-5
ZOO = sorted((Path(__file__).parent / "zoo").glob("*.prototxt"))
PIXELS = 1.0  # inputs are normal with this deviation, so that no softmax is all 0 and 1


def filled(net: Net) -> Net:
    """The net with random weights that keep the size of what passes them."""
    draw = np.random.default_rng(5)
    for layer in net.layers:
        for i, blob in enumerate(layer.blobs):
            shape = blob.shape
            if layer.type == "BatchNorm":
                values = (draw.normal(0, 0.3, shape), draw.uniform(0.5, 1.5, shape), np.full(shape, 1.6))[i]
            elif layer.type in ("Scale", "PReLU", "Normalize") or (layer.type == "BN" and i in (0, 3)):
                values = draw.uniform(0.2, 0.9, shape)
            elif i == 0 and len(shape) > 1:
                values = draw.normal(0, (1.2 / (blob.count / shape[0])) ** 0.5, shape)
            else:
                values = draw.normal(0, 0.2, shape)
            blob.data[...] = values
    return net


def feeds(net: Net) -> dict[str, np.ndarray]:
    """Random inputs of the shapes that the net declares."""
    draw = np.random.default_rng(1)
    return {name: draw.normal(0, PIXELS, net.blobs[name].shape).astype(np.float32) for name in net.inputs}


def narrow(name: str) -> Net:
    """A net of the catalogue with few channels, on small images where it takes any."""
    known = models.CATALOGUE[name].defaults()
    options = {key: value for key, value in {"width": 4, "fc": 8, "classes": 5}.items() if key in known}
    net = learning(models.build(name, deploy=True, **options))
    if "fcn" in name:
        for blob in net.inputs:
            net.blobs[blob].reshape(1, net.blobs[blob].channels, 53, 70)
        net.reshape()
    return net


def learning(param: Any) -> Net:
    """The net, with gradients for its inputs too."""
    param.force_backward = True
    return Net(param)


def check(net: Net, path: Path) -> None:
    """Compare the net with all runtimes that are here."""
    inputs = feeds(filled(net))
    expected = runtimes.ours(net, inputs)
    write_onnx(net, path)
    error = runtimes.worst(expected, runtimes.in_onnxruntime(path, inputs))
    assert error <= BOUND, error
    if runtimes.HAS_OPENVINO:
        error = runtimes.worst(expected, runtimes.in_openvino(path, inputs))
        assert error <= BOUND, error
    if runtimes.HAS_TORCH:
        draw = np.random.default_rng(2)
        diffs = {name: draw.normal(size=array.shape).astype(np.float32) for name, array in expected.items()}
        runtimes.check_torch(net, inputs, diffs, BOUND, BOUND)


@pytest.mark.parametrize("name", models.names())
def test_catalogue(name: str, tmp_path: Path) -> None:
    check(narrow(name), tmp_path / "net.onnx")


@pytest.mark.parametrize("prototxt", ZOO, ids=[path.stem for path in ZOO])
def test_zoo(prototxt: Path, tmp_path: Path) -> None:
    check(learning(read_net(prototxt)), tmp_path / "net.onnx")
