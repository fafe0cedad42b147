"""Reading one variable of a MATLAB file (versions 4 to 7, through SciPy); errors name the file."""

import os
from pathlib import Path

import numpy as np

from fcnlite.errors import InputError


def read_mat(path: str | os.PathLike, variable: str) -> np.ndarray:
    """The array `variable` of a .mat file.

    Raises
    ------
    FileNotFoundError
        If the file is missing.
    InputError
        If it is damaged, no MATLAB file, or lacks the variable.
    """
    import scipy.io

    if not Path(path).is_file():
        raise FileNotFoundError(f"label {path} is missing")
    try:
        held = scipy.io.loadmat(os.fspath(path))
    except NotImplementedError:
        raise InputError(f"{path} is in MATLAB's 7.3 format; save it with the option -v7") from None
    except Exception as error:  # SciPy lets a damaged file end in many kinds of exception
        raise InputError(
            f"cannot read MATLAB file {path}: {' '.join(str(error).split()) or type(error).__name__}"
        ) from None
    if variable not in held:
        have = ", ".join(sorted(name for name in held if not name.startswith("__"))) or "nothing"
        raise InputError(f"{path} has no variable {variable}; it holds {have}")
    return held[variable]


def read_matrix(path: str | os.PathLike, variable: str) -> np.ndarray:
    """The matrix of whole numbers `variable` of a .mat file, in whatever type it was saved.

    Raises
    ------
    FileNotFoundError, InputError
        As for `read_mat`, or the variable is something else.
    """
    held = read_mat(path, variable)
    plain = isinstance(held, np.ndarray) and held.ndim == 2 and held.dtype.kind in "biuf"
    if not plain or not np.array_equal(held, np.trunc(held)):
        raise InputError(f"{path}: variable {variable} is no matrix of whole numbers")
    return held
