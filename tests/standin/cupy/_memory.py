"""Device memory, which here is the host's: every allocation known, aligned and guarded, and never zero by chance."""

from __future__ import annotations

import bisect
import sys
import weakref

import numpy as np

from cupy import _standin

_ALIGNMENT = _GUARD = 512
_MARK = 0xA5
_live: dict[int, weakref.ref[Memory]] = {}  # by address
_addresses: list[int] = []


class OutOfMemoryError(MemoryError):
    """Real CuPy's error of this name."""


class Memory:
    """One allocation. Its content is NaN throughout: undefined, and noticed if anybody reads it."""

    def __init__(self, size: int):
        rounded = -(-size // _ALIGNMENT) * _ALIGNMENT
        self._whole = np.full(rounded + 2 * _GUARD + _ALIGNMENT, 0xFF, np.uint8)
        start = -self._whole.ctypes.data % _ALIGNMENT + _GUARD
        self._guards = (
            self._whole[start - _GUARD : start],
            self._whole[start + size : start + rounded + _GUARD],
        )
        for guard in self._guards:
            guard[...] = _MARK
        self.bytes = self._whole[start : start + size]
        self.written = _standin.ask()
        self.ptr, self.size, self.device_id = self._whole.ctypes.data + start, size, _standin.current_device()
        _live[self.ptr] = weakref.ref(self)
        bisect.insort(_addresses, self.ptr)

    def check(self) -> None:
        """Note a write beyond the ends."""
        if any((guard != _MARK).any() for guard in self._guards):
            _standin.overruns.append(f"an allocation of {self.size} bytes was written to beyond its ends")

    def __del__(self) -> None:
        if sys is None or sys.is_finalizing():
            return
        self.check()
        _live.pop(self.ptr, None)
        place = bisect.bisect_left(_addresses, self.ptr)
        if place < len(_addresses) and _addresses[place] == self.ptr:
            del _addresses[place]


class MemoryPointer:
    """A place in an allocation."""

    def __init__(self, mem: Memory, offset: int):
        self.mem, self.ptr, self.device_id = mem, mem.ptr + offset, mem.device_id


def holder(address: int, size: int) -> Memory | None:
    """The allocation in which [address, address + size) lies as a whole."""
    place = bisect.bisect_right(_addresses, address) - 1
    memory = _live[_addresses[place]]() if place >= 0 else None
    return memory if memory is not None and address + size <= memory.ptr + memory.size else None


def on_device(address: int) -> bool:
    """Whether an address is in any allocation."""
    return holder(address, 1) is not None


def check_all() -> list[str]:
    """Writes beyond the ends of any allocation, alive or freed, since the last call."""
    for reference in list(_live.values()):
        memory = reference()
        if memory is not None:
            memory.check()
    found = list(_standin.overruns)
    _standin.overruns.clear()
    return found


class MemoryPool:
    """Counts, and frees at once."""

    def used_bytes(self) -> int:
        return sum(memory.size for r in list(_live.values()) if (memory := r()) is not None)

    def total_bytes(self) -> int:
        return self.used_bytes()

    def free_all_blocks(self, stream: object = None) -> None:
        pass


class PinnedMemoryPool:
    """Nothing is pinned here."""

    def free_all_blocks(self) -> None:
        pass


_pool, _pinned_pool = MemoryPool(), PinnedMemoryPool()


def get_default_memory_pool() -> MemoryPool:
    return _pool


def get_default_pinned_memory_pool() -> PinnedMemoryPool:
    return _pinned_pool
