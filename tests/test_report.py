"""`fcnlite report`: what the page holds, and, in headless Chromium, that it works offline and on a phone."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

from fcnlite import metrics
from fcnlite.report import Picture, Run, Validation, render, write_report

CLASSES = ("background", "cat", "dog", "<b>odd & name</b>", "</script><i>")


def made_run(
    name: str = "first", seed: int = 0, classes: tuple[str, ...] = CLASSES, pictures: int = 5
) -> Run:
    """A run whose scores rise, with what its snapshots make of some images: better from one to the next."""
    rng = np.random.default_rng(seed)
    count = len(classes)
    shown, validations = [], []
    for i in range(pictures):
        height, width = int(rng.integers(40, 60)), int(rng.integers(50, 90))
        truth = np.kron(rng.integers(0, count, (8, 8)), np.ones((9, 12), int))[:height, :width].astype(
            np.uint8
        )
        truth[:2] = 255
        maps = {}
        for at, wrong in ((10, 0.6), (20, 0.3), (30, 0.02 * i)):
            swap = rng.random(truth.shape) < wrong
            maps[at] = np.where(swap | (truth == 255), rng.integers(0, count, truth.shape), truth).astype(
                np.uint8
            )
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        shown.append(Picture(f"image {i}", image, truth, maps))
    for k, at in enumerate((10, 20, 30)):
        counts = sum(metrics.histogram(p.truth, p.predictions[at], count) for p in shown)
        scores = metrics.scores(np.asarray(counts)).to_json()
        validations.append(Validation(at, 1.0 / (k + 1), scores, np.asarray(counts)))
    log = [
        {"iteration": i, "loss": 2 / i, "smoothed_loss": 2 / i, "lr": 0.1 / i, "seconds": 0.5}
        for i in range(1, 31)
    ]
    settings = {"net": "fcn8s", "lr": 0.1 + seed, "init": [], "mirror": True, "width": None}
    return Run(name, classes, settings, {"fcnlite": "0.1.0", "device": "cpu"}, log, validations, shown, 40)


def embedded(page: str, element: str) -> dict:
    """The JSON in one of the page's script elements."""
    return json.loads(re.search(rf'id="{element}">(.*?)</script>', page, re.DOTALL)[1])


def test_the_page_is_one_file_that_asks_for_nothing(tmp_path):
    path = tmp_path / "page.html"
    write_report(path, [made_run()])
    page = path.read_text(encoding="utf-8")
    own = page.split("<script>", 1)[0] + page.rsplit("<script>", 1)[1]
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"{]', own) and "http" not in own
    assert "Plotly" in page and list(tmp_path.iterdir()) == [path]


def test_names_from_files_stay_text():
    page = render([made_run()])
    assert "<b>odd" not in page and "&lt;b&gt;odd &amp; name" in page
    assert "</script><i>" not in page
    assert embedded(page, "charts")["bars"]["data"][0]["y"][3:] == [
        "&lt;b>odd &amp; name&lt;/b>",
        "&lt;/script>&lt;i>",
    ]


def test_the_charts_hold_the_runs_figures():
    run = made_run()
    charts = embedded(render([run]), "charts")
    curves = {line["meta"].removeprefix("first: "): line for line in charts["curves"]["data"]}
    assert curves["training loss"]["y"] == [2 / i for i in range(1, 31)]
    assert curves["validation loss"]["y"] == [1.0, 0.5, 1 / 3]
    assert curves["mean IU"]["y"] == [round(100 * v.scores["mean_iu"], 2) for v in run.validations]
    assert charts["bars"]["data"][0]["x"] == [round(100 * iu, 2) for iu in run.last.scores["class_iu"]]
    counts = run.last.histogram
    heat = charts["confusions"][0]["data"][0]
    np.testing.assert_allclose(heat["z"], 100 * counts / counts.sum(1, keepdims=True), atol=0.01)
    assert heat["customdata"][1][1] == f"{counts[1, 1]:,}"


def test_pictures_are_scored_alone_and_kept_small():
    run = made_run()
    page = render([run])
    gallery = embedded(page, "gallery")
    assert gallery["runs"] == [{"name": "first", "iterations": [10, 20, 30]}]
    for picture, shown in zip(run.pictures, gallery["pictures"]):
        counts = metrics.histogram(picture.truth, picture.predictions[20], len(CLASSES))
        assert shown[0]["20"]["score"] == pytest.approx(metrics.scores(counts).mean_iu)
    big = Picture("big", np.zeros((2000, 3000, 3), np.uint8), np.zeros((2000, 3000), np.uint8), {})
    assert (
        len(render([Run("r", CLASSES, {}, pictures=[big])])) - len(render([Run("r", CLASSES, {})])) < 20_000
    )


def test_the_error_map_shows_what_is_wrong():
    from base64 import b64decode
    from io import BytesIO

    from PIL import Image

    from fcnlite.report.images import error_url

    truth, taken = np.array([[0, 1], [255, 2]]), np.array([[0, 2], [1, 2]])
    url = error_url(truth, taken, 3)
    colors = np.asarray(Image.open(BytesIO(b64decode(url.split(",")[1]))).convert("RGB"))
    assert (colors[0, 1] == (200, 30, 45)).all() and (colors[1, 0] == 255).all()
    assert (colors[0, 0] == colors[1, 1]).all() and (colors[0, 0] != colors[0, 1]).any()


def test_runs_without_anything_yet_have_a_page():
    page = render([Run("begun", CLASSES, {"net": "fcn8s"}, planned=100)])
    assert "begun" in page and 'id="curves"' not in page and 'id="pictures"' not in page


def test_settings_that_differ_stand_first():
    page = render([made_run("first", 0), made_run("second", 1)])
    table = page.split('<section id="settings">')[1]
    assert table.index(">lr<") < table.index(">net<")
    assert '<tr class="differs"><td>lr</td><td>0.1</td><td>1.1</td>' in re.sub(r"\s*\n\s*", "", table)


# In a browser


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("there is no Chromium here (Debian, Ubuntu: apt-get install chromium)")
    with sync_api.sync_playwright() as running:
        started = running.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(params=[(1280, 900), (390, 844)], ids=["desk", "phone"])
def page(request, browser, tmp_path):
    """The page about two runs, open in a window of a desk's or a phone's size, without a network."""
    path = tmp_path / "page.html"
    write_report(path, [made_run("first", 0), made_run("second", 1)])
    context = browser.new_context(
        viewport={"width": request.param[0], "height": request.param[1]}, offline=True
    )
    opened = context.new_page()
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    opened.on(
        "request",
        lambda asked: (
            faults.append(asked.url) if not asked.url.startswith(("file:", "data:", "blob:")) else None
        ),
    )
    opened.goto(path.as_uri())
    opened.wait_for_selector("#curves-chart .main-svg")
    yield opened
    assert faults == []
    context.close()


def first_name(page) -> str:
    return page.locator("#rows .row h3").first.text_content()


def test_it_fits_the_window_and_draws_its_charts(page):
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert "<b>odd & name</b>" in page.locator("#bars-chart").inner_text()
    for chart in ("curves-chart", "bars-chart", "confusion-chart"):
        assert page.locator(f"#{chart} .main-svg").count() > 0
    assert page.locator("#confusion-chart .heatmaplayer image").count() == 1
    unseen = page.evaluate("[...document.images].filter(i => i.closest('.row') && !i.naturalWidth).length")
    assert unseen == 0


def test_pictures_can_be_sorted_and_the_slider_goes_back_in_time(page):
    assert first_name(page) == "image 4"
    page.select_option("#order", "best")
    assert first_name(page) == "image 0"
    page.select_option("#order", "name")
    last = page.locator(".row img[data-kind=prediction]").first.get_attribute("src")
    assert page.locator("#snapshot-at").text_content() == "30"
    page.locator("#snapshot").fill("0")
    assert page.locator("#snapshot-at").text_content() == "10"
    assert page.locator(".row img[data-kind=prediction]").first.get_attribute("src") != last
    assert "mean IU" in page.locator(".row figcaption").nth(2).text_content()


def test_a_picture_opens_large_and_the_confusion_of_the_other_run_shows(page):
    page.locator("#rows img").first.click()
    assert page.locator("#large").is_visible()
    page.locator("#large").click(position={"x": 5, "y": 5})
    assert not page.locator("#large").is_visible()
    page.select_option("#confusion-run", "1")
    assert "iteration 30" in page.locator("#confusion-note").text_content()
