"""The convert command: every pair of formats, bit for bit, and clear words for mistakes."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import relative_error

from fcnlite.commands import convert
from fcnlite.commands.convert import main
from fcnlite.io import read_definition, read_deploy, read_state, read_weights
from fcnlite.net import load

REFERENCE = Path(__file__).parent / "reference"
MODELS = [
    "solver-accumulated_iter_12.caffemodel",
    "tiny-vgg16-v1.caffemodel",
    "solver-heavy_iter_12.caffemodel.h5",
]


def bits(weights):
    return {name: [(a.shape, a.dtype.str, a.tobytes()) for a in arrays] for name, arrays in weights.items()}


@pytest.mark.parametrize("name", MODELS)
def test_there_and_back_keeps_every_bit(tmp_path, name):
    source = REFERENCE / name
    chain = [source, *(tmp_path / n for n in ("a.h5", "b.caffemodel", "c.hdf5", "d.caffemodel"))]
    for one, other in zip(chain, chain[1:]):
        assert main([str(one), str(other)]) == 0
        assert bits(read_weights(other)) == bits(read_weights(source))
    assert chain[2].read_bytes() == chain[4].read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.h5",
        "b.caffemodel",
        "c.hdf5",
        "d.caffemodel",
    ]


def test_states_there_and_back(tmp_path):
    for name in ("solver-accumulated_iter_12.solverstate", "solver-heavy_iter_12.solverstate.h5"):
        assert main([str(REFERENCE / name), str(tmp_path / "a.solverstate.h5")]) == 0
        assert main([str(tmp_path / "a.solverstate.h5"), str(tmp_path / "b.solverstate")]) == 0
        one, other = read_state(REFERENCE / name), read_state(tmp_path / "b.solverstate")
        assert (one.iter, one.learned_net) == (other.iter, other.learned_net)
        assert [a.tobytes() for a in one.history] == [a.tobytes() for a in other.history]


def test_an_old_model_is_brought_up_to_date_with_its_description(tmp_path):
    assert main([str(REFERENCE / "tiny-vgg16-v1.caffemodel"), str(tmp_path / "new.caffemodel")]) == 0
    net = read_definition(tmp_path / "new.caffemodel")
    assert not net.layers and [layer.type for layer in net.layer[:2]] == ["Input", "Convolution"]


def test_prototxt_goes_along(tmp_path):
    (tmp_path / "deploy.prototxt").write_text(
        "layer { name: 'conv1_1' type: 'Convolution' top: 'c' }  # text"
    )
    source, h5, back = REFERENCE / MODELS[0], tmp_path / "m.h5", tmp_path / "m.caffemodel"
    assert main([str(source), str(h5), "--prototxt", str(tmp_path / "deploy.prototxt")]) == 0
    assert 'type: "Convolution"' in read_deploy(h5)
    assert main([str(h5), str(back)]) == 0
    first = read_definition(back).layer[0]
    assert (first.name, first.type, list(first.top)) == ("conv1_1", "Convolution", ["c"])
    assert set(read_weights(back)) == set(read_weights(source))


STATE = str(REFERENCE / "solver-heavy_iter_12.solverstate.h5")


def test_mistakes_are_one_line_and_status_2(tmp_path, capsys):
    model = str(REFERENCE / MODELS[0])
    copy = tmp_path / "copy.caffemodel"
    copy.write_bytes(Path(model).read_bytes())
    (tmp_path / "cut.caffemodel").write_bytes(copy.read_bytes()[:5000])
    (tmp_path / "bad.prototxt").write_text("layer {\n nam: 'x' }")
    (tmp_path / "state").write_bytes((REFERENCE / "solver-accumulated_iter_12.solverstate").read_bytes())
    for arguments, words in [
        (["none.caffemodel", "out.h5"], "no such file"),
        ([model, "out.bin"], "names no format"),
        ([str(copy), str(copy)], "the same file"),
        ([str(tmp_path / "cut.caffemodel"), str(tmp_path / "out.h5")], "cut short"),
        ([model, str(tmp_path / "no" / "out.h5")], "does not exist; make it first"),
        ([model, str(tmp_path / "out.solverstate")], "it is weights, not a solver state"),
        ([str(tmp_path / "state"), str(tmp_path / "out.h5")], "holds a solver's state, not weights"),
        (
            [STATE, str(tmp_path / "out.h5")],
            "it is a solver state, not weights",
        ),
        (
            [model, str(tmp_path / "o.h5"), "--prototxt", str(tmp_path / "bad.prototxt")],
            ":2: unknown field 'nam'",
        ),
        ([STATE, str(tmp_path / "o.solverstate"), "--prototxt", str(copy)], "leave it out"),
    ]:
        assert main(arguments) == 2
        output = capsys.readouterr()
        assert words in output.err and output.err.count("\n") == 1 and not output.out
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "bad.prototxt",
        "copy.caffemodel",
        "cut.caffemodel",
        "state",
    ]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal_it_leaves_nothing(tmp_path, monkeypatch, capsys, sent):
    monkeypatch.setattr(convert.tqdm, "update", lambda *_: signal.raise_signal(sent))
    (tmp_path / "a.h5").write_text("earlier")
    before = signal.getsignal(sent)
    assert main([str(REFERENCE / MODELS[0]), str(tmp_path / "a.h5")]) == 128 + sent
    assert capsys.readouterr().err.endswith("\nfcnlite convert: interrupted\n")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["earlier"]
    assert signal.getsignal(sent) == before


def test_ctrl_c_while_a_command_loads_gets_no_traceback(tmp_path):
    (tmp_path / "numpy.py").write_text("import signal; signal.raise_signal(signal.SIGINT)")
    run = subprocess.run(
        [sys.executable, "-m", "fcnlite", "convert"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (130, "\nfcnlite convert: interrupted\n")


def test_help_shows_examples():
    shown = subprocess.run(
        [sys.executable, "-m", "fcnlite", "convert", "--help"], capture_output=True, text=True
    )
    assert shown.returncode == 0 and "examples:" in shown.stdout and "--prototxt" in shown.stdout


def test_a_classifier_becomes_fully_convolutional(tmp_path, capsys):
    """--classifier-to-fcn: the published form's fc6 (1, 1, O, I) as a convolution; the result loads by itself."""
    source = REFERENCE / "tiny-vgg16-v1.caffemodel"
    classifier = load(source)
    image = np.random.default_rng(0).normal(0, 50, (1, 3, 224, 224)).astype(np.float32)
    expected = classifier.forward(blobs=["fc8"], data=image)["fc8"]
    for ending in (".h5", ".caffemodel"):
        target = tmp_path / f"convolutional{ending}"
        assert main([str(source), str(target), "--classifier-to-fcn"]) == 0
        assert "fc6 (1, 1, 24, 1568) to (24, 32, 7, 7)" in capsys.readouterr().out
        assert read_weights(target)["fc6"][0].shape == (24, 32, 7, 7)
    net = load(tmp_path / "convolutional.h5")
    scores = net.forward(blobs=["fc8"], data=image)["fc8"]
    assert relative_error(scores.reshape(expected.shape), expected) <= 1e-5
    assert net.forward(blobs=["fc8"], data=np.zeros((1, 3, 256, 320), np.float32))["fc8"].shape == (
        1,
        10,
        2,
        4,
    )


def test_only_a_classifier_is_convolutionalised(tmp_path, capsys):
    weights, state = (f"solver-heavy_iter_12.{kind}.h5" for kind in ("caffemodel", "solverstate"))
    assert main([str(REFERENCE / weights), str(tmp_path / "a.h5"), "--classifier-to-fcn"]) == 2
    assert "has no inner products" in capsys.readouterr().err
    assert main([str(REFERENCE / state), str(tmp_path / "a.solverstate"), "--classifier-to-fcn"]) == 2
    assert "--classifier-to-fcn goes with weights" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
