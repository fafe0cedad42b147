"""Measuring a net on a data set: label maps for every image, the paper's metrics, pictures of a few."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fcnlite import device, metrics, vis
from fcnlite.data import Dataset
from fcnlite.errors import InputError
from fcnlite.net import Net, segment
from fcnlite.net.segmenter import Maps, score_blob
from fcnlite.parallel import World
from fcnlite.progress import progress_bar


def check_fits(net: Net, dataset: Dataset, weights: object = "the net") -> None:
    """Refuse a net that does not take what the data set gives, or scores other classes.

    Parameters
    ----------
    weights : object
        What the error calls the net: its file.

    Raises
    ------
    InputError
    """
    blobs = dataset.blobs(0)
    missing = [name for name in net.inputs if name not in blobs]
    if missing:
        raise InputError(
            f"{weights} takes the inputs {', '.join(net.inputs)}; the data set gives {', '.join(blobs)}"
        )
    for head, classes in dataset.heads.items():
        blob = score_blob(head)
        if blob not in net.blobs:
            raise InputError(f"{weights} has no blob '{blob}', which would hold the scores for '{head}'")
        outputs = net.blobs[blob].shape[1]
        if outputs != len(classes):
            raise InputError(
                f"{weights} scores {outputs} classes, the data set in {dataset.folder} has {len(classes)}"
            )


@dataclass
class Evaluation:
    """Result of `evaluate`.

    Attributes
    ----------
    images : int
        How many were looked at.
    classes : dict of str to tuple of str
        Class names of each label blob.
    scores : dict of str to fcnlite.metrics.Scores
        The metrics of each label blob.
    seconds : float
        Mean time an image took, reading included.
    loss : float
        Mean over the pixels that count of -log p of the true class, of the first label blob; NaN if not asked for.
    each : array (images, 4 + classes) or None
        The four metrics and each class's IU of every image alone, of the first label blob, in the order of
        `fcnlite.metrics.Scores`; NaN for 0/0. None if not asked for.
    """

    images: int
    classes: Mapping[str, Sequence[str]]
    scores: dict[str, metrics.Scores]
    seconds: float = float("nan")
    loss: float = float("nan")
    each: np.ndarray | None = None

    @property
    def main(self) -> metrics.Scores:
        """The scores of the first label blob, by which weights are compared."""
        return next(iter(self.scores.values()))

    def __str__(self) -> str:
        """The table of each label blob, under its name where there are several."""
        tables = {head: metrics.table(result, self.classes[head]) for head, result in self.scores.items()}
        if len(tables) == 1:
            return next(iter(tables.values()))
        return "\n\n".join(f"{head}\n{text}" for head, text in tables.items())

    def to_json(self) -> dict[str, Any]:
        """The same as plain numbers, lists and mappings."""
        heads = {
            head: {"classes": list(self.classes[head]), **result.to_json()}
            for head, result in self.scores.items()
        }
        loss = None if math.isnan(self.loss) else self.loss
        return {"images": self.images, "seconds_per_image": self.seconds, "loss": loss, "labels": heads}


def evaluate(
    net: Net,
    dataset: Dataset,
    limit: int | None = None,
    save: str | os.PathLike[str] | None = None,
    progress: str = "evaluating",
    with_loss: bool = False,
    world: World | None = None,
    with_each: bool = False,
    memory: str | int | None = None,
) -> Evaluation:
    """Segment the images of a data set and compare with the truth.

    Parameters
    ----------
    net : Net
        In phase TEST; see `check_fits`.
    dataset : Dataset
    limit : int, optional
        Only the first so many images.
    save : path, optional
        A folder for the predictions as palette PNGs, named as the images; with several label blobs, one folder
        in it for each.
    progress : str
        Text of the progress bar.
    with_loss : bool
        Measure the loss, too.
    world : World, optional
        The processes that share the images out; each returns the result of all.
    with_each : bool
        Score every image alone, too.
    memory : str or int, optional
        What this process may hold in all: larger images are worked on in tiles, as `Segmenter.predict` does. Not
        together with `with_loss`.
    """
    meter = LossMeter(dataset) if with_loss else None
    number = len(dataset) if limit is None else min(limit, len(dataset))
    main = next(iter(dataset.heads))
    each = np.zeros((number, 4 + len(dataset.heads[main]))) if with_each else None

    def maps() -> Iterator[Maps]:
        for index in range(number) if world is None else world.mine(range(number)):
            pairs = segment(net, dataset, index, meter, memory)
            for head, (_, prediction) in pairs.items():
                if save is not None:
                    folder = Path(save) if len(pairs) == 1 else Path(save) / head
                    write_prediction(folder, dataset.names[index], prediction)
            if each is not None:
                each[index] = _alone(*pairs[main], each.shape[1] - 4, dataset.not_scored)
            yield pairs

    begun = time.perf_counter()
    classes = {head: len(names) for head, names in dataset.heads.items()}
    found = tally(maps(), number, classes, dataset.not_scored, progress, world)
    elapsed = time.perf_counter() - begun
    seconds = elapsed / number if number else math.nan
    here = world if world is not None else World(None)
    loss = meter.mean(here) if meter else math.nan
    if each is not None:
        each = here.sum(each)  # a process leaves zeros for the images of others
        each[each < 0] = math.nan
    return Evaluation(number, dataset.heads, found, seconds, loss, each)


def _alone(truth: np.ndarray, prediction: np.ndarray, classes: int, not_scored: Sequence[int]) -> np.ndarray:
    """An image's row of `Evaluation.each`, -1 for 0/0, which can be summed over processes."""
    found = metrics.scores(metrics.histogram(truth, prediction, classes), not_scored)
    row = [
        found.pixel_accuracy,
        found.mean_accuracy,
        found.mean_iu,
        found.frequency_weighted_iu,
        *found.class_iu,
    ]
    return np.nan_to_num(np.array(row), nan=-1.0)


class LossMeter:
    """Adds up the softmax loss of a data set's first label blob, image after image."""

    def __init__(self, dataset: Dataset) -> None:
        self._head = next(iter(dataset.heads))
        self._void = dataset.ignore_label
        self._sum, self._pixels = 0.0, 0

    def mean(self, world: World) -> float:
        """Loss a pixel that counts, over the images of all processes; NaN without any."""
        total, pixels = world.sum(np.array([self._sum, self._pixels], np.float64))
        return float(total / pixels) if pixels else math.nan

    def __call__(self, head: str, scores: Any, truth: np.ndarray) -> None:
        """Take scores (1, C, H, W) on the device and the truth (1, H, W) of an image into account."""
        if head != self._head:
            return
        backend = device.current()
        number, channels, height, width = scores.shape
        loss, valid = backend.empty((2, number * height * width))
        numbers = (width, channels, height, self._void)
        labels = backend.asarray(truth)
        backend.launch("softmax_loss_forward", number * height, *numbers, None, scores, labels, loss, valid)
        self._sum += float(backend.tonumpy(loss).sum(dtype=np.float64))
        self._pixels += int((truth != self._void).sum())


def tally(
    maps: Iterable[Maps],
    number: int,
    classes: Mapping[str, int],
    not_scored: Sequence[int] = (),
    progress: str = "scoring",
    world: World | None = None,
) -> dict[str, metrics.Scores]:
    """Add up label maps and predictions, image after image, to the paper's metrics.

    Parameters
    ----------
    maps : iterable of Maps
        Truth and prediction of each image, by head.
    number : int
        How many there are, for the progress bar.
    classes : mapping of str to int
        Number of classes of each head.
    not_scored : sequence of int
        Classes of the first head that the means leave out.
    progress : str
        What the progress bar says.
    world : World, optional
        The processes that have a share of the images each; the result is that of all.
    """
    world = world if world is not None else World(None)
    counts = {head: np.zeros((channels, channels), np.int64) for head, channels in classes.items()}
    with progress_bar(total=number, desc=progress, unit="image", leave=False) as bar:
        for done, pairs in enumerate(maps):
            world.listen()
            for head, (truth, prediction) in pairs.items():
                counts[head] += metrics.histogram(truth, prediction, classes[head])
            bar.update(min(world.size, number - done * world.size))
    return {
        head: metrics.scores(world.sum(counted), () if i else not_scored)
        for i, (head, counted) in enumerate(counts.items())
    }


def write_prediction(folder: Path, name: str, prediction: np.ndarray) -> None:
    """Write folder/name.png; an id with slashes has folders of its own."""
    path = folder / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    vis.write_label(path, prediction)


def sheet(net: Net, dataset: Dataset, count: int) -> np.ndarray:
    """Picture of the first images: each a row of image, prediction and truth over it; (H, W, 3) uint8 RGB."""
    rows = list(_rows(net, dataset, min(count, len(dataset))))
    width = max(row.shape[1] for row in rows)
    fill = {"mode": "constant", "constant_values": 255}
    gap = np.full((vis.GAP, width, 3), 255, np.uint8)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), **fill) for row in rows]  # type: ignore[call-overload]
    return np.vstack([part for row in padded for part in (row, gap)][:-1])


def _rows(net: Net, dataset: Dataset, count: int) -> Iterator[np.ndarray]:
    head = next(iter(dataset.heads))
    for index in range(count):
        sample = dataset[index]
        truth, prediction = segment(net, dataset, index)[head]
        pictures = {sample.name: sample.image}
        shown = {"prediction": prediction} | ({"truth": truth} if dataset.has_labels else {})
        for title, label in shown.items():
            pictures[title] = vis.overlay(sample.image, label, alpha=0.7, background=dataset.background)
        row = vis.side_by_side(pictures)
        seen = np.concatenate([label.ravel() for label in shown.values()])
        names = vis.legend(seen, dataset.heads[head], row.shape[1])
        yield np.vstack([row, names])
