"""The paper's side claims that benchmarks/ measures: what they compute, and that they run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import draw, ends
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import budget, dense, fcn8s, patches, scaling, upper_bounds
from fcnlite.geometry import measure


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(0, 1000))
def test_cells_take_their_most_frequent_class(height: int, width: int, factor: int, seed: int) -> None:
    label = np.random.default_rng(seed).choice(np.array([0, 1, 2, 255], np.uint8), (height, width))
    coarse = upper_bounds.coarsened(label, factor, 3)
    for y in range(0, height, factor):
        for x in range(0, width, factor):
            cell = label[y : y + factor, x : x + factor]
            counts = [(cell == k).sum() for k in range(3)]
            assert (coarse[y : y + factor, x : x + factor] == int(np.argmax(counts))).all()


def test_finer_predictions_can_be_better(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = draw(tmp_path / "data", train=1, val=3)
    assert ends(upper_bounds.main, ["voc", "--data", data, "--split", "val"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [line[0] for line in lines] == ["128", "64", "32", "16", "8", "4"]
    found = [float(line[1]) for line in lines]
    assert found == sorted(found) and found[0] < 40 < 90 < found[-1]


def test_patches_are_those_that_the_convolutional_net_scores(capsys: pytest.CaptureFixture[str]) -> None:
    """AlexNet on 500 x 500: a 10 x 10 grid of 227 x 227 patches (section 3.1)."""
    classifier, convolutional = patches.nets("caffenet", 2)
    image = np.arange(3 * 500 * 500, dtype=np.float32).reshape(1, 3, 500, 500)
    cut = patches.cut(image, classifier, convolutional)
    assert cut.shape == (100, 3, 227, 227)
    np.testing.assert_array_equal(cut[13], image[0, :, 32 : 32 + 227, 96 : 96 + 227])
    assert (cut[99][:, 212:] == 0).all() and (cut[99][:, :212, :212] > 0).any()
    assert measure(convolutional.param, (500, 500))[-1].shapes[0][2:] == (10, 10)
    options = ["--width", 2, "--size", 270, "--batch", 3, "--runs", 1, "--device", "cpu"]
    assert ends(patches.main, options) == 0
    assert "9 patches of 227 x 227, in batches of 3" in capsys.readouterr().out


def test_both_dense_forms_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--net", "vgg16", "--output", "pool2", "--width", 2, "--size", 40, "--device", "cpu"]
    assert ends(dense.main, options) == 0
    out = capsys.readouterr().out
    assert "37 x 37 scores in 16 passes" in out
    assert float(out.rsplit(": ", 1)[1].split()[0]) < 5e-6
    assert ends(dense.main, [*options, "--size", 10]) == 2
    assert "sees padding" in capsys.readouterr().err


def test_the_core_stays_small_enough_to_read(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    lines = budget.lines_by_part()
    assert all(code for code, _ in lines.values()), lines  # each part is found
    core, every = budget.core_lines()
    assert core < budget.LIMIT, lines
    monkeypatch.setattr("sys.argv", ["budget"])
    budget.main()
    assert f"core{core:>14,}{every:>8,}   the budget: {budget.LIMIT:,} of code" in capsys.readouterr().out


def test_code_is_told_from_comments_and_docstrings() -> None:
    python = (
        '"""Doc\nstring."""\nx = (1,  # why\n\n     2)\n\n\ndef f():\n    "doc"\n    # why\n    return 1\n'
    )
    assert budget.python_lines(python) == 4
    assert budget.cuda_lines("// why\nint i = 0;  // index\n\n}\n") == 2


def test_fcn8s_is_timed_against_what_is_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = [
        "fcn8s",
        "--width",
        "2",
        "--size",
        "40x50",
        "--runs",
        "1",
        "--rounds",
        "1",
        "--torch-python",
        "false",
    ]
    monkeypatch.setattr("sys.argv", small)
    assert fcn8s.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["fcnlite", "fcnlite", "torch"]
    assert "scores" in lines[2] and lines[3].endswith("not installed")
    monkeypatch.setattr("sys.argv", [*small, "--layers", "--fast"])
    assert fcn8s.main() == 0
    table = capsys.readouterr().out.splitlines()
    assert "a large product alone: NumPy's BLAS" in table[0] and table[1].startswith("conv1_1")
    assert table[-2].startswith("all others") and table[-1].startswith("in all")


def test_scaling_prints_and_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    options = [
        "--width",
        "2",
        "--sizes",
        "24",
        "40",
        "--threads",
        "1",
        "--runs",
        "1",
        "--out",
        str(tmp_path / "s.png"),
    ]
    monkeypatch.setattr("sys.argv", ["scaling", *options])
    assert scaling.main() == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:3]]
    assert [(row[0], row[1]) for row in rows] == [("24", "1")]
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
