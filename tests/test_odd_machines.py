"""Machines that lack a home, a compiler, or a place to write: fcnlite works, or names the variable to set."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fcnlite.backend import compile as compiler
from fcnlite.errors import InputError
from fcnlite.resources import cache_folder

RELU = (Path(__file__).parents[1] / "kernels" / "rows.cuh").read_text()


def run(*words: object, **environment: str | None) -> subprocess.CompletedProcess[str]:
    changed = {name: value for name, value in (os.environ | environment).items() if value is not None}
    command = [sys.executable, "-m", "fcnlite", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=changed, timeout=100, check=False)


@pytest.mark.parametrize(
    "machine",
    [
        {"HOME": None, "XDG_CACHE_HOME": None},
        {"HOME": "/nonexistent", "TMPDIR": "/nonexistent"},
        {"FCNLITE_CACHE": "/proc/none", "PATH": "/nonexistent", "CXX": "none"},
    ],
    ids=["no home", "no temporary folder", "no cache and no compiler"],
)
@pytest.mark.parametrize("words", [["--version"], ["--help"], ["download", "--list"], ["train", "--help"]])
def test_what_needs_nothing_works_anywhere(machine: dict[str, str | None], words: list[str]) -> None:
    done = run(*words, **machine)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout


def test_without_a_home_the_cache_is_a_temporary_folder(monkeypatch, tmp_path: Path) -> None:
    for name in ("FCNLITE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where the user is in no list
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert cache_folder() == tmp_path / f"fcnlite-{os.getuid()}"


def test_a_library_built_before_serves_when_the_compiler_is_gone(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("FCNLITE_CACHE", str(tmp_path))
    built = compiler.library(RELU, "float")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    compiler.find_compiler.cache_clear()
    try:
        assert compiler.library(RELU, "float") == built
        with pytest.raises(InputError, match="no C\\+\\+ compiler found: install g\\+\\+ .*, set CXX"):
            compiler.library(RELU + "// another", "float")
        built.write_bytes(b"damaged")
        with pytest.raises(InputError, match="no C\\+\\+ compiler found"):
            compiler.library(RELU, "float")
    finally:
        compiler.find_compiler.cache_clear()


def test_a_cache_that_cannot_be_written_names_the_variable(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FCNLITE_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="cannot write the kernel cache .*set FCNLITE_CACHE to a folder"):
        compiler.library(RELU, "float")


def test_builds_that_were_killed_are_cleared(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("FCNLITE_CACHE", str(tmp_path))
    old, new = tmp_path / "kernels" / "build-1-x", tmp_path / "kernels" / "build-2-x"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "part.so").touch()
    os.utime(old, (time.time() - 7200,) * 2)
    compiler.library(RELU, "float")
    assert not old.exists() and new.exists()
