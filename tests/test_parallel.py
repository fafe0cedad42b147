"""Several processes under mpiexec against one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import cases
import h5py
import mpi
import numpy as np
import own_pictures
import parallel_cases
import pytest
from commands import draw, log, same_weights
from cupy_standin import FOLDER, standing_in
from PIL import Image

from fcnlite import device
from fcnlite.commands import data as check
from fcnlite.commands import evaluate, predict, train
from fcnlite.data.order import ImageOrder
from fcnlite.io import read_state, read_weights
from fcnlite.solver import get_solver

DOUBLE = 1e-12
TIPPING = (
    2  # cases at most in which the last bit of a float may decide what a ReLU or a max pooling passes on
)


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """What 2 and 3 processes come to in each case, against one."""
    folder = tmp_path_factory.mktemp("errors")
    done = mpi.run(3, [parallel_cases.__file__, "chosen", folder], folder)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "errors.json").read_text())


@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_together_train_as_one(errors: dict[str, dict[str, float]], ranks: int) -> None:
    """To the bit where all parameters are small, or with `exact`."""
    assert sorted(errors) == sorted(parallel_cases.CHOSEN)
    for way in ("default", "exact", "mixed"):
        assert all(found[f"{ranks} {way}"] == 0 for found in errors.values()), errors


@pytest.mark.parametrize("ranks", [2, 3])
def test_sums_of_large_parameters_differ_by_rounding(errors: dict[str, dict[str, float]], ranks: int) -> None:
    """To 1e-6, but for cases that tip, which show in double that it is rounding."""
    beyond = [case for case, found in errors.items() if found[f"{ranks} sums"] > parallel_cases.SINGLE]
    assert len(beyond) <= TIPPING, errors
    assert all(errors[case][f"{ranks} double"] <= DOUBLE for case in beyond), errors


def test_gpus_sum_by_nccl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes, each on a GPU of the stand-in CuPy, against one process on one."""
    environment = mpi.environment() | {"FCNLITE_STANDIN_GPUS": "2"}
    environment["PYTHONPATH"] = f"{FOLDER}{os.pathsep}{environment['PYTHONPATH']}"
    command = mpi.command(2, parallel_cases.__file__, "gpus", tmp_path)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    for case in parallel_cases.FEW:
        for kind, size in parallel_cases.GPU_KINDS.items():
            with (
                standing_in(monkeypatch),
                device.using(device.use("cuda")),
                parallel_cases.in_order_up_to(size),
            ):
                expected = parallel_cases.train(case, updates=parallel_cases.FEW_UPDATES)
            bound = parallel_cases.SINGLE if kind == "sums" else 0
            for rank in range(2):
                with np.load(tmp_path / f"{case}-{kind}-{rank}.npz") as found:
                    assert parallel_cases.error(dict(found), expected) <= bound, (case, kind)


SMALL = "train voc --net fcn8s --mirror --width 2 --fc 8 --iter-size 6 --iterations 2 --snapshot 1 --validate 3".split()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of the demo, every third of which is cut, so that a pass draws other masks than the next."""
    folder = draw(tmp_path_factory.mktemp("data"), train=12, val=5)
    for name in (folder / "ImageSets/Segmentation/train.txt").read_text().split()[::3]:
        for path in (folder / f"JPEGImages/{name}.jpg", folder / f"SegmentationClass/{name}.png"):
            with Image.open(path) as picture:
                picture.crop((0, 0, picture.width - 20, picture.height - 10)).save(path)
    return folder


@pytest.fixture(scope="module")
def one(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by one process."""
    run = tmp_path_factory.mktemp("one") / "run"
    assert train.main([*SMALL[1:], "--data", str(data), "--out", str(run), "--threads", "1"]) == 0
    return run


def fcnlite(ranks: int, words: list[object], cwd: Path) -> subprocess.CompletedProcess[str]:
    return mpi.run(ranks, ["-m", "fcnlite", *words], cwd)


def without_times(run: Path) -> list[dict[str, object]]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in log(run)]


def test_a_run_by_three_processes_leaves_what_one_leaves(data: Path, one: Path, tmp_path: Path) -> None:
    """Three processes with two images each an update: --scale-batch makes it the six of one process."""
    words = ["2" if word == "6" else word for word in SMALL]
    done = fcnlite(3, [*words, "--data", data, "--out", "run", "--scale-batch", "--exact"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "6 images an update: --scale-batch for 3 processes" in done.stdout
    assert done.stdout.count("iteration 2 of 2: loss") == 1, done.stdout
    run = tmp_path / "run"
    assert same_weights(run / "fcn8s.h5", one / "fcn8s.h5")
    assert without_times(run) == without_times(one)
    assert sorted(path.name for path in run.rglob("*")) == sorted(path.name for path in one.rglob("*"))
    assert (run / "validation/iter_2.txt").read_text() == (one / "validation/iter_2.txt").read_text()


def test_a_run_goes_on_with_another_number_of_processes(one: Path, tmp_path: Path) -> None:
    state = one / "snapshots/fcn8s_iter_1.solverstate.h5"
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", one, copy], check=True)
    done = fcnlite(2, ["train", "--resume", copy / "snapshots" / state.name, "--exact"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert same_weights(copy / "fcn8s.h5", one / "fcn8s.h5")
    assert without_times(copy) == without_times(one)


@pytest.mark.parametrize(
    "words, error",
    [
        (
            ["train", "shapes", "--iter-size", "5"],
            "fcnlite train: error: iter_size 5 cannot be shared out to 2 processes",
        ),
        ([*SMALL, "--bogus"], "fcnlite train: error: unrecognized arguments: --bogus"),
        (["convert", "a.caffemodel", "b.h5"], "fcnlite convert: error: it works in one process"),
    ],
    ids=["share", "option", "command"],
)
def test_a_mistake_is_told_once(words: list[object], error: str, tmp_path: Path) -> None:
    done = fcnlite(2, words, tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("error: ") == done.stderr.count(error) == 1, done.stderr


def test_a_mistake_in_one_process_alone_ends_all(data: Path, one: Path, tmp_path: Path) -> None:
    """The image that only the second process reads is damaged."""
    folder = tmp_path / "data"
    subprocess.run(["cp", "-r", data, folder], check=True)
    names = (folder / "ImageSets/Segmentation/val.txt").read_text().split()
    (folder / f"JPEGImages/{names[1]}.jpg").write_bytes(b"damaged")
    begun = time.monotonic()
    done = fcnlite(2, ["evaluate", "voc", "--data", folder, "--weights", one / "fcn8s.h5"], tmp_path)
    assert done.returncode == 2 and time.monotonic() - begun < 20
    assert done.stderr.count("error: ") == 1 and names[1] in done.stderr


def test_what_was_learned_is_saved_before_an_error_of_another_process_ends_the_run(
    data: Path, tmp_path: Path
) -> None:
    """The second process alone meets a damaged image, in the third update: one process would save the second."""
    folder = tmp_path / "data"
    subprocess.run(["cp", "-r", data, folder], check=True)
    words = "train voc --net fcn8s --width 2 --fc 8 --iter-size 2 --iterations 8 --no-augment --data".split()
    order = ImageOrder.of_split(12, "train")
    names = (folder / "ImageSets/Segmentation/train.txt").read_text().split()
    shown = [names[next(order)] for _ in range(12)]
    bad = next(
        i for i in range(5, 12, 2) if shown[i] not in shown[:i]
    )  # the second process's, from update 3 on
    picture = folder / f"JPEGImages/{shown[bad]}.jpg"
    picture.write_bytes(picture.read_bytes()[:-300])  # its header still tells the size
    begun = time.monotonic()
    done = fcnlite(2, [*words, folder, "--out", "run"], tmp_path)
    state = tmp_path / f"run/snapshots/fcn8s_iter_{bad // 2}.solverstate.h5"
    assert done.returncode == 2 and time.monotonic() - begun < 20
    assert done.stderr.count("error: ") == 1 and shown[bad] in done.stderr, done.stderr
    assert f"--resume {state.relative_to(tmp_path)}" in done.stderr
    assert read_state(state).iter == bad // 2


def test_a_warning_of_one_process_alone_is_passed_on(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import sys, warnings\n"
        "from fcnlite.commands.options import guarded\n"
        "from fcnlite.parallel import world\n"
        "@guarded('tried', together=True)\n"
        "def main(arguments=None):\n"
        "    warnings.warn(f'met by {world().rank}' if world().rank else 'met by all')\n"
        "    warnings.warn('met by all')\n"
        "    return 0\n"
        "sys.exit(main())\n"
    )
    done = mpi.run(3, ["script.py"], tmp_path)
    assert done.returncode == 0
    met = ["all", "1", "2"]
    assert done.stderr.splitlines() == [f"tried: warning: met by {who}" for who in met], done.stderr


def test_without_mpi4py_nothing_is_done_twice(data: Path, tmp_path: Path) -> None:
    (tmp_path / "mpi4py.py").write_text("raise ImportError('No module named mpi4py')")
    environment = mpi.environment()
    environment["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{environment['PYTHONPATH']}"
    command = mpi.command(2, "-m", "fcnlite", *SMALL, "--data", data, "--out", "run")
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.count("pip install 'fcnlite[mpi]'") == 1
    assert not (tmp_path / "run").exists()


def test_processes_that_slurm_left_alone_are_told_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fcnlite import parallel

    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    parallel.world.cache_clear()
    try:
        assert train.main(["shapes"]) == 2
    finally:
        parallel.world.cache_clear()
    assert "srun --mpi=pmi2" in capsys.readouterr().err


def test_a_killed_process_ends_the_others_and_nothing_saved_is_lost(data: Path, tmp_path: Path) -> None:
    """At five random moments: of a run with its log and validations, and of a solver file that saves all the time."""
    draws = random.Random(8)
    (tmp_path / "net.prototxt").write_text(FETCHING_NET)
    (tmp_path / "solver.prototxt").write_text(PYCAFFE_SOLVER + "iter_size: 6 snapshot: 1 max_iter: 1000000")
    write_items(tmp_path)
    state_files = "[!.]*_iter_*.solverstate*"
    run = [*SMALL, "--iterations", "100000", "--snapshot", "1", "--data", data, "--out", "run"]
    for words in (run, *[["solve", "solver.prototxt", "--score-every", "0", "--overwrite"]] * 4):
        for state in tmp_path.glob(state_files):
            state.unlink()
        started = subprocess.Popen(
            mpi.command(2, "-m", "fcnlite", *words),
            cwd=tmp_path,
            env=mpi.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        folder = tmp_path / "run/snapshots" if words is run else tmp_path
        try:
            _wait(lambda folder=folder: any(folder.glob(state_files)), 60)
            time.sleep(draws.random() / 4)
            os.kill(draws.choice(_children(started.pid)), signal.SIGKILL)
            assert started.wait(10) != 0
        finally:
            started.kill()
        states = list(folder.glob(state_files))
        assert states and all(read_state(state).iter for state in states)
        for state in states:
            assert Path(str(state).replace("solverstate", "caffemodel")).is_file()


def _wait(done: object, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not done():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)


def _children(pid: int) -> list[int]:
    """The processes running Python below a launcher."""
    found, left = [], [pid]
    while left:
        parent = left.pop()
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            for child in map(int, path.read_text().split()):
                left.append(child)
                if "python" in Path(f"/proc/{child}/cmdline").read_text().split("\0")[0]:
                    found.append(child)
    return found


def test_evaluation_and_prediction_are_shared_out(
    data: Path, one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["evaluate", "voc", "--data", data, "--weights", one / "fcn8s.h5", "--save"]
    assert evaluate.main([str(word) for word in [*words[1:], tmp_path / "alone"]]) == 0
    alone = capsys.readouterr().out
    together = fcnlite(3, [*words, tmp_path / "together"], tmp_path)
    assert together.returncode == 0, together.stderr
    assert (
        together.stdout.partition(" s each")[0].rpartition(",")[0]
        == (alone.partition(" s each")[0].rpartition(",")[0])
    )
    for picture in (tmp_path / "alone").glob("*.png"):
        assert (tmp_path / "together" / picture.name).read_bytes() == picture.read_bytes()
    pictures = sorted((data / "JPEGImages").glob("*.jpg"))[:5]
    words = ["predict", *pictures, "--weights", one / "fcn8s.h5", "--out"]
    assert predict.main([str(word) for word in [*words[1:], "p1"]]) == 0
    alone = capsys.readouterr().out
    together = fcnlite(2, [*words, "p2"], tmp_path)
    assert together.stdout.replace("p2", "p1") == alone
    assert sorted(p.name for p in Path("p2").iterdir()) == sorted(p.name for p in Path("p1").iterdir())


def test_a_check_of_pictures_is_shared_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Seven pictures, one of them damaged: the report and the status of one process."""
    own_pictures.draw(tmp_path / "own", count=7)
    (tmp_path / "own/images/p4.jpg").write_bytes(b"damaged")
    assert check.main(["check", str(tmp_path / "own")]) == 1
    alone = capsys.readouterr().out
    together = fcnlite(3, ["data", "check", tmp_path / "own"], tmp_path)
    assert (together.returncode, together.stdout, together.stderr) == (1, alone, "")
    refused = fcnlite(2, ["data", "convert", tmp_path / "own", "--to", "voc"], tmp_path)
    assert refused.returncode == 2 and refused.stderr.count("convert works in one process") == 1


PYCAFFE = """
import numpy as np
import caffe

caffe.set_solver_count(2)
caffe.set_solver_rank(caffe.solver_rank())
caffe.set_multiprocess(True)
solver = caffe.get_solver("both.prototxt")
nccl = caffe.NCCL(solver, caffe.NCCL.new_uid())
nccl.bcast()
solver.add_callback(nccl)
for update in range(4):
    item = np.random.default_rng(2 * update + caffe.solver_rank())
    solver.net.blobs["data"].data[...] = item.standard_normal((1, 2, 6, 6))
    solver.net.blobs["label"].data[...] = item.integers(0, 3, (1, 1, 6, 6))
    solver.step(1)
solver.snapshot()
fetching = caffe.get_solver("fetching.prototxt")
fetching.step(4)
fetching.snapshot()
"""
PYCAFFE_NET = """
input: "data" input_shape { dim: 1 dim: 2 dim: 6 dim: 6 } input: "label" input_shape { dim: 1 dim: 1 dim: 6 dim: 6 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 3 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "conv" bottom: "label" top: "loss" }
"""
PYCAFFE_FETCHING_NET = (
    'layer { name: "items" type: "HDF5Data" top: "data" top: "label" '
    'hdf5_data_param { source: "list.txt" batch_size: 1 } }\n' + PYCAFFE_NET.strip().partition("\n")[2]
)
PYCAFFE_SOLVER = """
net: 'net.prototxt' base_lr: 0.1 momentum: 0.9 lr_policy: 'fixed' random_seed: 3 snapshot_prefix: 'both'
"""


def test_pycaffes_solvers_train_together_as_caffes_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process has a batch of its own, and the update is by the mean: one process with iter_size 2."""
    for name, net in (("both", PYCAFFE_NET), ("fetching", PYCAFFE_FETCHING_NET)):
        (tmp_path / f"{name}_net.prototxt").write_text(net)
        solver = PYCAFFE_SOLVER.replace("net.", f"{name}_net.").replace("both'", f"{name}'")
        (tmp_path / f"{name}.prototxt").write_text(solver)
        (tmp_path / f"{name}_alone.prototxt").write_text(solver + " iter_size: 2")
    write_items(tmp_path)
    (tmp_path / "script.py").write_text(PYCAFFE)
    done = fcnlite(2, ["caffe", "script.py"], tmp_path)
    assert done.returncode == 0, done.stderr

    def items() -> Iterator[dict[str, np.ndarray]]:
        for number in range(8):
            item = np.random.default_rng(number)
            yield {"data": item.standard_normal((1, 2, 6, 6)), "label": item.integers(0, 3, (1, 1, 6, 6))}

    sources = {"both": items(), "fetching": None}
    monkeypatch.chdir(tmp_path)
    for name, source in sources.items():
        alone = get_solver(f"{name}_alone.prototxt", source=source)
        alone.step(4)
        together = read_weights(f"{name}_iter_4.caffemodel")
        for index, blob in enumerate(alone.net.params["conv"]):
            assert cases.relative_error(together["conv"][index], blob.data) <= 1e-6, name


def write_items(folder: Path) -> None:
    """Seven rows for HDF5Data, and the list that names their file."""
    with h5py.File(folder / "items.h5", "w") as file:
        draws = np.random.default_rng(4)
        file["data"] = draws.standard_normal((7, 2, 6, 6)).astype(np.float32)
        file["label"] = draws.integers(0, 3, (7, 1, 6, 6)).astype(np.float32)
    (folder / "list.txt").write_text("items.h5\n")


def test_solve_shares_out_what_its_nets_fetch(tmp_path: Path) -> None:
    """A net that fetches its own data, with dropout, and a test net: the bits of one process."""
    (tmp_path / "net.prototxt").write_text(FETCHING_NET)
    write_items(tmp_path)
    words = ["solve", "solver.prototxt", "--exact"]
    logs = {}
    for ranks in (1, 3):
        solver = FETCHING_SOLVER.replace("RANKS", str(ranks))
        (tmp_path / "solver.prototxt").write_text(solver)
        done = fcnlite(ranks, words, tmp_path)
        assert done.returncode == 0, done.stderr
        logs[ranks] = [line.partition(" ")[2] for line in done.stderr.splitlines() if "Iteration" in line]
    assert logs[1] == logs[3] and any("test net 0" in line for line in logs[1])
    assert same_weights(tmp_path / "by1_iter_4.caffemodel", tmp_path / "by3_iter_4.caffemodel")


FETCHING_NET = """
layer { name: "items" type: "HDF5Data" top: "data" top: "label" hdf5_data_param { source: "list.txt" batch_size: 2 } }
layer { name: "drop" type: "Dropout" bottom: "data" top: "drop" }
layer { name: "conv" type: "Convolution" bottom: "drop" top: "conv"
  convolution_param { num_output: 3 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "conv" bottom: "label" top: "loss" }
"""
FETCHING_SOLVER = """
net: 'net.prototxt' base_lr: 0.1 momentum: 0.9 lr_policy: 'fixed' random_seed: 3 iter_size: 6 max_iter: 4
test_iter: 5 test_interval: 2 display: 1 snapshot_prefix: 'byRANKS'
"""
