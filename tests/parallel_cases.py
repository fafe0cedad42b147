"""Runs Caffe's reference solver cases in several processes, and compares what each comes to with one process.

mpiexec -n 3 python tests/parallel_cases.py            a table of all cases
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cases
import h5py
import numpy as np
from test_reference_solvers import batches

import fcnlite.random
from fcnlite import accumulation, device, parallel
from fcnlite.backend.host import HostBackend
from fcnlite.net import Net
from fcnlite.proto import read_solver
from fcnlite.solver import SGDSolver, get_solver

ITER_SIZE = 6
UPDATES, FEW_UPDATES = 12, 4
FILES = {case: file for file in ("solvers.h5", "more-solvers.h5") for case in cases.names(file)}
# Every type, and what several passes or processes could get wrong.
CHOSEN = [
    "solver-l1",
    *(
        f"more-solver-{name}"
        for name in "adadelta adagrad adam-resumed batch-norm clip-iter3 dropout nesterov rmsprop shared".split()
    ),
]
FEW = [f"more-solver-{name}" for name in ("batch-norm", "dropout")]
MIXED_BYTES = ITER_SIZE * 1000
SINGLE = 1e-6  # within which processes agree in single precision, where nothing tips
GPU_KINDS = {"default": accumulation.IN_ORDER_BYTES, "sums": 0, "exact": 0, "mixed": MIXED_BYTES}
ALONE = 2  # the process that also runs each case by itself, while the other two run it together


def solver_of(case: str, group: Any, world: parallel.World | None, exact: bool) -> SGDSolver:
    """The reference case with iter_size 6, so that 2 and 3 processes can share its passes."""
    fcnlite.random.set_random_seed(int(group.attrs["random_seed"]))
    net = Net(group.attrs["net"], phase="TRAIN")
    rule_case, first = group.attrs.get("rule_case", case), int(group.attrs.get("start", 0))
    cases.fill_params(rule_case, net)
    param = read_solver(group.attrs["solver"])
    param.iter_size = ITER_SIZE
    source = batches(rule_case, group, net, first)
    solver = get_solver(param, net=net, source=source, world=world, exact=exact)
    if "resumed_from" in group.attrs:
        solver.restore(cases.REFERENCE / group.attrs["resumed_from"])
    return solver


def train(
    case: str, world: parallel.World | None = None, exact: bool = False, updates: int = UPDATES
) -> dict[str, np.ndarray]:
    """Parameters, losses and the state of the masks after some updates."""
    with h5py.File(cases.REFERENCE / FILES[case]) as file:
        solver = solver_of(case, file[case], world, exact)
        losses = []
        for _ in range(updates):
            solver.step(1)
            losses.append(float(solver.loss))
    found = {
        f"{p.layer}/{p.index}": device.current().tonumpy(p.blob.data).copy()
        for p in solver.net.learnable_params
    }
    return found | {"loss": np.array(losses), "masks": fcnlite.random.mask_state()}


@contextmanager
def in_order_up_to(size: int) -> Iterator[None]:
    """While active, `IN_ORDER_BYTES` is another: 0 for no parameter to be summed in order."""
    before, accumulation.IN_ORDER_BYTES = accumulation.IN_ORDER_BYTES, size
    try:
        yield
    finally:
        accumulation.IN_ORDER_BYTES = before


@dataclass(frozen=True)
class Way:
    """A way to train a case in several processes.

    Attributes
    ----------
    name : str
    in_order_bytes : int
        The size up to which parameters are summed in order.
    exact : bool
        Whether larger ones are handed from pass to pass, instead of being summed.
    dtype : type
    """

    name: str
    in_order_bytes: int = 0
    exact: bool = False
    dtype: type = np.float32

    def train(self, case: str, world: parallel.World | None) -> dict[str, np.ndarray]:
        """`train` on the CPU; one process makes no difference between exact and not."""
        with in_order_up_to(self.in_order_bytes), device.using(HostBackend(np.dtype(self.dtype))):
            return train(case, world, self.exact)


DEFAULT = Way("default", accumulation.IN_ORDER_BYTES)
SUMS = Way("sums")
EXACT = Way("exact", exact=True)
MIXED = Way("mixed", MIXED_BYTES, exact=True)  # some parameters in order, the others from pass to pass
DOUBLE = Way("double", dtype=np.float64)
WAYS = (DEFAULT, SUMS, EXACT, MIXED, DOUBLE)


def error(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """The largest error of any array, relative to its largest value; infinite where the masks are others."""
    assert sorted(found) == sorted(expected)
    if not np.array_equal(found["masks"], expected["masks"]):
        return float("inf")
    return max(float(cases.relative_error(found[name], expected[name])) for name in expected)


def compare(names: Sequence[str], always_double: bool) -> Iterator[tuple[str, dict[str, float]]]:
    """In each of three processes: each case, and the errors of 2 and 3 processes, the worst of any, against one.

    In double precision only if asked for, or where sums in single precision are beyond 1e-6. "1 single" is then the
    error of one process in single precision against one in double precision.
    """
    for case in names:
        errors, _ = _errors(case, DEFAULT)
        errors |= _errors(case, MIXED)[0]
        sums, expected = _errors(case, SUMS, EXACT)
        errors |= sums
        if always_double or max(sums.values()) > SINGLE:
            more, exact = _errors(case, DOUBLE)
            errors |= more | {"1 single": error(expected, exact)}
        yield case, errors


def _errors(case: str, *ways: Way) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """The errors of a case in ways that are one to a single process, and what that comes to."""
    three, two = parallel.world(), _pair()
    found = {f"3 {way.name}": way.train(case, three) for way in ways}
    alone = {}
    if three.rank == ALONE:
        alone = ways[0].train(case, None)
    else:
        found |= {f"2 {way.name}": way.train(case, two) for way in ways}
    _wait_for_all()
    alone = three.broadcast(alone, ALONE)
    met = three.gather({kind: error(arrays, alone) for kind, arrays in found.items()})
    return {kind: max(e[kind] for e in met if kind in e) for kind in met[0]}, alone


def _wait_for_all() -> None:
    """Wait without taking a core from the processes that are not here yet, as MPI's own waiting does."""
    from mpi4py import MPI

    here = MPI.COMM_WORLD.Ibarrier()
    while not here.Test():
        time.sleep(0.002)


@cache
def _pair() -> parallel.World:
    """The world of the first two processes; the third has one of its own."""
    from mpi4py import MPI

    rank = parallel.world().rank
    return parallel.World(MPI.COMM_WORLD.Split(rank // ALONE, rank))


def on_gpus(folder: Path) -> None:
    """Run a few cases by NCCL, on the stand-in CuPy that is on the path, and save what this process comes to."""
    world = parallel.world()
    device.use("cuda", first_gpu=world.local_rank)
    for case in FEW:
        for kind, size in GPU_KINDS.items():
            with in_order_up_to(size):
                found = train(case, world, kind in ("exact", "mixed"), FEW_UPDATES)
            np.savez(folder / f"{case}-{kind}-{world.rank}.npz", **found)


def main(kind: str = "table", folder: str = "") -> None:
    if kind == "gpus":
        on_gpus(Path(folder))
        return
    errors, shown = {}, parallel.world().leads and not folder
    columns = [f"{ranks} {way.name}" for ranks in (2, 3) for way in WAYS] + ["1 single"]
    if shown:
        print(f"{'':28}" + "".join(f"{column:>11}" for column in columns))
    for case, errors[case] in compare(CHOSEN if folder else list(FILES), always_double=not folder):
        if shown:
            print(f"{case:28}" + "".join(f"{errors[case][column]:11.0e}" for column in columns), flush=True)
    if parallel.world().leads and folder:
        Path(folder, "errors.json").write_text(json.dumps(errors))


if __name__ == "__main__":
    main(*sys.argv[1:])
