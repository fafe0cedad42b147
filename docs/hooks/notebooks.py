"""Notebooks as pages of the site: run, since they are kept without outputs, and written as Markdown.

RUN_NOTEBOOKS=0 leaves running out, and with it the outputs.
"""

from __future__ import annotations

import html
import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient
from traitlets.config import Config

SECONDS = 240  # that a cell may take
QUIET = {"TQDM_DISABLE": "1"}  # bars that have come to their end say nothing on a page


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each notebook, which itself stays there to be taken along."""
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            path = Path(config.docs_dir) / file.src_uri
            book = run(path) if os.environ.get("RUN_NOTEBOOKS", "1") != "0" else nbformat.read(path, 4)
            page = f"{markdown(book)}\n[This page as a notebook]({path.name})\n"
            files.append(File.generated(config, file.src_uri.replace(".ipynb", ".md"), content=page))
    return files


def on_page_markdown(text: str, **_: Any) -> str:
    """Let other pages' links to a notebook lead to its page."""
    return re.sub(r"(\]\(notebooks/[\w-]+)\.ipynb\)", r"\1.md)", text)


def run(path: Path) -> nbformat.NotebookNode:
    """A notebook with the outputs of its cells, run by this Python; an error in a cell is raised."""
    book = nbformat.read(path, 4)
    own = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    over_files = Config({"KernelManager": {"transport": "ipc"}})  # and no port of this machine
    client = NotebookClient(book, config=over_files, timeout=SECONDS, coalesce_streams=True)
    client.execute(env={**os.environ, **QUIET, "PATH": own})
    return book


def markdown(book: nbformat.NotebookNode) -> str:
    """A notebook's cells and outputs as a page."""
    parts = []
    for cell in book.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        language, source = "python", cell.source
        if source.startswith("%%sh\n"):
            language, source = "sh", source.removeprefix("%%sh\n")
        parts.append(f"```{language}\n{source}\n```")
        parts += [_output(output) for output in cell.outputs]
    return "\n\n".join(part for part in parts if part) + "\n"


def _output(output: Any) -> str:
    """A cell's output: its picture, else its HTML, else its text."""
    if output.output_type == "stream":
        text = output.text.strip("\n")
    else:
        data = output.data
        if "image/png" in data:
            return f'<img alt="the output" src="data:image/png;base64,{"".join(data["image/png"].split())}">'
        if "text/html" in data:
            shown = " ".join(data["text/html"].splitlines())
            return f'<div class="output">{shown}</div>'
        text = data.get("text/plain", "")
    return f'<pre class="output">{html.escape(text)}</pre>' if text.strip() else ""
