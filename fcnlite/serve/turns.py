"""One computation at a time: requests wait in a queue of bounded length, for a bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class Busy(Exception):
    """The queue is full, or a request waited too long."""


class Turns:
    """A queue in front of one worker thread.

    A computation that has begun cannot be interrupted: one that takes too long is answered as such, and those behind
    it wait for its end.

    Parameters
    ----------
    waiting : int
        Most requests in the queue, the one at work not counted.
    seconds : float
        Longest time for a request, waiting included.
    """

    def __init__(self, waiting: int, seconds: float):
        self._most, self._seconds = waiting + 1, seconds
        self._inside = 0
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="fcnlite-serve")

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """The function's result, when its turn comes.

        Raises
        ------
        Busy
        """
        if self._inside >= self._most:
            raise Busy("too many pictures are waiting; try again in a moment")
        self._inside += 1
        future = self._worker.submit(function, *arguments)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._leave))
        loop = asyncio.get_running_loop()
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._seconds)
        except (asyncio.TimeoutError, TimeoutError):
            raise Busy(
                f"no answer within {self._seconds:g} s; try a smaller picture, or again later"
            ) from None

    def _leave(self) -> None:
        self._inside -= 1

    def close(self) -> None:
        """Forget what waits; the computation at work ends by itself."""
        self._worker.shutdown(wait=False, cancel_futures=True)
