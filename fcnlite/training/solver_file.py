"""Training as a Caffe solver file says.

The experiments of the original FCN repository run as written, with what their solve.py does around the solver: bilinear
upsampling weights, and the paper's metrics on the test net.
"""

from __future__ import annotations

import glob
import logging
import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fcnlite import device, metrics, surgery
from fcnlite.data.notes import Notes
from fcnlite.data.survey import survey
from fcnlite.errors import InputError, warn
from fcnlite.io import read_weights
from fcnlite.io.lock import LOCK, Lock, owning
from fcnlite.layers.python import Python
from fcnlite.layers.sources.batches import drawing_together
from fcnlite.net import Net, argmax_channels
from fcnlite.net.doubts import warn_of_doubts
from fcnlite.net.segmenter import Maps
from fcnlite.parallel import World
from fcnlite.scoring import tally
from fcnlite.solver import SGDSolver, get_solver
from fcnlite.training.run_folder import SETTINGS

log = logging.getLogger(__name__)
SCORE_EVERY = 4000  # where the solver takes no snapshots


@dataclass(frozen=True)
class HeadScores:
    """Scores of one pair of score and label blobs on a test net."""

    score: str
    label: str
    result: metrics.Scores


def start_from(net: Net, weights: Sequence[str]) -> None:
    """Copy weights into a fresh net, and give its upsampling layers bilinear ones, as the original solve.py do.

    Parameters
    ----------
    net : Net
    weights : sequence of str
        Files, each as `FILE`, or as `SUFFIX=FILE` for the layers whose names end so (`color=rgb.h5` fills
        conv1_1color from conv1_1).

    Raises
    ------
    InputError, FileNotFoundError
        A file cannot be read, does not fit, or has no layer of the net.
    """
    for given in weights:
        suffix, path = _suffix_and_path(given)
        source = read_weights(path)
        other = surgery.of_other_classes(net, source, suffix)
        if other:
            warn(f"{path}: scores for other classes are left out, and start afresh: {', '.join(other)}")
        try:
            report = surgery.initialise(net, source, suffix, leave=other)
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


def score(net: Net, rounds: int, world: World | None = None) -> tuple[float, list[HeadScores]]:
    """Loss and the paper's metrics over a test net's own data.

    Parameters
    ----------
    net : Net
        In phase TEST, with layers that fetch data.
    rounds : int
        Forward passes; where an FCN data layer feeds the net, one an image of its split instead.
    world : World, optional
        The processes that share out the passes; each returns the result of all.

    Returns
    -------
    float
        Mean weighted loss.
    list of HeadScores
    """
    world = world if world is not None else World(None)
    feeds = [layer for layer in net.layers if isinstance(layer, Python) and layer.dataset is not None]
    not_scored: Sequence[int] = ()
    for feed in feeds:
        assert feed.dataset is not None
        rounds, not_scored = len(feed.dataset), feed.dataset.not_scored
        feed.take_every(world.size, world.rank)
    pairs = {f"{scores} and {label}": (scores, label) for scores, label in heads(net)}
    losses: list[float] = []

    def maps() -> Iterator[Maps]:
        for _ in world.rounds(net, rounds, feeds):
            net.forward()
            losses.append(float(net.total_loss()))
            yield {name: _truth_and_prediction(net, *pair) for name, pair in pairs.items()}
            net.drop_blobs()

    classes = {name: net.blobs[scores].shape[1] for name, (scores, _) in pairs.items()}
    found = tally(maps(), rounds, classes, not_scored, world=world)
    for feed in feeds:
        feed.take_every(1, 0)
        feed.seek(rounds)
    mean = sum(world.in_turn(losses)) / rounds if rounds else math.nan
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
        loss, found = score(net, solver.param.test_iter[i], solver.world)
        print(f"iteration {solver.iter}: test loss {loss:g}")
        for head in found:
            print(f"iteration {solver.iter}: {head.score}: {head.result}")
        sys.stdout.flush()


@owning()
def train(
    path: str | os.PathLike[str],
    weights: Sequence[str] = (),
    iterations: int | None = None,
    resume: str | os.PathLike[str] | None = None,
    score_every: int | None = None,
    stop: object = False,
    overwrite: bool = False,
    draw_together: bool = False,
    stages: Sequence[str] = (),
    world: World | None = None,
    exact: bool = False,
    scale_batch: bool = False,
) -> SGDSolver:
    """Train as a solver file says, until `max_iter`, then save.

    Parameters
    ----------
    path : path
        The solver prototxt.
    weights : sequence of str
        What to start from, as for `start_from`.
    iterations : int, optional
        Where to stop instead of at `max_iter`.
    resume : path, optional
        A solver state to go on from, instead of `weights`.
    score_every : int, optional
        Iterations between two scorings of the test nets, 0 for none; by default as between snapshots.
    stop : object
        Looked at after every iteration; once true, the run ends with a snapshot and without scoring.
    overwrite : bool
        Replace the snapshots of another run under the same names, rather than refuse to begin.
    draw_together : bool
        Let all data layers draw the same crops and mirrors, as an image layer and its label layer need.
    stages : sequence of str
        Of the training net, for the include and exclude rules of its layers.
    world : World, optional
        The processes that share out the work; the first one alone writes.
    exact, scale_batch : bool
        As for `SGDSolver`.

    Returns
    -------
    SGDSolver
        As it stands at the end.

    Raises
    ------
    InputError
        Nothing feeds an input of a net, or there are snapshots already.
    """
    world = world if world is not None else World(None)
    with drawing_together() if draw_together else nullcontext():
        solver = get_solver(path, world=world, exact=exact, scale_batch=scale_batch, stages=stages)
    for net in (solver.net, *solver.test_nets):
        _refuse_unfed(net, path)
    _describe_data(solver.net)
    if resume is not None:
        if weights:
            raise InputError("--resume brings its own weights; leave --weights out")
        solver.restore(resume)
    else:
        start_from(solver.net, weights)
        world.copy_parameters(solver.net)
    stop_at = solver.param.max_iter if iterations is None else iterations
    if score_every is None:
        score_every = solver.param.snapshot or SCORE_EVERY
    prefix = Path(solver.snapshot_prefix())  # rather now than when there is something to save
    if world.leads:
        Lock(prefix.with_name(f".{prefix.name}{LOCK}"), f"the place of the snapshots, {prefix},")
    if resume is None and not overwrite:
        _refuse_snapshots(prefix, solver.param.snapshot, stop_at)
    warn_of_doubts(solver.net)
    try:
        while solver.iter < stop_at and not world.any(stop):
            solver.step(1)
            if score_every and solver.iter % score_every == 0:
                report_scores(solver)
    except (InputError, OSError, MemoryError) as error:
        raise _saved(solver, error) from error
    except Exception as error:  # of a layer or a callback of the user's own
        print(_saved(solver, error), file=sys.stderr)
        raise
    stopped = solver.iter < stop_at
    due = solver.param.snapshot_after_train or stopped
    if due and not (solver.param.snapshot and solver.iter % solver.param.snapshot == 0):
        for file in solver.snapshot():
            print(file)
    if not stopped:
        solver.test_if_due()
    if not stopped and score_every and solver.iter % score_every:
        report_scores(solver)
    return solver


def _saved(solver: SGDSolver, error: Exception) -> Exception:
    """Save what was learned before an error ended the run; returns the error, with how the run goes on."""
    ending = f"_iter_{solver.iter}.solverstate"
    is_saved = solver.last_snapshot is not None and ending in solver.last_snapshot[1].name
    if solver.iter and solver.world is not None:
        # The error that ended the run is the one to tell.
        with suppress(InputError, OSError, MemoryError), solver.world.ending() as in_time:
            if in_time and not is_saved:
                solver.snapshot()
    if solver.last_snapshot is None:
        return error
    state = solver.last_snapshot[1]
    told = f"{error}; the run stopped after iteration {solver.iter}; go on with: --resume {state}"
    return InputError(told, getattr(error, "layer", ""))


def _refuse_unfed(net: Net, path: str | os.PathLike[str]) -> None:
    """Refuse a net that has inputs: they would be zero in every pass."""
    if not net.inputs:
        return
    run = Path(path).resolve().parent
    hint = (
        f"; it describes a run of fcnlite train, which goes on by fcnlite train --resume {run}"
        if (run / SETTINGS).is_file()
        else "; give the net layers that fetch data"
    )
    raise InputError(f"{path}: nothing feeds the inputs {', '.join(net.inputs)} of net '{net.name}'{hint}")


def _refuse_snapshots(prefix: Path, every: int, last: int) -> None:
    """Refuse to begin where a snapshot of another run would be overwritten."""
    for path in sorted(prefix.parent.glob(f"{glob.escape(prefix.name)}_iter_*.solverstate*")):
        number = re.fullmatch(r"_iter_(\d+)\.solverstate(\.h5)?", path.name[len(prefix.name) :])
        iteration = int(number[1]) if number else -1
        if iteration == last or (every and 0 < iteration < last and iteration % every == 0):
            raise InputError(
                f"{path} is a snapshot of another run, which this one would overwrite; --resume {path} goes on with"
                " it, --overwrite begins anew"
            )


def _describe_data(net: Net) -> None:
    """Note what the net is trained on, for the HDF5 files it is saved in."""
    for layer in net.layers:
        given = layer.param.transform_param
        if not layer.param.bottom and (len(given.mean_value) == 3 or given.HasField("scale")):
            mean = tuple(given.mean_value) if len(given.mean_value) == 3 else (0.0, 0.0, 0.0)
            net.notes = Notes(mean_bgr=mean, scale=given.scale, told=not given.HasField("mean_file"))
        dataset = layer.dataset if isinstance(layer, Python) else None
        if dataset is not None:
            survey(dataset)
            names = dataset.heads.values()
            net.notes = Notes.of(dataset, {scores: of for (scores, _), of in zip(heads(net), names)})
