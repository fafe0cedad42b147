"""The train command: runs, their folders, going on, and what it says of mistakes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import NARROW, draw, ends, fails, log, python, same_weights
from cupy_standin import standing_in
from PIL import Image

import fcnlite
from fcnlite import device, models
from fcnlite.commands.train import main, parser
from fcnlite.io import read_notes, read_state, read_weights, write_weights
from fcnlite.net import Net, load
from fcnlite.solver import SGDSolver
from fcnlite.surgery import bilinear_weights
from fcnlite.training.plan import plan_from
from fcnlite.training.run_folder import RunFolder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("data") / "shapes")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 6 iterations with snapshots after 3 and 6."""
    out = tmp_path_factory.mktemp("runs") / "six"
    options = [*NARROW, "--iterations", 6, "--snapshot", 3, "--out", out, "--mirror", "--jitter", 8]
    options += ["--final", "last", "--device", "cpu"]
    assert ends(main, ["voc", "--data", data, "--net", "fcn8s", *options]) == 0
    return out


def train(data: Path, out: Path, *options: object) -> int:
    return ends(main, ["voc", "--data", data, "--net", "fcn8s", "--out", out, *options])


def test_run_folder(run: Path, data: Path) -> None:
    names = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
    assert names == [
        "deploy.prototxt",
        "fcn8s.h5",
        "log.jsonl",
        "loss.png",
        "settings.json",
        "snapshots/fcn8s_iter_3.caffemodel.h5",
        "snapshots/fcn8s_iter_3.solverstate.h5",
        "snapshots/fcn8s_iter_6.caffemodel.h5",
        "snapshots/fcn8s_iter_6.solverstate.h5",
        "solver.prototxt",
        "train.prototxt",
        "validation/iter_0.json",
        "validation/iter_0.png",
        "validation/iter_0.txt",
        "validation/iter_3.json",
        "validation/iter_3.png",
        "validation/iter_3.txt",
        "validation/iter_6.json",
        "validation/iter_6.png",
        "validation/iter_6.txt",
    ]
    settings = json.loads((run / "settings.json").read_text())
    assert settings["plan"]["width"] == 2 and settings["plan"]["iterations"] == 6
    assert settings["classes"]["label"][:2] == ["background", "circle"]
    scores = json.loads((run / "validation" / "iter_6.json").read_text())
    assert scores["images"] == 2 and 0 < scores["labels"]["label"]["pixel_accuracy"] <= 1
    for picture in ("loss.png", "validation/iter_6.png"):
        assert min(Image.open(run / picture).size) > 100


def test_log_tells_each_iteration(run: Path, data: Path) -> None:
    records = log(run)
    assert [record["iteration"] for record in records] == [1, 2, 3, 4, 5, 6]
    losses = [record["loss"] for record in records]
    assert losses[0] == pytest.approx(np.log(7), rel=1e-3)  # scores start at zero: every class is as likely
    assert records[-1]["smoothed_loss"] == pytest.approx(np.mean(losses))
    rates = [record["lr"] for record in records]
    base = plan_from({"data_set": "voc", "data": str(data), "width": 2}).lr
    assert rates == pytest.approx([base * (1 - i / 6) ** 0.9 for i in range(6)])
    listed = (data / "ImageSets/Segmentation/train.txt").read_text().split()
    assert all(record["images"][0] in listed and record["seconds"] > 0 for record in records)


def test_on_a_gpu_a_loss_is_read_an_iteration_later(data: Path, tmp_path: Path, monkeypatch: Any) -> None:
    options = ["--iterations", 4, "--snapshot", 2, *NARROW]
    assert train(data, tmp_path / "cpu", *options, "--device", "cpu") == 0
    read_at: list[int] = []
    begun = 0

    def step(solver: SGDSolver, count: int = 1, original: Any = SGDSolver.step) -> None:
        nonlocal begun
        original(solver, count)
        begun += count

    monkeypatch.setattr(SGDSolver, "step", step)
    with standing_in(monkeypatch) as cupy:
        event = cupy.cuda.Event
        synchronize = event.synchronize
        monkeypatch.setattr(event, "synchronize", lambda e: (read_at.append(begun), synchronize(e)))
        assert train(data, tmp_path / "cuda", *options, "--device", "cuda") == 0
    assert read_at == [2, 2, 4, 4]  # the second time the snapshot's, and the end's, turn has come
    here, there = log(tmp_path / "cpu"), log(tmp_path / "cuda")
    assert [r.keys() for r in here] == [r.keys() for r in there]
    for mine, theirs in zip(there, here, strict=True):
        assert mine["seconds"] > 0
        for key in ("iteration", "lr", "images"):
            assert mine[key] == theirs[key]
        for key in ("loss", "smoothed_loss"):
            assert mine[key] == pytest.approx(theirs[key], rel=1e-3)  # the CPU adds up pixel after pixel


def test_final_weights_load_with_classes(run: Path) -> None:
    net = load(run / "fcn8s.h5")
    assert net.notes.classes["score"][1] == "circle" and net.blobs["score"].shape[1] == 7
    assert same_weights(run / "fcn8s.h5", run / "snapshots/fcn8s_iter_6.caffemodel.h5")
    label = net.predict(np.zeros((70, 90, 3), np.uint8))
    assert label.shape == (70, 90) and label.max() < 7
    for layer in ("upscore2", "upscore_pool4", "upscore8"):
        weights = net.params[layer][0].data
        assert np.array_equal(device.current().tonumpy(weights), bilinear_weights(weights.shape))


def test_training_changes_all_it_should(run: Path) -> None:
    one = read_weights(run / "snapshots/fcn8s_iter_3.caffemodel.h5")
    six = read_weights(run / "fcn8s.h5")
    for layer, arrays in six.items():
        same = all(np.array_equal(a, b) for a, b in zip(arrays, one[layer]))
        assert same == (layer.startswith(("up", "scale")) or not arrays), layer


@pytest.mark.parametrize("threads", [1, 2])
def test_same_seed_same_bits_whatever_the_threads(
    run: Path, data: Path, tmp_path: Path, threads: int
) -> None:
    options = [*NARROW, "--iterations", 6, "--snapshot", 0, "--validate", 0, "--mirror", "--jitter", 8]
    assert train(data, tmp_path / "again", *options, "--threads", threads) == 0
    assert same_weights(run / "fcn8s.h5", tmp_path / "again" / "fcn8s.h5")


def test_other_seed_other_weights(run: Path, data: Path, tmp_path: Path) -> None:
    assert train(data, tmp_path / "r", *NARROW, "--iterations", 1, "--validate", 0, "--seed", 5) == 0
    assert not same_weights(run / "fcn8s.h5", tmp_path / "r" / "fcn8s.h5")


def test_resumed_run_has_the_same_bits(run: Path, tmp_path: Path) -> None:
    # A copy of the run as it was when it was cut short after the first snapshot, a few iterations on.
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    for name in ("fcn8s.h5", "snapshots/fcn8s_iter_6.caffemodel.h5", "snapshots/fcn8s_iter_6.solverstate.h5"):
        (copy / name).unlink()
    lines = (copy / "log.jsonl").read_text().splitlines()
    (copy / "log.jsonl").write_text("\n".join(lines[:5]) + '\n{"iteration": 6, "lo')
    assert ends(main, ["voc", "--resume", copy]) == 0
    assert same_weights(run / "fcn8s.h5", copy / "fcn8s.h5")
    one, other = (read_state(f / "snapshots/fcn8s_iter_6.solverstate.h5") for f in (run, copy))
    assert all(np.array_equal(a, b) for a, b in zip(one.history, other.history))

    def without_time(folder: Path) -> list[dict[str, object]]:
        return [{key: value for key, value in record.items() if key != "seconds"} for record in log(folder)]

    assert without_time(run) == without_time(copy)


def test_resume_names_a_state_and_may_go_further(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    state = copy / "snapshots" / "fcn8s_iter_3.solverstate.h5"
    assert ends(main, ["--resume", state, "--iterations", 7, "--validate", 1]) == 0
    assert [record["iteration"] for record in log(copy)] == [1, 2, 3, 4, 5, 6, 7]
    assert json.loads((copy / "settings.json").read_text())["plan"]["iterations"] == 7
    assert json.loads((copy / "validation" / "iter_7.json").read_text())["images"] == 1


def test_a_finished_run_resumed_just_concludes(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "fcn8s.h5").unlink()
    assert ends(main, ["--resume", copy]) == 0
    assert same_weights(run / "fcn8s.h5", copy / "fcn8s.h5") and len(log(copy)) == 6


@pytest.mark.parametrize("signal_sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_by_a_signal_it_says_how_to_go_on(data: Path, tmp_path: Path, signal_sent: int) -> None:
    out = tmp_path / "run"
    options = ["--data", data, "--net", "fcn8s", *NARROW, "--out", out, "--iterations", 5000, "--validate", 0]
    process = subprocess.Popen(
        python("-m", "fcnlite.train", "voc", *options),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (out / "log.jsonl").is_file() or len((out / "log.jsonl").read_text()) < 400:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal_sent)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + signal_sent
    done = log(out)[-1]["iteration"]
    state = out / "snapshots" / f"fcn8s_iter_{done}.solverstate.h5"
    assert f"fcnlite train voc --resume {state}" in said and "Traceback" not in said
    assert ends(main, ["voc", "--resume", state, "--iterations", done + 1]) == 0
    assert log(out)[-1]["iteration"] == done + 1


def test_started_from_weights_by_the_heavy_recipe(run: Path, data: Path, tmp_path: Path, capsys) -> None:
    """From the run's FCN-8s: the same width without being told."""
    out = tmp_path / "fine"
    capsys.readouterr()
    options = [
        "--init",
        run / "fcn8s.h5",
        "--iterations",
        1,
        "--validate",
        0,
        "--out",
        out,
        "--recipe",
        "heavy",
    ]
    assert ends(main, ["voc", "--data", data, "--net", "fcn8s", *options]) == 0
    plan = json.loads((out / "settings.json").read_text())["plan"]
    told = {key: plan[key] for key in ("width", "fc", "lr", "momentum", "normalize", "power", "average_loss")}
    assert told == {
        "width": 2, "fc": 8, "lr": 1e-14, "momentum": 0.99, "normalize": False, "power": 0, "average_loss": 20
    }  # fmt: skip
    assert f"from {run / 'fcn8s.h5'}" in capsys.readouterr().out
    # Weights from nothing were trained with scaled pixels; what starts from them has to scale them, too.
    assert read_weights(out / "fcn8s.h5")["scale_data"][0] == pytest.approx(1 / 64)
    # At such a rate nothing moves: what was learned is there.
    assert np.allclose(
        read_weights(out / "fcn8s.h5")["conv3_1"][0], read_weights(run / "fcn8s.h5")["conv3_1"][0]
    )


def test_started_from_a_classifier(data: Path, tmp_path: Path) -> None:
    fcnlite.set_random_seed(3)
    classifier = Net(models.vgg16(classes=11, width=2, fc=8, filler={"type": "msra"}), phase="TEST")
    classifier.save(tmp_path / "vgg.caffemodel")
    out = tmp_path / "run"
    options = ["--init", tmp_path / "vgg.caffemodel", "--iterations", 1, "--validate", 0, "--out", out]
    assert ends(main, ["voc", "--data", data, *options]) == 0
    learned, given = read_weights(out / "fcn32s.h5"), read_weights(tmp_path / "vgg.caffemodel")
    assert learned["fc6"][0].shape == (8, 16, 7, 7) and "scale_data" not in learned
    assert np.allclose(learned["fc6"][0].ravel(), given["fc6"][0].ravel(), atol=1e-4)
    assert (
        np.abs(learned["score_fr"][0]).max() <= 2e-3 * 2
    )  # from zero, by at most the rate times the clipped norm


def test_scores_for_other_classes_start_afresh(run: Path, data: Path, tmp_path: Path, capsys) -> None:
    weights = read_weights(run / "fcn8s.h5")
    for layer in ("score_fr", "score_pool3", "score_pool4"):
        weights[layer] = [a[:3] for a in weights[layer]]
    for layer in ("upscore2", "upscore_pool4", "upscore8"):
        weights[layer] = [a[:3, :3] for a in weights[layer]]
    write_weights(tmp_path / "three.h5", weights)
    out = tmp_path / "run"
    capsys.readouterr()
    assert train(data, out, "--init", tmp_path / "three.h5", "--iterations", 1, "--validate", 0) == 0
    assert "scores for other classes left out: score_fr" in capsys.readouterr().out
    assert read_weights(out / "fcn8s.h5")["score_fr"][0].shape[0] == 7
    assert log(out)[0]["loss"] == pytest.approx(np.log(7), rel=1e-3)  # scores that start at zero


def test_sample_order_from_the_file(data: Path, tmp_path: Path) -> None:
    options = [*NARROW, "--iterations", 5, "--order", "file", "--iter-size", 2, "--validate", 0]
    assert train(data, tmp_path / "r", *options) == 0
    names = (data / "ImageSets/Segmentation/train.txt").read_text().split()
    assert [name for record in log(tmp_path / "r") for name in record["images"]] == (names * 3)[:10]


def test_folder_without_validation_images(data: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(data, own)
    (own / "ImageSets/Segmentation/val.txt").unlink()
    assert train(own, tmp_path / "r", *NARROW, "--iterations", 1) == 0
    assert not (tmp_path / "r" / "validation").exists()


def test_default_folders(data: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("voc-fcn32s", "voc-fcn32s-2"):
        assert ends(main, ["voc", "--data", data, *NARROW, "--iterations", 1, "--validate", 0]) == 0
        assert (tmp_path / "runs" / name / "fcn32s.h5").is_file()


def test_the_demo_is_the_default_and_draws_its_data(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ends(main, [*NARROW, "--iterations", 1, "--validate", 1]) == 0
    run = tmp_path / "runs" / "shapes-fcn8s"
    assert len((run / "data/ImageSets/Segmentation/train.txt").read_text().split()) > 100
    assert read_notes(run / "fcn8s.h5")["classes"]["score"][-1] == "cross"


# The defaults: the paper's numbers


@pytest.mark.parametrize(
    "net, lr, iterations",
    [
        ("fcn32s", 1e-10, 100_000),
        ("fcn16s", 1e-12, 100_000),
        ("fcn8s", 1e-14, 100_000),
        ("fcn8s-atonce", 1e-10, 300_000),
    ],
)
def test_heavy_recipe_is_the_default(
    run: Path, data: Path, tmp_path: Path, net: str, lr: float, iterations: int
) -> None:
    shutil.copytree(data, tmp_path / "voc")
    (tmp_path / "voc" / "classes.txt").unlink()  # as VOC itself
    given = vars(
        parser().parse_args(
            ["voc", "--data", str(tmp_path / "voc"), "--net", net, "--init", str(run / "fcn8s.h5")]
        )
    )
    plan = plan_from(given)
    assert (plan.lr, plan.iterations, plan.momentum, plan.weight_decay) == (lr, iterations, 0.99, 5e-4)
    assert (plan.iter_size, plan.normalize, plan.average_loss, plan.snapshot) == (1, False, 20, 4000)
    assert (plan.order, plan.mirror, plan.jitter, plan.seed) == ("random", False, 0, 1337)


def test_nets_and_splits_of_other_data_sets() -> None:
    plan = plan_from({"data_set": "siftflow", "net": "fcn8s"})
    assert (plan.net, plan.split, plan.val_split) == ("siftflow-fcn8s", "trainval", "test")
    plan = plan_from({"data_set": "nyudv2", "net": "nyud-fcn32s-color-hha"})
    assert plan.data_options == {"mode": "rgb-hha"} == plan.val_options
    plan = plan_from({"data_set": "nyudv2", "net": "nyud-fcn16s-color-hha", "recipe": "heavy"})
    assert plan.data_options == {"mode": "rgb-hha"} and plan.lr == 1e-14


# Mistakes


def test_missing_data_is_told_in_one_line(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    fails(capsys, main, ["voc"], "data/voc", "host.robots.ox.ac.uk", "--data", "fcnlite train shapes")
    fails(capsys, main, ["voc", "--data", tmp_path], str(tmp_path), "ImageSets/Segmentation", "looked in")
    assert list(tmp_path.iterdir()) == []


def test_misspelt_words(data: Path, capsys) -> None:
    fails(capsys, main, ["voc", "--itterations", 3], "--itterations", "did you mean --iterations?")
    fails(capsys, main, ["vocc", "--data", data], "'vocc'", "did you mean 'voc'?")
    fails(capsys, main, ["voc", "--data", data, "--net", "fcn8"], "'fcn8'", "did you mean 'fcn8s'?")
    fails(capsys, main, ["voc", "--data", data, "--width", "many"], "--width", "'many' is not a whole number")
    fails(capsys, main, ["voc", "--data", data, "--lr", "-1"], "--lr", "'-1' is not a number above 0")
    fails(capsys, main, ["siftflow", "--year", 2012], "--year is not an option of the data set siftflow")


def test_a_net_for_another_data_set(data: Path, tmp_path: Path, capsys) -> None:
    arguments = ["voc", "--data", data, "--net", "siftflow-fcn32s", "--width", 1, "--out", tmp_path / "run"]
    fails(capsys, main, arguments, "siftflow-fcn32s reads data, sem, geo", "data, label", "another data set")
    assert not (tmp_path / "run").exists()


def test_bad_weights(run: Path, data: Path, tmp_path: Path, capsys) -> None:
    start = ["voc", "--data", data, "--net", "fcn8s", "--out", tmp_path / "r"]
    whole = (run / "fcn8s.h5").read_bytes()
    cut = tmp_path / "cut.h5"
    cut.write_bytes(whole[: len(whole) // 2])
    fails(capsys, main, [*start, "--init", cut], str(cut), "damaged")
    fails(capsys, main, [*start, "--init", tmp_path / "none.h5"], "none.h5", "no such file")
    fails(capsys, main, [*start, "--init", run / "loss.png"], "loss.png", "not a Caffe model")
    fails(
        capsys,
        main,
        [*start, "--init", run / "fcn8s.h5", "--width", 3],
        "fcn8s.h5",
        "conv1_1",
        "(2, 3, 3, 3)",
    )
    some = {layer: arrays for layer, arrays in read_weights(run / "fcn8s.h5").items() if layer != "conv4_2"}
    write_weights(tmp_path / "some.h5", some)
    fails(capsys, main, [*start, "--init", tmp_path / "some.h5"], "nothing in it for conv4_2")
    write_weights(tmp_path / "other.h5", {"dense": [np.ones(3)]})
    fails(capsys, main, [*start, "--init", tmp_path / "other.h5"], "other.h5", "dense")
    assert not (tmp_path / "r").exists()


def test_bad_resume(run: Path, data: Path, tmp_path: Path, capsys) -> None:
    fails(capsys, main, ["--resume", tmp_path / "none"], "none", "no such file or folder")
    fails(capsys, main, ["--resume", run, "--width", 3], "--width 3", "leave --width out")
    fails(capsys, main, ["--resume", run, "--iterations", 2], "iteration 6", "--iterations 2")
    fails(capsys, main, ["siftflow", "--resume", run], "trains on voc")
    fails(capsys, main, ["--resume", run, "--out", tmp_path / "x"], "leave --out out")
    # A state from elsewhere: nothing tells its net but the options.
    state = run / "snapshots" / "fcn8s_iter_6.solverstate.h5"
    shutil.copy(state, tmp_path / "lone.solverstate.h5")
    options = [
        "voc",
        "--data",
        data,
        "--net",
        "fcn8s",
        "--out",
        tmp_path / "r",
        "--resume",
        tmp_path / "lone.solverstate.h5",
    ]
    fails(capsys, main, [*options, "--width", 3, "--fc", 8], "lone.solverstate.h5", "does not fit")
    assert not (tmp_path / "r").exists()


def test_a_state_from_elsewhere_goes_on_in_a_new_run(run: Path, data: Path, tmp_path: Path) -> None:
    for path in (run / "snapshots").glob("*_3.*"):
        shutil.copy(path, tmp_path)
    state = tmp_path / "fcn8s_iter_3.solverstate.h5"
    options = [*NARROW, "--iterations", 4, "--resume", state, "--recipe", "scratch", "--validate", 0]
    assert train(data, tmp_path / "r", *options) == 0
    assert [record["iteration"] for record in log(tmp_path / "r")] == [4]


def test_folders_that_are_taken(run: Path, data: Path, tmp_path: Path, capsys) -> None:
    start = ["voc", "--data", data, "--net", "fcn8s", *NARROW]
    before = sorted(run.rglob("*"))
    fails(capsys, main, [*start, "--out", run], str(run), "another run", f"--resume {run}")
    (tmp_path / "letter.txt").write_text("mine")
    fails(capsys, main, [*start, "--out", tmp_path], "other files", "--out")
    fails(capsys, main, [*start, "--out", tmp_path / "letter.txt"], "letter.txt is a file")
    assert sorted(run.rglob("*")) == before and (tmp_path / "letter.txt").read_text() == "mine"


def test_unwritable_folder(data: Path, capsys, monkeypatch) -> None:
    """Root would write anywhere; where the tests are run by root, the run's folder is made as another user."""
    create = RunFolder.create

    def create_as_user(path: Path, **options: Any) -> RunFolder:
        user = os.geteuid()
        os.seteuid(user or 65534)
        try:
            return create(path, **options)
        finally:
            os.seteuid(user)

    monkeypatch.setattr(RunFolder, "create", create_as_user)
    with tempfile.TemporaryDirectory() as closed:
        Path(closed).chmod(0o555)
        run = Path(closed) / "r"
        fails(capsys, main, ["voc", "--data", data, *NARROW, "--out", run], f"{run}: Permission denied")


def test_out_below_a_file(data: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("")
    fails(
        capsys,
        main,
        ["voc", "--data", data, *NARROW, "--out", tmp_path / "file" / "r"],
        "file/r: Not a directory",
    )


def test_unreadable_label_is_named(data: Path, tmp_path: Path, capsys) -> None:
    own = tmp_path / "own"
    shutil.copytree(data, own)
    for path in (own / "SegmentationClass").iterdir():
        path.write_bytes(path.read_bytes()[:50])
    fails(capsys, main, ["voc", "--data", own, *NARROW, "--out", tmp_path / "r"], "SegmentationClass", ".png")


def test_a_rate_that_explodes_is_told(data: Path, tmp_path: Path, capsys) -> None:
    options = [*NARROW, "--lr", "1e30", "--iterations", 50, "--validate", 0, "--out", tmp_path / "r"]
    fails(
        capsys, main, ["voc", "--data", data, "--net", "fcn8s", *options], "the loss became", "--lr", "1e+30"
    )


@pytest.mark.parametrize(
    ("setting", "value", "word"),
    [
        ("lr", "x", 'lr is "x", not a finite number'),
        ("lr", float("nan"), "lr is NaN"),
        ("iterations", 10**30, "not from 1"),
        ("average_loss", 0, "not from 1"),
        ("mirror", 1, "not true or false"),
        ("order", "any", "not one of random, file"),
        ("init", [7], "init[0] is 7"),
        ("data", "\0", "not a string"),
        ("val_options", [1], "not an object"),
    ],
)
def test_damaged_settings_are_named(
    run: Path, tmp_path: Path, capsys, setting: str, value, word: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    settings = json.loads((copy / "settings.json").read_text())
    settings["plan"][setting] = value
    (copy / "settings.json").write_text(json.dumps(settings))
    fails(capsys, main, ["--resume", copy], str(copy / "settings.json"), word)


@pytest.mark.parametrize(
    "line", ["[1]", '{"iteration": 3}', '{"iteration": "3", "loss": 1, "lr": 1}', "\\", "[" * 9999]
)
def test_a_damaged_log_is_told_and_kept(run: Path, tmp_path: Path, capsys, line: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    text = (copy / "log.jsonl").read_text() + line + "\n"
    (copy / "log.jsonl").write_text(text)
    fails(capsys, main, ["--resume", copy], "log.jsonl, line 7,", "damaged")
    assert (copy / "log.jsonl").read_text() == text


def test_a_share_of_patches_beyond_all_reason(data: Path, tmp_path: Path, capsys) -> None:
    arguments = ["voc", "--data", data, "--out", tmp_path / "r", "--sample-patches", "1e-320"]
    fails(capsys, main, arguments, "--sample-patches")
