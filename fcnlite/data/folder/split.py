"""Parts pictures into those to train on and those to validate on: by a seed, by name, with each class in both."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from fcnlite.data.folder.facts import Facts


def parted(
    found: Sequence[Facts], classes: Mapping[str, set[int]], share: float = 0.2, seed: int = 1337
) -> tuple[list[str], list[str]]:
    """The names to train on and those to validate on, each sorted.

    A picture's place depends on its name and the seed, not on the order of the files. Equal pictures go to the same
    side. Each class is in both parts if it is in two pictures that differ.

    Parameters
    ----------
    found : sequence of Facts
    classes : mapping of str to set of int
        The classes that each picture shows.
    share : float
        The part to validate on, of the pictures; at least one of two or more.
    seed : int
    """
    groups: dict[str, list[str]] = {}
    for facts in found:
        groups.setdefault(facts.digest or facts.pair.name, []).append(facts.pair.name)
    units = sorted(groups.values(), key=lambda names: _draw(seed, min(names)))
    shows = [set().union(*(classes[name] for name in names)) for names in units]
    wanted = round(share * len(found)) if share else 0
    if share and len(units) > 1:
        wanted = max(1, wanted)
    train: set[int] = set()
    val: set[int] = set()
    order = sorted(set().union(*shows), key=lambda c: (sum(c in each for each in shows), c)) if shows else []
    for kind in order if wanted else []:  # the rarest first
        having = [i for i, each in enumerate(shows) if kind in each]
        if len(having) < 2:
            train.update(i for i in having if i not in val)
            continue
        if not val.intersection(having):
            free = [i for i in having if i not in train]
            if free and (train.intersection(having) or len(having) > 1):
                val.add(free[0])
        if not train.intersection(having):
            train.update([i for i in having if i not in val][:1])
    for i in range(len(units)):
        if sum(len(units[k]) for k in val) >= wanted:
            break
        if i not in train:
            val.add(i)
    sides: tuple[list[str], list[str]] = [], []
    for i, names in enumerate(units):
        sides[i in val].extend(names)
    return sorted(sides[0]), sorted(sides[1])


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()
