"""Images masked by their labels: which pixels are hidden, and how nets on them are trained and scored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import NARROW, draw, ends, fails
from test_data_scenes import make_siftflow

from fcnlite.commands import evaluate, train
from fcnlite.data import HIDE, VOC, Masked, SIFTFlow
from fcnlite.errors import InputError
from fcnlite.metrics import histogram, scores
from fcnlite.net import load


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("data") / "shapes", train=2, val=2)


@pytest.mark.parametrize("hide", HIDE)
def test_hidden_pixels_are_the_mean(data: Path, hide: str) -> None:
    plain, masked = VOC(data), Masked(VOC(data), hide)
    for index in range(len(plain)):
        before, after = plain.blobs(index), masked.blobs(index)
        label = before["label"][0]
        np.testing.assert_array_equal(after["label"], before["label"])
        parts = {"background": label == 0, "foreground": (label > 0) & (label < 255), "void": label == 255}
        assert all(part.any() for part in parts.values())
        for name, part in parts.items():
            seen, whole = after["data"][:, part], before["data"][:, part]
            if hide == "both":
                white = 255.0 if name == "foreground" else 0.0
                expected = white - np.asarray(plain.mean_bgr)[:, None]
                np.testing.assert_allclose(seen, np.broadcast_to(expected, seen.shape), rtol=1e-6)
            elif hide == "nothing" or name not in (hide, "void"):
                np.testing.assert_array_equal(seen, whole)
            else:
                assert not seen.any()
        picture = masked[index].image
        assert picture.dtype == np.uint8 and picture.shape == plain[index].image.shape
        if hide == "foreground":
            assert (picture[parts["foreground"]] == [123, 117, 104]).all()
        assert masked[index].name == plain[index].name


def test_trained_and_scored_without_the_background(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    given = ["voc", "--data", data, *NARROW, "--net", "fcn32s", "--hide", "background"]
    assert ends(train.main, [*given, "--iterations", 2, "--out", out]) == 0
    assert json.loads((out / "settings.json").read_text())["plan"]["hide"] == "background"
    assert ends(train.main, ["--resume", out, "--iterations", 3]) == 0
    weights, found = out / "fcn32s.h5", tmp_path / "found.json"
    arguments = ["voc", "--data", data, "--weights", weights, "--json", found, "--hide", "foreground"]
    assert ends(evaluate.main, arguments) == 0
    net, total = load(weights), np.zeros((7, 7), np.int64)
    masked = Masked(VOC(data, "val"), "foreground")
    for index in range(len(masked)):
        score = net.infer("score", data=masked.blobs(index)["data"][None])
        total += histogram(masked[index].label, score[0].argmax(0), 7)
    expected = scores(total, (0,)).to_json()
    assert json.loads(found.read_text())["labels"]["label"]["mean_iu"] == expected["mean_iu"]
    iu = [value for value in expected["class_iu"][1:] if value is not None]
    assert expected["mean_iu"] == pytest.approx(np.mean(iu))


def test_mistakes(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="cannot hide 'sky'"):
        Masked(VOC(data), "sky")
    make_siftflow(tmp_path)
    with pytest.raises(InputError, match="tell objects from a background"):
        Masked(SIFTFlow(tmp_path), "both")
    fails(
        capsys,
        train.main,
        ["siftflow", "--data", tmp_path, "--hide", "both", "--out", tmp_path / "o"],
        "background",
    )
