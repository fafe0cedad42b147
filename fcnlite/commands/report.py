"""A page about training runs: `fcnlite report`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fcnlite.commands.options import Parser, add_device_options, at_least, guarded, use_device
from fcnlite.errors import InputError, printable
from fcnlite.training.gather import PAGE, PICTURES, write_page

_HELP = """\
Write one HTML page about a training run, or about several side by side: curves, each class's scores, what was
confused with what, pictures from the worst to the best with a slider over the snapshots, settings and versions.

  fcnlite report runs/shapes-fcn8s              writes runs/shapes-fcn8s/report.html
  fcnlite report runs/first runs/second --out both.html

The page is one file that needs no network: mail it, or open it on a phone. The run's snapshots segment the pictures;
what they give is kept in the run's folder, so that the next report is quick. fcnlite train --report-every N writes it
while training.
"""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = Parser("fcnlite report", description=_HELP)
    made.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of training runs")
    made.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help=f"the page (default: {PAGE} in the run's folder; needed for several runs)",
    )
    made.add_argument(
        "--pictures",
        type=at_least(0),
        default=PICTURES,
        metavar="N",
        help=f"validation images to show, spread over all (default: {PICTURES})",
    )
    add_device_options(made)
    return made


@guarded("fcnlite report")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    options = parser().parse_args(arguments)
    if options.out is None and len(options.runs) > 1:
        raise InputError("several runs on one page: name it with --out FILE.html")
    path = options.out or options.runs[0] / PAGE
    if path.is_dir() or path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out {path}: name an .html file")
    use_device(options.device, options.threads, options.fast)
    write_page(path, options.runs, options.pictures, say=lambda line: print(printable(line)))
    print(printable(f"report: {path}"))
    return 0
