"""Data: records (Datum) from an LMDB database, transformed (Caffe's DataLayer and DataTransformer).

They are cropped, mirrored, freed of the mean and scaled. LMDB itself is read by the optional package `lmdb`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from google.protobuf.message import DecodeError
from PIL import Image

import fcnlite.random
from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register
from fcnlite.proto import TRAIN, BlobProto, DataParameter, Datum


@register
class Data(Layer):
    """Tops: batches of records in the database's order, round and round, and, with a second top, their labels.

    `data_param`: source, the database's folder; batch_size; backend, which must be LMDB. `transform_param`:
    crop_size, at random in phase TRAIN, else the centre; mirror, for every other image at random; mean_file or
    mean_value, subtracted; scale, multiplied last; force_color or force_gray for encoded images, which come as BGR.

    Crops and mirroring are drawn as Caffe draws them, from a twister seeded by the process's.
    """

    bottoms = (0, 0)
    tops = (1, 2)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.data_param
        if p.backend != DataParameter.LMDB:
            raise self.fail("its backend is LevelDB, which is not read here; make it an LMDB (backend: LMDB)")
        if p.batch_size < 1:
            raise self.fail("batch_size is missing or 0")
        self.batch = int(p.batch_size)
        self._transform = _Transform(self)
        self._records = _Records(self, self.find_file(p.source))
        self._position = 0
        self._first: tuple[int, tuple[np.ndarray, int]] | None = None  # what reshape has read, and where

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        # The first record of a batch says how large it is, so that single images may each have their own size.
        if self._first is None or self._first[0] != self._position:
            self._first = self._position, self._read(self._position)
        first = self._first[1][0]
        top[0].reshape(self.batch, first.shape[0], *self._transform.size(first))
        if len(top) > 1:
            top[1].reshape(self.batch)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        assert self._first is not None  # reshape comes first
        records = [self._first[1], *(self._read(self._position + i) for i in range(1, self.batch))]
        images = [self._transform(image) for image, _ in records]
        for i, image in enumerate(images):
            if image.shape != images[0].shape:
                raise self.fail(
                    f"record {(self._position + i) % len(self._records)} has shape {image.shape}, the first of its "
                    f"batch {images[0].shape}; give a crop_size, or batch_size 1"
                )
        top[0].new_data()[...] = device.current().asarray(np.stack(images))
        if len(top) > 1:
            top[1].new_data()[...] = device.current().asarray([float(label) for _, label in records])
        self._position += self.batch

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        pass

    def seek(self, position: int) -> None:
        """Go on as if `position` forwards had been made."""
        self._position = position * self.batch
        self._transform.restart(self._position)

    def keys(self) -> Iterator[bytes]:
        """The keys of all records, in order."""
        return self._records.keys()

    @property
    def seed(self) -> int | None:
        """The seed of its crops and mirrors; None if it draws none."""
        return self._transform.seed

    def _read(self, position: int) -> tuple[np.ndarray, int]:
        """Image (C, H, W) and label of a record."""
        index = position % len(self._records)
        datum = self._records[index]
        image = self._decode(datum, index) if datum.encoded else self._plain(datum, index)
        return image, datum.label

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
            with Image.open(io.BytesIO(datum.data)) as image:
                grey = p.force_gray or (image.mode in ("L", "1") and not p.force_color)
                pixels = np.asarray(image.convert("L" if grey else "RGB"))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise self.fail(f"record {index} is not an image that can be decoded ({error})") from None
        return pixels[None] if grey else np.ascontiguousarray(pixels[:, :, ::-1].transpose(2, 0, 1))


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


class _Transform:
    """The changes that `transform_param` asks for, made to one image after another."""

    def __init__(self, layer: Data):
        p = layer.param.transform_param
        self._layer, self._crop, self._mirror = layer, int(p.crop_size), p.mirror
        self._random_crop = bool(self._crop) and layer.phase == TRAIN
        self._scale = np.float32(p.scale)
        self._mean_file = _read_mean(layer, p.mean_file) if p.HasField("mean_file") else None
        self._mean_value = np.array(p.mean_value, np.float32)
        if self._mean_file is not None and self._mean_value.size:
            raise layer.fail("mean_file and mean_value cannot both be given")
        self.seed: int | None = None
        if self._mirror or self._random_crop:
            self.seed = _seed(layer, self._crop * self._random_crop, self._mirror)
            self.restart(0)

    def restart(self, images: int) -> None:
        """Rewind the random stream to where it stood after `images` images."""
        if self.seed is not None:
            self._twister = fcnlite.random.twister(self.seed)
            draws = images * (int(self._mirror) + 2 * int(self._random_crop))
            if draws:
                self._twister.random_raw(draws, output=False)

    def size(self, image: np.ndarray) -> tuple[int, int]:
        """Height and width that an image will have."""
        height, width = image.shape[1:]
        if self._crop > min(height, width):
            raise self._layer.fail(f"crop_size {self._crop} is more than the {height} x {width} of an image")
        return (self._crop, self._crop) if self._crop else (height, width)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        (height, width), (whole_height, whole_width) = self.size(image), image.shape[1:]
        mirrored = self._mirror and self._draw(2) == 1
        if self._random_crop:
            top = self._draw(whole_height - height + 1)
            left = self._draw(whole_width - width + 1)
        else:
            top, left = (whole_height - height) // 2, (whole_width - width) // 2
        values = image.astype(np.float32) - self._mean(image)
        values = values[:, top : top + height, left : left + width] * self._scale
        return values[:, :, ::-1] if mirrored else values

    def _draw(self, count: int) -> int:
        return int(self._twister.random_raw() % count)

    def _mean(self, image: np.ndarray) -> Any:
        if self._mean_file is not None:
            if self._mean_file.shape != image.shape:
                raise self._layer.fail(f"the mean has shape {self._mean_file.shape}, an image {image.shape}")
            return self._mean_file
        if self._mean_value.size > 1 and self._mean_value.size != len(image):
            raise self._layer.fail(f"{self._mean_value.size} values of mean_value for {len(image)} channels")
        return self._mean_value.reshape(-1, 1, 1) if self._mean_value.size else np.float32(0)


_together: ContextVar[dict[int, tuple[int, int, bool, str]] | None] = ContextVar("seeds", default=None)


@contextmanager
def drawing_together() -> Iterator[None]:
    """Let the layers of the nets built meanwhile draw the same crops and mirrors, as an image and its labels need.

    Caffe has nothing like it: each layer draws for itself.
    """
    before = _together.set({})
    try:
        yield
    finally:
        _together.reset(before)


def _seed(layer: Layer, crop: int, mirror: bool) -> int:
    """The seed of a layer's draws: its own, or within `drawing_together` that of the first layer of its phase."""
    seeds = _together.get()
    if seeds is not None and layer.phase in seeds:
        seed, *same, name = seeds[layer.phase]
        if same != [crop, mirror]:
            raise layer.fail(
                f"its crop_size and mirror must be those of layer '{name}', to be drawn with them"
            )
        return seed
    fcnlite.random.draw()  # Caffe seeds it twice
    seed = fcnlite.random.draw()
    if seeds is not None:
        seeds[layer.phase] = seed, crop, mirror, layer.name
    return seed


def _read_mean(layer: Data, name: str) -> np.ndarray:
    """The (C, H, W) image in a binaryproto file."""
    path = layer.find_file(name)
    try:
        blob = BlobProto.FromString(path.read_bytes())
        shape = tuple(blob.shape.dim) or (blob.num, blob.channels, blob.height, blob.width)
        return np.array(blob.data, np.float32).reshape(shape[-3:])
    except (DecodeError, OSError, ValueError):
        raise layer.fail(f"the mean '{path}' is not a binaryproto of an image") from None
