"""Data: records (Datum) from an LMDB database, transformed (Caffe's DataLayer).

LMDB itself is read by the optional package `lmdb`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from google.protobuf.message import DecodeError

from fcnlite.blob import Blob
from fcnlite.data.encoded import decode
from fcnlite.errors import InputError
from fcnlite.layers.base import Layer, register
from fcnlite.layers.sources.batches import ImageBatches, Label, Transform
from fcnlite.proto import DataParameter, Datum


@register
class Data(ImageBatches):
    """Tops: batches of records in the database's order, round and round, and, with a second top, their labels.

    `data_param`: source, the database's folder; batch_size; backend, which must be LMDB. `transform_param`:
    crop_size, at random in phase TRAIN, else the centre; mirror, for every other image at random; mean_file or
    mean_value, subtracted; scale, multiplied last; force_color or force_gray for encoded images, which come as BGR.

    Crops and mirroring are drawn as Caffe draws them, from a twister seeded by the process's.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.data_param
        if p.backend != DataParameter.LMDB:
            raise self.fail("its backend is LevelDB, which is not read here; make it an LMDB (backend: LMDB)")
        if p.batch_size < 1:
            raise self.fail("batch_size is missing or 0")
        self.batch = int(p.batch_size)
        self.transform = Transform(self)
        self._records = _Records(self, self.find_file(p.source))
        self.transform.start()

    def keys(self) -> Iterator[bytes]:
        """The keys of all records, in order."""
        return self._records.keys()

    def read(self, position: int) -> tuple[np.ndarray, Label]:
        index = position % len(self._records)
        datum = self._records[index]
        image = self._decode(datum, index) if datum.encoded else self._plain(datum, index)
        return image, float(datum.label)

    def name_of(self, position: int) -> str:
        return f"record {position % len(self._records)}"

    def _plain(self, datum: Any, index: int) -> np.ndarray:
        shape = datum.channels, datum.height, datum.width
        values = np.frombuffer(datum.data, np.uint8) if datum.data else np.array(datum.float_data, np.float32)
        if min(shape) < 1 or values.size != np.prod(shape, dtype=np.int64):
            raise self.fail(f"record {index} holds {values.size} values for shape {shape}")
        return values.reshape(shape)

    def _decode(self, datum: Any, index: int) -> np.ndarray:
        p = self.param.transform_param
        if p.force_color and p.force_gray:
            raise self.fail("force_color and force_gray cannot both be set")
        try:
            return decode(datum.data, bool(p.force_color) if p.force_color or p.force_gray else None)
        except InputError as error:
            raise self.fail(f"record {index} {error}") from None


class _Database:
    """An open LMDB environment, of which a process may have but one for each folder."""

    def __init__(self, environment: Any):
        self.environment = environment


_databases: WeakValueDictionary[Path, _Database] = WeakValueDictionary()


def _open(layer: Layer, path: Path) -> _Database:
    try:
        import lmdb
    except ImportError:
        raise layer.fail("reading LMDB needs the package lmdb: pip install lmdb") from None
    database = _databases.get(path.resolve())
    if database is None:
        try:
            database = _Database(lmdb.open(os.fspath(path), subdir=path.is_dir(), readonly=True, lock=False))
        except lmdb.Error as error:
            raise layer.fail(f"'{path}' is not an LMDB database ({error})") from None
        _databases[path.resolve()] = database
    return database


class _Records(Sequence[Any]):
    """The records of an LMDB database in its order."""

    def __init__(self, layer: Layer, path: Path):
        self._layer, self._path = layer, path
        self._database = _open(layer, path)
        self._cursor = self._database.environment.begin().cursor()
        self._length = self._database.environment.stat()["entries"]
        if not self._length:
            raise layer.fail(f"the database '{path}' is empty")
        self._at, self._datum = -1, Datum()

    def __len__(self) -> int:
        return self._length

    def keys(self) -> Iterator[bytes]:
        """The keys of all records, in order."""
        with self._database.environment.begin() as transaction:
            yield from (bytes(key) for key in transaction.cursor().iternext(values=False))

    def __getitem__(self, index: Any) -> Any:
        if index != self._at:
            if index < self._at or self._at < 0:
                self._cursor.first()
                self._at = 0
            for _ in range(index - self._at):
                self._cursor.next()
            self._at = index
            try:
                self._datum = Datum.FromString(self._cursor.value())
            except DecodeError:
                raise self._layer.fail(f"record {index} of '{self._path}' is not a Datum") from None
        return self._datum
