"""Bare weights are told apart by their layers' names and shapes."""

import cases
import numpy as np
import pytest

from fcnlite import convolutionalise, geometry, models, surgery
from fcnlite.io import iter_weights, write_weights
from fcnlite.net import load

SMALL = {
    **dict.fromkeys(models.names(), {"width": 2, "classes": 4}),
    "vgg16": {"width": 2, "classes": 4, "fc": 12},
    "fcn8s": {"width": 3, "classes": 4, "fc": 12},
    "siftflow-fcn8s": {"width": 2, "classes": 7, "geometric": 2},
    "fcn-alexnet": {"width": 6, "classes": 4, "fc": 24},
}
# Nets that differ from these in nothing that weights show.
SAME = {
    "nyud-fcn32s-color": "fcn32s",
    "nyud-fcn32s-hha": "fcn32s",
    "pascalcontext-fcn32s": "fcn32s",
    "pascalcontext-fcn16s": "fcn16s",
    "pascalcontext-fcn8s": "fcn8s",
    "alexnet": "caffenet",
}


def shapes_of(net):
    return {layer.name: [p.shape for p in layer.parameters] for layer in geometry.measure(net)}


@pytest.mark.parametrize("name", models.names())
def test_every_net_is_recognised_with_its_options(name):
    shapes = shapes_of(models.build(name, **SMALL[name]))
    found = models.recognise(dict(sorted(shapes.items())))  # HDF5 files are in alphabetical order
    assert found is not None and found.name == SAME.get(name, name)
    same_sizes = shapes_of(models.build(SAME.get(name, name), deploy=True, **SMALL[name]))
    assert shapes_of(found) == same_sizes


def test_old_shapes_are_recognised():
    shapes = {
        n: [a.shape for a in arrays]
        for n, arrays in iter_weights(cases.REFERENCE / "tiny-vgg16-v1.caffemodel")
    }
    assert shapes["fc8"][0] == (1, 1, 10, 24)
    assert models.recognise(shapes) == models.vgg16(10, 4, 24, deploy=True)


def test_auxiliary_classifiers_do_not_matter():
    net = models.googlenet(classes=3, width=4, deploy=True)
    aux = {"loss1/conv": [(2, 3, 1, 1), (2,)], "loss2/classifier": [(3, 9), (3,)]}
    assert models.recognise(shapes_of(net) | aux) == net


@pytest.mark.parametrize(
    "change",
    [
        {"conv1_1": [(2, 4, 3, 3), (2,)]},  # another number of inputs
        {"conv1_1": [(2, 3, 3, 3)]},  # no bias
        {"more": [(1,)]},
        {"score_fr": []},
        {"score_fr": [(0, 128, 1, 1), (0,)]},
        {"conv1_1": [()]},
    ],
)
def test_what_fits_no_net_is_none(change):
    assert models.recognise(shapes_of(models.fcn32s(classes=4, width=2)) | change) is None
    assert models.recognise({}) is None


def test_bare_weights_load(tmp_path):
    net = models.siftflow_fcn16s(classes=5, geometric=2, width=2, size=(20, 20))
    weights = convolutionalise.fresh(net)
    surgery.interpolate(weights)
    write_weights(tmp_path / "bare.h5", weights)
    loaded = load(tmp_path / "bare.h5")
    assert loaded.blobs["score_sem"].shape[1] == 5 and loaded.blobs["score_geo"].shape[1] == 2
    np.testing.assert_array_equal(loaded.params["upscore16_geo"][0].data, weights["upscore16_geo"][0])
