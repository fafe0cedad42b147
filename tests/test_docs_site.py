"""The documentation as a site: it builds without a warning, asks nothing of other machines, and misses no page."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytest.importorskip("mkdocs", reason="the extra 'docs' is not installed")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    # tests/test_notebooks.py runs the notebooks
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "RUN_NOTEBOOKS": "0"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0 and not done.stdout + done.stderr, done.stdout + done.stderr
    return folder


def test_every_page_is_built(site):
    sources = [path for kind in ("md", "ipynb") for path in (ROOT / "docs").rglob(f"*.{kind}")]
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in sources}
    assert pages <= {path.relative_to(site) for path in site.rglob("*.html")} and len(pages) > 8


def test_links_to_a_notebook_lead_to_its_page(site):
    start = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="notebooks/nets.html"' in start and "ipynb" not in start


def test_pages_load_nothing_from_elsewhere(site):
    fetched = r'<(?:script|img|iframe)[^>]*\bsrc="?(https?:)?//|<link[^>]*rel="?stylesheet"?[^>]*href="?(https?:)?//'
    for page in site.rglob("*.html"):
        assert not re.search(fetched, page.read_text(encoding="utf-8")), page


def test_the_reference_shows_what_fcnlite_exports(site):
    shown = "".join(path.read_text(encoding="utf-8") for path in (site / "reference").glob("*.html"))
    for heading in ("fcnlite.net.load", "fcnlite.device.use", "fcnlite.solver.get_solver"):
        assert f'id="{heading}"' in shown, heading
