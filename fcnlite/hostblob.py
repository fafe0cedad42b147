"""Blobs as user code of Caffe's Python interface sees them: NumPy arrays to read and to write, on any device.

On the CPU these are the blob's own arrays. On a GPU they are copies, made when asked for and carried back by
`push` before anything runs on the device again, as Caffe's SyncedMemory does: an array held on to shows new
results after the next look at `blob.data`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload
from weakref import WeakKeyDictionary

import numpy as np

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.errors import InputError

# Host arrays handed out since the last push, which their reader may have written to, by the device array's id.
_handed_out: dict[int, tuple[Any, np.ndarray]] = {}
_buffers: WeakKeyDictionary[Blob, dict[str, np.ndarray]] = WeakKeyDictionary()


def push() -> None:
    """Carry what user code may have written to host copies back to the device."""
    while _handed_out:
        _, (array, buffer) = _handed_out.popitem()
        array.set(buffer.astype(array.dtype, copy=False))


class HostBlob:
    """A view of a blob with NumPy arrays (pycaffe's `caffe.Blob`).

    Parameters
    ----------
    blob : Blob
    backend : optional
        The device it lives on, the current one by default.

    Attributes
    ----------
    data, diff : numpy.ndarray
        Content and gradient, to be written in place (`blob.data[...] = x`).
    shape : tuple of int
    num, channels, height, width, count : int
        The first four axes (1 where there are fewer), and the number of elements.
    """

    def __init__(self, blob: Blob, backend: Any = None):
        self.blob = blob
        self._backend = device.current() if backend is None else backend

    @property
    def data(self) -> np.ndarray:
        return self._host("data")

    @property
    def diff(self) -> np.ndarray:
        return self._host("diff")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.blob.shape

    @property
    def num(self) -> int:
        return self.blob.num

    @property
    def channels(self) -> int:
        return self.blob.channels

    @property
    def height(self) -> int:
        return self.blob.height

    @property
    def width(self) -> int:
        return self.blob.width

    @property
    def count(self) -> int:
        return self.blob.count

    def reshape(self, *shape: int) -> None:
        """Give the blob another shape; where the number of elements changes, its content is lost."""
        self.blob.reshape(*_sizes(shape))

    def _host(self, kind: str) -> np.ndarray:
        with device.using(self._backend):
            array = getattr(self.blob, kind)
            if isinstance(array, np.ndarray):
                return array
            if id(array) not in _handed_out:
                _handed_out[id(array)] = array, self._copied(kind, array)
            return _handed_out[id(array)][1]

    def _copied(self, kind: str, array: Any) -> np.ndarray:
        held = _buffers.setdefault(self.blob, {})
        if kind in held and held[kind].shape == array.shape:
            held[kind][...] = self._backend.tonumpy(array)
        else:
            held[kind] = np.array(self._backend.tonumpy(array))
        return held[kind]

    def __repr__(self) -> str:
        return f"Host{self.blob!r}"


class HostBlobs(Sequence[HostBlob]):
    """A layer's parameters (pycaffe's `BlobVec`): a list of blobs that user code may add to."""

    def __init__(self, blobs: list[Blob] | None = None):
        self.blobs = [] if blobs is None else blobs
        self._backend = device.current()

    def add_blob(self, *shape: int) -> None:
        """Append a parameter of zeros."""
        self.blobs.append(Blob(shape=_sizes(shape)))

    def __len__(self) -> int:
        return len(self.blobs)

    @overload
    def __getitem__(self, index: int) -> HostBlob: ...
    @overload
    def __getitem__(self, index: slice) -> list[HostBlob]: ...
    def __getitem__(self, index: int | slice) -> HostBlob | list[HostBlob]:
        if isinstance(index, slice):
            return [HostBlob(blob, self._backend) for blob in self.blobs[index]]
        return HostBlob(self.blobs[index], self._backend)

    def __iter__(self) -> Iterator[HostBlob]:
        return iter(self[:])


def _sizes(shape: Sequence[Any]) -> tuple[int, ...]:
    """The sizes of a blob's axes, each given by itself."""
    try:
        sizes = tuple(int(size) for size in shape)
    except (TypeError, ValueError):
        sizes = (-1,)
    if min(sizes, default=0) < 0:
        raise InputError(
            f"a blob cannot be shaped by {shape}; give the size of every axis, as in 1, 3, 500, 500"
        )
    return sizes


def wrap(blobs: Iterable[Blob]) -> list[HostBlob]:
    """Views of several blobs."""
    return [HostBlob(blob) for blob in blobs]
