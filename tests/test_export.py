"""Exporting: files that serve whole, that go back bit for bit, and that are not kept where they are wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fcnlite.export
from fcnlite import device, models
from fcnlite.__main__ import main
from fcnlite.data.notes import Notes
from fcnlite.errors import InputError
from fcnlite.io import iter_weights, read_notes, read_weights, write_weights
from fcnlite.net import Net, Segmenter, load

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
runtimes = pytest.importorskip("runtimes", reason="onnxruntime is not installed")

VOC = Path(os.environ.get("FCNLITE_VOC", Path(__file__).parents[2] / "shared" / "voc-mini"))


def segmenter() -> Segmenter:
    """A narrow FCN-8s with random weights, classes and a mean of its own."""
    net = Segmenter(models.build("fcn8s", width=4, fc=8, classes=5, deploy=True))
    draw = np.random.default_rng(3)
    for layer in net.layers:
        for i, blob in enumerate(layer.blobs):
            spread = (2 / (blob.count / blob.shape[0])) ** 0.5 if i == 0 else 0.1
            blob.data[...] = draw.normal(0, spread, blob.shape)
    names = ("background", "circle", "square", "star", "other")
    net.notes = Notes({"score": names}, (100.3, 110.7, 120.1), background=0)
    return net


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("net") / "net.h5"
    segmenter().save(path)
    return path


def picture(height: int, width: int) -> np.ndarray:
    coarse = np.random.default_rng(height).integers(0, 255, (height // 8 + 1, width // 8 + 1, 3))
    return np.kron(coarse, np.ones((8, 8, 1), int))[:height, :width].astype(np.uint8)


def test_a_whole_file_takes_pictures_of_any_size(weights: Path, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "net.onnx"
    assert main(["export", str(weights), str(path), "--whole"]) == 0
    told = capsys.readouterr().out
    assert "input image: uint8 H x W x 3" in told and "output labels: uint8 H x W" in told
    assert "0 pixels with another label" in told
    net = load(weights)
    for size in ((40, 61), (97, 33)):
        image = picture(*size)
        labels = runtimes.in_onnxruntime(path, {"image": image})["labels"]
        assert labels.dtype == np.uint8 and np.array_equal(labels, net.predict(image))


@pytest.mark.skipif(not VOC.is_dir(), reason="no voc-mini: set FCNLITE_VOC")
def test_the_file_is_compared_with_what_the_device_gives(weights: Path, tmp_path: Path) -> None:
    try:
        assert main(["export", str(weights), str(tmp_path / "net.onnx"), "--fast"]) == 0
        assert device.current().fast
    finally:
        device.use("cpu")


def test_a_whole_file_gives_predicts_labels_of_photographs(weights: Path, tmp_path: Path) -> None:
    net = load(weights)
    fcnlite.export.write_onnx(net, tmp_path / "net.onnx", whole=True)
    for photo in sorted(VOC.glob("JPEGImages/*.jpg")):
        image = np.array(Image.open(photo).convert("RGB"))
        labels = runtimes.in_onnxruntime(tmp_path / "net.onnx", {"image": image})["labels"]
        assert np.array_equal(labels, net.predict(image)), photo.name


def test_metadata_tell_classes_pixels_and_licence(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    assert main(["export", str(weights), str(path), "--licence", "MIT"]) == 0
    told = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(told["fcnlite.classes"])[1] == "circle"
    assert json.loads(told["fcnlite.pixels"]) == {"mean_bgr": [100.3, 110.7, 120.1], "scale": 1.0}
    assert json.loads(told["fcnlite.palette"])[1] == [128, 0, 0]
    assert told["fcnlite.licence"] == "MIT" and 'name: "score"' in told["fcnlite.prototxt"]


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors"])
def test_weights_come_back_bit_for_bit(suffix: str, weights: Path, tmp_path: Path) -> None:
    between, back = tmp_path / f"net{suffix}", tmp_path / "back.caffemodel"
    assert main(["convert", str(weights), str(between)]) == 0
    assert main(["convert", str(between), str(back)]) == 0
    wanted = {name: arrays for name, arrays in read_weights(weights).items() if arrays}
    found = {name: arrays for name, arrays in read_weights(back).items() if arrays}
    assert list(found) == list(wanted)
    for name, arrays in wanted.items():
        assert [a.shape for a in found[name]] == [a.shape for a in arrays]
        assert all(ours.tobytes() == theirs.tobytes() for ours, theirs in zip(arrays, found[name]))
    image = picture(40, 50)
    assert np.array_equal(load(between).predict(image), load(weights).predict(image))
    assert read_notes(between) == read_notes(weights)


def test_every_parameter_comes_back_from_onnx(tmp_path: Path) -> None:
    """Those that no tensor of the file holds as they are, and those that layers share, too."""
    text = """
    layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 6 dim: 6 } } }
    layer { name: "a" type: "Convolution" bottom: "data" top: "a" param { name: "w" }
            convolution_param { num_output: 3 kernel_size: 1 bias_term: false } }
    layer { name: "bn" type: "BatchNorm" bottom: "a" top: "a" }
    layer { name: "prelu" type: "PReLU" bottom: "a" top: "a" }
    layer { name: "b" type: "Convolution" bottom: "a" top: "b" param { name: "w" }
            convolution_param { num_output: 3 kernel_size: 1 bias_term: false } }
    layer { name: "one" type: "Scale" bottom: "b" top: "b" scale_param { num_axes: 0 bias_term: true } }
    """
    net = Net(text)
    draw = np.random.default_rng(0)
    for layer in net.layers:
        for blob in layer.blobs:
            blob.data[...] = draw.uniform(0.5, 1.5, blob.shape)
    fcnlite.export.write_onnx(net, tmp_path / "net.onnx")
    found = dict(iter_weights(tmp_path / "net.onnx"))
    for name, blobs in net.params.items():
        for blob, array in zip(blobs, found[name], strict=True):
            assert array.shape == blob.shape and array.tobytes() == blob.data.tobytes(), name


def test_large_weights_lie_in_a_file_beside(weights: Path, tmp_path: Path) -> None:
    net, image = load(weights), picture(50, 40)
    fcnlite.export.write_onnx(net, tmp_path / "net.onnx", whole=True, most=1000)
    assert (tmp_path / "net.onnx").stat().st_size < 200_000 < (tmp_path / "net.onnx.data").stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "net.onnx.data"]
    labels = runtimes.in_onnxruntime(tmp_path / "net.onnx", {"image": image})["labels"]
    assert np.array_equal(labels, net.predict(image))
    for name, arrays in iter_weights(tmp_path / "net.onnx"):
        for array, blob in zip(arrays, net.params[name], strict=True):
            assert array.tobytes() == blob.data.tobytes()


def test_a_file_that_differs_is_not_kept(weights: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Here the converter of ReLU is wrong by a thousandth."""
    from fcnlite.export.onnx import registry

    def leaky(graph: Any, node: Any, bottoms: list[str]) -> list[str]:
        return [graph.op("LeakyRelu", bottoms[0], alpha=0.001)]

    monkeypatch.setitem(registry.converters(), "ReLU", leaky)
    net = load(weights)
    with pytest.raises(InputError, match=r"not kept, .* differ by .*e-0\d of the largest score at score\["):
        fcnlite.export.write_onnx(net, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
    report = fcnlite.export.write_onnx(net, tmp_path / "net.onnx", force=True)
    assert report.difference.largest > 1e-4 and (tmp_path / "net.onnx").exists()


def test_layers_that_onnx_cannot_express_are_named(tmp_path: Path) -> None:
    text = """
    layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 6 } } }
    layer { name: "cont" type: "Input" top: "cont" input_param { shape { dim: 1 dim: 3 } } }
    layer { name: "memory" type: "LSTM" bottom: "data" bottom: "cont" top: "memory"
            recurrent_param { num_output: 2 } }
    """
    with pytest.raises(InputError, match=r"ONNX cannot express the layers 'memory' \(LSTM\)"):
        fcnlite.export.write_onnx(Net(text), tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["net.h5", "net.pb"], "its suffix names no format"),
        (["net.h5", "net.safetensors", "--whole"], "go with .onnx"),
        (["net.h5", "net.onnx", "--output", "nothing"], "the net has no blob 'nothing'"),
        (["net.h5", "nowhere/net.onnx"], "folder"),
        (["missing.h5", "net.onnx"], "no such weights file"),
        (["net.h5", "net.onnx", "--whole", "--output", "upscore2"], "a score for each pixel is needed"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], told: str, weights: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.h5").write_bytes(weights.read_bytes())
    assert main(["export", *words]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1, error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.h5"]


def test_safetensors_are_read_by_their_own_library(weights: Path, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    path = tmp_path / "net.safetensors"
    net = load(weights)
    net.save(path)
    tensors = safetensors.load_file(path)
    assert tensors["conv1_1.weight"].tobytes() == net.params["conv1_1"][0].data.tobytes()
    assert {name.split(".")[1] for name in tensors} == {"weight", "bias"}
    # What others write has no description: names alone tell layers and order.
    safetensors.save_file(tensors, tmp_path / "theirs.safetensors")
    for name, arrays in iter_weights(tmp_path / "theirs.safetensors"):
        assert [a.shape for a in arrays] == [blob.shape for blob in net.params[name]]


@pytest.mark.parametrize("length", [0, 5, 12, 3000])
def test_damaged_safetensors_are_refused(length: int, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    write_weights(path, {"a": [np.ones((30, 40), np.float32)], "b": [np.ones(3)]})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match="damaged|cut short|empty|not a"):
        list(iter_weights(path))


@pytest.mark.skipif(not runtimes.HAS_TORCH, reason="PyTorch is not installed")
def test_a_module_takes_safetensors_and_trains(weights: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    net = load(weights)
    module = fcnlite.export.to_torch(net)
    net.save(tmp_path / "net.safetensors")
    state = load_file(tmp_path / "net.safetensors")
    module.load_state_dict(state, strict=True)
    assert set(module.state_dict()) == set(state)
    assert not dict(module.named_parameters())["upscore8.weight"].requires_grad
    rate = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=1e-3)
    data = torch.tensor(np.random.default_rng(0).normal(size=(1, 3, 33, 40)).astype(np.float32))
    losses = []
    for _ in range(4):
        loss = torch.nn.functional.cross_entropy(module(data), torch.ones((1, 33, 40), dtype=torch.long))
        rate.zero_grad()
        loss.backward()
        rate.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
