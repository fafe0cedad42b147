"""The paper's four metrics (section 5, "Metrics") from a histogram of pixels by true and predicted class."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fcnlite.tables import aligned

_PIECE = 1 << 20  # pixels that are counted at a time, at some 40 bytes each


def histogram(truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """Counts n_ij of the pixels of true class i that were predicted as class j.

    Parameters
    ----------
    truth : numpy.ndarray
        Label map of any shape; pixels whose label is not in 0 .. classes - 1 (void) are left out.
    prediction : numpy.ndarray
        Predicted labels, same shape, in 0 .. classes - 1 wherever the truth is not void.
    classes : int
        Number of classes C.

    Returns
    -------
    numpy.ndarray
        (C, C) int64. Histograms of several images add up.

    Raises
    ------
    ValueError
        If the shapes differ or a counted prediction is out of range.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth is {truth.shape} but prediction is {prediction.shape}")
    flat = truth.ravel(), prediction.ravel()
    counts = np.zeros((classes, classes), np.int64)
    for begin in range(0, truth.size, _PIECE):
        end = begin + _PIECE
        counts += _count(flat[0][begin:end], flat[1][begin:end], classes)
    return counts


def _count(truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """The histogram of a piece, both label maps flat."""
    # Masks are slower than counting everything: give every odd label one extra row or column instead.
    rows, columns = _clamped(truth, classes), _clamped(prediction, classes)
    side = classes + 1
    counts = np.bincount(rows * side + columns, minlength=side * side).reshape(side, side)
    if counts[:classes, classes].any():
        odd = prediction[(rows < classes) & (columns == classes)][0]
        raise ValueError(f"the prediction holds {odd}; classes are 0 to {classes - 1}")
    return counts[:classes, :classes]


def _clamped(flat: np.ndarray, classes: int) -> np.ndarray:
    if flat.dtype == np.uint8:
        table = np.minimum(np.arange(256), classes)
        return table[flat]
    whole = flat.astype(np.int64)
    return np.where((whole >= 0) & (whole < classes) & (whole == flat), whole, classes)


@dataclass(frozen=True)
class Scores:
    """Scores of a segmentation, as fractions; NaN stands for 0/0.

    Attributes
    ----------
    pixel_accuracy : float
        sum_i n_ii / sum_i t_i, where t_i is the number of pixels of class i.
    mean_accuracy : float
        Mean over classes of n_ii / t_i.
    mean_iu : float
        Mean over classes of the intersection over union n_ii / (t_i + sum_j n_ji - n_ii).
    frequency_weighted_iu : float
        sum_i t_i IU_i / sum_i t_i.
    class_accuracy, class_iu : tuple of float
        The terms of the means.
    class_pixels : tuple of int
        t_i.
    histogram : tuple of tuple of int
        n_ij: pixels of true class i that were predicted as class j, the confusion matrix.
    not_scored : tuple of int
        Classes kept out of the two means.
    """

    pixel_accuracy: float
    mean_accuracy: float
    mean_iu: float
    frequency_weighted_iu: float
    class_accuracy: tuple[float, ...]
    class_iu: tuple[float, ...]
    class_pixels: tuple[int, ...]
    histogram: tuple[tuple[int, ...], ...]
    not_scored: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The same as plain numbers and lists, None for NaN (which JSON lacks)."""
        return {key: _plain(value) for key, value in asdict(self).items()}

    def __str__(self) -> str:
        return (
            f"pixel accuracy {_percent(self.pixel_accuracy)}, mean accuracy {_percent(self.mean_accuracy)}, "
            f"mean IU {_percent(self.mean_iu)}, frequency weighted IU {_percent(self.frequency_weighted_iu)}"
        )


def scores(counts: np.ndarray, not_scored: Iterable[int] = ()) -> Scores:
    """The four metrics of a histogram.

    Parameters
    ----------
    counts : numpy.ndarray
        (C, C), as `histogram` returns it, or a sum of such.
    not_scored : iterable of int
        Classes left out of both means, as SIFT Flow's three that its test set lacks.

    Returns
    -------
    Scores

    Notes
    -----
    A class that neither truth nor prediction has is 0/0 and left out of the means; one that is predicted
    though the truth lacks it has IU 0, and counts in the mean IU.
    """
    counts = np.asarray(counts, np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"expected a square histogram, not {counts.shape}")
    left_out = tuple(sorted(set(not_scored)))
    right, true, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    accuracy = _ratio(right, true)
    iu = _ratio(right, true + predicted - right)
    kept = np.ones(len(counts), bool)
    kept[list(left_out)] = False
    present = true > 0
    return Scores(
        pixel_accuracy=float(_ratio(right.sum(), true.sum())),
        mean_accuracy=_mean(accuracy[kept]),
        mean_iu=_mean(iu[kept]),
        frequency_weighted_iu=float(_ratio((true[present] * iu[present]).sum(), true.sum())),
        class_accuracy=tuple(accuracy.tolist()),
        class_iu=tuple(iu.tolist()),
        class_pixels=tuple(int(t) for t in true),
        not_scored=left_out,
        histogram=tuple(tuple(int(n) for n in row) for row in counts),
    )


def table(result: Scores, classes: Sequence[str]) -> str:
    """A text table of accuracy and IU per class (percent, "-" for 0/0), closed by the four metrics."""
    if len(classes) != len(result.class_iu):
        raise ValueError(f"{len(classes)} class names for {len(result.class_iu)} classes")
    total = sum(result.class_pixels)
    rows = [["class", "pixels", "accuracy", "IU"]]
    for k, name in enumerate(classes):
        pixels = result.class_pixels[k] / total if total else math.nan
        figures = (pixels, result.class_accuracy[k], result.class_iu[k])
        rows.append([name, *map(_percent, figures)])
    rows.append(["mean", "", _percent(result.mean_accuracy), _percent(result.mean_iu)])
    lines = aligned(rows)
    for k in result.not_scored:
        lines[1 + k] += "  (not scored)"
    return "\n".join([*lines, str(result)])


def comparison(results: Sequence[Scores], names: Sequence[str], classes: Sequence[str]) -> str:
    """A text table of several results side by side: IU per class and the four metrics, in percent, "-" for 0/0."""
    rows = [["IU", *names]]
    for k, name in enumerate(classes):
        rows.append([name, *(_percent(result.class_iu[k]) for result in results)])
    for title in ("pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu"):
        words = title.replace("_", " ").replace(" iu", " IU")
        rows.append([words, *(_percent(getattr(result, title)) for result in results)])
    lines = aligned(rows)
    return "\n".join([*lines[:-4], "-" * max(map(len, lines)), *lines[-4:]])


def _ratio(part: Any, whole: Any) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.divide(part, whole)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def _percent(fraction: float) -> str:
    return "-" if math.isnan(fraction) else f"{100 * fraction:.1f}"


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value
