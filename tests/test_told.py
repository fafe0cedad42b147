"""Mistakes that are easily told badly: each error names what is wrong, and what to do that can be done."""

import shutil
import sys

import numpy as np
import pytest
from cases import REFERENCE
from PIL import Image

from fcnlite.commands import convert, inspect, predict, solve
from fcnlite.errors import InputError, InputWarning
from fcnlite.io import iter_weights, read_state
from fcnlite.io.kinds import ARRAY, STATE, WEIGHTS, kind_of
from fcnlite.layers import LAYERS
from fcnlite.layers.python import allow_python_layers
from fcnlite.net import Net
from fcnlite.proto import read_net
from fcnlite.proto.foreign import foreign_types
from fcnlite.solver import SGDSolver
from fcnlite.training.solver_file import start_from

INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } %s }\n'


def convolution(name="score", outputs=2, bottom="data", extra=""):
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" {extra} '
        f"convolution_param {{ num_output: {outputs} kernel_size: 1 weight_filler {{ type: 'xavier' }} }} }}\n"
    )


# The kinds of Caffe's binary files


def test_files_of_real_caffe_are_told_apart():
    for path in REFERENCE.glob("*"):
        name = path.name
        if name.endswith((".caffemodel", ".caffemodel.h5")):
            assert kind_of(path) == WEIGHTS, name
        elif name.endswith((".solverstate", ".solverstate.h5")):
            assert kind_of(path) == STATE, name
    for path in (REFERENCE / "image-data").glob("*.binaryproto"):
        assert kind_of(path) == ARRAY
    assert kind_of(REFERENCE / "rule.py") is None and kind_of(REFERENCE / "image-data" / "b.jpg") is None


@pytest.mark.parametrize("form", ["adam", "adadelta"])
def test_weights_and_states_taken_for_each_other_are_told(tmp_path, form):
    end = ".h5" if form == "adadelta" else ""
    state, weights = (f"more-solver-{form}_iter_12.{kind}{end}" for kind in ("solverstate", "caffemodel"))
    for name in (state, weights):
        shutil.copy(REFERENCE / name, tmp_path)
    with pytest.raises(
        InputError, match=f"holds a solver's state, not weights; the weights are in {weights} beside it"
    ):
        list(iter_weights(tmp_path / state))
    with pytest.raises(
        InputError, match=f"holds weights, not a solver's state; the state is in {state} beside it"
    ):
        read_state(tmp_path / weights)
    (tmp_path / weights).unlink()
    with pytest.raises(InputError, match=f"the weights are in {weights} of the same snapshot"):
        list(iter_weights(tmp_path / state))


def test_a_mean_is_not_weights():
    with pytest.raises(InputError, match="holds a single array, not weights, such as a mean"):
        list(iter_weights(REFERENCE / "image-data" / "mean.binaryproto"))


# Class counts


def test_scores_for_other_classes_start_afresh(tmp_path):
    text = INPUT % "" + convolution("conv") + convolution("score_fr", 5, "conv")
    Net(text).save(tmp_path / "five.caffemodel")
    net = Net(text.replace("num_output: 5", "num_output: 3"), "TRAIN")
    with pytest.warns(
        InputWarning, match="scores for other classes are left out, and start afresh: score_fr"
    ):
        start_from(net, [str(tmp_path / "five.caffemodel")])
    copied = dict(iter_weights(tmp_path / "five.caffemodel"))["conv"][0]
    assert np.array_equal(net.params["conv"][0].data, copied)
    other = Net(text.replace("num_output: 2", "num_output: 4"), "TRAIN")
    with (
        pytest.warns(InputWarning),
        pytest.raises(InputError, match="to start it afresh give it another name in the prototxt"),
    ):
        start_from(other, [str(tmp_path / "five.caffemodel")])


# Python layers

PYTHON = 'layer { name: "d" type: "Python" top: "d" python_param { module: "%s" layer: "Mine" } }\n'
MINE = """
import fcnlite.caffe as caffe

class Mine(caffe.Layer):
    def setup(self, bottom, top):
        pass
    def reshape(self, bottom, top):
        top[0].reshape(2)
    def forward(self, bottom, top):
        top[0].data[...] = 7
"""


@pytest.fixture
def allowed(monkeypatch):
    monkeypatch.setattr("sys.path", [*sys.path])
    allow_python_layers()
    yield
    allow_python_layers(False)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("", "python_param names no module"),
        ("layers/mine.py", "takes a module's name, not a file, and there is 'layers/mine.py': layers.mine"),
        ("../layers/mine.py", "and there is '../layers/mine.py': layers.mine"),
        ("mine.py", "and there is 'mine.py': mine"),
        (
            "nosuch_package.mine",
            r"there is no module 'nosuch_package.mine' in .*, for lack of a package 'nosuch_package'",
        ),
        ("nosuch_module", "there is no module 'nosuch_module' in"),
    ],
)
def test_modules_given_as_files_are_told(tmp_path, allowed, module, said):
    (tmp_path / "net.prototxt").write_text(PYTHON % module)
    with pytest.raises(InputError, match=rf"net.prototxt:1: layer 'd' \(Python\): .*{said}"):
        Net(tmp_path / "net.prototxt")


def test_modules_in_a_folder_beside_the_prototxt_are_found(tmp_path, allowed):
    (tmp_path / "told_layers").mkdir()
    (tmp_path / "told_layers" / "mine.py").write_text(MINE)
    (tmp_path / "net.prototxt").write_text(PYTHON % "told_layers.mine")
    assert Net(tmp_path / "net.prototxt").forward()["d"].tolist() == [7, 7]


# Stages

STAGED = (
    INPUT
    % 'include { stage: "deploy" }'
    + 'layer { name: "feed" type: "DummyData" top: "data" dummy_data_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } '
    "include { phase: TRAIN not_stage: 'deploy' } }\n" + convolution()
)


def test_a_layer_that_its_stage_leaves_out_is_named(tmp_path):
    (tmp_path / "net.prototxt").write_text(STAGED)
    needs = r"layer 'data' makes it, but is left out: it needs stage 'deploy' \(--stage deploy\)"
    with pytest.raises(InputError, match=needs):
        Net(tmp_path / "net.prototxt")
    with pytest.raises(InputError, match="layer 'feed' makes it, but is left out: it needs phase TRAIN"):
        Net(STAGED.split("\n", 1)[1])
    excluded = INPUT % "exclude { phase: TEST }" + convolution()
    with pytest.raises(InputError, match="layer 'data' makes it, but is left out: it is not for phase TEST"):
        Net(excluded)
    assert Net(STAGED, stages=["deploy"]).inputs == ["data"]


def test_every_command_that_reads_a_prototxt_takes_a_stage(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(STAGED)
    Net(STAGED, stages=["deploy"]).save("w.caffemodel")
    assert inspect.main(["net.prototxt"]) == 2 and "--stage deploy" in capsys.readouterr().err
    assert inspect.main(["net.prototxt", "--stage", "deploy"]) == 0 and "score" in capsys.readouterr().out
    assert convert.main(["w.caffemodel", "w.h5", "--prototxt", "net.prototxt", "--stage", "deploy"]) == 0
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save("p.png")
    told = ["p.png", "--weights", "w.caffemodel", "--prototxt", "net.prototxt", "--out", "seg"]
    capsys.readouterr()
    assert predict.main(told) == 2 and "--stage deploy" in capsys.readouterr().err
    assert predict.main([*told, "--stage", "deploy"]) == 0
    (tmp_path / "solver.prototxt").write_text(
        'train_net: "net.prototxt" base_lr: 1 lr_policy: "fixed" max_iter: 0 snapshot_prefix: "s"'
    )
    capsys.readouterr()
    assert solve.main(["solver.prototxt", "--stage=deploy"]) == 2  # whose input then nothing feeds
    assert "data" in capsys.readouterr().err


# Forks' names, templates


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            'layer { name: "r" type: "ReLU6" bottom: "data" top: "r" }',
            r"a layer of MobileNet's ports.*clip_param \{ min: 0",
        ),
        (
            'layer { name: "r" type: "PriorBox" bottom: "data" top: "r" }',
            "a layer of SSD .*which Caffe and fcnlite lack",
        ),
        (
            "layer { multibox_loss_param { } }",
            "unknown field 'multibox_loss_param'.*for MultiBoxLoss, a layer of SSD",
        ),
        (
            "layer { batch_norm_param { scale_bias: true } }",
            "field of NVIDIA Caffe.*a Scale layer with bias_term",
        ),
        (
            "layer { pooling_param { strict_dim: false } }",
            "unknown field 'strict_dim' in PoolingParameter; it is a field of",
        ),
    ],
)
def test_names_of_forks_are_told_as_such(text, said):
    with pytest.raises(InputError, match=said):
        Net(INPUT % "" + text)


def test_no_layer_that_is_here_counts_as_missing():
    assert not set(foreign_types()) & set(LAYERS)


@pytest.mark.parametrize("hole", ["num_output: ${NUM_LABELS}", "num_output: $CLASSES", "pad: $(PAD)"])
def test_templates_are_told_as_templates(tmp_path, hole):
    (tmp_path / "train.prototxt").write_text("\n" + convolution(outputs=2).replace("num_output: 2", hole))
    with pytest.raises(
        InputError, match=r"train.prototxt:2: '\$.*' stands for something to be filled in: this is a templ"
    ):
        read_net(tmp_path / "train.prototxt")


def test_placeholders_in_strings_are_told_too():
    with pytest.raises(InputError, match=r"<text>:1: '\$\{EXP\}' stands for something"):
        Net('layer { name: "d" type: "ImageData" top: "d" image_data_param { source: "${EXP}/list.txt" } }')
    assert Net((INPUT % "").replace('"data"', '"5$"')).inputs == ["5$"]  # a price, not a placeholder


# Test nets


def test_a_test_net_of_other_shapes_is_told_with_both():
    train = (
        INPUT % ""
        + convolution(outputs=3)
        + 'layer { name: "l" type: "Reduction" bottom: "score" top: "l" loss_weight: 1 }'
    )
    solver = (
        f"train_net_param {{ {train} }} test_net_param {{ {train.replace('num_output: 3', 'num_output: 4')} }} "
        'test_iter: 1 test_interval: 1 base_lr: 1 lr_policy: "fixed"'
    )
    said = (
        r"test net 0 does not fit the training net: layer 'score': parameter 0 has shape \(4, 3, 1, 1\), "
        r"and \(3, 3, 1, 1\)"
    )
    with pytest.raises(InputError, match=said):
        SGDSolver(solver)
