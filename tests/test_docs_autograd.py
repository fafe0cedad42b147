"""docs/autograd.md: every example on the page runs, in order, and prints what the page says."""

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "autograd.md"


def blocks():
    """The page's fenced blocks as (language, text)."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_every_example_runs_and_prints_what_the_page_says(tmp_path):
    kernel = "".join(text for language, text in blocks() if language == "c")
    (tmp_path / "mish.cu").write_text(kernel)
    (tmp_path / "page.py").write_text("".join(text for language, text in blocks() if language == "python"))
    environment = {**os.environ, "FCNLITE_DEVICE": "cpu"}
    done = subprocess.run(
        [sys.executable, "page.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    says = "".join(text for language, text in blocks() if language == "text").splitlines()
    trained, *printed = done.stdout.splitlines()
    assert printed == says[1:]
    for line in (says[0], trained):  # the last digit depends on the machine's matrix product
        assert re.fullmatch(r"loss 0\.0[1-4], right 9[89]%", line), trained


def test_the_net_is_twenty_lines():
    first = next(text for language, text in blocks() if language == "python")
    body = first[first.index("xavier =") :]
    assert len([line for line in body.splitlines() if line.strip()]) <= 20
