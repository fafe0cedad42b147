"""Watchers of a run that trains: a page that is written anew, and event files for TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from fcnlite.errors import InputError
from fcnlite.scoring import Evaluation


class Watcher(Protocol):
    """The progress that a `Trainer` tells, in the process that leads."""

    def stepped(self, record: Mapping[str, Any]) -> None:
        """Take a line of the log, written after an iteration."""

    def validated(self, iteration: int, found: Evaluation) -> None:
        """Take the scores of a validation, whose snapshot is saved."""

    def close(self, finished: bool) -> None:
        """End: the run was trained to its end, or stopped."""


class PageWriter:
    """Writes a run's report.html after every so many validations, and at the end.

    Parameters
    ----------
    folder : Path
        The run's.
    every : int
    say : callable
        Told, once, where the page is.
    """

    def __init__(self, folder: Path, every: int, say: Callable[[str], object] = print) -> None:
        self._folder, self._every, self._say = folder, every, say
        self._seen = 0
        self._is_stale = False

    def stepped(self, record: Mapping[str, Any]) -> None:
        """Nothing: the page is about validations."""

    def validated(self, iteration: int, found: Evaluation) -> None:
        """Write the page, if it is time."""
        self._is_stale = True
        self._seen += 1
        if self._seen % self._every == 0:
            self._write()

    def close(self, finished: bool) -> None:
        """Write the page of a whole run, if anything is new."""
        if self._is_stale and finished:
            self._write()

    def _write(self) -> None:
        from fcnlite.training.gather import PAGE, write_page  # plotly takes its time to load

        if self._seen <= self._every:
            self._say(f"report: {self._folder / PAGE}")
        write_page(self._folder / PAGE, [self._folder])
        self._is_stale = False


class EventWriter:
    """Writes TensorBoard's event files into a run's folder tensorboard.

    Losses and rate of each iteration; loss, the four metrics and each class's IU of each validation.

    Raises
    ------
    InputError
        The package tensorboardX is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise InputError(
                "--tensorboard needs the package tensorboardX: pip install 'fcnlite[tensorboard]'"
            ) from None
        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def stepped(self, record: Mapping[str, Any]) -> None:
        """Note the losses and the rate."""
        for name in ("loss", "smoothed_loss", "lr"):
            self._note(f"training/{name}", record[name], record["iteration"])

    def validated(self, iteration: int, found: Evaluation) -> None:
        """Note the scores of the first label blob."""
        self._note("validation/loss", found.loss, iteration)
        scores = found.main
        for name in ("pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu"):
            self._note(f"validation/{name}", getattr(scores, name), iteration)
        for name, iu in zip(next(iter(found.classes.values())), scores.class_iu):
            self._note(f"class_iu/{name}", iu, iteration)
        self._writer.flush()

    def close(self, finished: bool) -> None:
        """Close the files."""
        self._writer.close()

    def _note(self, name: str, value: float, iteration: int) -> None:
        if not math.isnan(value):
            self._writer.add_scalar(name, value, iteration)
