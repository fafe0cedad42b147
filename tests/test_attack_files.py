"""Files from strangers: damaged and hostile ones end in one line, in bounded time and memory, and start nothing."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
from commands import ends, fails
from PIL import Image

from fcnlite import vis
from fcnlite.commands import inspect, predict
from fcnlite.data.files import read_image, read_list, read_photo
from fcnlite.data.voc import read_classes
from fcnlite.errors import InputError, check_name, nearest, printable
from fcnlite.io import read_weights, write_weights
from fcnlite.io.caffemodel import read_definition
from fcnlite.proto import parse_net, read_net

DEPLOY = """
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 3 dim: 8 dim: 8 }} }} }}
layer {{ name: "score" type: "Convolution" bottom: "data" top: "score"
  convolution_param {{ num_output: {classes} kernel_size: 1 }} }}
"""


def net_file(path: Path, classes: int = 2, best: int = 1) -> Path:
    """A net that gives every pixel the class `best`."""
    bias = np.zeros(classes, np.float32)
    bias[best] = 1
    weight = np.zeros((classes, 3, 1, 1), np.float32)
    write_weights(path, {"score": [weight, bias]}, deploy=DEPLOY.format(classes=classes))
    return path


def picture(path: Path, size: tuple[int, int] = (8, 6)) -> Path:
    Image.fromarray(np.full((size[1], size[0], 3), 90, np.uint8)).save(path, format="PNG")
    return path


# Pictures


def test_only_formats_that_people_train_on_are_opened(tmp_path: Path) -> None:
    """Neither DDS, whose decoder raises what it likes, nor EPS, for which Pillow starts another program."""
    dds = b"DDS " + struct.pack("<19I", 124, 0x1007, 4, 4, *[0] * 13, 32, 16384) + bytes(64)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    for data in (dds, eps):
        (tmp_path / "a.jpg").write_bytes(data)
        with pytest.raises(InputError, match="a.jpg: not a picture in a known format"):
            read_image(tmp_path / "a.jpg")
    for format in ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP"):
        Image.new("RGB", (5, 4), "red").save(tmp_path / "a", format=format)
        assert read_image(tmp_path / "a").shape == (4, 5, 3)


def test_a_picture_that_is_refused_does_not_stop_the_others(tmp_path: Path, capsys) -> None:
    (tmp_path / "dds.jpg").write_bytes(b"DDS " + struct.pack("<19I", 124, *[0] * 18) + bytes(64))
    weights, good = net_file(tmp_path / "n.h5"), picture(tmp_path / "p.png")
    big = picture(tmp_path / "big.png", (40, 30))
    images = [tmp_path / "dds.jpg", big, good]
    arguments = [*images, "--weights", weights, "--out", tmp_path / "seg", "--max-pixels", 1000]
    assert ends(predict.main, arguments) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 2 and "dds.jpg" in told[0] and "40 x 30 pixels, more than 1,000" in told[1]
    assert sorted(path.name for path in (tmp_path / "seg").iterdir()) == ["p.png", "p_overlay.jpg"]


def test_a_decoder_may_raise_anything(tmp_path: Path, monkeypatch) -> None:
    path = picture(tmp_path / "a.png")
    for error in (NotImplementedError("flags 16384"), IndexError(), struct.error("unpack"), MemoryError()):
        monkeypatch.setattr(Image.Image, "load", lambda self, error=error: (_ for _ in ()).throw(error))
        with pytest.raises(InputError, match="^cannot read image .*a.png: [^\n]+$"):
            read_photo(path)


def test_more_pixels_than_pillow_allows_can_be_asked_for(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert read_photo(picture(tmp_path / "a.png"), 48).shape == (6, 8, 3)
    with pytest.raises(InputError, match="8 x 6 pixels, more than 47"):
        read_photo(tmp_path / "a.png", 47)
    assert Image.MAX_IMAGE_PIXELS == 10


# Nets of any number of classes


def test_labels_above_255_are_written_in_16_bits(tmp_path: Path, capsys) -> None:
    weights = net_file(tmp_path / "c300.h5", classes=300, best=299)
    arguments = [picture(tmp_path / "p.png"), "--weights", weights, "--out", tmp_path / "seg"]
    assert ends(predict.main, arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["299", "100.0", "%"]
    with Image.open(tmp_path / "seg" / "p.png") as label:
        assert label.mode.startswith("I") and np.unique(np.array(label)).tolist() == [299]
    assert tuple(vis.paint(np.array([[299]]))[0, 0]) == tuple(vis.paint(np.array([[43]]))[0, 0])


# Text


@pytest.mark.parametrize(
    "text",
    [
        "iter_size: " + "1" * 5000,
        "pooling_param { pool: " + "1" * 5000 + " }",
        "relu_param { negative_slope: " + "1" * 5000 + " }",
        "relu_param { negative_slope: 0." + "1" * 5000 + "e" + "9" * 5000 + " }",
        "x" * 1_000_000,
        "mem_param " + "{ a " * 300_000,
        "'" * 300_000,
    ],
    ids=lambda text: text[:16],
)
def test_numbers_words_and_nests_of_any_length_are_told_in_a_line(tmp_path: Path, capsys, text: str) -> None:
    (tmp_path / "net.prototxt").write_text(f"layer {{ {text} }}")
    line = fails(capsys, inspect.main, [tmp_path / "net.prototxt"], "net.prototxt:1: ")
    assert len(line) < 500 + len(str(tmp_path))


def test_long_numbers_are_told_by_their_beginning(tmp_path: Path, capsys) -> None:
    (tmp_path / "net.prototxt").write_text(f"layer {{ pooling_param {{ pad: 12345678{'9' * 995} }} }}")
    fails(capsys, inspect.main, [tmp_path / "net.prototxt"], "not 12345678...(1,003 digits)")


def test_a_prototxt_has_a_bounded_size(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text("layer { } " * 250_000)
    with pytest.raises(InputError, match="over 2 MB, too large for a prototxt"):
        read_net(path)
    with pytest.raises(InputError, match="too large for a prototxt"):
        parse_net(path.read_text())
    if Path("/dev/zero").exists():
        with pytest.raises(InputError, match="too large|not a text file"):
            read_net(Path("/dev/zero"))


def test_a_word_of_any_length_is_not_compared_with_names() -> None:
    assert nearest("x" * 10**6, ["x" * 10**6]) == "" and nearest("nam", ["name"])


# Names


def test_control_characters_never_reach_the_terminal(tmp_path: Path, capsys) -> None:
    assert (
        printable("a\x1b[31mb\u202e\n") == r"a\x1b[31mb\u202e\n" and printable("né\u200c 家") == "né\u200c 家"
    )
    for name in ("a\x1b", "a\x9b", "a\n", "\u202e"):
        with pytest.raises(InputError, match="^here: the name '.*' holds control characters$"):
            check_name(name, "here")
    (tmp_path / "net.prototxt").write_text('layer { name: "a\\033[31m" type: "ReLU" }')
    assert "\x1b" not in fails(capsys, inspect.main, [tmp_path / "net.prototxt"], r"'a\x1b[31m'")
    write_weights(tmp_path / "w.caffemodel", {"a\x1b[31m": [np.ones(3)]})
    with pytest.raises(InputError, match="holds control characters"):
        read_weights(tmp_path / "w.caffemodel")
    (tmp_path / "classes.txt").write_text("background\nca\x1b[31mt\n")
    (tmp_path / "list.txt").write_text("\x1b]0;title\x07\n")
    for read in (read_classes, read_list):
        with pytest.raises(InputError, match="holds control characters"):
            read(tmp_path / ("classes.txt" if read is read_classes else "list.txt"))
    assert ends(predict.main, [tmp_path / "\x1b[31m.png", "--weights", "\x1b.h5", "--out", tmp_path]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_a_name_in_another_encoding_is_told(tmp_path: Path) -> None:
    """protobuf hands such names on as bytes."""
    write_weights(tmp_path / "w.caffemodel", {"abc": [np.ones(3)]})
    data = (tmp_path / "w.caffemodel").read_bytes().replace(b"abc", b"a\xffc")
    (tmp_path / "w.caffemodel").write_bytes(data)
    with pytest.raises(InputError, match="is not UTF-8"):
        read_definition(tmp_path / "w.caffemodel")


# HDF5


def test_a_damaged_heap_of_hdf5data_is_told_in_a_line(tmp_path: Path) -> None:
    from fcnlite import Net

    path = tmp_path / "d.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros((2, 3), np.float32)
    path.write_bytes(path.read_bytes().replace(b"HEAP", b"HEAQ"))
    (tmp_path / "list.txt").write_text(f"{path}\n")
    text = 'layer { name: "d" type: "HDF5Data" top: "data" hdf5_data_param { source: "%s" batch_size: 1 } }'
    with pytest.raises(InputError, match="d.h5: damaged or cut short"):
        Net(text % (tmp_path / "list.txt"), phase="TEST").forward()
