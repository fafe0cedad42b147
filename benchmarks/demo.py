"""The demo's result and time for several seeds: mean IU on unseen images, at least 0.75, and seconds, at most 300.

Run `python -m benchmarks.demo --seeds 1337 1 2`; the images are drawn once, and their time is told apart.
`--picture docs/demo.png` makes the README's picture.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from fcnlite import vis
from fcnlite.commands import train
from fcnlite.data import open_dataset, shapes
from fcnlite.net import load
from fcnlite.scoring import sheet

ENOUGH = 0.75
SHOWN = 3  # images in the picture


def main() -> int:
    """Train once for each seed; the exit status tells whether all learned enough."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337], metavar="N")
    parser.add_argument("--picture", metavar="FILE", help="what the first seed's net says of unseen images")
    options, further = parser.parse_known_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        begun = time.perf_counter()
        shapes.write(data)
        drawing = time.perf_counter() - begun
        for seed in options.seeds:
            run = Path(folder) / str(seed)
            begun = time.perf_counter()
            given = ["shapes", "--data", str(data), "--seed", str(seed), "--out", str(run), *further]
            status = train.main(given)
            if status:
                return status
            last = max(run.glob("validation/iter_*.json"), key=lambda path: path.stat().st_mtime)
            scores = json.loads(last.read_text())["labels"]["label"]
            found[seed] = scores["mean_iu"], time.perf_counter() - begun
            if options.picture and len(found) == 1:
                net = load(run / "fcn8s.h5")
                vis.write_image(options.picture, sheet(net, open_dataset("shapes", data, "val"), SHOWN))
    for seed, (mean_iu, seconds) in found.items():
        print(f"seed {seed}: mean IU {mean_iu:.3f}, {drawing:.0f} s to draw and {seconds:.0f} s to learn")
    return 0 if all(mean_iu >= ENOUGH for mean_iu, _ in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
