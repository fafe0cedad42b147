"""Runs Caffe's reference solver cases in several processes and saves what each comes to: `python parallel_cases.py`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases
import h5py
import numpy as np
from cases import rule
from test_reference_solvers import batches

import fcnlite.random
from fcnlite import device, parallel
from fcnlite.net import Net
from fcnlite.proto import read_solver
from fcnlite.solver import SGDSolver, get_solver

ITER_SIZE = 6
UPDATES = 12


def solver_of(case: str, group: Any, world: parallel.World | None, exact: bool) -> SGDSolver:
    """The reference case with iter_size 6, so that 2 and 3 processes can share its passes."""
    fcnlite.random.set_random_seed(int(group.attrs["random_seed"]))
    net = Net(group.attrs["net"], phase="TRAIN")
    cases.fill_params(case, net)
    param = read_solver(group.attrs["solver"])
    param.iter_size = ITER_SIZE
    return get_solver(param, net=net, source=batches(case, group, net), world=world, exact=exact)


def train(case: str, world: parallel.World | None = None, exact: bool = False) -> dict[str, np.ndarray]:
    """Parameters, losses and the state of the masks after twelve updates."""
    with h5py.File(cases.REFERENCE / "solvers.h5") as file:
        solver = solver_of(case, file[case], world, exact)
        losses = []
        for _ in range(UPDATES):
            solver.step(1)
            losses.append(float(solver.loss))
    found = {f"{p.layer}/{p.index}": device.current().tonumpy(p.blob.data) for p in solver.net.learnable_params}
    return found | {"loss": np.array(losses), "masks": fcnlite.random.mask_state()}


def main(folder: str, kind: str) -> None:
    world = parallel.world()
    for case in cases.names("solvers.h5"):
        found = train(case, world, kind == "exact")
        np.savez(Path(folder) / f"{case}-{kind}-{world.size}-{world.rank}.npz", **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
