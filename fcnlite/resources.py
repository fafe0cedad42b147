"""Finds the files that fcnlite ships beside its Python modules: CUDA sources and the catalogue of weights.

In an installed wheel they lie inside the package; in a source checkout, also one installed editable, they
are the top-level folders `kernels/` and `weights/`.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def kernels_folder() -> Path:
    """Return the folder with the CUDA sources (`*.cu`, `rows.cuh`).

    Raises
    ------
    FileNotFoundError
        If neither the package nor a checkout around it has the folder.
    """
    return _find("kernels", "rows.cuh")


def weights_folder() -> Path:
    """Return the folder with the catalogue of published weights (`catalogue.json`).

    Raises
    ------
    FileNotFoundError
        If neither the package nor a checkout around it has the folder.
    """
    return _find("weights", "catalogue.json")


def _find(name: str, landmark: str) -> Path:
    """Return the first folder `name` that holds `landmark`, so that a stranger's folder is never taken."""
    for folder in (_PACKAGE / name, _PACKAGE.parent / name):
        if (folder / landmark).is_file():
            return folder
    raise FileNotFoundError(
        f"fcnlite's {name}/{landmark} is neither in {_PACKAGE} nor in {_PACKAGE.parent}: "
        "reinstall fcnlite, or run from a complete checkout"
    )


def cache_folder() -> Path:
    """Return the folder for files that can be made or fetched again.

    `FCNLITE_CACHE`, else `fcnlite` in the user's cache folder as the XDG base directory specification has it;
    a folder for temporary files where there is no home.
    """
    cache = os.environ.get("XDG_CACHE_HOME", "")
    own = os.environ.get("FCNLITE_CACHE")
    if own:
        return Path(own)
    if os.path.isabs(cache):
        return Path(cache) / "fcnlite"
    home = Path(os.path.expanduser("~"))
    if home.is_absolute():
        return home / ".cache" / "fcnlite"
    return Path(tempfile.gettempdir()) / f"fcnlite-{_user()}"  # a user without a home


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else "user"
