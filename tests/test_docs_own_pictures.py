"""docs/own-pictures.md: every command and snippet on the page runs, in order, on a dozen small pictures."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PAGE = Path(__file__).parents[1] / "docs" / "own-pictures.md"
SMALL = {
    "fcnlite train folder": " --width 2 --fc 4 --iterations 4 --device cpu"
}  # added to the page's commands


def blocks():
    """The page's fenced blocks as (language, text)."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path):
    """Pictures of discs and masks of 0 and 1 with the class names that the page speaks of."""
    rng = np.random.default_rng(3)
    for part in ("photos", "masks"):
        (tmp_path / part).mkdir()
    (tmp_path / "classes.txt").write_text("background\ndisc\n")
    (tmp_path / "masks" / "classes.txt").write_text("background\ndisc\n")
    for name in "abcdefghijkl":
        y, x = np.mgrid[:48, :64]
        disc = (y - rng.integers(12, 36)) ** 2 + (x - rng.integers(12, 52)) ** 2 < rng.integers(36, 100)
        picture = rng.integers(0, 80, (48, 64, 3)) + 150 * disc[:, :, None]
        Image.fromarray(picture.astype(np.uint8)).save(tmp_path / "photos" / f"{name}.png")
        Image.fromarray(disc.astype(np.uint8)).save(tmp_path / "masks" / f"{name}.png")
    return tmp_path


def test_every_command_and_snippet_runs(folder):
    printed = ""
    for language, text in blocks():
        if language == "text":
            assert text in printed, (text, printed)
            continue
        if language == "python":
            command = [[sys.executable, "-c", text]]
        else:
            lines = [
                line + next((SMALL[k] for k in SMALL if line.startswith(k)), "") for line in text.splitlines()
            ]
            command = [[sys.executable, "-m", *shlex.split(line)] for line in lines if line]
        for words in command:
            done = subprocess.run(
                words, cwd=folder, capture_output=True, text=True, timeout=300,
                env={**os.environ, "FCNLITE_DEVICE": "cpu"},
            )  # fmt: skip
            printed = done.stdout
            assert done.returncode == 0, (words, done.stdout[-1500:], done.stderr[-1500:])
    assert (folder / "as-voc" / "ImageSets" / "Segmentation" / "train.txt").is_file()
