"""`fcnlite solve SOLVER.prototxt`: train as a Caffe solver file says."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from fcnlite.commands.options import (
    Parser,
    add_device_options,
    add_sharing_options,
    add_stage_option,
    at_least,
    guarded,
    stopping,
    use_device,
)
from fcnlite.errors import InputError
from fcnlite.layers.python import allow_python_layers
from fcnlite.parallel import world
from fcnlite.training.solver_file import train

_HELP = """\
Train as a Caffe solver file says, on the data that its nets' layers fetch.

  fcnlite solve voc-fcn32s/solver.prototxt --weights vgg16.h5
  fcnlite solve nyud-fcn32s-color-hha/solver.prototxt --weights color=rgb.h5 --weights hha=hha.h5
  fcnlite solve --solver=solver.prototxt --snapshot=train_iter_4000.solverstate --gpu 0
                                            with the options of `caffe train`, which may have one dash, too

The experiments of fcn.berkeleyvision.org run unmodified: their data layers are served by fcnlite, their relative
folders are looked for from the working folder, then from the prototxt's. Other Python layers need
--allow-python-layers. Snapshots go to the solver's snapshot_prefix under Caffe's names. Ctrl-C saves a snapshot."""


def parser() -> argparse.ArgumentParser:
    """The command's options, Caffe's own among them."""
    made = Parser("fcnlite solve", description=_HELP)
    made.add_argument("path", nargs="?", type=Path, metavar="SOLVER", help="the solver prototxt")
    made.add_argument("--solver", "-solver", type=Path, metavar="FILE", help="the same, as Caffe has it")
    made.add_argument(
        "--weights",
        "-weights",
        action="append",
        default=[],
        metavar="[SUFFIX=]FILE",
        help="start from these; with SUFFIX=, the layers whose names end so; may be given several times, or hold"
        " several files with commas between them",
    )
    made.add_argument(
        "--resume",
        "--snapshot",
        "-snapshot",
        type=Path,
        metavar="STATE",
        help="go on from this solver state",
    )
    add_stage_option(made)
    made.add_argument(
        "--iterations",
        type=at_least(0),
        metavar="N",
        help="stop at iteration N (default: the solver's max_iter)",
    )
    made.add_argument(
        "--score-every",
        type=at_least(0),
        metavar="N",
        help="iterations between scorings of the test net, 0 for none (default: the solver's snapshot interval)",
    )
    made.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the snapshots of a run before under the same snapshot_prefix",
    )
    made.add_argument(
        "--draw-together",
        action="store_true",
        help="let data layers draw the same crops and mirrors, as an image layer and its label layer need; Caffe draws"
        " for each layer apart",
    )
    made.add_argument(
        "--allow-python-layers",
        action="store_true",
        help="run the code of other Python layers that the nets name, from their folder or sys.path",
    )
    add_device_options(made)
    add_sharing_options(made)
    made.add_argument(
        "--gpu", "-gpu", metavar="N", help="number of the GPU, as Caffe has it: --device cuda:N"
    )
    return made


def _solver_of(options: argparse.Namespace) -> Path:
    named = [path for path in (options.path, options.solver) if path is not None]
    if len(named) != 1:
        raise InputError(
            "name one solver prototxt: fcnlite solve SOLVER.prototxt, or --solver=SOLVER.prototxt"
        )
    return named[0]


def _device_of(options: argparse.Namespace) -> str | None:
    """The device that --device names, or Caffe's --gpu."""
    if options.gpu is None:
        return options.device
    if options.device is not None:
        raise InputError("--gpu and --device both say where to run; leave one out")
    if not options.gpu.isdecimal():
        raise InputError(f"--gpu {options.gpu}: one GPU trains; give its number, such as --gpu 0")
    return f"cuda:{options.gpu}"


def _weights_of(given: Sequence[str]) -> list[str]:
    """Files of weights; Caffe separates several by commas."""
    return [name for text in given for name in ([text] if Path(text).exists() else text.split(",")) if name]


@guarded("fcnlite solve", together=True)
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    options = parser().parse_args(arguments)
    solver_file = _solver_of(options)
    use_device(_device_of(options), options.threads, options.fast)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if options.allow_python_layers:
        from fcnlite import caffe

        caffe.install()
        allow_python_layers()
    with stopping("fcnlite solve") as stop:
        solver = train(
            solver_file,
            _weights_of(options.weights),
            options.iterations,
            options.resume,
            options.score_every,
            stop,
            options.overwrite,
            options.draw_together,
            stages=options.stage,
            world=world(),
            exact=options.exact,
            scale_batch=options.scale_batch,
        )
    last = solver.param.max_iter if options.iterations is None else options.iterations
    if not stop or solver.iter >= last:
        return 0
    state = solver.last_snapshot[1] if solver.last_snapshot else None
    print(f"stopped after iteration {solver.iter}; go on with --resume {state}", file=sys.stderr)
    return 128 + stop.signal
