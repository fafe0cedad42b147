"""Time and memory of a 528 MB model's way from `.caffemodel` to HDF5 and back, beside a plain copy.

Run `python -m benchmarks.convert`; the files go to a temporary folder (`--folder` names another) and are
removed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fcnlite.io.caffemodel import write_caffemodel

# VGG-16: outputs and inputs of its 3 x 3 convolutions, then of its three inner products.
_CONVOLUTIONS = [(64, 3), (64, 64), (128, 64), (128, 128), (256, 128), (256, 256), (256, 256), (512, 256)]
_CONVOLUTIONS += [(512, 512)] * 5
_INNER_PRODUCTS = [(4096, 25088), (4096, 4096), (1000, 4096)]

_MEASURE = """
import json, resource, shutil, sys, time
job, source, target = sys.argv[1:]
if job == "convert":
    from fcnlite.io.convert import convert_weights as work
else:
    work = shutil.copyfile
start = time.perf_counter()
work(source, target)
seconds = time.perf_counter() - start
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))
"""


def _layers() -> Iterator[tuple[str, list[np.ndarray]]]:
    """VGG-16's parameters, random, one layer at a time."""
    draw = np.random.default_rng(0)
    shapes = [(outputs, inputs, 3, 3) for outputs, inputs in _CONVOLUTIONS] + _INNER_PRODUCTS
    for i, shape in enumerate(shapes):
        yield f"layer{i}", [draw.random(shape, np.float32), draw.random(shape[0], np.float32)]


def _run(job: str, source: Path, target: Path) -> tuple[float, float]:
    """Seconds and peak bytes of one job in a process of its own; the best of three."""
    command = [sys.executable, "-c", _MEASURE, job, str(source), str(target)]
    runs = []
    for _ in range(3):
        target.unlink(missing_ok=True)
        runs.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    return min(seconds for seconds, _ in runs), max(peak for _, peak in runs)


def main() -> None:
    """Make the model, convert it both ways, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="where to put the files (1.6 GB)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        model, hdf5, again, copy = (folder / n for n in ("m.caffemodel", "m.h5", "again.caffemodel", "copy"))
        start = time.perf_counter()
        write_caffemodel(model, _layers())
        size = model.stat().st_size
        print(f"a model of {size / 2**20:.0f} MiB, made in {time.perf_counter() - start:.1f} s")
        copying, _ = _run("copy", model, copy)
        copy.unlink()
        print(f"plain copy             {copying:5.2f} s")
        for title, source, target in [
            (".caffemodel to HDF5", model, hdf5),
            ("HDF5 to .caffemodel", hdf5, again),
        ]:
            seconds, peak = _run("convert", source, target)
            print(
                f"{title}    {seconds:5.2f} s, {seconds - copying:.2f} s beyond a copy, "
                f"peak memory {peak / size:.2f} x the file"
            )
        same = subprocess.run(["cmp", str(model), str(again)]).returncode == 0
        print(f"there and back again: {'the same bytes' if same else 'DIFFERENT BYTES'}")


if __name__ == "__main__":
    main()
