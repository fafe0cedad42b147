"""Label maps from MATLAB files: what SciPy reads where that is safe, and at worst an error for any bytes."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fcnlite.data.mat import read_matrix
from fcnlite.errors import InputError

DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "?"]


def saved(**options):
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, **options)
    return buffer.getvalue()


@st.composite
def matrices(draw):
    dtype = draw(st.sampled_from(DTYPES))
    whole = st.booleans() if dtype == "?" else st.integers(0, 100)
    return draw(arrays(dtype, array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=6), elements=whole))


@given(matrices(), st.booleans())
def test_matrices_are_what_scipy_reads(tmp_path_factory, matrix, compressed):
    path = tmp_path_factory.mktemp("mat") / "a.mat"
    path.write_bytes(saved(mdict={"other": "text", "S": matrix, "z": {"k": [1]}}, do_compression=compressed))
    held = read_matrix(path, "S")
    np.testing.assert_array_equal(held, scipy.io.loadmat(path)["S"])
    assert held.shape == matrix.shape


@given(matrices())
def test_version_4_is_read_too(tmp_path_factory, matrix):
    path = tmp_path_factory.mktemp("mat") / "a.mat"
    path.write_bytes(saved(mdict={"S": matrix.astype("f8"), "T": np.eye(2)}, format="4"))
    np.testing.assert_array_equal(read_matrix(path, "S"), matrix)
    np.testing.assert_array_equal(read_matrix(path, "T"), np.eye(2))


@pytest.mark.parametrize("compressed", [False, True])
def test_a_field_of_a_struct(tmp_path, compressed):
    label = np.arange(12, dtype=np.uint8).reshape(3, 4)
    truth = {"Boundaries": np.array([[1, "x"]], object), "Segmentation": label, "CategoriesPresent": [[3]]}
    (tmp_path / "a.mat").write_bytes(saved(mdict={"GTcls": truth, "S": label}, do_compression=compressed))
    np.testing.assert_array_equal(read_matrix(tmp_path / "a.mat", "GTcls", "Segmentation"), label)
    for variable, field in (("S", "Segmentation"), ("GTcls", "Segmentations")):
        with pytest.raises(InputError, match=f"a.mat: {variable} is not a struct with a field {field}"):
            read_matrix(tmp_path / "a.mat", variable, field)


def test_big_endian_files(tmp_path):
    def element(kind, data):
        return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)

    matrix = np.array([[1, 258], [3, -4]], np.int16)
    parts = [(6, struct.pack(">II", 10, 0)), (5, struct.pack(">ii", 2, 2)), (1, b"S")]
    parts.append((3, matrix.astype(">i2").tobytes(order="F")))
    body = element(14, b"".join(element(*part) for part in parts))
    (tmp_path / "a.mat").write_bytes(b"MATLAB 5.0".ljust(124) + b"\x01\x00MI" + body)
    np.testing.assert_array_equal(scipy.io.loadmat(tmp_path / "a.mat")["S"], matrix)
    np.testing.assert_array_equal(read_matrix(tmp_path / "a.mat", "S"), matrix)


def files():
    label = np.arange(30).reshape(5, 6) % 7
    truth = {"Boundaries": np.array([[np.eye(2)]], object), "Segmentation": label.astype(np.uint8)}
    yield saved(mdict={"GTcls": truth}), ("GTcls", "Segmentation")
    yield saved(mdict={"GTcls": truth}, do_compression=True), ("GTcls", "Segmentation")
    yield saved(mdict={"a": "text", "S": label}), ("S", "")
    yield saved(mdict={"S": label.astype("f8")}, format="4"), ("S", "")


@pytest.mark.parametrize("number", range(4))
def test_every_byte_damaged_is_told_or_read(tmp_path, number):
    """SciPy ends the process on some of these."""
    raw, wanted = list(files())[number]
    path, told = tmp_path / "a.mat", 0
    for at in range(len(raw)):
        for value in {0, 1, 127, 128, 255, raw[at] ^ 1}:
            damaged = bytearray(raw)
            damaged[at] = value
            path.write_bytes(damaged)
            try:
                assert read_matrix(path, *wanted).ndim == 2
            except InputError as error:
                told += 1
                assert re.search(r"a\.mat", str(error)) and "\n" not in str(error)
    assert told > 100


@pytest.mark.parametrize("number", range(4))
def test_every_length_cut_is_told(tmp_path, number):
    raw, wanted = list(files())[number]
    for length in range(len(raw)):
        (tmp_path / "a.mat").write_bytes(raw[:length])
        with pytest.raises(InputError, match=r"a\.mat"):
            read_matrix(tmp_path / "a.mat", *wanted)


@given(st.binary(max_size=400), st.sampled_from([b"", b"MATLAB 5.0".ljust(124) + b"\x00\x01IM"]))
def test_any_bytes(tmp_path_factory, raw, head):
    path = tmp_path_factory.mktemp("mat") / "a.mat"
    path.write_bytes(head + raw)
    with pytest.raises(InputError, match=r"a\.mat"):
        read_matrix(path, "S")


def test_a_bomb_is_not_inflated(tmp_path):
    raw = bytearray(saved(mdict={"S": np.zeros((100, 100))}, do_compression=True))
    content = struct.pack("<II", 14, 1 << 30) + zlib.decompress(bytes(raw[136:]))[8:]
    packed = zlib.compress(content)
    (tmp_path / "a.mat").write_bytes(bytes(raw[:128]) + struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(InputError, match=f"with {1 << 30} bytes"):
        read_matrix(tmp_path / "a.mat", "S")
