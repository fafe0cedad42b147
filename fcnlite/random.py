"""Caffe's random numbers: one seeded Mersenne twister, drawn from in the order in which layers need it.

Dropout masks are bit for bit those of Caffe's CPU code. Fillers draw from a stream of their own (Caffe's normal and
uniform distributions depend on the boost version it was built with), so they never shift the masks.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np


def twister(seed: int) -> np.random.MT19937:
    """A stream of its own, seeded as boost::mt19937 seeds."""
    made = np.random.MT19937()
    # RandomState seeds as boost does; its state is what the raw generator goes on from.
    state: Any = np.random.RandomState(seed & 0xFFFFFFFF).get_state(legacy=False)
    made.state = state
    return made


class _Streams(threading.local):
    """A thread's two streams, seeded from the process's until the thread seeds them itself."""

    process_seed = int(np.random.SeedSequence().generate_state(1)[0])
    threads = itertools.count()

    def __init__(self) -> None:
        own = np.random.SeedSequence(self.process_seed, spawn_key=(next(self.threads),))
        self.start(int(own.generate_state(1)[0]))

    def start(self, seed: int) -> None:
        """Start both streams anew."""
        self.masks: Any = twister(seed)
        self.drawn = 0  # numbers taken from the stream of masks
        self.fillers = np.random.default_rng(seed & 0xFFFFFFFF)


_streams = _Streams()


def set_random_seed(seed: int) -> None:
    """Start both streams anew, as `caffe.set_random_seed` and a solver's `random_seed` do.

    Each thread has streams of its own, as in Caffe, so that trainings side by side do not draw from each other's. A
    seed set in the main thread also decides what threads draw that set none: each of them something else.
    """
    if threading.current_thread() is threading.main_thread():
        _Streams.process_seed, _Streams.threads = seed & 0xFFFFFFFF, itertools.count()
    _streams.start(seed)


def bernoulli(count: int, probability: float) -> np.ndarray:
    """Draw `count` bits as boost::bernoulli_distribution<float> does.

    Returns
    -------
    numpy.ndarray
        (count,) uint8, 1 with the given probability: one 32-bit draw each, in order.
    """
    draws = np.random.Generator(_streams.masks).integers(0, 2**32, count, np.uint32)
    _streams.drawn += count
    return (draws <= _largest_draw(probability)).view(np.uint8)


@cache
def _largest_draw(probability: float) -> np.uint32:
    """The largest draw that, rounded to a float as boost does, is at most probability * (2^32 - 1)."""
    limit = np.float32(probability) * np.float32(4294967295)
    low, high = 0, 2**32 - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.float32(middle) <= limit else (low, middle - 1)
    return np.uint32(low)


def uniform_int(twister: Any, most: int) -> int:
    """Draw a whole number from 0 to `most` as boost::uniform_int does: in equal shares of 2^32, without the rest."""
    share = 2**32 // (most + 1)
    while (drawn := int(twister.random_raw()) // share) > most:
        pass
    return drawn


def draw() -> int:
    """Draw 32 bits from the stream of masks, as layers do that seed a stream of their own."""
    _streams.drawn += 1
    return int(_streams.masks.random_raw())


def skip_masks(count: int) -> None:
    """Pass over numbers of the stream of masks, as if they had been drawn."""
    _streams.masks.random_raw(count, output=False)


def masks_drawn() -> int:
    """Count of numbers that this thread has drawn from the stream of masks since it was seeded."""
    return _streams.drawn


@contextmanager
def left_alone() -> Iterator[None]:
    """Afterwards, both streams go on as if nothing had been drawn meanwhile."""
    masks, drawn, fillers = _streams.masks.state, _streams.drawn, _streams.fillers.bit_generator.state
    try:
        yield
    finally:
        _streams.masks.state, _streams.fillers.bit_generator.state = masks, fillers
        _streams.drawn = drawn


def filler_stream() -> np.random.Generator:
    """The stream that weight fillers draw from."""
    return _streams.fillers


def mask_state() -> np.ndarray:
    """The state of the stream of masks: (625,) uint32, the twister's 624 words and its position."""
    state = _streams.masks.state
    return np.append(state["state"]["key"], state["state"]["pos"]).astype(np.uint32)


def set_mask_state(state: np.ndarray) -> None:
    """Go on from a state that `mask_state` gave."""
    inner = {"key": np.asarray(state[:624], np.uint32), "pos": int(state[624])}
    _streams.masks.state = {"bit_generator": "MT19937", "state": inner}
