"""`fcnlite caffe SCRIPT ...`: run a script written for pycaffe."""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from fcnlite import caffe
from fcnlite.commands.options import Parser, guarded


@guarded(
    "fcnlite caffe", mistakes=(), together="loud"
)  # an error in the script shows its traceback, as Python does
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit status."""
    parser = Parser("fcnlite caffe", description="Run a Python 3 script that imports caffe on fcnlite.")
    parser.add_argument(
        "--allow-python-layers",
        action="store_true",
        help="let prototxts import the modules of their Python layers, from their folder or sys.path",
    )
    parser.add_argument("script", type=Path, metavar="SCRIPT", help="the Python file to run")
    parser.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="ARGUMENTS", help="the script's own arguments"
    )
    options = parser.parse_args(arguments)
    if not options.script.is_file():
        parser.error(f"{options.script}: no such file")
    caffe.install()
    caffe.allow_python_layers(options.allow_python_layers)
    sys.argv = [str(options.script), *options.arguments]
    sys.path[0] = str(options.script.resolve().parent)
    runpy.run_path(str(options.script), run_name="__main__")
    return 0
