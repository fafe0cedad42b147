"""Caffe's Python layer: layers that users write, and the original FCN experiments' data layers.

A prototxt must not be able to run code that its reader has not chosen. So a user's layer runs when the program has
loaded its module itself; modules are imported for a prototxt only after `allow_python_layers`.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.data.dataset import Dataset
from fcnlite.data.python_layers import is_data_layer, open_data_layer
from fcnlite.errors import InputError, warn
from fcnlite.hostblob import HostBlob, HostBlobs, push, wrap
from fcnlite.layers.base import MANY, Layer, register
from fcnlite.proto import Message

_may_import = False


def allow_python_layers(allow: bool = True) -> None:
    """True if nets may import the modules of their Python layers, from the prototxt's folder or `sys.path`.

    That runs code: allow it for nets whose folder you trust.
    """
    global _may_import
    _may_import = allow


class PythonLayer:
    """Base of users' layers (pycaffe's `caffe.Layer`).

    Subclasses define setup, reshape, forward and, where something is to be learned through them, backward; all get
    lists of `~fcnlite.hostblob.HostBlob`.

    Attributes
    ----------
    param_str : str
        What the prototxt says in `python_param { param_str: ... }`.
    phase : int
        TRAIN (0) or TEST (1).
    blobs : HostBlobs
        Learnable parameters, made in setup with `self.blobs.add_blob(*shape)`.
    type : str
        "Python".
    """

    type = "Python"
    param_str = ""
    phase: int
    blobs: HostBlobs

    def __new__(cls, *_: Any, **__: Any) -> PythonLayer:
        layer = super().__new__(cls)
        layer.blobs = HostBlobs()  # here, for subclasses whose __init__ does not call ours
        return layer

    def __init__(self, param: Message = None) -> None:
        """Made by the net, with the layer's LayerParameter."""

    def setup(self, bottom: Sequence[HostBlob], top: Sequence[HostBlob]) -> None:
        """Read the parameters; called once."""

    def reshape(self, bottom: Sequence[HostBlob], top: Sequence[HostBlob]) -> None:
        """Give the tops their shapes; called before every forward."""
        raise NotImplementedError(f"{type(self).__name__} defines no reshape(bottom, top)")

    def forward(self, bottom: Sequence[HostBlob], top: Sequence[HostBlob]) -> None:
        """Write the tops' data."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward(bottom, top)")

    def backward(
        self, top: Sequence[HostBlob], propagate_down: Sequence[bool], bottom: Sequence[HostBlob]
    ) -> None:
        """Write the bottoms' diffs where `propagate_down` says so, and add to the parameters'."""
        raise NotImplementedError(f"{type(self).__name__} defines no backward(top, propagate_down, bottom)")


# Layers of published code that are written in Python there, and here: by module and class.
WELL_KNOWN: dict[tuple[str, str], type[PythonLayer]] = {}


@register
class Python(Layer):
    """Caffe's Python layer: hands over to what `python_param` names by module and layer."""

    bottoms = (0, MANY)
    tops = (0, MANY)
    in_place = True
    messages = ("python_param",)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        given = self.param.python_param
        self.served: PythonLayer | DataFeed
        loaded = _class_in(sys.modules.get(given.module), given.layer)
        if loaded is None and is_data_layer(given.module, given.layer) and not self._brings_its_own():
            self.served = DataFeed(self, bottom)
            return
        known = WELL_KNOWN.get((given.module, given.layer))
        if loaded is None and known is not None and not self._brings_its_own():
            loaded = known
        self.served = (loaded or self._import(given.module, given.layer))(self.param)
        self.served.param_str, self.served.phase = given.param_str, int(self.phase)
        self.served.setup(wrap(bottom), wrap(top))
        push()
        self.blobs = self.served.blobs.blobs

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        if isinstance(self.served, DataFeed):
            self.served.reshape(top)
        else:
            self.served.reshape(wrap(bottom), wrap(top))
            push()

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        if isinstance(self.served, DataFeed):
            self.served.forward(top)
        else:
            self.served.forward(wrap(bottom), wrap(top))
            push()

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if not isinstance(self.served, DataFeed):
            self.served.backward(wrap(top), list(propagate_down), wrap(bottom))
            push()

    @property
    def dataset(self) -> Dataset | None:
        """The data set that one of the FCN data layers feeds; None for users' layers."""
        return self.served.dataset if isinstance(self.served, DataFeed) else None

    def seek(self, position: int) -> None:
        """Go on as if `position` forwards had been made, if this is one of the FCN data layers."""
        if isinstance(self.served, DataFeed):
            self.served.seek(position)

    def mask_draws(self, bottom: Sequence[Blob]) -> int:
        counted = getattr(self.served, "mask_draws", None)
        return counted(bottom) if counted is not None else 0

    def _brings_its_own(self) -> bool:
        """True if a file beside the prototxt is to run in place of the data layer here of that name."""
        if self.folder is None:
            return False
        path = self.folder / f"{self.param.python_param.module}.py"
        if _may_import or not path.is_file():
            return path.is_file()
        warn(
            f"layer '{self.name}' (Python): {path} is passed over, and fcnlite's own"
            f" {self.param.python_param.layer} is used; --allow-python-layers runs the file"
        )
        return False

    def take_every(self, step: int, first: int) -> bool:
        """Serve the images number first, first + step, .. only; false if this is not one of the FCN data layers."""
        if not isinstance(self.served, DataFeed):
            return False
        self.served.take_every(step, first)
        return True

    def _import(self, module: str, name: str) -> type[PythonLayer]:
        self._check_module(module)
        if not _may_import:
            raise self.fail(
                f"it needs {name or 'a class'} of module '{module}', which is code to run: if you trust it, import"
                " the module in your program, call fcnlite.caffe.allow_python_layers(), or give a command"
                " --allow-python-layers"
            )
        loaded = self._load(module)
        found = _class_in(loaded, name)
        if found is None:
            raise self.fail(f"{loaded.__file__ or module} has no class '{name}' derived from caffe.Layer")
        return found

    def _check_module(self, name: str) -> None:
        """Refuse what is not a module's name, `layers.mine`."""
        if not name:
            raise self.fail('python_param names no module; write module: "NAME" for a file NAME.py')
        parts = name.removesuffix(".py").replace("\\", "/").replace("/", ".").strip(".")
        if not all(part.isidentifier() for part in name.split(".")) or name != parts:
            meant = ".".join(part for part in parts.split(".") if part.isidentifier())
            told = f": {meant}" if meant else ""
            raise self.fail(f"module takes a module's name, not a file, and there is '{name}'{told}")

    def _load(self, name: str) -> ModuleType:
        """The module, from the prototxt's folder first."""
        path = self.folder / f"{name}.py" if self.folder is not None and name.isidentifier() else None
        folder = str((self.folder or Path()).resolve())
        if folder not in sys.path:
            sys.path.append(folder)  # for the module's neighbours
        if path is None or not path.is_file():
            try:
                return importlib.import_module(name)
            except ModuleNotFoundError as error:
                if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                    raise
                missing = "" if error.name == name else f", for lack of a package '{error.name}'"
                raise self.fail(f"there is no module '{name}' in {folder} or on sys.path{missing}") from None
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module


def _class_in(module: ModuleType | None, name: str) -> type[PythonLayer] | None:
    found = getattr(module, name, None)
    return found if isinstance(found, type) and issubclass(found, PythonLayer) else None


class DataFeed:
    """A data layer of the original experiments: one image with its labels a forward, in the original order."""

    def __init__(self, layer: Layer, bottom: Sequence[Blob]):
        if bottom:
            raise layer.fail(f"{layer.param.python_param.layer} takes no bottoms")
        self._layer = layer
        self._next: dict[str, np.ndarray] | None = None
        self._share: tuple[int, int] | None = None
        self._open(0)

    @property
    def dataset(self) -> Dataset:
        """Where the images come from."""
        return self._batches.dataset

    def seek(self, position: int) -> None:
        """Go on as if `position` forwards had been made."""
        self._batches.close()
        self._next = None
        self._open(position)

    def take_every(self, step: int, first: int) -> None:
        """Serve the images number first, first + step, .. only, from the beginning; `seek` counts all."""
        self._share = step, first
        self.seek(0)

    def reshape(self, top: Sequence[Blob]) -> None:
        """Take the next image, unless it is at hand, and size the tops for it."""
        if self._next is None:
            self._next = next(self._batches)
        for blob, array in zip(top, self._next.values()):
            blob.reshape(*array.shape)

    def forward(self, top: Sequence[Blob]) -> None:
        assert self._next is not None  # reshape comes first
        for blob, array in zip(top, self._next.values()):
            blob.new_data()[...] = device.current().asarray(array)
        self._next = None

    def _open(self, position: int) -> None:
        layer, given = self._layer, self._layer.param.python_param
        try:
            self._batches = open_data_layer(
                given.layer, given.param_str, list(layer.param.top), layer.folder or Path(), position
            )
            if self._share is not None:
                self._batches.take_every(*self._share)
        except InputError as error:
            raise layer.fail(str(error)) from None
        except FileNotFoundError as error:
            raise FileNotFoundError(f"layer '{layer.name}' ({given.layer}): {error}") from None
