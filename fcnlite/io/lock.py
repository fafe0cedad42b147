"""One owner of a folder at a time: a lock that the system takes back when its process ends, however it ends."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import IO

from fcnlite.errors import InputError
from fcnlite.io.atomic import PART

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
_taken: ContextVar[list[Lock] | None] = ContextVar("locks taken in the block of owning()", default=None)


class Lock:
    """An exclusive lock, held until `release`, the end of an `owning` block or of the process.

    Parameters
    ----------
    path : path
        The lock's file, which is made and removed again. It holds the number of the owner's process.
    owned : str
        The thing locked, as a refusal names it.

    Raises
    ------
    InputError
        Another process has it (or another thread of this one), or the file cannot be written.
    """

    def __init__(self, path: Path, owned: str) -> None:
        self.path = path
        self._file: IO[str] | None = None
        while self._file is None:
            self._file = self._try(owned)
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()
        taken = _taken.get()
        if taken is not None:
            taken.append(self)

    def _try(self, owned: str) -> IO[str] | None:
        """Lock the file; None if its last owner has just removed it."""
        try:
            file = open(self.path, "a+", encoding="utf-8", errors="replace")
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror})") from error
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                file.seek(0)
                holder = file.read(20).strip()
                file.close()
                who = f"process {holder}" if holder.isdecimal() else "another process"
                raise InputError(f"{owned} is in use by {who}: wait for its end, or stop it") from None
            return file  # a disk that knows no locks
        with suppress(OSError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(self.path)):
                return file
        file.close()
        return None

    def release(self) -> None:
        """Give the lock back and remove its file."""
        if self._file is not None:
            with suppress(OSError):
                self.path.unlink()
            self._file.close()
            self._file = None


@contextmanager
def owning() -> Iterator[None]:
    """Release at the end of the block every lock taken in it."""
    taken: list[Lock] = []
    before = _taken.set(taken)
    try:
        yield
    finally:
        _taken.reset(before)
        for lock in reversed(taken):
            lock.release()


def is_debris(path: Path) -> bool:
    """True for a file that a killed process may leave: its lock, or the part of a file that it was writing."""
    return path.name == LOCK or (path.name.startswith(".") and path.name.endswith(PART))


def clear_parts(folder: Path) -> None:
    """Remove the parts of files that killed processes left in a folder, which this process owns."""
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name != LOCK and is_debris(path):
                with suppress(OSError):
                    path.unlink()
