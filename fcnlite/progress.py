"""Progress bars: on terminals and in notebooks, and nowhere else, so that logs stay short."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress_bar(items: Iterable[Any] | None = None, *, hidden: bool = False, **options: Any) -> Any:
    """A tqdm bar over items, or one that its user moves on; a bar of Jupyter's own where ipywidgets can draw it.

    Parameters
    ----------
    items : iterable, optional
    hidden : bool
        Show none.
    **options
        Those of `tqdm.tqdm`.
    """
    if hidden:
        return tqdm(items, disable=True, **options)
    if not in_notebook():
        return tqdm(items, disable=None, **options)  # None: shown on a terminal only
    from tqdm import notebook

    drawn = getattr(notebook, "IProgress", None) is not None  # ipywidgets is there
    return (notebook.tqdm if drawn else tqdm)(items, **options)


def in_notebook() -> bool:
    """Whether this process serves a notebook; its standard error, no terminal, is shown there all the same."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config
