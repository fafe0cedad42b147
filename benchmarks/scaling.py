"""Time and memory of FCN-8s against the image's size and the number of threads, with a picture of both.

    python -m benchmarks.scaling [--sizes 128 256 512 1024 2048] [--threads 1 2] [--fast] [--out scaling.png]

Each measurement runs in a process of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from fcnlite.commands.options import at_least


def main() -> int:
    """Measure, print a table and draw it."""
    args = _parser().parse_args()
    print(f"{args.net}, inference{' --fast' if args.fast else ''}, the best of {args.runs} runs")
    print(f"{'size':>6}{'threads':>9}{'seconds':>10}{'us a pixel':>12}{'peak MB':>9}")
    measured: dict[int, list[tuple[int, float, float]]] = {}
    for threads in args.threads:
        for size in args.sizes:
            seconds, peak = _measure(size, threads, args)
            measured.setdefault(threads, []).append((size, seconds, peak))
            print(f"{size:6}{threads:9}{seconds:10.2f}{1e6 * seconds / size**2:12.2f}{peak:9.0f}", flush=True)
    if args.out:
        _draw(measured, args)
        print(f"picture: {args.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__.split("\n")[0])
    sizes = [128, 256, 512, 1024, 2048]
    parser.add_argument("--sizes", type=at_least(1), nargs="+", default=sizes, help="sides of square images")
    cores = sorted({1, len(os.sched_getaffinity(0))})
    parser.add_argument(
        "--threads", type=at_least(1), nargs="+", default=cores, help="(default: %(default)s)"
    )
    parser.add_argument("--runs", type=at_least(1), default=2, help="timed runs each (default: %(default)s)")
    parser.add_argument("--net", default="fcn8s", help="net of the catalogue (default: %(default)s)")
    parser.add_argument("--width", type=int, default=64, help=argparse.SUPPRESS)
    parser.add_argument("--fast", action="store_true", help="by Winograd's algorithm")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write a picture, PNG or SVG")
    return parser


def _measure(size: int, threads: int, args: argparse.Namespace) -> tuple[float, float]:
    """Seconds and peak MB of one size."""
    worker = "fast" if args.fast else "fcnlite"
    command = [sys.executable, "-m", "benchmarks.fcn8s", "--worker", worker, "--net", args.net]
    command += ["--size", f"{size}x{size}", "--runs", str(args.runs), "--width", str(args.width)]
    environment = {**os.environ, "FCNLITE_THREADS": str(threads)}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=environment)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return min(result["seconds"]), result["peak_mb"]


def _draw(measured: dict[int, list[tuple[int, float, float]]], args: argparse.Namespace) -> None:
    """Seconds and memory over the size, a line for each number of threads; both scales logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    for threads, rows in measured.items():
        sizes, seconds, peaks = zip(*rows)
        label = f"{threads} thread{'s' * (threads > 1)}"
        for axis, values in zip(axes, (seconds, peaks)):
            axis.loglog(sizes, values, marker="o", label=label)
    for axis, name in zip(axes, ("seconds an image", "peak memory, MB")):
        axis.set(xlabel="side of the image, pixels", ylabel=name)
        axis.grid(True, which="both", alpha=0.3)
        axis.legend()
    figure.suptitle(f"{args.net}{' --fast' if args.fast else ''}")
    figure.savefig(args.out)


if __name__ == "__main__":
    sys.exit(main())
