"""The paper's metrics of some weights on a data set: `fcnlite evaluate`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fcnlite.commands import paper
from fcnlite.commands.options import (
    Parser,
    add_device_options,
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
from fcnlite.scoring import check_fits, evaluate

_HELP = """\
Measure weights on a data set: pixel accuracy, mean accuracy, mean IU and frequency weighted IU, and each class's.

  fcnlite evaluate voc --weights fcn8s.h5 --data VOCdevkit
  fcnlite evaluate voc --weights fcn8s.h5 --data VOCdevkit --split seg11valid --sbd benchmark_RELEASE
  fcnlite evaluate voc --weights fcn8s.h5 --data VOCdevkit --year 2012 --split test --upload FOLDER
                                            no truth is published: writes what VOC's evaluation server takes
  fcnlite evaluate shapes --weights runs/shapes-fcn8s/fcn8s.h5 --data runs/shapes-fcn8s/data
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
    add_weights_options(made)
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
    made.add_argument("--json", type=Path, metavar="FILE", help="write all numbers as JSON")
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
    if not dataset.has_labels and options.save is None:
        raise InputError(
            f"{dataset.split} has no published truth to compare with; --upload DIR or --save DIR write the predictions"
        )
    return dataset


@guarded("fcnlite evaluate", together=True)
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    options = parser().parse_args(arguments)
    use_device(options.device, options.threads, options.fast)
    refuse_overwrite([options.weights], [options.json] if options.json else [])
    dataset = world().leader_first(lambda: _open(options))
    net = load_net(options)
    check_fits(net, dataset, options.weights)
    survey(dataset)
    pixels = net.notes.feed(dataset, options.mean, options.scale)
    if world().leads:
        print(f"pixels: {pixels}")
    found = evaluate(net, dataset, options.limit, options.save, world=world())
    if not world().leads:
        return 0
    if dataset.has_labels:
        if options.limit is None:
            warn_of_absent(dataset, [i for i, pixels in enumerate(found.main.class_pixels) if not pixels])
        print(
            f"{found}\n{found.images} images of {dataset.folder} ({dataset.split}), {found.seconds:.2f} s each"
        )
    if options.save is not None:
        print(f"predictions: {options.save}")
    if options.upload is not None:
        print(f"to hand in: {voc_upload.pack(options.upload)}")
        year = voc_upload.year_of(dataset)
        if dataset.split == "test" and year in paper.VOC_TEST:
            print(
                f"published: mean IU {paper.VOC_TEST[year]} on VOC {year} test, FCN-8s ({paper.PAPERS['cvpr']})"
            )
    if options.json is not None:
        about = {"weights": options.weights, "data": str(dataset.folder), "split": dataset.split}
        write_text(options.json, json.dumps(about | found.to_json(), indent=2) + "\n")
    return 0
