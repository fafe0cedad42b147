"""Bounds on what visitors may ask of the machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of a server.

    Attributes
    ----------
    upload : int
        Most bytes of a picture's file.
    pixels : int
        Most pixels of a picture; the memory that a net takes grows with them.
    waiting : int
        Most requests that wait for their turn; only one computation runs at a time.
    seconds : float
        Longest time for a request, waiting included.
    reading : float
        Longest time for a picture to arrive, in seconds.
    """

    upload: int = 20_000_000
    pixels: int = 1_000_000
    waiting: int = 16
    seconds: float = 60.0
    reading: float = 20.0
