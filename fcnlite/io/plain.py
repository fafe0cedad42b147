"""JSON from a disk, read with suspicion: every value is held against the type it should have."""

import json
import os
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from fcnlite.errors import InputError

_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "a string",
    type(None): "null",
}


def read_json(path: str | os.PathLike[str], kind: Any = Any) -> Any:
    """The value in a JSON file.

    Parameters
    ----------
    path : path
    kind : type
        What it should be, as :func:`check` takes it.

    Raises
    ------
    InputError
        The file is no JSON, or holds something else; the message names the file and the value.
    """
    try:
        return parse_json(Path(path).read_text(encoding="utf-8"), path, kind)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is damaged: {error}") from None


def parse_json(text: str, where: object, kind: Any = Any) -> Any:
    """The value in a JSON text; `where` says in errors where that stands, the rest is as in :func:`read_json`."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is damaged: {error}") from None
    check(value, kind, where)
    return value


def check(value: Any, kind: Any, where: object, name: str = "") -> None:
    """Raise unless a value that JSON gave has a type.

    Parameters
    ----------
    value : any
    kind : type or mapping
        bool, int, float (finite), str, None, Any; Literal, unions, ``list[T]`` and
        ``dict[str, T]`` of these; ``Annotated[T, (least, most)]`` for numbers within bounds; a TypedDict, or a
        mapping from names to kinds, for the keys that an object must have.
    where : object
        What the message names: a file.
    name : str
        Which value in it.
    """
    wrong = _misfit(value, kind, name)
    if wrong:
        raise InputError(f"{where} is damaged: {wrong}")


def _misfit(value: Any, kind: Any, name: str) -> str:
    """What is wrong with a value; nothing if it fits."""
    kind = get_type_hints(kind, include_extras=True) if is_typeddict(kind) else kind
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return ""
    if isinstance(kind, Mapping) or origin is dict:
        if not isinstance(value, dict):
            return _told(value, name, "an object")
        lacking = [key for key in kind if key not in value] if origin is None else []
        if lacking:
            return f"'{lacking[0]}' is missing{f' in {name}' if name else ''}"
        kinds = kind if origin is None else dict.fromkeys(value, inner[1])
        found = (
            _misfit(value[key], each, f"{name}.{key}" if name else str(key)) for key, each in kinds.items()
        )
        return next(filter(None, found), "")
    if origin is list:
        if not isinstance(value, list):
            return _told(value, name, "a list")
        return next(filter(None, (_misfit(v, inner[0], f"{name}[{i}]") for i, v in enumerate(value))), "")
    if origin in (Union, types.UnionType):
        wrong = [_misfit(value, each, name) for each in inner]
        return "" if "" in wrong else wrong[0]
    if origin is Literal:
        return "" if value in inner else _told(value, name, f"one of {', '.join(map(str, inner))}")
    if origin is Annotated:
        (least, most), plain = inner[1], inner[0]
        if not _is(value, plain) or least <= value <= most:  # what is no number at all is told below
            return _misfit(value, plain, name)
        return _told(value, name, f"from {least:g} to {most:g}")
    return "" if _is(value, kind) else _told(value, name, _NAMES[kind])


def _is(value: Any, kind: type) -> bool:
    """Whether a value is of a plain type; true and false are no numbers, whole numbers are floats."""
    if kind is str:
        return type(value) is str and "\0" not in value  # which no path can hold
    if kind is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max
    return type(value) is kind


def _told(value: Any, name: str, wanted: str) -> str:
    shown = json.dumps(value)
    return f"{f'{name} is' if name else 'it is'} {shown[:40]}{'..' if shown[40:] else ''}, not {wanted}"
