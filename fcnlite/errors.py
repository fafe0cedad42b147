"""The one exception for a user's mistake: bad files, options or shapes, told in a single clear line."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Something the user gave is wrong; the message names it, says where, and what to do.

    Attributes
    ----------
    layer : str
        Name of the layer at fault, so that a caller who has the prototxt can add file and line.
    """

    def __init__(self, message: str = "", layer: str = ""):
        super().__init__(message)
        self.layer = layer


def nearest(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'NAME'?"`` for the closest of the `known` names, or "" when none is close."""
    names = list(known)
    by_lower = {name.lower(): name for name in names}
    found = get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean '{by_lower[found[0]]}'?" if found else ""
