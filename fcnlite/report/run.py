"""The facts that the page tells of a run, as plain values and arrays: whoever reads run folders or nets fills it in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fcnlite import metrics


@dataclass(frozen=True)
class Validation:
    """Scores after some iterations.

    Attributes
    ----------
    iteration : int
    loss : float or None
        Mean over the validation images' pixels, where it was measured.
    scores : mapping
        As `fcnlite.metrics.Scores.to_json` gives them: fractions, None for 0/0.
    histogram : array (C, C) or None
        Pixels by true and predicted class.
    """

    iteration: int
    loss: float | None
    scores: Mapping[str, Any]
    histogram: np.ndarray | None = None


@dataclass(frozen=True)
class Picture:
    """A validation image with its truth and what snapshots made of it.

    Attributes
    ----------
    name : str
    image : array (H, W, 3) uint8, RGB
    truth : array (H, W)
        Labels; those that are no class are void.
    predictions : mapping of int to array (H, W)
        Labels, by the snapshot's iteration.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray
    predictions: Mapping[int, np.ndarray]

    def mean_iu(self, iteration: int, classes: int) -> float | None:
        """Mean IU of this image alone, over the classes that truth or prediction have; None if all is void."""
        counts = metrics.histogram(self.truth, self.predictions[iteration], classes)
        found = metrics.scores(counts).mean_iu
        return None if np.isnan(found) else found


@dataclass(frozen=True)
class Run:
    """A training run.

    Attributes
    ----------
    name : str
        Its folder's.
    classes : sequence of str
    settings : mapping of str to plain values
        What it was started with.
    about : mapping of str to str
        Versions, device, dates: what did not decide the result.
    log : sequence of mapping
        `iteration`, `loss`, `smoothed_loss`, `lr` and `seconds` of each iteration.
    validations : sequence of Validation
        In order.
    pictures : sequence of Picture
    planned : int
        Iterations that it was to have.
    """

    name: str
    classes: Sequence[str]
    settings: Mapping[str, Any]
    about: Mapping[str, str] = field(default_factory=dict)
    log: Sequence[Mapping[str, Any]] = ()
    validations: Sequence[Validation] = ()
    pictures: Sequence[Picture] = ()
    planned: int = 0

    @property
    def best(self) -> Validation | None:
        """The validation with the highest mean IU, the earliest of equals."""
        scored = [v for v in self.validations if v.scores.get("mean_iu") is not None]
        return max(scored, key=lambda v: v.scores["mean_iu"]) if scored else None

    @property
    def last(self) -> Validation | None:
        """The last validation."""
        return self.validations[-1] if self.validations else None
