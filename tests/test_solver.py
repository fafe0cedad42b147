"""What a solver makes of its file: learning rates, nets with their states, and the weights it starts from."""

import math

import numpy as np
import pytest

from fcnlite.errors import InputError
from fcnlite.net import Net
from fcnlite.proto import SolverParameter
from fcnlite.solver import SGDSolver, learning_rate

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
