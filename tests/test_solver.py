"""What a solver makes of its file: learning rates, nets and their states, weights to start from; each type's steps."""

import math

import numpy as np
import pytest

from fcnlite.errors import InputError
from fcnlite.io import read_state
from fcnlite.net import Net
from fcnlite.proto import SolverParameter
from fcnlite.solver import SOLVERS, SGDSolver, get_solver, learning_rate

NET = """layer { name: "x" type: "Input" top: "x" top: "t" input_param { shape { dim: 1 dim: 2 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2
  weight_filler { type: "gaussian" } } }
layer { name: "deep" type: "AbsVal" bottom: "y" top: "deep" include { min_level: 2 } }
layer { name: "staged" type: "AbsVal" bottom: "y" top: "staged" include { stage: "own" stage: "asked" } }
layer { name: "tested" type: "AbsVal" bottom: "y" top: "tested" include { phase: TEST } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
"""
FIXED = 'base_lr: 0.1 lr_policy: "fixed"\n'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "net.prototxt").write_text(NET)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("iteration", [0, 1, 999, 1000, 1001, 300000])
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"lr_policy": "fixed"}, lambda t: 1),
        ({"lr_policy": "step", "gamma": 0.5, "stepsize": 1000}, lambda t: 0.5 ** (t // 1000)),
        ({"lr_policy": "exp", "gamma": 1 - 2**-13}, lambda t: (1 - 2**-13) ** t),
        ({"lr_policy": "inv", "gamma": 0.01, "power": 0.75}, lambda t: (1 + 0.01 * t) ** -0.75),
        ({"lr_policy": "poly", "max_iter": 400000, "power": 0.9}, lambda t: (1 - t / 400000) ** 0.9),
        (
            {"lr_policy": "sigmoid", "gamma": 0.01, "stepsize": 1000},
            lambda t: 1 / (1 + math.exp(-0.01 * (t - 1000))),
        ),
    ],
    ids=lambda case: case["lr_policy"] if isinstance(case, dict) else "",
)
def test_learning_rates(settings, expected, iteration):
    got = learning_rate(SolverParameter(base_lr=0.25, **settings), iteration)
    assert got == pytest.approx(0.25 * expected(iteration), rel=1e-6, abs=1e-20)


@pytest.mark.parametrize(
    ("settings", "iteration", "expected"),
    [
        ({"lr_policy": "sigmoid", "gamma": 1, "stepsize": 100000}, 0, 0),
        ({"lr_policy": "exp", "gamma": 10}, 100000, math.inf),
        ({"lr_policy": "poly", "max_iter": 10, "power": 0.5}, 11, 0),
    ],
)
def test_rates_beyond_the_range_of_numbers(settings, iteration, expected):
    assert learning_rate(SolverParameter(base_lr=1, **settings), iteration) == expected


def test_a_rate_near_the_end_of_poly_is_rounded_as_caffe_rounds_it():
    """In float32 1 - 299999 / 300000 is 3.3379e-6, 0.1 % off."""
    param = SolverParameter(base_lr=1, lr_policy="poly", max_iter=300000, power=1)
    expected = np.float32(1) - np.float32(299999) / np.float32(300000)
    assert learning_rate(param, 299999) == expected != pytest.approx(1 / 300000, rel=1e-3)


@pytest.mark.parametrize("policy", ["step", "exp", "inv", "multistep"])
def test_a_negative_gamma_is_told(policy):
    with pytest.raises(InputError, match=f"lr_policy {policy} needs a gamma of at least 0; -2 is given"):
        learning_rate(SolverParameter(base_lr=1, lr_policy=policy, gamma=-2, stepsize=1), 3)


def names(net):
    return {"deep", "staged", "tested"} & set(net.blobs)


def test_the_nets_state_is_merged_with_the_solvers(folder):
    own = 'state { level: 2 stage: "own" }\n'
    (folder / "net.prototxt").write_text(own + NET)
    text = 'net: "net.prototxt" test_iter: 1 test_iter: 1 test_interval: 1\n' + FIXED
    solver = SGDSolver(text)
    assert names(solver.net) == {"deep"}
    assert [names(net) for net in solver.test_nets] == [{"deep", "tested"}] * 2
    asked = 'train_state { stage: "asked" level: 1 } test_state { stage: "asked" } test_state { level: 0 }'
    solver = SGDSolver(text + asked)
    assert names(solver.net) == {"staged"}
    assert [names(net) for net in solver.test_nets] == [{"deep", "staged", "tested"}, {"tested"}]


def test_a_state_may_change_the_phase(folder):
    solver = SGDSolver('net: "net.prototxt" train_state { phase: TEST }\n' + FIXED)
    assert names(solver.net) == {"tested"}


def test_the_nets_file_serves_the_tests_that_name_no_other(folder):
    (folder / "other.prototxt").write_text(
        NET + 'layer { name: "o" type: "AbsVal" bottom: "y" top: "other" }'
    )
    text = (
        'net: "net.prototxt" test_net: "other.prototxt" test_iter: 3 test_iter: 4 test_interval: 1\n' + FIXED
    )
    assert ["other" in net.blobs for net in SGDSolver(text).test_nets] == [True, False]
    with pytest.raises(InputError, match="0 test_iter values for 1 test nets"):
        SGDSolver('net: "net.prototxt" test_net: "other.prototxt"\n' + FIXED)


def test_a_source_that_leaves_out_an_input_is_told(folder):
    x = np.ones((1, 2), np.float32)
    with pytest.raises(InputError, match="the source gives x, not the net's input 't'"):
        SGDSolver(FIXED + 'net: "net.prototxt"', source=[{"x": x}]).step(1)
    net = Net("net.prototxt", "TRAIN")
    net.blobs["t"].data[...] = 3  # kept for every step
    SGDSolver(FIXED, net=net, source=[{"x": x}] * 2).step(2)
    assert (net.blobs["t"].data == 3).all()


def test_training_starts_from_the_weights_the_solver_names(folder):
    given = Net(NET)
    given.params["fc"][0].data[...] = [[1, 2], [3, 4]]
    given.save("a.caffemodel")
    later = Net(NET)
    later.params["fc"][0].data[...] = 7
    later.save("b.h5")
    text = 'net: "net.prototxt" test_iter: 1 test_interval: 1\n' + FIXED
    solver = SGDSolver(text + 'weights: "a.caffemodel"')
    np.testing.assert_array_equal(solver.net.params["fc"][0].data, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(solver.test_nets[0].params["fc"][0].data, [[1, 2], [3, 4]])
    assert (SGDSolver(text + 'weights: "a.caffemodel, b.h5"').net.params["fc"][0].data == 7).all()
    with pytest.raises(FileNotFoundError, match="the solver's file c.caffemodel is neither in"):
        SGDSolver(text + 'weights: "c.caffemodel"')


# Each type's steps, against its formula in double precision


def nesterov(p, g, rate, t, h):
    before = h[0]
    h[0] = p["momentum"] * before + rate * g
    return (1 + p["momentum"]) * h[0] - p["momentum"] * before


def sgd(p, g, rate, t, h):
    h[0] = p["momentum"] * h[0] + rate * g
    return h[0]


def adagrad(p, g, rate, t, h):
    h[0] = h[0] + g**2
    return rate * g / (np.sqrt(h[0]) + p["delta"])


def rmsprop(p, g, rate, t, h):
    h[0] = p["rms_decay"] * h[0] + (1 - p["rms_decay"]) * g**2
    return rate * g / (np.sqrt(h[0]) + p["delta"])


def adadelta(p, g, rate, t, h):
    h[0] = p["momentum"] * h[0] + (1 - p["momentum"]) * g**2
    step = g * np.sqrt(h[1] + p["delta"]) / np.sqrt(h[0] + p["delta"])
    h[1] = p["momentum"] * h[1] + (1 - p["momentum"]) * step**2
    return rate * step


def adam(p, g, rate, t, h):
    h[0] = p["momentum"] * h[0] + (1 - p["momentum"]) * g
    h[1] = p["momentum2"] * h[1] + (1 - p["momentum2"]) * g**2
    mean, square = h[0] / (1 - p["momentum"] ** t), h[1] / (1 - p["momentum2"] ** t)
    # The paper's form, but for where Caffe adds delta.
    return rate * mean / (np.sqrt(square) + p["delta"] / np.sqrt(1 - p["momentum2"] ** t))


RULES = {
    "SGD": (sgd, 1, {"momentum": 0.9}),
    "Nesterov": (nesterov, 1, {"momentum": 0.9}),
    "AdaGrad": (adagrad, 1, {"delta": 1e-3}),
    "RMSProp": (rmsprop, 1, {"delta": 1e-3, "rms_decay": 0.75}),
    "AdaDelta": (adadelta, 2, {"momentum": 0.875, "delta": 1e-3}),
    "Adam": (adam, 2, {"momentum": 0.75, "momentum2": 0.875, "delta": 1e-3}),
}
REGRESSION = """layer { name: "x" type: "Input" top: "x" top: "t"
  input_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  inner_product_param { num_output: 2 weight_filler { type: "gaussian" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
"""
RUNS = {
    "plain": {},
    "decay": {"weight_decay": 0.125},
    "L1": {"weight_decay": 0.125, "regularization_type": "L1"},
    "accumulated and clipped": {"iter_size": 3, "clip_gradients": 2.5, "weight_decay": 0.125},
    "stepping down": {"lr_policy": "step", "gamma": 0.5, "stepsize": 2},
}


def batches(first=0):
    """Forward pass number t gets the same numbers in every run."""
    while True:
        rng = np.random.default_rng(first)
        yield {"x": rng.normal(size=(4, 3)), "t": rng.normal(size=(4, 2))}
        first += 1


def expected_run(rule, histories, p, weights, iterations):
    """Weights and histories (by kind, then by parameter) after so many iterations of a linear regression."""
    weights = [w.astype(np.float64) for w in weights]
    held = [[np.zeros_like(w) for _ in range(histories)] for w in weights]
    source = batches()
    clipped = 0
    for t in range(iterations):
        gradients = [np.zeros_like(w) for w in weights]
        for _ in range(p.get("iter_size", 1)):
            batch = {
                name: array.astype(np.float32).astype(np.float64) for name, array in next(source).items()
            }
            error = (batch["x"] @ weights[0].T + weights[1] - batch["t"]) / 4
            gradients = [gradients[0] + error.T @ batch["x"], gradients[1] + error.sum(0)]
        norm = np.sqrt(sum((g**2).sum() for g in gradients))
        if norm > p.get("clip_gradients", np.inf):
            gradients = [g * p["clip_gradients"] / norm for g in gradients]
            clipped += 1
        rate = 0.25 * (0.5 ** (t // 2) if p.get("lr_policy") == "step" else 1)
        for i, (lr_mult, decay_mult) in enumerate([(1, 1), (2, 0)]):
            penalty = np.sign(weights[i]) if p.get("regularization_type") == "L1" else weights[i]
            g = gradients[i] / p.get("iter_size", 1) + p.get("weight_decay", 0) * decay_mult * penalty
            weights[i] = weights[i] - rule(p, g, rate * lr_mult, t + 1, held[i])
    assert clipped or "clip_gradients" not in p
    return weights, [held[i][kind] for kind in range(histories) for i in range(len(weights))]


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("name", RULES)
def test_steps_are_those_of_the_formula(name, run, tmp_path):
    rule, histories, own = RULES[name]
    settings = {"base_lr": 0.25, "lr_policy": "fixed", "type": name, **own, **RUNS[run]}
    solver = get_solver(SolverParameter(**settings), net=Net(REGRESSION, "TRAIN"), source=batches())
    assert type(solver) is SOLVERS[name]
    blobs = solver.net.params["fc"]
    start = [blob.data.copy() for blob in blobs]
    solver.step(6)
    weights, held = expected_run(rule, histories, settings, start, 6)
    for blob, array in zip(blobs, weights, strict=True):
        np.testing.assert_allclose(blob.data, array, rtol=2e-5, atol=2e-6)
    # Caffe's state has all parameters' first arrays, then all their second ones.
    for mine, array in zip(solver.history, held, strict=True):
        np.testing.assert_allclose(mine, array, rtol=2e-5, atol=2e-6)
    state = read_state(solver.snapshot(tmp_path / "run")[1])
    for mine, array in zip(state.history, held, strict=True):
        np.testing.assert_allclose(mine, array, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("form", ["HDF5", "BINARYPROTO"])
@pytest.mark.parametrize("name", RULES)
def test_a_resumed_run_has_the_same_bits(name, form, tmp_path):
    settings = SolverParameter(
        base_lr=0.25, lr_policy="fixed", type=name, snapshot_format=form, **RULES[name][2]
    )
    whole = get_solver(settings, net=Net(REGRESSION, "TRAIN"), source=batches())
    whole.step(3)
    _, state = whole.snapshot(tmp_path / "run")
    whole.step(3)
    resumed = get_solver(settings, net=Net(REGRESSION, "TRAIN"), source=batches(3))
    resumed.restore(state)
    resumed.step(3)
    for a, b in zip(whole.net.params["fc"], resumed.net.params["fc"], strict=True):
        np.testing.assert_array_equal(a.data, b.data)


@pytest.mark.parametrize(
    ("policy", "steps"),
    [({"lr_policy": "step", "stepsize": 2}, 3), ({"lr_policy": "multistep", "stepvalue": [1, 4]}, 2)],
)
def test_a_state_tells_the_step_of_its_last_update(policy, steps, tmp_path):
    settings = SolverParameter(base_lr=0.1, gamma=0.5, **policy)
    solver = SGDSolver(settings, net=Net(REGRESSION, "TRAIN"), source=batches())
    solver.step(8)
    assert read_state(solver.snapshot(tmp_path / "run")[1]).current_step == steps


def test_a_state_of_another_type_is_told(tmp_path):
    made = get_solver(SolverParameter(base_lr=1, type="Adam"), net=Net(REGRESSION, "TRAIN"), source=batches())
    _, state = made.snapshot(tmp_path / "run")
    with pytest.raises(
        InputError, match=r"its history \(4 arrays\) does not fit.*2 parameters \(SGD: 2 arrays\)"
    ):
        SGDSolver(SolverParameter(base_lr=1), net=Net(REGRESSION, "TRAIN")).restore(state)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"type": "AdaGrad", "momentum": 0.9}, "momentum 0.9 cannot be used with AdaGrad"),
        ({"type": "RMSProp", "momentum": 0.9}, "momentum 0.9 cannot be used with RMSProp"),
        ({"type": "RMSProp", "rms_decay": 1}, "rms_decay 1 must be at least 0 and less than 1"),
        ({"type": "Adam", "momentum2": 1}, "momentum2 1 must be at least 0 and less than 1"),
        ({"type": "Adam", "regularization_type": "L3"}, "regularization_type 'L3' is unknown"),
        ({"momentum": float("nan")}, "momentum is nan; it must be a finite number"),
        ({"weight_decay": float("inf")}, "weight_decay is inf; it must be a finite number"),
        ({"type": "LBFGS"}, "solver type 'LBFGS' is unknown; there are SGD, Nesterov, AdaGrad, RMSProp"),
    ],
)
def test_settings_that_a_type_cannot_use_are_told(settings, message):
    with pytest.raises(InputError, match=message):
        get_solver(SolverParameter(base_lr=1, **settings), net=Net(REGRESSION, "TRAIN"))
