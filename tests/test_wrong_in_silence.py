"""Kinds of input of which Caffe makes a wrong answer without a word: refused, or put right, or warned of."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from commands import NARROW, draw, ends, fails, log
from PIL import Image
from test_data_scenes import make_nyud

from fcnlite import caffe, device, models, surgery
from fcnlite.commands.convert import main as convert
from fcnlite.commands.evaluate import main as evaluate
from fcnlite.commands.inspect import main as inspect
from fcnlite.commands.predict import main as predict
from fcnlite.commands.solve import main as solve
from fcnlite.commands.train import main as train
from fcnlite.coord_map import fix_crops, misplaced_crops
from fcnlite.data import NYUD, VOC
from fcnlite.data.notes import Notes
from fcnlite.data.survey import survey
from fcnlite.deploy import deployed
from fcnlite.errors import InputError, InputWarning
from fcnlite.io import read_deploy
from fcnlite.layers.python import allow_python_layers
from fcnlite.layers.sources.batches import drawing_together
from fcnlite.net import Net, Segmenter, load
from fcnlite.net.doubts import doubts
from fcnlite.proto import TEST, TRAIN, Datum, parse_net, upgrade

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


# The user's own file of a data layer that fcnlite has, too


OWN_LAYER = """import ast, caffe, numpy as np
class VOCSegDataLayer(caffe.Layer):
    def setup(self, bottom, top):
        self.seen = ast.literal_eval(self.param_str)["split"]
    def reshape(self, bottom, top):
        top[0].reshape(1, 3, 16, 16); top[1].reshape(1, 1, 16, 16)
    def forward(self, bottom, top):
        top[0].data[...] = 0.5; top[1].data[...] = 1
    def backward(self, top, propagate_down, bottom): pass
"""


@pytest.fixture
def own_layer(bright: Path) -> Iterator[Path]:
    (bright / "voc_layers.py").write_text(OWN_LAYER)
    yield bright
    allow_python_layers(False)
    for name in [name for name in sys.modules if name == "caffe" or name.startswith("caffe.")]:
        del sys.modules[name]
    sys.modules.pop("voc_layers", None)


def test_the_users_own_data_layer_is_passed_over_with_a_word(own_layer: Path) -> None:
    with pytest.warns(
        InputWarning, match=r"voc_layers.py is passed over.*--allow-python-layers runs the file"
    ):
        net = Net("train.prototxt", "TRAIN")
    net.forward()
    assert {-104, 151} == {round(float(v)) for v in np.unique(net.blobs["data"].data[0, 0])}


def test_the_users_own_data_layer_is_run_where_that_is_allowed(own_layer: Path) -> None:
    caffe.install()
    allow_python_layers()
    net = Net("train.prototxt", "TRAIN")
    net.forward()
    assert (net.blobs["data"].data == 0.5).all() and (net.blobs["label"].data == 1).all()


# Upsampling by zeros, crops out of line


UPSAMPLED = """layer { name: "pool" type: "Pooling" bottom: "data" top: "pool"
  pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "up" type: "Deconvolution" bottom: "pool" top: "up" param { lr_mult: 0 }
  convolution_param { num_output: 3 kernel_size: 4 stride: 2 bias_term: false } }
layer { name: "crop" type: "Crop" bottom: "up" bottom: "data" top: "crop" crop_param { axis: 2 offset: 0 } }
"""


def test_upsampling_by_zeros_and_crops_out_of_line_are_told(tmp_path: Path) -> None:
    net = Net(INPUT + UPSAMPLED)
    net.save(tmp_path / "zero.h5")
    with pytest.warns(InputWarning) as told:
        load(tmp_path / "zero.h5")
    assert [str(warning.message).partition("zero.h5: ")[2][:63] for warning in told] == [
        "layer 'crop' (Crop): offset 0, but 'data' begins at 1 (fcnlite ",
        "all weights are zero in the upsampling layer 'up'; a weight_fil"[:63],
    ]


def test_scripts_for_caffe_are_told_once_when_weights_are_in_place(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(INPUT + UPSAMPLED.replace("offset: 0", "offset: 1"))
    net = caffe.Net(str(tmp_path / "net.prototxt"), TEST)
    net.params["up"][0].data[...] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.forward()
    other = caffe.Net(str(tmp_path / "net.prototxt"), TEST)
    with pytest.warns(InputWarning, match="all weights are zero") as told:
        other.forward()
        other.forward()
    assert len(told) == 1


def test_convert_and_inspect_put_crops_in_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.prototxt").write_text(INPUT + UPSAMPLED)
    net = Net(INPUT + UPSAMPLED)
    surgery.interpolate(net)
    net.save(tmp_path / "net.caffemodel")
    assert ends(inspect, [tmp_path / "net.prototxt"]) == 0
    assert "layer 'crop' (Crop): offset 0, but 'data' begins at 1" in capsys.readouterr().err
    command = [tmp_path / "net.caffemodel", tmp_path / "net.h5", "--prototxt", tmp_path / "net.prototxt"]
    assert ends(convert, [*command, "--fix-crops"]) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        fixed = load(tmp_path / "net.h5")
    # The right place: a ramp comes out as a ramp over the same pixels.
    ramp = np.tile(np.arange(16, dtype=np.float32), (1, 3, 16, 1))
    ramp = device.current().tonumpy(fixed.forward(data=ramp)["crop"])[0, 0, 8, 4:12]
    np.testing.assert_allclose(ramp, np.arange(4, 12) + 0.5, atol=1e-5)  # maxima of pairs: half a pixel on


@pytest.mark.parametrize(
    ("offsets", "axis", "fixed"),
    [([], 2, [1]), ([0, 1], 2, [1]), ([1, 0], 2, [1]), ([0], 2, [1])],
)
def test_crops_are_fixed_however_their_offset_is_given(
    offsets: list[int], axis: int, fixed: list[int]
) -> None:
    net = upgrade(parse_net(INPUT + UPSAMPLED))
    net.layer[-1].crop_param.offset[:] = offsets
    assert [crop.derived for crop in fix_crops(net)] == [(1, 1)]
    assert list(net.layer[-1].crop_param.offset) == fixed and not misplaced_crops(net)


@pytest.mark.parametrize("name", models.names())
def test_the_papers_nets_leave_no_doubt(name: str) -> None:
    assert not misplaced_crops(models.build(name))


def test_crops_that_nothing_derives_are_passed_over() -> None:
    other = INPUT.replace('"data"', '"other"')
    apart = (
        'layer { name: "c" type: "Crop" bottom: "data" bottom: "other" top: "c" crop_param { offset: 3 } }'
    )
    half = """layer { name: "p" type: "Convolution" bottom: "data" top: "p"
      convolution_param { num_output: 1 kernel_size: 2 } }
    layer { name: "c" type: "Crop" bottom: "data" bottom: "p" top: "c" crop_param { offset: 1 } }"""
    for text in (INPUT + other + apart, INPUT + half):
        assert not misplaced_crops(upgrade(parse_net(text)))


# Images and labels of two databases


def database(path: Path, keys: list[str], images: list[np.ndarray]) -> None:
    lmdb = pytest.importorskip("lmdb", reason="reading LMDB needs the package lmdb")
    with lmdb.open(str(path), map_size=1 << 20) as environment, environment.begin(write=True) as transaction:
        for key, image in zip(keys, images):
            channels, height, width = image.shape
            datum = Datum(channels=channels, height=height, width=width, data=image.tobytes())
            transaction.put(key.encode(), datum.SerializeToString())


def two_databases(folder: Path, transform: str, other: str) -> str:
    layer = """layer {{ name: "{0}" type: "Data" top: "{0}" transform_param {{ {1} }}
      data_param {{ source: "{2}/{0}_lmdb" batch_size: 1 backend: LMDB }} }}\n"""
    return "".join(layer.format(name, how, folder) for name, how in (("data", transform), ("label", other)))


def test_crops_and_mirrors_drawn_apart_are_told_and_can_be_drawn_together(tmp_path: Path) -> None:
    image = np.arange(3 * 9 * 9, dtype=np.uint8).reshape(3, 9, 9)
    for name in ("data", "label"):
        database(tmp_path / f"{name}_lmdb", [f"{i:08d}" for i in range(20)], [image] * 20)
    text = two_databases(tmp_path, "crop_size: 5 mirror: true", "crop_size: 5 mirror: true")
    together = []
    for context in (nullcontext, drawing_together):
        with context():
            net = Net(text, "TRAIN")
        told = [doubt for doubt in doubts(net) if "at random, each for itself" in doubt]
        same = []
        for _ in range(20):
            net.forward()
            same.append(bool((net.blobs["data"].data == net.blobs["label"].data).all()))
        together.append((bool(told), all(same)))
    assert together == [(True, False), (False, True)]
    with drawing_together(), pytest.raises(InputError, match="layer 'label'.*must be those of layer 'data'"):
        Net(two_databases(tmp_path, "crop_size: 5 mirror: true", "crop_size: 5"), "TRAIN")
    mirrored = Net(two_databases(tmp_path, "mirror: true", ""), "TRAIN")
    assert any("'data' and 'label' crop or mirror" in doubt for doubt in doubts(mirrored))
    assert not list(doubts(Net(two_databases(tmp_path, "crop_size: 5", "crop_size: 5"), "TEST")))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (["00000000_b.png", "00000001_a.png"], "record 0 is 'a' in the one, 'b' in the other"),
        (["00000000_a.png", "00000001_b.png"], ""),
        (["0", "1"], ""),
        (["00000000_a.png"], "hold 2 and 1 records"),
    ],
)
def test_databases_in_another_order_are_told(tmp_path: Path, keys: list[str], told: str) -> None:
    image = np.zeros((1, 4, 4), np.uint8)
    database(tmp_path / "data_lmdb", ["00000000_x/a.jpg", "00000001_x/b.jpg"], [image] * 2)
    database(tmp_path / "label_lmdb", keys, [image] * len(keys))
    found = " ".join(doubts(Net(two_databases(tmp_path, "", ""), "TRAIN")))
    assert told in found and bool(told) == bool(found)


# Solver files


def solver_file(folder: Path, net: str, extra: str = "") -> Path:
    (folder / "solver.prototxt").write_text(
        f'net: "{net}" base_lr: 0.001 lr_policy: "fixed" max_iter: 2 snapshot_prefix: "{folder}/s" {extra}'
    )
    return folder / "solver.prototxt"


def test_solve_refuses_a_net_that_nothing_feeds(bright: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label = INPUT.replace('"data"', '"label"').replace("dim: 3", "dim: 1")
    (bright / "net.prototxt").write_text(INPUT + label + SCORE + LOSS)
    fails(capsys, solve, [solver_file(bright, "net.prototxt")], "nothing feeds the inputs data, label of net")


def test_solve_refuses_the_solver_file_of_a_run_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    command = ["voc", "--data", draw(tmp_path / "data"), "--net", "fcn32s", *NARROW, "--iterations", "1"]
    assert ends(train, [*command, "--out", run]) == 0
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    fails(capsys, solve, [run / "solver.prototxt"], "nothing feeds", f"fcnlite train --resume {run}")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    kept = Segmenter(run / "deploy.prototxt")
    assert (kept.inputs, kept.outputs) == (["data"], ["score"])


def test_solve_overwrites_no_snapshots_unasked(bright: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = solver_file(bright, "train.prototxt")
    assert ends(solve, [path, "--score-every", 0]) == 0
    kept = (bright / "s_iter_2.caffemodel").read_bytes()
    fails(capsys, solve, [path], "s_iter_2.solverstate is a snapshot of another run", "--overwrite begins")
    assert (bright / "s_iter_2.caffemodel").read_bytes() == kept
    assert ends(solve, [path, "--overwrite"]) == 0
    assert ends(solve, [path, "--resume", bright / "s_iter_2.solverstate", "--iterations", 3]) == 0


def test_a_runs_weights_note_mean_and_scale_of_its_data_layers(bright: Path) -> None:
    database(bright / "data_lmdb", ["0"], [np.full((3, 4, 4), 9, np.uint8)])
    text = two_databases(bright, "mean_value: 1 mean_value: 2 mean_value: 3 scale: 0.5", "").partition(
        "\nlayer"
    )[0]
    loss = """layer { name: "zero" type: "DummyData" top: "zero"
      dummy_data_param { shape { dim: 1 dim: 2 dim: 4 dim: 4 } } }
    layer { name: "loss" type: "EuclideanLoss" bottom: "score" bottom: "zero" top: "loss" }"""
    (bright / "net.prototxt").write_text(text + SCORE + loss)
    path = solver_file(bright, "net.prototxt", "snapshot_format: HDF5")
    assert ends(solve, [path, "--score-every", 0]) == 0
    notes = load(bright / "s_iter_2.caffemodel.h5").notes
    assert (notes.told, tuple(notes.mean_bgr), notes.scale) == (True, (1, 2, 3), 0.5)


# Labels of a folder


def folder_of(root: Path, labels: list[np.ndarray], classes: str = "background\nobject\n") -> Path:
    """A folder in VOC's layout with grey pictures and these labels, all of them in train and in val."""
    lists = root / "ImageSets" / "Segmentation"
    for folder in (lists, root / "JPEGImages", root / "SegmentationClass"):
        folder.mkdir(parents=True)
    for i, label in enumerate(labels):
        Image.fromarray(np.full((*label.shape, 3), 128, np.uint8)).save(root / "JPEGImages" / f"{i}.png")
        Image.fromarray(label).save(root / "SegmentationClass" / f"{i}.png")
    for split in ("train", "val"):
        (lists / f"{split}.txt").write_text("".join(f"{i}\n" for i in range(len(labels))))
    (root / "classes.txt").write_text(classes)
    return root


def mask(value: int, size: int = 24) -> np.ndarray:
    label = np.zeros((size, size), np.uint8)
    label[6:18, 6:18] = value
    return label


def test_masks_of_0_and_255_are_asked_about(
    bright: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder_of(tmp_path / "masks", [mask(255)] * 3)
    command = [
        "voc",
        "--data",
        root,
        "--net",
        "fcn32s",
        *NARROW,
        "--iterations",
        2,
        "--out",
        tmp_path / "run",
    ]
    told = "the labels hold the values 0 and 255 alone"
    fails(capsys, train, command, told, "are they masks of 0 and 255?", "Write 1 for 'object'")
    assert not (tmp_path / "run").exists()
    net = ["--weights", "bright.caffemodel", "--prototxt", "deploy.prototxt"]
    fails(capsys, evaluate, ["voc", "--data", root, "--split", "val", *net], told)
    (tmp_path / "net.prototxt").write_text(voc_layer(str(root), "train") + SCORE + LOSS)
    fails(capsys, solve, [solver_file(tmp_path, "net.prototxt")], told)
    # One label with the object, and it is an edge that is void.
    Image.fromarray(mask(1)).save(root / "SegmentationClass" / "2.png")
    assert ends(train, command) == 0


def test_what_no_label_has_is_told_and_kept_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    void = np.full((24, 24), 255, np.uint8)
    root = folder_of(tmp_path / "data", [mask(1), void, mask(2)], "ground\ntree\nsky\ncar\n")
    command = [
        "voc",
        "--data",
        root,
        "--net",
        "fcn32s",
        *NARROW,
        "--iterations",
        2,
        "--out",
        tmp_path / "run",
    ]
    assert ends(train, command) == 0
    expected = [
        f"{root} (train): no label has a pixel of 'car'",
        f"{root} (train): 1 of 3 labels are void everywhere, the first of them 1",
    ]
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("fcnlite")] == [
        f"fcnlite train: warning: {text}" for text in expected
    ]
    assert [record.get("warnings") for record in log(tmp_path / "run")] == [expected, None]


def test_palettes_that_disagree_are_told(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "data", [mask(1), mask(1), mask(1)])
    for i, colour in enumerate([(255, 0, 0), (255, 0, 0), (0, 255, 0)]):
        picture = Image.fromarray(mask(1))
        picture.putpalette([0, 0, 0, *colour])
        picture.save(root / "SegmentationClass" / f"{i}.png")
    told = r"2.png: its palette has #00ff00 for index 1, that of .*0.png has #ff0000"
    with pytest.warns(InputWarning, match=told):
        survey(VOC(root))
    Image.fromarray(mask(1)).save(
        root / "SegmentationClass" / "2.png"
    )  # without colours there is nothing to compare
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        survey(VOC(root))


def test_labels_in_other_folders_suffixes_and_lists(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "data", [mask(0), mask(0)])
    elsewhere = tmp_path / "elsewhere"
    for folder, value in ((root / "SegmentationClassAug", 1), (elsewhere, 255)):
        folder.mkdir()
        for i in range(2):
            Image.fromarray(mask(value)).save(folder / f"{i}.PNG")
    for labels, value in ((None, 0), ("SegmentationClassAug", 1), (elsewhere, 255)):
        data = VOC(root, labels=labels)
        assert {int(sample.label[10, 10]) for sample in data} == {value}, labels
    with pytest.raises(FileNotFoundError, match="no folder of labels Aug, be it in .*SegmentationClassAug"):
        VOC(root, labels="Aug")
    lists = root / "ImageSets" / "Segmentation"
    (lists / "suffixes.txt").write_text("0.png\n1.png\n")
    assert VOC(root, "suffixes").names == ["0", "1"]
    (lists / "columns.txt").write_text(
        "/JPEGImages/0.png /SegmentationClassAug/1.PNG\n/JPEGImages/1.png /SegmentationClass/0.png\n"
    )
    data = VOC(root, "columns")
    assert data.names == ["0", "1"] and [int(sample.label[10, 10]) for sample in data] == [1, 0]
    assert [int(sample.label[10, 10]) for sample in VOC(root, "columns", labels=elsewhere)] == [255, 255]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/JPEGImages/0.png /SegmentationClass/9.png\n", "label .*SegmentationClass/9.png is missing"),
        ("/JPEGImages/0.png ../../out.png\n", "'../../out.png' is not an image id"),
        ("/JPEGImages/0.png /SegmentationClass/0.png\n1\n", "entry 2: an image and a label"),
        ("/JPEGImages/0.png /SegmentationClass/0.png\n" * 2, "names the image 0 twice"),
    ],
)
def test_lists_of_two_columns_that_are_wrong_are_told(tmp_path: Path, text: str, told: str) -> None:
    root = folder_of(tmp_path / "data", [mask(0), mask(0)])
    (root / "ImageSets" / "Segmentation" / "wrong.txt").write_text(text)
    with pytest.raises((InputError, FileNotFoundError), match=told):
        VOC(root, "wrong")


def test_commands_take_labels_from_another_folder(
    bright: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (bright / "data" / "Inverted").mkdir()
    for name in "abcd":
        label = np.asarray(Image.open(f"data/SegmentationClass/{name}.png"))
        Image.fromarray(1 - label).save(f"data/Inverted/{name}.PNG")
    command = ["voc", "--data", "data", "--split", "val", "--weights", "bright.caffemodel"]
    command += ["--prototxt", "deploy.prototxt"]
    for options, score in (([], "mean IU 100.0"), (["--labels", "Inverted"], "mean IU 0.0")):
        assert ends(evaluate, [*command, *options]) == 0
        assert score in capsys.readouterr().out
    run = ["voc", "--data", "data", "--labels", "Inverted", "--net", "fcn32s", *NARROW, "--iterations", 1]
    assert ends(train, [*run, "--out", "run"]) == 0
    assert '"labels": "Inverted"' in Path("run/settings.json").read_text()
    assert ends(train, ["voc", "--resume", "run", "--iterations", 2]) == 0


def test_a_net_for_hha_is_fed_hha_in_its_own_order(tmp_path: Path) -> None:
    """What NYUDv2's layer feeds is what a picture of the same HHA is made into."""
    make_nyud(tmp_path)
    data = NYUD(tmp_path, "trainval", tops=("hha", "label"))
    net = Segmenter(INPUT + SCORE)
    net.params["score"][0].data[1] = np.array([1, -2, 0.5]).reshape(3, 1, 1)
    net.notes = Notes.of(data, {})
    net.save(tmp_path / "hha.h5")
    net = load(tmp_path / "hha.h5")
    assert net.notes.pixels == "mean 132.431 94.076 118.477 (in the picture's order)"
    fed = net.forward(data=data.blobs(1)["data"][None])["score"]
    labels = net.predict(tmp_path / "data" / "hha" / "img_5003.png")
    np.testing.assert_array_equal(labels, device.current().tonumpy(fed)[0].argmax(0))
    assert 0 < labels.mean() < 1
