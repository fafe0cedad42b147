"""The paper's tables, measured here beside published: `fcnlite table`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fcnlite import models
from fcnlite.commands import paper
from fcnlite.commands.evaluate import add_data_options, open_data
from fcnlite.commands.options import (
    Parser,
    add_device_options,
    at_least,
    guarded,
    refuse_overwrite,
    use_device,
)
from fcnlite.data import Dataset, catalogue
from fcnlite.io import write_text
from fcnlite.metrics import Scores
from fcnlite.net import Segmenter, load
from fcnlite.parallel import world
from fcnlite.scoring import Evaluation, check_fits, evaluate
from fcnlite.tables import aligned
from fcnlite.training.plan import NYUD_MODES

_HELP = """\
Run weights over a data set and print the paper's table: what was measured here, and what the paper reports.

  fcnlite table voc fcn32s.h5 fcn16s.h5 fcn8s.h5 --data VOCdevkit --sbd benchmark_RELEASE
  fcnlite table siftflow siftflow-fcn8s.h5 --data SiftFlowDataset
  fcnlite table nyud nyud-fcn32s-hha=hha.caffemodel --data NYUDv2
                                  Caffe's own file, which could be that of any net for 40 classes from one image
  fcnlite table nyud    just what the paper reports

The images are those of the paper's table (VOC: seg11valid) unless --split names others. Published figures stand
beside those measured here only where both are of the same images and classes.
"""
COLUMNS = ("pixel", "mean", "mean", "f.w."), ("acc.", "acc.", "IU", "IU")
GEOMETRIC = "geo"  # SIFT Flow's second label blob, of which the paper gives the pixel accuracy


@dataclass
class Row:
    """A line of the table; values in percent, None for what is not there."""

    name: str
    here: Sequence[float | None]
    reported: Sequence[float | None]


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = Parser("fcnlite table", description=_HELP)
    made.add_argument("data_set", metavar="DATA_SET", help="voc, nyud, siftflow or pascalcontext")
    made.add_argument("weights", nargs="*", metavar="WEIGHTS", help="NET.h5, snapshots, .caffemodel")
    made.add_argument(
        "--paper",
        choices=paper.PAPERS,
        default="pami",
        help="whose figures: the journal's, or the conference paper's (default: pami)",
    )
    add_data_options(made)
    made.add_argument("--limit", type=at_least(1), metavar="N", help="only the first N images")
    made.add_argument("--json", type=Path, metavar="FILE", help="write all numbers as JSON")
    add_device_options(made)
    return made


def rows(name: str, found: Evaluation | None, result: paper.Result | None) -> list[Row]:
    """A net's lines: one, and with SIFT Flow's second task another."""
    nothing = (None,) * 4
    heads = dict(found.scores) if found else {}
    geometric = heads.pop(GEOMETRIC, None)
    main = next(iter(heads.values()), None)
    made = [Row(name, _percent(main) if main else nothing, result.metrics() if result else nothing)]
    if geometric is not None or (result is not None and result.geometric_accuracy is not None):
        reported = (result.geometric_accuracy if result else None, None, None, None)
        made.append(Row(f"{name}, geometric", _percent(geometric) if geometric else nothing, reported))
    return made


def _percent(scores: Scores) -> tuple[float, ...]:
    names = ("pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu")
    return tuple(100 * getattr(scores, name) for name in names)


def text(made: Iterable[Row], published: bool = True) -> str:
    """The lines as a text table, "-" for a figure that is missing.

    Parameters
    ----------
    made : iterable of Row
    published : bool
        Whether the paper's figures stand beside those measured here.
    """
    parts = 1 + published
    rows = [[row.name, *_cells(row.here), "", *_cells(row.reported)][: 5 * parts] for row in made]
    heads = [["", *(f"{word:>5}" for word in part), "", *part][: 5 * parts] for part in COLUMNS]
    lines = aligned([*heads, *rows])
    wide = max(len(row[0]) for row in rows)
    titles = [f"{'here':^27}", f"{'published':^27}"][:parts]
    return "\n".join(["  ".join([" " * wide, "    ".join(titles)]).rstrip(), *lines])


def _cells(figures: Sequence[float | None]) -> list[str]:
    return [f"{_cell(figure):>5}" for figure in figures]


def _cell(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.1f}"


def open_net(weights: str) -> Segmenter:
    """The net of a file of weights; `NET=FILE` says which one it is, where the weights could be several's."""
    if "=" not in weights or Path(weights).is_file():
        return load(weights)
    name, _, path = weights.partition("=")
    net = load(path)
    net.name = models.canonical(name)
    return net


def measure(
    net: Segmenter, weights: str, options: argparse.Namespace, split: str
) -> tuple[Evaluation, Dataset]:
    """A net's scores on the data set in the options, and that data set."""
    name = catalogue.canonical(options.data_set)
    mode = NYUD_MODES.get(net.name, "rgb") if name == "nyud" else None
    dataset = world().leader_first(lambda: open_data(options, mode, split))
    check_fits(net, dataset, weights)
    net.notes.feed(dataset)
    return evaluate(net, dataset, options.limit, progress=weights, world=world()), dataset


@guarded("fcnlite table", together=True)
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    options = parser().parse_intermixed_args(arguments)
    name = catalogue.canonical(options.data_set)
    table = paper.table(options.paper, name)
    use_device(options.device, options.threads, options.fast)
    refuse_overwrite(options.weights, [options.json] if options.json else [])
    made: list[Row] = []
    measured: dict[str, dict[str, object]] = {}
    seen, published = "", True
    left = dict(table.results)
    for weights in options.weights:
        net = open_net(weights)
        found, dataset = measure(net, weights, options, table.split)
        seen = f"{found.images} images of {dataset.folder} ({dataset.split})"
        published = table.compares(dataset, found.images)
        label = net.name if net.name in left else f"{net.name or 'net'} ({weights})"
        result = left.pop(net.name, None)
        made += rows(label, found, result if published else None)
        measured[weights] = {"net": net.name, **found.to_json()}
        del net  # before the next one is loaded
    if published:
        made += [row for other, result in left.items() for row in rows(other, None, result)]
    print(text(made, published))
    print()
    if seen:
        print(f"here: {seen}")
    source = f"{paper.PAPERS[options.paper]}, {table.images} images ({table.split})"
    print(
        f"published: {source}" if published else f"published figures, of other images, are left out: {source}"
    )
    if options.json is not None and world().leads:
        write_text(options.json, json.dumps({"data_set": name, "weights": measured}, indent=2) + "\n")
    return 0
