"""The inspect command on nets that fetch data, at the size of what they fetch, and on the files of data themselves."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

import fcnlite.random
from fcnlite import Net
from fcnlite.caffe.io import array_to_blobproto
from fcnlite.commands import convert, inspect, solve
from fcnlite.deploy import deployed
from fcnlite.describe import describe
from fcnlite.errors import InputError
from fcnlite.io import read_weights
from fcnlite.layers.python import allow_python_layers
from fcnlite.net import load
from fcnlite.proto import Datum, parse_net

CONV = """
layer { name: "conv" type: "Convolution" bottom: "%s" top: "conv"
  convolution_param { num_output: 2 kernel_size: 3 } }
"""


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Status, stdout and stderr of the command."""
    status = inspect.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Work in a folder of one's own, and let no later test import what one allowed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    before = set(sys.modules)
    yield
    allow_python_layers(False)
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("caffe", "mine_of_inspect"):
            del sys.modules[name]


def picture(name: str, size: tuple[int, int], mode: str = "RGB") -> None:
    height, width = size
    channels = {"RGB": 3, "RGBA": 4}.get(mode, 0)
    pixels = np.random.default_rng(1).integers(
        0, 3, (height, width, channels) if channels else (height, width)
    )
    Image.fromarray(pixels.astype(np.uint8), mode).save(name)


def database(name: str, records: list[Any]) -> None:
    lmdb = pytest.importorskip("lmdb", reason="LMDB databases are written by the package lmdb")
    with lmdb.open(name, map_size=1 << 22) as environment, environment.begin(write=True) as transaction:
        for i, record in enumerate(records):
            value = record if isinstance(record, bytes) else record.SerializeToString()
            transaction.put(f"{i:08d}_x".encode(), value)


def plain(shape: tuple[int, int, int], label: int = 0) -> Any:
    channels, height, width = shape
    data = bytes(channels * height * width)
    return Datum(channels=channels, height=height, width=width, data=data, label=label)


def encoded(size: tuple[int, int], kind: str, mode: str = "RGB", label: int = 0) -> Any:
    buffer = io.BytesIO()
    Image.new(mode, (size[1], size[0])).save(buffer, kind)
    return Datum(encoded=True, data=buffer.getvalue(), label=label)


def hdf5(name: str, **arrays: np.ndarray) -> None:
    with h5py.File(name, "w") as file:
        for key, array in arrays.items():
            file[key] = array


def make_lmdb() -> None:
    database("db", [plain((5, 9, 8), 1)] * 3)


def make_rows() -> None:
    hdf5("a.h5", x=np.zeros((4, 2, 9, 8), np.float32), y=np.zeros((4, 3)))
    Path("list.txt").write_text("a.h5\n")


def make_images() -> None:
    picture("a.png", (9, 8))
    picture("b.png", (9, 8), "L")
    Path("list.txt").write_text("a.png 3\n")
    Path("pairs.txt").write_text("a.png b.png\n")


def make_voc() -> None:
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        Path("voc", folder).mkdir(parents=True)
    picture("voc/JPEGImages/a.jpg", (9, 8))
    picture("voc/SegmentationClass/a.png", (9, 8), "L")
    Path("voc/ImageSets/Segmentation/val.txt").write_text("a\n")


def data_layer(kind: str, settings: str, tops: str = "data label") -> str:
    named = " ".join(f'top: "{top}"' for top in tops.split())
    return f'layer {{ name: "in" type: "{kind}" {named} {settings} }}'


VOC = """{'voc_dir': 'voc', 'split': 'val', 'mean': (1, 2, 3)}"""
FETCHED: dict[str, tuple[Callable[[], None], str]] = {
    "lmdb": (make_lmdb, data_layer("Data", 'data_param { source: "db" batch_size: 2 backend: LMDB }')),
    "lmdb cropped": (
        make_lmdb,
        data_layer(
            "Data",
            'data_param { source: "db" batch_size: 2 backend: LMDB } transform_param { crop_size: 6 mirror: true }',
        ),
    ),
    "hdf5": (make_rows, data_layer("HDF5Data", 'hdf5_data_param { source: "list.txt" batch_size: 7 }', "x y")),
    "hdf5 shuffled": (
        make_rows,
        data_layer("HDF5Data", 'hdf5_data_param { source: "list.txt" batch_size: 7 shuffle: true }', "x"),
    ),
    "images": (make_images, data_layer("ImageData", 'image_data_param { source: "list.txt" batch_size: 2 }')),
    "images in grey": (
        make_images,
        data_layer("ImageData", 'image_data_param { source: "list.txt" is_color: false shuffle: true }'),
    ),
    "label images": (make_images, data_layer("ImageData", 'image_data_param { source: "pairs.txt" }', "data gt")),
    "DenseImageData": (
        make_images,
        data_layer("DenseImageData", 'dense_image_data_param { source: "pairs.txt" batch_size: 2 }', "data gt"),
    ),
    "ImageSegData": (
        make_images,
        data_layer("ImageSegData", 'image_data_param { source: "pairs.txt" label_type: PIXEL }', "data gt size"),
    ),
    "VOC": (
        make_voc,
        data_layer("Python", f'python_param {{ module: "voc_layers" layer: "VOCSegDataLayer" param_str: "{VOC}" }}'),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FETCHED)
def test_nets_are_shown_at_the_size_of_what_they_fetch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    make, layer = FETCHED[name]
    make()
    first = "x" if "hdf5" in name else "data"
    Path("net.prototxt").write_text(layer + CONV % first)
    expected = {key: list(blob.shape) for key, blob in Net("net.prototxt", "TEST").blobs.items()}
    fcnlite.random.set_random_seed(3)
    status, out, err = told(capsys, "net.prototxt", "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    shapes = {top: shape for layer in found["layers"] for top, shape in zip(layer["tops"], layer["shapes"])}
    assert shapes == expected
    assert fcnlite.random.masks_drawn() == 0  # looking takes nothing from the run's random numbers
    size = expected[first][2:]
    _, out, _ = told(capsys, "net.prototxt", "--json", "--size", f"{2 * size[0]}x{3 * size[1]}")
    inputs = json.loads(out)["inputs"]
    assert inputs[first] == [*expected[first][:2], 2 * size[0], 3 * size[1]]
    if "gt" in inputs:
        assert inputs["gt"] == inputs[first][:1] + [1] + inputs[first][2:]


MINE = """
import caffe
class Mine(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): top[0].reshape(2, 4, 9, 8)
    def forward(self, bottom, top): pass
"""


def test_python_layers_of_ones_own_tell_their_size_where_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine_of_inspect.py").write_text(MINE)
    layer = data_layer("Python", 'python_param { module: "mine_of_inspect" layer: "Mine" }', "data")
    Path("net.prototxt").write_text(layer + CONV % "data")
    status, _, err = told(capsys, "net.prototxt")
    assert status == 2 and err.count("\n") == 1
    assert "code to run" in err and "--allow-python-layers; give the input size (--size)" in err
    status, out, err = told(capsys, "net.prototxt", "--size", "20x30")
    assert status == 0 and "data 1 x 3 x 20 x 30" in out and "images without to have 3 channels" in err
    status, out, err = told(capsys, "net.prototxt", "--allow-python-layers")
    assert (status, err) == (0, "") and "data 2 x 4 x 9 x 8" in out


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (data_layer("Data", 'data_param { source: "db" batch_size: 1 backend: LMDB }'), "'db' is neither in"),
        (data_layer("Data", 'data_param { source: "." batch_size: 1 backend: LMDB }'), "no data.mdb in this folder"),
        (data_layer("Data", 'data_param { source: "db" batch_size: 1 }'), "its backend is LevelDB"),
        (data_layer("HDF5Data", 'hdf5_data_param { source: "l" batch_size: 1 }'), "'l' is neither in"),
        (data_layer("ImageData", 'image_data_param { source: "l" }'), "'l' is neither in"),
        (data_layer("DenseImageData", 'dense_image_data_param { source: "l" batch_size: 1 }'), "'l' is neither in"),
        (FETCHED["VOC"][1], "(VOCSegDataLayer): "),
    ],
)  # fmt: skip
def test_what_is_not_there_is_told_with_what_to_give(
    capsys: pytest.CaptureFixture[str], layer: str, message: str
) -> None:
    Path("net.prototxt").write_text(layer + CONV % "data")
    status, out, err = told(capsys, "net.prototxt")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("fcnlite inspect: error: net.prototxt: layer 'in' (") and message in err
    assert err.endswith("; give the input size (--size)\n")
    assert told(capsys, "net.prototxt", "--size", "9x8")[0] == 0


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (
            data_layer(
                "DenseImageData",
                'dense_image_data_param { source: "l" batch_size: 2 new_height: 16 new_width: 24'
                " label_divide_factor: 8 }",
            ),
            [[2, 3, 16, 24], [2, 1, 2, 3]],
        ),
        (
            data_layer(
                "ImageSegData",
                'image_data_param { source: "l" batch_size: 2 } transform_param { crop_height: 11 crop_width: 13 }',
                "data label dim",
            ),
            [[2, 3, 11, 13], [2, 1, 11, 13], [2, 1, 1, 2]],
        ),
    ],
)
def test_forks_that_declare_a_size_need_no_files(
    capsys: pytest.CaptureFixture[str], layer: str, shapes: list[list[int]]
) -> None:
    Path("net.prototxt").write_text(layer + CONV % "data")
    status, out, err = told(capsys, "net.prototxt", "--json")
    assert status == 0 and list(json.loads(out)["inputs"].values()) == shapes
    assert err.count("\n") == 1 and "'l' is neither in" in err and "taken as declared" in err


def test_a_large_file_of_rows_is_not_read_for_its_shape(capsys: pytest.CaptureFixture[str]) -> None:
    with h5py.File("a.h5", "w") as file:  # a terabyte, of which nothing is there
        file.create_dataset("data", (1 << 18, 16, 256, 256), np.float32, chunks=(1, 16, 256, 256))
    Path("list.txt").write_text("a.h5\n")
    layer = data_layer("HDF5Data", 'hdf5_data_param { source: "list.txt" batch_size: 2 }', "data")
    Path("net.prototxt").write_text(layer + CONV % "data")
    assert "data 2 x 16 x 256 x 256" in told(capsys, "net.prototxt")[1]


def test_a_database_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    floats = Datum(channels=1, height=2, width=2, float_data=[1, 2, 3, 4], label=-3)
    records = [plain((3, 5, 4), 7)] * 5 + [encoded((6, 7), "PNG"), encoded((6, 7), "JPEG", label=2), floats]
    records += [encoded((6, 7), "PNG", "L"), encoded((6, 7), "PNG", "RGBA"), b"\xff\xff\xff"]
    database("db", records)
    status, out, err = told(capsys, "db")
    assert (status, err) == (0, "")
    assert out.splitlines()[0].startswith("db: an LMDB of 11 records (")
    assert out.splitlines()[1:] == [
        "keys from 00000000_x to 00000010_x",
        "  3 x 5 x 4: 5 records",
        "  3 x 6 x 7: 2 records",
        "  1 x 2 x 2: 1 records",
        "  1 x 6 x 7: 1 records",
        "  4 x 6 x 7: 1 records",
        "kept as bytes (5), PNG (3), JPEG (1), floats (1), no Datum (1)",
        "labels from -3 to 7, 4 different",
    ]
    found = json.loads(told(capsys, "db/data.mdb", "--json")[1])
    assert (found["kind"], found["records"], found["looked_at"]) == ("database", 11, 11)
    assert found["shapes"][0] == {"shape": [3, 5, 4], "count": 5}
    assert found["labels"] == {"least": -3, "most": 7, "different": 4}


def test_of_a_long_database_the_first_records_are_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    database("db", [plain((1, 1, 1), i % 3) for i in range(2100)])
    out = told(capsys, "db")[1]
    assert "2,100 records" in out and "keys from 00000000_x to 00002099_x" in out
    assert "of the first 2,000 records:\n  1 x 1 x 1: 2,000 records" in out
    database("empty", [])
    assert told(capsys, "empty")[1].startswith("empty: an LMDB of 0 records")


def test_leveldb_and_damaged_databases_are_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("level").mkdir()
    Path("level/CURRENT").write_text("MANIFEST-000002\n")
    Path("level/MANIFEST-000002").write_bytes(b"")
    status, _, err = told(capsys, "level")
    assert (status, err.count("\n")) == (2, 1) and "level: a LevelDB database, which is not read here" in err
    database("db", [plain((3, 50, 40), 7)] * 9)
    whole = Path("db/data.mdb").read_bytes()
    Path("db/data.mdb").write_bytes(whole[: len(whole) // 2])
    status, _, err = told(capsys, "db")
    assert (status, err.count("\n")) == (2, 1) and "db/data.mdb: a damaged LMDB database" in err


def test_rows_are_described(capsys: pytest.CaptureFixture[str]) -> None:
    label = np.random.default_rng(0).integers(0, 5, (6, 1, 3, 3)).astype(np.uint8)
    label[0, 0, 0] = 0, 4, 255
    values = np.linspace(-1, 2, 6 * 12).reshape(6, 12).astype(np.float32)
    values[2, 3] = np.nan
    hdf5("x.h5", data=values, label=label, ids=np.arange(600.0), text=np.array([b"a", b"b"]))
    with h5py.File("x.h5", "a") as file:
        file.create_group("extra")
    status, out, err = told(capsys, "x.h5")
    assert (status, err) == (0, "")
    lines = [[cell.strip() for cell in line.split("  ") if cell] for line in out.splitlines()]
    assert lines[0] == ["x.h5: rows of data (HDF5)"]
    assert ["data", "6 x 12", "float32", "-1 to 2, not-a-numbers among them"] in lines
    assert ["label", "6 x 1 x 3 x 3", "uint8", "0 to 4, 255"] in lines
    assert ["ids", "600", "float64", "0 to 599"] in lines and ["text", "2", "|S1"] in lines
    assert lines[-1] == ["and groups, which HDF5Data does not read: extra"]
    found = {told["name"]: told for told in json.loads(told(capsys, "x.h5", "--json")[1])["data_sets"]}
    assert found["label"]["values"]["different"] == sorted({*label.ravel().tolist()})
    assert found["ids"]["values"]["different"] is None and found["data"]["values"]["not_a_number"]
    with pytest.raises(InputError, match="it holds rows of data \\(for HDF5Data\\), not weights"):
        read_weights("x.h5")


def test_a_list_of_hdf5_files_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    make_rows()
    Path("list.txt").write_text("a.h5\nsub/b.h5\n")
    out = told(capsys, "list.txt")[1]
    assert out.startswith("list.txt: a list of 2 HDF5 files\n1 of the first 2 files are not found")
    assert "such as sub/b.h5" in out and "a.h5: rows of data" in out and "4 x 2 x 9 x 8" in out
    assert json.loads(told(capsys, "list.txt", "--json")[1])["first"]["data_sets"][0]["name"] == "x"


@pytest.mark.parametrize(
    ("text", "second"),
    [
        ("a.png 3\nmy dog.jpg 0\na.png 12\n", "labels from 0 to 12, 3 different"),
        ("a.png b.png\n", "with label images"),
        ("a.png\nc d.png\n", "without labels"),
        ("/JPEGImages/x.jpg /SegmentationClassAug/x.png\n", "with label images"),
    ],
)
def test_a_list_of_images_is_described(capsys: pytest.CaptureFixture[str], text: str, second: str) -> None:
    make_images()
    Path("images.txt").write_text(text)
    status, out, _ = told(capsys, "images.txt")
    count = text.count("\n")
    assert status == 0 and out.splitlines()[:2] == [f"images.txt: a list of {count} images", second]
    assert ("first: a.png, 9 x 8, RGB" in out) == text.startswith("a.png")
    missing = sum("a.png" not in line for line in text.splitlines())
    assert json.loads(told(capsys, "images.txt", "--json")[1])["missing"] == missing


def test_a_list_of_windows_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    make_images()
    Path("windows.txt").write_text(
        "# 0\na.png\n3\n9\n8\n2\n1 0.9 0 0 3 3\n0 0.1 1 1 4 4\n# 1\nb.png\n3\n9\n8\n1\n5 1 0 0 2 2\n"
    )
    out = told(capsys, "windows.txt")[1]
    assert out.startswith("windows.txt: a list of 3 windows in 2 images\nlabels from 0 to 5, 3 different\n")


def test_arrays_of_numpy_are_described_and_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.save("mean.npy", values)
    Path("mean.binaryproto").write_bytes(array_to_blobproto(values[None]).SerializeToString())
    out = told(capsys, "mean.npy")[1]
    assert (
        out
        == "mean.npy: an array 2 x 3 x 4, 24 values\nfrom 0 to 23\nmeans of the last two axes: 5.5, 17.5\n"
    )
    assert told(capsys, "mean.binaryproto")[1].splitlines()[1:] == out.splitlines()[1:]
    whole = Path("mean.npy").read_bytes()
    Path("huge.npy").write_bytes(whole.replace(b"(2, 3, 4)", b"(2, 3, 4000000000000)"[:21]))
    np.save("objects.npy", np.array([{}]), allow_pickle=True)
    np.save("words.npy", np.array(["a"]))
    for name in ("huge.npy", "objects.npy", "words.npy"):
        status, _, err = told(capsys, name)
        assert (status, err.count("\n")) == (2, 1) and name in err


def test_names_reach_the_terminal_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    hdf5("x.h5", **{"a\x9b31m": np.zeros(2)})
    Path("images.txt").write_text("a\x9b31m.png 1\n")
    Path("names.txt").write_text("a\x9b31m\n")
    for name in ("x.h5", "images.txt", "names.txt"):
        status, out, _ = told(capsys, name)
        assert status == 0 and "\x9b" not in out and "a\\x9b31m" in out


def test_a_list_of_names_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    Path("val.txt").write_text("2007_000033\n2007_000042\n\n2007_000061\n")
    assert told(capsys, "val.txt") == (0, "val.txt: a list of 3 names, 2007_000033 to 2007_000061\n", "")
    Path("net.txt").write_text("layer { nonsense: 1 }\n")
    assert told(capsys, "net.txt")[0] == 2


@pytest.mark.parametrize("name", ["a.png", "a.JPG", "a.mat"])
def test_pictures_and_matlab_files_are_told_as_such(capsys: pytest.CaptureFixture[str], name: str) -> None:
    Path(name).write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    status, _, err = told(capsys, name)
    assert (status, err.count("\n")) == (2, 1)
    assert (
        f"{name}: {'a MATLAB file' if name == 'a.mat' else 'a picture'} is none of the files of Caffe's"
        in err
    )


@pytest.mark.parametrize(
    "text", ['net_param { layer { name: "a" } } max_iter: 3', "max_iter: 3", 'test_net : "x"\nmax_iter: 3']
)
def test_solvers_are_known_by_any_field_of_their_own(capsys: pytest.CaptureFixture[str], text: str) -> None:
    Path("solver.prototxt").write_text(text)
    found = json.loads(told(capsys, "solver.prototxt", "--json")[1])
    assert found["kind"] == "solver" and found["settings"]["max_iter"] == 3


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ('name: "m" type: "Scale" bottom: "x" bottom: "data" top: "data"', "in place top 0 must be bottom 0"),
        ('name: "m" type: "Softmax" bottom: "data" top: "x"', "top 'x' is already made by another layer"),
        ('name: "m" type: "Pooling" bottom: "x" top: "x"', "Pooling does not work in place"),
    ],
)
def test_nets_that_caffe_refuses_for_their_tops_are_refused(
    capsys: pytest.CaptureFixture[str], layer: str, message: str
) -> None:
    inputs = "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ dim: [2, 3, 4, 4] }} }} }}\n'
        for name in ("x", "data")
    )
    Path("net.prototxt").write_text(inputs + f"layer {{ {layer} }}\n")
    with pytest.raises(InputError) as refused:
        Net("net.prototxt")
    status, _, err = told(capsys, "net.prototxt")
    assert status == 2 and message in err and message in str(refused.value)


def test_a_text_that_is_no_list_stays_a_prototxt(tmp_path: Path) -> None:
    Path("net.prototxt").write_text('# 0\nname: "a.h5"\ninput: "data"\ninput_dim: 1\ninput_dim: 3\ninput_dim: 9\n'
                                    "input_dim: 8\n" + CONV % "data")  # fmt: skip
    assert describe("net.prototxt")["kind"] == "net"


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (data_layer("DenseImageData", 'dense_image_data_param { source: "l" new_height: 64 new_width: 96 }'), (64, 96)),
        (data_layer("ImageSegData", "transform_param { crop_height: 11 crop_width: 13 }"), (11, 13)),
        (data_layer("MemoryData", "memory_data_param { batch_size: 5 channels: 2 height: 7 width: 8 }"), (7, 8)),
        (data_layer("HDF5Data", 'hdf5_data_param { source: "l" batch_size: 5 }'), (500, 500)),
    ],
)  # fmt: skip
def test_the_form_for_prediction_has_the_size_that_is_declared(layer: str, shape: tuple[int, int]) -> None:
    channels = 2 if "MemoryData" in layer else 3
    net = deployed(parse_net(layer + CONV % "data"))
    dims = {top: list(shape.dim) for top, shape in zip(net.layer[0].top, net.layer[0].input_param.shape)}
    assert net.layer[0].type == "Input" and dims["data"] == [1, channels, *shape]


GREY_NET = data_layer("Data", 'data_param { source: "db" batch_size: 2 backend: LMDB }') + (
    CONV % "data" + 'layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip" '
    "inner_product_param { num_output: 4 } }\n"
    'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }'
)


def test_a_net_on_a_database_of_grey_images_predicts_and_converts(capsys: pytest.CaptureFixture[str]) -> None:
    """The form for prediction takes its channels and size from the database, as it is told nowhere else."""
    database("db", [plain((1, 9, 8), i % 4) for i in range(4)])
    Path("net.prototxt").write_text(GREY_NET)
    Net("net.prototxt").save("net.caffemodel")
    assert load("net.caffemodel", prototxt="net.prototxt").blobs["data"].shape == (1, 1, 9, 8)
    assert convert.main(["net.caffemodel", "net.h5", "--prototxt", "net.prototxt"]) == 0
    assert load("net.h5").blobs["data"].shape == (1, 1, 9, 8)
    Path("db/data.mdb").unlink()
    capsys.readouterr()
    assert convert.main(["net.caffemodel", "lost.h5", "--prototxt", "net.prototxt"]) == 2
    err = capsys.readouterr().err
    assert (
        "layer 'conv', parameter 0: 2 x 1 x 3 x 3 there, 2 x 3 x 3 x 3 in net.prototxt; give the net" in err
    )
    assert not Path("lost.h5").exists()


def test_a_run_of_a_solver_file_ends_with_a_test_if_it_is_due(caplog: pytest.LogCaptureFixture) -> None:
    database("db", [plain((1, 9, 8), i % 4) for i in range(4)])
    Path("net.prototxt").write_text(
        GREY_NET.replace("num_output: 4", 'num_output: 4 weight_filler { type: "xavier" }')
    )
    Path("solver.prototxt").write_text(
        'net: "net.prototxt" test_iter: 1 test_interval: 2 base_lr: 0 lr_policy: "fixed" max_iter: 4'
    )
    caplog.set_level("INFO")
    assert solve.main(["solver.prototxt"]) == 0
    tested = [record.getMessage() for record in caplog.records if "test net 0" in record.getMessage()]
    assert [text.split(",")[0] for text in tested] == ["Iteration 0", "Iteration 2", "Iteration 4"]
