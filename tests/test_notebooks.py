"""docs/notebooks: each runs from its first cell to its last, shows what it speaks of, and is kept without outputs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from fcnlite.progress import progress_bar

nbformat = pytest.importorskip("nbformat", reason="the extra 'docs' is not installed")
DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    """What makes the site's pages of notebooks."""
    spec = importlib.util.spec_from_file_location("notebooks", DOCS / "hooks" / "notebooks.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# What the page of each notebook shows, besides what is typed.
SHOWN = {
    "own-pictures": (
        r"usable +16 train, 4 val",
        r"iteration 80: loss",
        r"report: run/report\.html",
        r'src="data:image/png',
        r"right: (9\d|100)% of the pixels",
        r"\[(0\.\d+, ){7}0\.\d+\]",
    ),
    "nets": (
        r"Segmenter\(.*parameters\)",
        r"<td[^>]*>score_pool4</td>",
        r"pool3 +\(1, 16, 33, 36\)",
        r'src="data:image/png',
        r"\[0\.11\d* 0\.11\d* 0\.11\d*\]",
    ),
}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_its_page_shows_what_it_says(
    path: Path, pages: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FCNLITE_DEVICE", "cpu")
    page = pages.markdown(pages.run(path))
    for wanted in SHOWN[path.stem]:
        assert re.search(wanted, page), wanted
    assert "Warning" not in page and page.count("```") % 2 == 0


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_small_and_without_outputs(path: Path) -> None:
    book = nbformat.read(path, 4)
    nbformat.validate(book)
    assert not [cell for cell in book.cells if cell.get("outputs") or cell.get("execution_count")]
    assert path.stat().st_size < 20_000 and not re.search(r"/(home|root|work|tmp)/", path.read_text("utf-8"))


def test_an_error_in_a_cell_is_raised(pages: ModuleType, tmp_path: Path) -> None:
    cell = nbformat.v4.new_code_cell("%%sh\nfcnlite data check nowhere")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "wrong.ipynb")
    with pytest.raises(Exception, match="CalledProcessError"):
        pages.run(tmp_path / "wrong.ipynb")


def test_bars_show_in_notebooks_and_in_no_log(
    pages: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(progress_bar(range(3), desc="looking")) == [0, 1, 2] and not capsys.readouterr().err
    code = "from fcnlite.progress import progress_bar\nfor _ in progress_bar(range(3), desc='looking'): pass"
    hidden = code.replace("desc", "hidden=True, desc")
    cells = [nbformat.v4.new_code_cell(source) for source in (code, hidden)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "bar.ipynb")
    monkeypatch.setattr(pages, "QUIET", {})
    shown, none = pages.run(tmp_path / "bar.ipynb").cells
    assert "looking" in str(shown.outputs) and "3/3" in str(shown.outputs) and not none.outputs
