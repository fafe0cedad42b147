"""One training run: the net and its start, the loop with log, snapshots and validation."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tqdm import tqdm

import fcnlite
from fcnlite import device, surgery
from fcnlite.data import Batches, Dataset, ImageOrder
from fcnlite.data.notes import Notes
from fcnlite.data.skipping import Skipping
from fcnlite.data.survey import survey
from fcnlite.deploy import deploy
from fcnlite.errors import InputError, noting
from fcnlite.io import read_weights, write_text
from fcnlite.net import Net
from fcnlite.net.doubts import warn_of_doubts
from fcnlite.net.segmenter import score_blob
from fcnlite.parallel import World
from fcnlite.progress import progress_bar
from fcnlite.proto import to_text
from fcnlite.scoring import Evaluation, evaluate, sheet
from fcnlite.solver import SGDSolver
from fcnlite.training.build import describe_net, open_data, solver_of
from fcnlite.training.class_weights import CLASS_WEIGHTS, write_matrix
from fcnlite.training.plan import Plan
from fcnlite.training.run_folder import STATE, RunFolder, damage, iteration_of, weights_of
from fcnlite.training.watchers import Watcher

PICTURES = 8  # images in a validation's picture
SILENCE = 60  # seconds without a line off a terminal

Say = Callable[[str], object]


def start(
    plan: Plan,
    dataset: Dataset,
    say: Say = print,
    init: bool = True,
    folder: Path = Path(),  # noqa: B008
) -> Net:
    """The net in phase TRAIN, with the weights it starts from.

    Parameters
    ----------
    plan : Plan
    dataset : Dataset
        Gives the classes, and the notes that the weights will carry.
    say : callable
        Told in a line what the weights are.
    init : bool
        False when going on from a snapshot, which brings all weights.
    folder : Path
        The run's, where the class weights are, if there are any.
    """
    fcnlite.set_random_seed(plan.seed)
    param = describe_net(plan, len(dataset.classes), folder)
    net = Net(param, phase="TRAIN")
    net.notes = Notes.of(dataset, {score_blob(head): names for head, names in dataset.heads.items()})
    surgery.interpolate(net)
    if plan.init and init:
        _initialise(net, plan, say)
    elif plan.from_nothing and init:
        say("weights: from nothing (msra filler); --init FILE starts from a classifier or an FCN instead")
    return net


def _initialise(net: Net, plan: Plan, say: Say) -> None:
    towers = ("color", "hha") if plan.net == "nyud-fcn32s-color-hha" else ("",)
    if len(plan.init) != len(towers):
        needs = "two files, --init COLOR --init HHA" if len(towers) == 2 else "one file"
        raise InputError(f"--init: {plan.net} starts from {needs}; {len(plan.init)} given")
    filled: set[str] = set()
    for path, suffix in zip(plan.init, towers):
        source = read_weights(path)
        other = surgery.of_other_classes(net, source, suffix)
        try:
            report = surgery.initialise(net, source, suffix, leave=other)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        if not report.copied and not report.reshaped:
            raise InputError(
                f"{path}: none of its layers ({', '.join(list(source)[:4])}, ..) is in {plan.net}"
            )
        filled.update(layer for layer in net.params if layer not in report.untouched)
        left = f"; scores for other classes left out: {', '.join(other)}" if other else ""
        say(f"weights: {len(report.copied) + len(report.reshaped)} layers from {path}{left}")
    empty = [
        layer
        for layer, blobs in net.params.items()
        if layer not in filled and not layer.startswith(("score", "up", "scale"))
    ]
    if empty:
        raise InputError(
            f"{', '.join(plan.init)}: nothing in it for {', '.join(empty[:4])}{', ..' if empty[4:] else ''} "
            f"of {plan.net}, which would start at zero and never learn"
        )


@dataclass(frozen=True)
class _Step:
    """An iteration begun; `loss` is for float(), which waits for it."""

    iteration: int
    loss: Any
    rate: float
    images: list[str]
    begun: float


class Diverged(InputError):
    """The loss is not a finite number any more, and the weights are nothing to save."""


class _Validating:
    """The part of a run that measures its net on the validation images."""

    net: Net
    plan: Plan
    folder: RunFolder
    world: World
    say: Say
    watchers: list[Any]
    val_data: Dataset | None
    evaluation: Evaluation | None
    solver: SGDSolver
    _test_net: Net | None

    def validate(self) -> None:
        """Measure the net on the validation images: scores, table and pictures into the run's folder."""
        if self.val_data is None:
            return
        if self._test_net is None:
            self._test_net = Net(deploy(self.net.param), phase="TEST")
        self._test_net.share_with(self.net)
        self.evaluation = self._validate(self._test_net, self.val_data, self.solver.iter)

    def _validate(self, net: Net, images: Dataset, iteration: int) -> Evaluation:
        found = evaluate(
            net, images, self.plan.validate, progress="validating", with_loss=True, world=self.world
        )
        if self.world.leads:
            picture = sheet(net, images, min(PICTURES, found.images))
            self.folder.write_validation(iteration, found.to_json(), str(found), picture)
            self.say(f"iteration {iteration}: loss {found.loss:.4g}, {found.main} ({found.images} images)")
            for watcher in self.watchers:
                watcher.validated(iteration, found)
        return found

    def _make_up_validations(self) -> None:
        """Validate the snapshots whose validation the end of the process prevented, with the weights in their files."""
        if self.val_data is None or not self.plan.snapshot:
            return
        for iteration, state in self.world.from_leader(self._not_validated):
            net = Net(deploy(self.net.param), phase="TEST")
            net.copy_from(weights_of(state))
            self._validate(net, self.val_data, iteration)

    def _not_validated(self) -> list[tuple[int, Path]]:
        """The whole snapshots up to here that lack the validation which follows each."""
        last = min(self.solver.iter, self.plan.iterations - 1)
        due = [i for i in self.folder.states() if 0 < i <= last and i % self.plan.snapshot == 0]
        states = {i: self.folder.states()[i] for i in reversed(due) if not self.folder.is_validated(i)}
        return [(iteration, state) for iteration, state in states.items() if not damage(state)]


class _Logging:
    """The part of a run that tells how far it is: the bar, the log, and a line now and then."""

    plan: Plan
    folder: RunFolder
    say: Say
    watchers: list[Any]
    losses: deque[float]
    warned: list[str]
    solver: SGDSolver
    _under_way: deque[_Step]
    _noted: float
    _logged: int
    _told: tuple[float, int] | None
    _begun: tuple[float, int]

    def _bar(self) -> Any:
        return progress_bar(
            total=self.plan.iterations,
            initial=self.solver.iter,
            desc="training",
            unit="it",
            dynamic_ncols=True,
        )

    def _note(self, bar: Any, ahead: int = 0) -> None:
        """Check and log finished steps, leaving the last `ahead` in flight so that a GPU never waits."""
        while len(self._under_way) > ahead:
            step = self._under_way.popleft()
            loss = float(step.loss)
            if not math.isfinite(loss):
                raise Diverged(
                    f"the loss became {loss} at iteration {step.iteration} ({', '.join(step.images)}): lower the "
                    f"learning rate, --lr, from {self.plan.lr:g}"
                )
            self.losses.append(loss)
            smoothed = sum(self.losses) / len(self.losses)
            begun, self._noted = max(step.begun, self._noted), time.perf_counter()
            record = {
                "iteration": step.iteration,
                "loss": loss,
                "smoothed_loss": smoothed,
                "lr": step.rate,
                "seconds": round(self._noted - begun, 4),
                "images": step.images,
            }
            if self.warned[self._logged :]:
                record["warnings"] = self.warned[self._logged :]
                self._logged = len(self.warned)
            self.folder.log(record)
            for watcher in self.watchers:
                watcher.stepped(record)
            bar.update()
            bar.set_postfix_str(f"loss {smoothed:.4g}", refresh=False)
            if bar.disable:
                self._tell(step.iteration, smoothed)

    def _tell(self, iteration: int, loss: float) -> None:
        """A line now and then where there is no bar: at every tenth of the run, and at least once a minute."""
        now = time.perf_counter()
        if self._told is None:
            self._told = self._begun = now, iteration - 1
        if iteration % max(1, self.plan.iterations // 10) and now - self._told[0] < SILENCE:
            return
        self._told = now, iteration
        each = (now - self._begun[0]) / (iteration - self._begun[1])
        left = tqdm.format_interval(each * (self.plan.iterations - iteration))
        self.say(
            f"iteration {iteration} of {self.plan.iterations}: loss {loss:.4g} ({each:.2g} s each, {left} left)"
        )


class Trainer(_Validating, _Logging):
    """A run under way.

    Parameters
    ----------
    plan : Plan
    folder : RunFolder
        Where everything it writes goes.
    resume : path, optional
        The solver state to go on from.
    say : callable
        Called with each line of news.
    world : World, optional
        The processes that share the run out; the first one alone writes.
    exact : bool
        As for `SGDSolver`.

    Attributes
    ----------
    iteration : int
        Weight updates made.
    evaluation : Evaluation or None
        The last validation.
    saved : pathlib.Path or None
        The state of the last snapshot.
    settled : bool
        Validation has not got better for as long as the plan has patience.
    images : list of str
        The images of the last iteration begun.
    warned : list of str
        What was warned of, which the log keeps.
    watchers : list of Watcher
        Told of every step and validation.
    """

    def __init__(
        self,
        plan: Plan,
        folder: RunFolder,
        resume: Path | None = None,
        say: Say = tqdm.write,
        world: World | None = None,
        exact: bool = False,
    ) -> None:
        self.plan = plan
        self.world = world if world is not None else World(None)
        self.world.share(plan.iter_size)
        self.folder = folder
        self.say = say
        self.warned: list[str] = []
        self.watchers: list[Watcher] = []
        with noting(self.warned):
            if plan.class_weights and self.world.leads:
                write_matrix(folder.path / CLASS_WEIGHTS, plan.class_weights)
            self.train_data, self.val_data = self.world.leader_first(self._open_data)
            if (
                self.world.leads and plan.data_set != "folder"
            ):  # whose pictures were all read for its manifest
                survey(self.train_data)
            self.net = start(plan, self.train_data, say, resume is None, folder.path)
        given = self.train_data.blobs(0)
        if set(given) != set(self.net.inputs):
            raise InputError(
                f"{plan.net} reads {', '.join(self.net.inputs)}, but the data of {plan.data_set} are "
                f"{', '.join(given)}: it is a net for another data set"
            )
        settings = solver_of(plan, folder.snapshots)
        settings.ClearField("snapshot")  # taken here, with the validation and the curve that go with it
        self.solver = SGDSolver(settings, net=self.net, world=self.world, exact=exact)
        self.losses: deque[float] = deque(maxlen=plan.average_loss)
        self._under_way: deque[_Step] = deque()
        self.images: list[str] = []
        self._noted = 0.0
        self.settled = False
        self._told: tuple[float, int] | None = None
        self._begun = 0.0, 0
        self._logged = 0  # warnings
        self.evaluation: Evaluation | None = None
        self.saved: Path | None = None
        self._test_net: Net | None = None
        if resume is not None:
            self._restore(resume)
            self.saved = resume if resume.name == self.state_name else None
        for record in folder.forget_after(self.iteration):
            self.losses.append(record["loss"])
        with noting(self.warned):
            warn_of_doubts(self.net)

    def _open_data(self) -> tuple[Dataset, Dataset | None]:
        train, val = open_data(self.plan)
        if not self.plan.skip_bad:
            return train, val
        return Skipping(train, self.say), None if val is None else Skipping(val, self.say).without_bad()

    def _restore(self, state: Path) -> None:
        self.solver.restore(state)
        if self.iteration > self.plan.iterations:
            raise InputError(
                f"{state} is at iteration {self.iteration} already, beyond --iterations {self.plan.iterations}"
            )

    @property
    def iteration(self) -> int:
        return self.solver.iter

    @property
    def validation_images(self) -> int:
        """Number of images in a validation."""
        number = len(self.val_data) if self.val_data is not None else 0
        return number if self.plan.validate is None else min(number, self.plan.validate)

    def describe(self) -> dict[str, Any]:
        """The contents of settings.json."""
        return {
            "fcnlite": fcnlite.__version__,
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "device": device.current().name,
            "classes": {head: list(names) for head, names in self.train_data.heads.items()},
            "train_images": len(self.train_data),
            "plan": self.plan.to_json(),
        }

    def write_description(self) -> None:
        """Write settings.json, and the net and the solver as Caffe has them."""
        if not self.world.leads:
            return
        self.folder.write_settings(self.describe())
        write_text(self.folder.path / "train.prototxt", to_text(self.net.param))
        write_text(self.folder.path / "deploy.prototxt", to_text(deploy(self.net.param)))
        solver = solver_of(self.plan, self.folder.snapshots)
        solver.net = str(self.folder.path / "train.prototxt")
        write_text(self.folder.path / "solver.prototxt", to_text(solver))

    def run(self, stop: Any = False) -> bool:
        """Train to the planned iteration, or as long as validation gets better; False where `stop` came true before.

        Parameters
        ----------
        stop : object
            Looked at after every iteration; once true, a snapshot is saved and the run ends.
        """
        self._make_up_validations()
        plan, position = self.plan, self.iteration * self.plan.iter_size
        randomize = plan.order == "random"
        order = ImageOrder.of_split(
            len(self.train_data), plan.split, randomize, plan.seed, position
        )  # the same indices that the batches take, for the log
        source = Batches(
            self.train_data,
            randomize=randomize,
            seed=plan.seed,
            position=position,
            mirror=plan.mirror,
            jitter=plan.jitter,
            zoom=plan.zoom,
            recolor=plan.recolor,
            keep=plan.sample_patches,
        )
        if plan.validate_first and self.iteration == 0 and not self.world.any(stop):
            self.validate()
        self.settled = self.world.any(self._is_settled())
        with noting(self.warned), source, self._bar() as bar:
            self.solver.source = self.world.own_items(source)
            while self.iteration < plan.iterations and not self.settled and not self.world.any(stop):
                self._step(order, bar)
                if plan.snapshot and self.iteration % plan.snapshot == 0 and self.iteration < plan.iterations:
                    self._note(bar)
                    self.save()
                    self.validate()
                    self.settled = self.world.any(self._is_settled())
                    self.folder.prune(plan.net, plan.keep, self.iteration)
            self._note(bar)
        if self.saved is None or self.state_name != self.saved.name:
            self.save()
        self.folder.close()
        return self.iteration >= plan.iterations or self.settled

    def _is_settled(self) -> bool:
        """True if the last `patience` validations were no better than one before them."""
        if not self.plan.patience or not self.world.leads:
            return False
        scores = [v.mean_iu or 0.0 for v in self.folder.validations() if v.iteration <= self.iteration]
        recent, before = scores[-self.plan.patience :], scores[: -self.plan.patience]
        return bool(before) and max(recent) <= max(before)

    @property
    def state_name(self) -> str:
        """The name of a snapshot's state taken now."""
        return f"{self.plan.net}_iter_{self.iteration}{STATE}"

    def finish(self) -> tuple[Path, int]:
        """Validate, and write the final weights; returns their path and the iteration they are of."""
        assert self.saved is not None
        self.validate()
        best = None
        if self.plan.final == "best":
            best = self.world.from_leader(lambda: self.folder.best(self.plan.net))
        self.folder.prune(self.plan.net, self.plan.keep, self.iteration)
        self.folder.draw_curve(self.plan.average_loss, f"{self.plan.net} on {self.plan.name}")
        taken = best or self.saved
        return self.folder.write_final(taken, self.plan.net), iteration_of(taken)

    def save(self) -> None:
        """Save a snapshot and draw the curve."""
        self.saved = self.folder.snapshot(self.solver, self.plan.net)
        self.folder.draw_curve(self.plan.average_loss, f"{self.plan.net} on {self.plan.name}")

    def rescue(self, error: Exception) -> None:
        """Save what was learned before an error ended the run, if it is good, can be saved and is not yet."""
        is_saved = self.saved is not None and self.saved.name == self.state_name
        if not isinstance(error, Diverged) and self.iteration:
            # The error that ended the run is the one to tell.
            with suppress(Exception), self.world.ending() as in_time:
                if in_time and not is_saved:
                    self._note(self._bar())
                    self.save()
        self.folder.close()

    def _step(self, order: ImageOrder, bar: Any) -> None:
        rate, begun = self.solver.rate, time.perf_counter()
        indices = [next(order) for _ in range(self.plan.iter_size)]
        self.images = [self.train_data.names[index] for index in indices]
        self.solver.step(1)
        self.images = [self._name(index) for index in indices]
        self._under_way.append(_Step(self.iteration, self.solver.loss, rate, self.images, begun))
        self._note(bar, device.current().ahead)

    def _name(self, index: int) -> str:
        """Name of the image shown for an index."""
        data = self.train_data
        return data.shown(index) if isinstance(data, Skipping) else data.names[index]
