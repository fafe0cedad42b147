"""The paper's tables: figures measured as evaluate does, beside the published ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import draw, ends, fails
from test_data_scenes import make_siftflow

from fcnlite import models
from fcnlite.commands import evaluate, paper
from fcnlite.commands.table import main, rows, text
from fcnlite.data.classes import VOC
from fcnlite.metrics import scores
from fcnlite.net import Net
from fcnlite.scoring import Evaluation


def save(path: Path, name: str, **options: int) -> Path:
    """A narrow net's weights, drawn at random."""
    net = Net(models.build(name, width=1, fc=2, deploy=True, **options))
    rng = np.random.default_rng(len(name))
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = rng.standard_normal(blob.shape)
    net.save(path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's pictures under the names of VOC's classes."""
    folder = draw(tmp_path_factory.mktemp("data") / "shapes")
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in VOC))
    return folder


@pytest.fixture
def as_the_papers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the two validation pictures of a test be those that the paper's figures are of."""
    for key, table in paper.TABLES.items():
        monkeypatch.setitem(
            paper.TABLES, key, replace(table, images=2, split="val" if key[1] == "voc" else table.split)
        )


def lines(capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    """The table's cells by the first word of each line."""
    split = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    return {words[0]: words[1:] for words in split}


@pytest.mark.usefixtures("as_the_papers")
def test_here_is_what_evaluate_says(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nets = [save(tmp_path / f"{name}.h5", name, classes=21) for name in ("fcn32s", "fcn8s")]
    given = ["--data", data, "--split", "val"]
    assert ends(main, ["voc", *nets, *given, "--json", tmp_path / "table.json"]) == 0
    table = lines(capsys)
    measured = json.loads((tmp_path / "table.json").read_text())["weights"]
    for path in nets:
        out = tmp_path / "one.json"
        assert ends(evaluate.main, ["voc", "--weights", path, *given, "--json", out]) == 0
        found = json.loads(out.read_text())["labels"]["label"]
        assert measured[str(path)]["labels"]["label"] == found
        keys = ("pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu")
        assert table[path.stem][:4] == [f"{100 * found[key]:.1f}" for key in keys]
    assert table["fcn32s"][4:] == ["90.5", "76.5", "63.6", "83.5"]
    assert table["fcn8s"][4:] == ["91.2", "77.6", "65.5", "84.5"]
    assert table["fcn16s"] == ["-"] * 4 + ["91.0", "78.1", "65.0", "84.3"]
    assert table["here:"][:2] == ["2", "images"] and table["here:"][-1] == "(val)"


def measured_alone(capsys: pytest.CaptureFixture[str], here: str) -> bool:
    """Whether the table has a line for fcn32s with its four figures, and none of the paper's."""
    printed = capsys.readouterr().out
    table = [line.split() for line in printed.splitlines() if line.startswith("fcn")]
    assert f"here: {here}" in printed and "published figures, of other images, are left out" in printed
    return [(words[0], len(words)) for words in table] == [("fcn32s", 5)] and " published\n" not in printed


def test_other_images_stand_beside_no_published_figure(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], as_the_papers: None
) -> None:
    weights = save(tmp_path / "some.h5", "fcn32s", classes=21)
    given = ["voc", weights, "--data", data]
    assert ends(main, [*given, "--split", "train"]) == 0 and measured_alone(capsys, "4 images")
    assert ends(main, [*given, "--split", "val", "--limit", 1]) == 0 and measured_alone(capsys, "1 images")


def test_other_classes_stand_beside_no_published_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], as_the_papers: None
) -> None:
    weights = save(tmp_path / "some.h5", "fcn32s", classes=7)
    folder = draw(tmp_path / "own")
    assert ends(main, ["voc", weights, "--data", folder, "--split", "val"]) == 0
    assert measured_alone(capsys, "2 images")


@pytest.mark.usefixtures("as_the_papers")
def test_two_tasks_are_two_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_siftflow(tmp_path / "data")
    (tmp_path / "data" / "test.txt").write_text((tmp_path / "data" / "trainval.txt").read_text())
    weights = save(tmp_path / "net.h5", "siftflow-fcn8s")
    assert ends(main, ["siftflow", weights, "--data", tmp_path / "data"]) == 0
    first, second = [
        line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("siftflow")
    ]
    assert first[0] == "siftflow-fcn8s" and first[5:] == ["85.9", "53.9", "41.2", "77.2"]
    assert second[:2] == ["siftflow-fcn8s,", "geometric"] and second[6:] == ["94.6", "-", "-", "-"]
    assert all(float(value) >= 0 for value in first[1:5] + second[2:6])


def test_the_papers_figures_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(main, ["NYUDv2", "--paper", "cvpr"]) == 0
    table = lines(capsys)
    assert table["nyud-fcn32s-color-hha"] == ["-"] * 4 + ["64.3", "44.9", "32.8", "48.0"]
    assert table["nyud-fcn16s-color-hha"] == ["-"] * 4 + ["65.4", "46.1", "34.0", "49.5"]
    assert "here:" not in table


def test_the_conference_papers_comparison_of_base_nets(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(main, ["voc", "--paper", "cvpr"]) == 0
    table = lines(capsys)
    means = {name: table[name][6] for name in ("fcn-alexnet", "fcn-vgg16", "fcn-googlenet", "fcn32s")}
    assert means == {"fcn-alexnet": "39.8", "fcn-vgg16": "56.0", "fcn-googlenet": "42.5", "fcn32s": "59.4"}


def test_every_row_is_a_net_of_the_catalogue() -> None:
    for (version, data_set), table in paper.TABLES.items():
        assert version in paper.PAPERS and table.images > 0
        for name, result in table.results.items():
            if name != "fcn-vgg16":  # the paper's name of fcn32s in its comparison of base nets
                assert models.canonical(name) == name, (data_set, name)
            assert result.mean_iu is not None and all(0 < v < 100 for v in result.metrics() if v is not None)


def test_what_is_not_there_is_a_dash() -> None:
    found = Evaluation(1, {"label": ("a", "b")}, {"label": scores(np.zeros((2, 2)))})
    (row,) = rows("net", found, None)
    assert text([row]).splitlines()[-1].split() == ["net", *["-"] * 8]


@pytest.mark.usefixtures("as_the_papers")
def test_a_files_net_may_be_named(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = save(tmp_path / "some.h5", "fcn32s", classes=21)
    given = ["--data", data, "--split", "val"]
    assert ends(main, ["voc", f"fcn8s-atonce={weights}", *given]) == 0
    assert lines(capsys)["fcn8s-atonce"][4:] == ["91.1", "78.5", "65.4", "84.4"]
    assert ends(main, ["voc", "--paper", "cvpr", f"fcn8s-atonce={weights}", *given]) == 0
    assert "fcn8s-atonce (" in capsys.readouterr().out  # of which that paper knows nothing


def test_mistakes(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, main, ["shapes"], "has no table for shapes", "voc (pami)")
    fails(capsys, main, ["voc", tmp_path / "no.h5"], "no such weights file")
    weights = save(tmp_path / "some.h5", "fcn32s", classes=21)
    fails(capsys, main, ["voc", f"fcn9s={weights}"], "no net is called 'fcn9s'")
    fails(capsys, main, ["voc", weights, "--data", data], "seg11valid", "SBD")
