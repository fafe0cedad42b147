"""Memory by its public names."""

from cupy._memory import Memory, MemoryPointer, MemoryPool, OutOfMemoryError

__all__ = ["Memory", "MemoryPointer", "MemoryPool", "OutOfMemoryError"]
