"""Training in stages, coarse to fine: FCN-32s, then 16s from its weights, then 8s (paper, section 4.2).

A chain's folder holds `chain.json`, a run's folder for each stage (`1-fcn32s`, `2-fcn16s`, ..) and at the end
the last stage's weights. What is done can be told from the folder at any moment, so a chain that was stopped
anywhere goes on from there.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fcnlite.errors import InputError
from fcnlite.io import check, iter_weights, read_json, write_text
from fcnlite.io.lock import is_debris
from fcnlite.training.plan import Plan
from fcnlite.training.recipes import HEAVY, recipe
from fcnlite.training.run_folder import RunFolder, link_or_copy, weights_of

CHAIN = "chain.json"
TAKE = ("final", "best")


_WRITTEN = {"stages": list[str], "take": Literal["final", "best"], "given": dict[str, Any]}  # in chain.json
# Options that a chain may be given beside those that a plan keeps under the same name.
_OPTIONS = {
    "recipe": str,
    "year": int,
    "sbd": str,
    "labels": str,
    "mapping": str,
    "context": str,
    "val_split": str,
}


def stages_of(net: str) -> list[str]:
    """The nets on the way to one, coarsest first, itself last: each starts from the one before.

    The first starts from a classifier, or from two nets, which is no chain.
    """
    stages = [net]
    while len(start := recipe(stages[0]).start) == 1 and start[0] in HEAVY:
        stages.insert(0, start[0])
    return stages


def is_classifier(weights: str | os.PathLike[str]) -> bool:
    """True if a file of weights has no layer called score, as every FCN has."""
    return not any(layer.startswith("score") for layer, _ in iter_weights(weights))


def holds_chain(path: str | os.PathLike[str]) -> bool:
    """True if a chain was started in this folder."""
    return (Path(path) / CHAIN).is_file()


@dataclass
class Chain:
    """A chain of runs.

    Attributes
    ----------
    path : pathlib.Path
        Its folder.
    stages : list of str
        The nets, in order.
    take : str
        What each stage starts from of the one before: its "final" weights, or the "best" snapshot by mean IU on
        the validation images.
    given : dict
        Options of every stage, as on the command line.
    owned : RunFolder
        The chain's folder, which this process owns.
    """

    path: Path
    stages: list[str]
    take: str
    given: dict[str, Any]
    owned: RunFolder

    @classmethod
    def create(cls, path: Path, stages: list[str], take: str, given: dict[str, Any]) -> Chain:
        """Start a chain in a new or empty folder.

        Raises
        ------
        InputError
            There is something in it already.
        """
        if holds_chain(path):
            raise InputError(
                f"{path} holds another chain; go on with it by --resume {path}, or name another folder with --out"
            )
        chain = cls(path, stages, take, given, RunFolder.create(path))
        values = {"stages": stages, "take": take, "given": given}
        write_text(path / CHAIN, json.dumps(values, indent=2) + "\n")
        return chain

    @classmethod
    def read(cls, path: Path) -> Chain:
        """The chain in a folder, which this process then owns.

        Raises
        ------
        InputError
            chain.json is damaged, or another process owns the folder.
        """
        values = read_json(path / CHAIN, _WRITTEN)
        if not values["stages"] or not set(values["stages"]).issubset(HEAVY):
            raise InputError(f"{path / CHAIN} is damaged: its stages are not nets with a recipe")
        given, known = values["given"], Plan.kinds() | _OPTIONS
        check(given, {option: known[option] for option in given if option in known}, path / CHAIN, "given")
        owned = RunFolder(path)
        owned.take()
        return cls(path, values["stages"], values["take"], given, owned)

    def folder(self, number: int) -> RunFolder:
        """The folder of a stage's run; stages count from 0."""
        return RunFolder(self.path / f"{number + 1}-{self.stages[number]}")

    def weights(self, number: int) -> Path | None:
        """A stage's final weights, if it is done."""
        path = self.folder(number).path / f"{self.stages[number]}.h5"
        return path if path.is_file() else None

    def options(self, number: int, now: dict[str, Any]) -> dict[str, Any]:
        """Options that train a stage: from the start, or on from its last snapshot.

        Parameters
        ----------
        number : int
            The first stage that is not done.
        now : dict
            Options given when going on; they take the place of those the chain began with.
        """
        folder = self.folder(number)
        if folder.holds_run():
            return now | {"resume": str(folder.path)}
        options = self.given | now | {"net": self.stages[number], "out": str(folder.path)}
        if number:
            options["init"] = [str(self._start(number - 1))]
        return options

    def _start(self, number: int) -> Path:
        """The weights of a finished stage that the next one starts from."""
        final = self.weights(number)
        assert final is not None
        return (self.best(number) or final) if self.take == "best" else final

    def best(self, number: int) -> Path | None:
        """The snapshot of a stage with the best mean IU in validation; the earliest of equals."""
        state = self.folder(number).best(self.stages[number])
        return None if state is None else weights_of(state)

    def discard_if_unused(self) -> None:
        """Remove a chain that this process began and a mistake ended before its first stage."""
        if all(entry.name == CHAIN or is_debris(entry) for entry in self.path.iterdir()):
            self.owned.discard()

    def finish(self) -> Path:
        """Give the last stage's weights a place in the chain's folder; returns it."""
        weights = self.weights(len(self.stages) - 1)
        assert weights is not None
        return link_or_copy(weights, self.path / weights.name)
