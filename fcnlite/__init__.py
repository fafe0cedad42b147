"""Fully convolutional networks for semantic segmentation, with Caffe's numbers.

>>> import fcnlite
>>> net = fcnlite.net.load("fcn8s.h5")                       # doctest: +SKIP
>>> labels = net.predict("photo.jpg")                        # doctest: +SKIP

Modules load when they are first named, so that importing fcnlite costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fcnlite.backend.source import register_kernels
    from fcnlite.blob import no_tape
    from fcnlite.device import use
    from fcnlite.errors import InputError
    from fcnlite.layers import Blob, Layer, build, parameters, register
    from fcnlite.net import Net, load
    from fcnlite.random import set_random_seed
    from fcnlite.solver import SGDSolver, get_solver
    from fcnlite.updates import SGD, AdaDelta, AdaGrad, Adam, Nesterov, RMSProp

__version__ = "0.1.0"

# Where each public name lives.
_HOMES = {
    "AdaDelta": "updates",
    "AdaGrad": "updates",
    "Adam": "updates",
    "Blob": "layers",
    "InputError": "errors",
    "Layer": "layers",
    "Nesterov": "updates",
    "Net": "net",
    "RMSProp": "updates",
    "SGD": "updates",
    "SGDSolver": "solver",
    "build": "layers",
    "get_solver": "solver",
    "load": "net",
    "no_tape": "blob",
    "parameters": "layers",
    "register": "layers",
    "register_kernels": "backend.source",
    "set_random_seed": "random",
    "use": "device",
}
__all__ = [
    "AdaDelta",
    "AdaGrad",
    "Adam",
    "Blob",
    "InputError",
    "Layer",
    "Nesterov",
    "Net",
    "RMSProp",
    "SGD",
    "SGDSolver",
    "__version__",
    "build",
    "get_solver",
    "load",
    "no_tape",
    "parameters",
    "register",
    "register_kernels",
    "set_random_seed",
    "use",
]


def __getattr__(name: str) -> Any:
    """Fetch a name from the module it lives in, or a module, on first use."""
    if name in _HOMES:
        value = getattr(importlib.import_module(f"fcnlite.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    module = f"fcnlite.{name}"
    if not name.startswith("_"):
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
    raise AttributeError(f"module 'fcnlite' has no attribute '{name}'")


def __dir__() -> list[str]:
    from pkgutil import iter_modules

    modules = [module.name for module in iter_modules(__path__) if not module.name.startswith("_")]
    return sorted({*globals(), *_HOMES, *modules})
