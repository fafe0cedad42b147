"""The current device and its cuBLAS handle."""

from __future__ import annotations

import threading
from typing import Any

from cupy import _standin
from cupy.cuda import runtime


class Device:
    def __init__(self, device: Any = None):
        self.id = _standin.current_device() if device is None else int(device)

    def use(self) -> None:
        if self.id >= _standin.gpus():
            raise runtime.CUDARuntimeError(101)
        _standin.use_device(self.id)

    def synchronize(self) -> None:
        _standin.wait("synchronize")

    @property
    def compute_capability(self) -> str:
        return "80"

    @property
    def mem_info(self) -> tuple[int, int]:
        return 8 << 30, 16 << 30


def get_cublas_handle() -> int:
    """Each thread has its own for each device."""
    return (threading.get_ident() << 8) + _standin.current_device() + 1
