"""Starts several processes under mpiexec, as `pip install 'fcnlite[mpi]'` brings it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def mpiexec() -> str:
    """The launcher of the installed mpich wheel, or the one on PATH; without either the test is skipped."""
    try:
        found = [str(path.locate().resolve()) for path in files("mpich") or () if path.name == "mpiexec"]
    except PackageNotFoundError:
        found = []
    launcher = found[0] if found else shutil.which("mpiexec")
    pytest.importorskip("mpi4py", reason="no mpi4py: pip install 'fcnlite[mpi]'")
    if launcher is None:
        pytest.skip("no mpiexec: pip install 'fcnlite[mpi]'")
    return launcher


def environment() -> dict[str, str]:
    """The environment of the processes: MPI's library is found even where the wheel lies in another environment."""
    made = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "FCNLITE_THREADS": "1"}
    made["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests"), made.get("PYTHONPATH", "")])
    library = Path(mpiexec()).parents[1] / "lib" / "libmpi.so.12"
    if library.is_file():
        made.setdefault("MPI4PY_LIBMPI", str(library))
    return made


def command(ranks: int, *words: object) -> list[str]:
    """A command line that runs this Python in so many processes."""
    return [mpiexec(), "-n", str(ranks), sys.executable, *map(str, words)]


def run(
    ranks: int, words: Sequence[object], cwd: Path, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run this Python in so many processes and wait for them."""
    return subprocess.run(
        command(ranks, *words), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=timeout
    )
