"""The autograd library alone, on arrays and without a Net: as docs/autograd.md shows it."""

import inspect
import threading

import cases
import numpy as np
import pytest
from cupy_standin import standing_in
from hypothesis import given
from hypothesis import strategies as st

import fcnlite
from fcnlite import Blob, device, layers
from fcnlite.errors import InputError
from fcnlite.layers import Convolution, Dropout, Eltwise, EuclideanLoss, InnerProduct, Pooling, ReLU
from fcnlite.net import Net
from fcnlite.updates import RULES

MISH = """
// x * tanh(log(1 + exp(x)))
#include "rows.cuh"
KERNEL mish_forward(ROWS, int width, const real* in, real* out) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * width;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) b[i] = a[i] * tanh_real(log1p_real(exp_real(a[i])));
    }
}
"""


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# Blobs


def test_a_blob_owns_its_array():
    for given_array in (draw(2, 3), draw(2, 3).astype(np.float64), [[1, 2], [3, 4]]):
        kept = np.array(given_array)
        blob = Blob(given_array)
        blob.data[...] = 7
        np.testing.assert_array_equal(given_array, kept)


def test_images_get_no_gradient_unless_asked():
    conv, image = Convolution(num_output=2, kernel_size=3, weight_filler={"type": "xavier"}), draw(1, 3, 6, 6)
    unasked, asked = Blob(image), Blob(image, needs_diff=True)
    conv(unasked).backward()
    assert not unasked.has_diff and conv.blobs[0].has_diff
    conv(asked).backward()
    assert asked.has_diff and np.abs(asked.diff).max() > 0


def test_what_nothing_learns_from_has_no_way_back():
    top = ReLU()(Blob(draw(2, 3)))
    assert top.node is None and not top.needs_diff
    with pytest.raises(InputError, match=r"Blob\('ReLU', 2 x 3\) has no way back"):
        top.backward()
    with fcnlite.no_tape():
        hidden = ReLU()(Blob(draw(2, 3), needs_diff=True))
    with pytest.raises(InputError, match=r"no_tape\(\)"):
        hidden.backward()


def test_no_tape_is_of_this_thread_and_this_block():
    x, seen = Blob(draw(2), needs_diff=True), []
    with fcnlite.no_tape():
        other = threading.Thread(target=lambda: seen.append((x * 2).node is not None))
        other.start()
        other.join()
        seen.append((x * 2).node is None)
    assert seen == [True, True] and (x * 2).node is not None


def test_a_frozen_parameter_keeps_no_gradient():
    conv = Convolution(num_output=2, kernel_size=1, weight_filler={"type": "xavier"})
    fcnlite.build(conv, shape=(1, 3, 4, 4))
    conv.blobs[0].needs_diff = False
    conv(Blob(draw(1, 3, 4, 4))).backward()
    assert not conv.blobs[0].has_diff and conv.blobs[1].has_diff


def test_float_and_repr():
    assert float(Blob([[2.5]])) == 2.5
    with pytest.raises(TypeError, match=r"Blob\(2 x 3\) has 6 elements; float\(\) takes one"):
        float(Blob(draw(2, 3)))
    assert repr(Blob(shape=(), name="loss")) == "Blob('loss', scalar)"
    made = Convolution(num_output=8, kernel_size=3, pad=1, weight_filler={"type": "gaussian", "std": 0.01})
    text = "Convolution(num_output=8, pad=1, kernel_size=3, weight_filler={'type': 'gaussian', 'std': 0.01})"
    assert repr(made) == text and eval(text, vars(layers)).param == made.param


# Operators


@given(st.integers(0, 999))
def test_arithmetic_and_its_gradients(seed):
    device.use("cpu", np.float64)
    a, b = (Blob(draw(2, 3, seed=seed + i), needs_diff=True) for i in (0, 1))
    result = 3 * a - b * b / 2 + (1 - a) * b - -a + 4
    np.testing.assert_allclose(
        result.data, 3 * a.data - b.data**2 / 2 + (1 - a.data) * b.data + a.data + 4, rtol=1e-12
    )
    result.backward(np.full((2, 3), 2.0))
    np.testing.assert_allclose(a.diff, 2 * (4 - b.data), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(b.diff, 2 * (1 - a.data - b.data), rtol=1e-12, atol=1e-12)
    device.use("cpu")


def test_one_blob_among_the_bottoms_again_and_again():
    x = Blob(draw(2, 3), needs_diff=True)
    Eltwise(operation="SUM", coeff=[1, 10, 100])(x, x, x).backward()
    np.testing.assert_allclose(x.diff, np.full((2, 3), 111.0))


def test_blobs_of_other_shapes_or_things_do_not_add():
    with pytest.raises(InputError, match=r"layer Eltwise\(operation='SUM'\): bottoms must have one shape"):
        Blob(draw(2, 3)) + Blob(draw(3, 2))
    with pytest.raises(TypeError, match="unsupported operand"):
        Blob(draw(2)) + "text"


# Layers


def test_signatures_name_what_a_layer_takes():
    parameters = inspect.signature(Convolution).parameters
    assert {"num_output", "kernel_size", "stride", "pad", "dilation", "group", "weight_filler"} <= set(
        parameters
    )
    assert parameters["bias_term"].default is True and parameters["phase"].default == "TRAIN"
    assert inspect.signature(Pooling).parameters["pool"].default == "MAX"
    for name, layer in layers.LAYERS.items():
        assert "phase" in inspect.signature(layer).parameters, name
    with pytest.raises(
        TypeError, match="Convolution has no parameter 'kernel_sise'; did you mean 'kernel_size'?"
    ):
        Convolution(kernel_sise=3)


def test_layers_train_unless_told_otherwise():
    ones = Blob(np.ones((1, 1000)))
    assert set(np.unique(Dropout()(ones).data)) == {0.0, 2.0}
    dropout = Dropout()
    dropout.phase = "TEST"
    np.testing.assert_array_equal(dropout(ones).data, ones.data)
    with pytest.raises(InputError, match="phase 'VALIDATION' is unknown"):
        dropout.phase = "VALIDATION"


def test_parameters_are_there_once_built():
    conv, again = Convolution(num_output=4, kernel_size=3, pad=1), InnerProduct(num_output=2)
    with pytest.raises(InputError, match=r"layer Convolution\(.*\): its parameters are not made yet"):
        fcnlite.parameters(conv)
    assert fcnlite.build(conv, ReLU(), Pooling(kernel_size=2, stride=2), again, shape=(1, 3, 8, 8)) == (1, 2)
    shapes = [blob.shape for blob in fcnlite.parameters(conv, again, conv)]
    assert shapes == [(4, 3, 3, 3), (4,), (2, 64), (2,)]


# Update rules


@pytest.mark.parametrize("kind", RULES)
def test_a_rule_on_the_tape_is_the_solver_in_a_net(kind):
    settings = {"momentum": 0.9} if kind in ("SGD", "Nesterov", "AdaDelta", "Adam") else {}
    fields = "".join(f" {name}: {value}" for name, value in settings.items())
    solver = fcnlite.get_solver(
        f'type: "{kind}" base_lr: 0.05 lr_policy: "fixed" weight_decay: 0.01 clip_gradients: 1 delta: 1e-6 {fields}'
        """ net_param {
            layer { name: "data" type: "Input" top: "x" top: "y"
                    input_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 } } }
            layer { name: "ip" type: "InnerProduct" bottom: "x" top: "z"
                    inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
            layer { name: "loss" type: "EuclideanLoss" bottom: "z" bottom: "y" top: "loss" } }"""
    )
    ip, loss_of = InnerProduct(num_output=2), EuclideanLoss()
    fcnlite.build(ip, shape=(4, 3))
    for mine, theirs in zip(ip.blobs, solver.net.params["ip"]):
        mine.data[...] = theirs.data
    options = {"lr": 0.05, "weight_decay": 0.01, "clip_gradients": 1.0} | settings
    if kind not in ("SGD", "Nesterov"):
        options["delta"] = 1e-6
    step = RULES[kind](fcnlite.parameters(ip), **options)
    for round_ in range(4):
        x, y = draw(4, 3, seed=round_), draw(4, 2, seed=100 + round_)
        solver.net.blobs["x"].data[...], solver.net.blobs["y"].data[...] = x, y
        solver.step(1)
        loss = loss_of(ip(Blob(x)), Blob(y))
        loss.backward()
        step()
        assert float(loss) == float(solver.loss)
    for mine, theirs in zip(ip.blobs, solver.net.params["ip"]):
        np.testing.assert_array_equal(mine.data, theirs.data)


def test_a_rule_refuses_what_it_cannot_mean():
    parameter = [Blob(draw(3), needs_diff=True)]
    with pytest.raises(InputError, match="regularization_type 'L3' is unknown"):
        fcnlite.SGD(parameter, regularization_type="L3")()
    with pytest.raises(InputError, match="momentum 1 must be at least 0 and less than 1"):
        fcnlite.Adam(parameter, momentum=1.0)()


# Kernels and layers from outside


@pytest.fixture
def mish_layer():
    """A layer type of a user's own, known for the length of a test."""

    class Mish(fcnlite.Layer):
        def reshape(self, bottom, top):
            top[0].reshape(*bottom[0].shape)

        def forward(self, bottom, top):
            layers.launch.launch_flat("mish_forward", bottom[0].count, bottom[0].data, top[0].new_data())

    yield fcnlite.register(Mish)
    del layers.LAYERS["Mish"]


def mish(x):
    return x * np.tanh(np.log1p(np.exp(x)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_kernel_from_outside_runs_on_both_machines(tmp_path, monkeypatch, mish_layer, dtype):
    (tmp_path / "mish.cu").write_text(MISH)
    assert fcnlite.register_kernels(tmp_path / "mish.cu") == ["mish_forward"]
    x = draw(3, 1500)
    device.use("cpu", dtype)
    assert cases.relative_error(mish_layer()(Blob(x)).data, mish(x.astype(dtype))) < 1e-6
    net = Net(
        """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 3 dim: 1500 } } }
           layer { name: "m" type: "Mish" bottom: "x" top: "y" }"""
    )
    assert cases.relative_error(net.forward(x=x)["y"], mish(x.astype(dtype))) < 1e-6
    with standing_in(monkeypatch):
        device.use("cuda", dtype)
        assert cases.relative_error(mish_layer()(Blob(x)).data, mish(x.astype(dtype))) < 1e-6
    device.use("cpu")


def test_a_file_registered_again_replaces_its_kernels(tmp_path, mish_layer):
    device.use("cpu")
    x = draw(2000)
    for factor in (2, 3):
        body = MISH.replace("a[i] * tanh_real(log1p_real(exp_real(a[i])))", f"{factor} * a[i]")
        (tmp_path / "mish.cu").write_text(body)
        fcnlite.register_kernels(tmp_path / "mish.cu")
        np.testing.assert_array_equal(mish_layer()(Blob(x)).data, factor * x)


def test_files_that_are_no_kernels_are_told(tmp_path):
    def fails(text, words, error=InputError):
        path = tmp_path / "k.cu"
        path.write_text(text)
        with pytest.raises(error, match=words):
            fcnlite.register_kernels(path)

    fails("int main() {}", "k.cu: no kernel in it; one begins `KERNEL")
    fails("KERNEL relu_forward(ROWS, int width) {}", "k.cu: fcnlite has a kernel relu_forward of its own")
    fails("KERNEL k(ROWS, int width, long n) {}", "k.cu: kernel k, parameter n: type 'long'")
    with pytest.raises(FileNotFoundError, match="no such file of kernels"):
        fcnlite.register_kernels(tmp_path / "none.cu")
    with pytest.raises(KeyError, match="no kernel relu_foward; did you mean 'relu_forward'"):
        device.current().launch("relu_foward", 1, 1)
