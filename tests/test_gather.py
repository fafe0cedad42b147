"""Run folders as reports tell of them: `fcnlite report`, and what looks on while training."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import NARROW, draw, ends, fails, log
from PIL import Image

from fcnlite import metrics
from fcnlite.commands.report import main
from fcnlite.commands.train import main as train
from fcnlite.data import open_dataset
from fcnlite.net import load
from fcnlite.training import gather
from fcnlite.training.gather import read_run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("data") / "shapes")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 6 iterations with snapshots after 2, 4 and 6, a page written while it trained, and event files."""
    out = tmp_path_factory.mktemp("runs") / "six"
    options = [
        *NARROW,
        "--iterations",
        6,
        "--snapshot",
        2,
        "--out",
        out,
        "--report-every",
        2,
        "--tensorboard",
    ]
    assert ends(train, ["voc", "--data", data, "--net", "fcn8s", *options]) == 0
    return out


def embedded(page: Path, element: str) -> dict:
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(rf'id="{element}">(.*?)</script>', text, re.DOTALL)[1])


def test_training_writes_the_page_and_what_it_shows_is_the_runs(run: Path, data: Path) -> None:
    charts, gallery = (embedded(run / "report.html", name) for name in ("charts", "gallery"))
    lines = {line["meta"].split(": ")[1]: line for line in charts["curves"]["data"]}
    assert lines["training loss"]["y"] == [record["smoothed_loss"] for record in log(run)]
    assert lines["mean IU"]["x"][-3:] == [2, 4, 6] and lines["validation loss"]["y"][-1] > 0
    assert gallery["runs"][0]["iterations"] == [2, 4, 6]
    last = json.loads((run / "validation" / "iter_6.json").read_text())
    counts = np.array(last["labels"]["label"]["histogram"])
    assert charts["confusions"][0]["data"][0]["customdata"][0][0] == f"{counts[0, 0]:,}"
    weights = run / "snapshots" / "fcn8s_iter_6.caffemodel.h5"
    net, images = load(weights, run / "deploy.prototxt"), open_dataset("voc", data, "val")
    for index, picture in enumerate(read_run(run).pictures):
        sample = images[index]
        assert picture.name == sample.name and np.array_equal(picture.image, sample.image)
        score = metrics.scores(metrics.histogram(sample.label, picture.predictions[6], 7)).mean_iu
        assert gallery["pictures"][index][0]["6"]["score"] == pytest.approx(score)
    assert net.outputs == ["score"]


def test_event_files_hold_losses_and_scores(run: Path) -> None:
    tensorboard = pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    from tensorboardX.event_file_writer import EventsWriter  # noqa: F401
    from tensorboardX.proto import event_pb2

    assert tensorboard
    (path,) = (run / "tensorboard").iterdir()
    found: dict[str, dict[int, float]] = {}
    raw = path.read_bytes()
    while raw:  # length, its check sum, an event, its check sum
        length = int.from_bytes(raw[:8], "little")
        event = event_pb2.Event.FromString(raw[12 : 12 + length])
        raw = raw[16 + length :]
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
    assert list(found["training/loss"]) == [1, 2, 3, 4, 5, 6]
    assert found["training/loss"][6] == pytest.approx(log(run)[-1]["loss"])
    last = json.loads((run / "validation" / "iter_6.json").read_text())
    assert found["validation/loss"][6] == pytest.approx(last["loss"])
    assert found["validation/mean_iu"][6] == pytest.approx(last["labels"]["label"]["mean_iu"])
    assert any(tag.startswith("class_iu/") for tag in found)


def test_what_snapshots_made_of_the_pictures_is_computed_once(
    run: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)  # with its files' times
    monkeypatch.setattr(gather, "segment", lambda *_: pytest.fail("computed again"))
    assert ends(main, [copy]) == 0
    assert "segmenting" not in capsys.readouterr().out
    monkeypatch.undo()
    weights = copy / "snapshots" / "fcn8s_iter_4.caffemodel.h5"
    weights.write_bytes((copy / "snapshots" / "fcn8s_iter_2.caffemodel.h5").read_bytes())
    assert ends(main, [copy]) == 0
    assert capsys.readouterr().out.count("segmenting") == 1
    made = read_run(copy)
    assert all(np.array_equal(p.predictions[4], p.predictions[2]) for p in made.pictures)
    weights.unlink()  # pruned: what it made is kept
    assert sorted(read_run(copy).pictures[0].predictions) == [2, 4, 6]


def test_a_resumed_run_forgets_what_later_snapshots_made(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    state = copy / "snapshots" / "fcn8s_iter_2.solverstate.h5"
    assert ends(train, ["voc", "--resume", state, "--iterations", 3, "--snapshot", 0]) == 0
    assert not (copy / "report" / "iter_6").exists() and (copy / "report" / "iter_2").is_dir()


def test_several_runs_side_by_side(run: Path, tmp_path: Path, capsys) -> None:
    other = tmp_path / "other" / "six"
    shutil.copytree(run, other)
    fails(capsys, main, [run, other], "several runs on one page: name it with --out")
    page = tmp_path / "both.html"
    assert ends(main, [run, other, "--out", page, "--pictures", 1]) == 0
    gallery = embedded(page, "gallery")
    assert [each["name"] for each in gallery["runs"]] == ["six (1)", "six (2)"]
    assert len(gallery["pictures"]) == 1 and len(gallery["pictures"][0]) == 2


def test_a_run_whose_data_are_gone_has_a_page_without_pictures(run: Path, tmp_path: Path, capsys) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    settings = json.loads((copy / "settings.json").read_text())
    settings["plan"]["val_data"] = str(tmp_path / "gone")
    (copy / "settings.json").write_text(json.dumps(settings))
    assert ends(main, [copy]) == 0
    assert "no pictures, as the data cannot be read" in capsys.readouterr().out
    assert 'id="pictures"' not in (copy / "report.html").read_text(encoding="utf-8")


def test_damaged_pictures_are_computed_again(run: Path, tmp_path: Path, capsys) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "report" / "iter_6" / "0.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(copy / "report" / "iter_4" / "0.png")
    assert ends(main, [copy]) == 0
    assert capsys.readouterr().out.count("segmenting") == 2


def test_mistakes(run: Path, tmp_path: Path, capsys) -> None:
    fails(capsys, main, [tmp_path / "nothing"], "there is no such folder")
    fails(capsys, main, [tmp_path], "holds no run")
    fails(capsys, main, [run, "--out", tmp_path / "page.pdf"], "name an .html file")
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "validation" / "iter_2.json").write_text('{"iteration": 2}')
    fails(capsys, main, [copy], "iter_2.json is damaged", "labels")
