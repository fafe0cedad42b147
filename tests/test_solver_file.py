"""`fcnlite solve SOLVER.prototxt` on a small net that the original experiments' data layers feed."""

import signal

import numpy as np
import pytest
from cupy_standin import standing_in
from test_data_voc import make_sbd, make_voc

import fcnlite.io
from fcnlite import metrics
from fcnlite.commands.solve import main
from fcnlite.data import VOC, ImageOrder, preprocess
from fcnlite.data.classes import VOC as VOC_CLASSES
from fcnlite.errors import InputError
from fcnlite.layers import python
from fcnlite.net import Net, argmax_channels, load
from fcnlite.proto import TEST, TRAIN
from fcnlite.solver import SGDSolver
from fcnlite.surgery import bilinear_weights
from fcnlite.training.solver_file import heads, train

NET = """
layer {{ name: "data" type: "Python" top: "data" top: "label"
  python_param {{ module: "voc_layers" layer: "{layer}"
    param_str: "{{'{key}': '{folder}', 'split': '{split}', 'seed': 1337, 'mean': (104, 117, 123)}}" }} }}
layer {{ name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param {{ num_output: 3 kernel_size: 3 pad: 5 stride: 2
    weight_filler {{ type: "gaussian" std: 0.01 }} }} }}
layer {{ name: "drop" type: "Dropout" bottom: "conv1" top: "conv1" }}
layer {{ name: "score_fr" type: "Convolution" bottom: "conv1" top: "score_fr"
  convolution_param {{ num_output: 21 kernel_size: 1 }} }}
layer {{ name: "upscore" type: "Deconvolution" bottom: "score_fr" top: "upscore" param {{ lr_mult: 0 }}
  convolution_param {{ num_output: 21 kernel_size: 4 stride: 2 bias_term: false }} }}
layer {{ name: "score" type: "Crop" bottom: "upscore" bottom: "data" top: "score" crop_param {{ axis: 2 offset: 4 }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss"
  loss_param {{ normalize: false ignore_label: 255 }} }}
"""
SOLVER = """
train_net: "train.prototxt" test_net: "val.prototxt" test_iter: 9 test_interval: 1000 test_initialization: false
base_lr: 1e-6 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.0005 max_iter: 6 snapshot: 4 random_seed: 3
snapshot_prefix: "snapshot/train"
"""


@pytest.fixture
def folder(tmp_path):
    """An experiment beside its data, as in the original repository."""
    make_sbd(tmp_path / "data" / "sbdd", {"train": list("abcde")})
    make_voc(tmp_path / "data" / "VOC2011", {"seg11valid": list("xyz")})
    folder = tmp_path / "experiment"
    folder.mkdir()
    train_net = NET.format(layer="SBDDSegDataLayer", key="sbdd_dir", folder="../data/sbdd", split="train")
    val_net = NET.format(layer="VOCSegDataLayer", key="voc_dir", folder="../data/VOC2011", split="seg11valid")
    (folder / "train.prototxt").write_text(train_net)
    (folder / "val.prototxt").write_text(val_net)
    (folder / "solver.prototxt").write_text(SOLVER)
    return folder


def weights_of(path):
    return {name: [np.array(a) for a in arrays] for name, arrays in fcnlite.io.read_weights(path).items()}


def test_a_run_from_another_folder_trains_scores_and_saves_beside_its_solver(
    folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["experiment/solver.prototxt", "--device", "cpu"]) == 0
    saved = sorted(path.name for path in (folder / "snapshot").iterdir())
    assert saved == [f"train_iter_{n}.{kind}" for n in (4, 6) for kind in ("caffemodel", "solverstate")]
    told = capsys.readouterr().out
    assert "iteration 4: test loss" in told and "iteration 6: score: pixel accuracy" in told

    net = Net(folder / "val.prototxt", TEST, weights=folder / "snapshot" / "train_iter_6.caffemodel")
    np.testing.assert_array_equal(net.params["upscore"][0].data, bilinear_weights((21, 21, 4, 4)))
    data, counts, loss = VOC(tmp_path / "data" / "VOC2011", "seg11valid"), 0, 0.0
    for sample in data:
        loss += float(net.forward()["loss"])
        counts = counts + metrics.histogram(sample.label, argmax_channels(net.blobs["score"].data)[0], 21)
    assert f"iteration 6: test loss {loss / len(data):g}\n" in told
    assert f"iteration 6: score: {metrics.scores(counts)}\n" in told


def test_hdf5_snapshots_are_ready_to_predict(folder, tmp_path, monkeypatch):
    (folder / "solver.prototxt").write_text(SOLVER + "snapshot_format: HDF5")
    train(folder / "solver.prototxt", iterations=1, score_every=0)
    saved = folder / "snapshot" / "train_iter_1.caffemodel.h5"
    trained = Net(folder / "val.prototxt", TEST, weights=saved)
    (tmp_path / "data").rename(tmp_path / "gone")  # it needs no data
    net = load(saved)
    assert (net.inputs, tuple(net.notes.mean_bgr)) == (["data"], (104, 117, 123))
    assert net.notes.classes == {"score": VOC_CLASSES} and net.notes.background == 0
    image = np.random.default_rng(1).integers(0, 256, (9, 14, 3)).astype(np.uint8)
    trained.blobs["data"].data = preprocess(image, (104, 117, 123))[None]
    trained.blobs["label"].data = np.zeros((1, 1, 9, 14), np.float32)
    trained.forward(start="data_data_0_split")
    np.testing.assert_array_equal(net.predict(image), argmax_channels(trained.blobs["score"].data)[0])


def test_images_come_in_the_original_order(folder):
    net = Net(folder / "train.prototxt", TRAIN)
    dataset, order = net.layers[0].dataset, ImageOrder(5, True, 1337)
    for _ in range(7):
        net.forward()
        expected = dataset.blobs(next(order))
        for name in ("data", "label"):
            np.testing.assert_array_equal(net.blobs[name].data[0], expected[name])
    net.layers[0].seek(2)
    order.seek(2)
    net.reshape()  # sizes blobs for the image to come, and must not use it up
    net.reshape()
    net.forward()
    np.testing.assert_array_equal(net.blobs["data"].data[0], dataset.blobs(next(order))["data"])


def test_a_resumed_run_ends_with_the_same_bits(folder, monkeypatch):
    monkeypatch.chdir(folder)
    train("solver.prototxt")
    unbroken = weights_of("snapshot/train_iter_6.caffemodel")
    assert (
        main(["solver.prototxt", "--resume", "snapshot/train_iter_4.solverstate", "--score-every", "0"]) == 0
    )
    resumed = weights_of("snapshot/train_iter_6.caffemodel")
    for name, arrays in unbroken.items():
        for a, b in zip(arrays, resumed[name]):
            np.testing.assert_array_equal(a, b)


def test_the_gpu_trains_to_the_cpus_numbers(folder, monkeypatch):
    saved = {}
    with standing_in(monkeypatch):
        for name in ("cpu", "cuda"):
            assert (
                main([str(folder / "solver.prototxt"), "--iterations", "3", "--device", name, "--overwrite"])
                == 0
            )
            saved[name] = weights_of(folder / "snapshot" / "train_iter_3.caffemodel")
    for layer, arrays in saved["cpu"].items():
        for a, b in zip(arrays, saved["cuda"][layer]):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal_it_saves_and_says_how_to_go_on(folder, monkeypatch, capsys, sent):
    monkeypatch.chdir(folder)
    step = SGDSolver.step

    def interrupted(self, count=1):
        step(self, count)
        if self.iter == 3:
            signal.raise_signal(sent)

    monkeypatch.setattr(SGDSolver, "step", interrupted)
    assert main(["solver.prototxt"]) == 128 + sent
    told = capsys.readouterr().err
    assert "stopped after iteration 3; go on with --resume snapshot/train_iter_3.solverstate" in told
    monkeypatch.setattr(SGDSolver, "step", step)
    assert train("solver.prototxt", resume="snapshot/train_iter_3.solverstate").iter == 6


def test_a_prefix_that_cannot_be_written_is_told_before_training(folder, monkeypatch):
    (folder / "snapshot").write_text("")
    monkeypatch.setattr(SGDSolver, "step", lambda *_: pytest.fail("trained"))
    with pytest.raises(InputError, match=r"^snapshot_prefix .*snapshot/train: cannot be written \(.*\)$"):
        train(folder / "solver.prototxt")


def test_weights_fill_layers_by_suffix(folder, tmp_path):
    text = (folder / "train.prototxt").read_text().replace('"conv1"', '"conv1color"')
    (folder / "train.prototxt").write_text(text)
    (folder / "solver.prototxt").write_text(SOLVER.replace('test_net: "val.prototxt" test_iter: 9', ""))
    weight, bias = np.full((3, 3, 3, 3), 0.5, np.float32), np.arange(3, dtype=np.float32)
    fcnlite.io.write_weights(tmp_path / "rgb.h5", {"conv1": [weight, bias]})
    solver = train(folder / "solver.prototxt", [f"color={tmp_path / 'rgb.h5'}"], iterations=0)
    np.testing.assert_array_equal(solver.net.params["conv1color"][0].data, weight)
    np.testing.assert_array_equal(solver.net.params["conv1color"][1].data, bias)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "missing.h5"], "missing.h5"),
        (["--weights", "other.h5"], "other.h5: none of its layers is in the net"),
        (["--weights", "wrong.h5"], "wrong.h5: layer 'conv1': parameters of shape"),
        (["--resume", "train.prototxt"], "train.prototxt"),
        (["--resume", "none.solverstate"], "none.solverstate: there is no such file"),
        (["--iterations", "-1"], "--iterations"),
    ],
)
def test_mistakes_are_told_in_one_line(folder, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(folder)
    one = np.ones((1, 1), np.float32)
    fcnlite.io.write_weights("other.h5", {"ip": [one]})
    fcnlite.io.write_weights("wrong.h5", {"conv1": [one]})
    try:
        status = main(["solver.prototxt", *arguments])
    except SystemExit as left:
        status = left.code
    told = capsys.readouterr().err
    assert status == 2
    assert message in told.splitlines()[-1]
    assert "Traceback" not in told


def test_missing_data_names_layer_and_folder(folder, tmp_path, capsys):
    (tmp_path / "data" / "sbdd").rename(tmp_path / "elsewhere")
    assert main([str(folder / "solver.prototxt")]) == 2
    told = capsys.readouterr().err
    assert "layer 'data' (SBDDSegDataLayer): SBD data" in told and "sbdd" in told


def test_other_python_layers_run_only_when_allowed(folder, monkeypatch, capsys):
    (folder / "doubling.py").write_text(
        "import caffe\n\n\nclass Doubling(caffe.Layer):\n"
        "    def reshape(self, bottom, top):\n        top[0].reshape(*bottom[0].shape)\n\n"
        "    def forward(self, bottom, top):\n        top[0].data[...] = 2 * bottom[0].data\n\n"
        "    def backward(self, top, propagate_down, bottom):\n        bottom[0].diff[...] = 2 * top[0].diff\n"
    )
    layer = (
        'layer { name: "twice" type: "Python" bottom: "conv1" top: "twice"'
        ' python_param { module: "doubling" layer: "Doubling" } }\nlayer { name: "score_fr"'
    )
    for name in ("train", "val"):
        path = folder / f"{name}.prototxt"
        text = path.read_text().replace('layer { name: "score_fr"', layer)
        path.write_text(text.replace('"Convolution" bottom: "conv1"', '"Convolution" bottom: "twice"'))
    arguments = [str(folder / "solver.prototxt"), "--iterations", "1", "--score-every", "0"]
    assert main(arguments) == 2
    assert "layer 'twice' (Python): it needs Doubling of module 'doubling'" in capsys.readouterr().err
    monkeypatch.setattr(python, "_may_import", False)  # put back afterwards
    assert main([*arguments, "--allow-python-layers"]) == 0
    net = Net(folder / "val.prototxt", TEST)
    net.forward()
    np.testing.assert_array_equal(net.blobs["twice"].data, 2 * net.blobs["conv1"].data)


def test_classifiers_train_without_being_scored_as_segmenters(tmp_path, capsys, caplog):
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "in" type: "DummyData" top: "data" top: "label" dummy_data_param { '
        "shape { dim: 4 dim: 3 } shape { dim: 4 } } }"
        'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 5 } }'
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }'
        'layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" '
        "include { phase: TEST } }"
    )
    (tmp_path / "solver.prototxt").write_text(
        'net: "net.prototxt" test_iter: 2 test_interval: 1 base_lr: 0.1 lr_policy: "fixed" max_iter: 2 snapshot: 1'
    )
    with caplog.at_level("INFO", "fcnlite"):
        assert main([str(tmp_path / "solver.prototxt")]) == 0
    assert "test net 0: accuracy = 1" in caplog.text
    assert "pixel accuracy" not in capsys.readouterr().out
    assert (tmp_path / "solver_iter_2.caffemodel").is_file()


def test_heads_are_found_behind_splits(folder):
    text = (folder / "val.prototxt").read_text() + 'layer { name: "quiet" type: "Silence" bottom: "score" }'
    assert heads(Net(text, TEST, folder=folder)) == [("score", "label")]
