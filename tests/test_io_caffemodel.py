"""`.caffemodel`: every form Caffe wrote, hostile files, and that what is written is Caffe's own bytes."""

import struct
from pathlib import Path

import numpy as np
import pytest
from commands import NAME_CHARACTERS, printed
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fcnlite.errors import InputError
from fcnlite.io import iter_weights, read_definition, read_weights, write_weights
from fcnlite.io.wire import delimited, varint
from fcnlite.proto import BlobProto, NetParameter, parse_net

REFERENCE = Path(__file__).parent / "reference"
SNAPSHOT = REFERENCE / "solver-accumulated_iter_12.caffemodel"
V1 = REFERENCE / "tiny-vgg16-v1.caffemodel"


def save(folder, data):
    path = folder / "m.caffemodel"
    path.write_bytes(data)
    return path


def same_bits(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def assert_same_weights(one, other):
    assert list(one) == list(other)
    for name in one:
        assert len(one[name]) == len(other[name])
        assert all(map(same_bits, one[name], other[name])), name


def model(blob, name="conv"):
    """A net of one layer with one blob, given as bytes of its BlobProto."""
    return delimited(100, delimited(1, name.encode()) + delimited(7, blob))


@pytest.mark.parametrize("path, layers", [(SNAPSHOT, "layer"), (V1, "layers")])
def test_arrays_are_what_protobuf_reads(path, layers):
    net = NetParameter.FromString(path.read_bytes())
    read = list(iter_weights(path))
    assert [name for name, _ in read] == [layer.name for layer in getattr(net, layers)]
    for (_, arrays), layer in zip(read, getattr(net, layers)):
        assert len(arrays) == len(layer.blobs)
        for array, blob in zip(arrays, layer.blobs):
            shape = tuple(blob.shape.dim) or (blob.num, blob.channels, blob.height, blob.width)
            assert same_bits(array, np.array(blob.data, np.float32).reshape(shape))
            assert not array.flags.writeable and not array.flags.owndata


def test_what_is_written_is_caffes_file_byte_for_byte(tmp_path):
    again = tmp_path / "again.caffemodel"
    write_weights(again, read_weights(SNAPSHOT), read_definition(SNAPSHOT))
    assert again.read_bytes() == SNAPSHOT.read_bytes()


def test_definition_is_the_net_without_weights(tmp_path):
    for path, layers in [(SNAPSHOT, "layer"), (V1, "layers")]:
        net = NetParameter.FromString(path.read_bytes())
        for layer in getattr(net, layers):
            del layer.blobs[:]
        assert read_definition(path) == net


def test_a_definition_larger_than_any_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("fcnlite.io.caffemodel._MAX_DEFINITION", 60)
    short, long = (GOOD + delimited(100, delimited(1, b"x" * n)) for n in (30, 60))
    assert read_definition(save(tmp_path, short)).layer[1].name == "x" * 30
    for data in (long, GOOD + delimited(1, b"x" * 60), short + delimited(1, b"x" * 30)):
        with pytest.raises(InputError, match="beside the weights"):
            read_definition(save(tmp_path, data))


def test_v1_becomes_the_present_form(tmp_path):
    again = tmp_path / "again.caffemodel"
    write_weights(again, read_weights(V1), read_definition(V1))
    net = NetParameter.FromString(again.read_bytes())
    assert not net.layers and {layer.type for layer in net.layer} >= {"Convolution", "InnerProduct", "ReLU"}
    assert net.layer[0].type == "Input" and list(net.layer[0].input_param.shape[0].dim) == [1, 3, 224, 224]
    assert_same_weights(read_weights(again), {"input": [], **read_weights(V1)})


def test_forms_of_a_blob(tmp_path):
    floats = np.array([1.5, np.nan, -np.inf, 1e-45, -0.0, 3], np.float32)
    shape = delimited(7, delimited(1, b"\x02\x03"))
    packed = delimited(5, floats.tobytes())
    single = b"".join(b"\x2d" + struct.pack("<f", v) for v in floats)
    forms = [
        shape + packed,
        packed + shape,
        shape + single,
        shape + single[:10] + delimited(5, floats[2:].tobytes()),
        shape + delimited(5, floats[:4].tobytes()) + delimited(5, b"") + delimited(5, floats[4:].tobytes()),
        delimited(7, b"\x08\x02\x08\x03") + packed,  # dims one by one
        delimited(7, b"\x08\x02") + delimited(7, b"\x08\x03") + packed,  # merged messages
        shape + packed + delimited(6, floats.tobytes()) + b"\x98\x06\x05",  # a diff, an unknown field
    ]
    for form in forms:
        if BlobProto.FromString(form).shape.dim[:] != [2, 3]:
            raise AssertionError(form)
        ((name, (array,)),) = iter_weights(save(tmp_path, model(form)))
        assert name == "conv" and same_bits(array, floats.reshape(2, 3))
    legacy = b"\x08\x01\x10\x01\x18\x02\x20\x03"
    ((_, (array,)),) = iter_weights(save(tmp_path, model(packed + legacy + shape)))
    assert same_bits(array, floats.reshape(1, 1, 2, 3))
    doubles = floats.astype(np.float64) / 3
    ((_, (array,)),) = iter_weights(save(tmp_path, model(shape + packed + delimited(8, doubles.tobytes()))))
    assert same_bits(array, doubles.reshape(2, 3))
    single = b"".join(b"\x41" + struct.pack("<d", v) for v in doubles)
    ((_, (array,)),) = iter_weights(save(tmp_path, model(single + shape)))
    assert same_bits(np.array(array), doubles.reshape(2, 3))
    ((_, (array,)),) = iter_weights(save(tmp_path, model(delimited(5, floats[:1].tobytes()))))
    assert same_bits(array, floats[0].reshape(()))


def test_oldest_form_gives_its_weights(tmp_path):
    blob = b"\x08\x01\x10\x01\x18\x01\x20\x02" + delimited(5, struct.pack("<2f", 1, 2))
    v0 = delimited(1, b"fc") + delimited(2, b"innerproduct") + delimited(50, blob)
    path = save(tmp_path, delimited(2, delimited(2, b"data") + delimited(1, v0) + delimited(3, b"fc")))
    ((name, (array,)),) = iter_weights(path)
    assert name == "fc" and array.tolist() == [[[[1, 2]]]]
    net = read_definition(path)
    assert net.layers[0].layer.type == "innerproduct" and not net.layers[0].layer.blobs


def test_a_later_layer_of_the_same_name_counts(tmp_path):
    one, two = (delimited(7, b"\x0a\x01\x01") + delimited(5, struct.pack("<f", v)) for v in (1, 2))
    path = save(tmp_path, model(one) + model(two) + delimited(100, delimited(1, b"conv")))
    assert read_weights(path)["conv"][0].tolist() == [2]


GOOD = model(delimited(7, b"\x0a\x02\x02\x03") + delimited(5, bytes(24)))
MANY = b"\xff\xff\xff\x7f" * 4  # four dimensions of 2**28 - 1


def shaped(dims, numbers):
    """A model whose blob states the dims (varints, as bytes) and holds `numbers` bytes of floats."""
    return model(delimited(7, delimited(1, dims)) + delimited(5, bytes(numbers)))


HOSTILE = {
    "empty": (b"", "empty"),
    "length past the end": (b"\xa2\x06\xff\xff\xff\xff\x07", "claims 2147483647 bytes where 0 are left"),
    "64-bit length": (b"\xa2\x06" + b"\xff" * 9 + b"\x01abc", "bytes where 3 are left"),
    "endless number": (b"\x08" + b"\xff" * 20, "a number has no end"),
    "cut number": (b"\xa2", "a number has no end"),
    "field 0": (b"\x02\x00", "impossible field number 0"),
    "group": (b"\x0b", "impossible wire type 3"),
    "wire type 7": (b"\xa7\x06", "impossible wire type 7"),
    "a solver state": (b"\x08\x0c\x12\x01a", "holds a solver's state, not weights"),
    "a number for a layer": (b"\xa0\x06\x01", "'layer' should be bytes"),
    "no layers": (delimited(1, b"net"), "no layers"),
    "text": (b'name: "x"\nlayer { }', "this is text"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    "web page": (b"\n<!DOCTYPE html><html>", "web page"),
    "too few numbers": (shaped(b"\x02\x03", 20), r"'conv', blob 0: shape \(2, 3\) needs 6 numbers, but 5"),
    "no numbers": (model(delimited(7, b"\x0a\x02\x02\x03")), "shape .2, 3. needs 6 numbers, but 0"),
    "no shape": (model(delimited(5, bytes(8))), r"shape \(\) needs 1 numbers, but 2"),
    "half a float": (model(delimited(5, bytes(7))), "no whole number of 4-byte floats"),
    "gigantic dims": (shaped(MANY, 8), "impossible in a file of"),
    "zero times gigantic": (shaped(b"\x00" + MANY, 0), "impossible in a file of"),
    "negative dim": (shaped(varint(2**64 - 3), 8), r"\(-3,\) is impossible"),
    "negative num": (model(b"\x08" + varint(2**64 - 1) + delimited(5, bytes(8))), "impossible"),
    "33 axes": (shaped(b"\x01" * 33, 4), "more than 32 axes"),
    "a million axes": (shaped(b"\x01" * 10**6, 4), "more than 32 axes"),
    "num is a string": (model(delimited(1, b"abc")), "'num' should be a number"),
    "data is a number": (model(b"\x28\x01"), "'data' should be bytes with a length but is a number"),
    "blob is a number": (delimited(100, delimited(1, b"c") + b"\x38\x01"), "'blobs' should be bytes"),
    "name is a number": (delimited(100, b"\x08\x01"), "'name' should be bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_give_one_line(tmp_path, case):
    data, words = HOSTILE[case]
    path = save(tmp_path, data)
    with pytest.raises(InputError, match=words) as caught:
        read_weights(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    if case not in ("empty", "no layers"):
        with pytest.raises(InputError):
            read_weights(save(tmp_path, GOOD + data))


FLOODS = {
    "empty blobs": delimited(100, delimited(1, b"c") + b"\x3a\x00" * 5_000_000),
    "tiny blobs": delimited(100, delimited(1, b"c") + delimited(7, delimited(5, bytes(4))) * 2_000_000),
    "empty layers": b"\xa2\x06\x00" * 5_000_000,
    "unknown fields": b"\x18\x00" * 5_000_000,
    "pieces": model(b"\x2a\x00" * 5_000_000),
    "skipped": model(b"\x30\x00" * 5_000_000),
    "shape": model(delimited(7, b"\x10\x00" * 5_000_000)),
    "numbers": model(delimited(5, bytes(4)) * 2_000_000),
}
READ_LAYERS = """
import sys, time
import fcnlite.io
from fcnlite.errors import InputError

for path in sys.argv[1:]:
    before, start = peak(), time.process_time()
    try:
        for _ in fcnlite.io.iter_weights(path):
            pass
        print("no error:", path)
    except InputError:
        pass
    grown = peak() - before
    print(f"{time.process_time() - start:.2f} {grown:.0f} {path}")
"""


def test_a_flood_of_fields_ends_quickly_without_eating_memory(tmp_path):
    paths = [tmp_path / f"{name}.caffemodel" for name in FLOODS]
    for path, data in zip(paths, FLOODS.values()):
        path.write_bytes(data)
    output = printed(READ_LAYERS, *paths)
    assert "no error" not in output
    for line in output.splitlines():
        seconds, grown, _ = line.split(maxsplit=2)
        assert float(seconds) < 5 and float(grown) < 100, line  # MB, the mapped file's pages among them


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_weights(tmp_path / "none.caffemodel")
    with pytest.raises(InputError, match="folder"):
        read_weights(tmp_path)
    with pytest.raises(InputError, match="end the name with"):
        write_weights(tmp_path / "w.bin", {})


def test_every_truncation_of_a_model_is_noticed(tmp_path):
    data = SNAPSHOT.read_bytes()
    whole = read_weights(SNAPSHOT)
    rng = np.random.default_rng(0)
    for cut in [*range(300), *rng.integers(300, len(data), 300)]:
        path = save(tmp_path, data[:cut])
        try:
            weights = read_weights(path)
        except InputError as error:
            assert "\n" not in str(error)
        else:  # cut just between two layers
            assert len(weights) < len(whole)
            assert_same_weights(weights, {name: whole[name] for name in weights})


ARRAYS = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    hnp.array_shapes(min_dims=0, max_dims=5, max_side=4),
    elements=st.floats(width=32),
)
WEIGHTS = st.dictionaries(
    st.text(NAME_CHARACTERS, max_size=6), st.lists(ARRAYS, max_size=3), min_size=1, max_size=4
)


@settings(max_examples=100, deadline=None)
@given(WEIGHTS)
def test_any_weights_survive_and_protobuf_agrees(tmp_path_factory, weights):
    path = tmp_path_factory.mktemp("w") / "w.caffemodel"
    write_weights(path, weights)
    assert_same_weights(read_weights(path), weights)
    net = NetParameter.FromString(path.read_bytes())
    for layer, (name, arrays) in zip(net.layer, weights.items(), strict=True):
        assert layer.name == name
        for blob, array in zip(layer.blobs, arrays, strict=True):
            assert tuple(blob.shape.dim) == array.shape
            values = blob.double_data if array.dtype == np.float64 else blob.data
            assert same_bits(np.array(values, array.dtype).reshape(array.shape), array)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_damaged_bytes_give_weights_or_one_line(tmp_path_factory, data):
    base = bytearray(data.draw(st.sampled_from([GOOD, V1.read_bytes()[:3000], SNAPSHOT.read_bytes()[:2000]])))
    for _ in range(data.draw(st.integers(1, 4))):
        base[data.draw(st.integers(0, len(base) - 1))] = data.draw(st.integers(0, 255))
    path = save(tmp_path_factory.mktemp("d"), bytes(base))
    for read in (read_weights, read_definition):
        try:
            read(path)
        except InputError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_weights_or_one_line(tmp_path_factory, data):
    path = save(tmp_path_factory.mktemp("b"), data)
    try:
        read_weights(path)
    except InputError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)


def test_the_net_orders_and_describes_the_layers(tmp_path):
    net = parse_net(
        "name: 'n' layer { name: 'a' type: 'ReLU' bottom: 'x' top: 'x' }"
        "layer { name: 'b' type: 'B' phase: TRAIN }"
    )
    path = tmp_path / "w.caffemodel"
    write_weights(path, {"extra": [], "b": [np.ones(2, np.int64)]}, net)
    read = NetParameter.FromString(path.read_bytes())
    found = [(layer.name, layer.type, len(layer.blobs)) for layer in read.layer]
    assert found == [("a", "ReLU", 0), ("b", "B", 1), ("extra", "", 0)]
    assert read.name == "n" and read.layer[1].HasField("phase")
    assert read.layer[1].blobs[0].data[:] == [1, 1]


def test_over_two_gigabytes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("fcnlite.io.caffemodel.MAX_MESSAGE", 1000)
    with pytest.raises(InputError, match="write .caffemodel.h5"):
        write_weights(tmp_path / "w.caffemodel", {"a": [np.zeros(300, np.float32)]})
    assert not list(tmp_path.iterdir())


def test_arrays_in_any_layout_are_written(tmp_path):
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    views = [array.T, array[:, ::2], array[..., ::-1], array.astype(">f4"), array.astype(np.float16)]
    for path in (tmp_path / "w.caffemodel", tmp_path / "w.h5"):
        write_weights(path, {"a": views})
        for read, view in zip(read_weights(path)["a"], views):
            assert read.dtype == np.float32 and np.array_equal(read, view)
