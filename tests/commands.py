"""Runs the commands as a user does, on a tiny data set, and reads what they leave behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from fcnlite.data import shapes
from fcnlite.io import read_weights

# Characters of names: all but those that could drive a terminal, which are refused.
NAME_CHARACTERS = st.characters(
    codec="utf-8",
    exclude_categories=("Cc", "Zl", "Zp"),
    exclude_characters="\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
)
NARROW = ("--width", "2", "--fc", "8")


def printed(script: str, *arguments: object) -> str:
    """What a Python program prints that runs by itself, with `peak()`, the most MB of memory it has held so far."""
    return subprocess.run(
        [sys.executable, "-c", _PEAK + script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


# Of this program alone: getrusage would start from what the parent held when it forked.
_PEAK = """
def peak():
    with open("/proc/self/status") as file:
        return int(file.read().split("VmHWM:")[1].split()[0]) / 1024

"""


def draw(folder: Path, train: int = 4, val: int = 2) -> Path:
    """A folder in VOC's layout with classes of its own: the demo's pictures."""
    return shapes.write(folder, train=train, val=val, seed=7)


def ends(main: Callable[..., int], arguments: Sequence[object]) -> int:
    """The exit status of a command, whichever way it leaves."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as error:
        assert isinstance(error.code, int)
        return error.code


def fails(
    capsys: pytest.CaptureFixture[str], main: Callable[..., int], arguments: Sequence[object], *words: str
) -> str:
    """Check that a command ends with status 2 and one line, in which all the words are; returns the line."""
    capsys.readouterr()
    assert ends(main, arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    missing = [word for word in words if word not in lines[0]]
    assert not missing, f"{missing} not in: {lines[0]}"
    assert lines[0].startswith(f"fcnlite {main.__module__.rpartition('.')[2]}: error: ")
    return lines[0]


def log(run: Path) -> list[dict[str, Any]]:
    """A run's log."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def same_weights(one: Path, other: Path) -> bool:
    """Whether two files of weights hold the same bits."""
    a, b = read_weights(one), read_weights(other)
    return list(a) == list(b) and all(
        len(a[k]) == len(b[k]) and all(np.array_equal(x, y) for x, y in zip(a[k], b[k])) for k in a
    )


def python(*arguments: object) -> list[str]:
    """A command line that runs this Python."""
    return [sys.executable, *map(str, arguments)]
