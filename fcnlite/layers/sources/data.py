"""Layers that bring their own data: DummyData, HDF5Data and MemoryData (Caffe's layers of those names)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.errors import InputError
from fcnlite.fillers import fill
from fcnlite.io.hdf5 import Budget, member, open_hdf5, read_array
from fcnlite.layers.base import MANY, Layer, register
from fcnlite.proto import FillerParameter, Message
from fcnlite.random import filler_stream


class _Source(Layer):
    """No bottoms, nothing to send a gradient to, and tops whose shape is settled in setup."""

    bottoms = (0, 0)
    tops = (1, MANY)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        pass

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        pass


@register
class DummyData(_Source):
    """Tops filled by `data_filler`: once where it is constant (the default, 0), else in every forward pass.

    `dummy_data_param`: a shape (or num, channels, height, width) and a data_filler, each once for all tops
    or once for each.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.dummy_data_param
        sides = (p.num, p.channels, p.height, p.width)
        if any(map(len, sides)):
            if p.shape:
                raise self.fail("give either shape or num, channels, height and width, not both")
            shapes = list(
                zip(*(self._each(side, len(top), "num, channels, height and width") for side in sides))
            )
        else:
            shapes = [tuple(shape.dim) for shape in self._each(p.shape, len(top), "shape")]
        zero = FillerParameter(type="constant", value=0)
        self.fillers = self._each(list(p.data_filler) or [zero], len(top), "data_filler")
        for blob, shape, filler in zip(top, shapes, self.fillers):
            blob.reshape(*map(int, shape))
            if filler.type == "constant":
                self._fill(blob, filler)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        for blob, filler in zip(top, self.fillers):
            if filler.type != "constant" or not blob.has_data:
                self._fill(blob, filler)

    def deal(self, hands: int, hand: int) -> None:
        """Do nothing: each of Caffe's parallel solvers draws from a stream of its own, as each process here."""

    def _fill(self, blob: Blob, filler: Message) -> None:
        self.check_size(blob.shape)
        blob.new_data()[...] = device.current().asarray(fill(filler, blob.shape))

    def _each(self, given: Sequence[Any], tops: int, what: str) -> list[Any]:
        """Repeat a single value for every top; several must be as many as the tops."""
        if len(given) not in (1, tops):
            raise self.fail(f"{len(given)} of {what} for {tops} tops; give it once, or once for each")
        return list(given) * tops if len(given) == 1 else list(given)


@register
class HDF5Data(_Source):
    """Batches of rows from HDF5 files, one file held in memory at a time, round and round.

    `hdf5_data_param`: source, a text file that names one HDF5 file a line (from the working folder, as
    in Caffe, or the prototxt's); batch_size; shuffle, which shuffles the files, and the rows within each. Every
    top is filled from the data set of its own name, whose first axis counts rows.
    """

    _deal, _ahead = 1, 0  # it takes every so many-th row; rows before the next one that it takes

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self._read_settings(top)
        self._queue = self._order(len(self.files))
        self._file = self._row = 0
        self._rows: list[np.ndarray] = []
        self._numbers = np.arange(0)
        self._load()
        for blob, rows in zip(top, self._rows):
            blob.reshape(self.batch, *rows.shape[1:])

    def size_up(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self._read_settings(top)
        path = self.find_file(self.files[0])
        try:
            with open_hdf5(path) as file:
                for blob, name in zip(top, self.names):
                    blob.reshape(self.batch, *self._rows_in(file, path, name).shape[1:])
        except InputError as error:
            raise self.fail(str(error)) from None

    def _read_settings(self, top: Sequence[Blob]) -> None:
        p = self.param.hdf5_data_param
        if self.param.HasField("transform_param"):
            raise self.fail("HDF5Data does not transform its data; take transform_param out")
        if p.batch_size < 1:
            raise self.fail("batch_size is missing or 0")
        self.batch, self.shuffle = int(p.batch_size), p.shuffle
        self.names = list(self.param.top) or [blob.name for blob in top]
        self.files = self._read_list(p.source)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        batches = [np.empty((self.batch, *rows.shape[1:]), np.float32) for rows in self._rows]
        filled = 0
        while filled < self.batch:
            taken = self._numbers[self._row + self._ahead :: self._deal][: self.batch - filled]
            for batch, rows in zip(batches, self._rows):
                batch[filled : filled + len(taken)] = rows[taken]
            filled += len(taken)
            self._advance(self._ahead + len(taken) * self._deal)
        for blob, batch in zip(top, batches):
            blob.data = device.current().asarray(batch)

    def deal(self, hands: int, hand: int) -> None:
        """Take the rows number hand, hand + hands, .. only, as each of Caffe's parallel solvers does."""
        self._deal, self._ahead = hands, hand

    def _advance(self, rows: int) -> None:
        """Step over rows as far as this file has them, into the next file where it ends."""
        here = min(rows, len(self._numbers) - self._row)
        self._row, self._ahead = self._row + here, rows - here
        if self._row < len(self._numbers):
            return
        self._row = 0
        if len(self.files) == 1:
            self._numbers = self._order(len(self._numbers))
            return
        self._file += 1
        if self._file == len(self.files):
            self._file, self._queue = 0, self._order(len(self.files))
        self._load()

    def _load(self) -> None:
        path = self.find_file(self.files[self._queue[self._file]])
        try:
            with open_hdf5(path) as file:
                budget = Budget(file)
                rows = [
                    read_array(self._rows_in(file, path, name), budget).astype(np.float32, copy=False)
                    for name in self.names
                ]
        except InputError as error:
            raise self.fail(str(error)) from None
        if len({len(array) for array in rows}) > 1 or not len(rows[0]):
            counts = ", ".join(f"{name} {len(array)}" for name, array in zip(self.names, rows))
            raise self.fail(
                f"'{path}': all data sets must have the same number of rows, not 0; there are {counts}"
            )
        for name, old, new in zip(self.names, self._rows, rows):
            if old.shape[1:] != new.shape[1:]:
                raise self.fail(
                    f"'{path}': rows of '{name}' are {new.shape[1:]}, in the file before {old.shape[1:]}"
                )
        self._rows, self._numbers = rows, self._order(len(rows[0]))

    def _rows_in(self, file: h5py.File, path: Path, name: str) -> h5py.Dataset:
        data = member(file, name)
        if not isinstance(data, h5py.Dataset):
            raise InputError(f"'{path}' has no data set '{name}'; there are {', '.join(file) or 'none'}")
        if data.ndim < 1 or data.dtype.kind not in "fiu":
            raise InputError(f"'{path}': data set '{name}' must hold numbers along at least one axis")
        return data

    def _read_list(self, source: str) -> list[str]:
        try:
            names = self.find_file(source).read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError):
            raise self.fail(f"the list of HDF5 files '{source}' cannot be read") from None
        if not names:
            raise self.fail(f"'{source}' names no HDF5 file")
        return names

    def _order(self, count: int) -> np.ndarray:
        return filler_stream().permutation(count) if self.shuffle else np.arange(count)


@register
class MemoryData(_Source):
    """Batches from arrays given to `reset`, round and round: data (B, C, H, W), labels (B, 1, 1, 1)."""

    tops = (2, 2)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.memory_data_param
        self.shape = (int(p.batch_size), int(p.channels), int(p.height), int(p.width))
        if min(self.shape) < 1:
            raise self.fail("batch_size, channels, height and width must all be given, and at least 1")
        top[0].reshape(*self.shape)
        top[1].reshape(self.shape[0])
        self._data: Any = None

    def reset(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Use other arrays from the next forward pass on.

        Parameters
        ----------
        data : array (n, C, H, W)
            n must be a multiple of the batch size.
        labels : array of n numbers

        Raises
        ------
        InputError
            If the arrays do not fit.
        """
        data, labels = np.asarray(data, np.float32), np.asarray(labels, np.float32).reshape(-1)
        if data.shape[1:] != self.shape[1:] or not len(data) or len(data) % self.shape[0]:
            raise self.fail(
                f"data of shape {data.shape}; (a multiple of {self.shape[0]}, *{self.shape[1:]}) is needed"
            )
        if len(labels) != len(data):
            raise self.fail(f"{len(labels)} labels for {len(data)} images")
        self._data, self._labels, self._position = data, labels, 0

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        if self._data is None:
            raise self.fail("there is no data yet; hand some over with reset()")
        backend, rows = device.current(), slice(self._position, self._position + self.shape[0])
        top[0].data = backend.asarray(self._data[rows].copy())
        top[1].data = backend.asarray(self._labels[rows].reshape(-1, 1, 1, 1).copy())
        self._position = rows.stop % len(self._data)
