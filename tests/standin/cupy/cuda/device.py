"""The current device and its cuBLAS handle."""

from __future__ import annotations

from typing import Any

from cupy import _standin
from cupy.cuda import runtime

_current = 0


class Device:
    def __init__(self, device: Any = None):
        self.id = _current if device is None else int(device)

    def use(self) -> None:
        global _current
        if self.id >= _standin.gpus():
            raise runtime.CUDARuntimeError(101)
        _current = self.id

    def synchronize(self) -> None:
        _standin.waits["synchronize"] += 1

    @property
    def compute_capability(self) -> str:
        return "80"

    @property
    def mem_info(self) -> tuple[int, int]:
        return 8 << 30, 16 << 30


def get_cublas_handle() -> int:
    return 0xB1A5 + _current
