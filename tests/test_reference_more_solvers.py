"""Caffe's five other solvers, clipping over several passes, shared and frozen parameters, and runs that Caffe began."""

import cases
import h5py
import numpy as np
import pytest
from test_reference_solvers import batches

import fcnlite.random
from fcnlite import device
from fcnlite.io import read_state
from fcnlite.net import Net
from fcnlite.solver import get_solver

FILE, BOUND = "more-solvers.h5", 5e-5


def run(case, group):
    """The case's solver after its iterations, with the losses and the parameters' norms on the way."""
    fcnlite.random.set_random_seed(int(group.attrs["random_seed"]))
    net = Net(group.attrs["net"], phase="TRAIN")
    cases.fill_params(group.attrs.get("rule_case", case), net)
    rule_case, first = group.attrs.get("rule_case", case), int(group.attrs["start"])
    solver = get_solver(group.attrs["solver"], net=net, source=batches(rule_case, group, net, first))
    if "resumed_from" in group.attrs:
        solver.restore(cases.REFERENCE / group.attrs["resumed_from"])
    blobs = [net.params[name][int(i)] for name, i in (key.split("/") for key in group.attrs["param_order"])]
    losses, norms = [], []
    for _ in range(int(group.attrs["iterations"])):
        solver.step(1)
        losses.append(float(net.blobs["loss"].data))
        norms.append([np.linalg.norm(device.current().tonumpy(blob.data)) for blob in blobs])
    return solver, np.array(losses), np.array(norms)


@pytest.mark.parametrize("case", cases.names(FILE))
def test_solver_gives_caffes_numbers(case):
    with h5py.File(cases.REFERENCE / FILE) as file:
        group = file[case]
        solver, losses, norms = run(case, group)
        assert cases.relative_error(losses, group["loss"][()]) <= BOUND
        assert cases.relative_error(norms, group["param_norms"][()]) <= BOUND
        for layer, arrays in group["params"].items():
            for i, expected in arrays.items():
                got = solver.net.params[layer][int(i)].data
                assert cases.relative_error(got, expected[()]) <= BOUND, f"{layer}/{i}"


@pytest.mark.parametrize(
    "state", sorted(cases.REFERENCE.glob("more-solver-*.solverstate*")), ids=lambda p: p.name
)
def test_histories_are_caffes(state):
    case = state.name.partition("_iter_")[0]
    with h5py.File(cases.REFERENCE / FILE) as file:
        solver, _, _ = run(case, file[case])
    saved = read_state(state)
    assert saved.iter == solver.iter and len(saved.history) == len(solver.history)
    for number, (got, expected) in enumerate(zip(solver.history, saved.history, strict=True)):
        assert cases.relative_error(got.reshape(expected.shape), expected) <= BOUND, number
