"""The one exception for a user's mistake: bad files, options or shapes, told in a single clear line."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

_TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # these reorder the text around them
_LONGEST_WORD = 200  # characters; nothing longer is compared with names, which takes its time


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
    """`"; did you mean 'NAME'?"` for the closest of the `known` names, or "" when none is close."""
    if len(word) > _LONGEST_WORD:
        return ""
    names = list(known)
    by_lower = {name.lower(): name for name in names}
    found = get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean '{by_lower[found[0]]}'?" if found else ""


def printable(text: str) -> str:
    """Write control characters, with which a stranger's name could drive a terminal, as escapes such as `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(ascii(char)[1:-1] if _is_control(char) else char for char in text)


def check_name(name: str | bytes, where: str) -> None:
    """Refuse a name that holds control characters, or bytes that are not UTF-8 (which protobuf hands on as such).

    Raises
    ------
    InputError
        It does; the message begins with `where`.
    """
    if isinstance(name, bytes):
        raise InputError(f"{where}: the name {name[:_LONGEST_WORD]!r} is not UTF-8")
    if not name.isprintable() and any(map(_is_control, name)):
        raise InputError(f"{where}: the name '{printable(name[:_LONGEST_WORD])}' holds control characters")


def _is_control(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in _TURNS
