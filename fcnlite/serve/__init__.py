"""A page and an HTTP interface to try nets on pictures, on this machine alone.

Starlette and uvicorn carry it; the page is three files without a line from elsewhere, so that it works offline and
nothing is asked of other machines. Both come with the extra `serve`.
"""

from __future__ import annotations

from fcnlite.serve.app import create_app
from fcnlite.serve.limits import Limits
from fcnlite.serve.model import Model

__all__ = ["Limits", "Model", "create_app"]
