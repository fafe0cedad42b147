"""The current device: where arrays live and kernels run. Everything above goes through `current`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from fcnlite.backend import Backend
from fcnlite.errors import InputError

CHOICES = ("auto", "cpu", "cuda")
_current: Backend | None = None  # the process's
_block: ContextVar[Backend | None] = ContextVar(
    "device of a block", default=None
)  # of a `using` block, for its thread alone


def current() -> Backend:
    """The device in use; the first call chooses it from `FCNLITE_DEVICE` (`auto` when unset)."""
    backend = _block.get() or _current or use(os.environ.get("FCNLITE_DEVICE", "auto"))
    backend.select()
    return backend


def use(
    name: str = "auto",
    dtype: Any = np.float32,
    threads: int | None = None,
    first_gpu: int = 0,
    fast: bool = False,
) -> Backend:
    """Choose the device of everything made from now on.

    Parameters
    ----------
    name : str
        `cpu`, `cuda`, `cuda:N` (the N-th GPU), or `auto`: the GPU when CuPy imports and a device answers,
        else the CPU.
    dtype : numpy dtype
        float32, as Caffe computes, or float64, for gradient checks.
    threads : int, optional
        Worker threads on the CPU (default `FCNLITE_THREADS`, else the cores this process may use). Results do not
        depend on it.
    first_gpu : int
        The GPU that `cuda` and `auto` mean: each of several processes on a machine takes another one.
    fast : bool
        Convolve 3 x 3 kernels by Winograd's algorithm: about half the work, for scores that are off by up to 1e-5 of
        the largest instead of 1e-6.

    Raises
    ------
    InputError
        If the name is unknown, or `cuda` is asked for and no GPU can be used.
    """
    global _current
    kind, _, index = name.partition(":")
    if kind not in CHOICES or (index and not (kind == "cuda" and index.isdigit())):
        raise InputError(f"device '{name}' is unknown; choose auto, cpu, cuda or cuda:N")
    if kind == "cpu" or (kind == "auto" and not _gpu_answers()):
        from fcnlite.backend.host import HostBackend

        made: Backend = HostBackend(np.dtype(dtype), threads)
    else:
        from fcnlite.backend.cuda import CudaBackend

        made = CudaBackend(np.dtype(dtype), int(index or first_gpu))
    made.fast = fast
    if _block.get() is not None:
        _block.set(made)
    else:
        _current = made
    return made


def chosen() -> bool:
    """Tell whether a device is in use or asked for by `FCNLITE_DEVICE`."""
    return _block.get() is not None or _current is not None or "FCNLITE_DEVICE" in os.environ


@contextmanager
def using(backend: Any) -> Iterator[None]:
    """Make `backend` (what `current` gave earlier) the current device for the length of a block, in this thread."""
    before = _block.set(backend)
    try:
        yield
    finally:
        _block.reset(before)


def _gpu_answers() -> bool:
    """Tell whether CuPy is installed and finds a GPU; a CuPy that finds none is reported in a line."""
    from fcnlite.backend import cuda

    problem = cuda.problem()
    if problem and cuda.installed():
        print(f"fcnlite: CuPy is installed but {problem}; using the CPU", file=sys.stderr)
    return problem is None
