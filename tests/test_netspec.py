"""The language for writing nets: what each construct becomes in the NetParameter, as in pycaffe."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcnlite import netspec, proto
from fcnlite.errors import InputError
from fcnlite.netspec import NetSpec
from fcnlite.netspec import layers as L
from fcnlite.netspec import params as P
from fcnlite.proto.fields import param_name_dict


def parsed(text):
    return proto.parse_net(text, "expected")


def test_a_spec_becomes_the_prototxt_one_would_write():
    n = NetSpec()
    n.data, n.label = L.DummyData(
        shape=[{"dim": [2, 1, 8, 8]}, {"dim": [2]}], ntop=2, transform_param={"scale": 0.5}
    )
    n.conv1 = L.Convolution(
        n.data,
        kernel_size=3,
        num_output=4,
        weight_filler={"type": "xavier"},
        param=[{"lr_mult": 1}, {"lr_mult": 2}],
    )
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.pool1 = L.Pooling(n.relu1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.up = L.Deconvolution(n.pool1, convolution_param={"num_output": 4, "kernel_size": 4, "stride": 2})
    n.sum = L.Eltwise(n.up, n.up, operation=P.Eltwise.SUM, coeff=[0.5, 0.5])
    n.loss = L.SoftmaxWithLoss(n.sum, n.label, loss_weight=0.25, loss_param={"ignore_label": 255})
    expected = parsed(
        """
        layer { name: "data" type: "DummyData" top: "data" top: "label" transform_param { scale: 0.5 }
                dummy_data_param { shape { dim: 2 dim: 1 dim: 8 dim: 8 } shape { dim: 2 } } }
        layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
                param { lr_mult: 1 } param { lr_mult: 2 }
                convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
        layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
        layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
                pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
        layer { name: "up" type: "Deconvolution" bottom: "pool1" top: "up"
                convolution_param { num_output: 4 kernel_size: 4 stride: 2 } }
        layer { name: "sum" type: "Eltwise" bottom: "up" bottom: "up" top: "sum"
                eltwise_param { operation: SUM coeff: 0.5 coeff: 0.5 } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "sum" bottom: "label" top: "loss"
                loss_weight: 0.25 loss_param { ignore_label: 255 } }
        """
    )
    assert n.to_proto() == expected


def test_layers_that_no_name_was_given_are_named_by_type_and_number():
    data, label = L.DummyData(ntop=2)
    one = L.Convolution(data, kernel_size=1, num_output=2)
    two = L.Convolution(L.ReLU(one, in_place=True), kernel_size=1, num_output=2)
    net = L.EuclideanLoss(two, label).to_proto()
    assert [(layer.name, list(layer.top)) for layer in net.layer] == [
        ("DummyData1", ["DummyData1", "DummyData2"]),
        ("Convolution1", ["Convolution1"]),
        ("ReLU1", ["Convolution1"]),
        ("Convolution2", ["Convolution2"]),
        ("EuclideanLoss1", ["EuclideanLoss1"]),
    ]
    assert netspec.to_proto(one, two).layer[-1].name == "Convolution2"


def test_layers_without_tops_are_kept_under_their_name():
    n = NetSpec()
    n.data, n.other = L.DummyData(shape={"dim": 3}, ntop=2)
    n.silence_data = L.Silence(n.data, ntop=0)
    n.silence_other = L.Silence(n.other, ntop=0)
    net = n.to_proto()
    assert [layer.name for layer in net.layer] == ["data", "silence_data", "silence_other"]
    assert not net.layer[1].top and list(net.layer[1].bottom) == ["data"]
    assert [list(shape.dim) for shape in net.layer[0].dummy_data_param.shape] == [[3]]


def test_python_layers_carry_module_layer_and_param_str():
    n = NetSpec()
    n.data, n.label = L.Python(
        module="voc_layers", layer="VOCSegDataLayer", ntop=2, param_str=str({"split": "train", "seed": 1337})
    )
    layer = n.to_proto().layer[0]
    assert layer.type == "Python" and list(layer.top) == ["data", "label"]
    assert layer.python_param.module == "voc_layers" and layer.python_param.layer == "VOCSegDataLayer"
    assert layer.python_param.param_str == "{'split': 'train', 'seed': 1337}"


def test_general_fields_and_rules_go_to_the_layer_itself():
    n = NetSpec()
    n.data = L.Input(shape={"dim": [1]}, include={"phase": proto.TEST})
    n.exp = L.Exp(n.data, base=2, propagate_down=[False])
    net = n.to_proto()
    assert net.layer[0].include[0].phase == proto.TEST
    assert net.layer[1].exp_param.base == 2 and list(net.layer[1].propagate_down) == [False]


def test_a_spec_holds_its_tops_by_attribute_and_item_in_order():
    n = NetSpec()
    n["inception_3a/1x1"] = L.Input(shape={"dim": [1]})
    n.second = L.ReLU(n["inception_3a/1x1"])
    assert list(n.tops) == ["inception_3a/1x1", "second"] and n.second is n["second"]
    with pytest.raises(KeyError):
        _ = n.missing
    assert copy.copy(n).tops is n.tops


def test_an_input_that_is_no_top_is_a_type_error():
    data = L.DummyData(ntop=2)
    with pytest.raises(TypeError, match=r"^Silence input 0 is not a Top \(type is <class 'tuple'>\)$"):
        L.Silence(data, ntop=0)
    L.Silence(*data, ntop=0)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "kernel_siz",
            3,
            "layer 'conv' (Convolution) has no field 'kernel_siz'; did you mean 'kernel_size'?",
        ),
        ("kernel_size", "three", "layer 'conv' (Convolution), field 'kernel_size': cannot take 'three'"),
        ("weight_filler", {"kind": "msra"}, "layer 'conv' (Convolution), field 'weight_filler': "),
        ("pooling_param", {"pool": 17}, "layer 'conv' (Convolution), field 'pooling_param': cannot take"),
    ],
)
def test_wrong_fields_name_layer_and_field(field, value, message):
    n = NetSpec()
    n.conv = L.Convolution(L.Input(), **{field: value})
    with pytest.raises(InputError) as caught:
        n.to_proto()
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_unknown_fields_are_attribute_errors_too_as_in_pycaffe():
    with pytest.raises(AttributeError):
        L.Convolution(L.Input(), colour=1).to_proto()
    with pytest.raises(AttributeError, match="NoSuchParameter"):
        _ = P.NoSuch.MAX


def test_to_proto_leaves_the_spec_as_it_was():
    n = NetSpec()
    n.data = L.Input(shape={"dim": [1, 3, 4, 4]})
    n.pool = L.Pooling(n.data, kernel_size=2, ntop=1)
    assert n.to_proto() == n.to_proto()


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 5)), min_size=1, max_size=8))
def test_layers_follow_what_they_read_and_come_once(edges):
    """A random acyclic graph: every bottom is written by an earlier layer, every layer appears once."""
    n = NetSpec()
    tops = [L.Input(shape={"dim": [1]})]
    for _, back in edges:
        tops.append(L.Eltwise(tops[-1], tops[max(0, len(tops) - 1 - back)]))
    n.out = tops[-1]
    net = n.to_proto()
    written = set()
    for layer in net.layer:
        assert written.issuperset(layer.bottom)
        assert written.isdisjoint(layer.top)
        written.update(layer.top)
    assert len(net.layer) == len(edges) + 1 and net.layer[-1].name == "out"


def test_param_names_come_from_the_schema():
    names = param_name_dict()
    assert (
        names["InnerProduct"] == "inner_product"
        and names["LRN"] == "lrn"
        and names["HDF5Data"] == "hdf5_data"
    )
