"""fcnlite.caffe as a whole: under the name caffe, as a runner of scripts, its settings, messages and other parts."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from commands import ends
from google.protobuf import text_format
from PIL import Image

import fcnlite.caffe as caffe
from fcnlite import device
from fcnlite.caffe import draw, session
from fcnlite.caffe.__main__ import main
from fcnlite.errors import InputError
from fcnlite.layers import LAYERS
from fcnlite.proto import read_net

CLASSIFIER = """
name: "classifier"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 10 dim: 3 dim: 6 dim: 6 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 2 kernel_size: 6 } }
layer { name: "flat" type: "Flatten" bottom: "conv" top: "flat" }
layer { name: "prob" type: "Softmax" bottom: "flat" top: "prob" }
"""


def python(code, *arguments, **environment):
    """Run code in a process of its own."""
    return subprocess.run(
        [sys.executable, *arguments, *(["-c", textwrap.dedent(code)] if code else [])],
        capture_output=True, text=True, timeout=100, env={**os.environ, "FCNLITE_DEVICE": "cpu", **environment},
    )  # fmt: skip


def test_scripts_may_say_import_caffe():
    done = python(
        """
        import fcnlite.caffe
        fcnlite.caffe.install()
        fcnlite.caffe.install()
        import caffe, caffe.io, caffe.draw
        import caffe.proto.caffe_pb2 as pb2
        from caffe import layers as L, params as P, NetSpec, to_proto
        from caffe.coord_map import crop, coord_map_from_to
        from caffe.net_spec import Top
        from caffe.pycaffe import Net
        from caffe.classifier import Classifier
        from caffe.detector import Detector
        from caffe.proto import caffe_pb2
        assert caffe is fcnlite.caffe and caffe.io is fcnlite.caffe.io and Net is caffe.Net
        assert (pb2.TRAIN, pb2.TEST) == (caffe.TRAIN, caffe.TEST) == (0, 1)
        assert P.Pooling.AVE == pb2.PoolingParameter.AVE == pb2.PoolingParameter.PoolMethod.Value("AVE")
        assert pb2.Phase.Name(1) == "TEST" and caffe_pb2.SolverParameter.SolverMode.Value("GPU") == 1
        assert caffe.__version__ == "1.0.0"
        n = NetSpec()
        n.data = L.Input(shape=dict(dim=[1, 3, 8, 8]))
        n.up = L.Deconvolution(n.data, convolution_param=dict(num_output=3, kernel_size=3))
        n.score = crop(n.up, n.data)
        print(n.to_proto().layer[-1].crop_param.offset)
        """
    )
    assert (done.returncode, done.stdout) == (0, "[1]\n"), done.stderr


def test_another_caffe_is_not_pushed_aside():
    done = python(
        """
        import sys, types
        sys.modules["caffe"] = types.ModuleType("caffe")
        import fcnlite.caffe
        try:
            fcnlite.caffe.install()
        except RuntimeError as error:
            print(error)
        """
    )
    assert done.stdout.startswith("another caffe is imported already"), done.stderr


def test_the_runner_gives_a_script_its_arguments_neighbours_and_caffe(tmp_path):
    (tmp_path / "helper.py").write_text("def double(x):\n    return 2 * x\n")
    (tmp_path / "script.py").write_text(
        "import sys\nimport caffe\nimport helper\n\nif __name__ == '__main__':\n"
        "    print(sys.argv[1:], helper.double(3), caffe.Net.__module__)\n"
    )
    done = python("", "-m", "fcnlite.caffe", str(tmp_path / "script.py"), "0", "--flag")
    assert done.stdout == "['0', '--flag'] 6 fcnlite.caffe.net\n", done.stderr
    assert ends(main, [tmp_path / "nothing.py"]) == 2


def test_python_layers_in_scripts_need_the_flag(tmp_path):
    (tmp_path / "my_layers.py").write_text(
        "import caffe\n\nclass One(caffe.Layer):\n"
        "    def reshape(self, bottom, top):\n        top[0].reshape(1)\n\n"
        "    def forward(self, bottom, top):\n        top[0].data[...] = 1\n"
    )
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "one" type: "Python" top: "one" python_param { module: "my_layers" layer: "One" } }'
    )
    script = tmp_path / "script.py"
    script.write_text(
        f"import caffe\nprint(caffe.Net({str(tmp_path / 'net.prototxt')!r}, caffe.TEST).forward()['one'])\n"
    )
    done = python("", "-m", "fcnlite.caffe", "--allow-python-layers", str(script))
    assert done.stdout == "[1.]\n", done.stderr
    done = python("", "-m", "fcnlite.caffe", str(script))
    assert done.returncode and "module 'my_layers', which is code to run" in done.stderr


def test_logging_follows_glogs_variable(tmp_path):
    code = "import fcnlite.caffe as caffe; caffe.log('hello'); caffe.init_log(2); caffe.log('again')"
    assert "hello" in python(code).stderr and "again" not in python(code).stderr
    assert "hello" not in python(code, GLOG_minloglevel="2").stderr
    quiet = "import logging; logging.basicConfig(level=30); " + code.split("caffe.init_log")[0]
    assert "hello" not in python(quiet).stderr


def test_modes_without_a_gpu(capsys, monkeypatch):
    monkeypatch.setattr(device, "_current", None)
    monkeypatch.setattr(session, "_gpu", 0)
    monkeypatch.setattr(session, "_mode_gpu", False)
    monkeypatch.setattr("fcnlite.backend.cuda.problem", lambda: "finds no GPU")
    caffe.set_device(0)
    caffe.set_mode_gpu()
    assert device.current().name == "cpu"
    told = capsys.readouterr().err
    assert "set_mode_gpu: no GPU can be used" in told and told.count("CPU") + told.count("cpu device") == 1
    caffe.set_mode_cpu()
    caffe.set_device(1)
    assert device.current().name == "cpu" and not capsys.readouterr().err


def test_one_solver_on_one_device():
    assert (caffe.solver_count(), caffe.solver_rank(), caffe.has_nccl()) == (1, 0, False)
    caffe.set_solver_count(1)
    caffe.set_solver_rank(0)
    caffe.set_multiprocess(False)
    with pytest.raises(InputError, match="2 solvers cannot train together in 1 processes: start"):
        caffe.set_solver_count(2)
    with pytest.raises(InputError, match="this is solver number 0 of 1, not 1"):
        caffe.set_solver_rank(1)


def test_layer_types_are_those_that_can_be_built():
    types = caffe.layer_type_list()
    assert types == sorted(LAYERS)
    assert {"Data", "Convolution", "InnerProduct", "Python", "SoftmaxWithLoss", "Crop", "MemoryData"} <= set(
        types
    )


def test_messages_are_caffes():
    net = caffe.proto.caffe_pb2.NetParameter()
    text_format.Merge(CLASSIFIER, net)
    assert [layer.type for layer in net.layer] == ["Input", "Convolution", "Flatten", "Softmax"]
    assert caffe.proto.caffe_pb2.NetParameter.FromString(net.SerializeToString()) == net
    with pytest.raises(AttributeError, match="no message 'Nonsense'"):
        caffe.proto.caffe_pb2.Nonsense  # noqa: B018
    with pytest.raises(AttributeError):
        caffe.nonsense  # noqa: B018


def test_timer():
    timer = caffe.Timer()
    timer.start()
    sum(range(100_000))
    timer.stop()
    assert 0 < timer.ms < 10_000


@pytest.fixture
def classifier_files(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "_current", None)
    caffe.set_mode_cpu()
    (tmp_path / "net.prototxt").write_text(CLASSIFIER)
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    for blob in net.params["conv"]:
        blob.data[...] = np.random.default_rng(8).normal(scale=0.02, size=blob.shape)
    net.save(str(tmp_path / "net.caffemodel"))
    return str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel")


def probabilities(model, crop):
    """What the classifier makes of one crop prepared by hand."""
    x = 255 * crop[:, :, ::-1].transpose(2, 0, 1) - np.array([1, 2, 3])[:, None, None]
    scores = (model.params["conv"][0].data * x).sum(axis=(1, 2, 3)) + model.params["conv"][1].data
    return np.exp(scores) / np.exp(scores).sum()


def test_classifying_averages_over_crops(classifier_files):
    model = caffe.Classifier(
        *classifier_files,
        image_dims=(8, 9),
        mean=np.array([1.0, 2, 3]),
        raw_scale=255,
        channel_swap=(2, 1, 0),
    )
    images = list(np.random.default_rng(9).random((3, 8, 9, 3)).astype(np.float32))
    centre = model.predict(images, oversample=False)
    for image, got in zip(images, centre):
        np.testing.assert_allclose(got, probabilities(model, image[1:7, 1:7]), rtol=1e-5)
    averaged = model.predict(images)
    assert averaged.shape == (3, 2)
    crops = caffe.io.oversample([images[1]], (6, 6))
    expected = np.mean([probabilities(model, crop) for crop in crops], axis=0)
    np.testing.assert_allclose(averaged[1], expected, rtol=1e-5)


def test_detecting_runs_windows(classifier_files, tmp_path):
    pixels = np.random.default_rng(10).integers(0, 256, (12, 15, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    named = {"mean": np.array([1.0, 2, 3]), "raw_scale": 255, "channel_swap": (2, 1, 0)}
    model = caffe.Detector(*classifier_files, **named)
    windows = [(1, 2, 7, 8), (0, 0, 12, 15)]
    found = model.detect_windows([(tmp_path / "x.png", windows)])
    assert [(d["filename"], d["window"]) for d in found] == [(tmp_path / "x.png", w) for w in windows]
    image = pixels / 255
    np.testing.assert_allclose(found[0]["prediction"], probabilities(model, image[1:7, 2:8]), rtol=1e-5)
    whole = caffe.io.resize_image(image, (6, 6))
    np.testing.assert_allclose(found[1]["prediction"], probabilities(model, whole), rtol=1e-5)
    assert model.detect_windows([]) == []


def test_windows_with_their_surroundings(classifier_files, tmp_path):
    named = {"mean": np.array([1.0, 2, 3]), "raw_scale": 255, "channel_swap": (2, 1, 0)}
    model = caffe.Detector(*classifier_files, **named, context_pad=1)
    image = np.random.default_rng(11).random((20, 20, 3)).astype(np.float32)
    # The input is 6 pixels, 4 of them the window: a window of 8 grows to 12 around its centre.
    crop = model.crop(image, (6, 6, 13, 13))
    np.testing.assert_allclose(crop, caffe.io.resize_image(image[4:16, 4:16], (6, 6)), atol=1e-6)
    corner = model.crop(image, (0, 0, 7, 7))
    mean_rgb = np.array([3, 2, 1]) / 255
    np.testing.assert_allclose(corner[0], np.broadcast_to(mean_rgb, (6, 3)), atol=1e-6)
    assert not np.allclose(corner[2:, 2:], mean_rgb)
    with pytest.raises(InputError, match="lies outside the image"):
        model.crop(image, (30, 30, 37, 37))


def test_nets_are_drawn_as_text(tmp_path):
    net = read_net(
        CLASSIFIER.replace('type: "Flatten"', 'type: "ReLU"').replace('"flat"', '"conv"')
        + 'layer { name: "a \\"b" type: "Pooling" bottom: "data" top: "pool" '
        + "pooling_param { pool: AVE kernel_size: 2 } include { phase: TRAIN } }"
    )
    text = draw.net_to_dot(net)
    assert text.startswith('digraph "classifier" {') and text.endswith("}\n")
    assert '"layer conv" -> "blob conv" [label=2];' in text and '"blob data" -> "layer conv";' in text
    assert 'label="conv\\n(Convolution)\\nkernel size: 6\\nstride: 1\\npad: 0"' in text
    assert '"layer a \\"b"' in text and "(Pooling AVE)" in text
    assert "Pooling" not in draw.net_to_dot(net, "TB", phase=caffe.TEST)
    draw.draw_net_to_file(net, tmp_path / "net.dot")
    assert (tmp_path / "net.dot").read_text() == text
    assert draw.draw_net(net, "LR", "raw").decode() == text


def test_drawings_tell_the_learning_rates_where_asked(tmp_path):
    net = read_net(CLASSIFIER)
    net.layer[1].param.add(lr_mult=1)
    net.layer[1].param.add(lr_mult=2.5)
    assert "lr mult" not in draw.net_to_dot(net)
    draw.draw_net_to_file(net, tmp_path / "net.dot", "LR", None, True)  # as BVLC's draw_net.py calls it
    assert (tmp_path / "net.dot").read_text().count("lr mult: 1, 2.5") == 1


def test_scripts_find_messages_and_names_where_pycaffe_has_them(tmp_path):
    assert caffe.io.caffe_pb2.NetParameter is caffe.proto.caffe_pb2.NetParameter
    (tmp_path / "net.prototxt").write_text(CLASSIFIER)
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    assert net._output_list == ["prob"] and net._input_list == ["data"]


def test_drawing_says_what_it_needs(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(InputError, match="drawing a net as png needs Graphviz"):
        draw.draw_net(read_net(CLASSIFIER), "LR")


def test_nothing_of_a_gpu_or_the_command_lines_is_imported():
    done = python(
        """
        import json, sys
        import fcnlite.caffe
        found = {name.split(".")[0] for name in sys.modules}
        print(json.dumps(sorted(found & {"cupy", "matplotlib", "skimage", "lmdb"})))
        """
    )
    assert json.loads(done.stdout) == [], done.stderr
