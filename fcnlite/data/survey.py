"""A look at a data set's labels before they are learned or scored, for those that cannot be meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fcnlite.data.dataset import Dataset
from fcnlite.data.files import FORMATS
from fcnlite.errors import InputError, warn

LOOKED_AT = 200  # labels, spread over the list, so that a look takes about a second


def survey(dataset: Dataset) -> None:
    """Look at up to `LOOKED_AT` label maps of a data set.

    Warns of classes that no label has (where all labels are looked at), of labels that are void everywhere, and of
    label pictures whose palettes give one index different colours.

    Raises
    ------
    InputError
        All labels of the data set hold 0 and void alone, as masks of 0 and 255 do.
    """
    if not dataset.has_labels:
        return
    count = len(dataset.names)
    names = [
        dataset.names[i] for i in np.unique(np.linspace(0, count - 1, min(count, LOOKED_AT)).astype(int))
    ]
    seen = {name: np.unique(dataset.label(name)) for name in names}
    values = set(np.concatenate(list(seen.values())).tolist())
    if values == {0, dataset.ignore_label} and _holds_only(dataset, values):
        raise InputError(_masks(dataset))
    if len(names) == count:
        warn_of_absent(dataset, [i for i in range(len(dataset.classes)) if i not in values])
    void = [name for name, held in seen.items() if set(held.tolist()) <= {dataset.ignore_label}]
    if void:
        where = f"{dataset.folder} ({dataset.split})"
        warn(f"{where}: {len(void)} of {len(names)} labels are void everywhere, the first of them {void[0]}")
    _compare_palettes(dataset, seen)


def warn_of_absent(dataset: Dataset, classes: Sequence[int]) -> None:
    """Warn of classes that no label of a data set has."""
    if classes:
        absent = _listed([dataset.classes[i] for i in classes])
        warn(f"{dataset.folder} ({dataset.split}): no label has a pixel of {absent}")


def _holds_only(dataset: Dataset, values: set[int]) -> bool:
    """True if no label of the data set has any other value."""
    return all(values.issuperset(np.unique(dataset.label(name)).tolist()) for name in dataset.names)


def _masks(dataset: Dataset) -> str:
    others = dataset.classes[1:]
    return (
        f"{dataset.folder} ({dataset.split}): the labels hold the values 0 and {dataset.ignore_label} alone, and"
        f" {dataset.ignore_label} is void, so that no pixel is {_listed(others, 'or')}; are they masks of 0 and 255?"
        f" Write 1 for '{others[0]}' in the label pictures"
    )


def _compare_palettes(dataset: Dataset, seen: dict[str, np.ndarray]) -> None:
    """Warn of the first index that two pictures of labels show in different colours."""
    known: dict[int, tuple[tuple[int, ...], Path]] = {}
    for name, values in seen.items():
        path = dataset.label_path(name)
        palette = _palette(path)
        for value in (v for v in values.tolist() if v < len(palette)):
            colour, first = known.setdefault(value, (palette[value], path or Path()))
            if colour != palette[value]:
                warn(
                    f"{path}: its palette has {_hex(palette[value])} for index {value}, that of {first} has"
                    f" {_hex(colour)}: one number seems to mean two classes"
                )
                return


def _palette(path: Path | None) -> list[tuple[int, ...]]:
    """The colours of a palette picture; none for others."""
    if path is None:
        return []
    with Image.open(path, formats=FORMATS) as image:
        flat = image.getpalette("RGB") if image.mode == "P" else None
    return [] if flat is None else [tuple(flat[i : i + 3]) for i in range(0, len(flat), 3)]


def _hex(colour: Sequence[int]) -> str:
    return "#" + "".join(f"{part:02x}" for part in colour)


def _listed(classes: Sequence[str], last: str = "and") -> str:
    quoted = [f"'{name}'" for name in classes]
    if len(quoted) > 5:
        return f"{', '.join(quoted[:4])} {last} {len(quoted) - 4} other classes"
    return f" {last} ".join([", ".join(quoted[:-1]), quoted[-1]] if quoted[1:] else quoted)
