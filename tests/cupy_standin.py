"""Puts the stand-in CuPy in the real one's place for a while."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fcnlite import device

NO_CUPY = (
    "no real CuPy: pip install --target FOLDER --no-deps cupy-cuda12x cuda-pathfinder; FCNLITE_CUPY=FOLDER"
)
FOLDER = Path(__file__).parent / "standin"


@contextmanager
def standing_in(monkeypatch: Any, gpus: int = 1) -> Iterator[Any]:
    """The stand-in as a module; afterwards no array may have been written to beyond its ends."""
    monkeypatch.setenv("FCNLITE_STANDIN_GPUS", str(gpus))
    monkeypatch.setattr(device, "_current", device._current)
    kept, path = _take_out(), sys.path  # this list, even where a test puts another in its place
    assert str(FOLDER) not in path, "an earlier test has left the stand-in on sys.path"
    path.insert(0, str(FOLDER))
    try:
        cupy = importlib.import_module("cupy")
        yield cupy
        overruns = importlib.import_module("cupy._memory").check_all()
        assert not overruns, overruns
    finally:
        path.remove(str(FOLDER))
        _take_out()
        sys.modules.update(kept)


def real_cupy() -> str | None:
    """Where the real package is: $FCNLITE_CUPY, or `cupy` beside this environment's own packages."""
    for folder in (os.environ.get("FCNLITE_CUPY"), str(Path(sys.prefix) / "cupy")):
        if folder and (Path(folder) / "cupy" / "__init__.py").is_file():
            return folder
    return None


def _take_out() -> dict[str, Any]:
    names = [name for name in sys.modules if name.split(".")[0] in ("cupy", "cupy_backends")]
    return {name: sys.modules.pop(name) for name in names}
