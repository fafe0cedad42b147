"""JSON from a disk, read with suspicion: every value is compared with the type it should have."""

from __future__ import annotations

import json
import os
import sys
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

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
        Its type, as `check` takes it.

    Raises
    ------
    InputError
        The file is not JSON, or holds something else; the message names the file and the value.
    """
    try:
        return parse_json(Path(path).read_text(encoding="utf-8"), path, kind)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is damaged: {error}") from None


def parse_json(text: str, where: object, kind: Any = Any) -> Any:
    """The value in a JSON text, as `read_json` gives it; `where` names the text in errors."""
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
        A mapping from names to kinds for an object that must have these keys, `{str: kind}` for one with any keys;
        otherwise as in type hints: bool, int, float (finite), str, None, Any; Literal, unions, `list[T]` and
        `dict[str, T]` of these; `Annotated[T, (least, most)]` for numbers within bounds.
    where : object
        Name of the file, for the message.
    name : str
        Name of the value in it.
    """
    wrong = _misfit(value, kind, name)
    if wrong:
        raise InputError(f"{where} is damaged: {wrong}")


def _misfit(value: Any, kind: Any, name: str) -> str:
    """The first fault of a value; empty if it fits."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return ""
    if isinstance(kind, Mapping) or origin is dict:
        return _misfit_of_object(value, kind if origin is None else {str: inner[1]}, name)
    if origin is list:
        if not isinstance(value, list):
            return _told(value, name, "a list")
        return _first(_misfit(item, inner[0], f"{name}[{i}]") for i, item in enumerate(value))
    if origin in (Union, types.UnionType):
        wrong = [_misfit(value, each, name) for each in inner]
        return "" if "" in wrong else wrong[0]
    if origin is Literal:
        return "" if value in inner else _told(value, name, f"one of {', '.join(map(str, inner))}")
    if origin is Annotated:
        plain, (least, most) = inner
        fits = not _is(value, plain) or least <= value <= most  # the plain type's own fault is told below
        return _misfit(value, plain, name) if fits else _told(value, name, f"from {least:g} to {most:g}")
    return "" if _is(value, kind) else _told(value, name, _NAMES[kind])


def _misfit_of_object(value: Any, kinds: Mapping[Any, Any], name: str) -> str:
    """The first fault of an object whose keys are known, or whose values have all the kind of the key `str`."""
    if not isinstance(value, dict):
        return _told(value, name, "an object")
    if str in kinds:
        kinds = dict.fromkeys(value, kinds[str])
    lacking = [key for key in kinds if key not in value]
    if lacking:
        return f"'{lacking[0]}' is missing{f' in {name}' if name else ''}"
    return _first(_misfit(value[key], kinds[key], f"{name}.{key}" if name else key) for key in kinds)


def _first(faults: Iterable[str]) -> str:
    return next(filter(None, faults), "")


def _is(value: Any, kind: type) -> bool:
    """Tell whether a value is of a plain type; true and false are not numbers, whole numbers are floats."""
    if kind is str:
        return type(value) is str and "\0" not in value  # which no path can hold
    if kind is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max
    return type(value) is kind


def _told(value: Any, name: str, wanted: str) -> str:
    shown = json.dumps(value)
    return f"{f'{name} is' if name else 'it is'} {shown[:40]}{'..' if shown[40:] else ''}, not {wanted}"
