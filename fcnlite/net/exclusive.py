"""One thread at a time: the lock of an object that a pass writes to."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast
from weakref import WeakSet

from fcnlite.errors import InputError

Method = TypeVar("Method", bound=Callable[..., Any])
_made: WeakSet[Exclusive] = WeakSet()


class Exclusive:
    """Base of what serves one thread at a time.

    Attributes
    ----------
    name : str
        Its name in errors.
    """

    name: str
    _lock: threading.RLock

    def __new__(cls, *_: Any, **__: Any) -> Any:
        made = super().__new__(cls)
        made._lock = threading.RLock()
        _made.add(made)
        return made

    @contextmanager
    def exclusive(self, wait: bool = True) -> Iterator[None]:
        """Keep the net for this thread as long as the block lasts.

        Parameters
        ----------
        wait : bool
            Wait while another thread has it.

        Raises
        ------
        InputError
            Another thread has it, and `wait` is false.
        """
        if not self._lock.acquire(blocking=wait):
            raise InputError(
                f"net '{self.name}' is running in another thread; give each thread a net of its own"
                " (share_with lets them share weights)"
            )
        try:
            yield
        finally:
            self._lock.release()


def alone(method: Method) -> Method:
    """The method as one that refuses to run while another thread has the object."""

    @functools.wraps(method)
    def guarded(self: Exclusive, *args: Any, **kwargs: Any) -> Any:
        with self.exclusive(wait=False):
            return method(self, *args, **kwargs)

    return cast(Method, guarded)


def _free_locks() -> None:
    """Give every lock anew in a forked process: the thread that held it is not there."""
    for made in _made:
        made._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_locks)
