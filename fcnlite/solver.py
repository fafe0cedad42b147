"""Gradient descent exactly as Caffe's solvers do it, from a SolverParameter to snapshots: SGD and its five kin.

>>> solver = get_solver("solver.prototxt", source=batches)   # doctest: +SKIP
>>> solver.step(1000)                                        # doctest: +SKIP
"""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

import fcnlite.random
from fcnlite import device
from fcnlite.blob import launch_flat
from fcnlite.errors import InputError
from fcnlite.io import SolverSnapshot, read_state, write_state
from fcnlite.net import LearnableParam, Net
from fcnlite.proto import (
    TEST,
    TRAIN,
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
HDF5 = 0


def learning_rate(param: Any, iteration: int, current_step: int = 0) -> float:
    """The learning rate of an iteration (Caffe's SGDSolver::GetLearningRate), rounded to float32 where Caffe does.

    Parameters
    ----------
    param : SolverParameter
        Its ``lr_policy`` is fixed, step, exp, inv, multistep, poly or sigmoid.
    iteration : int
        Updates made so far.
    current_step : int
        For multistep: how many of ``stepvalue`` have been passed.
    """
    policy = param.lr_policy or "fixed"
    if param.gamma < 0 and policy in ("step", "exp", "inv", "multistep"):
        raise InputError(f"lr_policy {policy} needs a gamma of at least 0; {param.gamma:g} is given")
    if policy == "step" and param.stepsize < 1:
        raise InputError("lr_policy step needs a stepsize of at least 1")
    if policy == "poly" and param.max_iter < 1:
        raise InputError("lr_policy poly needs a max_iter of at least 1")
    one, gamma, power, done = map(np.float32, (1, param.gamma, param.power, iteration))
    with np.errstate(over="ignore", under="ignore"):  # a rate may become 0 or infinite
        if policy == "fixed":
            factor = one
        elif policy == "step":
            factor = np.float64(gamma) ** (iteration // param.stepsize)
        elif policy == "exp":
            factor = np.float64(gamma) ** iteration
        elif policy == "inv":
            factor = (one + gamma * done) ** -power
        elif policy == "multistep":
            factor = np.float64(gamma) ** current_step
        elif policy == "poly":
            factor = max(np.float32(0), one - done / np.float32(param.max_iter)) ** power
        elif policy == "sigmoid":
            factor = one / (one + np.exp(-gamma * (done - np.float32(param.stepsize))))
        else:
            raise InputError(
                f"lr_policy '{policy}' is unknown; there are fixed, step, exp, inv, multistep, poly and sigmoid"
            )
        return float(np.float32(param.base_lr) * factor)


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
        With several processes: the bits of one, instead of sums in another order. Slower.

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
        The loss of each of the last ``average_loss`` iterations (mean over iter_size passes).
    callbacks : list of callable
        Called with the solver after each update.
    last_snapshot : tuple of Path, optional
        The files of weights and of state saved last, if any were.
    history : list of array
        The solver's running values: one array for each of the net's learnable parameters, then, where the type keeps
        two, another one for each.
    """

    type: ClassVar[str] = "SGD"  # Caffe's name
    kernel: ClassVar[str] = "sgd_update"
    histories: ClassVar[int] = 1  # arrays for each parameter

    def __init__(
        self,
        param: Any,
        net: Net | None = None,
        source: Iterable[Mapping[str, Any]] | None = None,
        test_source: Callable[[int], Iterable[Mapping[str, Any]]] | None = None,
        keep_blobs: bool = False,
        world: World | None = None,
        exact: bool = False,
    ):
        self._folder = folder_of(param) or Path()
        self.param = param if isinstance(param, SolverParameter) else read_solver(param)
        self._check()
        if self.param.random_seed >= 0 and net is None:
            fcnlite.random.set_random_seed(self.param.random_seed)
        self.net = (
            net if net is not None else self._make_net(self._train_net(), TRAIN, self.param.train_state)
        )
        if net is None:
            self._load_weights()
        self.test_nets = self._make_test_nets()
        self.world = world
        self._passes: Passes | None = None
        if world is not None and world.size > 1:
            world.share(self.param.iter_size)
            world.copy_parameters(self.net)
            self._passes = world.passes(self.net, exact)
            source = world.own_items(source) if source is not None else None
        self.source = iter(source) if source is not None else None
        self.test_source = test_source
        self.keep_blobs = keep_blobs
        self.iter = 0
        self.current_step = 0
        self._losses: deque[Any] = deque(maxlen=max(1, self.param.average_loss))  # numbers, or for float()
        self.callbacks: list[Callable[[SGDSolver], object]] = []
        self.last_snapshot: tuple[Path, Path] | None = None
        shapes = [p.blob.shape for p in self.net.learnable_params] * self.histories
        self.history = [device.current().zeros(shape) for shape in shapes]

    # Running

    def step(self, count: int = 1) -> None:
        """Make ``count`` updates, testing, displaying and saving at the intervals the solver asks for."""
        param = self.param
        stop = self.iter + count
        while self.iter < stop:
            self._test_if_due()
            self._losses.append(self._accumulate())
            if param.display and self.iter % param.display == 0:
                log.info("Iteration %d, loss = %g, lr = %g", self.iter, self.smoothed_loss, self.rate)
            self.apply_update()
            for callback in self.callbacks:
                callback(self)
            if param.snapshot and self.iter % param.snapshot == 0:
                self.snapshot()

    def solve(self, resume: str | os.PathLike[str] | None = None) -> None:
        """Train until ``max_iter``, then save (unless just saved) and test once more.

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
        self._test_if_due()

    @property
    def rate(self) -> float:
        """The learning rate of the update to come."""
        if self.param.lr_policy == "step":
            self.current_step = self.iter // self.param.stepsize
        while (
            self.param.lr_policy == "multistep"
            and self.current_step < len(self.param.stepvalue)
            and self.iter >= self.param.stepvalue[self.current_step]
        ):
            self.current_step += 1
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
        """Mean of the last ``average_loss`` losses."""
        losses = self.losses
        return sum(losses) / len(losses) if losses else math.nan

    def apply_update(self) -> None:
        """Change the parameters by their diffs: clip, divide by iter_size, decay, then the type's own rule.

        Afterwards the diffs hold the steps, as in Caffe, and ``iter`` counts one more. A parameter whose lr_mult is 0
        is passed over, with its history.
        """
        rate, clip = np.float32(self.rate), self._clip_factor()
        share = np.float32(1) / np.float32(self.param.iter_size)
        params = self.net.learnable_params
        for i, learnable in enumerate(params):
            if learnable.lr_mult:
                self._update(learnable, self.history[i :: len(params)], rate, clip, share)
        self.iter += 1

    def test_all(self) -> list[dict[str, np.ndarray]]:
        """Run every test net ``test_iter`` times; returns each one's outputs, averaged."""
        return [self._test(i, net) for i, net in enumerate(self.test_nets)]

    # Saving

    def snapshot(self, prefix: str | os.PathLike[str] | None = None) -> tuple[Path, Path]:
        """Save weights and solver state under Caffe's names, PREFIX_iter_N.caffemodel[.h5] and .solverstate[.h5].

        Parameters
        ----------
        prefix : path, optional
            Instead of ``snapshot_prefix``.

        Returns
        -------
        tuple of Path
            The files of weights and of state; each appears whole or not at all.
        """
        stem = f"{os.fspath(prefix or self.snapshot_prefix())}_iter_{self.iter}"
        ending = ".h5" if self.param.snapshot_format == HDF5 else ""
        weights, state = Path(f"{stem}.caffemodel{ending}"), Path(f"{stem}.solverstate{ending}")
        if self.world is not None:
            self.world.check_same(self.net)
            if not self.world.leads:
                self.last_snapshot = weights, state
                return weights, state
        self.net.save(weights)
        history = [device.current().tonumpy(h) for h in self.history]
        random_state = fcnlite.random.mask_state()
        write_state(state, SolverSnapshot(self.iter, self.current_step, str(weights), history, random_state))
        self.last_snapshot = weights, state
        return weights, state

    def snapshot_prefix(self) -> Path:
        """What snapshots are named after: from the working folder if that has the folder named, else from the
        solver's, where it is made.

        Raises
        ------
        InputError
            Nothing can be written there.
        """
        prefix = Path(self.param.snapshot_prefix or "snapshot")
        try:
            if not prefix.parent.is_dir():
                prefix = self._folder / prefix
                prefix.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=prefix.parent):
                return prefix
        except OSError as error:
            raise InputError(f"snapshot_prefix {prefix}: cannot be written ({error.strerror})") from None

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Go on from a solver state, written here or by Caffe, and from the weights it names.

        Weights are looked for beside the state, since a run may have been copied, then where the state says. A
        source, and each layer that fetches data, with a ``seek`` method is told how many items the run has
        taken. A state written here also brings the stream of dropout masks to where it was.
        """
        state = read_state(path)
        shapes = [h.shape for h in self.history]
        found = [h.shape for h in state.history]
        if len(found) != len(shapes):
            raise InputError(
                f"{os.fspath(path)}: its history ({len(found)} arrays) does not fit the net's "
                f"{len(self.net.learnable_params)} parameters ({self.type}: {len(shapes)} arrays)"
            )
        for number, (theirs, ours) in enumerate(zip(found, shapes, strict=True)):
            if np.prod(theirs) != np.prod(ours):
                raise InputError(
                    f"{os.fspath(path)}: its history does not fit the net: array {number} is {tuple(theirs)}, "
                    f"the net's parameter {tuple(ours)}"
                )
        if state.learned_net:
            self.net.copy_from(_beside(state.learned_net, path))
        for mine, saved in zip(self.history, state.history):
            mine[...] = device.current().asarray(saved.reshape(mine.shape))
        self.iter, self.current_step = state.iter, state.current_step
        if state.random_state is not None:
            fcnlite.random.set_mask_state(state.random_state)
        for feed in (self.source, *self.net.layers):
            seek = getattr(feed, "seek", None)
            if seek is not None:
                seek(self.iter * self.param.iter_size)

    # Parts

    def _accumulate(self) -> Any:
        """The gradients of iter_size passes, added up; returns their mean loss, for float()."""
        self.net.clear_param_diffs()
        if self._passes is not None:
            losses = self._passes.run(self._next_inputs, self.param.iter_size, self.keep_blobs)
        else:
            losses = [
                self.net.forward_backward(self.keep_blobs, **self._next_inputs())
                for _ in range(self.param.iter_size)
            ]
        return device.current().later(sum(losses[1:], losses[0]) / self.param.iter_size)

    def _next_inputs(self) -> Mapping[str, Any]:
        if self.source is None:
            return {}
        try:
            inputs = next(self.source)
        except StopIteration:
            raise InputError(
                f"the data ended at iteration {self.iter}; a solver needs an endless source"
            ) from None
        for name in self.net.inputs:  # one set by hand may stay as it is; one never set would count as zeros
            if name not in inputs and not self.net.blobs[name].has_data:
                raise InputError(
                    f"the source gives {', '.join(inputs) or 'nothing'}, not the net's input '{name}'"
                )
        return inputs

    # What a type has of its own, besides its class attributes.

    def numbers(self) -> Sequence[Any]:
        """What the kernel takes between the rate and the arrays."""
        return (self.param.momentum,)

    def correction(self) -> np.float32:
        """What the learning rate is multiplied with."""
        return np.float32(1)

    def _check(self) -> None:
        """Refuse what would train otherwise than the file says."""
        param = self.param
        if param.HasField("type") and param.type not in ("", self.type):
            raise InputError(
                f"the solver's type is '{param.type}', not {self.type}; get_solver() makes one of the type asked for"
            )
        for field, value in param.ListFields():
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(f"{field.name} is {value}; it must be a finite number")
        if param.iter_size < 1:
            raise InputError(f"iter_size {param.iter_size} must be at least 1")
        if param.regularization_type not in ("L1", "L2"):
            raise InputError(
                f"regularization_type '{param.regularization_type}' is unknown; there are L1 and L2"
            )
        learning_rate(param, 0)

    def _update(
        self,
        learnable: LearnableParam,
        history: Sequence[Any],
        rate: np.float32,
        clip: np.float32,
        share: np.float32,
    ) -> None:
        param, blob = self.param, learnable.blob
        decay = np.float32(param.weight_decay) * np.float32(learnable.decay_mult)
        local_rate = rate * np.float32(learnable.lr_mult) * self.correction()
        l1 = int(param.regularization_type == "L1")
        numbers = (clip, share, decay, l1, local_rate, *self.numbers())
        launch_flat(self.kernel, blob.count, *map(_plain, numbers), blob.diff, *history, blob.data)

    def _clip_factor(self) -> np.float32:
        """What the whole gradient is scaled by so that its L2 norm is at most clip_gradients."""
        limit = self.param.clip_gradients
        if limit < 0:
            return np.float32(1)
        diffs = [p.blob.diff.reshape(-1) for p in self.net.learnable_params]
        squares = [(d @ d).astype(np.float64) for d in diffs]
        norm = math.sqrt(float(sum(squares[1:], squares[0])))  # the only value an iteration reads back
        return np.float32(limit / norm) if norm > limit else np.float32(1)

    def _train_net(self) -> Any:
        param = self.param
        given = [
            name for name in ("train_net", "train_net_param", "net", "net_param") if param.HasField(name)
        ]
        if len(given) != 1:
            raise InputError(f"the solver must name one training net; it has {', '.join(given) or 'none'}")
        value = getattr(param, given[0])
        return value if given[0].endswith("param") else self._find(value)

    def _make_test_nets(self) -> list[Net]:
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
        for net in nets:
            net.share_with(self.net)
        return nets

    def _make_net(self, source: Any, phase: int, state: Any) -> Net:
        """A net in the state that the solver, the net itself and ``state`` ask for, the last of them first."""
        own = source if isinstance(source, NetParameter) else read_net(source)
        merged = NetState(phase=phase)
        merged.MergeFrom(own.state)
        merged.MergeFrom(state)
        folder = self._folder if own is source else None
        return Net(source, merged.phase, level=merged.level, stages=list(state.stage), folder=folder)

    def _load_weights(self) -> None:
        """Copy in what ``weights`` names: files, several in one string parted by commas."""
        for names in self.param.weights:
            for name in names.split(","):
                self.net.copy_from(self._find(name.strip()))

    def _find(self, name: str) -> Path:
        """A file of nets or weights, named as Caffe does from the working folder, or beside the solver."""
        for path in (Path(name), self._folder / name, self._folder / Path(name).name):
            if path.is_file():
                return path
        raise FileNotFoundError(
            f"the solver's file {name} is neither in {Path.cwd()} nor in {self._folder.resolve()}"
        )

    def _test_if_due(self) -> None:
        interval = self.param.test_interval
        due = interval and self.iter % interval == 0 and (self.iter > 0 or self.param.test_initialization)
        if due and self.test_nets:
            for i, outputs in enumerate(self.test_all()):
                for name, value in outputs.items():
                    log.info("Iteration %d, test net %d: %s = %s", self.iter, i, name, np.array2string(value))

    def _test(self, number: int, net: Net) -> dict[str, np.ndarray]:
        net.share_with(self.net)
        source = iter(self.test_source(number)) if self.test_source else None
        rounds = self.param.test_iter[number]
        sums: dict[str, np.ndarray] = {}
        for done in range(rounds):
            inputs = next(source, None) if source is not None else {}
            if inputs is None:
                raise InputError(
                    f"test net {number}: its data ended after {done} of {rounds} passes (test_iter)"
                )
            outputs = net.forward(**inputs)
            for name, value in outputs.items():
                sums[name] = sums.get(name, 0) + device.current().tonumpy(value).astype(np.float64)
        return {name: total / rounds for name, total in sums.items()}


class NesterovSolver(SGDSolver):
    """SGD that takes the gradient's step from where momentum leads (Nesterov 1983; Caffe's NesterovSolver)."""

    type = "Nesterov"
    kernel = "nesterov_update"


class _RootMeanSquareSolver(SGDSolver):
    """Steps divided by the root of a running sum or mean of squared gradients; there is no momentum."""

    kernel = "rms_update"

    def _check(self) -> None:
        super()._check()
        if self.param.momentum:
            raise InputError(f"momentum {self.param.momentum:g} cannot be used with {self.type}; take it out")


class AdaGradSolver(_RootMeanSquareSolver):
    """Each weight's step shrinks as its squared gradients add up (Duchi et al. 2011; Caffe's AdaGradSolver)."""

    type = "AdaGrad"

    def numbers(self) -> Sequence[Any]:
        return 1, 1, self.param.delta


class RMSPropSolver(_RootMeanSquareSolver):
    """AdaGrad with a mean that forgets by ``rms_decay`` (Tieleman and Hinton 2012; Caffe's RMSPropSolver)."""

    type = "RMSProp"

    def numbers(self) -> Sequence[Any]:
        keep = np.float32(self.param.rms_decay)
        return keep, np.float32(1) - keep, self.param.delta

    def _check(self) -> None:
        super()._check()
        if not 0 <= self.param.rms_decay < 1:
            raise InputError(f"rms_decay {self.param.rms_decay:g} must be at least 0 and less than 1")


class AdaDeltaSolver(SGDSolver):
    """Steps on the scale of former steps; ``momentum`` is the decay (Zeiler 2012; Caffe's AdaDeltaSolver)."""

    type = "AdaDelta"
    kernel = "adadelta_update"
    histories = 2  # squared gradients, squared steps

    def numbers(self) -> Sequence[Any]:
        return self.param.momentum, self.param.delta


class AdamSolver(SGDSolver):
    """Mean over root mean square, with decays ``momentum``, ``momentum2`` (Kingma and Ba 2015; Caffe's AdamSolver)."""

    type = "Adam"
    kernel = "adam_update"
    histories = 2  # means, means of squares

    def numbers(self) -> Sequence[Any]:
        return self.param.momentum, self.param.momentum2, self.param.delta

    def correction(self) -> np.float32:
        beta1, beta2 = np.float64(self.param.momentum), np.float64(self.param.momentum2)
        return np.float32(np.sqrt(1 - beta2 ** (self.iter + 1)) / (1 - beta1 ** (self.iter + 1)))

    def _check(self) -> None:
        super()._check()
        for name in ("momentum", "momentum2"):
            if not 0 <= getattr(self.param, name) < 1:
                raise InputError(f"{name} {getattr(self.param, name):g} must be at least 0 and less than 1")


SOLVERS: dict[str, type[SGDSolver]] = {
    solver.type: solver
    for solver in (SGDSolver, NesterovSolver, AdaGradSolver, RMSPropSolver, AdaDeltaSolver, AdamSolver)
}


def solver_type(param: Any) -> str:
    """The type that a solver (as for :class:`SGDSolver`) asks for, a key of ``SOLVERS``."""
    message = param if isinstance(param, SolverParameter) else read_solver(param)
    found = message.type or "SGD"
    if found not in SOLVERS:
        raise InputError(f"solver type '{found}' is unknown; there are {', '.join(SOLVERS)}")
    return found


def get_solver(param: Any, **options: Any) -> SGDSolver:
    """The solver of the type that ``param`` asks for; it and the options are as for :class:`SGDSolver`."""
    return SOLVERS[solver_type(param)](param, **options)


def _beside(learned_net: str, state: str | os.PathLike[str]) -> Path:
    for path in (Path(state).parent / Path(learned_net).name, Path(learned_net)):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{os.fspath(state)}: the weights it belongs to, {learned_net}, are neither there nor beside it"
    )


def _plain(value: Any) -> float | int:
    return value if isinstance(value, int) else float(value)
