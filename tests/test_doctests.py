"""The examples in docstrings give what they show."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WITH_EXAMPLES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "fcnlite").rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_give_what_they_show(name: str) -> None:
    if name.startswith("fcnlite.export.torch"):
        pytest.importorskip("torch", reason="the extra 'torch' is not installed")
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_examples_are_found() -> None:
    """Those of netspec and models run without data or weights."""
    assert {"fcnlite.netspec", "fcnlite.models"} <= set(WITH_EXAMPLES)
    assert doctest.testmod(importlib.import_module("fcnlite.netspec")).attempted > 2
