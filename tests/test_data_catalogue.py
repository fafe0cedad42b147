"""Data sets by name, the paper's recipes, and the original experiments' data layers."""

import numpy as np
import pytest
from test_data_scenes import make_context, make_nyud, make_siftflow
from test_data_voc import make_sbd, make_voc

from fcnlite.data import SPLITS, Batches, ImageOrder, is_data_layer, open_data_layer, open_dataset
from fcnlite.data.catalogue import canonical, names, options_of
from fcnlite.errors import InputError
from fcnlite.training.recipes import HEAVY, recipe


def test_every_data_set_opens_by_name_on_the_split_it_is_trained_on(tmp_path):
    make_voc(tmp_path / "voc", {"train": ["a"]})
    make_sbd(tmp_path / "sbd", {"train": ["a"]})
    make_nyud(tmp_path / "nyud")
    make_siftflow(tmp_path / "siftflow")
    make_context(tmp_path / "pascalcontext" / "VOC2010", tmp_path / "pascalcontext")
    extra = {"shapes": {"train": 1, "val": 1}}
    assert set(names()) == set(SPLITS)
    for name in set(names()) - {"folder"}:  # pictures of one's own are opened in test_data_folder
        data = open_dataset(name, tmp_path / name, **extra.get(name, {}))
        assert data.split == SPLITS[name].train
        blobs = data.blobs(0)
        assert set(data.heads) < set(blobs)
        for head, classes in data.heads.items():
            assert set(np.unique(blobs[head])) <= {*range(len(classes)), 255}
            assert blobs[head].shape == (1, *data[0].image.shape[:2])
        assert repr(data).startswith(type(data).__name__)


def test_names_are_forgiving_and_wrong_ones_told():
    assert [canonical(n) for n in ("VOC", "NYUDv2", "sift-flow", "PASCAL-Context", "SBDD")] == [
        "voc", "nyud", "siftflow", "pascalcontext", "sbd",
    ]  # fmt: skip
    with pytest.raises(InputError, match="no data set is called 'shapse'; did you mean 'shapes'?"):
        open_dataset("shapse", ".")


def test_options_are_checked_and_none_means_default(tmp_path):
    make_nyud(tmp_path)
    assert list(open_dataset("nyud", tmp_path, mode="rgbd", mapping=None).blobs(0)) == [
        "color", "depth", "label",
    ]  # fmt: skip
    with pytest.raises(InputError, match="nyud has no option 'year'; it has mode, mapping, check"):
        open_dataset("nyud", tmp_path, year=2011)
    with pytest.raises(InputError, match="no mode 'xyz'; its modes are rgb, rgbd, hha, rgb-hha"):
        open_dataset("nyud", tmp_path, mode="xyz")
    assert options_of("voc") == ["year", "sbd_folder", "labels", "check"]


def test_recipes_are_those_of_the_published_solvers():
    published = {
        "fcn32s": (1e-10, 100_000, 4000),
        "fcn16s": (1e-12, 100_000, 4000),
        "fcn8s": (1e-14, 100_000, 4000),
        "fcn8s-atonce": (1e-10, 300_000, 4000),
        "nyud-fcn32s-color": (1e-10, 300_000, 2000),
        "nyud-fcn32s-color-d": (1e-10, 300_000, 2000),
        "nyud-fcn32s-hha": (1e-10, 300_000, 2000),
        "nyud-fcn32s-color-hha": (1e-12, 300_000, 2000),
        "nyud-fcn16s-color-hha": (1e-14, 300_000, 2000),
        "siftflow-fcn32s": (1e-10, 300_000, 4000),
        "siftflow-fcn16s": (1e-12, 300_000, 4000),
        "siftflow-fcn8s": (1e-12, 300_000, 4000),
        "pascalcontext-fcn32s": (1e-10, 300_000, 4000),
        "pascalcontext-fcn16s": (1e-12, 300_000, 4000),
        "pascalcontext-fcn8s": (1e-14, 300_000, 4000),
    }
    for net, (lr, iterations, snapshot) in published.items():
        r = recipe(net)
        assert (r.lr, r.iterations, r.snapshot) == (lr, iterations, snapshot)
        assert (r.momentum, r.weight_decay, r.iter_size, r.normalize) == (0.99, 5e-4, 1, False)
    alexnet = recipe("fcn-alexnet")
    assert (alexnet.lr, alexnet.momentum, alexnet.iter_size, alexnet.normalize) == (1e-4, 0.9, 20, True)


def test_cvpr15_rates():
    rates = {net: recipe(net, "cvpr15").lr for net in ("fcn-alexnet", "fcn32s", "fcn-googlenet")}
    assert rates == {"fcn-alexnet": 1e-3, "fcn32s": 1e-4, "fcn-googlenet": 5e-5}
    assert recipe("fcn16s", "cvpr15").lr == pytest.approx(1e-6)
    for net in HEAVY:
        r = recipe(net, "cvpr15")
        assert (r.momentum, r.iter_size, r.normalize) == (0.9, 20, True)


def test_chains_lead_to_a_classifier():
    classifiers = {"vgg16", "caffenet", "googlenet"}
    for net in HEAVY:
        waiting, steps = [net], 0
        while waiting:
            waiting = [n for start in waiting for n in recipe(start).start if n not in classifiers]
            steps += 1
        assert steps <= 3
    with pytest.raises(InputError, match="no recipe for the net 'fcn8'; did you mean 'fcn8s'?"):
        recipe("fcn8")
    with pytest.raises(InputError, match="no recipe 'light'"):
        recipe("fcn8s", "light")


def test_the_original_voc_layers(tmp_path):
    make_sbd(tmp_path / "data/sbdd/dataset", {"train": list("abcdefg")})
    make_voc(tmp_path / "data/pascal/VOC2011", {"seg11valid": list("xyz")})
    net = tmp_path / "voc-fcn32s"
    net.mkdir()
    text = (
        "{'sbdd_dir': '../data/sbdd/dataset', 'seed': 1337, 'split': 'train',"
        " 'mean': (104.00699, 116.66877, 122.67892)}"
    )
    with open_data_layer("SBDDSegDataLayer", text, ["data", "label"], net) as fed:
        order = ImageOrder(7, True, 1337)
        for _ in range(10):
            expected = fed.dataset.blobs(next(order))
            got = next(fed)
            for name in ("data", "label"):
                np.testing.assert_array_equal(got[name][0], expected[name])
    text = "{'voc_dir': '../data/pascal/VOC2011', 'seed': 1337, 'split': 'seg11valid', 'mean': (1, 2, 3)}"
    with open_data_layer("VOCSegDataLayer", text, ["input", "truth"], net, position=2) as fed:
        got = next(fed)
        assert list(got) == ["input", "truth"]
        image = fed.dataset[2].image.astype(np.float32)[:, :, ::-1] - np.array([1, 2, 3])
        np.testing.assert_array_equal(got["input"][0], image.astype(np.float32).transpose(2, 0, 1))


def test_the_other_original_layers(tmp_path, monkeypatch):
    make_nyud(tmp_path / "nyud")
    make_siftflow(tmp_path / "siftflow")
    make_context(tmp_path / "pascal" / "VOC2010", tmp_path / "context")
    cases = {
        "NYUDSegDataLayer": (
            "{'tops': ['color', 'hha', 'label'], 'seed': 1337, 'nyud_dir': 'nyud', 'split': 'trainval'}",
            ["color", "hha", "label"],
        ),
        "SIFTFlowSegDataLayer": (
            "{'siftflow_dir': 'siftflow', 'seed': 1337, 'split': 'trainval'}",
            ["data", "sem", "geo"],
        ),
        "PASCALContextSegDataLayer": (
            "{'context_dir': 'context', 'seed': 1337, 'split': 'train', 'voc_dir': 'pascal'}",
            ["data", "label"],
        ),
    }
    monkeypatch.chdir(tmp_path)
    for layer, (text, tops) in cases.items():
        # The paths lead from the working folder where the prototxt's folder has no such thing.
        with open_data_layer(layer, text, tops, tmp_path / "somewhere") as fed:
            assert list(next(fed)) == tops
        with (
            open_data_layer(layer, text, tops[:-1], tmp_path) as fed,
            pytest.raises(InputError, match="cannot fill"),
        ):
            next(fed)


@pytest.mark.parametrize(
    ("layer", "text", "message"),
    [
        ("MyLayer", "{}", "MyLayer is none of the FCN data layers"),
        ("VOCSegDataLayer", "__import__('os').system('true')", "is not a Python literal"),
        ("VOCSegDataLayer", "{'voc_dir': ", "is not a Python literal"),
        ("VOCSegDataLayer", "[1]", "is not a dict"),
        ("VOCSegDataLayer", "{'voc_dir': 'x', 'split': 'val'}", "lacks 'mean'"),
        ("VOCSegDataLayer", "{'voc_dir': 'x', 'split': 3, 'mean': 1}", "split is 3"),
        ("SIFTFlowSegDataLayer", "{'siftflow_dir': 'x', 'split': 'a', 'seed': 'b'}", "seed is 'b'"),
    ],
)
def test_wrong_parameters_of_layers(tmp_path, layer, text, message):
    with pytest.raises(InputError, match=message):
        open_data_layer(layer, text, ["data", "label"], tmp_path)
    assert is_data_layer("siftflow_layers", layer) == (layer == "SIFTFlowSegDataLayer")


def test_a_wrong_mean_is_told(tmp_path):
    make_voc(tmp_path / "VOC2011", {"val": ["a"]})
    text = "{'voc_dir': 'VOC2011', 'split': 'val', 'mean': (1, 2)}"
    with pytest.raises(InputError, match=r"mean is \(1, 2\), not three numbers"):
        open_data_layer("VOCSegDataLayer", text, ["data", "label"], tmp_path)


def test_names_replace_the_data_sets_own(tmp_path):
    make_voc(tmp_path, {"val": ["a"]})
    with Batches(open_dataset("voc", tmp_path, "val"), names=["x", "y"]) as batches:
        assert list(next(batches)) == ["x", "y"]
