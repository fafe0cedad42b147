"""Classifiers made fully convolutional: their scores on their own size, maps of them on larger images."""

from __future__ import annotations

import cases
import h5py
import numpy as np
import pytest
import rule
from test_surgery import drawn

from fcnlite import convolutionalise, models, proto, surgery
from fcnlite.errors import InputError
from fcnlite.io import read_weights, write_weights
from fcnlite.net import Net, load


def test_fresh_parameters_are_a_new_nets():
    param = models.fcn8s_atonce(classes=3, width=1, filler={"type": "msra"})
    fresh, net = convolutionalise.fresh(param), Net(param)
    assert list(fresh) == list(net.params)
    for layer, arrays in fresh.items():
        assert [array.shape for array in arrays] == [blob.shape for blob in net.params[layer]]
    assert fresh["conv1_1"][0].std() > 0.1 and not fresh["conv1_1"][1].any()
    assert (fresh["scale_pool4"][0] == np.float32(0.01)).all()
    assert not fresh["score_fr"][0].any() and fresh["fc6"][0].dtype == np.float32


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vgg16", {"width": 2, "fc": 6, "size": (224, 224)}),
        ("caffenet", {"width": 6, "fc": 8, "size": (227, 227)}),
        ("alexnet", {"width": 6, "fc": 8, "size": (227, 227)}),
        ("googlenet", {"width": 4, "size": (224, 224)}),
    ],
)
def test_a_convolutionalised_classifier_gives_the_classifiers_scores(name, options):
    """Section 3.1: at the classifier's input size its scores, on a larger image a map of scores."""
    param = models.build(name, classes=7, deploy=True, **options)
    classifier, convolutional = Net(param), Net(convolutionalise.convolutionalise(param))
    assert all(layer.type != "InnerProduct" for layer in convolutional.layers)
    surgery.transplant(classifier, drawn(param))
    report = surgery.transplant(convolutional, classifier)
    assert not report.left and not report.untouched
    height, width = options["size"]
    image = rule.image(name, "data", (1, 3, height, width)) / 64
    expected, got = classifier.forward(data=image)["prob"], convolutional.forward(data=image)["prob"]
    assert got.shape == (1, 7, 1, 1)
    assert cases.relative_error(got.reshape(1, 7), expected) < 1e-5
    assert expected.std() > 1e-3  # the images are told apart, or equality would say little
    larger = np.zeros((1, 3, height + 64, width + 32), np.float32)
    larger[:, :, :height, :width] = image
    assert convolutional.forward(data=larger)["prob"].shape == (1, 7, 3, 2)


def test_a_published_classifier_file_gives_its_scores_when_convolutional():
    with h5py.File(cases.REFERENCE / "tiny-vgg16.h5") as file:
        expected = file["fc8"][()]
    param = convolutionalise.convolutionalise(models.vgg16(classes=10, width=4, fc=24, deploy=True))
    net = Net(param)
    surgery.transplant(net, read_weights(cases.REFERENCE / "tiny-vgg16-v1.caffemodel"))
    net.forward(data=rule.image("tiny-vgg16", "data", (1, 3, 224, 224)) / 64)
    got = net.blobs["fc8"].data
    assert cases.relative_error(got.reshape(expected.shape), expected) < 1e-5


def test_a_classifier_file_becomes_its_convolutional_form(tmp_path):
    source = read_weights(cases.REFERENCE / "tiny-vgg16-v1.caffemodel")
    net, weights, report = convolutionalise.classifier_to_fcn(source)
    assert net == convolutionalise.convolutionalise(models.vgg16(10, 4, 24, deploy=True))
    assert weights["fc6"][0].shape == (24, 32, 7, 7) and weights["fc8"][0].shape == (10, 24, 1, 1)
    assert np.shares_memory(weights["fc6"][0], source["fc6"][0])  # half a gigabyte at full size
    assert not report.left and not report.untouched
    write_weights(tmp_path / "fcn.h5", weights, deploy=proto.to_text(net))
    assert load(tmp_path / "fcn.h5").params["fc6"][0].shape == (24, 32, 7, 7)
    with pytest.raises(InputError, match="no net in the catalogue"):
        convolutionalise.classifier_to_fcn({"odd": [np.zeros((2, 2), np.float32)]})


def test_googlenets_scores_are_the_mean_of_its_fcns():
    """The classifier averages its map, then scores; the FCN scores: the mean of that is the same."""
    classifier = Net(models.googlenet(classes=5, width=4, deploy=True))
    fcn = Net(models.fcn_googlenet(classes=5, width=4, size=(224, 224), deploy=True))
    surgery.transplant(classifier, drawn(classifier.param))
    report = surgery.initialise(fcn, classifier, rename={"loss3/classifier": "score_fr"})
    assert not report.left and not report.untouched
    image = rule.image("googlenet", "data", (1, 3, 224, 224)) / 64
    classifier.forward(data=image)
    fcn.forward(data=image)
    scores = fcn.blobs["score_fr"].data.mean((2, 3))
    assert cases.relative_error(scores, classifier.blobs["loss3/classifier"].data) < 1e-5


def test_only_plain_inner_products_are_convolutions():
    param = models.vgg16(width=1, deploy=True)
    param.layer[-8].inner_product_param.transpose = True
    wrong = next(layer for layer in param.layer if layer.inner_product_param.transpose)
    with pytest.raises(InputError, match=f"layer '{wrong.name}'.*not transposed"):
        convolutionalise.convolutionalise(param)
