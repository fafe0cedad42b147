"""Whatever ends a run saves first, and nothing that is not a number is saved or loaded."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import NARROW, draw, ends, fails, log, same_weights

from fcnlite import scoring
from fcnlite.caffe import Net as CaffeNet
from fcnlite.commands import predict, solve
from fcnlite.commands.train import main
from fcnlite.errors import InputError, InputWarning
from fcnlite.io import read_weights, write_weights
from fcnlite.net import load
from fcnlite.solver import SGDSolver
from fcnlite.training import trainer
from fcnlite.training.run_folder import RunFolder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("data") / "shapes", train=4, val=1)


def options(data: Path, out: Path, *more: object) -> list[object]:
    start = [
        "voc",
        "--data",
        data,
        "--net",
        "fcn8s",
        *NARROW,
        "--device",
        "cpu",
        "--out",
        out,
        "--order",
        "file",
    ]
    return [*start, "--recipe", "scratch", "--iterations", 4, "--snapshot", 0, "--validate", 0, *more]


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert ends(main, options(data, out)) == 0
    return out


def goes_on(out: Path, whole: Path, state: str) -> None:
    """Check that a run goes on from a state to the weights of the run that nothing ended."""
    assert ends(main, ["voc", "--resume", out / "snapshots" / state, "--device", "cpu"]) == 0
    assert same_weights(out / "fcn8s.h5", whole / "fcn8s.h5") and len(log(out)) == 4


def test_a_bad_image_ends_a_run_that_can_go_on(data: Path, whole: Path, tmp_path: Path, capsys) -> None:
    copy, out = tmp_path / "data", tmp_path / "run"
    shutil.copytree(data, copy)
    names = (copy / "ImageSets" / "Segmentation" / "train.txt").read_text().split()
    image = copy / "JPEGImages" / f"{names[2]}.jpg"
    good, state = image.read_bytes(), "fcn8s_iter_2.solverstate.h5"
    image.write_bytes(good[:300])
    line = fails(capsys, main, options(copy, out), f"cannot read image {image}", "stopped after iteration 2")
    assert line.endswith(f"at {names[2]}; go on with: fcnlite train voc --resume {out / 'snapshots' / state}")
    image.write_bytes(good)
    goes_on(out, whole, state)


def test_a_full_log_disk_ends_a_run_that_can_go_on(
    data: Path, whole: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    write = RunFolder.log

    def full(self: RunFolder, record: dict) -> None:
        if record["iteration"] == 3:
            raise OSError(errno.ENOSPC, "No space left on device", "log.jsonl")
        write(self, record)

    monkeypatch.setattr(RunFolder, "log", full)
    fails(
        capsys,
        main,
        options(data, tmp_path / "run"),
        "log.jsonl: No space left",
        "after iteration 3",
        "--resume",
    )
    monkeypatch.setattr(RunFolder, "log", write)
    assert (tmp_path / "run" / "snapshots" / "fcn8s_iter_3.solverstate.h5").exists()
    assert ends(main, ["voc", "--resume", tmp_path / "run", "--device", "cpu"]) == 0
    assert same_weights(tmp_path / "run" / "fcn8s.h5", whole / "fcn8s.h5")


def test_an_error_in_validation_names_the_snapshot_before_it(
    data: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise InputError("cannot read image x.jpg")

    monkeypatch.setattr(trainer, "evaluate", broken)
    more = ["--snapshot", 2, "--validate", 1]
    line = fails(capsys, main, options(data, tmp_path / "run", *more), "x.jpg", "after iteration 2")
    assert line.endswith(f"--resume {tmp_path / 'run' / 'snapshots' / 'fcn8s_iter_2.solverstate.h5'}")
    assert scoring.evaluate is not broken


def test_a_loss_that_is_no_number_is_not_saved(data: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "run"
    line = fails(capsys, main, options(data, out, "--lr", 1e30, "--clip", 0), "the loss became", "--lr")
    assert line.endswith(f"--resume {out}") and not (out / "snapshots").exists()


SOLVER = """
net_param {
  layer { name: "d" type: "DummyData" top: "x" top: "y" dummy_data_param { shape { dim: 1 dim: 2 }
    data_filler { type: "constant" value: 1 } data_filler { type: "constant" value: 3 } } }
  layer { name: "ip" type: "InnerProduct" bottom: "x" top: "z" inner_product_param { num_output: 2
    weight_filler { type: "constant" value: 0.5 } } }
  layer { name: "loss" type: "EuclideanLoss" bottom: "z" bottom: "y" top: "loss" }
}
lr_policy: "fixed" snapshot_format: HDF5 max_iter: 40 snapshot: 10 base_lr: """


def test_a_solver_files_run_saves_no_weights_that_are_no_numbers(tmp_path: Path, capsys) -> None:
    path = tmp_path / "solver.prototxt"
    path.write_text(SOLVER + "3e4")
    fails(capsys, solve.main, [path, "--device", "cpu"], "layer 'ip' hold NaN", "lower the learning rate")
    assert not list(tmp_path.glob("*.h5")) and not list(tmp_path.glob(".*"))
    path.write_text(SOLVER + "3")
    capsys.readouterr()


def failing_at(iteration: int, error: Exception) -> Callable[..., None]:
    """`SGDSolver.step` that ends with an error when it comes to the iteration."""
    step = SGDSolver.step

    def failing(self: SGDSolver, count: int = 1) -> None:
        if self.iter == iteration:
            raise error
        step(self, count)

    return failing


def test_a_solver_files_run_saves_before_an_error_ends_it(tmp_path: Path, capsys, monkeypatch) -> None:
    path, step = tmp_path / "solver.prototxt", SGDSolver.step
    path.write_text(SOLVER + "0.01")
    monkeypatch.setattr(SGDSolver, "step", failing_at(13, InputError("cannot read image x.jpg")))
    line = fails(capsys, solve.main, [path, "--device", "cpu"], "x.jpg; the run stopped after iteration 13")
    state = tmp_path / "solver_iter_13.solverstate.h5"
    assert line.endswith(f"go on with: --resume {state}") and state.exists()
    monkeypatch.setattr(SGDSolver, "step", step)
    assert ends(solve.main, [path, "--resume", state, "--device", "cpu"]) == 0
    resumed = read_weights(tmp_path / "solver_iter_40.caffemodel.h5")
    assert ends(solve.main, [path, "--device", "cpu", "--overwrite"]) == 0
    for a, b in zip(resumed["ip"], read_weights(tmp_path / "solver_iter_40.caffemodel.h5")["ip"]):
        np.testing.assert_array_equal(a, b)


def test_a_solver_files_run_saves_before_an_error_of_the_users_code_ends_it(
    tmp_path: Path, capsys, monkeypatch
) -> None:
    """A layer of one's own may raise anything; its traceback is shown."""
    path = tmp_path / "solver.prototxt"
    path.write_text(SOLVER + "0.01")
    monkeypatch.setattr(SGDSolver, "step", failing_at(13, KeyError("mine")))
    with pytest.raises(KeyError, match="mine"):
        solve.main([str(path), "--device", "cpu"])
    state = tmp_path / "solver_iter_13.solverstate.h5"
    assert state.exists() and f"go on with: --resume {state}" in capsys.readouterr().err


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused_unless_allowed(tmp_path: Path, capsys, value: float) -> None:
    net = """
      layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } } }
      layer { name: "score" type: "Convolution" bottom: "data" top: "score"
        convolution_param { num_output: 2 kernel_size: 1 } }"""
    weights, bias = np.zeros((2, 3, 1, 1), np.float32), np.array([0, value], np.float32)
    path = tmp_path / "w.h5"
    write_weights(path, {"score": [weights, bias]}, deploy=net)
    told = f"{path}: layer 'score' holds NaN or infinite numbers"
    with pytest.raises(InputError, match=told):
        load(path)
    assert load(path, allow_nonfinite=True).params["score"][1].data[0] == 0
    fails(capsys, predict.main, ["p.png", "--weights", path, "--out", tmp_path / "o"], told)
    with pytest.warns(InputWarning, match=told):  # as pycaffe, which takes anything
        (tmp_path / "net.prototxt").write_text(net)
        CaffeNet(str(tmp_path / "net.prototxt"), str(path), 1)
