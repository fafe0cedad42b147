"""Net: building, its pycaffe-like surface, memory on the way, and errors that say where."""

import numpy as np
import pytest
from commands import printed

import fcnlite.random
from fcnlite import device, models
from fcnlite.deploy import deploy
from fcnlite.errors import InputError
from fcnlite.net import Net

SMALL = """name: "small"
layer { name: "data" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 1 dim: 3 dim: 12 dim: 10 } shape { dim: 1 dim: 1 dim: 12 dim: 10 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "score" type: "Convolution" bottom: "conv" top: "score"
  param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: "msra" } } }
layer { name: "frozen" type: "Convolution" bottom: "conv" top: "frozen" param { lr_mult: 0 } param { lr_mult: 0 }
  convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: "msra" } } }
layer { name: "sum" type: "Eltwise" bottom: "score" bottom: "frozen" top: "sum" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "sum" bottom: "label" top: "loss"
  loss_param { ignore_label: 255 } }
"""


@pytest.fixture
def net():
    fcnlite.random.set_random_seed(5)
    return Net(SMALL, phase="TRAIN")


def inputs(height=12, width=10, seed=0):
    rng = np.random.default_rng(seed)
    data = rng.standard_normal((1, 3, height, width)).astype(np.float32)
    return {"data": data, "label": rng.integers(0, 3, (1, 1, height, width)).astype(np.float32)}


def test_surface(net):
    assert net.name == "small"
    assert net.inputs == ["data", "label"]
    assert net.outputs == ["loss"]
    assert list(net.params) == ["conv", "score", "frozen"]
    assert "conv_relu_0_split_1" in net.blobs
    assert net.blobs["data"].shape == (1, 3, 12, 10)
    assert [(p.layer, p.index, p.lr_mult, p.decay_mult) for p in net.learnable_params][2:4] == [
        ("score", 0, 1, 1),
        ("score", 1, 2, 0),
    ]


def test_forward_reshapes_to_its_inputs(net):
    out = net.forward(blobs=["sum"], **inputs(20, 17))
    assert set(out) == {"loss", "sum"}
    assert out["sum"].shape == (1, 3, 20, 17)
    assert net.blobs["data"].shape == (1, 3, 20, 17)


def test_part_of_a_net_runs(net):
    whole = net.forward(blobs=["score"], **inputs())["score"].copy()
    net.forward(end="relu")
    assert (net.blobs["conv"].data >= 0).all()
    out = net.forward(start=net.layers[3].name, end="score")
    np.testing.assert_array_equal(out["score"], whole)


def test_backward_reaches_only_what_learns(net):
    net.forward(**inputs())
    net.backward()
    assert net.params["score"][0].diff.any()
    assert net.params["conv"][0].diff.any()
    assert not net.params["frozen"][0].has_diff
    assert not net.blobs["data"].diff.any(), "no parameter lies behind the image"
    forced = Net("force_backward: true\n" + SMALL, phase="TRAIN")
    forced.forward(**inputs())
    assert forced.backward()["data"].any()
    assert forced.params["frozen"][0].diff.any()


def test_lean_pass_gives_the_same_gradients_and_frees_blobs(net):
    batch = inputs()
    net.forward(**batch)
    net.backward()
    expected = [p.blob.diff.copy() for p in net.learnable_params if p.blob.has_diff]
    net.clear_param_diffs()
    loss = net.forward_backward(**batch)
    assert float(loss) == float(net.blobs["loss"].data)
    for got, want in zip(
        [p.blob.diff for p in net.learnable_params if p.blob.has_diff], expected, strict=True
    ):
        np.testing.assert_array_equal(got, want)
    held = [name for name, blob in net.blobs.items() if blob.has_data or blob.has_diff]
    assert held == ["data", "label", "loss"]


def test_infer_frees_blobs_and_equals_forward(net):
    batch = inputs()
    expected = net.forward(blobs=["sum"], **batch)["sum"].copy()
    fresh = Net(SMALL, phase="TEST")
    fresh.share_with(net)
    np.testing.assert_array_equal(fresh.infer("sum", **batch), expected)
    assert [name for name, blob in fresh.blobs.items() if blob.has_data] == ["data", "label", "sum"]


def test_shared_parameters_are_one_blob():
    text = SMALL.replace(
        "param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }", 'param { name: "w" } param { name: "b" }'
    )
    text = text.replace(
        "param { lr_mult: 0 } param { lr_mult: 0 }", 'param { name: "w" } param { name: "b" }'
    )
    net = Net(text, phase="TRAIN")
    assert net.params["score"][0] is net.params["frozen"][0]
    assert len(net.learnable_params) == 4
    net.forward(**inputs())
    net.backward()
    both = net.params["score"][0].diff.copy()
    np.testing.assert_allclose(both, 2 * one_branch_gradient(net), rtol=1e-5)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("", "lr_mult: 3", (3, 1)),
        ("", "lr_mult: 0 decay_mult: 2", (0, 2)),
        ("lr_mult: 5", "decay_mult: 4", (5, 4)),
        ("lr_mult: 5", "lr_mult: 5", (5, 1)),
    ],
)
def test_a_shared_parameter_learns_as_whoever_says_so_first(first, second, expected):
    def build(first, second):
        text = SMALL.replace("param { lr_mult: 1 }", f'param {{ name: "w" {first} }}')
        return Net(text.replace("param { lr_mult: 0 }", f'param {{ name: "w" {second} }}', 1), phase="TRAIN")

    param = next(p for p in build(first, second).learnable_params if p.layer == "score")
    assert (param.lr_mult, param.decay_mult) == expected
    with pytest.raises(InputError, match="layer 'frozen'.*shared param 'w' has mismatched lr_mult"):
        build("lr_mult: 6", "lr_mult: 7")


def one_branch_gradient(net):
    """Gradient of the shared score weight through one of its two equal branches."""
    diff = net.blobs["sum"].diff.reshape(3, -1)
    return (diff @ net.blobs["conv"].data.reshape(4, -1).T).reshape(3, 4, 1, 1)


@pytest.mark.parametrize("ending", [".h5", ".caffemodel"])
def test_save_and_copy_keep_every_bit(net, tmp_path, ending):
    path = tmp_path / f"weights{ending}"
    net.save(path)
    other = Net(SMALL, phase="TEST", weights=path)
    for name, blobs in net.params.items():
        for a, b in zip(blobs, other.params[name], strict=True):
            np.testing.assert_array_equal(a.data, b.data)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_deploy_drops_losses_and_what_only_they_need():
    kept = deploy(models.build("fcn8s", classes=5, width=2))
    assert [t for layer in kept.layer if layer.type == "Input" for t in layer.top] == ["data"]
    assert "SoftmaxWithLoss" not in {layer.type for layer in kept.layer}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'type: "Eltwise"',
            'type: "Eltwize"',
            r"small.prototxt:12: layer 'sum': unknown type 'Eltwize'; did you mean 'Eltwise'\?",
        ),
        ('bottom: "frozen" top', 'bottom: "forzen" top', r"small.prototxt:12: .*forzen"),
        (
            "num_output: 4",
            "num_output: 0",
            r"small.prototxt:4: layer 'conv' \(Convolution\): num_output is missing or 0",
        ),
        ("kernel_size: 3 pad: 1", "kernel_size: 30", r"small.prototxt:4: layer 'conv'.*12 x 10 is too small"),
        ("kernel_size: 3 pad", "kernel_sise: 3 pad", r"small.prototxt:5: .*kernel_sise.*kernel_size"),
        (
            'type: "ReLU"',
            'type: "ArgMax"',
            r"small.prototxt:6: layer 'relu'.*top 'conv' is one of its bottoms: ArgMax",
        ),
        (
            'top: "loss"',
            'top: "loss" loss_weight: 1 loss_weight: 2',
            r"layer 'loss'.*2 loss_weight for 1 tops",
        ),
        ('type: "msra"', 'type: "mrsa"', r"small.prototxt:4: .*filler type 'mrsa'"),
    ],
)
def test_mistakes_name_file_line_and_layer(tmp_path, old, new, message):
    path = tmp_path / "small.prototxt"
    path.write_text(SMALL.replace(old, new))
    with pytest.raises(InputError, match=message):
        Net(path, phase="TRAIN")


def test_wrong_weights_and_inputs_are_told(net, tmp_path):
    net.save(tmp_path / "small.h5")
    wider = Net(SMALL.replace("num_output: 4", "num_output: 5"))
    with pytest.raises(
        InputError, match=r"small.h5: layer 'conv', parameter 0: shape \(4, 3, 3, 3\) there, \(5, 3, 3, 3\)"
    ):
        wider.copy_from(tmp_path / "small.h5")
    with pytest.raises(InputError, match="none of its layers"):
        net.copy_from({"elsewhere": [np.zeros(3)]})
    with pytest.raises(InputError, match="'image' is not an input of the net"):
        net.forward(image=np.zeros((1, 3, 4, 4)))
    with pytest.raises(InputError, match="input 'data' has shape"):
        net.forward(data=np.zeros((3, 4, 4)))
    with pytest.raises(InputError, match="no layer 'nothing'"):
        net.forward(end="nothing")


def test_prediction_peaks_far_below_keeping_everything():
    """FCN-32s at width 16 on 500 x 334: the pass that frees peaks at little more than its two largest blobs."""
    script = (
        "import sys, numpy as np\n"
        "from fcnlite import models, device; from fcnlite.net import Net\n"
        "device.use('cpu', threads=2)\n"
        "net = Net(models.build('fcn32s', width=16, fc=64, deploy=True))\n"
        "x = np.zeros((1, 3, 500, 334), np.float32); before = peak()\n"
        "net.infer(data=x) if sys.argv[1] == 'infer' else net.forward(data=x)\n"
        "print(peak() - before)"
    )
    used = [float(printed(script, how)) for how in ("infer", "forward")]
    two_largest = 2 * 16 * 698 * 532 * 4 / 2**20
    assert used[0] < two_largest + 30
    assert used[1] > 1.5 * used[0]


def test_device_arrays_are_float32_by_default(net):
    assert net.params["conv"][0].data.dtype == device.current().dtype == np.float32


def test_a_larger_input_gets_a_diff_of_its_own_size():
    fcnlite.random.set_random_seed(5)
    net = Net(f"force_backward: true {SMALL}", phase="TRAIN")
    for size in (12, 20, 9):
        net.forward(**inputs(size, size + 1))
        diff = net.backward()["data"]
        assert diff.shape == (1, 3, size, size + 1)
        np.testing.assert_array_equal(
            device.current().tonumpy(diff), _first_pass_diff(inputs(size, size + 1), net)
        )


def _first_pass_diff(given, like):
    """The gradient to the data in a net that has seen no other sizes."""
    net = Net(f"force_backward: true {SMALL}", phase="TRAIN")
    net.share_with(like)
    net.forward(**given)
    return device.current().tonumpy(net.backward()["data"])


def test_a_layer_keeps_a_phase_of_its_own():
    text = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 100 } } }
      layer { name: "off" type: "Dropout" bottom: "x" top: "off" phase: TEST }
      layer { name: "on" type: "Dropout" bottom: "x" top: "on" }"""
    net = Net(text, "TRAIN")
    out = net.forward(x=np.ones((1, 100)))
    assert (out["off"] == 1).all() and set(out["on"].ravel()) == {0, 2}
    assert not any(layer.HasField("phase") for layer in deploy(net.param).layer)


def test_an_unknown_phase_is_told():
    for phase in ("VALID", 3):
        with pytest.raises(InputError, match=f"phase {phase!r} is unknown; there are TRAIN"):
            Net(SMALL, phase=phase)


def test_arrays_given_stay_as_they_were():
    net = Net(
        """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 } } }
        layer { name: "double" type: "Power" bottom: "data" top: "data" power_param { scale: 2 } }
        force_backward: true"""
    )
    data, diff = np.ones((1, 2), np.float32), np.ones((1, 2), np.float32)
    assert float(net.forward(data=data)["data"].sum()) == 4
    assert float(net.backward(data=diff)["data"].sum()) == 4
    assert (data == 1).all() and (diff == 1).all()


def test_a_pass_without_inputs_goes_on_from_the_last(net):
    first = float(net.forward_backward(**inputs()))
    net.clear_param_diffs()
    assert float(net.forward_backward()) == first
    test = Net(SMALL, "TEST")
    score = device.current().tonumpy(test.infer("sum", **inputs())).copy()
    np.testing.assert_array_equal(device.current().tonumpy(test.infer("sum")), score)


@pytest.mark.parametrize("run", ["forward_backward", "backward"])
def test_a_loss_that_a_layer_reads_gets_that_layers_gradient(run):
    """Caffe's loss keeps its loss_weight as diff only until a reader's backward overwrites it."""
    net = Net(
        """layer { name: "in" type: "Input" top: "x" top: "t" input_param { shape { dim: 1 dim: 2 } } }
        layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 } }
        layer { name: "l" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "l" }
        layer { name: "p" type: "Power" bottom: "l" top: "p" power_param { scale: 2 } loss_weight: 3 }""",
        "TRAIN",
    )
    given = {"x": np.ones((1, 2)), "t": np.full((1, 2), 5)}
    if run == "forward_backward":
        assert float(net.forward_backward(**given)) == 25 + 3 * 2 * 25
    else:
        net.forward(**given)
        net.backward()
    assert device.current().tonumpy(net.params["fc"][1].diff).tolist() == [-30, -30]


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ("num_output: 2000000000 kernel_size: 20", InputError),
        ("num_output: 1 kernel_size: 1000000 pad: 1000000", InputError),
        ("num_output: 1 kernel_size: 1 pad: 2000000", InputError),
        ("num_output: 1 kernel_size: 1 stride: 4294967295", InputError),
        ("num_output: 3000000 kernel_size: 200", MemoryError),
    ],
)
def test_sizes_beyond_any_machine_name_the_layer(settings, error):
    text = f"""input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
        layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
          convolution_param {{ {settings} }} }}"""
    with pytest.raises(error, match="<text>:[23]: .*(layer 'conv'|'stride')"):
        Net(text)
