"""docs/take-it-with-you.md: its Python runs, in order, on a small net, and prints what it should."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnlite import models
from fcnlite.__main__ import main
from fcnlite.data.notes import Notes
from fcnlite.net import Segmenter

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
HAS_TORCH = find_spec("torch") is not None

PAGE = Path(__file__).parents[1] / "docs" / "take-it-with-you.md"


def test_the_python_on_the_page_runs(tmp_path: Path) -> None:
    net = Segmenter(models.build("fcn8s", width=4, fc=8, classes=3, deploy=True))
    draw = np.random.default_rng(0)
    for layer in net.layers:
        for blob in layer.blobs:
            blob.data[...] = draw.normal(0, 0.2, blob.shape)
    net.notes = Notes({"score": ("background", "circle", "square")}, told=True)
    net.save(tmp_path / "fcn8s.h5")
    assert main(["export", str(tmp_path / "fcn8s.h5"), str(tmp_path / "fcn8s.onnx"), "--whole"]) == 0
    Image.fromarray(draw.integers(0, 255, (40, 50, 3), np.uint8)).save(tmp_path / "photo.jpg")
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    code = "".join(blocks if HAS_TORCH else blocks[:1])
    environment = {**os.environ, "FCNLITE_DEVICE": "cpu"}
    options = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 200, "env": environment}
    done = subprocess.run([sys.executable, "-c", code], **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr[-2000:]
    first, *others = done.stdout.splitlines()
    assert first.startswith("(40, 50) [")
    assert others == (["True"] if HAS_TORCH else [])


def test_the_first_example_is_ten_lines() -> None:
    (first, *_) = re.findall(
        r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert len([line for line in first.splitlines() if line.strip()]) <= 10
