"""A short pass of the fuzzer and of the attacks on runs; `python -m benchmarks.fuzz --minutes N` is a long one."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from benchmarks import fuzz
from fcnlite.errors import InputError

COUNT = 20
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", fuzz.READERS)
def test_a_damaged_file_is_read_or_told(tmp_path: Path, name: str) -> None:
    suffix, make, read = fuzz.READERS[name]
    path = tmp_path / f"x{suffix}"
    make(path)
    good = path.read_bytes()
    read(path)
    told = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(COUNT):
            path.write_bytes(fuzz.damaged(good, random.Random(f"2 {name} {number}")))
            try:
                read(path)
            except InputError as error:
                told += 1
                assert str(error)
    assert told or name in ("list", "classes", "ppm", "bmp", "settings"), "no damage was ever seen"


EVIL = """
import ctypes, os, sys
for number in range(int(sys.argv[1]), 4):
    print(f"at {number}", flush=True)
    if number == 0:
        print("traceback 0 KeyError: 'x'", flush=True)
    elif number == 1:
        ctypes.string_at(0)
    elif number == 2:
        while True:
            pass
    else:
        print("memory 3 1500 MB", flush=True)
print("done")
"""


def test_the_fuzzer_sees_crashes_hangs_tracebacks_and_memory(tmp_path: Path, monkeypatch) -> None:
    class Evil(fuzz.Watch):
        def worker(self, name: str, first: int, count: int) -> list[str]:
            return [sys.executable, "-c", EVIL, str(first)]

    monkeypatch.setattr(fuzz, "SECONDS", 1)
    watch = Evil(1, tmp_path / "kept")
    watch.feed("list", 0, 4)
    assert [watch.counts[kind] for kind in ("traceback", "crash", "hang", "memory")] == [1] * 4, (
        watch.failures
    )
    assert len(list((tmp_path / "kept").iterdir())) == 4


def test_the_fuzzers_worker_reads_what_it_is_told_to(capfd) -> None:
    watch = fuzz.Watch(1)
    watch.feed("list", 5, 3)
    assert watch.counts == {"list": 3}


def test_attacked_runs_keep_what_is_promised() -> None:
    command = [sys.executable, "-m", "benchmarks.attack", "--kills", "1", "--pairs", "0", "--disks", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"killed: good +1\n", done.stdout) and re.search(r"full disks: good +1\n", done.stdout)
