"""LMDB databases, read in place: the records of a mapped file, in the order of their keys.

The library `lmdb` trusts the page numbers and lengths that a file holds, and a damaged one ends the process; here each
is checked against the bytes that exist. Read are databases as Caffe makes them: one a file, one value a key.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

from fcnlite.errors import InputError

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_HEADER = struct.Struct("<QHHHH")  # of a page: its number, padding, flags, where free space begins and ends
_META = struct.Struct("<IIQQ")  # magic, version, address, map size
_TREE = struct.Struct(
    "<IHHQQQQQ"
)  # padding, flags, depth, pages of branches, leaves, overflow; entries, root
_NODE = struct.Struct("<HHHH")  # the value's length, low and high, flags, the key's length
_BRANCH, _LEAF, _OVERFLOW, _METADATA, _LEAF_OF_VALUES = 1, 2, 4, 8, 32  # flags of a page
_ELSEWHERE, _SUBTREE, _SEVERAL = (
    1,
    2,
    4,
)  # flags of a node: its value lies in overflow pages, or is none of Caffe's
_MANY_VALUES = 4  # flag of a tree: several values a key
_NO_ROOT = 2**64 - 1
_PAGE_SIZES = frozenset(1 << bits for bits in range(8, 17))


class Record(NamedTuple):
    """A key with its value, which is a view of the mapped file."""

    key: bytes
    value: memoryview


class Database:
    """An LMDB database as it was when it was opened.

    Parameters
    ----------
    path : path
        Its folder, or the file in it.

    Attributes
    ----------
    path : Path
        The file.
    page_size : int
        Bytes.

    Raises
    ------
    FileNotFoundError, InputError
        There is no such folder or file, or it is not such a database.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = _file_of(Path(path))
        try:
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                self._data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b"")
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read ({error.strerror or error})") from None
        first = self._meta(0, None)
        self.page_size = first.page_size
        latest = max(first, self._meta(1, first.page_size), key=lambda meta: meta.transaction)
        self._pages = len(self._data) // self.page_size
        self._entries, self._root = latest.entries, latest.root
        if self._entries > len(self._data) // _NODE.size:
            self._damaged(f"it claims {self._entries:,} records")

    def __len__(self) -> int:
        return self._entries

    def records(self, skip: int = 0) -> Iterator[Record]:
        """The records in order, but for the first `skip`.

        Raises
        ------
        InputError
            The file is damaged; it may be told in the midst.
        """
        for page, nodes in self._leaves():
            for node in nodes[skip:]:
                yield self._record(page, node)
            skip = max(0, skip - len(nodes))

    def _meta(self, number: int, page_size: int | None) -> _Meta:
        """The facts on the database's first or second page; the one that was written last holds."""
        start = number * (page_size or 0)
        need = _HEADER.size + _META.size + 2 * _TREE.size + 16
        if start + need > len(self._data):
            raise InputError(f"{self.path}: not an LMDB database: it is cut short, or another kind of file")
        flags = _HEADER.unpack_from(self._data, start)[2]
        magic, version, *_ = _META.unpack_from(self._data, start + _HEADER.size)
        if magic != _MAGIC or not flags & _METADATA:
            raise InputError(f"{self.path}: not an LMDB database of a 64-bit machine, or a damaged one")
        if version != _VERSION:
            raise InputError(f"{self.path}: an LMDB database of format {version}; format {_VERSION} is read")
        trees = start + _HEADER.size + _META.size
        size = _TREE.unpack_from(self._data, trees)[0]
        if size not in _PAGE_SIZES or page_size not in (None, size):
            self._damaged(f"it claims pages of {size} bytes")
        _, kind, *_, entries, root = _TREE.unpack_from(self._data, trees + _TREE.size)
        if kind & _MANY_VALUES:
            raise InputError(
                f"{self.path}: an LMDB database of several values a key, which Caffe never makes"
            )
        transaction = struct.unpack_from("<Q", self._data, trees + 2 * _TREE.size + 8)[0]
        return _Meta(size, entries, root, transaction)

    def _leaves(self) -> Iterator[tuple[int, list[int]]]:
        """Each leaf page, as its beginning and those of its nodes, in the order of keys."""
        waiting = [] if self._root == _NO_ROOT else [self._root]
        for _ in range(self._pages + 1):
            if not waiting:
                return
            start, flags, nodes = self._page(waiting.pop())
            if flags & _LEAF:
                yield start, nodes
            else:
                waiting.extend(self._child(node) for node in reversed(nodes))
        self._damaged("its pages go round in circles")

    def _page(self, number: int) -> tuple[int, int, list[int]]:
        """Where a page of the tree begins, its flags, and where its nodes begin."""
        start, flags = self._begin(number)
        lower, upper = _HEADER.unpack_from(self._data, start)[3:]
        if flags & _LEAF_OF_VALUES or bool(flags & _BRANCH) == bool(flags & _LEAF):
            self._damaged(f"page {number} is none of the tree")
        if not _HEADER.size <= lower <= upper <= self.page_size or lower % 2:
            self._damaged(f"page {number} has its nodes outside it")
        count = (lower - _HEADER.size) // 2
        places = struct.unpack_from(f"<{count}H", self._data, start + _HEADER.size)
        if any(not upper <= place <= self.page_size - _NODE.size for place in places):
            self._damaged(f"page {number} has its nodes outside it")
        return start, flags, [start + place for place in places]

    def _begin(self, number: int) -> tuple[int, int]:
        """Where a page begins, and its flags."""
        start = number * self.page_size
        if not 2 <= number < self._pages:
            self._damaged(f"it has {self._pages} pages and names page {number}")
        own, _, flags, *_ = _HEADER.unpack_from(self._data, start)
        if own != number:
            self._damaged(f"page {number} says that it is page {own}")
        return start, flags

    def _child(self, node: int) -> int:
        """The page that a node of a branch leads to: 48 bits, of which the node's flags are the highest."""
        low, middle, high, _ = _NODE.unpack_from(self._data, node)
        return low | middle << 16 | high << 32

    def _record(self, page: int, node: int) -> Record:
        low, high, flags, key_size = _NODE.unpack_from(self._data, node)
        key, size = node + _NODE.size, low | high << 16
        start, end = key + key_size, page + self.page_size
        if flags & (_SUBTREE | _SEVERAL):
            raise InputError(f"{self.path}: a database with others in it, which Caffe never makes")
        if flags & _ELSEWHERE and start + 8 <= end:
            number = struct.unpack_from("<Q", self._data, start)[0]
            page, kind = self._begin(number)
            if not kind & _OVERFLOW:
                self._damaged(f"page {number} holds no long value")
            start, end = page + _HEADER.size, len(self._data)
        if start + size > end:
            self._damaged(f"a value of {size:,} bytes does not fit where it lies")
        return Record(bytes(self._data[key : key + key_size]), self._data[start : start + size])

    def _damaged(self, message: str) -> NoReturn:
        raise InputError(f"{self.path}: a damaged LMDB database: {message}")


class _Meta(NamedTuple):
    page_size: int
    entries: int
    root: int
    transaction: int


def _file_of(path: Path) -> Path:
    """The file of a database given by its folder or itself."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such folder or file")
    if not path.is_dir():
        return path
    if is_leveldb(path):
        raise InputError(f"{path}: a LevelDB database, which is not read here; make it an LMDB database")
    if not (path / "data.mdb").is_file():
        raise InputError(f"{path}: not an LMDB database: no data.mdb in this folder")
    return path / "data.mdb"


def is_leveldb(path: Path) -> bool:
    """True of the folder of a LevelDB database."""
    return (path / "CURRENT").is_file() and any(path.glob("MANIFEST-*"))


def is_lmdb(path: str | os.PathLike[str]) -> bool:
    """True of an LMDB database's folder, and of its file."""
    path = Path(path)
    if path.is_dir():
        return (path / "data.mdb").is_file()
    with path.open("rb") as file:
        begin = file.read(_HEADER.size + 4)
    return len(begin) == _HEADER.size + 4 and struct.unpack_from("<I", begin, _HEADER.size)[0] == _MAGIC
