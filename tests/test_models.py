"""The paper's nets: layer for layer those that Caffe ran, with offsets derived and names as published."""

import cases
import h5py
import numpy as np
import pytest
from cases import relative_error

from fcnlite import models, proto, surgery
from fcnlite.errors import InputError
from fcnlite.net import Net


def canonical(net):
    """A net with what means the same written the same way, for comparison by layer."""
    net = proto.upgrade(net)
    layers = []
    for layer in net.layer:
        if layer.type in ("Convolution", "Deconvolution"):
            p = layer.convolution_param
            for field, default in (("stride", 1), ("pad", 0), ("dilation", 1)):
                if list(getattr(p, field)) == [default]:
                    p.ClearField(field)
            if p.group == 1:
                p.ClearField("group")
        layers.append(layer)
    return {layer.name: proto.to_text(layer) for layer in layers}


REFERENCES = {
    "fcn32s-train": lambda: models.fcn32s(5, 4, 24, size=(37, 45)),
    "fcn16s-train": lambda: models.fcn16s(5, 4, 24, size=(37, 45)),
    "fcn8s-train": lambda: models.fcn8s(5, 4, 24, size=(37, 45)),
    "fcn8s-atonce-train": lambda: models.fcn8s_atonce(5, 4, 24, size=(37, 45)),
    "fcn-alexnet-train": lambda: models.fcn_alexnet(5, 6, 24, size=(37, 45)),
}


@pytest.mark.parametrize("case", REFERENCES)
def test_nets_are_those_that_caffe_ran(case):
    with h5py.File(cases.REFERENCE / "nets.h5") as file:
        expected = proto.parse_net(file[case].attrs["prototxt"], case)
    net = REFERENCES[case]()
    assert [layer.name for layer in net.layer] == [layer.name for layer in expected.layer]
    assert canonical(net) == canonical(expected)


def test_heavy_solvers_net_is_ours():
    with h5py.File(cases.REFERENCE / "solvers.h5") as file:
        expected = proto.parse_net(file["solver-heavy"].attrs["net"], "solver-heavy")
    assert canonical(models.fcn8s(5, 2, 12, size=(29, 33))) == canonical(expected)


def test_vgg16_is_the_published_classifier():
    with h5py.File(cases.REFERENCE / "tiny-vgg16.h5") as file:
        expected = proto.upgrade(proto.parse_net(file.attrs["prototxt_v1"], "tiny-vgg16"))
    net = models.vgg16(10, 4, 24, deploy=True)
    for layer in net.layer:
        layer.ClearField("param")  # a deploy file learns nothing
    ours, theirs = canonical(net), canonical(expected)
    del ours["data"], theirs["input"]
    assert ours == theirs


OFFSETS = {
    "fcn32s": {"score": 19},
    "fcn16s": {"score_pool4c": 5, "score": 27},
    "fcn8s": {"score_pool4c": 5, "score_pool3c": 9, "score": 31},
    "fcn8s-atonce": {"score_pool4c": 5, "score_pool3c": 9, "score": 31},
    "fcn-alexnet": {"score": 18},
    "fcn-googlenet": {"score": 1},
    "nyud-fcn32s-color": {"score": 19},
    "nyud-fcn32s-color-d": {"score": 19},
    "nyud-fcn32s-hha": {"score": 19},
    "nyud-fcn32s-color-hha": {"score": 19},
    "nyud-fcn16s-color-hha": {"score_pool4c": 5, "score": 27},
    "siftflow-fcn32s": {"score_sem": 19, "score_geo": 19},
    "siftflow-fcn16s": {"score_pool4_semc": 5, "score_sem": 27, "score_pool4_geoc": 5, "score_geo": 27},
    "siftflow-fcn8s": {
        "score_pool4_semc": 5,
        "score_pool3_semc": 9,
        "score_sem": 31,
        "score_pool4_geoc": 5,
        "score_pool3_geoc": 9,
        "score_geo": 31,
    },
    "pascalcontext-fcn32s": {"score": 19},
    "pascalcontext-fcn16s": {"score_pool4c": 5, "score": 27},
    "pascalcontext-fcn8s": {"score_pool4c": 5, "score_pool3c": 9, "score": 31},
}


@pytest.mark.parametrize("name", OFFSETS)
def test_derived_offsets_are_the_published_ones(name):
    crops = [layer for layer in models.build(name).layer if layer.type == "Crop"]
    assert {layer.name: list(layer.crop_param.offset) for layer in crops} == {
        layer: [offset] for layer, offset in OFFSETS[name].items()
    }
    assert all(layer.crop_param.axis == 2 for layer in crops)


OUTPUTS = {
    "fcn32s": {"score_fr": 21},
    "fcn8s": {"score_fr": 21, "score_pool4": 21, "score_pool3": 21},
    "nyud-fcn32s-color": {"score_fr": 40},
    "nyud-fcn32s-color-d": {"score_fr": 40},
    "nyud-fcn32s-hha": {"score_fr": 40},
    "nyud-fcn32s-color-hha": {"score_frcolor": 40, "score_frhha": 40},
    "nyud-fcn16s-color-hha": dict.fromkeys(
        ("score_frcolor", "score_frhha", "score_pool4color", "score_pool4hha"), 40
    ),
    "siftflow-fcn8s": {
        f"score_{level}_{task}": n
        for level in ("fr", "pool4", "pool3")
        for task, n in (("sem", 33), ("geo", 3))
    },
    "pascalcontext-fcn16s": {"score_fr": 60, "score_pool4": 60},
    "fcn-googlenet": {"score_fr": 21},
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_data_sets_have_their_classes(name):
    layers = {layer.name: layer for layer in models.build(name).layer}
    scores = {
        n: layer.convolution_param.num_output
        for n, layer in layers.items()
        if n.startswith("score_") and layer.type == "Convolution"
    }
    assert scores == OUTPUTS[name]


def test_two_towers_are_averaged():
    layers = {layer.name: layer for layer in models.build("nyud-fcn32s-color-hha").layer}
    assert list(layers["conv1_1color"].bottom) == ["color"] and list(layers["conv1_1hha"].bottom) == ["hha"]
    fused = layers["score_fused"]
    assert list(fused.bottom) == ["score_frcolor", "score_frhha"] and list(fused.eltwise_param.coeff) == [
        0.5,
        0.5,
    ]
    assert list(layers["score"].bottom) == ["upscore", "color"]


def test_the_finer_fusion_begins_as_the_coarser_one_upsampled_in_two_steps():
    coarse, fine = (
        Net(models.build(f"nyud-{name}-color-hha", width=2, fc=4, classes=3, size=(64, 96), deploy=True))
        for name in ("fcn32s", "fcn16s")
    )
    rng = np.random.default_rng(0)
    for blobs in coarse.params.values():
        for blob in blobs:
            blob.data[...] = rng.standard_normal(blob.shape) / np.sqrt(max(1, blob.count / blob.shape[0]))
    report = surgery.initialise(fine, coarse)
    assert report.untouched == ["score_pool4color", "score_pool4hha"]
    assert sorted(report.interpolated) == ["upscore16", "upscore2"]
    surgery.interpolate(coarse, ["upscore"])
    given = {name: rng.standard_normal((1, 3, 64, 96)).astype(np.float32) for name in ("color", "hha")}
    coarse.forward(**given)
    fine.forward(**given)
    assert relative_error(fine.blobs["score_fused"].data, coarse.blobs["score_fused"].data) <= 1e-6
    assert np.array_equal(
        fine.blobs["fuse_pool4"].data, fine.blobs["upscore2"].data
    )  # the skip says nothing yet
    ones = np.ones(fine.params["score_pool4color"][0].shape, np.float32)
    fine.params["score_pool4color"][0].data[...] = ones
    fine.params["score_pool4hha"][0].data[...] = ones
    fine.forward(**given)
    both = [fine.blobs[f"pool4{tower}"].data.sum(axis=1, keepdims=True) for tower in ("color", "hha")]
    assert relative_error(fine.blobs["score_pool4"].data[:, :1], (both[0] + both[1]) / 2) <= 1e-5


def test_early_fusion_joins_depth_to_the_colours():
    layers = {layer.name: layer for layer in models.build("nyud-fcn32s-color-d").layer}
    assert list(layers["data"].bottom) == ["color", "depth"] and layers["data"].type == "Concat"
    assert list(layers["depth"].input_param.shape[0].dim) == [1, 1, 480, 640]
    assert list(layers["conv1_1_bgrd"].bottom) == ["data"] and "conv1_1" not in layers


def test_two_heads_share_one_net_and_learn_jointly():
    net = models.build("siftflow-fcn16s")
    layers = {layer.name: layer for layer in net.layer}
    assert list(layers["loss"].bottom) == ["score_sem", "sem"]
    assert list(layers["loss_geo"].bottom) == ["score_geo", "geo"]
    assert sum(layer.name.startswith("conv") for layer in net.layer) == 13
    small = models.build("siftflow-fcn8s", classes=5, geometric=2, width=1)
    assert {layer.name: layer.convolution_param.num_output for layer in small.layer}["upscore8_geo"] == 2


def test_googlenet_has_bvlcs_layers():
    """Names and channels by which the published weights find their place."""
    layers = {layer.name: layer for layer in models.googlenet().layer}
    convolutions = [n for n, layer in layers.items() if layer.type == "Convolution"]
    assert len(convolutions) == 57
    for name, channels, kernel, pad, stride in [
        ("conv1/7x7_s2", 64, 7, 3, 2),
        ("conv2/3x3_reduce", 64, 1, 0, 1),
        ("conv2/3x3", 192, 3, 1, 1),
        ("inception_3a/5x5_reduce", 16, 1, 0, 1),
        ("inception_3b/pool_proj", 64, 1, 0, 1),
        ("inception_4d/3x3", 288, 3, 1, 1),
        ("inception_5b/1x1", 384, 1, 0, 1),
        ("inception_5b/5x5", 128, 5, 2, 1),
    ]:
        p = layers[name].convolution_param
        got = (p.num_output, p.kernel_size[0], (*p.pad, 0)[0], (*p.stride, 1)[0])
        assert got == (channels, kernel, pad, stride), name
    assert layers["inception_4e/output"].type == "Concat"
    assert list(layers["inception_4e/output"].bottom) == [
        "inception_4e/1x1",
        "inception_4e/3x3",
        "inception_4e/5x5",
        "inception_4e/pool_proj",
    ]
    assert list(layers["loss3/classifier"].bottom) == ["pool5/7x7_s1"]
    assert layers["pool5/7x7_s1"].pooling_param.kernel_size == 7
    fcn = {layer.name for layer in models.fcn_googlenet().layer}
    assert fcn.issuperset(convolutions) and "pool5/7x7_s1" not in fcn


def test_caffenet_pools_before_it_normalises_and_alexnet_after():
    caffenet = [layer.name for layer in models.caffenet().layer]
    alexnet = [layer.name for layer in models.alexnet().layer]
    assert caffenet.index("pool1") < caffenet.index("norm1") and alexnet.index("norm2") < alexnet.index(
        "pool2"
    )
    layers = {layer.name: layer for layer in models.alexnet().layer}
    channels = [layers[f"conv{i}"].convolution_param.num_output for i in range(1, 6)]
    groups = [layers[f"conv{i}"].convolution_param.group for i in range(1, 6)]
    assert channels == [96, 256, 384, 384, 256] and groups == [1, 2, 1, 2, 2]


@pytest.mark.parametrize("name", models.names())
def test_deploy_nets_have_neither_labels_nor_losses(name):
    net, deploy = models.build(name, width=8), models.build(name, width=8, deploy=True)
    assert net.name == deploy.name == name
    assert any(layer.type == "SoftmaxWithLoss" for layer in net.layer)
    assert not any(layer.type == "SoftmaxWithLoss" for layer in deploy.layer)
    inputs = [layer.name for layer in deploy.layer if layer.type == "Input"]
    assert set(inputs) <= {"data", "color", "depth", "hha"} and inputs
    kept = {layer.name for layer in deploy.layer} - {"prob"}
    shared = [layer for layer in net.layer if layer.name in kept]
    assert shared == [layer for layer in deploy.layer if layer.name != "prob"]


@pytest.mark.parametrize("name", models.names())
def test_prototxt_round_trip(name):
    net = models.build(name)
    assert proto.parse_net(proto.to_text(net), name) == net


def test_losses_are_summed_unless_asked():
    def loss(net):
        return net.layer[-1].loss_param

    assert not loss(models.fcn8s()).normalize and loss(models.fcn8s(normalize=True)).normalize
    assert loss(models.fcn_alexnet()).normalize and loss(models.fcn8s()).ignore_label == 255


def test_fillers_go_to_the_base_and_never_to_scores():
    net = models.fcn8s(width=2, filler={"type": "msra"})
    filled = {layer.name for layer in net.layer if layer.convolution_param.HasField("weight_filler")}
    convolutions = {layer.name for layer in net.layer if layer.type == "Convolution"}
    assert filled == {name for name in convolutions if not name.startswith("score")}
    assert not any(layer.convolution_param.HasField("weight_filler") for layer in models.fcn8s().layer)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("fcn8s", "fcn8s"), ("VOC-FCN8s-atonce", "fcn8s-atonce"), ("fcn_alexnet", "fcn-alexnet")],
)
def test_names_may_be_spelled_as_people_do(name, expected):
    assert models.canonical(name) == expected


def test_unknown_names_and_options_say_what_there_is():
    with pytest.raises(
        InputError, match="no net is called 'transformer'; the catalogue has fcn32s.*googlenet"
    ):
        models.build("transformer")
    with pytest.raises(InputError, match=r"no net is called 'fcn8'; did you mean 'fcn8s'\?$"):
        models.build("fcn8")
    with pytest.raises(InputError, match="net 'fcn8s' has no option 'clases'.*classes, width"):
        models.build("fcn8s", clases=3)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"classes": 0}, "classes must be at least 1, not 0"),
        ({"width": -2}, "width must be at least 1"),
        ({"size": (0, 5)}, "height must be at least 1"),
    ],
)
def test_numbers_that_make_no_net_are_refused(options, told):
    with pytest.raises(InputError, match=told):
        models.build("fcn32s", **options)


def test_alexnet_needs_an_even_width():
    with pytest.raises(InputError, match="even.*not 5"):
        models.build("fcn-alexnet", width=5)
    channels = [
        layer.convolution_param.num_output
        for layer in models.fcn_alexnet(width=2).layer
        if layer.type == "Convolution"
    ]
    assert all(n % 2 == 0 for n in channels[:5])
