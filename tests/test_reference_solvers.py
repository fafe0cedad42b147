"""Training runs of twelve iterations against Caffe's: losses, norms on the way, and the final parameters."""

import cases
import h5py
import numpy as np
import pytest
from cases import rule

import fcnlite.random
from fcnlite import device
from fcnlite.net import Net
from fcnlite.solver import SGDSolver

BOUND = 5e-5


def batches(case, group, net, start=0):
    """Forward pass number t gets image t and label t of the rule."""
    scale = np.float32(group.attrs["input_scale"])
    t = start
    while True:
        yield {
            "data": rule.image(case, "data", net.blobs["data"].shape, t) * scale,
            "label": rule.label(case, "label", net.blobs["label"].shape, int(group.attrs["classes"]), t),
        }
        t += 1


def start(case, group):
    fcnlite.random.set_random_seed(int(group.attrs["random_seed"]))
    net = Net(group.attrs["net"], phase="TRAIN")
    cases.fill_params(case, net)
    return SGDSolver(group.attrs["solver"], net=net, source=batches(case, group, net))


@pytest.mark.parametrize("case", cases.names("solvers.h5"))
def test_solver_gives_caffes_numbers(case):
    with h5py.File(cases.REFERENCE / "solvers.h5") as file:
        group = file[case]
        solver = start(case, group)
        learnable = solver.net.learnable_params
        assert [f"{p.layer}/{p.index}" for p in learnable] == list(group.attrs["param_order"])
        losses, norms = [], []
        for _ in range(int(group.attrs["iterations"])):
            solver.step(1)
            losses.append(float(solver.net.blobs["loss"].data))
            norms.append([np.linalg.norm(device.current().tonumpy(p.blob.data)) for p in learnable])
        assert np.abs(np.array(losses) / group["loss"][()] - 1).max() <= BOUND
        assert np.abs(np.array(norms) / group["param_norms"][()] - 1).max() <= BOUND
        for p in learnable:
            expected = group["params"][p.layer][str(p.index)][()]
            assert cases.relative_error(p.blob.data, expected) <= BOUND, f"{p.layer}/{p.index}"
