"""Mean IU on unseen pictures after five minutes of training on a few of one's own, with default settings.

Draws the demo's shapes as a plain folder, 32 pictures with masks of colours, and 40 others to measure on. Run
`python -m benchmarks.own_pictures`; further options go to `fcnlite train folder`. Time is told as it passed and as the
processor counted it, since a machine that does other things as well is slower.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from fcnlite.commands import evaluate, train
from fcnlite.data import shapes

ENOUGH = 0.75
COLOURS = np.array(
    [(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255)], np.uint8
)


def main() -> int:
    """Draw, train and measure; the exit status tells whether enough was learned."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.own_pictures", description=__doc__)
    parser.add_argument("--pictures", type=int, default=32, metavar="N", help="to learn from (default: 32)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep the pictures and the run there")
    options, further = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.out or Path(scratch)
        draw(folder / "pictures", 0, options.pictures)
        draw(folder / "unseen", 10_000, 40)
        begun, busy = time.perf_counter(), processor_seconds()
        status = train.main(
            ["folder", "--data", str(folder / "pictures"), "--out", str(folder / "run"), *further]
        )
        if status:
            return status
        seconds, busy = time.perf_counter() - begun, processor_seconds() - busy
        scores = measure(folder)
    print(
        f"{options.pictures} pictures: mean IU {scores['mean_iu']:.3f} on {scores['images']} unseen ones, after "
        f"{seconds:.0f} s ({busy:.0f} s of processor time)"
    )
    return 0 if scores["mean_iu"] >= ENOUGH else 1


def draw(folder: Path, first: int, count: int) -> None:
    """Write pictures of the demo's series, as JPEG, with masks of colours; outlines belong to the background."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for index in range(first, first + count):
        sample = shapes.draw(1337, index)
        label = np.where(sample.label == 255, 0, sample.label)
        Image.fromarray(sample.image).save(folder / "images" / f"{sample.name}.jpg", quality=92)
        Image.fromarray(COLOURS[label]).save(folder / "masks" / f"{sample.name}_mask.png")


def measure(folder: Path) -> dict[str, float]:
    """Mean IU of the run's net on the unseen pictures, and how many they are."""
    (weights,) = (folder / "run").glob("*.h5")
    found = folder / "scores.json"
    unseen = folder / "unseen"
    given = ["folder", "--weights", weights, "--data", folder / "run", "--images", unseen / "images"]
    if evaluate.main(list(map(str, [*given, "--masks", unseen / "masks", "--json", found]))):
        raise SystemExit(2)
    scores = json.loads(found.read_text())
    return {"mean_iu": scores["labels"]["label"]["mean_iu"], "images": scores["images"]}


def processor_seconds() -> float:
    """Processor time of this process so far, all threads together."""
    times = os.times()
    return times.user + times.system


if __name__ == "__main__":
    sys.exit(main())
