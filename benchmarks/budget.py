"""Count the lines of the core and of the rest: `python -m benchmarks.budget`.

The core is what someone reads who wants to know how a net computes and learns: the autograd, the backends, the layers
but for those that fetch data or that only Caffe's forks have, nets, solver and kernels. The budget is of code: a line
counts if something but a comment or a docstring is on it. The number of all lines is printed beside it.
"""

from __future__ import annotations

import argparse
import io
import re
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT = 8000
CORE = {
    "autograd": ("fcnlite/blob.py", "fcnlite/random.py", "fcnlite/fillers.py"),
    "backends": ("fcnlite/device.py", "fcnlite/backend/"),
    "layers": ("fcnlite/layers/",),
    "nets": ("fcnlite/net/",),
    "solver": (
        "fcnlite/solver.py",
        "fcnlite/accumulation.py",
        "fcnlite/updates.py",
        "fcnlite/learning_rate.py",
    ),
    "kernels": ("kernels/",),
}
NOT_CORE = ("fcnlite/layers/sources/", "fcnlite/layers/forks/", "kernels/forks_")


def lines_by_part() -> dict[str, tuple[int, int]]:
    """Lines of code, and all lines, of each part of the core and of the `rest` of fcnlite and kernels."""
    lines = dict.fromkeys([*CORE, "rest"], (0, 0))
    for folder in ("fcnlite", "kernels"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".cu", ".cuh", ".cpp"):
                part, text = _part_of(path.relative_to(ROOT).as_posix()), path.read_text(encoding="utf-8")
                code = python_lines(text) if path.suffix == ".py" else cuda_lines(text)
                lines[part] = lines[part][0] + code, lines[part][1] + len(text.splitlines())
    return lines


def core_lines() -> tuple[int, int]:
    """Lines of code, and all lines, of the whole core."""
    parts = [counts for part, counts in lines_by_part().items() if part != "rest"]
    return sum(code for code, _ in parts), sum(every for _, every in parts)


def python_lines(text: str) -> int:
    """Lines of Python with code on them; a string that is a statement by itself is a docstring."""
    held: set[int] = set()
    fresh = True  # at the start of a statement
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            fresh = True
        elif token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.ENDMARKER):
            docstring = fresh and token.type == tokenize.STRING and token.line.strip().startswith(('"', "'"))
            if not docstring:
                held.update(range(token.start[0], token.end[0] + 1))
            fresh = False
    return len(held)


def cuda_lines(text: str) -> int:
    """Lines of CUDA C or C++ with code on them."""
    return sum(bool(re.sub(r"//.*", "", line).strip()) for line in text.splitlines())


def _part_of(name: str) -> str:
    if name.startswith(NOT_CORE):
        return "rest"
    return next((part for part, places in CORE.items() if name.startswith(places)), "rest")


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(prog="python -m benchmarks.budget", description=__doc__).parse_args()
    print(f"{'lines':<10}{'of code':>8}{'in all':>8}")
    for part, (code, every) in lines_by_part().items():
        if part == "rest":
            core, whole = core_lines()
            print(f"{'core':<10}{core:>8,}{whole:>8,}   the budget: {LIMIT:,} of code")
        print(f"{part:<10}{code:>8,}{every:>8,}")


if __name__ == "__main__":
    main()
