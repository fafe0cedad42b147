"""Shapes and costs read off a net's description, against real arrays and the paper."""

import pytest

from fcnlite import geometry, models, proto
from fcnlite.errors import InputError
from fcnlite.net import Net
from fcnlite.netspec import NetSpec
from fcnlite.netspec import layers as L


def test_shapes_and_counts_are_those_of_a_net_that_was_built():
    param = models.fcn8s_atonce(classes=5, width=2, size=(41, 33))
    net = Net(param, "TRAIN")
    measured = geometry.measure(param, phase=proto.TRAIN)
    for layer in measured:
        assert list(layer.shapes) == [net.blobs[name].shape for name in layer.tops], layer.name
        shapes = [blob.shape for blob in net.params.get(layer.name, [])]
        assert [parameter.shape for parameter in layer.parameters] == shapes, layer.name
    learned = sum(p.blob.count for p in net.learnable_params if p.lr_mult)
    fixed = sum(p.blob.count for p in net.learnable_params if not p.lr_mult)
    total = geometry.properties(measured)
    assert (total.parameters, total.fixed) == (learned, fixed)
    assert total.parameter_bytes == 4 * (learned + fixed)


def test_size_replaces_every_input_map():
    measured = {layer.name: layer for layer in geometry.measure(models.fcn32s(width=1), (70, 90))}
    assert measured["data"].shapes == ((1, 3, 70, 90),)
    assert measured["label"].shapes == ((1, 1, 70, 90),)
    assert measured["score"].shapes == ((1, 21, 70, 90),)


# Table 1: the classifiers, with as many outputs as VOC has classes.
TABLE1 = [
    ("caffenet", 8, 57, 355, 32),
    ("alexnet", 8, 57, 355, 32),
    ("vgg16", 16, 134, 404, 32),
    ("googlenet", 22, 6, 907, 32),
]


@pytest.mark.parametrize(("name", "conv_layers", "millions", "receptive_field", "stride"), TABLE1)
def test_table_1_of_the_paper(name, conv_layers, millions, receptive_field, stride):
    got = geometry.properties(geometry.measure(models.build(name, classes=21)))
    assert got.conv_layers == conv_layers
    assert round(got.parameters / 1e6) == millions
    assert (got.receptive_field, got.max_stride) == (receptive_field, stride)


@pytest.mark.parametrize(
    ("name", "conv_layers", "millions", "receptive_field"),
    [
        ("fcn-alexnet", 8, 57, 355),
        ("fcn32s", 16, 134, 404),
        ("fcn16s", 16, 134, 404),
        ("fcn8s", 16, 134, 404),
        ("fcn-googlenet", 22, 6, 715),  # 907 less the average pooling, which is left out
    ],
)
def test_fully_convolutional_nets_have_their_classifiers_properties(
    name, conv_layers, millions, receptive_field
):
    got = geometry.properties(geometry.measure(models.build(name)))
    assert (got.conv_layers, got.receptive_field, got.max_stride) == (conv_layers, receptive_field, 32)
    assert round(got.parameters / 1e6) == millions


def test_multiply_adds_are_weights_times_positions():
    n = NetSpec()
    n.data = L.Input(shape={"dim": [2, 4, 9, 9]})
    n.conv = L.Convolution(n.data, num_output=6, kernel_size=3, group=2)
    n.up = L.Deconvolution(n.conv, num_output=3, kernel_size=4, stride=2, group=3)
    n.relu = L.ReLU(n.up)
    conv, up, relu = geometry.measure(n.to_proto())[1:]
    assert conv.macs == 2 * 7 * 7 * (6 * 2 * 3 * 3)
    assert up.macs == 2 * 7 * 7 * (6 * 1 * 4 * 4)
    assert relu.macs == 0


@pytest.mark.parametrize("transpose", [False, True])
def test_an_inner_product_multiplies_each_sample_by_each_weight(transpose):
    n = NetSpec()
    n.data = L.Input(shape={"dim": [5, 4, 9]})
    n.fc = L.InnerProduct(n.data, num_output=6, transpose=transpose)
    n.each = L.InnerProduct(n.data, num_output=6, axis=2, transpose=transpose)
    assert [layer.macs for layer in geometry.measure(n.to_proto())[1:]] == [5 * 36 * 6, 5 * 4 * 9 * 6]


def test_memory_counts_in_place_layers_once_and_frees_what_was_read():
    n = NetSpec()
    n.data = L.Input(shape={"dim": [1, 1, 10, 10]})
    n.a = L.Convolution(n.data, num_output=2, kernel_size=1)
    n.relu = L.ReLU(n.a, in_place=True)
    n.b = L.Convolution(n.relu, num_output=3, kernel_size=1)
    n.c = L.Convolution(n.b, num_output=1, kernel_size=1)
    total = geometry.properties(geometry.measure(n.to_proto()))
    assert total.blob_bytes == 4 * 100 * (1 + 2 + 3 + 1)
    assert total.peak_bytes == 4 * 100 * (2 + 3)


def test_shared_parameters_count_once():
    n = NetSpec()
    n.data = L.Input(shape={"dim": [1, 2, 10, 10]})
    shared = [{"name": "w"}, {"name": "b", "lr_mult": 0}]
    n.a = L.Convolution(n.data, num_output=2, kernel_size=3, param=shared)
    n.b = L.Convolution(n.a, num_output=2, kernel_size=3, param=shared)
    measured = geometry.measure(n.to_proto())
    total = geometry.properties(measured)
    assert (total.parameters, total.fixed) == (36, 2)
    assert measured[2].macs == 36 * 36


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            'layer { name: "a" type: "ReLU" bottom: "x" top: "a" }',
            "layer 'a' (ReLU): no layer before it writes",
        ),
        ('layer { name: "a" type: "Python" top: "a" }', "layer 'a' (Python): it does not say how large"),
        (
            'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 dim: 1 dim: 4 dim: 4 } } }'
            'layer { name: "c" type: "Convolution" bottom: "d" top: "c"'
            " convolution_param { num_output: 1 kernel_size: 7 } }",
            "layer 'c'",
        ),
    ],
)
def test_nets_that_cannot_be_measured_say_where(text, told):
    with pytest.raises(InputError, match=told.replace("(", r"\(").replace(")", r"\)")):
        geometry.measure(proto.parse_net(text, "net"))


def test_data_layers_take_the_size_given():
    text = """layer { name: "data" type: "Python" top: "data" top: "label"
                python_param { module: "m" layer: "l" } }
        layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
                convolution_param { num_output: 2 kernel_size: 3 pad: 1 } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "conv" bottom: "label" top: "loss" }"""
    data, conv, loss = geometry.measure(proto.parse_net(text, "net"), (20, 30))
    assert data.shapes == ((1, 3, 20, 30), (1, 1, 20, 30))
    assert conv.shapes == ((1, 2, 20, 30),) and conv.field.size == (3, 3)
    assert loss.field is None
