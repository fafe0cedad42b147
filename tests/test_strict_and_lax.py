"""Nets that Caffe builds are built and those that it refuses are refused, with its numbers where it computes."""

import numpy as np
import pytest
from cases import relative_error

from fcnlite import device
from fcnlite.errors import InputError, InputWarning, as_caffe
from fcnlite.net import Net

SHAPE = (2, 3, 5, 6)
INPUT = 'layer { name: "%s" type: "Input" top: "%s" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 6 } } }\n'
CONVOLUTION = "convolution_param { num_output: 3 kernel_size: %d pad: %d weight_filler { type: 'xavier' } }"


def inputs(*names):
    return "".join(INPUT % (name, name) for name in names)


def layer(kind, bottoms, top, extra="", name="unit"):
    given = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
    return f'layer {{ name: "{name}" type: "{kind}" {given} top: "{top}" {extra} }}\n'


def values(name, seed=0):
    return np.random.default_rng([seed, *name.encode()]).standard_normal(SHAPE).astype(np.float32)


def run(text, names, like=None):
    """Outputs, input gradients and parameter gradients of a net on fixed inputs and a fixed gradient."""
    net = Net("force_backward: true\n" + text, "TRAIN")
    if like is not None:
        for mine, theirs in zip(net.learnable_params, like.learnable_params, strict=True):
            mine.blob.data[...] = theirs.blob.data
    out = net.forward(**{name: values(name) for name in names})
    (top,) = out
    net.backward(**{top: values("gradient")})
    read = device.current().tonumpy
    return net, [
        read(net.blobs[top].data).copy(),
        *(read(net.blobs[name].diff).copy() for name in names),
        *(read(param.blob.diff).copy() for param in net.learnable_params),
    ]


AHEAD = 'layer { name: "s" type: "BNLL" bottom: "a" top: "t" }\n'  # whose gradient needs what it read alone


@pytest.mark.parametrize(
    ("kind", "others", "extra"),
    [
        ("LRN", [], "lrn_param { local_size: 3 alpha: 0.5 }"),
        ("LRN", [], "lrn_param { local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL }"),
        ("Eltwise", ["b"], "eltwise_param { operation: PROD }"),
        ("Eltwise", ["b", "c"], "eltwise_param { operation: PROD stable_prod_grad: false }"),
        ("Eltwise", ["b", "c"], "eltwise_param { operation: MAX }"),
        ("Convolution", [], CONVOLUTION % (3, 1)),
        ("Convolution", [], CONVOLUTION % (1, 0)),
        ("Deconvolution", [], CONVOLUTION % (3, 1)),
    ],
)
def test_in_place_gives_what_a_top_of_its_own_gives(kind, others, extra):
    begin = inputs("a", *others) + AHEAD
    apart, expected = run(begin + layer(kind, ["t", *others], "u", extra), ["a", *others])
    _, got = run(begin + layer(kind, ["t", *others], "t", extra), ["a", *others], like=apart)
    assert len(got) == len(expected)
    for mine, theirs in zip(got, expected, strict=True):
        assert relative_error(mine, theirs) <= 1e-6


def test_a_sum_in_place_is_refused_or_loses_its_first_bottom_as_in_caffe():
    text = inputs("a", "b") + AHEAD + layer("Eltwise", ["t", "b"], "t", "eltwise_param { coeff: 1 coeff: 2 }")
    with pytest.raises(InputError, match=r"'unit' \(Eltwise\): a sum in place loses bottom 0"):
        Net(text)
    with as_caffe(), pytest.warns(InputWarning, match="loses bottom 0"):
        net = Net(text)
    out = net.forward(a=values("a"), b=values("b"))["t"]
    assert relative_error(out, 2 * values("b")) <= 1e-6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            inputs("a") + layer("Convolution", ["a"], "a", CONVOLUTION % (3, 0)),
            r"in place it would make \(2, 3, 3, 4\)",
        ),
        (
            inputs("a") + layer("Pooling", ["a"], "a", "pooling_param { kernel_size: 1 }"),
            "does not work in place",
        ),
        (
            inputs("a", "b") + layer("Eltwise", ["a", "b"], "b", "eltwise_param { operation: PROD }"),
            "top 'b' is one of its bottoms: it is bottom 1; in place top 0 must be bottom 0",
        ),
        (
            inputs("a")
            + 'layer { name: "s" type: "Input" top: "s" input_param { shape { dim: 3 } } }\n'
            + layer("Scale", ["a", "s"], "s"),
            "'s' is one of its bottoms",
        ),
        (
            inputs("a")
            + layer("Pooling", ["a"], "p", "pooling_param { global_pooling: true kernel_size: 3 }"),
            "global_pooling takes the whole map for its window; take the kernel's size out",
        ),
        (
            inputs("a")
            + layer("Pooling", ["a"], "p", "pooling_param { global_pooling: true kernel_h: 3 kernel_w: 3 }"),
            "take the kernel's size out",
        ),
        (
            inputs("a")
            + layer(
                "Pooling", ["a"], "p", "pooling_param { kernel_size: 2 ceil_mode: false round_mode: CEIL }"
            ),
            "ceil_mode and round_mode contradict",
        ),
    ],
)
def test_refused_as_caffe_refuses(text, said):
    with pytest.raises(InputError, match=said):
        Net(text)


@pytest.mark.parametrize(("words", "shape"), [("", (2, 3, 3, 3)), ("ceil_mode: true", (2, 3, 3, 3)),
                                              ("ceil_mode: false", (2, 3, 2, 3))])  # fmt: skip
def test_ceil_mode_is_round_mode(words, shape):
    net = Net(
        inputs("a") + layer("Pooling", ["a"], "p", f"pooling_param {{ kernel_size: 2 stride: 2 {words} }}")
    )
    assert net.blobs["p"].shape == shape
    assert net.param.layer[1].pooling_param.HasField("ceil_mode") is False  # Caffe can read what is saved


def test_dropout_of_everything_copies_in_test_and_is_told_in_training():
    text = inputs("a") + layer("Dropout", ["a"], "d", "dropout_param { dropout_ratio: 1 }")
    assert np.array_equal(Net(text).forward(a=values("a"))["d"], values("a"))
    with pytest.raises(InputError, match="dropout_ratio 1 drops everything"):
        Net(text, "TRAIN")
    with as_caffe(), pytest.warns(InputWarning, match="Caffe makes NaN"):
        net = Net(text, "TRAIN")
    assert np.isnan(net.forward(a=values("a"))["d"]).all()


def shared(mode, outputs=5):
    spec = f'param {{ name: "w" share_mode: {mode} }} param {{ }}'
    return (
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 2 dim: 2 } } }\n'
        + layer("InnerProduct", ["data"], "x", spec + " inner_product_param { num_output: 5 }", name="x")
        + layer(
            "Convolution",
            ["data"],
            "y",
            f"{spec} convolution_param {{ num_output: {outputs} kernel_size: 2 }}",
            "y",
        )
    )


def test_parameters_of_one_count_are_shared_where_permitted():
    with pytest.raises(InputError, match="share_mode: PERMISSIVE asks only for equal counts"):
        Net(shared("STRICT"))
    with pytest.raises(InputError, match="they hold 48 and 60 numbers"):
        Net(shared("PERMISSIVE", outputs=4))
    net = Net(shared("PERMISSIVE"))
    weight = np.arange(60, dtype=np.float32).reshape(5, 12) / 60
    net.params["x"][0].data = device.current().asarray(weight)
    assert np.array_equal(device.current().tonumpy(net.params["y"][0].data), weight.reshape(5, 3, 2, 2))
    out = net.forward(data=np.ones((2, 3, 2, 2), np.float32))
    assert relative_error(out["x"].reshape(-1), out["y"].reshape(-1)) <= 1e-6


def test_a_shared_parameter_of_another_shape_is_trained_once():
    net = Net(shared("PERMISSIVE"), "TRAIN")
    net.forward(data=np.ones((2, 3, 2, 2), np.float32))
    net.backward(x=np.ones((2, 5), np.float32), y=np.ones((2, 5, 1, 1), np.float32))
    assert [(param.layer, param.index) for param in net.learnable_params] == [("x", 0), ("x", 1), ("y", 1)]
    assert np.allclose(device.current().tonumpy(net.params["x"][0].diff), 4)  # two images, through two layers
