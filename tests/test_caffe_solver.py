"""pycaffe's solver on the CPU and on the stand-in GPU."""

import logging

import numpy as np
import pytest
from test_caffe_net import SMALL, machine  # noqa: F401

import fcnlite.caffe as caffe
from fcnlite.errors import InputError

SOLVER = """
net: "net.prototxt" test_iter: 3 test_interval: 2 test_initialization: false display: 2
base_lr: 0.05 lr_policy: "step" stepsize: 4 gamma: 0.5 momentum: 0.9 weight_decay: 0.01
max_iter: 6 snapshot_prefix: "run" random_seed: 11
"""
DATA = """
layer { name: "in" type: "DummyData" top: "data" top: "label"
  dummy_data_param { shape { dim: 4 dim: 2 dim: 5 dim: 6 } shape { dim: 4 }
    data_filler { type: "constant" value: 0.5 } data_filler { type: "constant" } } }
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, machine):  # noqa: F811
    start, end = SMALL.index('layer { name: "in"'), SMALL.index('layer { name: "conv"')
    (tmp_path / "net.prototxt").write_text(SMALL[:start] + DATA + SMALL[end:])
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def solver(folder):
    return fed(caffe.SGDSolver("solver.prototxt"))


def fed(solver):
    rng = np.random.default_rng(2)
    for net in (solver.net, *solver.test_nets):
        net.blobs["data"].data[...] = rng.normal(size=(4, 2, 5, 6))
        net.blobs["label"].data[...] = [1, 0, 3, 4]
    return solver


def weights(solver):
    return {
        (name, i): b.data.copy() for name, blobs in solver.net.params.items() for i, b in enumerate(blobs)
    }


def test_steps_are_those_of_sgd(solver):
    """Momentum SGD by hand, from the gradients that forward and backward give."""
    net, history = solver.net, {key: np.zeros_like(array) for key, array in weights(solver).items()}
    for iteration in range(6):
        before = weights(solver)
        net.clear_param_diffs()
        net.forward()
        net.backward()
        rate = 0.05 * 0.5 ** (iteration // 4)
        assert solver.lr == pytest.approx(rate)
        for (name, i), array in before.items():
            gradient = net.params[name][i].diff + 0.01 * array
            history[name, i] = 0.9 * history[name, i] + rate * gradient
        solver.step(1)
        for (name, i), array in weights(solver).items():
            np.testing.assert_allclose(array, before[name, i] - history[name, i], rtol=1e-5, atol=1e-6)
            # As in Caffe, the diff is the step after an update.
            np.testing.assert_allclose(net.params[name][i].diff, history[name, i], rtol=1e-5, atol=1e-6)
    assert solver.iter == 6
    assert net.blobs["conv"].data.any() and net.blobs["conv"].diff.any()  # blobs are kept


def test_solving_trains_tests_and_saves(solver, folder, caplog):
    first = float(solver.net.forward()["loss"])
    with caplog.at_level(logging.INFO, "fcnlite"):
        solver.solve()
    assert solver.iter == solver.param.max_iter == 6
    assert float(solver.net.forward()["loss"]) < first
    told = caplog.text
    assert "Iteration 4, loss" in told and "Iteration 4, test net 0: loss" in told
    assert (folder / "run_iter_6.caffemodel").is_file() and (folder / "run_iter_6.solverstate").is_file()
    again = fed(caffe.get_solver("solver.prototxt"))
    again.restore("run_iter_6.solverstate")
    assert again.iter == 6
    for key, array in weights(again).items():
        np.testing.assert_array_equal(array, weights(solver)[key])
    solver.step(2)
    again.step(2)
    for key, array in weights(again).items():
        np.testing.assert_array_equal(array, weights(solver)[key])


def test_resuming_by_solve(solver):
    solver.step(3)
    solver.snapshot()
    other = fed(caffe.SGDSolver("solver.prototxt"))
    other.solve("run_iter_3.solverstate")
    solver.step(3)
    for key, array in weights(other).items():
        np.testing.assert_array_equal(array, weights(solver)[key])


def test_an_update_takes_the_diffs_as_they_are(solver):
    blob = solver.net.params["ip"][0]
    blob.data[...] = 0
    blob.diff[...] = 2
    solver.apply_update()
    np.testing.assert_allclose(blob.data, -0.1, rtol=1e-6)
    assert solver.iter == 1


def test_test_nets_and_others_share_the_trained_weights(solver, folder):
    test = solver.test_nets[0]
    solver.step(1)
    test.share_with(solver.net)
    np.testing.assert_array_equal(test.params["conv"][0].data, solver.net.params["conv"][0].data)
    other = caffe.Net("net.prototxt", caffe.TEST)
    solver.share_weights(other)
    solver.step(1)
    np.testing.assert_array_equal(other.params["ip"][0].data, solver.net.params["ip"][0].data)


def test_callbacks_and_hooks_run_in_every_iteration(solver):
    calls = []
    solver.add_callback(lambda: calls.append("start"), lambda: calls.append("ready"))
    solver.step(2)
    assert calls == ["start", "ready"] * 2
    plain = weights(solver)
    solver.net.before_backward(lambda layer: calls.append(layer))
    calls.clear()
    solver.step(1)
    assert calls == ["start", *range(len(solver.net.layers) - 1, -1, -1), "ready"]
    # Gradients may be changed before they are used.
    before = weights(solver)
    solver.add_callback(lambda: None, lambda: solver.net.params["ip"][1].diff.fill(1e3))
    solver.step(1)
    assert np.abs(weights(solver)["ip", 1] - before["ip", 1]).min() > 1
    assert plain.keys() == before.keys()


def test_hooked_nets_learn_what_others_learn(solver):
    other = fed(caffe.SGDSolver("solver.prototxt"))
    other.net.after_forward(lambda layer: None)
    solver.step(3)
    other.step(3)
    for key, array in weights(other).items():
        np.testing.assert_allclose(array, weights(solver)[key], rtol=1e-6)


def test_the_solvers_param_is_its_message(solver):
    param = solver.param
    assert (param.max_iter, param.display) == (6, 2) and param.base_lr == pytest.approx(0.05)
    param.base_lr = 0.5
    assert solver.lr == pytest.approx(0.5)


def test_nets_outlive_their_solver(solver):
    solver.step(1)
    nets = [solver.net, *solver.test_nets]
    del solver
    assert len(nets) == 2
    for net in nets:
        assert np.isfinite(net.forward()["loss"])


def test_train_and_test_states_choose_layers(folder):
    text = (folder / "net.prototxt").read_text()
    (folder / "net.prototxt").write_text(
        text
        + 'layer { name: "extra" type: "AbsVal" bottom: "data" top: "extra" include { stage: "more" min_level: 2 } }'
    )
    (folder / "solver.prototxt").write_text(SOLVER + 'test_state { stage: "more" level: 2 }')
    solver = caffe.SGDSolver("solver.prototxt")
    assert "extra" in solver.test_nets[0].blobs and "extra" not in solver.net.blobs


@pytest.mark.parametrize("name", ["Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"])
def test_other_solver_types_train(folder, name):
    """(tests/test_solver.py compares their numbers.)"""
    momentum = "momentum: 0.9" if name not in ("AdaGrad", "RMSProp") else ""
    text = SOLVER.replace("momentum: 0.9", momentum).replace("0.05", "1" if name == "AdaDelta" else "0.01")
    (folder / "solver.prototxt").write_text(text + f'type: "{name}" delta: 1e-6')
    solver = fed(caffe.get_solver("solver.prototxt"))
    assert type(solver) is getattr(caffe, f"{name}Solver")
    first, before = float(solver.net.forward()["loss"]), weights(solver)
    solver.step(1)
    for (layer, i), array in weights(solver).items():
        np.testing.assert_array_equal(array, before[layer, i] - solver.net.params[layer][i].diff)
    solver.step(3)
    assert float(solver.net.forward()["loss"]) < first
    solver.snapshot()
    again = fed(getattr(caffe, f"{name}Solver")("solver.prototxt"))
    again.restore("run_iter_4.solverstate")
    for one in (solver, again):
        one.step(2)
    for key, array in weights(again).items():
        np.testing.assert_array_equal(array, weights(solver)[key])


def test_a_solver_of_another_type_is_refused(folder):
    (folder / "solver.prototxt").write_text(SOLVER + 'type: "Adam"')
    with pytest.raises(InputError, match=r"the solver's type is 'Adam', not SGD; get_solver\(\) makes one"):
        caffe.SGDSolver("solver.prototxt")
    (folder / "solver.prototxt").write_text(SOLVER + 'type: "Adamant"')
    with pytest.raises(InputError, match="solver type 'Adamant' is unknown; there are SGD, Nesterov"):
        caffe.get_solver("solver.prototxt")
