"""Data: records (Datum) from an LMDB database, transformed (Caffe's DataLayer)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from fcnlite.blob import Blob
from fcnlite.data.encoded import decode
from fcnlite.errors import InputError
from fcnlite.io.lmdb import Database
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
        if min(shape) < 1 or values.size != math.prod(shape):
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


class _Records(Sequence[Any]):
    """The records of an LMDB database in its order."""

    def __init__(self, layer: Layer, path: Path):
        self._layer, self._path = layer, path
        try:
            self._database = Database(path)
        except InputError as error:
            raise layer.fail(str(error)) from None
        if not len(self._database):
            raise layer.fail(f"the database '{path}' is empty")
        self._at, self._datum, self._following = -1, Datum(), self._database.records()

    def __len__(self) -> int:
        return len(self._database)

    def keys(self) -> Iterator[bytes]:
        """The keys of all records, in order."""
        return (record.key for record in self._database.records())

    def __getitem__(self, index: Any) -> Any:
        if index != self._at:
            if index < self._at:
                self._at, self._following = index - 1, self._database.records(skip=index)
            value = self._value(index - self._at - 1)
            self._at = index
            try:
                self._datum = Datum.FromString(value)
            except DecodeError:
                raise self._layer.fail(f"record {index} of '{self._path}' is not a Datum") from None
        return self._datum

    def _value(self, passed: int) -> bytes:
        """The value behind the next `passed` records."""
        try:
            return bytes(next(islice(self._following, passed, None)).value)
        except InputError as error:
            raise self._layer.fail(str(error)) from None
        except StopIteration:
            raise self._layer.fail(
                f"'{self._path}' is damaged: it holds fewer records than it says"
            ) from None
