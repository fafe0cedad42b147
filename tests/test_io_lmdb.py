"""LMDB databases, read without the library that writes them: the same records, and damage told in one line."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fuzz import damaged
from fcnlite.errors import InputError
from fcnlite.io.lmdb import Database, is_lmdb

lmdb = pytest.importorskip("lmdb", reason="LMDB databases are written by the package lmdb")


def write(path: Path, records: dict[bytes, bytes], gone: list[bytes] | None = None) -> Path:
    """A database of records, from which some are taken out again."""
    with lmdb.open(str(path), map_size=1 << 26) as environment:
        with environment.begin(write=True) as transaction:
            for key, value in records.items():
                transaction.put(key, value)
        for key in gone or []:
            with environment.begin(write=True) as transaction:
                transaction.delete(key)
    return path / "data.mdb"


def held(path: Path) -> dict[bytes, bytes]:
    return {record.key: bytes(record.value) for record in Database(path).records()}


@settings(max_examples=30, deadline=None)
@given(
    keys=st.sets(st.binary(min_size=1, max_size=60), max_size=40),
    long=st.sampled_from([10, 900, 2100, 5000, 70_000]),
    seed=st.integers(0, 1000),
)
def test_the_records_are_those_of_the_library(
    tmp_path_factory: pytest.TempPathFactory, keys: set[bytes], long: int, seed: int
) -> None:
    draw = random.Random(seed)
    records = {key: draw.randbytes(draw.randrange(long)) for key in sorted(keys)}
    gone = [key for key in records if draw.random() < 0.1]
    path = write(tmp_path_factory.mktemp("db") / "x", records, gone)
    left = {key: value for key, value in sorted(records.items()) if key not in gone}
    assert len(Database(path)) == len(left)
    assert list(held(path).items()) == list(left.items())
    assert held(path.parent) == left  # by its folder as by its file


def test_a_deep_tree_is_read_in_order_and_from_anywhere(tmp_path: Path) -> None:
    keys = [f"{i:0400d}".encode() for i in range(3000)]  # ten keys a page: four levels
    database = Database(write(tmp_path / "db", {key: key[-5:] for key in keys}))
    assert [record.key for record in database.records()] == keys
    for skip in (0, 1, 9, 10, 1234, 2999):
        assert [record.key for record in database.records(skip)] == keys[skip:]
    assert list(database.records(3000)) == list(database.records(5000)) == []


def test_an_empty_database_has_no_records(tmp_path: Path) -> None:
    assert held(write(tmp_path / "db", {})) == {}


def test_no_damage_ends_the_process(tmp_path: Path) -> None:
    """Where the library, on files like these, ends in a bus error for every thirtieth."""
    draw = random.Random(3)
    good = write(
        tmp_path / "db", {b"%08d" % i: draw.randbytes(9000 if i % 9 == 0 else 200) for i in range(80)}
    ).read_bytes()
    told = 0
    for number in range(400):
        path = tmp_path / "x.mdb"
        path.write_bytes(damaged(good, random.Random(f"lmdb {number}")))
        try:
            held(path)
        except InputError as error:
            told += 1
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    assert 100 < told < 400


def branch_of(path: Path) -> tuple[bytearray, int, int]:
    """A database's bytes, its page size and the number of the tree's root."""
    data = bytearray(path.read_bytes())
    size = struct.unpack_from("<I", data, 40)[0]
    meta = max((0, size), key=lambda start: struct.unpack_from("<Q", data, start + 16 + 24 + 96 + 8)[0])
    return data, size, struct.unpack_from("<Q", data, meta + 16 + 24 + 48 + 40)[0]


def test_pages_that_lead_back_to_themselves_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "db", {b"%08d" % i: bytes(300) for i in range(300)})
    data, size, root = branch_of(path)
    for place in struct.unpack_from("<4H", data, root * size + 16):
        struct.pack_into("<HHH", data, root * size + place, root, 0, 0)
    path.write_bytes(data)
    with pytest.raises(InputError, match="its pages go round in circles"):
        held(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data, size, root: data[:3000], "cut short, or another kind of file"),
        (lambda data, size, root: bytes(9000), "not an LMDB database"),
        (lambda data, size, root: data[: size * root], "and names page"),
        (lambda data, size, root: data.replace(struct.pack("<II", 0xBEEFC0DE, 1), struct.pack("<II", 0xBEEFC0DE, 2)),
         "of format 2; format 1 is read"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(tmp_path: Path, change, message: str) -> None:
    path = write(tmp_path / "db", {b"%08d" % i: bytes(300) for i in range(300)})
    path.write_bytes(change(*branch_of(path)))
    with pytest.raises(InputError, match=message):
        held(path)


def test_other_kinds_of_database_are_refused(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path / "db"), map_size=1 << 20, max_dbs=2) as environment:
        environment.open_db(b"one")
    with pytest.raises(InputError, match="with others in it"):
        held(tmp_path / "db")
    level = tmp_path / "level"
    level.mkdir()
    (level / "CURRENT").write_text("MANIFEST-000001\n")
    (level / "MANIFEST-000001").write_bytes(b"")
    with pytest.raises(InputError, match="a LevelDB database, which is not read here"):
        Database(level)
    with pytest.raises(InputError, match="no data.mdb in this folder"):
        Database(tmp_path)
    with pytest.raises(FileNotFoundError):
        Database(tmp_path / "none")


def test_databases_are_told_from_other_files(tmp_path: Path) -> None:
    path = write(tmp_path / "db", {b"a": b"b"})
    (tmp_path / "short").write_bytes(b"abc")
    assert is_lmdb(path) and is_lmdb(path.parent)
    assert not is_lmdb(tmp_path) and not is_lmdb(tmp_path / "short")
