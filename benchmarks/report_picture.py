"""The README's picture of a report: the page of a run on a desk's screen, and beside it on a phone's.

Run `python -m benchmarks.report_picture RUN docs/report.webp` for a run with several validations, such as one that
`python -m benchmarks.own_pictures --out DIR` leaves. Needs Chromium and playwright, as the tests in a browser do.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from fcnlite.commands import report

DESK, PHONE = (1240, 1010), (390, 844)  # windows, in pixels
HEIGHT = 760  # of the picture
GAP = 24


def main() -> int:
    """Write the page, open it twice, and put what is seen side by side."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report_picture", description=__doc__)
    parser.add_argument("run", help="folder of a run")
    parser.add_argument("picture", type=Path, help="the .webp or .png to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        page = Path(scratch) / "report.html"
        if report.main([options.run, "--out", str(page), "--pictures", "8"]):
            return 2
        seen = [seen_in_browser(page, DESK, ""), seen_in_browser(page, PHONE, "pictures")]
    scaled = [image.resize((image.width * HEIGHT // image.height, HEIGHT)) for image in seen]
    width = sum(image.width for image in scaled) + GAP * (len(scaled) + 1)
    sheet = Image.new("RGB", (width, HEIGHT + 2 * GAP), (205, 210, 215))
    left = GAP
    for image in scaled:
        sheet.paste(image, (left, GAP))
        left += image.width + GAP
    sheet.save(options.picture, quality=80)
    print(f"{options.picture}: {sheet.width} x {sheet.height}, {options.picture.stat().st_size // 1024} KB")
    return 0


def seen_in_browser(page: Path, window: tuple[int, int], section: str) -> Image.Image:
    """A page in a window of a size, scrolled to a section."""
    from playwright.sync_api import sync_playwright

    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as running:
        started = running.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        size: Any = {"width": window[0], "height": window[1]}
        opened = started.new_page(viewport=size)
        opened.goto(f"{page.as_uri()}#{section}")
        opened.wait_for_selector("#curves-chart .main-svg")
        opened.wait_for_timeout(500)  # until the charts have their sizes
        if section:
            opened.evaluate(f"document.getElementById('{section}').scrollIntoView()")
        picture = opened.screenshot()
        started.close()
    return Image.open(io.BytesIO(picture)).convert("RGB")


if __name__ == "__main__":
    sys.exit(main())
