"""A drop-in for pycaffe: scripts written for Caffe's Python interface run on fcnlite.

Either `import fcnlite.caffe as caffe`, or, for scripts and modules that say `import caffe` themselves, call
`fcnlite.caffe.install()` first, or run them with `python -m fcnlite.caffe SCRIPT ARGUMENTS`.
"""

from __future__ import annotations

import importlib
import sys

from fcnlite.caffe import coord_map, io, net_spec, proto
from fcnlite.caffe.classifier import Classifier
from fcnlite.caffe.detector import Detector
from fcnlite.caffe.net_spec import NetSpec, layers, params, to_proto
from fcnlite.caffe.pycaffe import (
    NCCL,
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    Net,
    RMSPropSolver,
    SGDSolver,
    Timer,
    get_solver,
)
from fcnlite.caffe.session import (
    has_nccl,
    init_log,
    layer_type_list,
    log,
    set_device,
    set_mode_cpu,
    set_mode_gpu,
    set_multiprocess,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from fcnlite.layers.python import PythonLayer as Layer
from fcnlite.layers.python import allow_python_layers
from fcnlite.proto import TEST, TRAIN
from fcnlite.random import set_random_seed

__all__ = [
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Classifier",
    "Detector",
    "Layer",
    "NCCL",
    "NesterovSolver",
    "Net",
    "NetSpec",
    "RMSPropSolver",
    "SGDSolver",
    "Timer",
    "allow_python_layers",
    "coord_map",
    "get_solver",
    "has_nccl",
    "init_log",
    "install",
    "io",
    "layer_type_list",
    "layers",
    "log",
    "net_spec",
    "params",
    "proto",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
    "to_proto",
]

__version__ = "1.0.0"  # the Caffe whose interface this is
_SUBMODULES = (
    "classifier",
    "coord_map",
    "detector",
    "draw",
    "io",
    "net_spec",
    "proto",
    "proto.caffe_pb2",
    "pycaffe",
)


def install() -> None:
    """Let `import caffe`, `from caffe import layers as L`, `import caffe.io` mean this package from now on.

    Raises
    ------
    RuntimeError
        If another `caffe` has been imported already.
    """
    present = sys.modules.get("caffe")
    if present is not None and present is not sys.modules[__name__]:
        raise RuntimeError(f"another caffe is imported already ({getattr(present, '__file__', present)})")
    sys.modules["caffe"] = sys.modules[__name__]
    for name in _SUBMODULES:
        sys.modules[f"caffe.{name}"] = importlib.import_module(f"{__name__}.{name}")
