"""Run a script written for pycaffe: ``python -m fcnlite.caffe [--allow-python-layers] SCRIPT [ARGUMENTS]``."""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

from fcnlite import caffe, cli


def main(arguments: list[str] | None = None) -> int:
    """Run the script; returns the exit status."""
    parser = cli.Parser("fcnlite.caffe", description="Run a Python 3 script that imports caffe on fcnlite.")
    parser.add_argument(
        "--allow-python-layers",
        action="store_true",
        help="let prototxts import the modules of their Python layers, from their folder or sys.path",
    )
    parser.add_argument("script", type=Path)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="what the script gets")
    given = parser.parse_args(arguments)
    if not given.script.is_file():
        parser.error(f"{given.script}: there is no such file")
    caffe.install()
    caffe.allow_python_layers(given.allow_python_layers)
    sys.argv = [str(given.script), *given.arguments]
    sys.path[0] = str(given.script.resolve().parent)
    runpy.run_path(str(given.script), run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
