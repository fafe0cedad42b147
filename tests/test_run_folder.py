"""A run's folder has one owner, and whatever moment its process is killed at, the run goes on to the same bits."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from commands import NARROW, draw, ends, fails, log, python, same_weights

from fcnlite.commands.train import main
from fcnlite.errors import InputError
from fcnlite.io import atomic_path, write_text
from fcnlite.io.lock import LOCK, Lock, owning
from fcnlite.training.chain import Chain
from fcnlite.training.run_folder import RunFolder, damage


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("data") / "shapes", train=3, val=1)


def options(data: Path, out: Path, *more: object) -> list[object]:
    start = ["voc", "--data", data, "--net", "fcn8s", *NARROW, "--device", "cpu", "--out", out]
    return [*start, "--recipe", "scratch", "--iterations", 4, "--snapshot", 2, *more]


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed: 4 iterations, snapshots after 2 and 4."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert ends(main, options(data, out)) == 0
    return out


def same_run(one: Path, other: Path) -> bool:
    """Whether two runs ended with the same weights, losses and validations."""
    losses = [[(r["iteration"], r["loss"], r["images"]) for r in log(run)] for run in (one, other)]
    scores = [[scores_of(path) for path in sorted(run.glob("validation/*.json"))] for run in (one, other)]
    return (
        same_weights(one / "fcn8s.h5", other / "fcn8s.h5")
        and losses[0] == losses[1]
        and scores[0] == scores[1]
    )


def scores_of(path: Path) -> dict[str, Any]:
    return {key: value for key, value in json.loads(path.read_text()).items() if key != "seconds_per_image"}


# Locks


def test_a_lock_has_one_owner_and_is_gone_after_it(tmp_path: Path) -> None:
    lock = Lock(tmp_path / LOCK, "the run")
    with pytest.raises(InputError, match=f"^the run is in use by process {os.getpid()}: wait for its end"):
        Lock(tmp_path / LOCK, "the run")
    lock.release()
    lock.release()
    assert not list(tmp_path.iterdir())
    with owning():
        Lock(tmp_path / LOCK, "the run")
        assert (tmp_path / LOCK).read_text() == f"{os.getpid()}\n"
    assert not list(tmp_path.iterdir())


def test_a_killed_owners_lock_is_free(tmp_path: Path) -> None:
    code = f"import os, signal; from fcnlite.io.lock import *; l = Lock(Path({str(tmp_path)!r}, LOCK), 'it')"
    done = subprocess.run(python("-c", code + "; os.kill(os.getpid(), signal.SIGKILL)"), check=False)
    assert done.returncode == -signal.SIGKILL and (tmp_path / LOCK).exists()
    Lock(tmp_path / LOCK, "it").release()


def test_a_disk_without_locks_serves(tmp_path: Path, monkeypatch) -> None:
    import errno
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    Lock(tmp_path / LOCK, "it").release()
    with pytest.raises(InputError, match="cannot be written"):
        Lock(tmp_path / "none" / LOCK, "it")


# One owner


@pytest.mark.parametrize("way", ["anew", "resumed"])
def test_a_second_run_is_refused_and_harms_nothing(
    data: Path, whole: Path, tmp_path: Path, capsys, way
) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    owner = RunFolder(out)
    owner.take()
    second = options(data, out) if way == "anew" else ["voc", "--resume", out]
    fails(capsys, main, second, f"{out} is in use by process {os.getpid()}")
    owner.release()
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}.items() <= before.items()


def test_of_runs_started_at_once_one_goes_through(data: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = python("-m", "fcnlite", "train", *options(data, out))
    both = [
        subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in "12"
    ]
    told = [process.communicate(timeout=120)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 2], told
    assert "is in use by process" in "".join(told) or "holds another run" in "".join(told)
    assert same_run(whole, out)


def test_what_a_killed_run_wrote_before_its_settings_is_in_nobodys_way(tmp_path: Path) -> None:
    for name in (LOCK, ".settings.json.0a1b.part", "first.json"):
        (tmp_path / name).write_text("left")
    with pytest.raises(InputError, match="holds other files"), owning():
        RunFolder.create(tmp_path)
    RunFolder.create(tmp_path, begun=("first.json",)).release()
    assert [path.name for path in tmp_path.iterdir()] == ["first.json"]


def test_only_a_folder_of_its_own_making_is_discarded(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{}")
    folder = RunFolder(tmp_path)
    folder.take()
    folder.discard()
    assert (tmp_path / "settings.json").exists()
    fresh = RunFolder.create(tmp_path / "new")
    fresh.discard()
    assert not (tmp_path / "new").exists()
    chain = Chain.create(tmp_path / "chain", ["fcn32s", "fcn16s"], "final", {})
    chain.owned.release()
    again = Chain.read(tmp_path / "chain")
    again.discard_if_unused()
    assert (tmp_path / "chain" / "chain.json").exists()


# Killed


def kill_when(command: list[str], ready: Path) -> None:
    """Start a command and kill it as soon as a file exists."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 100
    while not ready.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.wait()


def test_killed_before_its_first_snapshot_a_run_goes_on_from_iteration_0(
    data: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    kill_when(python("-m", "fcnlite", "train", *options(data, out)), out / "settings.json")
    assert not (out / "snapshots").exists()
    assert ends(main, ["voc", "--resume", out, "--device", "cpu"]) == 0
    assert same_run(whole, out) and not (out / LOCK).exists()


def test_killed_before_its_settings_the_same_command_goes_on(data: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    kill_when(python("-m", "fcnlite", "train", *options(data, out)), out)
    if not (out / "settings.json").exists():
        (out / ".settings.json.0123.part").write_text('{"half')
        assert ends(main, options(data, out)) == 0
        assert same_run(whole, out) and not list(out.glob(".*"))


def cut(whole: Path, out: Path, iteration: int) -> Path:
    """A copy of a run as it was right after the snapshot of an iteration."""
    shutil.copytree(whole, out)
    (out / "fcn8s.h5").unlink()
    for path in [*(out / "snapshots").iterdir(), *(out / "validation").iterdir()]:
        number = int(path.name.split("iter_")[1].split(".")[0])
        if number > iteration or (number == iteration and path.parent.name == "validation"):
            path.unlink()
    return out


def test_a_validation_that_was_prevented_is_made_up(whole: Path, tmp_path: Path) -> None:
    out = cut(whole, tmp_path / "run", 2)
    assert not (out / "validation" / "iter_2.json").exists()
    assert ends(main, ["voc", "--resume", out, "--device", "cpu"]) == 0
    assert same_run(whole, out)
    for path in (out / "validation").glob("iter_2.*"):
        path.unlink()
    (out / "fcn8s.h5").unlink()
    assert ends(main, ["voc", "--resume", out, "--device", "cpu"]) == 0  # it has the snapshot after 4, too
    assert same_run(whole, out)


def test_a_damaged_snapshot_is_passed_over(whole: Path, tmp_path: Path, capsys) -> None:
    out = cut(whole, tmp_path / "run", 4)
    state = out / "snapshots" / "fcn8s_iter_4.solverstate.h5"
    state.write_bytes(state.read_bytes()[:1000])
    capsys.readouterr()
    assert ends(main, ["voc", "--resume", out, "--device", "cpu"]) == 0
    assert f"passing over a snapshot: {state}: damaged or cut short" in capsys.readouterr().out
    assert same_run(whole, out)


def test_the_faults_of_a_snapshot(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "snapshots", tmp_path / "s")
    state, weights = (tmp_path / "s" / f"fcn8s_iter_2.{kind}.h5" for kind in ("solverstate", "caffemodel"))
    assert damage(state) == ""
    with h5py.File(weights, "r+") as file:
        file["data/conv1_1/0"][0, 0, 0, 0] = np.nan
    assert damage(state) == f"{weights}: layer 'conv1_1' holds NaN or infinite numbers"
    weights.unlink()
    assert "there is no such file" in damage(state)


def test_a_run_begun_from_a_state_is_begun_from_it_again(data: Path, whole: Path, tmp_path: Path) -> None:
    for path in (whole / "snapshots").glob("*_2.*"):
        shutil.copy(path, tmp_path)
    state, out = tmp_path / "fcn8s_iter_2.solverstate.h5", tmp_path / "run"
    more = ["--resume", state]
    assert ends(main, options(data, out, *more)) == 0
    shutil.rmtree(out / "snapshots")
    assert ends(main, ["voc", "--resume", out, "--device", "cpu"]) == 0
    assert same_weights(whole / "fcn8s.h5", out / "fcn8s.h5")
    assert json.loads((out / "settings.json").read_text())["from_state"] == str(state)


# Files


def test_a_file_is_on_the_disk_before_its_name(tmp_path: Path, monkeypatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda number: done.append(os.readlink(f"/proc/self/fd/{number}")))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *names: done.append("renamed") or replace(*names))
    write_text(tmp_path / "a", "text")
    assert done[0].endswith(".part") and done[1:] == ["renamed", str(tmp_path)]
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "b") as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
