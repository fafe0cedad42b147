"""NCCL between processes that MPI connects: the same calls, on memory that is the host's."""

from __future__ import annotations

from typing import Any

import numpy as np

from cupy import _memory, _standin

__all__ = ["NCCL_FLOAT32", "NCCL_FLOAT64", "NCCL_SUM", "NcclCommunicator", "available", "get_unique_id"]

available = True
NCCL_SUM = 0
NCCL_FLOAT32, NCCL_FLOAT64 = 7, 8
_DTYPES = {NCCL_FLOAT32: np.float32, NCCL_FLOAT64: np.float64}


def get_unique_id() -> tuple[int, ...]:
    return tuple(np.random.default_rng().integers(-128, 128, 128).tolist())


class NcclCommunicator:
    """Every process makes one, with the same identifier, and then the same calls."""

    def __init__(self, ndev: int, commId: tuple[int, ...], rank: int, config: Any = None):  # noqa: N803
        from mpi4py import MPI

        self._comm = MPI.COMM_WORLD.Dup()
        if (ndev, rank) != (self._comm.size, self._comm.rank):
            raise _standin.Refused(f"rank {rank} of {ndev} in process {self._comm.rank} of {self._comm.size}")
        if len(set(self._comm.allgather(commId))) != 1:
            raise _standin.Refused("the processes have different identifiers: real NCCL would wait for ever")
        if len(set(self._comm.allgather(_standin.current_device()))) != ndev:
            raise _standin.Refused("two processes on one GPU: real NCCL refuses that")

    def allReduce(  # noqa: N802
        self, sendbuf: int, recvbuf: int, count: int, datatype: int, op: int, stream: int
    ) -> None:
        if op != NCCL_SUM:
            raise _standin.Refused(f"operation {op}")
        source, target = _at(sendbuf, count, datatype, stream), _at(recvbuf, count, datatype, stream)
        self._comm.Allreduce(source.copy(), target)
        _written(recvbuf)

    def send(self, sendbuf: int, count: int, datatype: int, peer: int, stream: int) -> None:
        self._comm.Ssend(_at(sendbuf, count, datatype, stream), peer)  # real NCCL's buffers are small, too

    def recv(self, recvbuf: int, count: int, datatype: int, peer: int, stream: int) -> None:
        self._comm.Recv(_at(recvbuf, count, datatype, stream), peer)
        _written(recvbuf)

    def bcast(self, buff: int, count: int, datatype: int, root: int, stream: int) -> None:
        self._comm.Bcast(_at(buff, count, datatype, stream), root)
        if root != self._comm.rank:
            _written(buff)


def _at(address: int, count: int, datatype: int, stream: int) -> np.ndarray:
    """The memory at an address, for work on a stream that has waited for what was written there."""
    dtype = np.dtype(_DTYPES[datatype])
    memory = _memory.holder(address, count * dtype.itemsize)
    if memory is None:
        raise _standin.Refused(f"{count} numbers at {address} are in no allocation")
    if memory.device_id != _standin.current_device():
        raise _standin.Refused(f"memory of GPU {memory.device_id} on a communicator of another GPU")
    if memory.written > _standin.waited.get(stream, 0):
        raise _standin.Refused("the stream does not wait for the work that writes this memory")
    start = address - memory.ptr
    return memory.bytes[start : start + count * dtype.itemsize].view(dtype)


def _written(address: int) -> None:
    memory = _memory.holder(address, 1)
    assert memory is not None
    memory.written = _standin.ask()
