"""The kernels as text: the source both backends compile, and each kernel's parameter list read from it.

Because a launch is checked against that list, a call can pass neither a Python float where a kernel takes an
`int`, nor an array of another dtype, nor one that is not contiguous: errors name the kernel and the parameter.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fcnlite.errors import InputError, nearest
from fcnlite.resources import kernels_folder

_KERNEL = re.compile(r"^KERNEL\s+(\w+)\s*\(\s*ROWS\s*,([^)]*)\)", re.MULTILINE)
_PARAMETER = re.compile(r"(const\s+)?(unsigned\s+\w+|\w+)\s*(\*?)\s*(\w+)$")
_DTYPES: dict[str, np.dtype] = {
    "unsigned char": np.dtype(np.uint8),
    "unsigned short": np.dtype(np.uint16),
    "int": np.dtype(np.int32),
}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel: `ctype` is `real`, `int`, `unsigned char` or `unsigned short`."""

    name: str
    ctype: str
    pointer: bool

    def dtype(self, real: np.dtype) -> np.dtype:
        """The array (or scalar) dtype this parameter takes when `real` is the working precision."""
        return real if self.ctype == "real" else _DTYPES[self.ctype]

    def check(self, value: Any, real: np.dtype, array_type: type[Any]) -> None:
        """Raise TypeError or ValueError unless the argument fits."""
        if self.pointer:
            _check_array(value, self.dtype(real), array_type)
        elif self.ctype == "int":
            if not isinstance(value, (int, np.integer)) or not -(2**31) <= value < 2**31:
                raise TypeError(f"{value!r} is not a 32-bit integer")
        elif not isinstance(value, (int, float, np.integer, np.floating)):
            raise TypeError(f"{value!r} is not a number")


@dataclass(frozen=True)
class Signature:
    """A kernel's name and the parameters that follow its row range; the first is always `int width`."""

    name: str
    parameters: tuple[Parameter, ...]

    def check(self, rows: int, arguments: tuple[Any, ...], real: np.dtype, array_type: type[Any]) -> None:
        """Raise TypeError or ValueError, naming kernel and parameter, unless the arguments fit."""
        if len(arguments) != len(self.parameters):
            raise TypeError(
                f"kernel {self.name}: {len(arguments)} arguments given, {len(self.parameters)} taken"
            )
        if not 0 <= rows < 2**31:
            raise ValueError(f"kernel {self.name}: {rows} rows; a launch takes 0 to 2**31 - 1")
        for parameter, value in zip(self.parameters, arguments):
            try:
                parameter.check(value, real, array_type)
            except (TypeError, ValueError) as error:
                where = f"kernel {self.name}, parameter {parameter.name}"
                raise type(error)(f"{where}: {error}") from None


def _check_array(value: Any, dtype: np.dtype, array_type: type[Any]) -> None:
    if value is None:  # a null pointer: the kernel says which parameters may be null
        return
    if not isinstance(value, array_type):
        raise TypeError(
            f"{type(value).__name__} given, an array of this device ({array_type.__name__}) taken"
        )
    if value.dtype != dtype:
        raise TypeError(f"dtype {value.dtype} given, {dtype} taken")
    if not value.flags.c_contiguous:
        raise ValueError(f"the array is not contiguous (shape {value.shape}, strides {value.strides})")


@cache
def source() -> str:
    """Fcnlite's own kernels as one translation unit; every .cu file still says which file its lines come from."""
    folder = kernels_folder()
    return _unit([folder / "rows.cuh", *sorted(folder.glob("*.cu"))])


def _unit(files: Iterable[Path]) -> str:
    parts = [f'#line 1 "{path.name}"\n{path.read_text(encoding="utf-8")}' for path in files]
    for line in ('#include "rows.cuh"', "#pragma once"):  # all in one file now
        parts = [part.replace(line, "") for part in parts]
    return "\n".join(parts)


_registered: dict[str, tuple[Signature, str]] = {}  # kernels of users' files, each with its translation unit


def register_kernels(path: str | os.PathLike[str]) -> list[str]:
    """Make the kernels of a user's `.cu` file known, on the CPU as on a GPU.

    The file is written as fcnlite's own are, over rows (see `kernels/rows.cuh`, which it may include); it is compiled
    at the first launch of one of its kernels. Registering a file again, changed or not, replaces its kernels.

    Parameters
    ----------
    path : path

    Returns
    -------
    list of str
        The kernels' names, for `fcnlite.layers.launch.launch_flat` and `device.current().launch`.

    Raises
    ------
    InputError, FileNotFoundError
        There is no such file, or it holds no kernel, one whose parameters cannot be passed, or one of fcnlite's names.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of kernels")
    unit = _unit([kernels_folder() / "rows.cuh", path])
    try:
        found = parse_signatures(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    if not found:
        raise InputError(f"{path}: no kernel in it; one begins `KERNEL name(ROWS, int width, ...`")
    if taken := next((name for name in found if name in signatures()), None):
        raise InputError(f"{path}: fcnlite has a kernel {taken} of its own; give this one another name")
    _registered.update((name, (signature, unit)) for name, signature in found.items())
    return list(found)


def unit_of(name: str) -> str:
    """The translation unit that holds a kernel."""
    return _registered[name][1] if name in _registered else source()


def parse_signatures(text: str) -> dict[str, Signature]:
    """Every `KERNEL name(ROWS, ...)` of a CUDA source."""
    found = {}
    for match in _KERNEL.finditer(text):
        name, listing = match.groups()
        parameters = []
        for item in listing.split(","):
            declared = _PARAMETER.fullmatch(" ".join(item.split()))
            if declared is None:
                raise ValueError(f"kernel {name}: cannot read the parameter '{item.strip()}'")
            _, ctype, star, parameter = declared.groups()
            if ctype != "real" and ctype not in _DTYPES:
                raise ValueError(
                    f"kernel {name}, parameter {parameter}: type '{ctype}' is not one a launch can pass"
                )
            parameters.append(Parameter(parameter, ctype, bool(star)))
        if not parameters or parameters[0] != Parameter("width", "int", False):
            raise ValueError(f"kernel {name}: the parameter after ROWS must be `int width`")
        found[name] = Signature(name, tuple(parameters))
    return found


@cache
def signatures() -> dict[str, Signature]:
    """The kernels of `source` by name."""
    return parse_signatures(source())


def signature(name: str) -> Signature:
    """The kernel called `name`.

    Raises
    ------
    KeyError
        There is none.
    """
    if name in _registered:
        return _registered[name][0]
    try:
        return signatures()[name]
    except KeyError:
        hint = nearest(name, [*signatures(), *_registered])
        raise KeyError(
            f"no kernel {name}{hint}; fcnlite.register_kernels(file) adds those of a file"
        ) from None
