"""A user's mistakes: errors for bad files, options or shapes, warnings for what can hardly be meant.

Both are told in a single clear line.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from typing import Any

_TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # these reorder the text around them
_LONGEST_WORD = 200  # characters; nothing longer is compared with names, which takes its time


class InputError(ValueError):
    """Something the user gave is wrong; the message names it, says where, and what to do.

    Attributes
    ----------
    layer : str
        Name of the layer at fault, so that a caller who has the prototxt can add file and line.
    blob : str
        Name of a blob that no layer makes, so that a caller who has the whole net can tell why.
    """

    def __init__(self, message: str = "", layer: str = "", blob: str = ""):
        super().__init__(message)
        self.layer, self.blob = layer, blob


class InputWarning(UserWarning):
    """Something the user gave may be meant, but is more often a mistake; the message reads as an `InputError`'s.

    Commands show each once, and a run keeps them in its log.
    """


_as_caffe: ContextVar[bool] = ContextVar("mistakes are warnings", default=False)


def warn(message: str) -> None:
    """Issue an `InputWarning`."""
    warnings.warn(message, InputWarning, stacklevel=3)


def mistake(message: str) -> None:
    """Raise an `InputError` where Caffe would go on in silence; under `as_caffe` warn and go on."""
    if not _as_caffe.get():
        raise InputError(message)
    warnings.warn(message, InputWarning, stacklevel=3)


@contextmanager
def as_caffe() -> Iterator[None]:
    """Compute as Caffe does for the length of the block, in this thread: each `mistake` is a warning."""
    before = _as_caffe.set(True)
    try:
        yield
    finally:
        _as_caffe.reset(before)


@contextmanager
def noting(warned: list[str]) -> Iterator[None]:
    """Add the text of every `UserWarning` of the block to a list, once each, beside showing it."""
    before = warnings.showwarning

    def note(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, UserWarning) and str(message) not in warned:
            warned.append(str(message))
        before(message, category, *where, **more)

    warnings.showwarning = note
    try:
        yield
    finally:
        warnings.showwarning = before


def nearest(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'NAME'?"` for the closest of the `known` names, or "" when none is close."""
    if len(word) > _LONGEST_WORD:
        return ""
    names = list(known)
    by_lower = {name.lower(): name for name in names}
    found = get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean '{by_lower[found[0]]}'?" if found else ""


def printable(text: str) -> str:
    """Write control characters, with which a stranger's name could drive a terminal, as escapes of two digits."""
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
