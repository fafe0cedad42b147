"""`fcnlite train folder`: pictures of one's own from a plain folder to a net, and what can go wrong on the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import own_pictures as own
import pytest
from commands import NARROW, ends, fails, log, same_weights
from test_data_batches import Numbers

from fcnlite.commands import evaluate
from fcnlite.commands.train import main
from fcnlite.data import Batches
from fcnlite.data.augment import Augmentation
from fcnlite.data.folder import OwnPictures
from fcnlite.data.skipping import Skipping
from fcnlite.errors import InputError
from fcnlite.io import read_weights
from fcnlite.net import load
from fcnlite.training.class_weights import balanced, class_pixels
from fcnlite.training.plan import plan_from

QUICK = (*NARROW, "--device", "cpu")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures with masks of colours."""
    return own.draw(tmp_path_factory.mktemp("own"), mask=own.colours, ending="_mask")


@pytest.fixture(scope="module")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four iterations over them, with a validation every second."""
    out = tmp_path_factory.mktemp("runs") / "run"
    given = ["folder", "--images", pictures / "images", "--masks", pictures / "masks", "--out", out]
    assert ends(main, [*given, *QUICK, "--iterations", 4, "--snapshot", 2, "--final", "last"]) == 0
    return out


def train(pictures: Path, out: Path, *options: object) -> int:
    return ends(main, ["folder", "--data", pictures, "--out", out, *QUICK, *options])


def plan(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "settings.json").read_text())["plan"]
    return found


def validations(run: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("iter_")) for path in (run / "validation").glob("*.json"))


def test_a_plain_folder_is_trained_on_validated_and_kept(run: Path) -> None:
    assert validations(run) == [0, 2, 4]  # before the first iteration, too
    assert load(run / "fcn8s.h5").notes.classes["score"] == ("background", "blue", "red")
    train_part, val = (OwnPictures(run, part) for part in ("train", "val"))
    assert (
        len(train_part) == 5 and len(val) == 1 and {r["images"][0] for r in log(run)} <= set(train_part.names)
    )
    scores = json.loads((run / "validation" / "iter_4.json").read_text())
    histogram = np.array(scores["labels"]["label"]["histogram"])
    assert histogram.sum() == val[0].label.size and scores["loss"] > 0
    assert json.loads((run / "validation" / "iter_0.json").read_text())["loss"] == pytest.approx(
        np.log(3), rel=1e-6
    )


def test_the_recipe_of_own_pictures(run: Path) -> None:
    settings = plan(run)
    assert (settings["mirror"], settings["jitter"], settings["zoom"], settings["recolor"]) == (
        True,
        16,
        1.25,
        0.2,
    )
    assert settings["normalize"] and settings["momentum"] == 0.9 and settings["keep"] == 3
    unasked = plan_from({"data_set": "folder"}, run)
    assert (unasked.iterations, unasked.snapshot, unasked.final, unasked.net) == (1000, 50, "best", "fcn8s")
    assert unasked.validate_first and unasked.width == 16


def test_a_resumed_run_has_the_same_bits(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    for path in [copy / "fcn8s.h5", *copy.glob("*/*iter_4*")]:
        path.unlink()
    assert ends(main, ["--resume", copy]) == 0
    assert same_weights(run / "fcn8s.h5", copy / "fcn8s.h5") and validations(copy) == [0, 2, 4]


def test_only_what_may_change_changes_in_a_resumed_run(run: Path, pictures: Path, capsys: Any) -> None:
    fails(capsys, main, ["--resume", run, "--zoom", "1.5"], "--zoom 1.5 differs from the 1.25")
    fails(capsys, main, ["--resume", run, "--class-weights", "balanced"], "leave it out")
    fails(capsys, main, ["--resume", run, "--data", pictures], "goes on with its own pictures")


def test_scored_on_other_pictures(run: Path, pictures: Path, tmp_path: Path, capsys: Any) -> None:
    given = ["folder", "--weights", run / "fcn8s.h5", "--data", run, "--json", tmp_path / "scores.json"]
    assert ends(evaluate.main, given) == 0
    assert json.loads((tmp_path / "scores.json").read_text())["images"] == 1
    others = ["--images", pictures / "images", "--masks", pictures / "masks"]
    assert ends(evaluate.main, [*given, *others]) == 0
    assert json.loads((tmp_path / "scores.json").read_text())["images"] == 6


def test_masks_of_0_and_255_are_no_all_background_net(tmp_path: Path, capsys: Any) -> None:
    root = own.draw(tmp_path / "own", mask=own.binary)
    assert train(root, tmp_path / "run", "--iterations", 1) == 0
    assert "note: masks of 0 and 255: 255 is the class 'object'" in capsys.readouterr().out
    pixels = json.loads((tmp_path / "run/validation/iter_1.json").read_text())["labels"]["label"][
        "class_pixels"
    ]
    assert len(pixels) == 2 and min(pixels) > 0


def test_what_the_check_finds_ends_the_run_before_it_begins(tmp_path: Path, capsys: Any) -> None:
    root = own.draw(tmp_path / "own")
    (root / "images" / "p1.jpg").write_bytes(b"no picture")
    out = tmp_path / "run"
    fails(capsys, main, ["folder", "--data", root, "--out", out], "p1.jpg")
    assert not out.exists()
    assert train(root, out, "--iterations", 1, "--skip-bad", "--validate", 0) == 0
    assert "p1" not in OwnPictures(out, "all").names
    fails(capsys, main, ["voc", "--images", root, "--data", root], "--images goes with the data set folder")


def test_fine_tuned_to_other_classes(run: Path, tmp_path: Path, capsys: Any) -> None:
    """At a tenth of the rate from nothing, not at the paper's 1e-14 for FCN-8s."""
    root = own.draw(tmp_path / "own", mask=own.binary)
    out = tmp_path / "fine"
    given = [
        "folder",
        "--data",
        root,
        "--init",
        run / "fcn8s.h5",
        "--out",
        out,
        "--iterations",
        2,
        "--validate",
        0,
    ]
    assert ends(main, given) == 0
    assert "scores for other classes left out: score_fr" in capsys.readouterr().out
    assert plan(out)["lr"] == pytest.approx(2e-3) and plan(out)["width"] == 2
    before, after = read_weights(run / "fcn8s.h5"), read_weights(out / "fcn8s.h5")
    assert not np.array_equal(before["conv1_1"][0], after["conv1_1"][0])
    assert after["score_fr"][0].shape[0] == 2 and np.abs(after["score_fr"][0]).max() > 0


def test_frozen_layers_stay(run: Path, pictures: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "run"
    given = ["--init", run / "fcn8s.h5", "--iterations", 1, "--validate", 0, "--freeze", "conv[12]_*"]
    assert train(pictures, out, *given) == 0
    before, after = read_weights(run / "fcn8s.h5"), read_weights(out / "fcn8s.h5")
    for layer in ("conv1_1", "conv2_2", "conv3_1", "score_fr"):
        same = all(np.array_equal(a, b) for a, b in zip(before[layer], after[layer], strict=True))
        assert same == layer.startswith(("conv1", "conv2")), layer
    told = ["folder", "--data", pictures, "--out", tmp_path / "x", *QUICK, "--freeze"]
    fails(capsys, main, [*told, "cov*"], "--freeze cov* matches no layer; those that learn are conv1_1")
    fails(capsys, main, [*told, "*"], "leaves no layer that learns")


def test_class_weights_weigh_the_loss(pictures: Path, tmp_path: Path, capsys: Any) -> None:
    """The scores start at zero: each pixel's loss is its class's weight times log 3."""
    options = ("--iterations", 1, "--validate", 0, "--no-augment", "--class-weights")
    assert train(pictures, tmp_path / "run", *options, "balanced") == 0
    data = OwnPictures(tmp_path / "run", "train")
    pixels = class_pixels(data)
    weights = np.array(plan(tmp_path / "run")["class_weights"])
    np.testing.assert_allclose(weights, pixels.sum() / (3 * pixels), rtol=1e-12)
    assert (weights * pixels).sum() == pytest.approx(pixels.sum())
    record = log(tmp_path / "run")[0]
    label = data.load(record["images"][0]).label
    assert record["loss"] == pytest.approx(np.log(3) * weights[label].mean(), rel=1e-5)

    (tmp_path / "weights.csv").write_text("red,4\nblue,0.5\n")
    assert train(pictures, tmp_path / "named", *options, tmp_path / "weights.csv") == 0
    assert plan(tmp_path / "named")["class_weights"] == [1, 0.5, 4]
    for text, told in (
        ("green,1", "line 1: no class is called 'green'"),
        ("red,x", "line 1: 'x' is not a weight"),
    ):
        (tmp_path / "weights.csv").write_text(text)
        given = ["folder", "--data", pictures, "--out", tmp_path / "x", *QUICK, "--class-weights"]
        fails(capsys, main, [*given, tmp_path / "weights.csv"], told)


def test_a_class_without_pixels_has_no_weight() -> None:
    assert balanced(np.array([6, 0, 2])) == pytest.approx([8 / 12, 0, 2])


def test_the_newest_snapshots_and_the_best_are_kept(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert train(pictures, out, "--iterations", 6, "--snapshot", 1, "--keep", 2) == 0
    scores = {
        i: json.loads((out / f"validation/iter_{i}.json").read_text())["labels"]["label"]["mean_iu"]
        for i in range(1, 7)
    }
    best = max(scores, key=lambda i: (scores[i], -i))
    kept = {int(path.name.split("_iter_")[1].split(".")[0]) for path in (out / "snapshots").glob("*state.h5")}
    assert kept == {5, 6, best}
    assert same_weights(out / "fcn8s.h5", out / "snapshots" / f"fcn8s_iter_{best}.caffemodel.h5")


def test_patience_ends_a_run_that_gets_no_better(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    given = ("--iterations", 100, "--snapshot", 1, "--lr", "1e-12", "--patience", 2)
    assert train(pictures, out, *given) == 0
    assert validations(out) == [0, 1, 2] and (out / "fcn8s.h5").is_file()


class Faulty(Numbers):
    """Images of which one cannot be read."""

    folder = Path("numbers")

    def load(self, name: str) -> Any:
        if name == "2":
            raise InputError("image 2 is broken")
        return super().load(name)


def test_a_bad_image_is_skipped_and_counted() -> None:
    told: list[str] = []
    data = Skipping(Faulty(split="val"), told.append)
    with Batches(data, count=10) as batches:
        assert [b["data"].shape[2] - 4 for b in batches] == [0, 1, 3, 3, 4] * 2
    assert told == ["skipped: image 2 is broken"] and list(data.skipped) == ["2"]
    assert [data.shown(i) for i in range(5)] == ["0", "1", "3", "3", "4"]
    assert Skipping(Faulty(split="val"), told.append).without_bad().names == ["0", "1", "3", "4"]
    only = Faulty(count=3, split="val")
    only.names = ["2"]
    with pytest.raises(InputError, match="not one image"):
        Skipping(only, told.append).blobs(0)


def test_zoom_and_colour_are_drawn_from_seed_and_position() -> None:
    blobs = {"data": np.zeros((3, 30, 40), np.float32), "label": np.zeros((1, 30, 40), np.float32)}
    blobs["data"][:, 8:20, 10:30] = 60
    blobs["label"][:, 8:20, 10:30] = 1
    change = Augmentation(zoom=1.5, recolor=0.3)
    mean = (100.0, 110.0, 120.0)

    def changed(position: int, by: Augmentation = change) -> dict[str, np.ndarray]:
        return by.apply(blobs, {"label"}, (7, position), mean, 255)

    again = changed(3)
    for name, blob in changed(3).items():
        np.testing.assert_array_equal(blob, again[name])
    shapes = {changed(i)["data"].shape for i in range(8)}
    assert len(shapes) > 4 and all(20 <= h <= 45 and 26 <= w <= 60 for _, h, w in shapes)
    for i in range(8):
        both = changed(i)
        assert both["data"].shape[1:] == both["label"].shape[1:] and set(np.unique(both["label"])) == {0, 1}
        pixels = both["data"] + np.reshape(mean, (3, 1, 1))
        assert pixels.min() >= -1e-4 and pixels.max() <= 255 + 1e-4
        inside = both["data"][:, both["label"][0] == 1].mean()
        assert (
            inside > both["data"][:, both["label"][0] == 0].mean() + 20
        )  # the picture and its labels move as one
    # One change leaves the draws of the other alone.
    np.testing.assert_array_equal(changed(5, Augmentation(zoom=1.5))["label"], changed(5)["label"])
    with pytest.raises(InputError, match="three colours"):
        change.apply({"depth": blobs["label"]}, set(), (7, 1), mean, 255)


def test_predict_scales_large_pictures_as_training_did(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert train(pictures, out, "--iterations", 1, "--validate", 0, "--max-size", 24) == 0
    net = load(out / "fcn8s.h5")
    assert net.notes.max_size == 24
    image = own.photo(1)
    labels, scores = net.predict(image), net.scores(image)
    assert labels.shape == own.SIZE and scores.shape == (3, *own.SIZE)
    assert all(
        len(np.unique(labels[y : y + 2, :2])) == 1 for y in range(0, 40, 2)
    )  # 24 x 20, each pixel four times
    np.testing.assert_array_equal(scores.argmax(axis=0), labels)


def test_vocs_layout_with_classes_of_its_own_learns_at_once(run: Path, tmp_path: Path) -> None:
    """Not 20,000 iterations with a first validation at 4,000, nor the paper's 1e-14 from a net of one's own."""
    root = own.draw(tmp_path / "voc", images="JPEGImages", masks="SegmentationClass")
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("p0\np1\np2\np3\n")
    (lists / "val.txt").write_text("p4\np5\n")
    (root / "classes.txt").write_text("background\ncat\ndog\n")
    given = {"data_set": "voc", "data": str(root), "net": "fcn8s"}
    nothing, tuned = plan_from(given), plan_from(given | {"init": [str(run / "fcn8s.h5")]})
    assert (nothing.iterations, nothing.snapshot, nothing.validate_first) == (1000, 50, True)
    assert tuned.lr == pytest.approx(2e-3) and tuned.width == 2 and tuned.normalize
    assert plan_from(given | {"init": [str(run / "fcn8s.h5")], "recipe": "heavy"}).lr == 1e-14
    (root / "classes.txt").unlink()  # VOC itself keeps the paper's recipe
    assert plan_from(given | {"init": [str(run / "fcn8s.h5")]}).lr == 1e-14
