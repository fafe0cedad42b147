"""What only the stand-in has: which names the real CuPy has, and a count of what makes the host wait."""

from __future__ import annotations

import os
from collections import Counter
from functools import cache
from pathlib import Path

# How often the host waited for the GPU, and by what.
waits: Counter[str] = Counter()
# Writes beyond an allocation, found when it was freed.
overruns: list[str] = []


class Refused(TypeError):
    """A call that real CuPy would take, and get wrong."""


def gpus() -> int:
    """How many GPUs the machine pretends to have."""
    return int(os.environ.get("FCNLITE_STANDIN_GPUS", "1"))


@cache
def surface() -> dict[str, str]:
    """The real CuPy's names, each with its parameters as text, `?` where they are not known."""
    lines = (Path(__file__).parents[1] / "surface.txt").read_text().splitlines()
    return dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))
