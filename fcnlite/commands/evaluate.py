"""The paper's metrics of some weights on a data set: `fcnlite evaluate`."""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fcnlite import metrics
from fcnlite.commands import paper
from fcnlite.commands.options import (
    Parser,
    add_device_options,
    add_memory_option,
    add_weights_options,
    at_least,
    guarded,
    load_net,
    refuse_overwrite,
    use_device,
)
from fcnlite.data import HIDE, SPLITS, Dataset, Masked, catalogue, open_dataset, voc_upload
from fcnlite.data.survey import survey, warn_of_absent
from fcnlite.errors import InputError
from fcnlite.io import write_text
from fcnlite.parallel import world
from fcnlite.scoring import Evaluation, check_fits, evaluate

_METRICS = ("pixel accuracy", "mean accuracy", "mean IU", "frequency weighted IU")

_HELP = """\
Measure weights on a data set: pixel accuracy, mean accuracy, mean IU and frequency weighted IU, and each class's.

  fcnlite evaluate voc --weights fcn8s.h5 --data VOCdevkit
  fcnlite evaluate voc --weights fcn8s.h5 --data VOCdevkit --split seg11valid --sbd benchmark_RELEASE
  fcnlite evaluate voc --weights fcn8s.h5 --data VOCdevkit --year 2012 --split test --upload FOLDER
                                            no truth is published: writes what VOC's evaluation server takes
  fcnlite evaluate shapes --weights runs/shapes-fcn8s/fcn8s.h5 --data runs/shapes-fcn8s/data
  fcnlite evaluate shapes --weights first.h5 second.h5 --data shapes --csv images.csv
                                            side by side, and a line for each image
  fcnlite evaluate folder --weights runs/folder-fcn8s/fcn8s.h5 --data runs/folder-fcn8s
                                            the pictures that a run on your own was validated on
  fcnlite evaluate folder --weights runs/folder-fcn8s/fcn8s.h5 --data runs/folder-fcn8s --images DIR --masks DIR
                                            others, whose masks are understood as in the run

A folder of your own in VOC's layout, with classes.txt, is evaluated as voc.
"""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = Parser("fcnlite evaluate", description=_HELP)
    made.add_argument("data_set", metavar="DATA_SET", help=", ".join(catalogue.names()))
    add_weights_options(made, several=True)
    made.add_argument("--mode", choices=("rgb", "rgbd", "hha", "rgb-hha"), help="nyud: what the net reads")
    add_data_options(made)
    made.add_argument(
        "--hide",
        choices=HIDE,
        help="mask images by their labels, and score without the background class, as the paper's table 8 does",
    )
    made.add_argument("--limit", type=at_least(1), metavar="N", help="only the first N images")
    made.add_argument("--save", type=Path, metavar="DIR", help="write each prediction as a palette PNG")
    made.add_argument(
        "--upload",
        type=Path,
        metavar="DIR",
        help=f"voc: write the predictions into the folders, and {voc_upload.ARCHIVE}, that VOC's server takes",
    )
    made.add_argument(
        "--competition",
        choices=voc_upload.COMPETITIONS,
        default="comp6",
        help="for --upload: comp5 if trained on VOC's images alone, comp6 if on others too (default: comp6)",
    )
    made.add_argument(
        "--csv", type=Path, metavar="FILE", help="write the scores of each image alone, a line each"
    )
    made.add_argument(
        "--confusion",
        type=Path,
        metavar="FILE",
        help="write the confusion matrix as CSV: pixels, a true class a row",
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write all numbers as JSON")
    add_memory_option(made)
    add_device_options(made)
    return made


def add_data_options(made: argparse.ArgumentParser) -> None:
    """Add what `open_data` needs but for the data set's name and `mode`."""
    made.add_argument("--data", metavar="DIR", help="the data set's folder (default: data/NAME)")
    made.add_argument(
        "--split", metavar="LIST", help="images to look at (default: those the paper reports on)"
    )
    made.add_argument("--images", metavar="DIR", help="folder: other pictures than those of the run")
    made.add_argument("--masks", metavar="DIR", help="folder: their masks")
    made.add_argument("--year", type=int, choices=(2011, 2012), help="voc: which, where the folder has both")
    made.add_argument("--sbd", dest="sbd_folder", metavar="DIR", help="voc: where SBD lies, for seg11valid")
    made.add_argument(
        "--labels",
        metavar="DIR",
        help="voc: the folder of labels (default: SegmentationClass in the data set's)",
    )
    made.add_argument("--mapping", metavar="FILE", help="nyud: what maps its 894 classes to 40")
    made.add_argument("--context", dest="context_folder", metavar="DIR", help="pascalcontext: its labels")


def open_data(options: argparse.Namespace, mode: str | None, split: str | None = None) -> Dataset:
    """The data set that the options name, in the split they give, or else `split` or the paper's."""
    name = catalogue.canonical(options.data_set)
    own = ("images", "masks", "year", "sbd_folder", "labels", "mapping", "context_folder")
    given: dict[str, Any] = {key: getattr(options, key) for key in own} | {"mode": mode}
    given = {key: value for key, value in given.items() if value is not None}
    split = options.split or split or SPLITS[name].evaluate
    return open_dataset(name, options.data or Path("data") / name, split, **given)


def _open(options: argparse.Namespace) -> Dataset:
    dataset = open_data(options, options.mode)
    if options.hide is not None:
        dataset = Masked(dataset, options.hide)
    inside = dataset.folder.resolve()
    if options.save is not None and inside in [
        Path(options.save).resolve(),
        *Path(options.save).resolve().parents,
    ]:
        raise InputError(f"--save {options.save} lies among the data in {inside}; name a folder outside it")
    if options.upload is not None:
        if options.save is not None or options.limit is not None:
            raise InputError("--upload hands in all predictions; leave --save and --limit out")
        options.save = voc_upload.segmentation_folder(options.upload, dataset, options.competition)
    if not dataset.has_labels and (options.csv is not None or options.confusion is not None):
        raise InputError(f"{dataset.split} has no truth to compare with; leave --csv and --confusion out")
    if not dataset.has_labels and options.save is None:
        raise InputError(
            f"{dataset.split} has no published truth to compare with; --upload DIR or --save DIR write the predictions"
        )
    return dataset


def _measure(options: argparse.Namespace, weights: str) -> tuple[Dataset, Evaluation]:
    """The data set, and how one file of weights does on it."""
    dataset = world().leader_first(lambda: _open(options))
    net = load_net(argparse.Namespace(**{**vars(options), "weights": weights}))
    check_fits(net, dataset, weights)
    survey(dataset)
    pixels = net.notes.feed(dataset, options.mean, options.scale)
    if world().leads:
        print(f"pixels: {pixels}")
    found = evaluate(
        net,
        dataset,
        options.limit,
        options.save,
        world=world(),
        with_each=options.csv is not None,
        memory=options.memory,
    )
    return dataset, found


def _tell(options: argparse.Namespace, dataset: Dataset, found: Sequence[Evaluation]) -> None:
    """Print the scores: one table, or one with a column for each file of weights."""
    first = found[0]
    if options.limit is None:
        warn_of_absent(dataset, [i for i, pixels in enumerate(first.main.class_pixels) if not pixels])
    if len(found) == 1:
        print(first)
    for head, classes in first.classes.items() if len(found) > 1 else ():
        title = [] if len(first.classes) == 1 else [head]
        each = [result.scores[head] for result in found]
        print("\n".join([*title, metrics.comparison(each, _short(options.weights), classes)]))
    seconds = ", ".join(f"{result.seconds:.2f}" for result in found)
    print(f"{first.images} images of {dataset.folder} ({dataset.split}), {seconds} s each")


def _short(paths: Sequence[str]) -> list[str]:
    """Names that tell files apart: without folders and suffixes where these are needless."""
    names = [Path(path).name.removesuffix(".h5").removesuffix(".caffemodel") for path in paths]
    return names if len(set(names)) == len(names) else list(paths)


def _write_tables(options: argparse.Namespace, dataset: Dataset, found: Sequence[Evaluation]) -> None:
    """Write what --csv, --confusion and --json ask for."""
    classes = next(iter(found[0].classes.values()))
    if options.csv is not None:
        rows: list[list[Any]] = [["weights", "image", *_METRICS, *(f"IU {name}" for name in classes)]]
        for weights, result in zip(options.weights, found):
            assert result.each is not None
            for name, scores in zip(dataset.names, result.each):
                rows.append([weights, name, *("" if math.isnan(v) else f"{v:.6f}" for v in scores)])
        _write_csv(options.csv, rows)
    if options.confusion is not None:
        counts = found[0].main.histogram
        _write_csv(
            options.confusion, [["truth", *classes], *([name, *row] for name, row in zip(classes, counts))]
        )
    if options.json is not None:
        where = {"data": str(dataset.folder), "split": dataset.split}
        tables = [{"weights": w} | where | result.to_json() for w, result in zip(options.weights, found)]
        write_text(options.json, json.dumps(tables[0] if len(tables) == 1 else tables, indent=2) + "\n")


def _write_csv(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    """Write a table, as spreadsheets read it."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())


def _refuse_for_several(options: argparse.Namespace) -> None:
    """Refuse options about one net's predictions beside several files of weights."""
    given = [name for name in ("save", "upload", "confusion") if getattr(options, name) is not None]
    if len(options.weights) > 1 and given:
        raise InputError(f"--{given[0]} goes with one file of weights")


@guarded("fcnlite evaluate", together=True)
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    options = parser().parse_args(arguments)
    _refuse_for_several(options)
    use_device(options.device, options.threads, options.fast)
    written = [path for path in (options.json, options.csv, options.confusion) if path is not None]
    refuse_overwrite(options.weights, written)
    measured = [_measure(options, weights) for weights in options.weights]
    if not world().leads:
        return 0
    dataset, found = measured[0][0], [result for _, result in measured]
    if dataset.has_labels:
        _tell(options, dataset, found)
    if options.save is not None:
        print(f"predictions: {options.save}")
    if options.upload is not None:
        print(f"to hand in: {voc_upload.pack(options.upload)}")
        year = voc_upload.year_of(dataset)
        if dataset.split == "test" and year in paper.VOC_TEST:
            print(
                f"published: mean IU {paper.VOC_TEST[year]} on VOC {year} test, FCN-8s ({paper.PAPERS['cvpr']})"
            )
    _write_tables(options, dataset, found)
    return 0
