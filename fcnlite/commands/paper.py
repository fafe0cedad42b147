"""The figures that the paper reports, in its two versions, for the nets and data sets here; all values in percent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fcnlite.data import Dataset, classes
from fcnlite.errors import InputError

PAPERS = {
    "pami": "E. Shelhamer, J. Long, T. Darrell, PAMI 2016",
    "cvpr": "J. Long, E. Shelhamer, T. Darrell, CVPR 2015",
}


@dataclass(frozen=True)
class Result:
    """One line of a table: the four metrics, None where the paper gives none.

    Attributes
    ----------
    pixel_accuracy, mean_accuracy, mean_iu, frequency_weighted_iu : float or None
    geometric_accuracy : float or None
        Pixel accuracy of SIFT Flow's second task.
    """

    pixel_accuracy: float | None = None
    mean_accuracy: float | None = None
    mean_iu: float | None = None
    frequency_weighted_iu: float | None = None
    geometric_accuracy: float | None = None

    def metrics(self) -> tuple[float | None, ...]:
        """The four metrics in the paper's order."""
        return self.pixel_accuracy, self.mean_accuracy, self.mean_iu, self.frequency_weighted_iu


@dataclass(frozen=True)
class Table:
    """Results on one list of images, by the net's name in fcnlite.models (or, of "fcn-vgg16", the paper's)."""

    split: str
    images: int
    results: Mapping[str, Result]

    def compares(self, dataset: Dataset, seen: int) -> bool:
        """Whether figures measured on `seen` images of a data set may stand beside these: same images, same classes."""
        of_paper = dataset.split == self.split and len(dataset) == self.images == seen
        return of_paper and tuple(dataset.classes) in CLASSES


# Class names of the data sets that the tables are of; a folder of one's own opened under such a name has others.
CLASSES = (classes.VOC, classes.NYUD, classes.SIFTFLOW, classes.PASCALCONTEXT)

# Mean IU of FCN-8s on VOC's test sets, by year, as the evaluation server gave it to the authors (CVPR 2015).
VOC_TEST = {"2011": 62.7, "2012": 62.2}

# "fcn-vgg16" is FCN-32s on VGG16 as in the conference paper's comparison of base nets, ahead of its longer training.
# The journal's VOC rows are its "staged" nets; FCN-AlexNet is as its authors score the weights they released.
TABLES: dict[tuple[str, str], Table] = {
    ("pami", "voc"): Table(
        "seg11valid",
        736,
        {
            "fcn32s": Result(90.5, 76.5, 63.6, 83.5),
            "fcn16s": Result(91.0, 78.1, 65.0, 84.3),
            "fcn8s": Result(91.2, 77.6, 65.5, 84.5),
            "fcn8s-atonce": Result(91.1, 78.5, 65.4, 84.4),
            "fcn-alexnet": Result(mean_iu=48.0),
        },
    ),
    ("cvpr", "voc"): Table(
        "seg11valid",
        736,
        {
            "fcn-alexnet": Result(mean_iu=39.8),
            "fcn-vgg16": Result(mean_iu=56.0),
            "fcn-googlenet": Result(mean_iu=42.5),
            "fcn32s": Result(89.1, 73.3, 59.4, 81.4),
            "fcn16s": Result(90.0, 75.7, 62.4, 83.0),
            "fcn8s": Result(90.3, 75.9, 62.7, 83.2),
        },
    ),
    ("pami", "nyud"): Table(
        "test",
        654,
        {
            "nyud-fcn32s-color": Result(61.8, 44.7, 31.6, 46.0),
            "nyud-fcn32s-color-d": Result(62.1, 44.8, 31.7, 46.3),
            "nyud-fcn32s-hha": Result(58.3, 35.7, 25.2, 41.7),
            "nyud-fcn32s-color-hha": Result(65.3, 44.0, 33.3, 48.6),
        },
    ),
    ("cvpr", "nyud"): Table(
        "test",
        654,
        {
            "nyud-fcn32s-color": Result(60.0, 42.2, 29.2, 43.9),
            "nyud-fcn32s-color-d": Result(61.5, 42.4, 30.5, 45.5),
            "nyud-fcn32s-hha": Result(57.1, 35.2, 24.2, 40.4),
            "nyud-fcn32s-color-hha": Result(64.3, 44.9, 32.8, 48.0),
            "nyud-fcn16s-color-hha": Result(65.4, 46.1, 34.0, 49.5),
        },
    ),
    ("pami", "siftflow"): Table("test", 200, {"siftflow-fcn8s": Result(85.9, 53.9, 41.2, 77.2, 94.6)}),
    ("cvpr", "siftflow"): Table("test", 200, {"siftflow-fcn16s": Result(85.2, 51.7, 39.5, 76.1, 94.3)}),
    ("pami", "pascalcontext"): Table(
        "val",
        5105,
        {
            "pascalcontext-fcn32s": Result(65.5, 49.1, 36.7, 50.9),
            "pascalcontext-fcn16s": Result(66.9, 51.3, 38.4, 52.3),
            "pascalcontext-fcn8s": Result(67.5, 52.3, 39.1, 53.0),
        },
    ),
}


def table(paper: str, data_set: str) -> Table:
    """The table of a version of the paper for a data set.

    Raises
    ------
    InputError
        It reports nothing.
    """
    if (paper, data_set) not in TABLES:
        there = ", ".join(f"{name} ({version})" for version, name in TABLES)
        raise InputError(f"the paper ({paper}) has no table for {data_set}; there are {there}")
    return TABLES[paper, data_set]
