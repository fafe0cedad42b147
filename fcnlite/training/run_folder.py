"""The folder of a training run: settings, log, snapshots, validation, and what is needed to go on from each."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from fcnlite import vis
from fcnlite.errors import InputError
from fcnlite.io import atomic_path, check, iter_weights, parse_json, read_json, read_state, write_text
from fcnlite.io.lock import LOCK, Lock, clear_parts, is_debris
from fcnlite.solver import SGDSolver
from fcnlite.training.plan import Plan

SETTINGS = "settings.json"
SNAPSHOTS = "snapshots"
SEEN = "report"  # what snapshots made of the report's pictures
STATE = ".solverstate.h5"


_ORIGIN = "from_state"
_SETTINGS = {"plan": dict[str, Any]}
_RECORD = {
    "iteration": int,
    "loss": float,
    "lr": float,
}  # of a line of the log, the values that are read again


_VALIDATION = {"iteration": int, "labels": {str: {"mean_iu": float | None}}}


class Validation(NamedTuple):
    """The values that are read again of a validation; values are None where nothing could be measured."""

    iteration: int
    loss: float | None
    mean_iu: float | None


class Snapshots:
    """The snapshots of a run and the validations by which the best is told.

    Attributes
    ----------
    path : pathlib.Path
        The run's folder.
    """

    path: Path

    @property
    def snapshots(self) -> Path:
        """Where the snapshots are."""
        return self.path / SNAPSHOTS

    def write_validation(
        self, iteration: int, scores: Mapping[str, Any], table: str, picture: np.ndarray
    ) -> None:
        """Write validation/iter_N.json, .txt and .png."""
        folder = self.path / "validation"
        folder.mkdir(exist_ok=True)
        write_text(folder / f"iter_{iteration}.txt", table + "\n")
        vis.write_image(folder / f"iter_{iteration}.png", picture)
        scores = {"iteration": iteration, **scores}
        write_text(self._scores(iteration), json.dumps(scores, indent=2) + "\n")  # last: a sign of all three

    def is_validated(self, iteration: int) -> bool:
        """True if the validation of an iteration has been written, to the end."""
        return self._scores(iteration).is_file()

    def _scores(self, iteration: int) -> Path:
        return self.path / "validation" / f"iter_{iteration}.json"

    def validations(self) -> list[Validation]:
        """The validations so far, in order.

        Raises
        ------
        InputError
            A file is damaged.
        """
        found = []
        for path in (self.path / "validation").glob("iter_*.json"):
            scores = read_json(path, _VALIDATION)
            head = next(iter(scores["labels"].values()), {"mean_iu": None})
            found.append(Validation(scores["iteration"], scores.get("loss"), head["mean_iu"]))
        return sorted(found, key=lambda validation: validation.iteration)

    def snapshot(self, solver: SGDSolver, name: str) -> Path:
        """Save weights and the solver's state, from which the run can go on exactly; returns the state's file."""
        self.snapshots.mkdir(exist_ok=True)
        return solver.snapshot(self.snapshots / name)[1]

    def states(self) -> dict[int, Path]:
        """The states of the snapshots by their iterations, the last one first."""
        found = {
            int(number[1]): path
            for path in self.snapshots.glob(f"*{STATE}")
            if (number := re.search(r"_iter_(\d+)\.", path.name))
        }
        return dict(sorted(found.items(), reverse=True))

    def latest(self, say: Callable[[str], object] = print) -> Path | None:
        """The state of the last snapshot that is whole; None where there is none, to go on from iteration 0.

        Parameters
        ----------
        say : callable
            Told of each damaged snapshot that is passed over.
        """
        for state in self.states().values():
            fault = damage(state)
            if not fault:
                return state
            say(f"passing over a snapshot: {fault}")
        return None

    def best(self, name: str) -> Path | None:
        """The state of the snapshot with the best mean IU in validation; the earliest of equals."""
        found = [
            (-validation.mean_iu, validation.iteration, state)
            for validation in self.validations()
            if validation.mean_iu is not None
            and weights_of(state := self.state(name, validation.iteration)).is_file()
        ]
        return min(found)[2] if found else None

    def state(self, name: str, iteration: int) -> Path:
        """The file of a snapshot's state."""
        return self.snapshots / f"{name}_iter_{iteration}{STATE}"

    def prune(self, name: str, keep: int, iteration: int) -> None:
        """Remove the snapshots up to an iteration but the newest `keep` and the best; 0 keeps all."""
        if not keep:
            return
        states = self.states()
        best = self.best(name)
        for older in sorted(at for at in states if at <= iteration)[:-keep]:
            if states[older] != best:
                states[older].unlink(missing_ok=True)
                weights_of(states[older]).unlink(missing_ok=True)

    def write_final(self, state: Path, name: str) -> Path:
        """Give the weights of a snapshot the name NAME.h5, as a second link to the file where the disk can."""
        return link_or_copy(weights_of(state), self.path / f"{name}.h5")


class RunFolder(Snapshots):
    """A run's files.

    `settings.json`
        The plan (`fcnlite.training.plan.Plan`), class names, number of images, device, version.
    `data.json`
        For pictures of one's own: the files, the parts to train and to validate on, and what the masks mean
        (`fcnlite.data.folder.Manifest`).
    `train.prototxt`, `solver.prototxt`
        The net and the solver as Caffe reads them.
    `log.jsonl`
        A line an iteration: `iteration`, `loss`, `smoothed_loss`, `lr`, `seconds`, `images`.
    `validation/iter_N.json`
        A validation after N iterations: `iteration`, `images`, `seconds_per_image`, `loss` (the mean over the pixels
        that count, of the first label blob), and under `labels` for each label blob `classes`, the four metrics,
        `class_accuracy`, `class_iu`, `class_pixels` and `histogram`, the confusion matrix (rows: the truth). Beside it
        the same as a table, `.txt`, and the first images as a picture, `.png`.
    `loss.png`
        The losses in training and validation, and the mean IU.
    `snapshots/NET_iter_N.caffemodel.h5`, `.solverstate.h5`
        Weights and solver states in Caffe's HDF5: the newest ones and the best.
    `report.html`, `report/iter_N`
        The page about the run, if it was asked for, and what its snapshots made of the page's pictures.
    `tensorboard`
        Event files, if they were asked for.
    `NET.h5`
        The weights that the run ends with.

    Attributes
    ----------
    path : pathlib.Path
    origin : pathlib.Path or None
        The solver state of another run that this one began from.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._log: TextIO | None = None
        self._lock: Lock | None = None
        self._is_new = False
        self.origin: Path | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """The folder as another process of the run gets to know it."""
        return SeenFolder, (self.path,)

    @classmethod
    def create(cls, path: str | os.PathLike[str], begun: Collection[str] = ()) -> RunFolder:
        """A new run's folder, owned by this process.

        Parameters
        ----------
        path : path
        begun : collection of str
            Names of files that a run writes before its settings, and that a killed one may have left.

        Raises
        ------
        InputError
            There is something in it already, or another process is about to use it.
        """
        folder = cls(path)
        if folder.path.exists() and not folder.path.is_dir():
            raise InputError(f"{folder.path} is a file; name a new or empty folder with --out")
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.take()
        if folder.holds_run():
            raise InputError(
                f"{folder.path} holds another run; go on with it by --resume {folder.path}, "
                "or name another folder with --out"
            )
        if not all(is_debris(entry) or entry.name in begun for entry in folder.path.iterdir()):
            raise InputError(f"{folder.path} holds other files; name a new or empty folder with --out")
        folder._is_new = True
        return folder

    def take(self) -> None:
        """Own the folder, and clear it of what a killed process was writing.

        Raises
        ------
        InputError
            Another process owns it.
        """
        self._lock = Lock(self.path / LOCK, os.fspath(self.path))
        for folder in (self.path, self.snapshots, self.path / "validation"):
            clear_parts(folder)

    def release(self) -> None:
        """Let another process own the folder."""
        self.close()
        if self._lock is not None:
            self._lock.release()

    def discard(self) -> None:
        """Remove the folder after a mistake, if this process made it."""
        self.close()
        if self._is_new:
            shutil.rmtree(self.path, ignore_errors=True)
        self.release()

    @classmethod
    def around(cls, state: Path) -> RunFolder | None:
        """The run that a snapshot's file belongs to, if it lies in one."""
        folder = cls(state.resolve().parent.parent)
        return folder if state.resolve().parent.name == SNAPSHOTS and folder.holds_run() else None

    @classmethod
    def unused(cls, name: str) -> Path:
        """A path under runs/ where nothing is yet: runs/NAME, runs/NAME-2, ..."""
        number, path = 1, Path("runs") / name
        while path.exists():
            number += 1
            path = Path("runs") / f"{name}-{number}"
        return path

    def holds_run(self) -> bool:
        """True if a run was started here."""
        return (self.path / SETTINGS).is_file()

    # Settings

    def begin(self, plan: Plan, origin: Path | None) -> None:
        """Note what is about to be trained: from here on, the run can be gone on with, whenever it is killed."""
        self.origin = None if origin is None else origin.resolve()
        self.write_settings({"plan": plan.to_json()})

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """Write settings.json."""
        if self.origin is not None:
            settings = {**settings, _ORIGIN: str(self.origin)}
        write_text(self.path / SETTINGS, json.dumps(settings, indent=2) + "\n")

    def read_settings(self) -> dict[str, Any]:
        """Read settings.json.

        Raises
        ------
        InputError
            It is damaged.
        """
        settings = read_json(self.path / SETTINGS, _SETTINGS)
        if _ORIGIN in settings:
            check(settings, {_ORIGIN: str}, self.path / SETTINGS)
            self.origin = Path(settings[_ORIGIN])
        return settings

    # Log

    def log(self, record: Mapping[str, Any]) -> None:
        """Add a line to log.jsonl; it is on disk when this returns."""
        if self._log is None:
            self._log = open(self.path / "log.jsonl", "a", encoding="utf-8")
        self._log.write(json.dumps(record) + "\n")
        self._log.flush()

    def records(self) -> Iterator[dict[str, Any]]:
        """The lines of log.jsonl; one that a crash cut short ends them.

        Raises
        ------
        InputError
            A whole line is damaged.
        """
        path = self.path / "log.jsonl"
        if not path.is_file():
            return
        with open(path, encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith("\n"):
                    return
                yield parse_json(line, f"{path}, line {number},", _RECORD)

    def forget_after(self, iteration: int) -> list[dict[str, Any]]:
        """Drop the log's lines and the validations of later iterations, before going on; returns the lines left."""
        for validation in self.validations():
            if validation.iteration > iteration:
                for path in (self.path / "validation").glob(f"iter_{validation.iteration}.*"):
                    path.unlink()
        for path in (self.path / SEEN).glob("iter_*"):
            if path.name[5:].isdecimal() and int(path.name[5:]) > iteration:
                shutil.rmtree(path)
        kept = [record for record in self.records() if record["iteration"] <= iteration]
        self.close()
        if (self.path / "log.jsonl").is_file():
            lines = "".join(json.dumps(record) + "\n" for record in kept)
            write_text(self.path / "log.jsonl", lines)
        return kept

    def draw_curve(self, smooth: int, title: str) -> None:
        """Draw loss.png from the log."""
        records = list(self.records())
        if records:
            columns = ([record[key] for record in records] for key in ("iteration", "loss", "lr"))
            last = records[-1]["iteration"]
            points = [(v.iteration, v.loss, v.mean_iu) for v in self.validations() if v.iteration <= last]
            vis.write_loss_curve(
                self.path / "loss.png", *columns, smooth=smooth, title=title, validations=points
            )

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()
            self._log = None


def iteration_of(state: Path) -> int:
    """The iteration that a snapshot's name tells."""
    return int(state.name.removesuffix(STATE).rpartition("_iter_")[2])


def damage(state: Path) -> str:
    """The fault of a snapshot, of whose two files one is missing, damaged or holds NaN; empty for a good one."""
    try:
        read_state(state)
        for layer, arrays in iter_weights(weights_of(state)):
            if not all(np.isfinite(array).all() for array in arrays):
                return f"{weights_of(state)}: layer '{layer}' holds NaN or infinite numbers"
    except (InputError, OSError) as error:
        return " ".join(str(error).split())
    return ""


class SeenFolder(RunFolder):
    """A run's folder as seen by the other processes of a run: the first one alone writes to it."""

    def discard(self) -> None:
        pass

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        pass

    def log(self, record: Mapping[str, Any]) -> None:
        pass

    def forget_after(self, iteration: int) -> list[dict[str, Any]]:
        return [record for record in self.records() if record["iteration"] <= iteration]

    def draw_curve(self, smooth: int, title: str) -> None:
        pass

    def prune(self, name: str, keep: int, iteration: int) -> None:
        pass

    def write_final(self, state: Path, name: str) -> Path:
        return self.path / f"{name}.h5"


def weights_of(state: Path) -> Path:
    """The weights saved with a state."""
    return Path(str(state).removesuffix(STATE) + ".caffemodel.h5")


def link_or_copy(file: Path, other: Path) -> Path:
    """Give a file a second name, by a copy where the disk has no links; returns that name."""
    with atomic_path(other) as temporary:
        try:
            os.link(file, temporary)
        except OSError:
            shutil.copyfile(file, temporary)
    return other
