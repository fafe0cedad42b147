"""Weights in HDF5: Caffe's own files, layers with slashes, foreign and hostile files."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fcnlite.errors import InputError
from fcnlite.io import iter_weights, read_deploy, read_notes, read_weights, write_weights
from fcnlite.io.hdf5 import PIECE

REFERENCE = Path(__file__).parent / "reference"
SNAPSHOT = REFERENCE / "solver-heavy_iter_12.caffemodel.h5"


def tree(path):
    """Every group and dataset of a file, with shape, type and bytes."""
    found = {}

    def visit(name, item):
        is_data = isinstance(item, h5py.Dataset)
        found[name] = (item.shape, item.dtype.str, item[()].tobytes()) if is_data else None

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def test_what_is_written_is_caffes_tree(tmp_path):
    path = tmp_path / "again.h5"
    weights = read_weights(SNAPSHOT)
    assert sum(map(len, weights.values())) == 39 and weights["pool1"] == []
    write_weights(path, weights)
    assert tree(path) == tree(SNAPSHOT)
    with h5py.File(SNAPSHOT) as theirs:
        for name, arrays in weights.items():
            for i, array in enumerate(arrays):
                assert array.tobytes() == theirs[f"data/{name}/{i}"][()].tobytes()


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.lists(st.text("ab_1é", min_size=1, max_size=3), min_size=1, max_size=3).map("/".join),
        st.lists(
            hnp.arrays(
                st.sampled_from([np.float32, np.float64]),
                hnp.array_shapes(min_dims=0, max_dims=5, max_side=4),
                elements=st.floats(width=32),
            ),
            max_size=3,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_weights_survive(tmp_path_factory, weights):
    path = tmp_path_factory.mktemp("w") / "w.h5"
    try:
        write_weights(path, weights)
    except InputError as error:  # a layer "a/1" where a layer "a" has a parameter 1
        taken = [f"{name}/{i}" for name, arrays in weights.items() for i in range(len(arrays))]
        assert any(f"{name}/".startswith(f"{place}/") for name in weights for place in taken)
        assert "rename it" in str(error) and not path.exists()
        return
    read = read_weights(path)
    # A layer without parameters whose name begins another's is the folder of that one: HDF5 cannot tell.
    folders = {
        name for name in weights if not weights[name] and any(o.startswith(name + "/") for o in weights)
    }
    assert set(read) == set(weights) - folders
    for name, arrays in read.items():
        assert len(arrays) == len(weights[name])
        for a, b in zip(arrays, weights[name]):
            assert a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def test_order_is_kept_and_layers_of_the_net_get_a_group(tmp_path):
    from fcnlite.proto import parse_net

    net = parse_net("layer { name: 'z' } layer { name: 'b' } layer { name: 'a/1x1' }")
    path = tmp_path / "w.h5"
    write_weights(path, {"b": [np.ones(3, np.float32)], "y": []}, net)
    assert [name for name, _ in iter_weights(path)] == ["z", "b", "a/1x1", "y"]
    assert set(tree(path)) == {"data", "data/z", "data/b", "data/b/0", "data/a", "data/a/1x1", "data/y"}


def test_large_arrays_go_in_bands(tmp_path, monkeypatch):
    rows = PIECE // 4 // 100 * 2 + 7
    array = np.random.default_rng(0).random((1, 1, rows, 100), np.float32)
    seen, write = [], h5py.Dataset.__setitem__
    monkeypatch.setattr(
        h5py.Dataset,
        "__setitem__",
        lambda self, band, part: seen.append(part.nbytes) or write(self, band, part),
    )
    write_weights(tmp_path / "w.h5", {"a": [array]})
    assert sum(seen) == array.nbytes and len(seen) == 3 and max(seen) <= PIECE
    assert np.array_equal(read_weights(tmp_path / "w.h5")["a"][0], array)


def test_deploy_text_goes_along_whatever_its_length(tmp_path):
    text = "layer { name: 'é' }\n" * 20_000
    write_weights(tmp_path / "w.h5", {}, deploy=text)
    assert read_deploy(tmp_path / "w.h5") == text
    assert read_deploy(SNAPSHOT) is None
    assert read_deploy(REFERENCE / "tiny-vgg16-v1.caffemodel") is None
    with pytest.raises(FileNotFoundError):
        read_deploy(tmp_path / "none.h5")


def test_parameters_that_caffe_left_out_as_shared(tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["data/a/1"] = np.ones(2, np.float32)
        file["data/a/10"] = np.ones(3, np.float64)
        file["data/a/x"] = 3
        file.create_group("data/b")
    weights = read_weights(tmp_path / "w.h5")
    assert [a.size for a in weights["a"]] == [0, 2] + [0] * 8 + [3] and weights["b"] == []


def test_numbers_of_other_types_become_float32(tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        for i, kind in enumerate(["<i4", "<f2", ">f4", ">f8", "u1"]):
            file.create_dataset(f"data/a/{i}", data=np.arange(4), dtype=kind, chunks=(2,), compression="gzip")
    for array, kind in zip(read_weights(tmp_path / "w.h5")["a"], "fffdf"):
        assert array.dtype.char == kind and array.tolist() == [0, 1, 2, 3]


def _empty(file):
    pass


def _state(file):
    file.create_group("history")


def _text(file):
    file["data/a/0"] = "text"


def _far_number(file):
    file["data/a/1000000000"] = 1.0


def _soft_link(file):
    file["data/a/0"] = 1.0
    file["data/b"] = h5py.SoftLink("/data/a")


def _external_link(file):
    file["data/b"] = h5py.ExternalLink("/etc/passwd", "/")


def _external_data(file):
    Path("outside").write_bytes(bytes(64))
    file.create_dataset("data/a/0", (16,), "f4", external=[("outside", 0, 64)])


def _virtual(file):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
    file.create_virtual_dataset("data/a/0", layout)


def _gigantic(file):
    file.create_dataset("data/a/0", (2**40,), "f4", chunks=(1024,))


def _circle(file):
    group = file.create_group("data/a")
    group["b"] = group["c"] = file["data"]


def _nested(file):
    file.create_group("data" + "/a" * 60)


@pytest.mark.parametrize(
    "make, words",
    [
        (_empty, "no group /data"),
        (_state, "it holds a solver's state, not weights"),
        (_text, "not an array of numbers"),
        (_far_number, "parameter number 1000000000"),
        (_soft_link, "is a link"),
        (_external_link, "is a link"),
        (_external_data, "in another file"),
        (_virtual, "in another file"),
        (_gigantic, "claims shape"),
        (_circle, "without end"),
        (_nested, "without end"),
    ],
)
def test_foreign_and_hostile_files_give_one_line(tmp_path, monkeypatch, make, words):
    monkeypatch.chdir(tmp_path)
    with h5py.File("w.h5", "w") as file:
        make(file)
    with pytest.raises(InputError, match=words) as caught:
        read_weights("w.h5")
    assert str(caught.value).startswith("w.h5: ") and "\n" not in str(caught.value)


def test_names_that_hdf5_cannot_hold(tmp_path):
    for name in ["", "/a", "a/", "a//b", ".", "a/./b", "a\0b"]:
        with pytest.raises(InputError, match="cannot be stored in HDF5"):
            write_weights(tmp_path / "w.h5", {name: []})
    with pytest.raises(InputError, match="w.h5"):
        write_weights(tmp_path / "w.h5", {"a": [np.zeros(1)], "a/0": []})
    assert not list(tmp_path.iterdir())


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_weights(tmp_path / "none.h5")
    (tmp_path / "f.h5").mkdir()
    with pytest.raises(InputError, match="folder"):
        read_weights(tmp_path / "f.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(InputError, match="damaged or cut short, or not an HDF5 file"):
        read_weights(tmp_path / "text.h5")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_bytes_give_weights_or_one_line(tmp_path_factory, data):
    whole = bytearray(SNAPSHOT.read_bytes())
    if data.draw(st.booleans()):
        whole = whole[: data.draw(st.integers(0, len(whole)))]
    else:
        for _ in range(data.draw(st.integers(1, 6))):
            whole[data.draw(st.integers(0, 20_000))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("d") / "w.h5"
    path.write_bytes(whole)
    try:
        read_weights(path)
    except InputError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)


def test_a_full_disk_gives_one_line_and_leaves_nothing(tmp_path, small_disk):
    with pytest.raises(InputError, match="w.h5: cannot be written"):
        write_weights(tmp_path / "w.h5", {"conv": [np.ones((50, 50), np.float32)]})
    assert not list(tmp_path.iterdir())


def with_variable_text(path, text):
    """A file as fcnlite wrote it before it stored texts of fixed length."""
    write_weights(path, {"a": [np.ones(3, np.float32)]})
    with h5py.File(path, "a") as file:
        file.attrs["prototxt"] = text
    return path


def test_texts_of_variable_length_are_read_by_another_process(tmp_path):
    text = "layer { name: 'é' }\n" * 5000
    assert read_deploy(with_variable_text(tmp_path / "w.h5", text)) == text


def test_a_zeroed_heap_is_told(tmp_path, monkeypatch):
    """Reading this attribute in this process would never end, whatever signal comes."""
    path = with_variable_text(tmp_path / "w.h5", "layer { }" * 10)
    monkeypatch.setattr("fcnlite.io.hdf5._TEXT_SECONDS", 5)
    raw = bytearray(path.read_bytes())
    heap = raw.index(b"GCOL")
    raw[heap + 16 : heap + 32] = bytes(16)
    path.write_bytes(raw)
    with pytest.raises(InputError, match="w.h5: damaged: its text 'prototxt' cannot be read"):
        read_deploy(path)


def test_no_other_program_is_found_in_the_working_folder(tmp_path, monkeypatch):
    path = with_variable_text(tmp_path / "w.h5", "text")
    (tmp_path / "h5py.py").write_text("open('evil', 'w')")
    monkeypatch.chdir(tmp_path)
    assert read_deploy(path) == "text" and not (tmp_path / "evil").exists()


def test_texts_are_written_in_pieces_of_fixed_length(tmp_path):
    text = "é" * 100_001
    write_weights(tmp_path / "w.h5", {}, deploy=text, notes={"classes": ["ü"] * 30_000})
    with h5py.File(tmp_path / "w.h5") as file:
        assert all(file.attrs.get_id(name).dtype.kind == "S" for name in file.attrs)
    assert read_deploy(tmp_path / "w.h5") == text
    assert read_notes(tmp_path / "w.h5") == {"classes": ["ü"] * 30_000}


def test_a_small_file_cannot_claim_much_memory(tmp_path):
    """Chunks of zeros shrink a thousandfold: some megabytes could ask for many gigabytes, array by array."""
    with h5py.File(tmp_path / "w.h5", "w") as file:
        for number in range(9):
            options = {"chunks": (1 << 20,), "compression": "gzip"}
            held = file.create_dataset(f"data/a/{number}", (1 << 23,), "<f4", **options)
            held[: 1 << 20] = 0
    with pytest.raises(InputError, match=r"claims shape \(8388608,\), more than the file stores"):
        read_weights(tmp_path / "w.h5")
