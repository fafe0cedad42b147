"""The order of images in the original data layers, reproduced draw by draw.

A run here sees the images that the same run under Caffe saw, and a resumed one goes on where it stopped.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from fcnlite.errors import InputError

SEED = 1337


class ImageOrder(Iterator[int]):
    """Endless sequence of image indices: seeded random draws, or file order wrapping around.

    The original layers ran under Python 2, where `random.randint(0, n - 1)` is `int(random.random() * n)`;
    Python 3 draws otherwise from the same generator. One draw is made at setup, one after each forward, so
    forward number t shows draw number t. The state is therefore one number, `position`.

    Parameters
    ----------
    count : int
        Number of images.
    randomize : bool
        Draw at random; else count up and wrap around.
    seed : int, optional
        Seed of the draws; 1337, the value of all published experiments, if None.
    position : int
        Start as if this many indices had been taken.
    """

    def __init__(self, count: int, randomize: bool, seed: int | None = SEED, position: int = 0) -> None:
        if count < 1:
            raise InputError("cannot order the images of an empty data set")
        self.count = count
        self.randomize = randomize
        self.seed = SEED if seed is None else seed
        self._random = random.Random()
        self.seek(position)

    @classmethod
    def of_split(
        cls, count: int, split: str, randomize: bool = True, seed: int | None = SEED, position: int = 0
    ) -> ImageOrder:
        """The order of a named split: only one with "train" in its name is ever randomised."""
        return cls(count, randomize and "train" in split, seed, position)

    def seek(self, position: int) -> None:
        """Continue as if `position` indices had been taken since setup."""
        if position < 0:
            raise ValueError(f"position {position} is negative")
        self._random.seed(self.seed)
        self.position = position
        if self.randomize:
            for _ in range(position):
                self._random.random()

    def __next__(self) -> int:
        index = int(self._random.random() * self.count) if self.randomize else self.position % self.count
        self.position += 1
        return index
