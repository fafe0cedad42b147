"""Folders and archives for VOC's evaluation server."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from commands import draw, ends, fails
from PIL import Image

from fcnlite import models
from fcnlite.commands.evaluate import main
from fcnlite.data import open_dataset, read_image, voc_palette
from fcnlite.net import Net, load

FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"


@pytest.fixture(scope="module")
def devkit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VOCdevkit/VOC2012 with a test list whose truth is not published."""
    year = tmp_path_factory.mktemp("data") / "VOCdevkit" / "VOC2012"
    draw(year, train=3, val=2)
    shutil.move(year / "ImageSets/Segmentation/train.txt", year / "ImageSets/Segmentation/test.txt")
    for name in (year / "ImageSets/Segmentation/test.txt").read_text().split():
        (year / "SegmentationClass" / f"{name}.png").unlink()
    return year.parent


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow net that tells bright from dark, so that there is more than one class to see."""
    path = tmp_path_factory.mktemp("weights") / "net.h5"
    net = Net(models.fcn32s(classes=7, width=1, fc=1, deploy=True))
    rng = np.random.default_rng(0)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = rng.standard_normal(blob.shape)
    net.save(path)
    return path


def test_every_prediction_where_the_server_looks(
    devkit: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["voc", "--weights", weights, "--data", devkit, "--split", "test", "--upload", tmp_path]
    assert ends(main, given) == 0
    assert "published: mean IU 62.2 on VOC 2012 test, FCN-8s (J. Long" in capsys.readouterr().out
    dataset, net = open_dataset("voc", devkit, "test"), load(weights)
    assert sorted(p.name for p in (tmp_path / FOLDER).iterdir()) == [f"{n}.png" for n in dataset.names]
    for name in dataset.names:
        with Image.open(tmp_path / FOLDER / f"{name}.png") as picture:
            assert picture.mode == "P"
            np.testing.assert_array_equal(picture.getpalette()[:63], voc_palette(21).ravel())
            photo = read_image(devkit / "VOC2012" / "JPEGImages" / f"{name}.jpg")
            np.testing.assert_array_equal(np.asarray(picture), net.predict(photo))
    with tarfile.open(tmp_path / "results.tar.gz") as archive:
        assert archive.getnames() == [f"{FOLDER}/{name}.png" for name in dataset.names]
        for name in dataset.names:
            content = archive.extractfile(f"{FOLDER}/{name}.png")
            assert content is not None
            assert content.read() == (tmp_path / FOLDER / f"{name}.png").read_bytes()
    before = hashlib.sha256((tmp_path / "results.tar.gz").read_bytes()).digest()
    assert ends(main, given) == 0
    assert hashlib.sha256((tmp_path / "results.tar.gz").read_bytes()).digest() == before


def test_competitions_and_years(
    devkit: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(devkit / "VOC2012", tmp_path / "VOC2011")
    given = ["voc", "--weights", weights, "--data", tmp_path / "VOC2011", "--split", "test"]
    assert ends(main, [*given, "--upload", tmp_path / "out", "--competition", "comp5"]) == 0
    assert "published: mean IU 62.7 on VOC 2011 test" in capsys.readouterr().out
    folder = tmp_path / "out" / "results" / "VOC2011" / "Segmentation" / "comp5_test_cls"
    assert len(list(folder.glob("*.png"))) == 3


def test_mistakes(devkit: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["voc", "--weights", weights, "--data", devkit, "--split", "test"]
    fails(capsys, main, given, "no published truth", "--upload DIR")
    fails(capsys, main, [*given, "--upload", tmp_path, "--limit", 2], "leave --save and --limit out")
    shutil.copytree(devkit / "VOC2012", tmp_path / "mine")
    own = ["voc", "--weights", weights, "--data", tmp_path / "mine", "--upload", tmp_path / "out"]
    fails(capsys, main, own, "VOC2011 or VOC2012", "mine")
    assert not (tmp_path / "out").exists()
