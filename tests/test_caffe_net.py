"""pycaffe's Net on the CPU and on the stand-in GPU: construction, blobs as NumPy arrays, passes, weights."""

from collections import OrderedDict

import numpy as np
import pytest
from cupy_standin import standing_in

import fcnlite.caffe as caffe
import fcnlite.io
from fcnlite import device
from fcnlite.errors import InputError

SMALL = """
name: "small" force_backward: true
layer { name: "in" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 4 dim: 2 dim: 5 dim: 6 } shape { dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 3 kernel_size: 3 weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" loss_weight: 2 }
"""


@pytest.fixture(params=["cpu", "cuda"])
def machine(request, monkeypatch):
    if request.param == "cpu":
        monkeypatch.setattr(device, "_current", None)
        caffe.set_mode_cpu()
        yield "cpu"
        return
    with standing_in(monkeypatch):
        caffe.set_mode_gpu()
        assert device.current().name == "cuda:0"
        yield "cuda:0"


@pytest.fixture
def small(tmp_path, machine):
    path = tmp_path / "small.prototxt"
    path.write_text(SMALL)
    return path


@pytest.fixture
def net(small):
    caffe.set_random_seed(7)
    net = caffe.Net(str(small), caffe.TRAIN)
    rng = np.random.default_rng(3)
    net.blobs["data"].data[...] = rng.normal(size=(4, 2, 5, 6))
    net.blobs["label"].data[...] = [0, 4, 2, 2]
    return net


def loss_by_hand(net):
    x, w, b = (net.blobs["data"].data, *(blob.data for blob in net.params["conv"]))
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), (3, 3), axis=(2, 3))
    conv = np.maximum(np.einsum("nchwyx,ocyx->nohw", windows, w) + b[:, None, None], 0)
    scores = conv.reshape(4, -1) @ net.params["ip"][0].data.T.astype(np.float64) + net.params["ip"][1].data
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return -np.log(p[np.arange(4), net.blobs["label"].data.astype(int)]).mean(), p


def test_forward_gives_what_the_arrays_say(net):
    out = net.forward()
    loss, p = loss_by_hand(net)
    assert set(out) == {"loss", "prob"} and out["loss"].shape == ()
    assert all(type(array) is np.ndarray for array in out.values())
    np.testing.assert_allclose(out["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(out["prob"], p, rtol=1e-5, atol=1e-6)


def test_arrays_written_to_are_what_the_net_computes_with(net):
    before = float(net.forward()["loss"])
    net.params["ip"][0].data[...] = 0
    net.params["ip"][1].data.flat = [1, 0, 0, 0, 0]
    assert float(net.forward()["loss"]) != before
    loss, _ = loss_by_hand(net)
    np.testing.assert_allclose(net.blobs["loss"].data, loss, rtol=1e-5)
    net.blobs["data"].data[2:] *= -3
    net.forward()
    np.testing.assert_allclose(net.blobs["loss"].data, loss_by_hand(net)[0], rtol=1e-5)


def test_an_array_held_on_to_shows_new_results_after_a_look_at_the_blob(net):
    held = net.blobs["prob"].data
    net.forward()
    assert net.blobs["prob"].data is held
    np.testing.assert_allclose(held.sum(axis=1), 1, rtol=1e-5)


def test_inputs_by_keyword_must_be_all_and_of_the_blobs_shapes(net):
    rng = np.random.default_rng(9)
    data, labels = rng.normal(size=(4, 2, 5, 6)), np.array([1, 1, 3, 0])
    out = net.forward(data=data, label=labels)
    np.testing.assert_array_equal(net.blobs["data"].data, data.astype(np.float32))
    np.testing.assert_allclose(out["loss"], loss_by_hand(net)[0], rtol=1e-5)
    with pytest.raises(
        InputError, match="give all input blobs of the net or none: they are data, label, given are data"
    ):
        net.forward(data=data)
    with pytest.raises(
        InputError, match=r"array for input 'label' has shape \(3,\), the blob \(4,\); reshape first"
    ):
        net.forward(data=data, label=labels[:3])


def test_parts_of_the_net_run_by_layer_name(net):
    net.forward()
    whole = net.blobs["prob"].data.copy()
    net.blobs["conv"].data[...] += 1
    out = net.forward(start="ip", end="prob", blobs=["conv"])
    assert set(out) == {"prob", "conv"}
    assert not np.allclose(out["prob"], whole)
    assert set(net.forward(end="conv")) == {"conv"}
    net.blobs["ip"].diff[...] = np.arange(20).reshape(4, 5)
    back = net.backward(start="ip", end="ip", diffs=["ip"])
    assert set(back) == {"conv", "ip"}
    expected = np.arange(20).reshape(4, 5) @ net.params["ip"][0].data
    np.testing.assert_allclose(back["conv"].reshape(4, -1), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match="no layer 'nothing'"):
        net.forward(start="nothing")


def test_backward_is_the_slope_of_the_loss_and_adds_up_over_passes(net):
    net.forward()
    net.clear_param_diffs()
    net.backward()
    once = net.params["ip"][1].diff.copy()
    _, p = loss_by_hand(net)
    # The mean over four samples, times the loss_weight of 2.
    onehot = np.eye(5)[net.blobs["label"].data.astype(int)]
    np.testing.assert_allclose(once, 2 * (p - onehot).mean(axis=0), rtol=1e-5, atol=1e-6)
    net.backward()
    np.testing.assert_allclose(net.params["ip"][1].diff, 2 * once, rtol=1e-5)
    net.clear_param_diffs()
    assert not net.params["ip"][1].diff.any()
    assert net.blobs["data"].diff.any()  # forced backward


def test_the_loss_diff_is_the_loss_weight_until_it_is_written_to(net):
    assert float(net.blobs["loss"].diff) == 2
    net.forward()
    net.backward()
    first = net.blobs["data"].diff.copy()
    net.blobs["loss"].diff[...] = 6
    net.backward()
    np.testing.assert_allclose(net.blobs["data"].diff, 3 * first, rtol=1e-5, atol=1e-6)
    net.backward(loss=np.float32(2), prob=np.zeros((4, 5)))
    np.testing.assert_allclose(net.blobs["data"].diff, first, rtol=1e-5, atol=1e-6)


def test_names_layers_and_weights_are_where_pycaffe_has_them(net):
    layers = ["in", "conv", "relu", "ip", "ip_ip_0_split", "prob", "loss"]
    assert list(net._layer_names) == layers == list(net.layer_dict)
    assert [layer.type for layer in net.layers] == [
        "Input", "Convolution", "ReLU", "InnerProduct", "Split", "Softmax", "SoftmaxWithLoss",
    ]  # fmt: skip
    assert (net.inputs, net.outputs) == (["data", "label"], ["loss", "prob"])
    assert isinstance(net.top_names, OrderedDict)
    assert net.top_names["ip_ip_0_split"] == ["ip_ip_0_split_0", "ip_ip_0_split_1"]
    assert net.bottom_names["loss"] == ["ip_ip_0_split_1", "label"]
    blobs = ["data", "label", "conv", "ip", "ip_ip_0_split_0", "ip_ip_0_split_1", "prob", "loss"]
    assert list(net.blobs) == blobs
    assert net.blob_loss_weights == OrderedDict(zip(blobs, [0, 0, 0, 0, 0, 0, 0, 2]))
    assert net._inputs == [0, 1] and net._outputs == [7, 6]
    assert net._top_ids(3) == [3] and net._bottom_ids(6) == [5, 1]
    assert [len(blobs) for blobs in net.params.values()] == [2, 2]
    assert net.layers[1].blobs[0].shape == net.params["conv"][0].shape == (3, 2, 3, 3)
    blob = net.blobs["data"]
    assert (blob.num, blob.channels, blob.height, blob.width, blob.count) == (4, 2, 5, 6, 240)
    with pytest.raises(AttributeError):
        blob.data = np.zeros(3)


def test_reshaping_an_input_reshapes_the_net(net):
    net.blobs["data"].reshape(1, 2, 5, 6)
    net.blobs["label"].reshape(1)
    net.reshape()
    assert net.blobs["prob"].shape == (1, 5)
    net.blobs["data"].data[...] = 1
    net.blobs["label"].data[...] = 3
    assert net.forward()["prob"].shape == (1, 5)


@pytest.mark.parametrize("shape", [(1, -1, 5, 6), ((1, 2, 5, 6),), ("1x2",)])
def test_what_is_no_shape_is_refused(net, shape):
    with pytest.raises(InputError, match="^a blob cannot be shaped by .*; give the size of every axis"):
        net.blobs["data"].reshape(*shape)
    with pytest.raises(InputError, match="^a blob cannot be shaped by"):
        net.params["conv"].add_blob(*shape)
    assert net.blobs["data"].shape == (4, 2, 5, 6) and len(net.params["conv"]) == 2


def test_every_form_of_constructor(small, net, tmp_path):
    weights = str(tmp_path / "small.caffemodel")
    net.save(weights)
    for made in (
        caffe.Net(str(small), weights, caffe.TEST),
        caffe.Net(str(small), caffe.TEST, weights=weights),
        caffe.Net(str(small), phase=caffe.TEST, weights=weights),
        caffe.Net(str(small), caffe.TEST, 0, None, weights),
        caffe.Net(small, caffe.TEST, level=1, stages=["x"], weights=weights),
    ):
        np.testing.assert_array_equal(made.params["conv"][0].data, net.params["conv"][0].data)
    for arguments, named in (
        ((), {}),
        ((weights,), {}),
        ((0, 0, None, None, 1), {}),
        ((0,), {"phase": 1}),
        ((0,), {"x": 1}),
    ):
        with pytest.raises(TypeError):
            caffe.Net(str(small), *arguments, **named)
    with pytest.raises(FileNotFoundError, match="nowhere.prototxt"):
        caffe.Net(str(tmp_path / "nowhere.prototxt"), caffe.TEST)


def test_levels_and_stages_choose_layers(tmp_path, machine):
    text = 'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 2 } } }\n'
    rules = {
        "plain": "",
        "deep": "include { min_level: 1 }",
        "a": 'include { stage: "a" }',
        "not_a": 'exclude { stage: "a" }',
    }
    for name, rule in rules.items():
        text += f'layer {{ name: "{name}" type: "ReLU" bottom: "d" top: "{name}" {rule} }}\n'
    path = tmp_path / "net.prototxt"
    path.write_text(text)

    def outputs(**named):
        return set(caffe.Net(str(path), caffe.TEST, **named).outputs)

    assert outputs() == {"plain", "not_a"}
    assert outputs(level=1) == {"plain", "deep", "not_a"}
    assert outputs(stages=["a", "b"]) == {"plain", "a"}
    path.write_text('state { stage: "a" }\n' + text)
    assert outputs() == {"plain", "a"}


def test_weights_go_out_and_in_under_any_name(net, small, tmp_path):
    other = caffe.Net(str(small), caffe.TRAIN)
    for save, load, path in (
        (net.save, other.copy_from, "binary"),
        (net.save_hdf5, other.load_hdf5, "hierarchical"),
        (net.save_hdf5, other.copy_from, "weights.caffemodel.h5"),
    ):
        held = other.params["ip"][0].data
        held[...] = 0
        save(str(tmp_path / path))
        load(str(tmp_path / path))
        for name, blobs in net.params.items():
            for mine, theirs in zip(blobs, other.params[name]):
                np.testing.assert_array_equal(mine.data, theirs.data)
        assert other.params["ip"][0].data is held
    assert [name for name, _ in fcnlite.io.iter_weights(tmp_path / "binary")] == list(net._layer_names)


def test_shared_parameters_change_together(net, small, tmp_path):
    other = caffe.Net(str(small), caffe.TEST)
    other.share_with(net)
    net.params["conv"][0].data[...] = 0.25
    np.testing.assert_array_equal(other.params["conv"][0].data, net.params["conv"][0].data)
    net.save(str(tmp_path / "w"))
    other.params["conv"][0].data[...] = 0
    net.copy_from(str(tmp_path / "w"))  # what was copied in is seen by both, too
    assert (other.params["conv"][0].data == 0.25).all()


def test_any_number_of_inputs_runs_in_batches(net):
    rng = np.random.default_rng(12)
    data, labels = (
        rng.normal(size=(10, 2, 5, 6)).astype(np.float32),
        rng.integers(0, 5, 10).astype(np.float32),
    )
    out = net.forward_all(data=data, label=labels, blobs=["ip"])
    assert out["prob"].shape == (10, 5) and out["ip"].shape == (10, 5)
    for i in (0, 5, 9):
        single = net.forward(data=data[[i] * 4], label=labels[[i] * 4])["prob"][0]
        np.testing.assert_allclose(out["prob"][i], single, rtol=1e-5, atol=1e-6)
    diffs = {"loss": np.full(3, 2.0), "prob": np.zeros((10, 5))}
    with pytest.raises(InputError, match="array for output 'loss'"):
        net.forward_backward_all(data=data, label=labels, **diffs)
    outs, backs = net.forward_backward_all(data=data, label=labels, blobs=["ip"], diffs=["conv"])
    np.testing.assert_allclose(outs["ip"], out["ip"], rtol=1e-6)
    assert backs["data"].shape == (10, 2, 5, 6) and backs["conv"].shape[0] == 10


def test_memory_data_nets_take_arrays(tmp_path, machine):
    path = tmp_path / "net.prototxt"
    path.write_text(
        'layer { name: "d" type: "MemoryData" top: "data" top: "label"'
        " memory_data_param { batch_size: 2 channels: 1 height: 3 width: 2 } }"
        'layer { name: "abs" type: "AbsVal" bottom: "data" top: "abs" }'
    )
    net = caffe.Net(str(path), caffe.TEST)
    data, labels = np.arange(24, dtype=np.float32).reshape(4, 1, 3, 2) - 9, np.arange(4, dtype=np.float32)
    net.set_input_arrays(data, labels)
    for start in (0, 2, 0):
        out = net.forward(blobs=["label"])
        np.testing.assert_array_equal(out["abs"], np.abs(data[start : start + 2]))
        np.testing.assert_array_equal(out["label"].ravel(), labels[start : start + 2])


def test_only_memory_data_takes_arrays(net):
    with pytest.raises(InputError, match="first layer is MemoryData"):
        net.set_input_arrays(np.zeros((4, 2, 5, 6), np.float32), np.zeros(4, np.float32))


def test_hooks_are_called_around_each_layer(net):
    calls = []
    for when in ("before_forward", "after_forward", "before_backward", "after_backward"):
        getattr(net, when)(lambda layer, when=when: calls.append((when, layer)))
    net.forward(start="conv", end="relu")
    net.backward(start="relu", end="conv")
    assert calls == [
        ("before_forward", 1), ("after_forward", 1), ("before_forward", 2), ("after_forward", 2),
        ("before_backward", 2), ("after_backward", 2), ("before_backward", 1), ("after_backward", 1),
    ]  # fmt: skip
    net.after_forward(lambda layer: net.blobs["ip"].data.fill(1) if layer == 3 else None)
    np.testing.assert_allclose(net.forward()["prob"], 0.2, rtol=1e-6)


def test_blobs_outlive_their_net(net):
    blobs, params = list(net.blobs.values()), [blob for blobs in net.params.values() for blob in blobs]
    net.forward()
    del net
    assert all(np.isfinite(blob.data).all() and np.isfinite(blob.diff).all() for blob in blobs + params)


def test_nets_stay_on_the_device_they_were_made_on(net, machine):
    before = {name: array.copy() for name, array in net.forward().items()}
    caffe.set_mode_cpu()
    assert device.current().name == "cpu"
    blob = net.layers[1].blobs[0]
    blob.data[...] *= 2
    net.forward()
    blob.data[...] /= 2
    for name, array in net.forward().items():
        np.testing.assert_array_equal(array, before[name])
    assert net._backend.name == machine
