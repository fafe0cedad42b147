"""Batches that feed a net: the samples of a data set in their order, as blobs.

The next ones are prepared in a background thread while the net computes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

import numpy as np

from fcnlite.data.dataset import Dataset
from fcnlite.data.order import SEED, ImageOrder
from fcnlite.errors import InputError

T = TypeVar("T")
SAMPLING = 1  # sets the draws of patch sampling apart from those of mirroring and jitter


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
    mirror : bool
        Mirror each image left to right with probability 1/2.
    jitter : int
        Translate each image by up to this many pixels in each direction (the paper: 32); what comes in
        from outside is the mean colour, with void labels.
    keep : float
        Let each position of the label maps count with this probability, else make it void: the paper's patch
        sampling (section 3.4), since a void label takes that output's patch out of the loss and the gradient.
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
    Yields {blob name: (1, C, H, W) float32}: "data" and "label" for most data sets. Mirroring and jitter
    (paper, section 4.3, "Augmentation") draw from a generator of their own, seeded by position, so that they
    change neither the order nor what a resumed run sees. So does patch sampling: the positions of an (H, W) map
    that count are `np.random.default_rng((abs(seed), position, 1)).random((H, W)) < keep`, after moving, and the
    same for every label map of the image.
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
        keep: float = 1.0,
        depth: int = 2,
        names: Sequence[str] | None = None,
    ) -> None:
        if jitter < 0:
            raise ValueError(f"jitter must not be negative, not {jitter}")
        if not 0 < keep <= 1:
            raise ValueError(f"keep must be a probability above 0, not {keep}")
        self.dataset = dataset
        self.position = position
        self._names = None if names is None else list(names)
        self._step, self._depth = 1, depth

        def make(step: int, first: int) -> Iterator[dict[str, np.ndarray]]:
            order = ImageOrder.of_split(len(dataset), dataset.split, randomize, seed, position)
            return _make(dataset, order, count, mirror, jitter, keep, step, first)

        self._make = make
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
    dataset: Dataset,
    order: ImageOrder,
    count: int | None,
    mirror: bool,
    jitter: int,
    keep: float,
    step: int,
    first: int,
) -> Iterator[dict[str, np.ndarray]]:
    labels = set(dataset.heads)
    begin, end = order.position, None if count is None else order.position + count
    while end is None or order.position < end:
        position, index = order.position, next(order)
        if (position - begin) % step != first:
            continue
        blobs = dataset.blobs(index)
        if mirror or jitter:
            draw = np.random.default_rng((abs(order.seed), position))
            flip = mirror and bool(draw.integers(2))
            dy, dx = draw.integers(-jitter, jitter + 1, size=2)
            fill = {name: dataset.ignore_label if name in labels else 0 for name in blobs}
            blobs = {name: moved(blob, int(dy), int(dx), flip, fill[name]) for name, blob in blobs.items()}
        if keep < 1:
            draw = np.random.default_rng((abs(order.seed), position, SAMPLING))
            blobs |= sampled({name: blobs[name] for name in labels}, draw, keep, dataset.ignore_label)
        yield {name: blob[np.newaxis] for name, blob in blobs.items()}


def moved(blob: np.ndarray, dy: int, dx: int, flip: bool, fill: float) -> np.ndarray:
    """Move the pixels of a (C, H, W) blob, whose size stays.

    It is mirrored left to right if `flip`, then shifted down by `dy` and right by `dx` pixels, and the uncovered
    part is set to `fill`.
    """
    source = blob[:, :, ::-1] if flip else blob
    _, height, width = blob.shape
    out = np.full_like(blob, fill)
    dy, dx = max(-height, min(height, dy)), max(-width, min(width, dx))
    rows, columns = (max(dy, 0), height + min(dy, 0)), (max(dx, 0), width + min(dx, 0))
    out[:, rows[0] : rows[1], columns[0] : columns[1]] = source[
        :, rows[0] - dy : rows[1] - dy, columns[0] - dx : columns[1] - dx
    ]
    return out


def sampled(
    labels: Mapping[str, np.ndarray], draw: np.random.Generator, keep: float, void: float
) -> dict[str, np.ndarray]:
    """Label maps (1, H, W) of one image, all but a random share `keep` of the positions set to `void`."""
    (shape,) = {label.shape[1:] for label in labels.values()}
    kept = draw.random(shape) < keep
    return {name: np.where(kept, label, label.dtype.type(void)) for name, label in labels.items()}
