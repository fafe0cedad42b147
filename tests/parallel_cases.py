"""Runs Caffe's reference solver cases in several processes and saves what each comes to: `python parallel_cases.py`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cases
import h5py
import numpy as np
from test_reference_solvers import batches

import fcnlite.random
from fcnlite import device, parallel
from fcnlite.net import Net
from fcnlite.proto import read_solver
from fcnlite.solver import SGDSolver, get_solver

ITER_SIZE = 6
UPDATES = 12
FILES = {case: file for file in ("solvers.h5", "more-solvers.h5") for case in cases.names(file)}
# Every type, and what several passes or processes could get wrong; `python parallel_cases.py FOLDER KIND all` runs all.
CHOSEN = [
    "solver-l1",
    *(
        f"more-solver-{name}"
        for name in (
            "adadelta adagrad adam adam-resumed batch-norm clip-iter3 dropout frozen nesterov rmsprop shared".split()
        )
    ),
]
FEW = [f"more-solver-{name}" for name in ("batch-norm", "dropout")]


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


def train(case: str, world: parallel.World | None = None, exact: bool = False) -> dict[str, np.ndarray]:
    """Parameters, losses and the state of the masks after twelve updates."""
    with h5py.File(cases.REFERENCE / FILES[case]) as file:
        solver = solver_of(case, file[case], world, exact)
        losses = []
        for _ in range(UPDATES):
            solver.step(1)
            losses.append(float(solver.loss))
    found = {
        f"{p.layer}/{p.index}": device.current().tonumpy(p.blob.data) for p in solver.net.learnable_params
    }
    return found | {"loss": np.array(losses), "masks": fcnlite.random.mask_state()}


def main(folder: str, kind: str, which: str = "chosen") -> None:
    world = parallel.world()
    if kind == "double":
        device.use("cpu", dtype=np.float64)
    if kind.startswith("gpu"):  # the stand-in CuPy is on the path
        device.use("cuda", first_gpu=world.local_rank)
    for case in {"all": FILES, "chosen": CHOSEN, "few": FEW}[which]:
        found = train(case, world, kind.endswith("exact"))
        np.savez(Path(folder) / f"{case}-{kind}-{world.size}-{world.rank}.npz", **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
