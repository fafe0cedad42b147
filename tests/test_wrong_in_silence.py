"""Kinds of input of which Caffe makes a wrong answer without a word: refused, or put right, or warned of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import ends, fails
from PIL import Image

from fcnlite import caffe
from fcnlite.commands.convert import main as convert
from fcnlite.commands.evaluate import main as evaluate
from fcnlite.commands.predict import main as predict
from fcnlite.deploy import deployed
from fcnlite.errors import InputError, InputWarning
from fcnlite.io import read_deploy
from fcnlite.net import Net, Segmenter, load
from fcnlite.proto import TEST, TRAIN, parse_net

INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 16 dim: 16 } } }\n'
SCORE = """layer { name: "score" type: "Convolution" bottom: "data" top: "score"
  convolution_param { num_output: 2 kernel_size: 1 } }
"""
LOSS = """layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss"
  loss_param { ignore_label: 255 } }
"""


def voc_layer(folder: str, split: str, module: str = "voc_layers") -> str:
    """A data layer of the original experiments."""
    settings = f"{{'voc_dir': '{folder}', 'split': '{split}', 'seed': 1337, 'mean': (104.0, 117.0, 123.0)}}"
    return f"""layer {{ name: "data" type: "Python" top: "data" top: "label"
  python_param {{ module: "{module}" layer: "VOCSegDataLayer" param_str: "{settings}" }} }}
"""


@pytest.fixture
def bright(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four pictures, bright where class 1 is, two each for train and val; and weights that tell bright from dark."""
    monkeypatch.chdir(tmp_path)
    lists = tmp_path / "data" / "ImageSets" / "Segmentation"
    for folder in (lists, tmp_path / "data" / "JPEGImages", tmp_path / "data" / "SegmentationClass"):
        folder.mkdir(parents=True)
    for i, name in enumerate("abcd"):
        label = np.zeros((16, 16), np.uint8)
        label[4 * i : 4 * i + 4] = 1
        pixels = np.repeat(label[:, :, None] * 255, 3, 2)
        Image.fromarray(pixels).save(tmp_path / "data" / "JPEGImages" / f"{name}.png")
        Image.fromarray(label).save(tmp_path / "data" / "SegmentationClass" / f"{name}.png")
    for split, names in {"train": "ab", "val": "cd"}.items():
        (lists / f"{split}.txt").write_text("\n".join(names) + "\n")
        (tmp_path / f"{split}.prototxt").write_text(voc_layer("data", split) + SCORE + LOSS)
    (tmp_path / "data" / "classes.txt").write_text("dark\nbright\n")
    (tmp_path / "deploy.prototxt").write_text(INPUT + SCORE)
    net = Net(INPUT + SCORE)
    net.params["score"][0].data[...] = np.array([-1.0, 1.0]).reshape(2, 1, 1, 1)
    net.save(tmp_path / "bright.caffemodel")
    return tmp_path


# A prototxt that fetches data of its own


@pytest.mark.parametrize("prototxt", ["deploy", "val", "train"])
def test_evaluate_scores_the_images_of_its_split_whatever_the_prototxt_fetches(
    bright: Path, prototxt: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["voc", "--data", "data", "--split", "val", "--weights", "bright.caffemodel"]
    assert ends(evaluate, [*command, "--prototxt", f"{prototxt}.prototxt"]) == 0
    assert "mean IU 100.0" in capsys.readouterr().out.replace("mean IU  ", "mean IU ")


@pytest.mark.parametrize("prototxt", ["val", "lmdb", "elsewhere", "train_only"])
def test_predict_takes_the_prediction_form_of_a_net_for_training(bright: Path, prototxt: str) -> None:
    (bright / "lmdb.prototxt").write_text(
        'layer { name: "data" type: "Data" top: "data" data_param { source: "none" backend: LMDB batch_size: 1 } }'
        + SCORE
    )
    (bright / "elsewhere.prototxt").write_text(voc_layer("nothere", "val") + SCORE + LOSS)
    once = voc_layer("data", "train").replace('type: "Python"', 'type: "Python" include { phase: TRAIN }')
    (bright / "train_only.prototxt").write_text(once + SCORE)
    net = load("bright.caffemodel", f"{prototxt}.prototxt")
    assert (net.inputs, net.outputs) == (["data"], ["score"])
    for name in "abcd":
        truth = np.asarray(Image.open(f"data/SegmentationClass/{name}.png"))
        np.testing.assert_array_equal(net.predict(f"data/JPEGImages/{name}.png"), truth)


def test_convert_keeps_the_prediction_form(bright: Path) -> None:
    assert ends(convert, ["bright.caffemodel", "c.h5", "--prototxt", "val.prototxt"]) == 0
    assert "voc_layers" not in str(read_deploy("c.h5"))
    truth = np.asarray(Image.open("data/SegmentationClass/b.png"))
    np.testing.assert_array_equal(load("c.h5").predict("data/JPEGImages/b.png"), truth)


def test_the_prediction_form_keeps_crops_and_channels() -> None:
    net = deployed(
        parse_net(
            """layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TEST }
              transform_param { crop_size: 33 } }
            layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TRAIN } }
            layer { name: "h" type: "Python" top: "depth" python_param { module: "m" layer: "L" } }
            layer { name: "j" type: "Concat" bottom: "data" bottom: "depth" top: "j" }
            layer { name: "l" type: "Python" bottom: "j" bottom: "label" top: "l" loss_weight: 1 }"""
        )
    )
    assert [list(shape.dim) for layer in net.layer for shape in layer.input_param.shape] == [
        [1, 3, 33, 33],
        [1, 1, 500, 500],
    ]
    assert [layer.type for layer in net.layer] == ["Input", "Input", "Concat"]
    assert deployed(parse_net(INPUT + SCORE)) == parse_net(INPUT + SCORE)


def test_mistakes_in_a_training_prototxt_keep_their_line(bright: Path) -> None:
    (bright / "wrong.prototxt").write_text(voc_layer("data", "val") + SCORE.replace("num_output: 2", ""))
    with pytest.raises(InputError, match=r"wrong.prototxt:3: layer 'score' .*num_output is missing"):
        Segmenter("wrong.prototxt")


# Layers for which the weights have nothing


@pytest.fixture
def renamed(bright: Path) -> Path:
    """A prototxt that calls the score layer otherwise than the weights do, and one that fills it at random."""
    other = SCORE.replace('"score" type', '"scores" type')
    one = 'layer { name: "conv" type: "Scale" bottom: "data" top: "data" }\n'
    (bright / "other.prototxt").write_text(INPUT + one + other)
    net = Net(INPUT + one + SCORE)
    net.save("scaled.caffemodel")
    return bright


def test_layers_without_weights_are_named(renamed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = ["--weights", "scaled.caffemodel", "--prototxt", "other.prototxt"]
    picture, told = "data/JPEGImages/a.png", "scaled.caffemodel: nothing in it for layer 'scores'"
    fails(capsys, predict, [picture, *weights, "--out", "seg"], told, "--allow-missing")
    assert not Path("seg").exists()
    fails(capsys, evaluate, ["voc", "--data", "data", "--split", "val", *weights], told)
    fails(capsys, convert, ["scaled.caffemodel", "c.h5", "--prototxt", "other.prototxt"], told)
    assert not Path("c.h5").exists()
    with pytest.raises(InputError, match=told):
        load("scaled.caffemodel", "other.prototxt")


def test_layers_without_weights_can_be_allowed(renamed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = ["--weights", "scaled.caffemodel", "--prototxt", "other.prototxt", "--allow-missing"]
    assert ends(predict, ["data/JPEGImages/a.png", *weights, "--out", "seg"]) == 0
    told = "nothing in it for layer 'scores' of the net"
    assert capsys.readouterr().err.strip() == f"fcnlite predict: warning: scaled.caffemodel: {told}"
    convert_all = ["scaled.caffemodel", "c.h5", "--prototxt", "other.prototxt", "--allow-missing"]
    assert ends(convert, convert_all) == 0
    assert told in capsys.readouterr().err
    with pytest.warns(InputWarning, match=told):
        net = caffe.Net("other.prototxt", TEST, weights="scaled.caffemodel")
    assert not net.params["scores"][0].data.any()  # as Caffe leaves it


def test_weights_that_a_description_gives_are_not_missed(
    bright: Path, recwarn: pytest.WarningsRecorder
) -> None:
    up = """layer { name: "up" type: "Deconvolution" bottom: "score" top: "up" param { lr_mult: 0 }
      convolution_param { num_output: 2 kernel_size: 4 stride: 2 bias_term: false
        weight_filler { type: "bilinear" } } }"""
    (bright / "up.prototxt").write_text(INPUT + SCORE + up)
    assert load("bright.caffemodel", "up.prototxt").params["up"][0].data.any()
    assert not [warning for warning in recwarn if issubclass(warning.category, InputWarning)]


def test_fine_tuning_in_caffes_interface_does_not_miss_them(
    renamed: Path, recwarn: pytest.WarningsRecorder
) -> None:
    caffe.Net("other.prototxt", TRAIN).copy_from("scaled.caffemodel")
    assert not [warning for warning in recwarn if issubclass(warning.category, InputWarning)]


# Mean and scale


def test_predict_says_and_takes_mean_and_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A net that takes 116 off by itself: class 1 where the picture is brighter."""
    shift = 'layer { name: "shift" type: "Power" bottom: "data" top: "data" power_param { shift: -116 } }\n'
    net = Net(INPUT + shift + SCORE)
    net.params["score"][0].data[1] = 1
    net.save(tmp_path / "net.caffemodel")
    (tmp_path / "net.prototxt").write_text(INPUT + shift + SCORE)
    Image.fromarray(np.full((8, 8, 3), 160, np.uint8)).save(tmp_path / "p.png")
    command = [tmp_path / "p.png", "--weights", tmp_path / "net.caffemodel"]
    command += ["--prototxt", tmp_path / "net.prototxt", "--out", tmp_path / "seg"]

    def found(*options: object) -> tuple[int, str]:
        assert ends(predict, [*command, *options]) == 0
        label = np.asarray(Image.open(tmp_path / "seg" / "p.png"))
        return int(label[0, 0]), capsys.readouterr().out.splitlines()[0]

    told = "as the weights tell none; --mean and --scale give others"
    assert found() == (0, f"pixels: mean 104.007 116.669 122.679 (blue, green, red), VOC's, {told}")
    assert found("--mean", 0, 0, 0) == (1, "pixels: mean 0 0 0 (blue, green, red)")
    assert found("--mean", 0, 0, 0, "--scale", 0.5) == (0, "pixels: mean 0 0 0 (blue, green, red), scale 0.5")
    fails(capsys, predict, [*command, "--mean", 0, 0, "x"], "'x' is not a number")


def test_evaluate_feeds_what_the_weights_note(bright: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = Segmenter(INPUT + SCORE)
    net.params["score"][0].data[1] = 1
    net.params["score"][1].data[1] = -600  # bright from 200 a channel on, if nothing is subtracted
    net.notes = net.notes.use((0, 0, 0), None)
    net.save("raw.h5")
    command = ["evaluate", "voc", "--data", "data", "--split", "val", "--weights", "raw.h5"][1:]
    assert ends(evaluate, command) == 0
    raw = capsys.readouterr().out
    assert raw.startswith("pixels: mean 0 0 0 (blue, green, red)\n")
    assert ends(evaluate, [*command, "--mean", 255, 255, 255]) == 0
    assert capsys.readouterr().out != raw
    assert load("raw.h5").notes.told and load("raw.h5").notes.mean_bgr == (0, 0, 0)
