"""Segmenters: nets loaded from files of weights, pictures in every form, notes that go with the weights."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from test_net import SMALL

from fcnlite import models, surgery
from fcnlite.deploy import deploy
from fcnlite.errors import InputError
from fcnlite.io import write_weights
from fcnlite.net import Net, Segmenter, load
from fcnlite.proto import to_text
from fcnlite.random import set_random_seed


@pytest.fixture
def net() -> Net:
    set_random_seed(5)
    return Net(SMALL, phase="TRAIN")


def test_load_needs_nothing_but_the_file(net, tmp_path):
    net.save(tmp_path / "small.h5")
    loaded = load(tmp_path / "small.h5")
    assert (loaded.inputs, loaded.outputs) == (["data"], ["sum"])
    image = np.random.default_rng(1).integers(0, 256, (31, 22, 3), dtype=np.uint8)
    labels = loaded.predict(image)
    assert labels.shape == (31, 22) and labels.dtype == np.uint8
    Image.fromarray(image).save(tmp_path / "image.png")
    np.testing.assert_array_equal(loaded.predict(tmp_path / "image.png"), labels)
    np.testing.assert_array_equal(loaded.predict(Image.fromarray(image)), labels)
    bgr = image[:, :, ::-1].astype(np.float32) - np.float32(loaded.notes.mean_bgr)
    score = loaded.forward(data=bgr.transpose(2, 0, 1)[None])["sum"]
    np.testing.assert_array_equal(labels, score[0].argmax(0))


@pytest.mark.parametrize("name", ["fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce"])
def test_bare_weights_of_the_papers_nets_load(name, tmp_path):
    net = Net(models.build(name, classes=5, width=2, fc=12), phase="TEST")
    surgery.interpolate(net)
    net.save(tmp_path / "bare.caffemodel")
    loaded = load(tmp_path / "bare.caffemodel")
    assert loaded.name == name
    assert loaded.inputs == ["data"]
    assert loaded.params["score_fr"][0].shape == (5, 12, 1, 1)


@pytest.mark.parametrize(
    "notes",
    [
        {"mean_bgr": [1.0, 2.0]},
        {"mean_bgr": [float("nan")] * 3},
        {"classes": {"score": "abc"}},
        {"classes": {"score": ["one"]}},
        {"background": "x"},
    ],
)
def test_damaged_notes_are_told(net, tmp_path, notes):
    shapes = {name: blob.shape for name, blob in net.blobs.items()}
    arrays = {layer: [np.asarray(blob.data) for blob in blobs] for layer, blobs in net.params.items()}
    write_weights(tmp_path / "w.h5", arrays, deploy=to_text(deploy(net.param, shapes)), notes=notes)
    with pytest.raises(InputError, match="w.h5: its note .* is damaged"):
        load(tmp_path / "w.h5")


def test_the_net_in_a_file_is_no_path(net, tmp_path):
    (tmp_path / "other").write_text("layer {")
    arrays = {layer: [np.asarray(blob.data) for blob in blobs] for layer, blobs in net.params.items()}
    write_weights(tmp_path / "w.h5", arrays, deploy=str(tmp_path / "other"))
    with pytest.raises(InputError, match="w.h5, attribute 'prototxt':1"):
        load(tmp_path / "w.h5")


def test_what_is_no_picture_and_no_file_is_told(tmp_path):
    net = Segmenter(SMALL)
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(InputError, match="text.jpg: not a picture"):
        net.predict(tmp_path / "text.jpg")
    with pytest.raises(InputError, match="H x W x 3 uint8"):
        net.predict(np.zeros((4, 4, 3)))
    with pytest.raises(FileNotFoundError, match="nowhere.h5"):
        load(tmp_path / "nowhere.h5")


def test_a_net_of_several_inputs_is_not_fed_zeros_for_those_left_out():
    other = 'layer { name: "d" type: "Input" top: "depth" input_param { shape { dim: 1 dim: 3 dim: 12 dim: 10 } } }\n'
    joined = 'layer { name: "j" type: "Eltwise" bottom: "data" bottom: "depth" top: "j" }'
    image = np.zeros((12, 10, 3), np.uint8)
    with pytest.raises(InputError, match="the net takes data, depth, not one picture"):
        Segmenter(SMALL + other + joined).predict(image)
    named = Segmenter(SMALL.replace('"data"', '"picture"'))
    np.testing.assert_array_equal(named.predict(image).shape, (12, 10))
