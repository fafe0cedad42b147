"""Count the lines of the core and of the rest: `python -m benchmarks.budget`.

The core is what someone reads who wants to know how a net computes and learns: the autograd, the backends, the layers
but for those that fetch data or that only Caffe's forks have, nets, solver and kernels. Every line of a file counts,
comments and blank ones too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT = 8000
CORE = {
    "autograd": ("fcnlite/blob.py", "fcnlite/random.py", "fcnlite/fillers.py"),
    "backends": ("fcnlite/device.py", "fcnlite/backend/"),
    "layers": ("fcnlite/layers/",),
    "nets": ("fcnlite/net/",),
    "solver": ("fcnlite/solver.py", "fcnlite/updates.py", "fcnlite/learning_rate.py"),
    "kernels": ("kernels/",),
}
NOT_CORE = ("fcnlite/layers/sources/", "fcnlite/layers/forks/")


def lines_by_part() -> dict[str, int]:
    """Lines of each part of the core, and of the `rest` of fcnlite and kernels."""
    lines = dict.fromkeys([*CORE, "rest"], 0)
    for folder in ("fcnlite", "kernels"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".cu", ".cuh"):
                name = path.relative_to(ROOT).as_posix()
                lines[_part_of(name)] += len(path.read_text(encoding="utf-8").splitlines())
    return lines


def core_lines() -> int:
    """Lines of the whole core."""
    return sum(count for part, count in lines_by_part().items() if part != "rest")


def _part_of(name: str) -> str:
    if name.startswith(NOT_CORE):
        return "rest"
    return next((part for part, places in CORE.items() if name.startswith(places)), "rest")


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(prog="python -m benchmarks.budget", description=__doc__).parse_args()
    for part, count in lines_by_part().items():
        if part == "rest":
            print(f"{'core':<10}{core_lines():>8,}   of {LIMIT:,}")
        print(f"{part:<10}{count:>8,}")


if __name__ == "__main__":
    main()
