"""Weights carried from net to net: what is copied, reshaped and left, and what cannot be."""

import cases
import numpy as np
import pytest
import rule
from hypothesis import given
from hypothesis import strategies as st

from fcnlite import convolutionalise, models, surgery
from fcnlite.errors import InputError
from fcnlite.io import read_weights
from fcnlite.net import Net


def drawn(param, case="surgery"):
    """Parameters of a net as the reference rule draws them."""
    return {
        layer: [rule.weight(case, layer, i, array.shape) for i, array in enumerate(arrays)]
        for layer, arrays in convolutionalise.fresh(param).items()
    }


@given(st.integers(1, 5), st.integers(1, 70), st.booleans())
def test_bilinear_weights_are_the_references(channels, kernel, dense):
    shape = (channels, channels if dense else 1, kernel, kernel)
    np.testing.assert_array_equal(surgery.bilinear_weights(shape), rule.bilinear(shape))
    assert surgery.bilinear_weights(shape).dtype == np.float32


@pytest.mark.parametrize("shape", [(3, 2, 4, 4), (3, 3, 4, 5), (3, 3, 4), (3,)])
def test_bilinear_weights_refuse_other_shapes(shape):
    with pytest.raises(InputError, match="need a shape"):
        surgery.bilinear_weights(shape)


@pytest.mark.parametrize("stride", [2, 8, 16, 32])
def test_bilinear_upsampling_keeps_flat_maps_flat(stride):
    """Interpolation: away from the border, the weights that reach a pixel sum to one."""
    kernel = surgery.bilinear_weights((1, 1, 2 * stride, 2 * stride))[0, 0]
    phases = kernel.reshape(2, stride, 2, stride).sum((0, 2))
    np.testing.assert_allclose(phases, 1, rtol=1e-6)


def test_classifier_weights_reach_the_fully_convolutional_net():
    source = drawn(models.vgg16(classes=10, width=2, fc=6))
    target = convolutionalise.fresh(models.fcn32s(classes=4, width=2, fc=6))
    report = surgery.initialise(target, source)
    assert "conv1_1" in report.copied and "conv5_3" in report.copied and "fc7" not in report.copied
    assert report.reshaped == ["fc6 (6, 784) to (6, 16, 7, 7)", "fc7 (6, 6) to (6, 6, 1, 1)"]
    assert report.left == ["fc8"]
    assert report.untouched == ["score_fr"] and report.interpolated == ["upscore"]
    assert str(report).splitlines()[2:] == ["left out: fc8", "bilinear: upscore", "as they were: score_fr"]
    np.testing.assert_array_equal(target["fc6"][0].reshape(6, -1), source["fc6"][0])
    np.testing.assert_array_equal(target["conv3_2"][1], source["conv3_2"][1])
    np.testing.assert_array_equal(target["upscore"][0], rule.bilinear((4, 4, 64, 64)))
    assert not target["score_fr"][0].any() and not target["score_fr"][1].any()


def test_chain_from_32s_to_16s_to_8s():
    source = drawn(models.fcn32s(classes=4, width=2, fc=6))
    sixteen = convolutionalise.fresh(models.fcn16s(classes=4, width=2, fc=6))
    report = surgery.initialise(sixteen, source)
    assert report.left == ["upscore"] and report.untouched == ["score_pool4"]
    assert report.interpolated == ["upscore2", "upscore16"]
    np.testing.assert_array_equal(sixteen["score_fr"][0], source["score_fr"][0])
    assert not sixteen["score_pool4"][0].any()
    np.testing.assert_array_equal(sixteen["upscore16"][0], rule.bilinear((4, 4, 32, 32)))

    eight = convolutionalise.fresh(models.fcn8s(classes=4, width=2, fc=6))
    report = surgery.initialise(eight, sixteen)
    assert report.left == ["upscore16"] and report.untouched == ["score_pool3"]
    assert report.interpolated == ["upscore_pool4", "upscore8"]
    np.testing.assert_array_equal(eight["upscore2"][0], rule.bilinear((4, 4, 4, 4)))
    np.testing.assert_array_equal(eight["upscore8"][0], rule.bilinear((4, 4, 16, 16)))


def test_a_new_skip_changes_nothing_at_first():
    """FCN-16s just made from FCN-32s differs in its interpolation only: the deep scores are the same."""
    source = drawn(models.fcn32s(classes=3, width=2, fc=6))
    thirty_two = Net(models.fcn32s(classes=3, width=2, fc=6, size=(40, 50), deploy=True))
    surgery.transplant(thirty_two, source)
    sixteen = Net(models.fcn16s(classes=3, width=2, fc=6, size=(40, 50), deploy=True))
    surgery.initialise(sixteen, thirty_two)
    image = rule.image("surgery", "data", (1, 3, 40, 50)) / 64
    thirty_two.forward(data=image)
    sixteen.forward(data=image)
    np.testing.assert_array_equal(sixteen.blobs["score_fr"].data, thirty_two.blobs["score_fr"].data)
    np.testing.assert_array_equal(sixteen.blobs["fuse_pool4"].data, sixteen.blobs["upscore2"].data)


def test_nets_and_mappings_are_the_same_to_surgery():
    source, param = drawn(models.vgg16(classes=10, width=2, fc=6)), models.fcn32s(classes=4, width=2, fc=6)
    mapping, net = convolutionalise.fresh(param), Net(param)
    told = str(surgery.initialise(mapping, source)), str(surgery.initialise(net, source))
    assert told[0] == told[1]
    for layer, arrays in mapping.items():
        for array, blob in zip(arrays, net.params[layer]):
            np.testing.assert_array_equal(array, blob.data)
    back = convolutionalise.fresh(param)
    surgery.transplant(back, net)
    for layer, arrays in mapping.items():
        for array, copied in zip(arrays, back[layer]):
            np.testing.assert_array_equal(array, copied)


def test_files_of_weights_are_not_written_into():
    source = read_weights(cases.REFERENCE / "tiny-vgg16-v1.caffemodel")
    target = convolutionalise.fresh(models.fcn32s(classes=4, width=4, fc=24))
    report = surgery.initialise(target, source)
    assert report.left == ["fc8"] and report.untouched == ["score_fr"]
    assert target["conv1_1"][1].shape == (4,) and target["fc6"][0].shape == (24, 32, 7, 7)
    np.testing.assert_array_equal(target["fc6"][0].ravel(), source["fc6"][0].ravel())
    surgery.interpolate(target)
    surgery.expand_score(target, "score_fr", target, "score_fr")
    again = read_weights(cases.REFERENCE / "tiny-vgg16-v1.caffemodel")
    for layer, arrays in again.items():
        for array, kept in zip(arrays, source[layer]):
            np.testing.assert_array_equal(array, kept)


def test_two_towers_take_their_weights_by_suffix():
    color = drawn(models.fcn32s(classes=4, width=2, fc=6), "color")
    hha = drawn(models.fcn32s(classes=4, width=2, fc=6), "hha")
    target = convolutionalise.fresh(models.nyud_late_fusion(classes=4, width=2, fc=6))
    report = surgery.transplant(target, color, suffix="color")
    assert report.left == ["upscore"] and "conv1_1 -> conv1_1color" in report.copied
    assert "conv1_1hha" in report.untouched
    surgery.transplant(target, hha, suffix="hha")
    np.testing.assert_array_equal(target["score_frcolor"][0], color["score_fr"][0])
    np.testing.assert_array_equal(target["score_frhha"][0], hha["score_fr"][0])


def test_early_fusion_sees_depth_as_the_mean_colour():
    source = drawn(models.vgg16(classes=10, width=2, fc=6))
    target = convolutionalise.fresh(models.nyud_early_fusion(classes=4, width=2, fc=6))
    report = surgery.initialise(target, source)
    weight = target["conv1_1_bgrd"][0]
    assert weight.shape == (2, 4, 3, 3)
    np.testing.assert_array_equal(weight[:, :3], source["conv1_1"][0])
    np.testing.assert_allclose(weight[:, 3], source["conv1_1"][0].mean(1), rtol=1e-6)
    np.testing.assert_array_equal(target["conv1_1_bgrd"][1], source["conv1_1"][1])
    assert report.left == ["fc8"] and report.untouched == ["score_fr"]
    assert "conv1_1 -> conv1_1_bgrd (2, 3, 3, 3) to (2, 4, 3, 3)" in report.reshaped


def test_early_fusion_refuses_what_is_not_a_first_convolution():
    target = {"a": [np.zeros((2, 4, 3, 3), np.float32)]}
    for shape in ((2, 5, 3, 3), (3, 3, 3, 3), (2, 3, 5, 5), (2, 27)):
        with pytest.raises(InputError, match="only input channels may be added"):
            surgery.add_input_channels(target, "a", {"b": [np.ones(shape, np.float32)]}, "b")


@given(st.integers(1, 6), st.integers(0, 5))
def test_new_classes_come_last_and_start_at_zero(old, new):
    source = {"score": [np.ones((old, 3, 1, 1), np.float32), np.ones((1, 1, 1, old), np.float32)]}
    target = {"score59": [np.full((old + new, 3, 1, 1), 7, np.float32), np.full(old + new, 7, np.float32)]}
    surgery.expand_score(target, "score59", source, "score")
    assert (target["score59"][0][:old] == 1).all() and (target["score59"][1][:old] == 1).all()
    assert not target["score59"][0][old:].any() and not target["score59"][1][old:].any()
    if new:
        with pytest.raises(InputError, match="only classes may be added"):
            surgery.expand_score(source, "score", target, "score59")


def test_score_layers_of_other_classes_are_refused_unless_left():
    source, param = drawn(models.fcn32s(classes=4, width=1)), models.fcn32s(classes=6, width=1)
    target = convolutionalise.fresh(param)
    before = {layer: [array.copy() for array in arrays] for layer, arrays in target.items()}
    with pytest.raises(InputError) as caught:
        surgery.transplant(target, source)
    message = str(caught.value)
    assert "layer 'score_fr'" in message and "(4, 64, 1, 1)" in message and "(6, 64, 1, 1)" in message
    for layer, arrays in before.items():  # all or nothing
        for array, kept in zip(arrays, target[layer]):
            np.testing.assert_array_equal(array, kept)
    report = surgery.transplant(target, source, leave=("score_fr", "upscore"))
    assert report.left == ["score_fr", "upscore"] and report.untouched == ["score_fr", "upscore"]


def test_equal_counts_of_another_layout_are_refused():
    target = {"conv": [np.zeros((6, 4, 1, 1), np.float32)]}
    with pytest.raises(InputError, match=r"\(4, 6\) do not fit \(6, 4, 1, 1\)"):
        surgery.transplant(target, {"conv": [np.zeros((4, 6), np.float32)]})


def test_biases_that_the_target_lacks_are_told():
    target = {"conv": [np.zeros((2, 3, 1, 1), np.float32)]}
    report = surgery.transplant(target, {"conv": [np.ones((2, 3, 1, 1), np.float32), np.ones(2, np.float32)]})
    assert report.copied == ["conv"] and report.left == ["conv (of 2 parameters, all but 1)"]
    assert str(report) == "copied: conv\nleft out: conv (of 2 parameters, all but 1)"


def test_renamed_layers_go_where_they_are_told():
    source = {"fc8": [np.ones((2, 3), np.float32)], "fc7": [np.full((3, 1), 2, np.float32)]}
    target = {"score_fr": [np.zeros((2, 3, 1, 1), np.float32)], "fc7": [np.zeros((3, 1, 1, 1), np.float32)]}
    report = surgery.transplant(target, source, rename={"fc8": "score_fr"})
    assert report.reshaped[0] == "fc8 -> score_fr (2, 3) to (2, 3, 1, 1)" and not report.untouched
    assert target["score_fr"][0].all() and target["fc7"][0].all()


def test_layers_that_do_not_exist_are_named():
    target = {"up": [np.zeros((2, 2, 4, 4), np.float32)]}
    with pytest.raises(InputError, match="no layer 'upscore'.*up"):
        surgery.interpolate(target, ["upscore"])
    with pytest.raises(InputError, match=r"layer 'conv': bilinear weights need.*\(2, 3, 4, 4\)"):
        surgery.interpolate({"conv": [np.zeros((2, 3, 4, 4), np.float32)]}, ["conv"])
