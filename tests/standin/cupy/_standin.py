"""What only the stand-in has: which names the real CuPy has, and a count of what makes the host wait."""

from __future__ import annotations

import os
import threading
from collections import Counter
from functools import cache
from pathlib import Path

# How often the host waited for the GPU, and by what.
waits: Counter[str] = Counter()
# Writes beyond an allocation, found when it was freed.
overruns: list[str] = []
# How much the GPU has been asked to do, and how much of it is known to be done.
asked = done = 0
# Up to which work each stream beside the default one has waited for that, by the stream's address.
waited: dict[int, int] = {}
_thread = threading.local()


class Refused(TypeError):
    """A call that real CuPy would take, and get wrong."""


def gpus() -> int:
    """How many GPUs the machine pretends to have."""
    return int(os.environ.get("FCNLITE_STANDIN_GPUS", "1"))


def current_device() -> int:
    """The number of the calling thread's GPU: the first one, in a thread that has chosen none."""
    return getattr(_thread, "device", 0)


def use_device(number: int) -> None:
    """Make it the calling thread's GPU."""
    _thread.device = number


def ask() -> int:
    """Count a piece of work; returns its number."""
    global asked
    asked += 1
    return asked


def wait(kind: str, until: int | None = None) -> None:
    """Count a wait for the GPU, until a piece of work is done or all that it has been asked."""
    global done
    waits[kind] += 1
    done = max(done, asked if until is None else until)


@cache
def surface() -> dict[str, str]:
    """The real CuPy's names, each with its parameters as text, `?` where they are not known."""
    lines = (Path(__file__).parents[1] / "surface.txt").read_text().splitlines()
    return dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))
