"""The settings of a Caffe process: mode and device, logging, and what there is of it."""

from __future__ import annotations

import logging
import os
import sys
import time

import numpy as np

from fcnlite import device
from fcnlite.errors import InputError
from fcnlite.hostblob import push
from fcnlite.layers import LAYERS
from fcnlite.parallel import world

_LEVELS = (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)  # glog's 0 to 3
_LOG = logging.getLogger("fcnlite")
_gpu, _mode_gpu = 0, False


def choose_mode() -> None:
    """Make nets on the CPU, as pycaffe does, if nobody has chosen a device."""
    if not device.chosen():
        set_mode_cpu()


def set_mode_cpu() -> None:
    """Make nets from now on on the CPU. Nets stay where they were made."""
    global _mode_gpu
    _mode_gpu = False
    _use("cpu")


def set_mode_gpu() -> None:
    """Make nets from now on on the GPU; where there is none, on the CPU, with one line on stderr saying so."""
    global _mode_gpu
    _mode_gpu = True
    try:
        _use(f"cuda:{_gpu}")
    except InputError as error:
        print(f"fcnlite: set_mode_gpu: {error}, as is done now", file=sys.stderr)
        _use("cpu")


def _use(name: str) -> None:
    """Make a device the current one, unless it is."""
    push()
    backend = device.current() if device.chosen() else None
    if backend is None or backend.name != name or backend.dtype != np.float32:
        device.use(name)


def set_device(index: int) -> None:
    """Choose which GPU `set_mode_gpu` means, before or after it."""
    global _gpu
    _gpu = int(index)
    if _mode_gpu:
        set_mode_gpu()


def layer_type_list() -> list[str]:
    """The layer types that nets may have."""
    return sorted(LAYERS)


def init_log(level: int = 0, to_stderr: bool = True) -> None:
    """Write messages of `level` (0 info, 1 warning, 2 error) and above to stderr.

    Importing fcnlite.caffe does this with `GLOG_minloglevel`, as Caffe does, unless the program has configured
    logging itself.
    """
    for handler in [h for h in _LOG.handlers if getattr(h, "from_caffe", False)]:
        _LOG.removeHandler(handler)
    _LOG.setLevel(_LEVELS[min(max(int(level), 0), 3)])
    if to_stderr:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%m%d %H:%M:%S"))
        handler.from_caffe = True  # type: ignore[attr-defined]
        _LOG.addHandler(handler)


def log(message: str) -> None:
    """Log a line of one's own."""
    _LOG.info(message)


def has_nccl() -> bool:
    """True if solvers train together, as the processes that mpiexec starts do: by NCCL on GPUs, else by MPI."""
    return world().size > 1


def solver_count() -> int:
    """The number of solvers that train together: of processes that mpiexec started."""
    return world().size


def solver_rank() -> int:
    """Return the number of this solver."""
    return world().rank


def set_solver_count(count: int) -> None:
    """Accepts the number of processes."""
    if count != world().size:
        raise InputError(
            f"{count} solvers cannot train together in {world().size} processes: start the script by "
            f"mpiexec -n {count} fcnlite caffe SCRIPT"
        )


def set_solver_rank(rank: int) -> None:
    """Accepts this process's number."""
    if rank != world().rank:
        raise InputError(f"this is solver number {world().rank} of {world().size}, not {rank}")


def set_multiprocess(multiprocess: bool) -> None:
    """Accepts both, since mpiexec decides."""


if not logging.getLogger().handlers and not _LOG.handlers:
    level = os.environ.get("GLOG_minloglevel", "0")
    init_log(int(level) if level.isdecimal() else 0)


class Timer:
    """A stop watch: start(), stop(), ms."""

    def __init__(self) -> None:
        self.ms = 0.0
        self._started = 0.0

    def start(self) -> None:
        self._started = time.perf_counter()

    def stop(self) -> None:
        device.current().synchronize()
        self.ms = 1000 * (time.perf_counter() - self._started)
