"""The predict command: pictures in, label maps and overlays out."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import ends, fails
from PIL import Image

import fcnlite
from fcnlite import models, vis
from fcnlite.commands.predict import main
from fcnlite.data.classes import VOC
from fcnlite.data.notes import Notes
from fcnlite.net import Net, load


def make_weights(path: Path, net: str = "fcn32s", classes: int = 3, names: tuple[str, ...] = ()) -> Path:
    fcnlite.set_random_seed(4)
    made = Net(models.build(net, classes=classes, width=2, fc=8, filler={"type": "msra"}, deploy=True))
    for layer, blobs in made.params.items():
        if layer.startswith(("score", "up")):
            draws = np.random.default_rng(len(layer)).normal(size=blobs[0].shape)
            blobs[0].data[...] = draws.astype(np.float32)
    if names:
        made.notes = Notes({"score": names})
    made.save(path)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_weights(tmp_path_factory.mktemp("w") / "net.h5", names=("ground", "tree", "sky"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A colour JPEG, a grey PNG, one with transparency."""
    folder = tmp_path_factory.mktemp("pictures")
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 4), dtype=np.uint8)
    Image.fromarray(pixels[:, :, :3]).save(folder / "one.jpg")
    Image.fromarray(pixels[:40, :, 0]).save(folder / "two.png")
    Image.fromarray(pixels).save(folder / "three.png")
    return [folder / name for name in ("one.jpg", "two.png", "three.png")]


def test_writes_label_maps_and_overlays(weights: Path, pictures: list[Path], tmp_path: Path, capsys) -> None:
    out = tmp_path / "new" / "folder"
    assert ends(main, [*pictures, "--weights", weights, "--out", out]) == 0
    assert sorted(os.listdir(out)) == sorted(
        f"{path.stem}{end}" for path in pictures for end in (".png", "_overlay.jpg")
    )
    net = load(weights)
    for path in pictures:
        saved = Image.open(out / f"{path.stem}.png")
        assert saved.mode == "P" and saved.size == Image.open(path).size
        assert np.array_equal(np.asarray(saved), net.predict(Image.open(path)))
        wide, high = Image.open(out / f"{path.stem}_overlay.jpg").size
        assert wide == max(saved.size[0], vis.NARROWEST) and high > saved.size[1]  # a legend below
    said = capsys.readouterr().out
    assert str(out / "one.png") in said and "ground" in said and "%" in said


def test_photographs_are_turned_upright(weights: Path, pictures: list[Path], tmp_path: Path) -> None:
    orientation = Image.Exif()
    orientation[0x0112] = 6  # the camera was held a quarter turn to the left
    sideways = tmp_path / "sideways.png"
    Image.open(pictures[1]).save(sideways, exif=orientation)
    upright = load(weights).predict(Image.open(pictures[1]).transpose(Image.Transpose.ROTATE_270))
    assert ends(main, [sideways, "--weights", weights, "--out", tmp_path / "out"]) == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "sideways.png")), upright)
    assert upright.shape[1] == 40


def test_class_names_of_voc_or_numbers(pictures: list[Path], tmp_path: Path, capsys) -> None:
    for classes, known in ((21, True), (5, False)):
        weights = make_weights(tmp_path / f"{classes}.h5", classes=classes)
        assert ends(main, [pictures[0], "--weights", weights, "--out", tmp_path / "out"]) == 0
        words = capsys.readouterr().out.split()
        assert any(word in VOC for word in words) == known
        assert known or any(word in "01234" for word in words)


def test_unreadable_pictures_do_not_stop_the_others(
    weights: Path, pictures: list[Path], tmp_path: Path, capsys
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(pictures[0].read_bytes()[:300])
    status = ends(
        main, [bad, tmp_path / "none.png", pictures[0], "--weights", weights, "--out", tmp_path / "out"]
    )
    errors = capsys.readouterr().err.strip().splitlines()
    assert status == 2 and len(errors) == 2
    assert "bad.jpg" in errors[0] and "none.png" in errors[1]
    assert sorted(os.listdir(tmp_path / "out")) == ["one.png", "one_overlay.jpg"]


def test_pictures_of_one_name(weights: Path, pictures: list[Path], tmp_path: Path, capsys) -> None:
    other = tmp_path / "one.png"
    Image.open(pictures[0]).save(other)
    assert ends(main, [pictures[0], other, "--weights", weights, "--out", tmp_path / "out"]) == 0
    assert {"one_jpg.png", "one_png.png"} <= set(os.listdir(tmp_path / "out"))
    twin = tmp_path / "deeper" / "one.png"
    twin.parent.mkdir()
    Image.open(pictures[0]).save(twin)
    fails(capsys, main, [other, twin, "--weights", weights, "--out", tmp_path / "o"], "one.png", "overwrite")


def test_two_headed_nets(pictures: list[Path], tmp_path: Path, capsys) -> None:
    weights = make_weights(tmp_path / "sift.h5", "siftflow-fcn32s", classes=4)
    for output, count in (("score_sem", 4), ("score_geo", 3)):
        options = ["--weights", weights, "--out", tmp_path / output, "--output", output]
        assert ends(main, [pictures[0], *options]) == 0
        assert np.asarray(Image.open(tmp_path / output / "one.png")).max() < count
    fails(capsys, main, [pictures[0], *options[:4], "--output", "score_x"], "score_x", "score_sem, score_geo")


def test_mistakes(weights: Path, pictures: list[Path], tmp_path: Path, capsys) -> None:
    fails(capsys, main, [pictures[0], "--weights", weights], "--out")
    fails(
        capsys,
        main,
        [pictures[0], "--weights", tmp_path / "no.h5", "--out", tmp_path],
        "no such weights file",
    )
    fails(
        capsys,
        main,
        [pictures[0], "--weights", pictures[0], "--out", tmp_path],
        "one.jpg",
        "not a Caffe model",
    )
    (tmp_path / "file").write_text("")
    fails(
        capsys,
        main,
        [pictures[0], "--weights", weights, "--out", tmp_path / "file"],
        "is a file; name a folder",
    )
    fails(capsys, main, [pictures[0], "--weights", tmp_path, "--out", tmp_path], "this is a folder")
    fails(
        capsys,
        main,
        [pictures[0], "--weights", weights, "--out", tmp_path, "--device", "gpu"],
        "device 'gpu' is unknown",
    )
    cut = tmp_path / "cut.h5"
    cut.write_bytes(weights.read_bytes()[:3000])
    fails(capsys, main, [pictures[0], "--weights", cut, "--out", tmp_path], "cut.h5")


def test_scores_that_are_not_one_for_each_pixel_are_refused(
    weights: Path, pictures: list[Path], tmp_path: Path, capsys
):
    options = ["--weights", weights, "--out", tmp_path / "out", "--output", "score_fr"]
    fails(capsys, main, [pictures[0], *options], "blob 'score_fr' scores", "48 x 64")
    assert not any((tmp_path / "out").iterdir())


def test_results_never_overwrite_what_was_given(weights: Path, tmp_path: Path, capsys) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (64, 48)).save(picture)
    before = picture.read_bytes()
    fails(capsys, main, [picture, "--weights", weights, "--out", tmp_path], "a.png is an input")
    assert picture.read_bytes() == before and list(tmp_path.iterdir()) == [picture]


def test_folders_patterns_and_standard_input(
    weights: Path, pictures: list[Path], tmp_path: Path, monkeypatch, capsys
) -> None:
    folder, out = tmp_path / "holiday", tmp_path / "holiday" / "results"
    (folder / "beach").mkdir(parents=True)
    shutil.copy(pictures[1], folder / "one.png")
    shutil.copy(pictures[2], folder / "beach" / "one.png")
    (folder / "notes.txt").write_text("no picture")
    for _ in range(2):  # results of the first time are no pictures to segment
        assert ends(main, [folder, "--weights", weights, "--out", out]) == 0
        assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*")) == [
            "beach/one.png", "beach/one_overlay.jpg", "one.png", "one_overlay.jpg",
        ]  # fmt: skip
    assert ends(main, [f"{folder}/*.png", "--weights", weights, "--out", tmp_path / "some"]) == 0
    assert sorted(os.listdir(tmp_path / "some")) == ["one.png", "one_overlay.jpg"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(pictures[0].read_bytes())))
    assert ends(main, ["-", "--weights", weights, "--out", tmp_path / "piped"]) == 0
    label = np.asarray(Image.open(tmp_path / "piped" / "stdin.png"))
    assert np.array_equal(label, load(weights).predict(Image.open(pictures[0])))
    assert "standard input -> " in capsys.readouterr().out


def test_scores_classes_and_a_contact_sheet(
    weights: Path, pictures: list[Path], tmp_path: Path, capsys
) -> None:
    out, sheet = tmp_path / "out", tmp_path / "all.png"
    given = ["--scores", "--classes", "sky,2", "--alpha", "0.8", "--contours", "--sheet", sheet]
    assert ends(main, [*pictures, "--weights", weights, "--out", out, *given]) == 0
    for path in pictures:
        with np.load(out / f"{path.stem}_scores.npz") as kept:  # without pickles
            assert kept["classes"].tolist() == ["ground", "tree", "sky"]
            label = np.asarray(Image.open(out / f"{path.stem}.png"))
            assert np.array_equal(kept["scores"].argmax(0), label) and kept["scores"].dtype == np.float32
    assert Image.open(sheet).width > vis.CELL
    said = capsys.readouterr().out
    assert "ground" not in said and f"contact sheet: {sheet}" in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["nothing-*.jpg"], "'nothing-*.jpg' matches no file"),
        (["."], "has no pictures"),
        (["one.png", "--classes", "grond"], "--classes: 'grond' is no class; did you mean 'ground'"),
        (["one.png", "--sheet", "all.bmp"], "name a .jpg or .png file"),
        (["-", "-"], "standard input holds one picture"),
        (["one.png", "--alpha", "2"], "--alpha"),
    ],
)
def test_mistakes_of_what_to_show(
    given: list[str], said: str, weights: Path, pictures: list[Path], tmp_path: Path, monkeypatch, capsys
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    words = [str(pictures[0]) if word == "one.png" else word for word in given]
    fails(capsys, main, [*words, "--weights", weights, "--out", tmp_path / "out"], said)
