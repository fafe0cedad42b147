"""pycaffe's solvers over fcnlite's, with its callbacks."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import fcnlite.random
from fcnlite import device, updates
from fcnlite import solver as core_solver
from fcnlite.caffe.net import Net, hooked, tell_doubts, view
from fcnlite.caffe.session import choose_mode
from fcnlite.errors import as_caffe
from fcnlite.hostblob import push
from fcnlite.parallel import World, feeds_of, world
from fcnlite.updates import UpdateRule


class _Solver(core_solver.SGDSolver):
    """fcnlite's solver, with Caffe's callbacks, and with Caffe's way of training in several processes.

    Each process makes iter_size passes over data of its own; the update is by the mean of their gradients.
    """

    def __init__(self, param: Any, rule_type: type[UpdateRule]) -> None:
        self.rule_type = rule_type  # type: ignore[misc]  # the class's own, for this solver
        super().__init__(param, keep_blobs=True)
        self.on_start: list[Callable[[], object]] = []
        self.on_gradients_ready: list[Callable[[], object]] = []
        self.shown: Net | None = None
        self._together = world()
        if self._together.size > 1:
            self._join(self._together)

    def _join(self, together: World) -> None:
        """Begin with the first process's parameters, and take this one's share of the data, as Caffe deals it."""
        together.copy_parameters(self.net)
        if self.param.random_seed >= 0:
            fcnlite.random.set_random_seed(self.param.random_seed + together.rank)
        self._transport = together.transport()
        for node in feeds_of(self.net):
            share = getattr(node.layer, "deal", None) or getattr(node.layer, "take_every", None)
            if share is None or share(together.size, together.rank) is False:
                warnings.warn(
                    f"layer '{node.layer.name}' ({node.layer.type}) gives every process the same data, unless it looks "
                    "at caffe.solver_rank() itself",
                    stacklevel=2,
                )

    def _average(self) -> None:
        """Replace the gradients by their mean over the processes."""
        learnable = [p.blob for p in self.net.learnable_params if p.blob.has_diff]
        for blob in learnable:
            self._transport.begin_sum(blob.diff)
        self._transport.finish()
        for blob in learnable:
            blob.diff *= np.float32(1 / self._together.size)

    def test_if_due(self) -> None:
        if self._together.leads:
            super().test_if_due()

    def snapshot(self, prefix: str | os.PathLike[str] | None = None) -> tuple[Path, Path] | None:  # type: ignore[override]
        """Save, in the first process."""
        return super().snapshot(prefix) if self._together.leads else None

    def _accumulate(self) -> Any:
        for call in self.on_start:
            call()
        push()
        if self.shown is not None and hooked(self.shown):
            loss = self._layer_by_layer(self.shown)
        else:
            loss = super()._accumulate()
        if self._together.size > 1:
            self._average()
        for call in self.on_gradients_ready:
            call()
        push()
        return loss

    def _layer_by_layer(self, net: Net) -> float:
        net.clear_param_diffs()
        last, loss = len(net.layers) - 1, 0.0
        for _ in range(self.param.iter_size):
            loss += net._forward(0, last)
            net._backward(last, 0)
        return loss / self.param.iter_size


class SGDSolver:
    """Trains a net by SGD with momentum (pycaffe's `caffe.SGDSolver`).

    Parameters
    ----------
    solver_file : path
        Solver prototxt. Nets get their data from their own layers, or from what is written to their input blobs.

    Attributes
    ----------
    net : Net
    test_nets : list of Net
    iter : int
        Updates made so far.
    lr : float
        Rate of the update to come.
    param : SolverParameter
    """

    _rule_type: ClassVar[type[UpdateRule]] = updates.SGD

    def __init__(self, solver_file: Any):
        choose_mode()
        push()
        with as_caffe():
            self._solver: _Solver = _Solver(solver_file, self._rule_type)
        self._backend = device.current()
        self.net = view(self._solver.net)
        self.test_nets = [view(net) for net in self._solver.test_nets]
        self._solver.shown = self.net

    @property
    def iter(self) -> int:
        return self._solver.iter

    @property
    def lr(self) -> float:
        return self._solver.rate

    @property
    def param(self) -> Any:
        return self._solver.param

    def step(self, count: int) -> None:
        """Make `count` updates."""
        with self._running():
            tell_doubts(self.net)
            self._solver.step(count)

    def solve(self, resume: str | os.PathLike[str] | None = None) -> None:
        """Train until `max_iter`, from a solver state if one is given."""
        with self._running():
            tell_doubts(self.net)
            self._solver.solve(resume)

    def apply_update(self) -> None:
        """Change the parameters by the diffs they hold."""
        with self._running():
            self._solver.apply_update()

    def snapshot(self) -> None:
        """Write PREFIX_iter_N.caffemodel and .solverstate (or both with .h5)."""
        with self._running():
            self._solver.snapshot()

    def restore(self, state: str | os.PathLike[str]) -> None:
        """Go on from a solver state and its weights."""
        with self._running():
            self._solver.restore(state)

    def share_weights(self, net: Net) -> None:
        """Let `net` use the training net's parameters."""
        net.share_with(self.net)

    def add_callback(
        self, on_start: Callable[[], object] | NCCL, on_gradients_ready: Callable[[], object] | None = None
    ) -> None:
        """Call the one before each iteration's passes, the other between them and the update; or add an `NCCL`."""
        if isinstance(on_start, NCCL):
            return  # the solver averages gradients by itself
        if on_gradients_ready is None:
            raise TypeError("add_callback takes two functions, or a caffe.NCCL")
        self._solver.on_start.append(on_start)
        self._solver.on_gradients_ready.append(on_gradients_ready)

    @contextmanager
    def _running(self) -> Iterator[None]:
        push()
        with device.using(self._backend), as_caffe():
            yield


class NCCL:
    """Caffe's callback that averages gradients over solvers, which they do here by themselves.

    Parameters
    ----------
    solver : SGDSolver
    uid : str
        From `new_uid`.
    """

    def __init__(self, solver: SGDSolver, uid: str = "") -> None:
        self._net = solver._solver.net

    @staticmethod
    def new_uid() -> str:
        """An identifier, of which there is no need here."""
        return ""

    def bcast(self) -> None:
        """Give every solver the parameters of the first, which they have from the beginning."""
        world().copy_parameters(self._net)

    def __call__(self, layer: int) -> None:
        """Do nothing after a layer's backward pass."""


class NesterovSolver(SGDSolver):
    """Trains a net with Nesterov's momentum (pycaffe's `caffe.NesterovSolver`)."""

    _rule_type = updates.Nesterov


class AdaGradSolver(SGDSolver):
    """Trains a net by AdaGrad (pycaffe's `caffe.AdaGradSolver`)."""

    _rule_type = updates.AdaGrad


class RMSPropSolver(SGDSolver):
    """Trains a net by RMSProp (pycaffe's `caffe.RMSPropSolver`)."""

    _rule_type = updates.RMSProp


class AdaDeltaSolver(SGDSolver):
    """Trains a net by AdaDelta (pycaffe's `caffe.AdaDeltaSolver`)."""

    _rule_type = updates.AdaDelta


class AdamSolver(SGDSolver):
    """Trains a net by Adam (pycaffe's `caffe.AdamSolver`)."""

    _rule_type = updates.Adam


def get_solver(solver_file: Any) -> SGDSolver:
    """The solver of the type that a solver prototxt names."""
    asked = updates.RULES[core_solver.solver_type(solver_file)]
    classes: list[type[SGDSolver]] = [SGDSolver, *SGDSolver.__subclasses__()]
    return next(cls for cls in classes if cls._rule_type is asked)(solver_file)
