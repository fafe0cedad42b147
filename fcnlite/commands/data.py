"""`fcnlite data check` and `fcnlite data convert`: pictures and masks of one's own, looked at and laid out as VOC."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fcnlite.commands.options import Parser, amount, at_least, guarded
from fcnlite.data.folder import MANIFEST, Choices, Report, inspect, locate, write_voc
from fcnlite.data.folder.facts import Facts, gather
from fcnlite.data.folder.layout import Pair
from fcnlite.errors import InputError
from fcnlite.parallel import world

MISLEADS = 1  # exit status of a check that found errors
_HELP = """\
Look at pictures and masks of your own before a net does, or write them in VOC's layout.

  fcnlite data check --images photos --masks masks      two folders
  fcnlite data check FOLDER                             one folder that holds both: images/ and masks/, JPEGImages/ and
                                                        SegmentationClass/, side by side, with LabelMe's or COCO's .json
  fcnlite data convert FOLDER --to VOC_FOLDER           any of these in VOC's layout, without loss

Masks are images of class numbers (grey or palette), of 0 and 255, of colours, or annotation files of LabelMe and COCO.
`check` reads everything once and ends with status 1 if training would fail or mislead."""


def add_data_options(group: Any) -> None:
    """Add the options that say where pictures and masks are and what the masks mean."""
    group.add_argument("--images", metavar="DIR", help="folder of the pictures")
    group.add_argument("--masks", metavar="DIR", help="folder of the masks, or a COCO .json")
    group.add_argument(
        "--colors",
        metavar="FILE",
        help="the classes' colours in the masks: a CSV file with the header name,r,g,b",
    )
    group.add_argument(
        "--classes", metavar="FILE", help="class names, one a line, in the order of the masks' values"
    )
    group.add_argument(
        "--void",
        type=_void,
        metavar="VALUE",
        help="mask value of pixels that do not count, or none (default: 255)",
    )
    group.add_argument(
        "--max-size",
        type=at_least(16),
        metavar="PIXELS",
        help="scale larger pictures down to this longer side",
    )
    group.add_argument(
        "--resize-masks",
        action="store_true",
        default=argparse.SUPPRESS,
        help="scale masks of another size than their picture to it",
    )
    group.add_argument(
        "--val-share",
        type=_share,
        metavar="P",
        help="part of the pictures to validate on if there are no lists (0.2)",
    )
    group.add_argument(
        "--skip-bad",
        action="store_true",
        default=argparse.SUPPRESS,
        help="leave files out that cannot be used, and count them",
    )


def _void(text: str) -> int:
    return -1 if text.lower() == "none" else at_least(0)(text)


def _share(text: str) -> float:
    value = amount()(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 up to 1")
    return value


def look(given: Mapping[str, Any], folder: str | None = None, together: bool = False) -> Report:
    """Look at the data that options name.

    Parameters
    ----------
    given : mapping of str to any
        Options by name; those not given are absent or None.
    folder : str, optional
        One that holds pictures and masks.
    together : bool
        All processes do so, and share out the files.
    """
    named = {key: value for key, value in given.items() if value is not None}
    layout = locate(folder, named.get("images"), named.get("masks"))
    keys = ("colors", "classes", "max_size", "resize_masks", "skip_bad", "val_share", "seed")
    choices: dict[str, Any] = {key: named[key] for key in keys if key in named}
    if "void" in named:
        choices["void"] = named["void"] if named["void"] >= 0 else None
    choices |= {
        name: named[option]
        for option, name in (("split", "train_list"), ("val_split", "val_list"))
        if option in named
    }
    return inspect(layout, Choices(**choices), gather=_shared_out if together else gather)


def _shared_out(pairs: Sequence[Pair], colours: bool, progress: bool) -> list[Facts]:
    """The facts of every pair, each read by one of the processes."""
    here = world()
    return here.in_turn(gather(pairs, colours, progress and here.leads, here.rank, here.size))


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = Parser("fcnlite data", description=_HELP)
    made.add_argument("action", choices=("check", "convert"))
    made.add_argument("folders", nargs="*", metavar="FOLDER", help="folders that hold pictures and masks")
    add_data_options(made)
    made.add_argument("--split", metavar="LIST", help="file of the names to train on")
    made.add_argument("--val-split", metavar="LIST", help="file of the names to validate on")
    made.add_argument(
        "--seed", type=at_least(0), help="of the parting, where there are no lists (default: 1337)"
    )
    made.add_argument("--to", type=Path, metavar="DIR", help="convert: the folder to write, new or empty")
    return made


@guarded("fcnlite data", together=True)
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    options = parser().parse_intermixed_args(arguments)
    if (options.action == "convert") != (options.to is not None):
        raise InputError("convert takes --to DIR, the folder to write; check takes none")
    folders: list[str | None] = list(options.folders)
    if options.images is not None:
        folders = folders or [None]
    if not folders:
        raise InputError("name a folder that holds pictures and masks, or --images DIR --masks DIR")
    if options.action == "convert":
        if world().size > 1:
            raise InputError("convert works in one process; start it without mpiexec")
        return _convert(options, folders)
    status = 0
    for folder in folders:
        if len(folders) > 1:
            print(f"{folder}:")
        report = look(vars(options), folder, together=True)
        print(report)
        status = status or (MISLEADS if report.errors else 0)
    return status


def _convert(options: argparse.Namespace, folders: Sequence[str | None]) -> int:
    if len(folders) != 1:
        raise InputError("convert writes one folder from one; name a single folder")
    report = look(vars(options), folders[0])
    for remark in report.manifest.encoding.remarks + report.warnings:
        print(f"note: {remark}")
    if report.errors:
        raise InputError(report.errors[0])
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / MANIFEST
        report.manifest.write(path)
        number = write_voc(path, report.manifest, options.to)
    print(f"{options.to}: {number} pictures, {len(report.manifest.encoding.classes)} classes")
    print(f"train on them with: fcnlite train folder --data {options.to}")
    return 0
