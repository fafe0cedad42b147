"""The evaluate command: the metrics of weights on a data set."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import draw, ends, fails
from PIL import Image

import fcnlite
from fcnlite import metrics, models
from fcnlite.commands.evaluate import main
from fcnlite.data import VOC
from fcnlite.net import Net, load


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("data") / "shapes", train=1, val=3)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights whose answers are of several classes."""
    fcnlite.set_random_seed(2)
    net = Net(models.fcn8s(classes=7, width=2, fc=8, filler={"type": "msra"}, deploy=True), phase="TEST")
    for layer, blobs in net.params.items():
        if layer.startswith(("score", "up")):
            draws = np.random.default_rng(len(layer)).normal(size=blobs[0].shape)
            blobs[0].data[...] = draws.astype(np.float32)
    path = tmp_path_factory.mktemp("weights") / "random.h5"
    net.save(path)
    return path


def test_numbers_are_those_of_the_net_and_the_metrics(
    data: Path, weights: Path, tmp_path: Path, capsys
) -> None:
    options = [
        "--data",
        data,
        "--weights",
        weights,
        "--save",
        tmp_path / "png",
        "--json",
        tmp_path / "n.json",
    ]
    assert ends(main, ["voc", *options]) == 0
    net, dataset = load(weights), VOC(data, "val")
    counts = np.zeros((7, 7), np.int64)
    for sample in dataset:
        prediction = net.predict(sample.image)
        counts += metrics.histogram(sample.label, prediction, 7)
        saved = Image.open(tmp_path / "png" / f"{sample.name}.png")
        assert saved.mode == "P" and np.array_equal(np.asarray(saved), prediction)
    assert len(np.unique(prediction)) > 1
    expected = metrics.scores(counts)
    told = json.loads((tmp_path / "n.json").read_text())
    assert told["labels"]["label"]["mean_iu"] == expected.mean_iu
    assert told["labels"]["label"]["classes"] == list(dataset.classes)
    assert (told["split"], told["images"]) == ("val", 3) and told["seconds_per_image"] > 0
    assert metrics.table(expected, dataset.classes) in capsys.readouterr().out


def test_split_and_limit(data: Path, weights: Path, tmp_path: Path) -> None:
    options = ["--data", data, "--weights", weights, "--split", "val", "--limit", 2]
    assert ends(main, ["voc", *options, "--save", tmp_path / "two"]) == 0
    assert len(list((tmp_path / "two").iterdir())) == 2


def test_a_test_split_without_truth_is_only_saved(data: Path, weights: Path, tmp_path: Path, capsys) -> None:
    own = tmp_path / "own"
    shutil.copytree(data, own)
    lists = own / "ImageSets" / "Segmentation"
    (lists / "test.txt").write_text((lists / "val.txt").read_text())
    shutil.rmtree(own / "SegmentationClass")
    options = ["voc", "--data", own, "--weights", weights, "--split", "test"]
    fails(capsys, main, options, "no published truth", "--save")
    assert ends(main, [*options, "--save", tmp_path / "up"]) == 0
    assert "mean IU" not in capsys.readouterr().out
    assert len(list((tmp_path / "up").iterdir())) == 3


def test_mistakes(data: Path, weights: Path, tmp_path: Path, capsys) -> None:
    start = ["voc", "--data", data]
    fails(capsys, main, start, "--weights")
    fails(capsys, main, [*start, "--weights", tmp_path / "no.h5"], "no.h5: no such weights file")
    fails(capsys, main, [*start, "--weights", weights, "--split", "vall"], "vall", "train, val")
    fails(capsys, main, ["voc", "--weights", weights, "--data", tmp_path], str(tmp_path), "--data")
    fails(capsys, main, [*start, "--weights", weights, "--wieghts", 1], "did you mean --weights?")
    cut = tmp_path / "cut.h5"
    cut.write_bytes(weights.read_bytes()[:-2000])
    fails(capsys, main, [*start, "--weights", cut], "cut.h5: damaged or cut short")
    (tmp_path / "bare.h5").write_bytes(b"not weights at all")
    fails(
        capsys,
        main,
        [*start, "--weights", tmp_path / "bare.h5"],
        "bare.h5: damaged or cut short, or not an HDF5 file",
    )


def test_nets_that_do_not_score_each_pixel_are_refused(data: Path, tmp_path: Path, capsys) -> None:
    net = Net(
        """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } } }
        layer { name: "c" type: "Convolution" bottom: "data" top: "score"
          convolution_param { num_output: 7 kernel_size: 3 } }"""
    )
    net.save(tmp_path / "valid.h5")
    options = ["voc", "--data", data, "--weights", tmp_path / "valid.h5"]
    fails(capsys, main, options, "blob 'score' scores", "a score for each pixel is needed")


def test_other_class_counts_are_refused(data: Path, weights: Path, tmp_path: Path, capsys) -> None:
    own = tmp_path / "own"
    shutil.copytree(data, own)
    with open(own / "classes.txt", "a") as file:
        file.write("heart\n")
    fails(capsys, main, ["voc", "--data", own, "--weights", weights], str(weights), "7 classes", "has 8")


def test_results_never_overwrite_data_or_weights(data: Path, weights: Path, tmp_path: Path, capsys) -> None:
    arguments = ["voc", "--weights", weights, "--data", data]
    fails(capsys, main, [*arguments, "--save", data / "SegmentationClass"], "lies among the data")
    before = weights.read_bytes()
    fails(capsys, main, [*arguments, "--json", weights], "is an input")
    assert weights.read_bytes() == before


def test_each_image_alone_and_the_confusion_matrix(data: Path, weights: Path, tmp_path: Path) -> None:
    each, confusion = tmp_path / "each.csv", tmp_path / "confusion.csv"
    given = ["--data", data, "--weights", weights, "--csv", each, "--confusion", confusion]
    assert ends(main, ["voc", *given]) == 0
    with open(each, newline="") as file:
        rows = list(csv.DictReader(file))
    net, dataset = load(weights), VOC(data, "val")
    total = np.zeros((7, 7), np.int64)
    for row, sample in zip(rows, dataset, strict=True):
        counts = metrics.histogram(sample.label, net.predict(sample.image), 7)
        total += counts
        scores = metrics.scores(counts)
        assert row["image"] == sample.name and row["weights"] == str(weights)
        assert float(row["mean IU"]) == pytest.approx(scores.mean_iu, abs=1e-6)
        for name, iu in zip(dataset.classes, scores.class_iu):
            told = row[f"IU {name}"]
            assert (told == "") == np.isnan(iu) and (not told or float(told) == pytest.approx(iu, abs=1e-6))
    with open(confusion, newline="") as file:
        table = list(csv.reader(file))
    assert table[0] == ["truth", *dataset.classes]
    assert np.array_equal([[int(n) for n in row[1:]] for row in table[1:]], total)


def test_several_weights_stand_side_by_side(data: Path, weights: Path, tmp_path: Path, capsys) -> None:
    other = tmp_path / "other.h5"
    shutil.copy(weights, other)
    given = ["--data", data, "--limit", 2, "--json", tmp_path / "n.json", "--csv", tmp_path / "each.csv"]
    assert ends(main, ["voc", "--weights", weights, other, *given]) == 0
    lines = capsys.readouterr().out.splitlines()
    head = next(i for i, line in enumerate(lines) if line.split()[:1] == ["IU"])
    assert lines[head].split() == ["IU", "random", "other"]
    told = json.loads((tmp_path / "n.json").read_text())
    assert [each["weights"] for each in told] == [str(weights), str(other)]
    means = next(line for line in lines[head:] if line.startswith("mean IU")).split()[2:]
    assert means == [f"{100 * each['labels']['label']['mean_iu']:.1f}" for each in told]
    assert len((tmp_path / "each.csv").read_text().splitlines()) == 1 + 2 * 2
    fails(
        capsys,
        main,
        ["voc", "--weights", weights, other, "--data", data, "--save", tmp_path / "s"],
        "one file of weights",
    )
