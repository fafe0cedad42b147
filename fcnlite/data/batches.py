"""Batches that feed a net: the samples of a data set in their order, as blobs.

The next ones are prepared in a background thread while the net computes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

import numpy as np

from fcnlite.data.augment import Augmentation
from fcnlite.data.dataset import Dataset
from fcnlite.data.files import picture_size
from fcnlite.data.order import SEED, ImageOrder
from fcnlite.errors import InputError

T = TypeVar("T")


class Prefetch(Iterator[T], Generic[T]):
    """Iterates over `items` from a background thread, at most `depth` ahead of the reader, in order.

    An exception raised while making an item reaches the reader in that item's place and ends the iteration. The
    thread ends with the items, with `close()`, at the end of a `with` block, or when the object is collected.
    """

    def __init__(self, items: Iterable[T], depth: int = 2) -> None:
        if depth < 1:
            raise ValueError(f"depth must be at least 1, not {depth}")
        self._items = iter(items)
        self._pool = ThreadPoolExecutor(1, "prefetch")
        self._ahead = deque(self._pool.submit(next, self._items) for _ in range(depth))

    def __next__(self) -> T:
        if not self._ahead:
            raise StopIteration
        try:
            item = self._ahead.popleft().result()
        except BaseException:  # StopIteration at the end of the items
            self.close()
            raise
        self._ahead.append(self._pool.submit(next, self._items))
        return item

    def close(self) -> None:
        """Stop the thread and wait for it; afterwards the iterator is at its end. May be called twice."""
        self._ahead.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Prefetch[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Batches(Iterator[dict[str, np.ndarray]]):
    """Blobs of one image after another, as the original data layers feed them.

    Parameters
    ----------
    dataset : Dataset
        Where the images come from.
    randomize : bool
        Draw at random where the split has "train" in its name; other splits always go in file order.
    seed : int, optional
        Of the draws, and of mirroring and jitter; 1337 if None.
    position : int
        Start as if this many batches had been taken: resuming at iteration N of a run with iter_size k
        means N * k.
    count : int, optional
        End after this many batches; endless if None.
    mirror, jitter, zoom, recolor, keep
        Random changes of each image, as `fcnlite.data.augment.Augmentation` has them.
    depth : int
        How many batches may be prepared ahead.
    names : sequence of str, optional
        What to call the blobs instead, in the data set's order: the tops of a net's data layer.

    Attributes
    ----------
    position : int
        Batches taken by the reader since the beginning of the run: all that is needed to resume.

    Notes
    -----
    Yields {blob name: (1, C, H, W) float32}: "data" and "label" for most data sets. The changes draw from generators
    of their own, seeded by the run's seed and the position, so that they change neither the order nor what a resumed
    run sees.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        randomize: bool = True,
        seed: int | None = SEED,
        position: int = 0,
        count: int | None = None,
        mirror: bool = False,
        jitter: int = 0,
        zoom: float = 1.0,
        recolor: float = 0.0,
        keep: float = 1.0,
        depth: int = 2,
        names: Sequence[str] | None = None,
    ) -> None:
        change = Augmentation(mirror, jitter, zoom, recolor, keep)
        self.dataset = dataset
        self.position = position
        self._names = None if names is None else list(names)
        self._step, self._depth = 1, depth

        def make(step: int, first: int) -> Iterator[dict[str, np.ndarray]]:
            order = ImageOrder.of_split(len(dataset), dataset.split, randomize, seed, position)
            return _make(dataset, order, count, change, step, first)

        self._make = make
        self._zoom = zoom
        self._ahead = ImageOrder.of_split(len(dataset), dataset.split, randomize, seed, position)
        self._sizes: dict[int, tuple[int, int]] = {}  # height and width, by index
        self._made = Prefetch(make(1, 0), depth)

    def __next__(self) -> dict[str, np.ndarray]:
        blobs = next(self._made)
        self.position += self._step
        if self._names is None:
            return blobs
        if len(self._names) != len(blobs):
            raise InputError(
                f"the data set gives {', '.join(blobs)}; it cannot fill {', '.join(self._names)}"
            )
        return dict(zip(self._names, blobs.values()))

    def shapes(self, count: int) -> list[dict[str, tuple[int, ...]]] | None:
        """Shapes of the next `count` batches, those of other processes included, from their pictures' headers.

        None where headers do not tell: a label map of another size, or a picture scaled when it is read.
        """
        if self._zoom > 1:
            return None
        if self._ahead.position != self.position:
            self._ahead.seek(self.position)
        data, label = self._names or ("data", "label")
        found: list[dict[str, tuple[int, ...]]] = []
        for index in [next(self._ahead) for _ in range(count)]:
            if index not in self._sizes:
                path = self.dataset.sized_by(self.dataset.names[index])
                if path is None:
                    return None
                self._sizes[index] = picture_size(path)
            found.append({data: (1, 3, *self._sizes[index]), label: (1, 1, *self._sizes[index])})
        return found

    def take_every(self, step: int, first: int) -> None:
        """Take, before any was taken, the batches number first, first + step, .. from `position` on only.

        They are what they would be if all were taken: several processes can share out a data set so.
        """
        self._made.close()
        self._step = step
        self._made = Prefetch(self._make(step, first), self._depth)

    def close(self) -> None:
        """Stop preparing batches; the iterator is then at its end."""
        self._made.close()

    def __enter__(self) -> Batches:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _make(
    dataset: Dataset, order: ImageOrder, count: int | None, change: Augmentation, step: int, first: int
) -> Iterator[dict[str, np.ndarray]]:
    labels = set(dataset.heads)
    begin, end = order.position, None if count is None else order.position + count
    while end is None or order.position < end:
        position, index = order.position, next(order)
        if (position - begin) % step != first:
            continue
        seed = (abs(order.seed), position)
        blobs = change.apply(dataset.blobs(index), labels, seed, dataset.mean_bgr, dataset.ignore_label)
        yield {name: blob[np.newaxis] for name, blob in blobs.items()}
