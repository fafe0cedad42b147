"""Devices, streams and events, of which there is little to do here."""

from __future__ import annotations

import importlib
import time
from typing import Any

from cupy import _standin
from cupy.cuda import compiler, device, memory, runtime
from cupy.cuda.device import Device
from cupy.cuda.memory import MemoryPointer

__all__ = [
    "Device",
    "Event",
    "MemoryPointer",
    "Stream",
    "compiler",
    "device",
    "get_current_stream",
    "get_elapsed_time",
    "is_available",
    "memory",
    "runtime",
]


class Stream:
    """The default stream, or one beside it: for copies to the host, and for what goes to other GPUs."""

    def __init__(
        self, null: bool = False, non_blocking: bool = False, ptds: bool = False, priority: Any = None
    ):
        self.aside = non_blocking  # any other waits for the default stream, and that for it
        self.ptr = id(self) if non_blocking else 0

    def synchronize(self) -> None:
        _standin.wait("synchronize")

    def wait_event(self, event: Event) -> None:
        if self.aside:
            _standin.waited[self.ptr] = max(_standin.waited.get(self.ptr, 0), event._before)


_stream = Stream()


def get_current_stream(device_id: int = -1) -> Stream:
    return _stream


def __getattr__(name: str) -> Any:
    """NCCL, for those who ask for it: it needs MPI here."""
    if name == "nccl":
        return importlib.import_module("cupy.cuda.nccl")
    raise AttributeError(name)


def is_available() -> bool:
    return _standin.gpus() > 0


class Event:
    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False):
        self._time, self._timed, self._before = 0.0, not disable_timing, 0

    def record(self, stream: Any = None) -> None:
        self._time, self._before = time.perf_counter(), _standin.asked

    def synchronize(self) -> None:
        _standin.wait("synchronize", self._before)


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    if not (start_event._timed and end_event._timed):
        raise runtime.CUDARuntimeError(400)
    return (end_event._time - start_event._time) * 1000
