"""docs/coming-from-caffe.md: every example on the page runs, in order, in the folder that the page describes."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cases
import numpy as np
import pytest
from PIL import Image
from test_data_voc import make_sbd, make_voc

import fcnlite.io
from fcnlite import models, surgery
from fcnlite.net import Net
from fcnlite.proto import to_text

PAGE = Path(__file__).parents[1] / "docs" / "coming-from-caffe.md"
FEED = """
layer {{ name: "data" type: "Python" top: "data" top: "label"
  python_param {{ module: "voc_layers" layer: "{layer}"
    param_str: "{{'{key}': '../data/{folder}', 'split': '{split}', 'seed': 1337, 'mean': (104, 117, 123)}}" }} }}
"""
SOLVER = """
train_net: "train.prototxt" test_net: "val.prototxt" test_iter: 2 test_interval: 999999999 test_initialization: false
base_lr: 1e-10 lr_policy: "fixed" momentum: 0.99 weight_decay: 0.0005 max_iter: 100 display: 20 average_loss: 20
snapshot: 4 snapshot_prefix: "snapshot/train"
"""
SCRIPT = """
import sys

import caffe

net = caffe.Net("deploy.prototxt", "VGG_ILSVRC_16_layers.caffemodel", caffe.TEST)
print("classifying", sys.argv[1], "into", net.blobs["prob"].shape[1], "classes")
"""


def examples():
    """The page's fenced blocks as (language, text)."""
    return re.findall(
        r"^```(python|sh)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """What the page says it runs in."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(cases.REFERENCE / "tiny-vgg16-v1.caffemodel", "VGG_ILSVRC_16_layers.caffemodel")
    Path("deploy.prototxt").write_text(
        to_text(models.build("vgg16", classes=10, width=4, fc=24, deploy=True))
    )
    Path("classify.py").write_text(SCRIPT)
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (60, 70, 3)).astype(np.uint8)).save("photo.jpg")
    make_sbd(tmp_path / "data" / "sbdd" / "dataset", {"train": ["a", "b"]})
    make_voc(tmp_path / "data" / "pascal" / "VOC2011", {"seg11valid": ["c", "d"]})
    fcn = models.build("fcn32s", width=4, fc=24)
    source = Net(fcn, "TRAIN")
    surgery.initialise(source, fcnlite.io.read_weights("VGG_ILSVRC_16_layers.caffemodel"))
    (tmp_path / "ilsvrc-nets").mkdir()
    source.save("ilsvrc-nets/vgg16-fcn.caffemodel")
    folder = tmp_path / "voc-fcn32s"
    folder.mkdir()
    del fcn.layer[: next(i for i, layer in enumerate(fcn.layer) if layer.type != "Input")]
    train = FEED.format(layer="SBDDSegDataLayer", key="sbdd_dir", folder="sbdd/dataset", split="train")
    val = FEED.format(layer="VOCSegDataLayer", key="voc_dir", folder="pascal/VOC2011", split="seg11valid")
    (folder / "train.prototxt").write_text(train + to_text(fcn))
    (folder / "val.prototxt").write_text(val + to_text(fcn))
    (folder / "solver.prototxt").write_text(SOLVER)
    return tmp_path


def test_every_example_runs(scene):
    parts = ["import subprocess, sys\n"]
    for language, text in examples():
        if language == "python":
            parts.append(text)
            continue
        for line in text.splitlines():
            program, *words = shlex.split(line)
            assert program == "fcnlite"
            parts.append(
                f"subprocess.run([sys.executable, '-m', 'fcnlite', *{words!r}], check=True)\nsys.stdout.flush()\n"
            )
    (scene / "page.py").write_text("\n".join(parts))
    environment = {**os.environ, "FCNLITE_DEVICE": "cpu", "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        [sys.executable, "page.py"], capture_output=True, text=True, timeout=600, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for told in (
        "(4, 3, 3, 3)\n",
        "(1, 10) (4, 3, 3, 3) ['data',",
        "offset: 50\n",
        "classifying photo.jpg into 10 classes\n",
        "(2, 24) (10,) ['fc6'] ['prob']\n",
        "iteration 4: score: pixel accuracy",
        "again_iter_5.caffemodel again_iter_5.solverstate\n",
        "[ 2.  8. 18.] [ 4.  8. 12.]\n",
    ):
        assert told in done.stdout, (told, done.stdout)
    assert (scene / "again_iter_5.solverstate.h5").is_file() and (scene / "fcn32s-start.h5").is_file()
    first, again = (fcnlite.io.read_weights(scene / name) for name in ("vgg16.h5", "vgg16-again.h5"))
    assert all((a == b).all() for layer in first for a, b in zip(first[layer], again[layer]))


CAFFES = """
AbsVal Accuracy ArgMax BatchNorm BatchReindex Bias BNLL Clip Concat ContrastiveLoss Convolution Crop Data Deconvolution
Dropout DummyData ELU Eltwise Embed EuclideanLoss Exp Filter Flatten HDF5Data HDF5Output HingeLoss Im2col ImageData
InfogainLoss InnerProduct Input Log LRN LSTM LSTMUnit MemoryData MultinomialLogisticLoss MVN Parameter Pooling Power
PReLU Python Reduction ReLU Reshape RNN Scale Sigmoid SigmoidCrossEntropyLoss Silence Slice Softmax SoftmaxWithLoss
Split SPP Swish TanH Threshold Tile WindowData
"""


def test_every_layer_type_of_caffe_is_there_as_the_page_says():
    assert "Every layer type of Caffe 1.0 is there" in PAGE.read_text(encoding="utf-8")
    assert not set(CAFFES.split()) - set(fcnlite.layers.LAYERS)
