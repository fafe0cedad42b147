"""The best mean IU that coarse predictions can reach (CVPR 2015, appendix A).

    python -m benchmarks.upper_bounds voc --data VOCdevkit --sbd benchmark_RELEASE --split seg11valid

Each factor x factor cell of a label map gets the class that most of its pixels have, and the result is scored as a
prediction. The paper downsamples and upsamples the truth without saying how.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from fcnlite import metrics
from fcnlite.commands.evaluate import add_data_options, open_data
from fcnlite.commands.options import Parser, guarded
from fcnlite.errors import InputError

PROGRAM = "python -m benchmarks.upper_bounds"
# Mean IU in percent by downsampling factor, on the paper's VOC 2011 validation images.
PUBLISHED = {128: 50.9, 64: 73.3, 32: 86.1, 16: 92.8, 8: 96.4, 4: 98.5}


@guarded(PROGRAM)
def main(arguments: Sequence[str] | None = None) -> int:
    """Score the coarsened truth."""
    args = _parser().parse_args(arguments)
    dataset = open_data(args, None)
    if not dataset.has_labels:
        raise InputError(f"{dataset.split} has no published truth")
    classes = len(dataset.classes)
    counts = {factor: np.zeros((classes, classes), np.int64) for factor in PUBLISHED}
    for sample in dataset:
        for factor, total in counts.items():
            total += metrics.histogram(sample.label, coarsened(sample.label, factor, classes), classes)
    print(f"{len(dataset)} images of {dataset.folder} ({dataset.split})")
    print("factor  mean IU  published (VOC 2011)")
    for factor, total in counts.items():
        print(f"{factor:6}  {100 * metrics.scores(total).mean_iu:7.1f}  {PUBLISHED[factor]:9.1f}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(PROGRAM, description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data_set", metavar="DATA_SET", help="voc, shapes, ...")
    add_data_options(parser)
    return parser


def coarsened(label: np.ndarray, factor: int, classes: int) -> np.ndarray:
    """The label map with one class a factor x factor cell: the most frequent, the first of equals, void left out."""
    height, width = label.shape
    rows, columns = np.arange(height) // factor, np.arange(width) // factor
    cells = rows[:, None] * (columns[-1] + 1) + columns
    known = label < classes
    places = cells[known] * classes + label[known]
    counts = np.bincount(places, minlength=(cells.max() + 1) * classes).reshape(-1, classes)
    return counts.argmax(axis=1)[cells].astype(label.dtype)


if __name__ == "__main__":
    sys.exit(main())
