"""The module `caffe.pycaffe` as scripts import it: Net and the solvers."""

from __future__ import annotations

from fcnlite.caffe.net import Net
from fcnlite.caffe.session import Timer
from fcnlite.caffe.solver import (
    NCCL,
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    get_solver,
)

__all__ = [
    "NCCL",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "NesterovSolver",
    "Net",
    "RMSPropSolver",
    "SGDSolver",
    "Timer",
    "get_solver",
]
