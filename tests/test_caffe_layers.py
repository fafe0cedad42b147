"""Python layers: users' own on the CPU and on the stand-in GPU, which code may run, and the FCN data layers' names."""

import sys
import types

import numpy as np
import pytest
from test_caffe_net import machine  # noqa: F401
from test_data_voc import make_sbd

import fcnlite.caffe as caffe
from fcnlite.errors import InputError
from fcnlite.layers import python
from fcnlite.net import Net


class Affine(caffe.Layer):
    """y = a x + b, a from param_str, b a parameter that is learned."""

    def setup(self, bottom, top):
        self.factor = float(self.param_str)
        self.blobs.add_blob(1)
        self.blobs[0].data[...] = 1

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = self.factor * bottom[0].data + self.blobs[0].data

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[...] += top[0].diff.sum()
        if propagate_down[0]:
            bottom[0].diff[...] = self.factor * top[0].diff


class Distance(caffe.Layer):
    """Half the squared distance of two blobs, a loss."""

    def __init__(self, param):
        self.made_with = param.python_param.layer  # not calling caffe.Layer's

    def reshape(self, bottom, top):
        self.gap = np.zeros(bottom[0].shape, np.float32)
        top[0].reshape()

    def forward(self, bottom, top):
        self.gap[...] = bottom[0].data - bottom[1].data
        top[0].data[...] = (self.gap**2).sum() / 2

    def backward(self, top, propagate_down, bottom):
        for i, sign in ((0, 1), (1, -1)):
            if propagate_down[i]:
                bottom[i].diff[...] = sign * self.gap * top[0].diff


class Phase(caffe.Layer):
    def reshape(self, bottom, top):
        top[0].reshape(1)

    def forward(self, bottom, top):
        top[0].data[0] = self.phase


class Failing(caffe.Layer):
    def setup(self, bottom, top):
        raise RuntimeError("no such thing")


def layer(name, kind, bottoms, top, extra="", module=__name__, param_str=""):
    sources = "".join(f' bottom: "{bottom}"' for bottom in bottoms)
    return (
        f'layer {{ name: "{name}" type: "Python" {sources} top: "{top}" {extra}'
        f' python_param {{ module: "{module}" layer: "{kind}" param_str: "{param_str}" }} }}\n'
    )


INPUT = 'layer { name: "in" type: "Input" top: "x" top: "t" input_param { shape { dim: 2 dim: 3 } } }\n'


@pytest.fixture
def build(tmp_path, machine):  # noqa: F811
    def make(text, phase=caffe.TRAIN):
        path = tmp_path / "net.prototxt"
        path.write_text(text)
        return caffe.Net(str(path), phase)

    return make


def test_data_and_gradients_pass_through_users_layers(build):
    text = "force_backward: true\n" + INPUT + layer("a", "Affine", ["x"], "a", param_str="3")
    text += 'layer { name: "neg" type: "Power" bottom: "a" top: "n" power_param { scale: -1 } }\n'
    net = build(
        text
        + layer("b", "Affine", ["n"], "b", param_str="10")
        + layer("d", "Distance", ["b", "t"], "d", "loss_weight: 2")
    )
    x, t = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 3), np.float32)
    net.layer_dict["b"].blobs[0].data[...] = 5
    out = net.forward(x=x, t=t)
    gap = 10 * -(3 * x + 1) + 5 - t
    np.testing.assert_allclose(net.blobs["b"].data, gap + t, rtol=1e-6)
    np.testing.assert_allclose(out["d"], (gap**2).sum() / 2, rtol=1e-6)
    net.backward()
    np.testing.assert_allclose(net.blobs["x"].diff, 2 * gap * 10 * -1 * 3, rtol=1e-6)
    np.testing.assert_allclose(net.params["b"][0].diff, [2 * gap.sum()], rtol=1e-5)
    np.testing.assert_allclose(net.params["a"][0].diff, [-20 * gap.sum()], rtol=1e-5)
    assert isinstance(net.layer_dict["a"], Affine) and net.layer_dict["d"].made_with == "Distance"
    assert net.layer_dict["a"].type == "Python"


def test_their_parameters_are_saved_loaded_and_shared(build, tmp_path):
    text = INPUT + layer("a", "Affine", ["x"], "a", param_str="1")
    net, other = build(text), build(text)
    net.params["a"][0].data[0] = 42
    net.save(str(tmp_path / "w.caffemodel"))
    other.copy_from(str(tmp_path / "w.caffemodel"))
    assert other.layer_dict["a"].blobs[0].data[0] == 42
    third = build(text)
    third.share_with(net)
    net.params["a"][0].data[0] = 7
    np.testing.assert_array_equal(third.forward(x=np.ones((2, 3)), t=np.zeros((2, 3)))["a"], 8)


def test_they_learn_in_a_solver(build, tmp_path, monkeypatch):
    data = 'layer { name: "in" type: "DummyData" top: "x" top: "t" dummy_data_param { shape { dim: 2 dim: 3 } } }\n'
    text = (
        data
        + layer("a", "Affine", ["x"], "a", param_str="1")
        + layer("d", "Distance", ["a", "t"], "d", "loss_weight: 1")
    )
    build(text)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "solver.prototxt").write_text('train_net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed"')
    solver = caffe.SGDSolver("solver.prototxt")
    for expected in (1, 0.4, 0.16):  # each of six outputs pulls the bias b by 0.1 b
        np.testing.assert_allclose(solver.net.params["a"][0].data, [expected], rtol=1e-5)
        solver.step(1)


def test_reshape_is_called_before_every_forward(build):
    net = build(INPUT + layer("a", "Affine", ["x"], "a", param_str="2"))
    net.blobs["x"].reshape(1, 2, 2)
    net.blobs["x"].data[...] = 4
    np.testing.assert_array_equal(net.forward()["a"], np.full((1, 2, 2), 9))


def test_phase_and_errors_reach_whom_they_concern(build):
    text = layer("p", "Phase", [], "p")
    for phase in (caffe.TRAIN, caffe.TEST):
        assert build(text, phase).forward()["p"] == phase
    with pytest.raises(RuntimeError, match="no such thing"):
        build(layer("f", "Failing", [], "f"))
    with pytest.raises(NotImplementedError, match="Phase defines no backward"):
        build("force_backward: true\n" + INPUT + layer("p", "Phase", ["x"], "p")).backward()


# Which code may run


def test_a_prototxt_cannot_name_just_anything(build):
    for module, name in (("os", "getcwd"), ("fcnlite.caffe", "Net"), (__name__, "np"), ("nowhere", "X")):
        with pytest.raises(InputError, match=f"layer 'x' \\(Python\\): it needs {name} of module '{module}'"):
            build(layer("x", name, [], "x", module=module))


@pytest.fixture
def allowed(monkeypatch):
    monkeypatch.setattr(python, "_may_import", False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    caffe.allow_python_layers()


def test_modules_beside_the_prototxt_are_imported_when_allowed(build, tmp_path, allowed, monkeypatch):
    monkeypatch.delitem(sys.modules, "beside_it", raising=False)
    (tmp_path / "its_neighbour.py").write_text("FACTOR = 6\n")
    (tmp_path / "beside_it.py").write_text(
        "import its_neighbour\nimport fcnlite.caffe as caffe\n\n\nclass Six(caffe.Layer):\n"
        "    def reshape(self, bottom, top):\n        top[0].reshape(1)\n\n"
        "    def forward(self, bottom, top):\n        top[0].data[...] = its_neighbour.FACTOR\n"
    )
    assert build(layer("s", "Six", [], "s", module="beside_it")).forward()["s"] == 6
    with pytest.raises(InputError, match="beside_it.py has no class 'Seven' derived from caffe.Layer"):
        build(layer("s", "Seven", [], "s", module="beside_it"))
    with pytest.raises(InputError, match="there is no module 'nowhere_at_all' in .* or on sys.path"):
        build(layer("s", "Six", [], "s", module="nowhere_at_all"))
    with pytest.raises(InputError, match="no class 'getcwd' derived from caffe.Layer"):
        build(layer("s", "getcwd", [], "s", module="os"))


def test_an_error_in_a_module_is_the_modules(build, tmp_path, allowed):
    (tmp_path / "broken_layers.py").write_text("import surely_not_installed\n")
    with pytest.raises(ModuleNotFoundError, match="surely_not_installed"):
        build(layer("s", "Six", [], "s", module="broken_layers"))
    assert "broken_layers" not in sys.modules


# The data layers of the FCN experiments


def test_fcn_data_layers_are_known_by_module_and_class(build, tmp_path, monkeypatch):
    make_sbd(tmp_path / "sbd", {"train": ["a", "b"]})
    text = "{'sbdd_dir': 'sbd', 'split': 'train', 'seed': 1337, 'mean': (1, 2, 3)}"

    def feed(module):
        both = layer("d", "SBDDSegDataLayer", [], "data", 'top: "label"', module, text)
        return build(both)

    net = feed("voc_layers")
    assert net.layers[0].type == "Python" and net.blobs["data"].shape == (1, 3, 8, 11)
    with pytest.raises(InputError, match="SBDDSegDataLayer of module 'nyud_layers', which is code to run"):
        feed("nyud_layers")

    class SBDDSegDataLayer(Phase):
        def reshape(self, bottom, top):
            top[0].reshape(1)
            top[1].reshape(1)

    # A program's own class of that name is the one it wants.
    monkeypatch.setitem(sys.modules, "voc_layers", types.SimpleNamespace(SBDDSegDataLayer=SBDDSegDataLayer))
    assert feed("voc_layers").forward()["data"] == caffe.TRAIN


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("__import__('os').getcwd()", "is not a Python literal"),
        ("{'sbdd_dir': 'sbd', 'split': 'train'}", "lacks 'mean'"),
        (
            "{'sbdd_dir': 'sbd', 'split': 'none', 'mean': (1, 2, 3)}",
            "none.txt is missing; the folder has train",
        ),
    ],
)
def test_wrong_parameters_name_the_layer(tmp_path, text, message):
    make_sbd(tmp_path / "sbd", {"train": ["a", "b"]})
    net = layer("d", "SBDDSegDataLayer", [], "data", 'top: "label"', "voc_layers", text)
    with pytest.raises((InputError, FileNotFoundError), match=f"layer 'd' .*{message}"):
        Net(net, folder=tmp_path)


def test_data_layers_take_no_bottom_and_as_many_tops_as_they_fill(tmp_path):
    make_sbd(tmp_path / "sbd", {"train": ["a"]})
    text = "{'sbdd_dir': 'sbd', 'split': 'train', 'mean': (1, 2, 3)}"
    with pytest.raises(InputError, match="SBDDSegDataLayer takes no bottoms"):
        Net(
            INPUT + layer("d", "SBDDSegDataLayer", ["x"], "data", 'top: "label"', "voc_layers", text),
            folder=tmp_path,
        )
    with pytest.raises(InputError, match="the data set gives data, label; it cannot fill data"):
        Net(layer("d", "SBDDSegDataLayer", [], "data", "", "voc_layers", text), folder=tmp_path)
