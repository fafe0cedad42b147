"""What Caffe does to a net before building it (upgrades, rules, splits), and solver files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcnlite.errors import InputError
from fcnlite.io import read_definition
from fcnlite.proto import (
    TEST,
    TRAIN,
    NetParameter,
    NetState,
    filter_net,
    insert_splits,
    meets_rule,
    message_class,
    parse_net,
    read_solver,
    upgrade,
)

REFERENCE = Path(__file__).parent / "reference"

V1 = """
name: "old"
input: "data" input_dim: 1 input_dim: 3 input_dim: 224 input_dim: 225
layers { name: "d" type: DATA top: "x" data_param { source: "db" scale: 0.5 mean_file: "m" crop_size: 9
         mirror: true } include { phase: TRAIN } include { stage: "s" } }
layers { name: "ip" type: INNER_PRODUCT bottom: "data" top: "ip" blobs_lr: 1 blobs_lr: 2 weight_decay: 1
         weight_decay: 0 param: "w" blob_share_mode: PERMISSIVE inner_product_param { num_output: 4 } }
layers { name: "loss" type: SOFTMAX_LOSS bottom: "ip" bottom: "x" loss_weight: 3
         loss_param { ignore_label: 255 } }
"""

V1_TYPES = {
    "NONE": "", "ABSVAL": "AbsVal", "ACCURACY": "Accuracy", "ARGMAX": "ArgMax", "BNLL": "BNLL",
    "CONCAT": "Concat",
    "CONTRASTIVE_LOSS": "ContrastiveLoss", "CONVOLUTION": "Convolution", "DATA": "Data",
    "DECONVOLUTION": "Deconvolution", "DROPOUT": "Dropout", "DUMMY_DATA": "DummyData",
    "EUCLIDEAN_LOSS": "EuclideanLoss", "ELTWISE": "Eltwise", "EXP": "Exp", "FLATTEN": "Flatten",
    "HDF5_DATA": "HDF5Data", "HDF5_OUTPUT": "HDF5Output", "HINGE_LOSS": "HingeLoss", "IM2COL": "Im2col",
    "IMAGE_DATA": "ImageData", "INFOGAIN_LOSS": "InfogainLoss", "INNER_PRODUCT": "InnerProduct", "LRN": "LRN",
    "MEMORY_DATA": "MemoryData", "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss", "MVN": "MVN",
    "POOLING": "Pooling", "POWER": "Power", "RELU": "ReLU", "SIGMOID": "Sigmoid",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss", "SILENCE": "Silence", "SOFTMAX": "Softmax",
    "SOFTMAX_LOSS": "SoftmaxWithLoss", "SPLIT": "Split", "SLICE": "Slice", "TANH": "TanH",
    "WINDOW_DATA": "WindowData", "THRESHOLD": "Threshold",
    "CROP": "Crop", "INTERP": "Interp", "MULTI_STAGE_MEANFIELD": "MultiStageMeanfield",
    "IMAGE_SEG_DATA": "ImageSegData", "SEG_ACCURACY": "SegAccuracy", "MAT_WRITE": "MatWrite",
}  # fmt: skip


def test_upgrade_of_v1_layers_and_inputs():
    old = parse_net(V1)
    untouched = old.SerializeToString()
    net = upgrade(old)
    assert old.SerializeToString() == untouched
    assert not net.layers and not net.input and not net.input_dim
    first, data, ip, loss = net.layer
    assert (first.name, first.type, list(first.top)) == ("input", "Input", ["data"])
    assert list(first.input_param.shape[0].dim) == [1, 3, 224, 225]
    assert data.type == "Data" and data.data_param.source == "db" and not data.data_param.HasField("scale")
    transform = data.transform_param
    assert (transform.scale, transform.mean_file, transform.crop_size, transform.mirror) == (
        0.5,
        "m",
        9,
        True,
    )
    assert [rule.HasField("phase") for rule in data.include] == [True, False]
    assert ip.inner_product_param.num_output == 4 and ip.param[0].name == "w"
    assert ip.param[0].share_mode == ip.param[0].PERMISSIVE and not ip.param[1].HasField("share_mode")
    assert [(p.lr_mult, p.decay_mult) for p in ip.param] == [(1, 1), (2, 0)]
    assert loss.type == "SoftmaxWithLoss" and loss.loss_weight[0] == 3 and loss.loss_param.ignore_label == 255
    assert upgrade(net) == net


def test_every_v1_type_has_its_name():
    values = message_class("V1LayerParameter").DESCRIPTOR.fields_by_name["type"].enum_type.values_by_name
    assert set(values) == set(V1_TYPES)
    for old, new in V1_TYPES.items():
        assert upgrade(parse_net(f"layers {{ type: {old} }}")).layer[0].type == new


def test_every_v1_parameter_carries_over():
    fields = message_class("V1LayerParameter").DESCRIPTOR.fields
    params = [f.name for f in fields if f.name.endswith("_param")]
    assert len(params) > 25
    for name in params:
        assert upgrade(parse_net(f"layers {{ {name} {{ }} }}")).layer[0].HasField(name)


def test_upgrade_of_shapes_and_batch_norm():
    net = upgrade(parse_net('input: "a" input: "b" input_shape { dim: 2 } input_shape { dim: 3 dim: 4 }'))
    assert [list(s.dim) for s in net.layer[0].input_param.shape] == [[2], [3, 4]]
    assert not upgrade(parse_net('input: "a" layer { name: "x" }')).layer[0].type  # old weights: no sizes
    old = "layer { type: 'BatchNorm' param { lr_mult: 1 name: 'm' } param { } param { lr_mult: 3 } }"
    assert [(p.lr_mult, p.decay_mult) for p in upgrade(parse_net(old)).layer[0].param] == [(0, 0)] * 3
    assert upgrade(parse_net(old.replace("param { } ", ""))).layer[0].param[0].lr_mult == 1


@pytest.mark.parametrize(
    "text, words",
    [
        ("layer { } layers { }", "both 'layer' and old 'layers'"),
        ("layers { layer { name: 'c' type: 'conv' } }", "2013"),
        ('input: "a" input_dim: 1', "need 4 input_dim values"),
        ('input: "a" input: "b" input_shape { dim: 1 }', "2 inputs need as many input_shape, found 1"),
    ],
)
def test_upgrade_refuses(text, words):
    with pytest.raises(InputError, match=words):
        upgrade(parse_net(text))


@pytest.mark.parametrize(
    "rule, state, met",
    [
        ("", {}, True),
        ("phase: TRAIN", {}, False),
        ("phase: TRAIN", {"phase": TRAIN}, True),
        ("phase: TEST", {}, True),  # a state's phase is TEST unless it says otherwise
        ("min_level: 1", {}, False),
        ("min_level: 1", {"level": 1}, True),
        ("max_level: 1", {"level": 2}, False),
        ("min_level: -1 max_level: 1", {}, True),
        ("stage: 'a' stage: 'b'", {"stage": ["a"]}, False),
        ("stage: 'a' stage: 'b'", {"stage": ["b", "c", "a"]}, True),
        ("not_stage: 'a'", {"stage": ["a"]}, False),
        ("not_stage: 'a'", {"stage": ["b"]}, True),
        ("stage: 'a' not_stage: 'b'", {"stage": ["a", "b"]}, False),
        ("phase: TRAIN stage: 'a'", {"phase": TEST, "stage": ["a"]}, False),
    ],
)
def test_rules(rule, state, met):
    given = f"include {{ {rule} }} }} layer {{ name: 'y' exclude {{ {rule} }}"
    text = f"layer {{ name: 'x' {given} }} layer {{ name: 'z' }}"
    net = parse_net(text)
    assert meets_rule(NetState(**state), net.layer[0].include[0]) == met
    kept = [layer.name for layer in filter_net(net, NetState(**state)).layer]
    assert kept == (["x", "z"] if met else ["y", "z"])


def test_any_of_several_rules_is_enough_and_kinds_do_not_mix():
    net = parse_net("layer { name: 'x' include { phase: TRAIN } include { stage: 's' } }")
    assert len(filter_net(net, NetState(phase=TEST, stage=["s"])).layer) == 1
    assert len(filter_net(net, NetState(phase=TEST)).layer) == 0
    with pytest.raises(InputError, match="'x' has both include and exclude"):
        filter_net(parse_net("layer { name: 'x' include { } exclude { } }"), NetState())


def _connections(net):
    return [
        (layer.name, layer.type, list(layer.bottom), list(layer.top), list(layer.loss_weight))
        for layer in net.layer
    ]


def test_splits_have_caffes_names():
    net = parse_net(
        "layer { name: 'in' type: 'Input' top: 'data' top: 'label' }"
        "layer { name: 'a' type: 'A' bottom: 'data' top: 'a' }"
        "layer { name: 'r' type: 'R' bottom: 'a' top: 'a' }"  # in place: later readers read r's top
        "layer { name: 'l1' type: 'L' bottom: 'a' bottom: 'label' top: 'l1' loss_weight: 2 }"
        "layer { name: 'l2' type: 'L' bottom: 'a' bottom: 'label' bottom: 'l1' }"
    )
    assert _connections(insert_splits(net)) == [
        ("in", "Input", [], ["data", "label"], []),
        ("label_in_1_split", "Split", ["label"], ["label_in_1_split_0", "label_in_1_split_1"], []),
        ("a", "A", ["data"], ["a"], []),
        ("r", "R", ["a"], ["a"], []),
        ("a_r_0_split", "Split", ["a"], ["a_r_0_split_0", "a_r_0_split_1"], []),
        ("l1", "L", ["a_r_0_split_0", "label_in_1_split_0"], ["l1"], []),
        ("l1_l1_0_split", "Split", ["l1"], ["l1_l1_0_split_0", "l1_l1_0_split_1"], [2, 0]),
        ("l2", "L", ["a_r_0_split_1", "label_in_1_split_1", "l1_l1_0_split_1"], [], []),
    ]
    assert _connections(insert_splits(insert_splits(net))) == _connections(insert_splits(net))


def test_splits_of_caffes_own_snapshot():
    """Caffe's snapshot holds its net with splits: taken out and inserted here, they come out the same."""
    theirs = read_definition(REFERENCE / "solver-accumulated_iter_12.caffemodel")
    source = {top: layer.bottom[0] for layer in theirs.layer if layer.type == "Split" for top in layer.top}
    assert len(source) == 10
    net = NetParameter(layer=[layer for layer in theirs.layer if layer.type != "Split"])
    for layer in net.layer:
        layer.bottom[:] = [source.get(blob, blob) for blob in layer.bottom]
    assert [c[:4] for c in _connections(insert_splits(net))] == [c[:4] for c in _connections(theirs)]


def test_unknown_bottom_is_named():
    with pytest.raises(InputError, match="layer 'b': bottom 'dta' is made by no layer before it"):
        insert_splits(parse_net("layer { name: 'a' top: 'data' } layer { name: 'b' bottom: 'dta' }"))


@given(st.data())
def test_after_splitting_every_top_has_one_reader(data):
    text, tops = "layer { name: 'in' top: 't0' }", ["t0"]
    for i in range(1, data.draw(st.integers(1, 8))):
        bottoms = data.draw(st.lists(st.sampled_from(tops), min_size=1, max_size=3))
        top = data.draw(st.sampled_from([*tops, f"t{i}"]))
        weight = data.draw(st.sampled_from(["", "loss_weight: 1", "loss_weight: 0"]))
        text += (
            f"layer {{ name: 'n{i}' {' '.join(f'bottom: {b!r}' for b in bottoms)} top: {top!r} {weight} }}"
        )
        tops.append(top)
    split = insert_splits(parse_net(text))
    readers: dict = {}
    latest: dict = {}
    for i, layer in enumerate(split.layer):
        for blob in layer.bottom:
            assert blob in latest
            readers[latest[blob]] = readers.get(latest[blob], 0) + 1
        for j, blob in enumerate(layer.top):
            latest[blob] = (i, j)
            if j < len(layer.loss_weight) and layer.loss_weight[j]:
                readers[i, j] = readers.get((i, j), 0) + 1
    assert all(count == 1 for count in readers.values())


def test_solver_upgrades(tmp_path):
    path = tmp_path / "my.solver.prototxt"
    path.write_text("net: 'n.prototxt' solver_type: ADAGRAD")
    solver = read_solver(path)
    assert solver.type == "AdaGrad" and not solver.HasField("solver_type")
    assert solver.snapshot_prefix == str(tmp_path / "my.solver")
    path.write_text(f"snapshot_prefix: '{tmp_path}'")
    assert read_solver(path).snapshot_prefix == str(tmp_path / "my.solver")
    assert read_solver("snapshot_prefix: 'a/b'").snapshot_prefix == "a/b"
    for old, new in [
        ("SGD", "SGD"),
        ("NESTEROV", "Nesterov"),
        ("RMSPROP", "RMSProp"),
        ("ADADELTA", "AdaDelta"),
        ("ADAM", "Adam"),
    ]:
        assert read_solver(f"solver_type: {old}").type == new
    with pytest.raises(InputError, match="both type and the old solver_type"):
        read_solver("type: 'SGD' solver_type: ADAM")
    with pytest.raises(
        InputError, match=":1: unknown field 'bse_lr' in SolverParameter; did you mean 'base_lr'"
    ):
        read_solver("bse_lr: 1")
