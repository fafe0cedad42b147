"""The inspect command on every kind of file: what it says, to people and programs, and how it fails."""

import json
import subprocess
import sys

import cases
import numpy as np
import pytest

from fcnlite import convolutionalise, models, proto
from fcnlite.caffe.io import array_to_blobproto
from fcnlite.commands import inspect
from fcnlite.describe import describe
from fcnlite.errors import InputError
from fcnlite.io import write_weights


def told(capsys, *arguments):
    """Status, stdout and stderr of the command."""
    status = inspect.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """Room for all columns."""
    monkeypatch.setenv("COLUMNS", "200")


def row(text, layer):
    """Cells of a layer's row."""
    line = next(line for line in text.splitlines() if line.split() and line.split()[0] == layer)
    return [cell for cell in line.split("  ") if cell]


def test_a_net_of_the_catalogue_as_a_table(capsys):
    status, out, _ = told(capsys, "fcn8s", "--size", "334x500")
    assert status == 0
    assert out.startswith("fcn8s: data 1 x 3 x 334 x 500\n")
    assert [cell.strip() for cell in row(out, "fc6")] == [
        "fc6",
        "Convolution",
        "4096 x 11 x 16",
        "4096 x 512 x 7 x 7",
        "102,764,544",
        "18.1 G",
        "404",
        "32",
        "189",
    ]
    assert "in place" in row(out, "relu6")[2] and "(21 x 21 x 16 x 16)" in row(out, "upscore8")[3]
    assert "134,362,751 learned parameters, and 127,008 fixed" in out
    assert "16 layers of weights deep, receptive field 404, stride 32" in out


def test_programs_read_the_same_as_json(capsys):
    status, out, _ = told(capsys, "googlenet", "--json", "--classes", 21)
    found = json.loads(out)
    assert status == 0 and found["kind"] == "net"
    assert found["totals"]["receptive_field"] == 907 and found["totals"]["conv_layers"] == 22
    first = next(layer for layer in found["layers"] if layer["name"] == "conv1/7x7_s2")
    assert first["parameters"][0] == {"shape": [64, 3, 7, 7], "count": 9408, "learns": True}
    assert first["multiply_adds"] == 9408 * 112 * 112
    assert first["shapes"] == [[1, 64, 112, 112]]
    assert (first["receptive_field"], first["stride"], first["padding"]) == ([7, 7], [2, 2], [3, 3])
    assert sum(layer["parameter_count"] for layer in found["layers"]) == found["totals"]["parameters"]


def test_a_prototxt_with_data_layers_needs_a_size(tmp_path, capsys):
    net = models.fcn32s(width=2)
    text = proto.to_text(net).replace('type: "Input"', 'type: "Python"')
    (tmp_path / "train.prototxt").write_text(text)
    status, out, err = told(capsys, tmp_path / "train.prototxt")
    assert (status, out) == (2, "")
    where = f"{tmp_path}/train.prototxt: layer 'data' (Python)"
    assert err.startswith(f"fcnlite inspect: error: {where}") and "--size" in err and err.count("\n") == 1
    status, out, _ = told(capsys, tmp_path / "train.prototxt", "--size", "60x70")
    assert (
        status == 0 and "21 x 60 x 70" in row(out, "score")[2] and row(out, "loss")[2].strip() == "one number"
    )


def test_layers_of_a_phase(tmp_path, capsys):
    rule = "include { phase: TRAIN }"
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 dim: 2 dim: 4 dim: 4 } } }'
        f'layer {{ name: "drop" type: "Dropout" bottom: "d" top: "d" {rule} }}'
    )
    assert "drop" not in told(capsys, tmp_path / "net.prototxt")[1]
    assert "drop" in told(capsys, tmp_path / "net.prototxt", "--phase", "TRAIN")[1]
    (tmp_path / "none.prototxt").write_text(f'layer {{ name: "d" type: "Input" top: "d" {rule} }}')
    status, _, err = told(capsys, tmp_path / "none.prototxt")
    assert status == 2 and "no layer in it for phase TEST" in err


def test_bare_hdf5_of_a_known_net(capsys):
    """Caffe's own snapshot says no net; its layers do."""
    status, out, _ = told(capsys, cases.REFERENCE / "solver-heavy_iter_12.caffemodel.h5", "--size", "29x33")
    assert status == 0 and out.startswith("fcn8s: data 1 x 3 x 29 x 33")
    assert out.rstrip().endswith("fit this net") and "2 x 3 x 3 x 3" in row(out, "conv1_1")[3]


def test_caffemodels_say_their_net(capsys):
    status, out, _ = told(capsys, cases.REFERENCE / "tiny-vgg16-v1.caffemodel", "--json")
    found = json.loads(out)
    assert found["name"] == "tiny-vgg16" and found["differences"] == []
    assert next(x for x in found["layers"] if x["name"] == "fc6")["parameters"][0]["shape"] == [24, 32 * 49]


def test_weights_that_are_not_their_nets_are_told_apart(tmp_path, capsys):
    net = models.fcn32s(classes=3, width=1, deploy=True, size=(20, 20))
    weights = convolutionalise.fresh(net)
    weights["score_fr"] = [array[:2] for array in weights["score_fr"]]
    write_weights(tmp_path / "w.h5", weights, deploy=proto.to_text(net))
    _, out, _ = told(capsys, tmp_path / "w.h5")
    expected = "differs: score_fr: 2 x 64 x 1 x 1 and 2 in the file, 3 x 64 x 1 x 1 and 3 in the net"
    assert out.splitlines()[-1] == expected


def test_weights_whose_net_cannot_be_measured_are_named_once(tmp_path, capsys):
    source = 'hdf5_data_param { source: "none" batch_size: 1 }'
    net = f'layer {{ name: "in" type: "HDF5Data" top: "x" {source} }}'
    net += 'layer { name: "odd" type: "PReLU" bottom: "x" top: "y" }'
    write_weights(tmp_path / "w.caffemodel", {"odd": [np.zeros(4, np.float32)]}, net=proto.parse_net(net))
    _, out, _ = told(capsys, tmp_path / "w.caffemodel")
    start = "w.caffemodel: weights alone (layer 'in' (HDF5Data): 'none' is neither in "
    assert out.splitlines()[0].startswith(start)


@pytest.mark.parametrize("name", ["w.h5", "w.caffemodel"])
def test_weights_of_no_known_net_are_listed(tmp_path, capsys, name):
    write_weights(
        tmp_path / name, {"odd": [np.zeros((4, 3), np.float32), np.zeros(4, np.float32)], "relu": []}
    )
    status, out, _ = told(capsys, tmp_path / name)
    assert status == 0
    assert out.startswith(
        f"{name}: weights alone (the file does not say its net; and its layers are those of no"
    )
    assert [cell.strip() for cell in row(out, "odd")] == ["odd", "4 x 3, 4", "16"]
    assert "16 parameters (64 bytes" in out and "relu" not in out


@pytest.mark.parametrize(
    "name", ["solver-heavy_iter_12.solverstate.h5", "solver-accumulated_iter_12.solverstate"]
)
def test_solver_states(name, capsys):
    status, out, _ = told(capsys, cases.REFERENCE / name)
    assert status == 0 and "solver state after 12 iterations" in out
    assert "history: 39 arrays, 31,521 values" in out and "  0: 2 x 3 x 3 x 3" in out
    found = json.loads(told(capsys, cases.REFERENCE / name, "--json")[1])
    assert found["iter"] == 12 and found["learned_net"] == name.replace("solverstate", "caffemodel")


def test_solvers_show_their_settings(tmp_path, capsys):
    (tmp_path / "solver.prototxt").write_text(
        'train_net: "train.prototxt"\ntest_iter: 736\nbase_lr: 1e-10\nmomentum: 0.99\n'
        'lr_policy: "multistep"\n'
        "stepvalue: 10\nstepvalue: 20\nsnapshot_format: HDF5\n"
    )
    found = json.loads(told(capsys, tmp_path / "solver.prototxt", "--json")[1])["settings"]
    assert found["base_lr"] == 1e-10 and found["momentum"] == 0.99 and found["snapshot_format"] == "HDF5"
    assert found["stepvalue"] == ["10", "20"]
    out = told(capsys, tmp_path / "solver.prototxt")[1]
    assert [cell.strip() for cell in row(out, "stepvalue")] == ["stepvalue", "10, 20"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fcn8"], "no net is called 'fcn8'; did you mean 'fcn8s'"),
        (["missing/net.prototxt"], "missing/net.prototxt: there is no such file"),
        (["missing.caffemodel"], "missing.caffemodel: there is no such file"),
        (["."], ".: this is a folder"),
        (["fcn-googlenet", "--size", "20x20"], "fcn-googlenet: layer '"),
        (["fcn8s", "--width", "0"], "width must be at least 1"),
    ],
)
def test_mistakes_are_one_line_and_status_2(arguments, message, capsys):
    status, out, err = told(capsys, *arguments)
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert err.startswith(f"fcnlite inspect: error: {message}")


def test_options_that_do_not_go_with_a_file(capsys):
    status, _, err = told(capsys, cases.REFERENCE / "tiny-vgg16-v1.caffemodel", "--width", 3)
    assert status == 2 and "--classes and --width" in err


@pytest.mark.parametrize(
    "content", [b"", b"\x00\x01\x02 not a model", b"layer {", b"not: a net", b"\x89HDF\r\n\x1a\n\0"]
)
def test_files_that_are_nothing_are_refused_in_one_line(tmp_path, content, capsys):
    path = tmp_path / "what"
    path.write_bytes(content)
    status, out, err = told(capsys, path)
    assert (status, out, err.count("\n")) == (2, "", 1) and str(path) in err


@pytest.mark.parametrize("size", ["500", "axb", "0x5", "5x5x5", "-1x4"])
def test_sizes_that_are_none(size, capsys):
    with pytest.raises(SystemExit) as stopped:
        inspect.main(["fcn8s", f"--size={size}"])
    assert stopped.value.code == 2
    assert "HEIGHTxWIDTH" in capsys.readouterr().err


def test_help_names_every_net_and_the_module_runs(capsys):
    with pytest.raises(SystemExit):
        inspect.main(["--help"])
    out = capsys.readouterr().out
    assert all(name in out for name in models.names()) and "examples:" in out
    ran = subprocess.run(
        [sys.executable, "-m", "fcnlite", "inspect", "fcn32s", "--width", "2", "--json"],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0 and json.loads(ran.stdout)["name"] == "fcn32s"


def test_describe_raises_for_library_callers(tmp_path):
    with pytest.raises(FileNotFoundError):
        describe(tmp_path / "none.h5")
    with pytest.raises(InputError):
        describe("nosuchnet")


@pytest.mark.parametrize(
    "name", ["fcn8s", "fcn8s-atonce", "googlenet", "vgg16", "siftflow-fcn8s", "nyud-fcn32s-color-hha"]
)
def test_tables_fit_eighty_columns(capsys, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = told(capsys, name)
    assert max(map(len, out.splitlines())) <= 80
    assert "left out for lack of width: weights" in out
    layers = [layer["name"] for layer in json.loads(told(capsys, name, "--json")[1])["layers"]]
    assert [line.split()[0] for line in out.splitlines()[4 : 4 + len(layers)]] == layers


def test_what_fits_is_not_left_out(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 300 dim: 300 } } }\n'
        'layer { name: "fixed" type: "Convolution" bottom: "data" top: "c" param { lr_mult: 0 } param { lr_mult: 0 }'
        " convolution_param { num_output: 64 kernel_size: 9 } }"
    )
    _, out, _ = told(capsys, tmp_path / "net.prototxt")
    assert [cell.strip() for cell in row(out, "fixed")] == [
        "fixed", "Convolution", "64x292x292", "(64x3x9x9)", "(15.6 k)", "1.33 G", "9", "1", "0",
    ]  # fmt: skip
    assert "left out" not in out and max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (
            'type: "MemoryData" memory_data_param { batch_size: 2 channels: 4 height: 24 width: 20 }',
            {"data": [2, 4, 24, 20], "label": [2]},
        ),
        (
            'type: "Data" data_param { source: "none" batch_size: 5 backend: LMDB } transform_param { crop_size: 21 }',
            {"data": [5, 3, 21, 21], "label": [5]},
        ),
        (
            'type: "ImageData" image_data_param { source: "none" new_height: 30 new_width: 40 is_color: false }',
            {"data": [1, 1, 30, 40], "label": [1]},
        ),
        (
            'type: "WindowData" window_data_param { source: "none" batch_size: 8 } transform_param { crop_size: 22 }',
            {"data": [8, 3, 22, 22], "label": [8]},
        ),
    ],
)
def test_nets_that_fetch_data_are_measured_as_they_are_declared(tmp_path, capsys, layer, shapes):
    (tmp_path / "train.prototxt").write_text(
        f'layer {{ name: "in" top: "data" top: "label" {layer} }}\n'
        'layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 7 } }\n'
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }\n'
    )
    status, out, err = told(capsys, tmp_path / "train.prototxt", "--json")
    assert status == 0, err
    found = json.loads(out)
    assert found["inputs"] == shapes
    channels, height, width = shapes["data"][1:]
    assert found["totals"]["parameters"] == 7 * (channels * height * width + 1)


def test_an_array_is_described(tmp_path, capsys):
    values = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    (tmp_path / "mean.binaryproto").write_bytes(array_to_blobproto(values).SerializeToString())
    status, out, _ = told(capsys, tmp_path / "mean.binaryproto")
    assert status == 0
    assert "an array 1 x 2 x 3 x 4, 24 values\nfrom 0 to 23\nmeans of the last two axes: 5.5, 17.5\n" in out
    found = json.loads(told(capsys, tmp_path / "mean.binaryproto", "--json")[1])
    assert found["kind"] == "array" and found["shape"] == [1, 2, 3, 4] and found["means"] == [5.5, 17.5]
