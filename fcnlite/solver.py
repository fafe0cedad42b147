"""Gradient descent exactly as Caffe's solvers do it, from a SolverParameter to snapshots: SGD and its five kin.

>>> solver = get_solver("solver.prototxt", source=batches)   # doctest: +SKIP
>>> solver.step(1000)                                        # doctest: +SKIP
"""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

import fcnlite.random
from fcnlite import device, updates
from fcnlite.accumulation import Accumulation
from fcnlite.errors import InputError, mistake
from fcnlite.io import SolverSnapshot, read_state, write_state
from fcnlite.learning_rate import learning_rate, steps_passed
from fcnlite.net import Net
from fcnlite.proto import (
    TEST,
    TRAIN,
    Message,
    NetParameter,
    NetState,
    SolverParameter,
    folder_of,
    read_net,
    read_solver,
)

if TYPE_CHECKING:
    from fcnlite.parallel import Passes, World

log = logging.getLogger(__name__)


class NamedNets:
    """The nets that a solver names: one to train and any number to test, sharing its parameters.

    Parameters
    ----------
    param : SolverParameter
    folder : path
        Folder of the solver's file, where files are looked for besides the working folder.
    """

    def __init__(self, param: Message, folder: Path) -> None:
        self.param, self._folder = param, folder

    def training_net(self) -> Net:
        """The training net, with the weights that the solver names copied in (several in one string by commas)."""
        net = self._make_net(self._train_net(), TRAIN, self.param.train_state)
        for names in self.param.weights:
            for name in names.split(","):
                net.copy_from(self._find(name.strip()))
        return net

    def _train_net(self) -> Any:
        param = self.param
        given = [
            name for name in ("train_net", "train_net_param", "net", "net_param") if param.HasField(name)
        ]
        if len(given) != 1:
            raise InputError(f"the solver must name one training net; it has {', '.join(given) or 'none'}")
        value = getattr(param, given[0])
        return value if given[0].endswith("param") else self._find(value)

    def test_nets(self, training_net: Net) -> list[Net]:
        """The test nets, which use the training net's parameters."""
        param = self.param
        sources: list[Any] = [*param.test_net_param, *map(self._find, param.test_net)]
        left = len(param.test_iter) - len(sources)
        if left > 0 and param.HasField("net_param"):
            sources += [param.net_param] * left
        elif left > 0 and param.net:  # the training net's file with phase TEST
            sources += [self._find(param.net)] * left
        if len(sources) != len(param.test_iter):
            raise InputError(
                f"the solver has {len(param.test_iter)} test_iter values for {len(sources)} test nets"
            )
        states = list(param.test_state) or [NetState()] * len(sources)
        if len(states) != len(sources):
            raise InputError(f"the solver has {len(states)} test_state for {len(sources)} test nets")
        nets = [self._make_net(source, TEST, state) for source, state in zip(sources, states)]
        for number, net in enumerate(nets):
            try:
                net.share_with(training_net)
            except InputError as error:
                raise InputError(f"test net {number} does not fit the training net: {error}") from None
        return nets

    def _make_net(self, source: Any, phase: int, state: Any) -> Net:
        """A net in the state that the solver, the net itself and `state` ask for, the last of them first."""
        own = source if isinstance(source, NetParameter) else read_net(source)
        merged = NetState(phase=phase)
        merged.MergeFrom(own.state)
        merged.MergeFrom(state)
        folder = self._folder if own is source else None
        return Net(source, merged.phase, level=merged.level, stages=list(state.stage), folder=folder)

    def _find(self, name: str) -> Path:
        """A file of nets or weights, named as Caffe does from the working folder, or beside the solver."""
        for path in (Path(name), self._folder / name, self._folder / Path(name).name):
            if path.is_file():
                return path
        raise FileNotFoundError(
            f"the solver's file {name} is neither in {Path.cwd()} nor in {self._folder.resolve()}"
        )


class SGDSolver:
    """Trains a net by SGD with momentum, weight decay and gradient accumulation.

    Parameters
    ----------
    param : path, str or SolverParameter
        A solver prototxt, its text, or a message.
    net : Net, optional
        The net to train, in phase TRAIN; by default the one the solver names.
    source : iterable of {input name: array}, optional
        Each forward pass takes the next item; a net whose layers fetch their own data needs none.
    test_source : callable, optional
        Called with a test net's number before each round of tests; returns what that net takes its inputs from.
    keep_blobs : bool
        Keep all blobs after an iteration, as Caffe does, instead of freeing them on the way.
    world : fcnlite.parallel.World, optional
        The processes that share out each update's iter_size passes; all are given the same solver and source.
    exact : bool
        With several processes: the bits of one for large parameters, too, instead of sums in another order. Slower.
    scale_batch : bool
        With several processes: iter_size passes in each of them, as Caffe on several GPUs, instead of in all.

    Attributes
    ----------
    iter : int
        Updates made so far.
    net : Net
    test_nets : list of Net
    loss : object
        The last iteration's loss, for float(), which waits until the device has computed it; nothing else in an
        iteration waits.
    losses : list of float
        The loss of each of the last `average_loss` iterations (mean over iter_size passes).
    callbacks : list of callable
        Called with the solver after each update.
    last_snapshot : tuple of Path, optional
        The files of weights and of state saved last, if any were.
    history : list of array
        The solver's running values: one array for each of the net's learnable parameters, then, where the type keeps
        two, another one for each.
    """

    rule_type: ClassVar[type[updates.UpdateRule]] = updates.SGD

    def __init__(
        self,
        param: Message,
        net: Net | None = None,
        source: Iterable[Mapping[str, Any]] | None = None,
        test_source: Callable[[int], Iterable[Mapping[str, Any]]] | None = None,
        keep_blobs: bool = False,
        world: World | None = None,
        exact: bool = False,
        scale_batch: bool = False,
        stages: Sequence[str] = (),
    ):
        self._folder = folder_of(param) or Path()
        self.param = SolverParameter()  # the caller's stays as it is
        self.param.CopyFrom(param if isinstance(param, SolverParameter) else read_solver(param))
        _check(self.param, self.type)
        if scale_batch and world is not None and world.size > 1:
            self.param.iter_size *= world.size
        self.param.train_state.stage.extend(stages)
        named = NamedNets(self.param, self._folder)
        if net is None:
            _seed(self.param.random_seed, world)
        self.net = named.training_net() if net is None else net
        self.test_nets = named.test_nets(self.net)
        self.world = world
        self._alone = Accumulation(self.net)
        self._passes: Passes | None = None
        if world is not None and world.size > 1:
            world.join(self.net, self.param.iter_size)
            self._passes = world.passes(self.net, exact)
            source = world.own_items(source) if source is not None else None
        self.source = iter(source) if source is not None else None
        self.test_source = test_source
        self.keep_blobs = keep_blobs
        self.current_step = 0
        self._losses: deque[Any] = deque(maxlen=max(1, self.param.average_loss))  # numbers, or for float()
        self.callbacks: list[Callable[[SGDSolver], object]] = []
        self.last_snapshot: tuple[Path, Path] | None = None
        self.rule = self.rule_type(self.net.learnable_params)
        self._configure_rule()
        self.rule.check()

    @property
    def type(self) -> str:
        """Caffe's name of the update rule."""
        return self.rule_type.type

    @property
    def iter(self) -> int:
        """Updates made so far."""
        return self.rule.iter

    @property
    def history(self) -> list[Any]:
        """The update rule's running values."""
        return self.rule.history

    def step(self, count: int = 1) -> None:
        """Make `count` updates, testing, displaying and saving at the intervals the solver asks for."""
        param = self.param
        stop = self.iter + count
        while self.iter < stop:
            self.test_if_due()
            masks = fcnlite.random.mask_state()
            try:
                self._losses.append(self._accumulate())
            except BaseException:  # as if the step had not begun: what is saved now goes on to the same bits
                fcnlite.random.set_mask_state(masks)
                raise
            if param.display and self.iter % param.display == 0:
                log.info("Iteration %d, loss = %g, lr = %g", self.iter, self.smoothed_loss, self.rate)
            self.apply_update()
            for callback in self.callbacks:
                callback(self)
            if param.snapshot and self.iter % param.snapshot == 0:
                self.snapshot()

    def solve(self, resume: str | os.PathLike[str] | None = None) -> None:
        """Train until `max_iter`, then save (unless just saved) and test once more.

        Parameters
        ----------
        resume : path, optional
            A solver state to go on from.
        """
        if resume is not None:
            self.restore(resume)
        self.step(self.param.max_iter - self.iter)
        if self.param.snapshot_after_train and not (
            self.param.snapshot and self.iter % self.param.snapshot == 0
        ):
            self.snapshot()
        self.test_if_due()

    @property
    def rate(self) -> float:
        """The learning rate of the update to come."""
        self.current_step = steps_passed(self.param, self.iter, self.current_step)
        return learning_rate(self.param, self.iter, self.current_step)

    @property
    def loss(self) -> Any:
        return self._losses[-1] if self._losses else math.nan

    @property
    def losses(self) -> list[float]:
        for i, loss in enumerate(self._losses):
            self._losses[i] = float(loss)
        return list(self._losses)

    @property
    def smoothed_loss(self) -> float:
        """Mean of the last `average_loss` losses."""
        losses = self.losses
        return sum(losses) / len(losses) if losses else math.nan

    def apply_update(self) -> None:
        """Change the parameters by their diffs: clip, divide by iter_size, decay, then the type's own rule.

        Afterwards the diffs hold the steps, as in Caffe, and `iter` counts one more. A parameter whose lr_mult is 0
        moves on by what its history holds, as in Caffe.
        """
        self._configure_rule()
        self.rule.step(np.float32(self.rate), self.param.iter_size)

    def _configure_rule(self) -> None:
        """Give the rule its settings anew, since a script may have changed `param`."""
        for name in (*updates.COMMON_SETTINGS, *self.rule.settings):
            setattr(self.rule, name, getattr(self.param, name))

    def test_all(self) -> list[dict[str, np.ndarray]]:
        """Run every test net `test_iter` times; returns each one's outputs, averaged."""
        found = []
        for number, net in enumerate(self.test_nets):
            net.share_with(self.net)
            source = iter(self.test_source(number)) if self.test_source else None
            rounds = self.param.test_iter[number]
            found.append(_mean_outputs(net, rounds, source, self.world, f"test net {number}"))
        return found

    def snapshot(self, prefix: str | os.PathLike[str] | None = None) -> tuple[Path, Path]:
        """Save weights and solver state under Caffe's names, PREFIX_iter_N.caffemodel[.h5] and .solverstate[.h5].

        Parameters
        ----------
        prefix : path, optional
            Instead of `snapshot_prefix`.

        Returns
        -------
        tuple of Path
            The files of weights and of state; each appears whole or not at all.

        Raises
        ------
        InputError
            The weights are not finite numbers any more, or the files cannot be written.
        """
        _refuse_nonfinite(self.net, self.iter)
        stem = f"{os.fspath(prefix or self.snapshot_prefix())}_iter_{self.iter}"
        ending = ".h5" if self.param.snapshot_format == SolverParameter.HDF5 else ""
        weights, state = Path(f"{stem}.caffemodel{ending}"), Path(f"{stem}.solverstate{ending}")
        if self.world is None or self.world.writes(self.net):
            self.net.save(weights)
            history = [device.current().tonumpy(h) for h in self.history]
            masks = fcnlite.random.mask_state()
            write_state(state, SolverSnapshot(self.iter, self.current_step, str(weights), history, masks))
        self.last_snapshot = weights, state
        return weights, state

    def snapshot_prefix(self) -> Path:
        """Path prefix of snapshots.

        It is relative to the working folder if its parent exists there, otherwise to the solver's folder, which is
        created. An `InputError` says that nothing can be written there.
        """
        return _writable(Path(self.param.snapshot_prefix or "snapshot"), self._folder)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Go on from a solver state, written here or by Caffe, and from the weights it names.

        Weights are looked for beside the state, since a run may have been copied, then where the state says. A
        source, and each layer that fetches data, with a `seek` method is told how many items the run has
        taken. A state written here also brings the stream of dropout masks to where it was.
        """
        state = read_state(path)
        _check_history(self.rule, state.history, path)
        if state.learned_net:
            self.net.copy_from(_beside(state.learned_net, path))
        self.rule.restore(state.history)
        self.rule.iter, self.current_step = state.iter, state.current_step
        if state.random_state is not None:
            fcnlite.random.set_mask_state(state.random_state)
        for feed in (self.source, *self.net.layers):
            seek = getattr(feed, "seek", None)
            if seek is not None:
                seek(self.iter * self.param.iter_size)

    def _accumulate(self) -> Any:
        """The gradients of iter_size passes, added up; returns their mean loss, for float()."""
        self.net.clear_param_diffs()
        inputs = partial(_next_inputs, self.net, self.source, self.iter)
        count = self.param.iter_size
        if self._passes is not None:
            shapes = getattr(self.source, "shapes", None)
            losses = self._passes.run(inputs, count, self.keep_blobs, shapes)
        else:
            losses = self._alone.run(inputs, count, self.keep_blobs)
        return device.current().later(sum(losses[1:], losses[0]) / self.param.iter_size)

    def test_if_due(self) -> None:
        """Test, and log what the test nets give, if `test_interval` says so for this iteration."""
        interval = self.param.test_interval
        due = interval and self.iter % interval == 0 and (self.iter > 0 or self.param.test_initialization)
        if due and self.test_nets:
            for i, outputs in enumerate(self.test_all()):
                for name, value in outputs.items():
                    log.info("Iteration %d, test net %d: %s = %s", self.iter, i, name, np.array2string(value))


def _mean_outputs(
    net: Net, rounds: int, source: Iterator[Mapping[str, Any]] | None, world: World | None, who: str
) -> dict[str, np.ndarray]:
    """The outputs of a test net, averaged over its passes; `who` is what errors call it."""
    if world is not None and source is not None:
        source = world.own_items(source)
    found: list[dict[str, np.ndarray]] = []
    for done in range(rounds) if world is None else world.rounds(net, rounds):
        inputs = next(source, None) if source is not None else {}
        if inputs is None:
            raise InputError(f"{who}: its data ended after {done} of {rounds} passes (test_iter)")
        outputs = net.forward(**inputs)
        found.append({name: device.current().tonumpy(v).astype(np.float64) for name, v in outputs.items()})
    sums: dict[str, np.ndarray] = {}
    for outputs in found if world is None else world.in_turn(found):
        for name, value in outputs.items():
            sums[name] = sums.get(name, 0) + value
    return {name: total / rounds for name, total in sums.items()}


def _seed(seed: int, world: World | None) -> None:
    """Start the random streams by the solver's seed, if any; several processes need one in common."""
    if seed < 0 and world is not None and world.size > 1:
        seed = world.from_leader(lambda: int(fcnlite.random.filler_stream().integers(2**31)))
    if seed >= 0:
        fcnlite.random.set_random_seed(seed)


def _next_inputs(net: Net, source: Iterator[Mapping[str, Any]] | None, iteration: int) -> Mapping[str, Any]:
    """The inputs of the next pass: the source's next item, or nothing for a net that fetches its data itself."""
    if source is None:
        return {}
    try:
        inputs = next(source)
    except StopIteration:
        raise InputError(
            f"the data ended at iteration {iteration}; a solver needs an endless source"
        ) from None
    for name in net.inputs:  # one set by hand may stay as it is; one never set would count as zeros
        if name not in inputs and not net.blobs[name].has_data:
            raise InputError(
                f"the source gives {', '.join(inputs) or 'nothing'}, not the net's input '{name}'"
            )
    return inputs


def _refuse_nonfinite(net: Net, iteration: int) -> None:
    """Refuse to save weights that are not finite numbers any more."""
    tonumpy = device.current().tonumpy
    for layer, blobs in net.params.items():
        if not all(np.isfinite(tonumpy(blob.data)).all() for blob in blobs):
            mistake(
                f"the weights of layer '{layer}' hold NaN or infinite numbers after iteration {iteration}, and "
                "were not saved: lower the learning rate"
            )


class NesterovSolver(SGDSolver):
    """Caffe's NesterovSolver."""

    rule_type = updates.Nesterov


class AdaGradSolver(SGDSolver):
    """Caffe's AdaGradSolver."""

    rule_type = updates.AdaGrad


class RMSPropSolver(SGDSolver):
    """Caffe's RMSPropSolver."""

    rule_type = updates.RMSProp


class AdaDeltaSolver(SGDSolver):
    """Caffe's AdaDeltaSolver."""

    rule_type = updates.AdaDelta


class AdamSolver(SGDSolver):
    """Caffe's AdamSolver."""

    rule_type = updates.Adam


SOLVERS: dict[str, type[SGDSolver]] = {
    solver.rule_type.type: solver
    for solver in (SGDSolver, NesterovSolver, AdaGradSolver, RMSPropSolver, AdaDeltaSolver, AdamSolver)
}


def solver_type(param: Message) -> str:
    """The type that a solver (as for :class:`SGDSolver`) asks for, a key of `SOLVERS`."""
    message = param if isinstance(param, SolverParameter) else read_solver(param)
    found = message.type or "SGD"
    if found not in SOLVERS:
        raise InputError(f"solver type '{found}' is unknown; there are {', '.join(SOLVERS)}")
    return found


def get_solver(param: Message, **options: Any) -> SGDSolver:
    """The solver of the type that `param` asks for; it and the options are as for :class:`SGDSolver`."""
    return SOLVERS[solver_type(param)](param, **options)


def _check(param: Message, kind: str) -> None:
    """Refuse what would train otherwise than the file says."""
    if param.HasField("type") and param.type not in ("", kind):
        raise InputError(
            f"the solver's type is '{param.type}', not {kind}; get_solver() makes one of the type asked for"
        )
    for field, value in param.ListFields():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{field.name} is {value}; it must be a finite number")
    if param.iter_size < 1:
        raise InputError(f"iter_size {param.iter_size} must be at least 1")
    learning_rate(param, 0)


def _check_history(
    rule: updates.UpdateRule, saved: Sequence[np.ndarray], path: str | os.PathLike[str]
) -> None:
    """Refuse a solver state whose arrays are not those of the rule's parameters."""
    if len(saved) != len(rule.history):
        raise InputError(
            f"{os.fspath(path)}: its history ({len(saved)} arrays) does not fit the net's "
            f"{len(rule.parameters)} parameters ({rule.type}: {len(rule.history)} arrays)"
        )
    for number, (theirs, ours) in enumerate(zip(saved, rule.history, strict=True)):
        if math.prod(theirs.shape) != math.prod(ours.shape):
            raise InputError(
                f"{os.fspath(path)}: its history does not fit the net: array {number} is {tuple(theirs.shape)}, "
                f"the net's parameter {tuple(ours.shape)}"
            )


def _writable(prefix: Path, folder: Path) -> Path:
    """The prefix where files can be written: as it stands, or else below `folder`."""
    try:
        if not prefix.parent.is_dir():
            prefix = folder / prefix
            prefix.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=prefix.parent):
            return prefix
    except OSError as error:
        raise InputError(f"snapshot_prefix {prefix}: cannot be written ({error.strerror})") from None


def _beside(learned_net: str, state: str | os.PathLike[str]) -> Path:
    for path in (Path(state).parent / Path(learned_net).name, Path(learned_net)):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{os.fspath(state)}: the weights it belongs to, {learned_net}, are neither there nor beside it"
    )
