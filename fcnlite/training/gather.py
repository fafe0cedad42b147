"""From a run's folder to what `fcnlite.report` tells of it: log, validations, pictures segmented by the snapshots."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fcnlite import vis
from fcnlite.data import Dataset
from fcnlite.deploy import deploy
from fcnlite.errors import InputError
from fcnlite.io import parse_json, read_json, write_text
from fcnlite.net import Net, segment
from fcnlite.proto import read_net
from fcnlite.report import Picture, Run, Validation, write_report
from fcnlite.training.build import open_data
from fcnlite.training.plan import Plan
from fcnlite.training.run_folder import SEEN, STATE, RunFolder, weights_of

PAGE = "report.html"
PICTURES = 24  # images shown, unless told otherwise
_ABOUT = ("fcnlite", "started", "device", "train_images")

_SCORES = {
    "pixel_accuracy": float | None,
    "mean_iu": float | None,
    "class_accuracy": list[float | None],
    "class_iu": list[float | None],
    "class_pixels": list[int],
}
_VALIDATION = {"iteration": int, "labels": {str: _SCORES}}

Say = Callable[[str], object]


def write_page(
    path: Path, runs: Sequence[Path], pictures: int = PICTURES, say: Say = lambda line: None
) -> None:
    """Write the report about run folders.

    Parameters
    ----------
    path : Path
        The HTML file.
    runs : sequence of Path
    pictures : int
        Validation images to show, spread evenly over the list; 0 for none.
    say : callable
        Told in a line what is being computed, which may take a while.

    Raises
    ------
    InputError, FileNotFoundError
        A folder holds no run, or what it holds is damaged.
    """
    names = _distinct([run.resolve().name for run in runs])
    write_report(path, [read_run(run, pictures, name, say) for run, name in zip(runs, names)])


def read_run(path: Path, pictures: int = PICTURES, name: str = "", say: Say = lambda line: None) -> Run:
    """Gather what there is to tell about a run; see `write_page`."""
    folder = RunFolder(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: there is no such folder")
    if not folder.holds_run():
        raise InputError(f"{path} holds no run: settings.json is missing")
    settings = folder.read_settings()
    plan = Plan.from_json(settings["plan"], folder.path / "settings.json")
    heads = settings.get("classes") or {}
    classes = tuple(next(iter(heads.values()), ())) if isinstance(heads, dict) else ()
    validations = list(_validations(folder.path / "validation"))
    if not classes and validations:
        raise InputError(f"{path}: settings.json names no classes")
    return Run(
        name=name or folder.path.resolve().name,
        classes=classes,
        settings=settings["plan"],
        about={key: str(settings[key]) for key in _ABOUT if key in settings},
        log=list(folder.records()),
        validations=[v for _, v in sorted(validations)],
        pictures=_pictures(folder, plan, {at for at, _ in validations}, pictures, say),
        planned=plan.iterations,
    )


def _validations(folder: Path) -> Iterable[tuple[int, Validation]]:
    for path in folder.glob("iter_*.json"):
        found = read_json(path, _VALIDATION)
        scores = next(iter(found["labels"].values()))
        histogram = scores.get("histogram")
        counts = np.array(histogram, np.int64) if histogram else None
        yield found["iteration"], Validation(found["iteration"], found.get("loss"), scores, counts)


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, those that come again with a number behind them."""
    return [name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names, 1)]


def _pictures(folder: RunFolder, plan: Plan, validated: set[int], count: int, say: Say) -> list[Picture]:
    """Validation images with what each snapshot makes of them; none where the data are not there any more."""
    if not count or plan.val_split is None:
        return []
    try:
        data = open_data(plan)[1]
    except (InputError, OSError) as error:
        say(f"{folder.path}: no pictures, as the data cannot be read ({error})")
        return []
    if data is None or not data.has_labels:
        return []
    chosen = [int(i) for i in np.unique(np.linspace(0, len(data) - 1, min(count, len(data))).round())]
    made = _Predictions(folder, data, chosen, say)
    found = {at: made.of(at, weights) for at, weights in made.snapshots().items()}
    found |= {at: kept for at in made.kept() - found.keys() if at in validated and (kept := made.read(at))}
    samples = [data[index] for index in chosen]
    return [
        Picture(sample.name, sample.image, sample.label, {at: found[at][i] for at in sorted(found)})
        for i, sample in enumerate(samples)
    ]


class _Predictions:
    """Label maps of some images by a run's snapshots, kept as palette PNGs so that each is computed once."""

    def __init__(self, folder: RunFolder, data: Dataset, chosen: Sequence[int], say: Say) -> None:
        self._folder, self._data, self._chosen, self._say = folder, data, chosen, say
        self._net: Net | None = None

    def snapshots(self) -> dict[int, Path]:
        """Weights by iteration."""
        found = {}
        for state in self._folder.snapshots.glob(f"*{STATE}"):
            number = re.search(r"_iter_(\d+)\.", state.name)
            if number and weights_of(state).is_file():
                found[int(number[1])] = weights_of(state)
        return dict(sorted(found.items()))

    def kept(self) -> set[int]:
        """Iterations of which something was kept."""
        names = (path.name for path in (self._folder.path / SEEN).glob("iter_*"))
        return {int(name[5:]) for name in names if name[5:].isdecimal()}

    def of(self, iteration: int, weights: Path) -> list[np.ndarray]:
        """The label maps that a snapshot gives, computed if they are not there."""
        written = weights.stat()
        stamp = {"bytes": written.st_size, "time": written.st_mtime_ns}
        kept = self.read(iteration, stamp)
        if kept is not None:
            return kept
        self._say(f"segmenting {len(self._chosen)} images by {weights}")
        maps = self._segment(weights)
        place = self._place(iteration)
        place.mkdir(parents=True, exist_ok=True)
        for i, label in zip(self._chosen, maps):
            vis.write_label(place / f"{i}.png", label)
        write_text(place / "weights.json", json.dumps(stamp) + "\n")
        return maps

    def read(self, iteration: int, stamp: dict[str, int] | None = None) -> list[np.ndarray] | None:
        """The record kept of an iteration; None if it is not whole, or not of the weights that are there now."""
        place = self._place(iteration)
        paths = [place / f"{i}.png" for i in self._chosen]
        note = place / "weights.json"
        try:
            if not note.is_file() or not all(path.is_file() for path in paths):
                return None
            if stamp is not None and parse_json(note.read_text("utf-8"), note, {}) != stamp:
                return None
            maps = [np.asarray(Image.open(path)) for path in paths]
        except (InputError, OSError, ValueError):
            return None
        sizes = [self._data[i].image.shape[:2] for i in self._chosen]
        return maps if [label.shape for label in maps] == sizes else None

    def _segment(self, weights: Path) -> list[np.ndarray]:
        if self._net is None:
            self._net = Net(deploy(read_net(self._folder.path / "train.prototxt")), "TEST")
        self._net.copy_from(weights)
        head = next(iter(self._data.heads))
        return [np.asarray(segment(self._net, self._data, i)[head][1]) for i in self._chosen]

    def _place(self, iteration: int) -> Path:
        return self._folder.path / SEEN / f"iter_{iteration}"
