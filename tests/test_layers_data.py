"""Layers that bring their own data: DummyData, HDF5Data, MemoryData."""

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fcnlite.random
from fcnlite import layers
from fcnlite.blob import Blob
from fcnlite.errors import InputError
from fcnlite.net import Net

TWO_TOPS = """
layer { name: "dummy" type: "DummyData" top: "a" top: "b"
        dummy_data_param { num: 2 num: 3 channels: 1 height: 4 width: 5
            data_filler { type: "constant" value: 7 } data_filler { type: "gaussian" } } }
"""


def test_dummy_data_fills_constants_once_and_the_rest_every_time():
    net = Net(TWO_TOPS)
    assert net.inputs == [] and net.blobs["a"].shape == (2, 1, 4, 5) and net.blobs["b"].shape == (3, 1, 4, 5)
    assert (net.blobs["a"].data == 7).all()
    net.blobs["a"].data[...] = 3
    first = net.forward()["b"].copy()
    assert (net.blobs["a"].data == 3).all()
    second = net.forward()["b"]
    assert first.std() > 0.5 and not np.array_equal(first, second)


def test_dummy_data_comes_back_after_memory_was_freed():
    net = Net(TWO_TOPS)
    for blob in net.blobs.values():
        blob.drop_data()
    assert (net.forward()["a"] == 7).all()


def test_dummy_data_with_one_shape_and_no_filler():
    tops = layers.DummyData(shape={"dim": [2, 3]}, top=["a", "b"])()
    assert all(top.shape == (2, 3) and not top.data.any() for top in tops)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({}, "0 of shape for 2 tops"),
        ({"shape": {"dim": [2]}, "num": [1]}, "give either shape or num"),
        ({"num": [1, 2, 3], "channels": [1], "height": [1], "width": [1]}, "3 of num, channels"),
        ({"shape": {"dim": [2]}, "data_filler": [{"value": 1}] * 3}, "3 of data_filler for 2 tops"),
    ],
)
def test_dummy_data_mistakes(fields, message):
    with pytest.raises(InputError, match=message):
        layers.DummyData(top=["a", "b"], **fields)()


# HDF5Data


@pytest.fixture
def files(tmp_path):
    """Two files of 3 and 4 rows, numbered 0..6 in both data sets, and the list that names them."""
    numbers = np.arange(7)
    for name, rows in (("one.h5", numbers[:3]), ("two.h5", numbers[3:])):
        with h5py.File(tmp_path / name, "w") as file:
            file["data"] = np.broadcast_to(rows.reshape(-1, 1, 1), (len(rows), 2, 3)).astype(np.float32)
            file["label"] = rows.astype(np.int64)
    list_file = tmp_path / "list.txt"
    list_file.write_text(f"{tmp_path / 'one.h5'}\n\n{tmp_path / 'two.h5'}\n")
    return list_file


def reader(list_file, batch_size, deal=(1, 0), **fields):
    layer = layers.HDF5Data(source=str(list_file), batch_size=batch_size, top=["data", "label"], **fields)
    blobs = [Blob(), Blob()]
    layer.setup([], blobs)
    layer.deal(*deal)

    def batch():
        layer.forward([], blobs)
        assert (blobs[0].data == blobs[1].data.reshape(-1, 1, 1)).all()
        return blobs[1].data.astype(int).tolist()

    return batch


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 7, 16])
def test_hdf5_rows_come_in_order_and_round_again(files, batch_size):
    batch = reader(files, batch_size)
    seen = [number for _ in range(5) for number in batch()]
    assert seen == [i % 7 for i in range(5 * batch_size)]


@given(st.integers(1, 9), st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_hdf5_rows_are_dealt_to_parallel_solvers(files, hands, data):
    """Caffe's rule: a row is the solver's whose rank is left when its number is divided by their count."""
    hand, batch_size = data.draw(st.integers(0, hands - 1)), data.draw(st.integers(1, 5))
    batch = reader(files, batch_size, deal=(hands, hand))
    seen = [number for _ in range(3) for number in batch()]
    assert seen == [(hand + i * hands) % 7 for i in range(3 * batch_size)]


def test_hdf5_rows_of_a_single_file_come_round_again(files):
    files.write_text(files.read_text().split()[0])
    batch = reader(files, 2)
    assert [batch() for _ in range(3)] == [[0, 1], [2, 0], [1, 2]]


def test_hdf5_shuffle_takes_every_row_once_in_each_round_file_by_file(files):
    fcnlite.random.set_random_seed(3)
    batch = reader(files, 7, shuffle=True)
    rounds = [batch() for _ in range(6)]
    assert all(sorted(rows) == list(range(7)) for rows in rounds)
    assert all(set(rows[:3]) == {0, 1, 2} or set(rows[:4]) == {3, 4, 5, 6} for rows in rounds)
    assert len({tuple(rows) for rows in rounds}) > 1
    fcnlite.random.set_random_seed(3)
    again = reader(files, 7, shuffle=True)
    assert [again() for _ in range(6)] == rounds


def test_hdf5_data_in_a_net(files):
    net = Net(
        f"""
        layer {{ name: "h" type: "HDF5Data" top: "data" top: "label"
                 hdf5_data_param {{ source: "{files}" batch_size: 4 }} }}
        layer {{ name: "sum" type: "Reduction" bottom: "data" top: "sum" reduction_param {{ axis: 1 }} }}
        """
    )
    assert net.inputs == [] and net.blobs["data"].shape == (4, 2, 3) and net.blobs["label"].shape == (4,)
    np.testing.assert_array_equal(net.forward()["sum"], [0, 6, 12, 18])
    np.testing.assert_array_equal(net.forward()["sum"], [24, 30, 36, 0])


def test_hdf5_mistakes(files, tmp_path):
    def fails(message, content=None, top=("data", "label"), **fields):
        source = files
        if content is not None:
            source = tmp_path / "other.txt"
            source.write_text(content)
        layer = layers.HDF5Data(**{"source": str(source), "batch_size": 2, "top": list(top)} | fields)
        with pytest.raises(InputError, match=message) as error:
            layer.setup([], [Blob() for _ in top])
        assert "\n" not in str(error.value)

    fails("missing.txt' is neither in .* nor beside", source=str(tmp_path / "missing.txt"))
    fails("cannot be read", source=str(tmp_path))
    fails("names no HDF5 file", "\n")
    fails("'nowhere.h5' is neither in .* nor beside the prototxt", "nowhere.h5")
    fails("or not an HDF5 file", str(files))
    outside = tmp_path / "secret.txt"
    outside.write_bytes(bytes(96))
    with h5py.File(tmp_path / "out.h5", "w") as file:
        file.create_dataset("data", (4, 2, 3), "f4", external=[(str(outside), 0, 96)])
        file["label"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "label")
    fails("out.h5: /data keeps its numbers in another file", str(tmp_path / "out.h5"))
    fails("out.h5: /label is a link", str(tmp_path / "out.h5"), top=["label"])
    fails("has no data set 'extra'; there are data, label", top=("data", "extra"))
    fails("batch_size is missing", batch_size=0)
    fails("does not transform", transform_param={"scale": 2})
    odd = tmp_path / "odd.h5"
    with h5py.File(odd, "w") as file:
        file["data"], file["label"] = np.zeros((3, 2, 3)), np.zeros(2)
        file["text"], file["none"] = "word", np.zeros((0, 4))
    fails("data 3, label 2", str(odd))
    fails("must hold numbers", str(odd), top=("text",))
    fails("same number of rows, not 0", str(odd), top=("none",))


def test_hdf5_files_are_found_beside_the_prototxt(files, tmp_path):
    (tmp_path / "near.txt").write_text("one.h5\n")
    layer = layers.HDF5Data(source="near.txt", batch_size=2, top=["data", "label"])
    layer.folder = tmp_path
    tops = [Blob(), Blob()]
    layer.setup([], tops)
    assert tops[0].shape[0] == 2


def test_hdf5_rows_must_keep_their_shape(files, tmp_path):
    with h5py.File(tmp_path / "two.h5", "a") as file:
        del file["data"]
        file["data"] = np.zeros((4, 2, 2))
    batch = reader(files, 2)
    batch()
    with pytest.raises(InputError, match=r"rows of 'data' are \(2, 2\), in the file before \(2, 3\)"):
        batch()


# MemoryData


def test_memory_data_goes_round():
    layer = layers.MemoryData(batch_size=2, channels=1, height=2, width=2)
    blobs = [Blob(), Blob()]
    layer.setup([], blobs)
    with pytest.raises(InputError, match="hand some over with reset"):
        layer.forward([], blobs)
    data = np.arange(16, dtype=np.float32).reshape(4, 1, 2, 2)
    layer.reset(data, [0, 1, 2, 3])
    for expected in ([0, 1], [2, 3], [0, 1]):
        layer.forward([], blobs)
        np.testing.assert_array_equal(blobs[0].data, data[expected])
        np.testing.assert_array_equal(blobs[1].data.ravel(), expected)
        blobs[0].data[...] = -1  # a layer in place behind it must not reach the arrays handed over
    with pytest.raises(InputError, match="multiple of 2"):
        layer.reset(data[:3], [0, 1, 2])
    with pytest.raises(InputError, match="3 labels for 4 images"):
        layer.reset(data, [0, 1, 2])
    with pytest.raises(InputError, match="must all be given"):
        layers.MemoryData(batch_size=2)()
