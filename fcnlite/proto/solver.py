"""Solver prototxt, with the old forms brought to the present one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fcnlite.errors import InputError
from fcnlite.proto.text import load_text, parse_message

_TYPES = {
    "SGD": "SGD",
    "NESTEROV": "Nesterov",
    "ADAGRAD": "AdaGrad",
    "RMSPROP": "RMSProp",
    "ADADELTA": "AdaDelta",
    "ADAM": "Adam",
}


def _upgrade_type(solver: Any, filename: str) -> None:
    """The old solver_type enum to the type string."""
    if not solver.HasField("solver_type"):
        return
    if solver.HasField("type"):
        raise InputError(f"{filename}: both type and the old solver_type are given; keep type")
    enum = solver.DESCRIPTOR.fields_by_name["solver_type"].enum_type
    solver.type = _TYPES[enum.values_by_number[solver.solver_type].name]
    solver.ClearField("solver_type")


def _complete_prefix(solver: Any, path: Path) -> None:
    """Name snapshots after the solver file unless it says otherwise; a folder is completed by that name."""
    if not solver.HasField("snapshot_prefix"):
        solver.snapshot_prefix = str(path.with_suffix(""))
    elif Path(solver.snapshot_prefix).is_dir():
        solver.snapshot_prefix = str(Path(solver.snapshot_prefix) / path.stem)


def read_solver(source: str | os.PathLike[str]) -> Any:
    """Read a solver from a prototxt file or from its text, as Caffe's ReadSolverParamsFromTextFile does.

    Parameters
    ----------
    source : path or str
        A path, or prototxt text (a string is text if it contains a newline, a brace, or a colon without being
        the name of a file).

    Returns
    -------
    SolverParameter
        With `type` in place of the old `solver_type`. Read from a file, `snapshot_prefix` is set: when
        missing, to the file's path without its suffix; when it is a folder, to the file's name in that
        folder.

    Raises
    ------
    FileNotFoundError, InputError
        There is no such file, it is not text, or the text has a mistake.
    """
    text, filename = load_text(source)
    solver = parse_message(text, filename, "SolverParameter")
    _upgrade_type(solver, filename)
    if text is not source:
        _complete_prefix(solver, Path(source))
    return solver
