"""MatWrite: blobs into MATLAB files (DeepLab)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scipy.io import savemat

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.data.files import read_lines
from fcnlite.io.atomic import atomic_path
from fcnlite.layers.base import MANY, Layer, register


@register
class MatWrite(Layer):
    """Every `period`-th forward writes bottom i to PREFIX NAME_blob_i.mat as `data`, (W, H, C, N) in MATLAB's order.

    NAME is the next line's first word of the list `source`, less `strip` characters at its end, or iter_K. The folder
    that `mat_write_param.prefix` names must be there.
    """

    bottoms = (1, MANY)
    tops = (0, 0)
    no_gradient = frozenset(range(64))

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.mat_write_param
        if p.period < 1 or p.strip < 0:
            raise self.fail(f"period {p.period} must be at least 1, strip {p.strip} at least 0")
        self._names: list[str] | None = None
        if p.HasField("source"):
            words = [line.split()[0] for line in read_lines(self.find_file(p.source)) if line.strip()]
            self._names = [word[: len(word) - p.strip] for word in words]
            for name in self._names:
                if ".." in Path(name).parts:
                    raise self.fail(f"'{name}' of '{p.source}' leads out of the folder {p.prefix}")
        self._done = [0]  # shared by the copies that calls make

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        pass

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p, done = self.param.mat_write_param, self._done[0]
        self._done[0] += 1
        if done % p.period:
            return
        if self._names is not None and done >= len(self._names):
            raise self.fail(f"'{p.source}' has {len(self._names)} names, and all are used")
        name = self._names[done] if self._names is not None else f"iter_{done}"
        for i, blob in enumerate(bottom):
            path = Path(f"{p.prefix}{name}_blob_{i}.mat")
            if not path.parent.is_dir():
                raise self.fail(f"the folder '{path.parent}' is not there; make it, or change prefix")
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                savemat(file, {"data": device.current().tonumpy(blob.data).T})

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        pass
