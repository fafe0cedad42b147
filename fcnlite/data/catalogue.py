"""All data sets by name, opened one way."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fcnlite.data.dataset import Dataset
from fcnlite.data.folder.dataset import OwnPictures
from fcnlite.data.nyud import MODES, NYUD
from fcnlite.data.pascalcontext import PASCALContext
from fcnlite.data.sbd import SBD
from fcnlite.data.shapes import open_shapes
from fcnlite.data.siftflow import SIFTFlow
from fcnlite.data.voc import VOC
from fcnlite.errors import InputError, nearest


@dataclass(frozen=True)
class Splits:
    """The lists of a data set that are trained on and evaluated on."""

    train: str
    evaluate: str


# Images on which the paper trains and those on which it reports. VOC: SBD's train where that is at hand, and
# seg11valid for evaluation then, since VOC's own val overlaps with it.
SPLITS = {
    "voc": Splits("train", "val"),
    "sbd": Splits("train", "val"),
    "shapes": Splits("train", "val"),
    "folder": Splits("train", "val"),
    "nyud": Splits("trainval", "test"),
    "siftflow": Splits("trainval", "test"),
    "pascalcontext": Splits("train", "val"),
}


def open_nyud(
    folder: str | os.PathLike, split: str = "trainval", *, mode: str = "rgb", **options: Any
) -> NYUD:
    """NYUDv2 in one of the paper's modes: rgb, rgbd, hha, rgb-hha; other options as for `NYUD`."""
    if mode not in MODES:
        raise InputError(f"NYUDv2 has no mode {mode!r}; its modes are {', '.join(MODES)}")
    return NYUD(folder, split, tops=MODES[mode], **options)


OPENERS: dict[str, Callable[..., Dataset]] = {
    "voc": VOC,
    "sbd": SBD,
    "shapes": open_shapes,
    "folder": OwnPictures,
    "nyud": open_nyud,
    "siftflow": SIFTFlow,
    "pascalcontext": PASCALContext,
}
# Options that pass through another function's **options.
_PASSED_ON = {"nyud": ("mapping", "check"), "shapes": ("train", "val", "seed")}


def names() -> list[str]:
    """Names of all data sets."""
    return list(OPENERS)


def canonical(name: str) -> str:
    """The catalogue's spelling of a data set's name: any case, hyphens or not, NYUDv2 for nyud.

    Raises
    ------
    InputError
        No data set has that name; the nearest is named.
    """
    wanted = name.lower().replace("-", "").replace("_", "")
    wanted = {"nyudv2": "nyud", "nyuv2": "nyud", "sbdd": "sbd", "voc2011": "voc", "voc2012": "voc"}.get(
        wanted, wanted
    )
    if wanted in OPENERS:
        return wanted
    hint = nearest(wanted, OPENERS) or f"; there are {', '.join(OPENERS)}"
    raise InputError(f"no data set is called '{name}'{hint}")


def options_of(name: str) -> list[str]:
    """Names of the options that `open_dataset` takes for a data set."""
    name = canonical(name)
    own = inspect.signature(OPENERS[name]).parameters.values()
    return [p.name for p in own if p.kind is p.KEYWORD_ONLY] + list(_PASSED_ON.get(name, ()))


def open_dataset(name: str, folder: str | os.PathLike, split: str | None = None, **options: Any) -> Dataset:
    """Open a split of a data set.

    Parameters
    ----------
    name : str
        voc, sbd, shapes, nyud, siftflow or pascalcontext. A folder in VOC's layout with classes of its own
        (classes.txt) is opened as voc.
    folder : path
        Where it lies; shapes is drawn there first if need be.
    split : str, optional
        Its list; the one the paper trains on by default.
    **options
        Those of the data set: `year`, `sbd_folder` (voc), `mode`, `mapping` (nyud), `context_folder`
        (pascalcontext), `train`, `val`, `seed` (shapes), `check` (all but shapes).
        None stands for the default.

    Raises
    ------
    FileNotFoundError
        If the folder, the list or a listed file is missing.
    InputError
        If the name or an option is unknown, or the data is wrong.
    """
    name = canonical(name)
    known = options_of(name)
    for option in options:
        if option not in known:
            raise InputError(f"the data set {name} has no option {option!r}; it has {', '.join(known)}")
    given = {option: value for option, value in options.items() if value is not None}
    return OPENERS[name](folder, SPLITS[name].train if split is None else split, **given)
