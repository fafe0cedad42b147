"""Devices, streams and events, of which there is little to do here."""

from __future__ import annotations

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
    def synchronize(self) -> None:
        _standin.waits["synchronize"] += 1


_stream = Stream()


def get_current_stream(device_id: int = -1) -> Stream:
    return _stream


def is_available() -> bool:
    return _standin.gpus() > 0


class Event:
    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False):
        self._time = 0.0

    def record(self, stream: Any = None) -> None:
        self._time = time.perf_counter()

    def synchronize(self) -> None:
        _standin.waits["synchronize"] += 1


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    return (end_event._time - start_event._time) * 1000
