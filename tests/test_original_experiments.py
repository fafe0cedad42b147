"""The experiments of fcn.berkeleyvision.org as written: every net builds, every net script gives its prototxts, and
solvers and solve.py run, on tiny data in the true formats.

They need a checkout of github.com/shelhamer/fcn.berkeleyvision.org, named by the environment variable FCNLITE_FCN_REPO.
"""

import ast
import os
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from test_data_scenes import make_context, make_nyud, make_siftflow
from test_data_voc import make_sbd, make_voc

import fcnlite.caffe
import fcnlite.io
from fcnlite.commands.solve import main
from fcnlite.layers.python import Python
from fcnlite.net import Net, Segmenter
from fcnlite.proto import TEST, TRAIN, read_net, to_text
from fcnlite.solver import SGDSolver
from fcnlite.surgery import bilinear_weights
from fcnlite.training.solver_file import score

REPO = os.environ.get("FCNLITE_FCN_REPO")
pytestmark = pytest.mark.skipif(
    not REPO, reason="FCNLITE_FCN_REPO names no checkout of github.com/shelhamer/fcn.berkeleyvision.org"
)
PROTOTXTS = sorted(Path(REPO).glob("*/*.prototxt")) if REPO else []
EXPERIMENTS = [path.parent.name for path in PROTOTXTS if path.stem == "solver"]
NETS = [f"{path.parent.name}/{path.name}" for path in PROTOTXTS if path.stem != "solver"]
WIDTHS = {"64": 4, "96": 4, "128": 6, "256": 6, "384": 6, "512": 8, "4096": 10}


@pytest.fixture
def repo(tmp_path, monkeypatch):
    """A copy of the checkout with tiny data where its prototxts and scripts look for it."""
    copy = tmp_path / "fcn"
    shutil.copytree(REPO, copy, ignore=shutil.ignore_patterns(".git", "data"))
    for base in (copy / "data", tmp_path / "data"):  # some prototxts look in the one, some in the other
        make_sbd(base / "sbdd" / "dataset", {"train": ["2008_000002", "2008_000003"]})
        make_voc(base / "pascal" / "VOC2011", {"seg11valid": ["2007_000033", "2007_000042"]})
        make_context(base / "pascal" / "VOC2010", base / "pascal-context")
        lists = base / "pascal" / "VOC2010" / "ImageSets" / "Main"
        shutil.copy(lists / "train.txt", lists / "val.txt")
        for folder, make in ((base / "nyud", make_nyud), (base / "sift-flow", make_siftflow)):
            make(folder)
            shutil.copy(folder / "trainval.txt", folder / "test.txt")
    (copy / "data" / "segvalid11.txt").write_text("2007_000033\n2007_000042\n")
    for name in ("surgery", "score", "voc_layers", "caffe"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return copy


def narrow(folder):
    """Make the nets of an experiment narrow; classes stay."""
    for path in folder.glob("*.prototxt"):
        text = re.sub(
            r"num_output: (\d+)",
            lambda found: f"num_output: {WIDTHS.get(found[1], found[1])}",
            path.read_text(),
        )
        path.write_text(text)


def write_weights(prototxt, target, leave=()):
    """Small random weights for every layer of a net but those whose names contain a word of `leave`."""
    rng = np.random.default_rng(11)
    params = {
        layer: [rng.normal(0, 0.05, blob.shape) for blob in blobs]
        for layer, blobs in Net(prototxt, TRAIN).params.items()
        if not any(word in layer for word in leave)
    }
    target.parent.mkdir(exist_ok=True)
    fcnlite.io.write_weights(target, params)


def as_python_3(text):
    """The scripts without their print statements and xrange."""
    text = text.replace("xrange", "range")
    return re.sub(r"^(\s*)print ((?:.*\\\n)*.*)$", r"\1print(\2)", text, flags=re.MULTILINE)


@pytest.mark.parametrize("net", NETS)
def test_every_net_builds(repo, net, monkeypatch):
    path = repo / net
    monkeypatch.chdir(path.parent)
    phase = TRAIN if "train" in path.stem else TEST
    built = Net(path.name, phase)
    feeds = [layer for layer in built.layers if isinstance(layer, Python)]
    assert len(feeds) == (path.stem != "deploy")
    for feed in feeds:
        assert built.blobs[feed.param.top[0]].shape[0] == 1
    score = next(name for name in reversed(built.blobs) if name.startswith("score"))
    assert built.blobs[score].shape[2:] == built.blobs[next(iter(built.blobs))].shape[2:]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_net_scripts_give_the_prototxts_beside_them(repo, experiment, tmp_path, monkeypatch):
    fcnlite.caffe.install()
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(repo / experiment / "net.py"), run_name="__main__")
    for path in (repo / experiment).glob("*.prototxt"):
        if path.stem in ("solver", "deploy"):
            continue
        assert comparable(tmp_path / path.name) == comparable(path)


def comparable(path):
    """A net's text with the parameters of its data layers as dicts, whatever the order and the folder."""
    net = read_net(path)
    for layer in net.layer:
        if layer.type == "Python":
            given = ast.literal_eval(layer.python_param.param_str)
            shown = {k: v.replace("../../", "../") if isinstance(v, str) else v for k, v in given.items()}
            layer.python_param.param_str = repr(sorted(shown.items(), key=str))
    return to_text(net)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_training_from_the_solver_file(repo, experiment, monkeypatch, capsys):
    """Every experiment makes two updates, scores its test net, and saves; upsampling layers interpolate."""
    folder = repo / experiment
    narrow(folder)
    source = repo / "start" / "weights.caffemodel"
    phases = {"voc": "train.prototxt", "pas": "train.prototxt"}
    write_weights(folder / phases.get(experiment[:3], "trainval.prototxt"), source, leave=("score", "up"))
    monkeypatch.chdir(folder)
    assert main(["solver.prototxt", "--weights", str(source), "--iterations", "2", "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert "iteration 2: test loss" in told and "mean IU" in told
    prefix = "snapshot/train" if "snapshot_prefix" in (folder / "solver.prototxt").read_text() else "solver"
    weights = folder / f"{prefix}_iter_2.caffemodel"
    assert weights.is_file() and (folder / f"{prefix}_iter_2.solverstate").is_file()
    trained = SGDSolver("solver.prototxt")
    trained.restore(f"{prefix}_iter_2.solverstate")
    rising = [layer for layer in trained.net.layers if layer.type == "Deconvolution"]
    assert rising
    for layer in rising:
        np.testing.assert_array_equal(layer.blobs[0].data, bilinear_weights(layer.blobs[0].shape))
    changed = [p for p, history in zip(trained.net.learnable_params, trained.history) if np.any(history)]
    assert any(p.layer.startswith("score") for p in changed)


@pytest.mark.parametrize(
    ("experiment", "weights"),
    [
        ("voc-fcn8s", "voc-fcn16s/voc-fcn16s.caffemodel"),
        ("nyud-fcn32s-color", "ilsvrc-nets/vgg16-fcn.caffemodel"),
        ("siftflow-fcn16s", "siftflow-fcn32s/siftflow-fcn32s.caffemodel"),
    ],
)
def test_the_repositorys_own_scripts_run(repo, experiment, weights, monkeypatch, capsys):
    """solve.py with surgery.py and score.py, their print statements and numbers of iterations aside."""
    folder = repo / experiment
    narrow(folder)
    prototxt = folder / ("train.prototxt" if experiment.startswith("voc") else "trainval.prototxt")
    write_weights(prototxt, repo / weights)
    for script in (repo / "surgery.py", repo / "score.py", folder / "solve.py"):
        text = as_python_3(script.read_text())
        text = re.sub(r"range\((25|50|75)\)", "range(1)", text)
        text = re.sub(r"solver\.step\(\d+\)", "solver.step(2)", text)
        if "nyud" in experiment:
            text = text.replace("False, val,", "False, test,")  # the script has no val
        script.write_text(text)
    monkeypatch.syspath_prepend(str(repo))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["solve.py", "0"])
    monkeypatch.setenv("FCNLITE_DEVICE", "cpu")
    fcnlite.caffe.install()
    done = runpy.run_path("solve.py", run_name="__main__")
    assert done["solver"].iter == 2
    told = capsys.readouterr().out
    for metric in ("loss", "overall accuracy", "mean accuracy", "mean IU", "fwavacc"):
        assert f"Iteration 2 {metric}" in told
    # The same net scored by fcnlite's own means.
    loss, heads = score(done["solver"].test_nets[0]._net, 2)
    if len(heads) == 1:  # with two losses, score.py tells but one
        assert float(re.findall(r"Iteration 2 loss (\S+)", told)[0]) == pytest.approx(loss, rel=1e-6)
    for head, accuracy, iu in zip(
        heads, re.findall(r"overall accuracy (\S+)", told), re.findall(r"mean IU (\S+)", told)
    ):
        assert float(accuracy) == pytest.approx(head.result.pixel_accuracy)
        assert float(iu) == pytest.approx(np.nanmean(head.result.class_iu))


def test_the_repositorys_own_prediction_runs(repo, monkeypatch):
    """infer.py segments the demo's picture as net.predict does."""
    folder = repo / "voc-fcn8s"
    narrow(folder)
    weights = folder / "fcn8s-heavy-pascal.caffemodel"
    write_weights(folder / "deploy.prototxt", weights)
    for script in ("infer.py", "vis.py"):
        (repo / script).write_text(as_python_3((repo / script).read_text()))
    monkeypatch.delitem(sys.modules, "vis", raising=False)
    monkeypatch.syspath_prepend(str(repo))
    monkeypatch.chdir(repo)
    monkeypatch.setenv("FCNLITE_DEVICE", "cpu")
    fcnlite.caffe.install()
    done = runpy.run_path("infer.py", run_name="__main__")
    expected = Segmenter(folder / "deploy.prototxt", TEST, weights=weights).predict("demo/image.jpg")
    assert len(np.unique(expected)) > 1
    assert (done["out"] == expected).mean() > 0.9999  # the script's mean has more digits
    assert Path("demo/output.png").stat().st_mtime > Path("infer.py").stat().st_mtime - 1
