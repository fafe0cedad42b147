"""The CUDA runtime's calls that fcnlite makes."""

from __future__ import annotations

from cupy import _standin

_MESSAGES = {
    35: "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version",
    101: "cudaErrorInvalidDevice: invalid device ordinal",
    400: "cudaErrorInvalidResourceHandle: invalid resource handle",
}


class CUDARuntimeError(RuntimeError):
    def __init__(self, status: int):
        self.status = status
        super().__init__(_MESSAGES[status])


def getDeviceCount() -> int:  # noqa: N802
    if _standin.gpus() == 0:
        raise CUDARuntimeError(35)
    return _standin.gpus()


def getDeviceProperties(device: int) -> dict[str, object]:  # noqa: N802
    if device >= _standin.gpus():
        raise CUDARuntimeError(101)
    return {"name": b"stand-in", "multiProcessorCount": 1, "totalGlobalMem": 16 << 30}


def runtimeGetVersion() -> int:  # noqa: N802
    return 12090


def driverGetVersion() -> int:  # noqa: N802
    return 12090
