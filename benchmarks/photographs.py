"""Learning from photographs: a narrow FCN-8s, from nothing, on four images of PASCAL VOC.

Afterwards it must know them by heart (mean IU at least 0.85).

Run `python -m benchmarks.photographs --data VOC_FOLDER`; it takes some minutes. All it does is:

    fcnlite train voc --data VOC_FOLDER --net fcn8s --width 8 --iterations 900 --val-split train
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from fcnlite.commands import train

ITERATIONS = 900
ENOUGH = 0.85


def main() -> int:
    """Train, print the scores, and tell by the exit status whether they are good enough."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photographs", description=__doc__)
    parser.add_argument(
        "--data", default="../shared/voc-mini", metavar="DIR", help="a VOC folder with few images"
    )
    parser.add_argument("--out", metavar="RUN", help="keep the run's folder here")
    options, further = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(options.out or Path(folder) / "run")
        given = ["voc", "--data", options.data, "--net", "fcn8s", "--width", "8", "--val-split", "train"]
        given += ["--iterations", str(ITERATIONS), "--out", str(run), *further]
        begun = time.perf_counter()
        status = train.main(given)
        if status:
            return status
        last = max(run.glob("validation/iter_*.json"), key=lambda path: path.stat().st_mtime)
        mean_iu = json.loads(last.read_text())["labels"]["label"]["mean_iu"]
    verdict = "learned" if mean_iu >= ENOUGH else "NOT LEARNED"
    print(f"{verdict}: mean IU {mean_iu:.3f} (at least {ENOUGH}), {time.perf_counter() - begun:.0f} s")
    return 0 if mean_iu >= ENOUGH else 1


if __name__ == "__main__":
    sys.exit(main())
