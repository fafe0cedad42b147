"""Gives the package the README as its long description; links get the repository's address, for an index's page.

The address is FCNLITE_REPOSITORY, as in `FCNLITE_REPOSITORY=https://github.com/OWNER/fcnlite python -m build`. Without
it links stay as they are, which will do for installing from a checkout.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class LongDescription(MetadataHookInterface):
    """Fills in the field `readme`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the README, its links made absolute."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        address = os.environ.get("FCNLITE_REPOSITORY", "").rstrip("/")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute(text, address) if address else text,
        }


def absolute(text: str, address: str) -> str:
    """A Markdown text whose relative links lead into a repository: to a picture's bytes, to another file's page."""

    def link(found: re.Match[str]) -> str:
        mark, name, target = found.groups()
        return f"{mark}[{name}]({address}/{'raw' if mark else 'blob'}/HEAD/{target})"

    return re.sub(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)\s]+)\)", link, text)
