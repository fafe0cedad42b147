"""Training as a Caffe solver file says: ``python -m fcnlite.train SOLVER.prototxt``.

The experiments of the original FCN repository run as written, with what their solve.py does around the solver: bilinear
upsampling weights, and the paper's metrics on the test net.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fcnlite import cli, device, metrics, surgery
from fcnlite.data.notes import Notes
from fcnlite.errors import InputError
from fcnlite.io import read_weights
from fcnlite.layers.python import Python, allow_python_layers
from fcnlite.net import Net, argmax_channels
from fcnlite.net.segmenter import Maps
from fcnlite.scoring import tally
from fcnlite.solver import SGDSolver, get_solver

MODULE = "fcnlite.train"
log = logging.getLogger(__name__)
SCORE_EVERY = 4000  # where the solver takes no snapshots

DESCRIPTION = """\
Train as a Caffe solver file says, on the data that its nets' layers fetch.

  python -m fcnlite.train voc-fcn32s/solver.prototxt --weights vgg16.h5
  python -m fcnlite.train nyud-fcn32s-color-hha/solver.prototxt --weights color=rgb.h5 --weights hha=hha.h5

The experiments of fcn.berkeleyvision.org run unmodified: their data layers are served by fcnlite, their relative
folders are looked for from the working folder, then from the prototxt's. Other Python layers need
--allow-python-layers. Snapshots go to the solver's snapshot_prefix under Caffe's names."""


@dataclass(frozen=True)
class HeadScores:
    """What one pair of score and label blobs is worth on a test net."""

    score: str
    label: str
    result: metrics.Scores


def start_from(net: Net, weights: Sequence[str]) -> None:
    """Copy weights into a fresh net, and give its upsampling layers bilinear ones, as the original solve.py do.

    Parameters
    ----------
    net : Net
    weights : sequence of str
        Files, each as ``FILE``, or as ``SUFFIX=FILE`` for the layers whose names end so (``color=rgb.h5`` fills
        conv1_1color from conv1_1).

    Raises
    ------
    InputError, FileNotFoundError
        A file cannot be read, does not fit, or has no layer of the net.
    """
    for given in weights:
        suffix, path = _suffix_and_path(given)
        source = read_weights(path)
        try:
            report = surgery.initialise(net, source, suffix)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        if not (report.copied or report.reshaped):
            raise InputError(f"{path}: none of its layers is in the net '{net.name}'")
        for line in str(report).splitlines():
            log.info("%s: %s", path, line)
    rising = [layer.name for layer in net.layers if layer.type == "Deconvolution" and "up" in layer.name]
    if rising:
        log.info("bilinear interpolation: %s", ", ".join(surgery.interpolate(net, rising)))


def _suffix_and_path(given: str) -> tuple[str, Path]:
    suffix, equals, path = given.partition("=")
    if equals and not Path(given).exists():
        return suffix, Path(path)
    return "", Path(given)


def heads(net: Net) -> list[tuple[str, str]]:
    """The pairs of score and label maps, (N, C, H, W) and (N, 1, H, W), that a net's softmax losses compare."""
    copies = {
        top: layer.param.bottom[0] for layer in net.layers if layer.type == "Split" for top in layer.param.top
    }
    pairs = [
        (copies.get(scores, scores), copies.get(label, label))
        for scores, label in (
            layer.param.bottom[:2] for layer in net.layers if layer.type == "SoftmaxWithLoss"
        )
    ]
    return [pair for pair in pairs if all(len(net.blobs[name].shape) == 4 for name in pair)]


def score(net: Net, rounds: int) -> tuple[float, list[HeadScores]]:
    """Loss and the paper's metrics over a test net's own data.

    Parameters
    ----------
    net : Net
        In phase TEST, with layers that fetch data.
    rounds : int
        Forward passes; where an FCN data layer feeds the net, one an image of its split instead.

    Returns
    -------
    float
        Mean weighted loss.
    list of HeadScores
    """
    feeds = [layer for layer in net.layers if isinstance(layer, Python) and layer.dataset is not None]
    not_scored: Sequence[int] = ()
    for feed in feeds:
        assert feed.dataset is not None
        rounds, not_scored = len(feed.dataset), feed.dataset.not_scored
        feed.seek(0)
    pairs = {f"{scores} and {label}": (scores, label) for scores, label in heads(net)}
    losses: list[float] = []

    def maps() -> Iterator[Maps]:
        for _ in range(rounds):
            net.forward()
            losses.append(float(net.total_loss()))
            yield {name: _truth_and_prediction(net, *pair) for name, pair in pairs.items()}
            net.drop_blobs()

    classes = {name: net.blobs[scores].shape[1] for name, (scores, _) in pairs.items()}
    found = tally(maps(), rounds, classes, not_scored)
    mean = sum(losses) / rounds if rounds else math.nan
    return mean, [HeadScores(*pair, found[name]) for name, pair in pairs.items()]


def _truth_and_prediction(net: Net, scores: str, label: str) -> tuple[np.ndarray, np.ndarray]:
    """The label maps of a batch and what the net's scores say, (N, H, W) each."""
    truth = device.current().tonumpy(net.blobs[label].data)
    truth = truth.reshape(len(truth), *truth.shape[-2:]).astype(np.int64)
    return truth, argmax_channels(net.blobs[scores].data)


def report_scores(solver: SGDSolver) -> None:
    """Print loss and metrics of every test net that segments; others the solver tests itself, as Caffe does."""
    for i, net in enumerate(solver.test_nets):
        if not heads(net):
            continue
        net.share_with(solver.net)
        loss, found = score(net, solver.param.test_iter[i])
        print(f"iteration {solver.iter}: test loss {loss:g}")
        for head in found:
            print(f"iteration {solver.iter}: {head.score}: {head.result}")
        sys.stdout.flush()


def train(
    path: str | os.PathLike[str],
    weights: Sequence[str] = (),
    iterations: int | None = None,
    resume: str | os.PathLike[str] | None = None,
    score_every: int | None = None,
) -> SGDSolver:
    """Train as a solver file says, until ``max_iter``, then save.

    Ctrl-C ends the run after the step it is in, saves, and is raised then.

    Parameters
    ----------
    path : path
        The solver prototxt.
    weights : sequence of str
        What to start from, as for :func:`start_from`.
    iterations : int, optional
        Where to stop instead of at ``max_iter``.
    resume : path, optional
        A solver state to go on from, instead of ``weights``.
    score_every : int, optional
        Iterations between two scorings of the test nets, 0 for none; by default as between snapshots.

    Returns
    -------
    SGDSolver
        As it stands at the end.
    """
    solver = get_solver(path)
    _describe_data(solver.net)
    if resume is not None:
        if weights:
            raise InputError("--resume brings its own weights; leave --weights out")
        solver.restore(resume)
    else:
        start_from(solver.net, weights)
    stop_at = solver.param.max_iter if iterations is None else iterations
    if score_every is None:
        score_every = solver.param.snapshot or SCORE_EVERY
    solver.snapshot_prefix()  # rather now than when there is something to save
    stopped = _run(solver, stop_at, score_every)
    due = solver.param.snapshot_after_train or stopped
    if due and not (solver.param.snapshot and solver.iter % solver.param.snapshot == 0):
        for file in solver.snapshot():
            print(file)
    if stopped and solver.last_snapshot is not None:
        state = solver.last_snapshot[1]
        print(f"stopped after iteration {solver.iter}; go on with --resume {state}", file=sys.stderr)
        raise KeyboardInterrupt(stopped)
    if score_every and solver.iter % score_every:
        report_scores(solver)
    return solver


def _describe_data(net: Net) -> None:
    """Note what the net is trained on, for the HDF5 files it is saved in."""
    for layer in net.layers:
        dataset = layer.dataset if isinstance(layer, Python) else None
        if dataset is not None:
            names = dataset.heads.values()
            net.notes = Notes.of(dataset, {scores: of for (scores, _), of in zip(heads(net), names)})


def _run(solver: SGDSolver, stop_at: int, score_every: int) -> int:
    """Update until an iteration, scoring on the way; returns the signal that stopped it before, if any."""
    with cli.stopping(MODULE) as stop:
        while solver.iter < stop_at and not stop:
            solver.step(1)
            if score_every and solver.iter % score_every == 0:
                report_scores(solver)
        return stop.signal if solver.iter < stop_at else 0


@cli.guarded(MODULE)
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = cli.Parser(MODULE, description=DESCRIPTION)
    parser.add_argument("solver", type=Path, help="solver prototxt")
    parser.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="[SUFFIX=]FILE",
        help="start from these; with SUFFIX=, the layers whose names end so; may be given several times",
    )
    parser.add_argument("--resume", type=Path, metavar="STATE", help="go on from this solver state")
    parser.add_argument(
        "--iterations",
        type=cli.at_least(0),
        metavar="N",
        help="stop at iteration N (default: the solver's max_iter)",
    )
    parser.add_argument(
        "--score-every",
        type=cli.at_least(0),
        metavar="N",
        help="iterations between scorings of the test net, 0 for none (default: the solver's snapshot interval)",
    )
    parser.add_argument(
        "--allow-python-layers",
        action="store_true",
        help="run the code of other Python layers that the nets name, from their folder or sys.path",
    )
    cli.add_device_options(parser)
    options = parser.parse_args(arguments)
    cli.use_device(options.device, options.threads)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if options.allow_python_layers:
        from fcnlite import caffe

        caffe.install()
        allow_python_layers()
    train(options.solver, options.weights, options.iterations, options.resume, options.score_every)
    return 0


if __name__ == "__main__":
    sys.exit(main())
