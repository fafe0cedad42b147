"""HDF5Output: two blobs written to an HDF5 file, the reverse of HDF5Data (Caffe's HDF5OutputLayer)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.io.hdf5 import create_hdf5
from fcnlite.layers.base import Layer, register

_NAMES = ("data", "label")
_AXES = 4


@register
class HDF5Output(Layer):
    """Bottoms: data and labels, as many of each; written as data sets "data" and "label" of four axes.

    `hdf5_output_param`: file_name, from the working folder. The first forward pass makes the file, in the place of an
    older HDF5 file; later ones add their rows to it (Caffe's HDF5 fails there).
    """

    bottoms = (2, 2)
    tops = (0, 0)
    no_gradient = frozenset({0, 1})

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        name = self.param.hdf5_output_param.file_name
        if not name:
            raise self.fail("file_name is missing")
        self._path, self._begun = Path(name), False

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shapes = [blob.shape for blob in bottom]
        if not all(0 < len(shape) <= _AXES for shape in shapes):
            raise self.fail(
                f"the bottoms have shapes {shapes[0]} and {shapes[1]}; 1 to {_AXES} axes can be written"
            )
        if shapes[0][0] != shapes[1][0]:
            raise self.fail(
                f"{shapes[0][0]} rows of data and {shapes[1][0]} of labels; there must be as many"
            )

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        rows = [device.current().tonumpy(blob.data).astype(np.float32, copy=False) for blob in bottom]
        arrays = [array.reshape(*array.shape, *(1,) * (_AXES - array.ndim)) for array in rows]
        if self._begun:
            self._append(arrays)
        else:
            self._create(arrays)
        self._begun = True

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        pass

    def _create(self, arrays: Sequence[np.ndarray]) -> None:
        if self._path.exists() and not h5py.is_hdf5(self._path):
            raise self.fail(f"'{self._path}' exists and is not an HDF5 file; it is not overwritten")
        with create_hdf5(self._path) as file:
            for name, array in zip(_NAMES, arrays):
                file.create_dataset(name, data=array, maxshape=(None, *array.shape[1:]), chunks=True)

    def _append(self, arrays: Sequence[np.ndarray]) -> None:
        try:
            with h5py.File(self._path, "r+") as file:
                held = [file[name].shape for name in _NAMES]
                for shape, array in zip(held, arrays):
                    if shape[1:] != array.shape[1:]:
                        raise self.fail(
                            f"rows of shape {array.shape[1:]} do not fit those of {shape[1:]} already in '{self._path}'"
                        )
                for name, shape, array in zip(_NAMES, held, arrays):
                    file[name].resize(shape[0] + len(array), axis=0)
                    file[name][shape[0] :] = array
        except (OSError, KeyError, RuntimeError) as error:
            raise self.fail(f"'{self._path}' cannot be added to ({error})") from None
