"""Puts the stand-in CuPy in the real one's place for a while."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fcnlite import device

FOLDER = Path(__file__).parent / "standin"


@contextmanager
def standing_in(monkeypatch: Any, gpus: int = 1) -> Iterator[Any]:
    """The stand-in as a module; afterwards no array may have been written to beyond its ends."""
    monkeypatch.setenv("FCNLITE_STANDIN_GPUS", str(gpus))
    monkeypatch.setattr(device, "_current", device._current)
    kept = _take_out()
    sys.path.insert(0, str(FOLDER))
    try:
        cupy = importlib.import_module("cupy")
        yield cupy
        overruns = importlib.import_module("cupy._memory").check_all()
        assert not overruns, overruns
    finally:
        sys.path.remove(str(FOLDER))
        _take_out()
        sys.modules.update(kept)


def _take_out() -> dict[str, Any]:
    names = [name for name in sys.modules if name.split(".")[0] in ("cupy", "cupy_backends")]
    return {name: sys.modules.pop(name) for name in names}
