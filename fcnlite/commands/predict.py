"""Segment pictures: `fcnlite predict`."""

from __future__ import annotations

import argparse
import glob
import io
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fcnlite import device, vis
from fcnlite.commands.options import (
    BAD_INPUT,
    Parser,
    add_device_options,
    add_memory_option,
    add_weights_options,
    at_least,
    fraction,
    guarded,
    in_one_line,
    load_net,
    refuse_overwrite,
    use_device,
)
from fcnlite.data.files import MOST_PIXELS, PICTURE_SUFFIXES, picture_size, read_photo, read_small
from fcnlite.errors import InputError, nearest, printable
from fcnlite.io import atomic_path
from fcnlite.net import Segmenter
from fcnlite.net.segmenter import check_readable, check_size, class_names, picture_scores
from fcnlite.parallel import world
from fcnlite.progress import progress_bar

ASSUMED = ", VOC's, as the weights tell none; --mean and --scale give others"
LABEL, OVERLAY, SCORES = ".png", "_overlay.jpg", "_scores.npz"  # how the results' names end
STDIN = "-"
SHOWN_BYTES = 16  # that a pixel takes to be decoded, or to be drawn with its label
AUTO = -1  # contours as wide as suits the picture
_HELP = """\
Segment pictures. For each, OUT gets NAME.png, whose pixel values are the classes (in VOC's palette), and
NAME_overlay.jpg, the picture tinted with them.

  fcnlite predict photo.jpg --weights fcn8s.h5 --out segmented
  fcnlite predict holiday --weights runs/shapes-fcn8s/fcn8s.h5 --out segmented --sheet all.jpg
                                                     a folder, with its subfolders; and one picture of all
  fcnlite predict 'shots/*.png' --weights fcn8s.h5 --out segmented --classes person,dog --contours
  fcnlite predict mosaic.tif --weights fcn8s.h5 --out segmented --memory 2G
                                                     a very large picture, in tiles
  curl -s URL | fcnlite predict - --weights fcn8s.h5 --out segmented

A photograph taken sideways is turned upright first. A picture that cannot be read does not stop the others; the
exit status then is 2.
"""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = Parser("fcnlite predict", description=_HELP)
    made.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="picture files, folders of them, patterns with * and ?, or - for a picture from standard input",
    )
    made.add_argument(
        "--out", required=True, metavar="DIR", type=Path, help="where the results go; made if missing"
    )
    add_weights_options(made)
    made.add_argument("--output", metavar="BLOB", help="the scores to use (default: the first output)")
    made.add_argument(
        "--classes",
        metavar="A,B,..",
        help="show only these classes, by name or number, in overlays and legends; NAME.png keeps all",
    )
    made.add_argument(
        "--alpha",
        type=fraction,
        default=0.5,
        metavar="A",
        help="how strong the tint is, 0 to 1 (default: 0.5)",
    )
    made.add_argument(
        "--contours",
        type=at_least(1),
        nargs="?",
        const=AUTO,
        metavar="PIXELS",
        help="draw a line along the edges of regions, too (default: as wide as suits the picture)",
    )
    made.add_argument(
        "--scores",
        action="store_true",
        help=f"write NAME{SCORES}, too: scores (classes, height, width) as the net gives them, and the classes' names",
    )
    made.add_argument(
        "--sheet", type=Path, metavar="FILE", help="a contact sheet of all overlays, .jpg or .png"
    )
    made.add_argument(
        "--max-pixels",
        type=at_least(1),
        metavar="N",
        help=f"refuse pictures of more pixels (default: {MOST_PIXELS}; with --memory, what can be decoded in that)",
    )
    add_memory_option(made)
    add_device_options(made)
    return made


@dataclass(frozen=True)
class Job:
    """A picture to segment: where it is (or what standard input held), and the name of its results without ending."""

    source: Path | bytes
    stem: str

    def __str__(self) -> str:
        return str(self.source) if isinstance(self.source, Path) else "standard input"

    def size(self) -> tuple[int, int]:
        """Its height and width, from its header alone."""
        return picture_size(self._file())

    def read(self, most_pixels: int) -> np.ndarray:
        """Its pixels, (H, W, 3) uint8 RGB, upright."""
        return read_photo(self._file(), most_pixels)

    def _file(self) -> Path | io.BytesIO:
        return self.source if isinstance(self.source, Path) else io.BytesIO(self.source)


@dataclass(frozen=True)
class Style:
    """The form of the results, and which of them are written.

    Attributes
    ----------
    names : sequence of str
        The classes'.
    only : list of int or None
        Those shown.
    contours : int
        Pixels, or AUTO.
    """

    names: Sequence[str]
    alpha: float = 0.5
    only: list[int] | None = None
    contours: int = 0
    with_scores: bool = False

    def overlay(self, pixels: np.ndarray, label: np.ndarray, background: int | None) -> np.ndarray:
        """The picture tinted with its labels, above a legend."""
        width = max(1, round(max(label.shape) / 250)) if self.contours == AUTO else self.contours
        return vis.overlay(
            pixels,
            label,
            alpha=self.alpha,
            background=background,
            classes=self.names,
            only=self.only,
            contours=width,
        )


def jobs_of(words: Sequence[str], out: Path) -> list[Job]:
    """The pictures that the words name: files, folders, patterns, standard input.

    Raises
    ------
    InputError
        A folder or pattern has no pictures, or two results would have one name.
    """
    found: list[tuple[Path | bytes, Path]] = []  # source, and the name that its results' are made of
    for word in words:
        path = Path(word)
        if word == STDIN:
            found.append((sys.stdin.buffer.read(), Path("stdin")))
        elif path.is_dir():
            found += [(each, each.relative_to(path)) for each in _pictures_in(path, out)]
        elif glob.has_magic(word) and not path.exists():
            matching = sorted(Path(each) for each in glob.glob(word, recursive=True) if os.path.isfile(each))
            if not matching:
                raise InputError(f"'{word}' matches no file")
            found += [(each, Path(each.name)) for each in matching]
        else:
            found.append((path, Path(path.name)))
    return [Job(source, stem) for (source, _), stem in zip(found, stems([name for _, name in found]))]


def _pictures_in(folder: Path, out: Path) -> list[Path]:
    """Picture files of a folder and those in it, but for results of earlier runs that lie there."""
    inside = out.resolve()
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file() and inside not in path.resolve().parents
    ]
    if not found:
        raise InputError(f"{folder} has no pictures ({', '.join(PICTURE_SUFFIXES)})")
    return found


def chosen_classes(given: str | None, names: Sequence[str]) -> list[int] | None:
    """The classes that --classes names.

    Raises
    ------
    InputError
        A word is neither a class's name nor its number.
    """
    if given is None:
        return None
    numbers = []
    for word in (word.strip() for word in given.split(",")):
        if word in names:
            numbers.append(list(names).index(word))
        elif word.isdecimal() and int(word) < len(names):
            numbers.append(int(word))
        else:
            raise InputError(
                f"--classes: '{word}' is no class{nearest(word, names) or f'; there are {chr(44).join(names)}'}"
            )
    return numbers


def stems(names: Sequence[Path]) -> list[str]:
    """Names for the results of pictures: their own without suffix, or with it where two would be the same."""
    bare = [name.with_suffix("").as_posix() for name in names]
    counts = Counter(bare)
    made = [
        stem if counts[stem] == 1 else name.with_name(name.name.replace(".", "_")).as_posix()
        for name, stem in zip(names, bare)
    ]
    twice = next((name for name, stem in zip(names, made) if made.count(stem) > 1), None)
    if twice is not None:
        raise InputError(
            f"two pictures called {twice.name} would overwrite each other's results in one folder"
        )
    return made


def segment(
    net: Segmenter,
    job: Job,
    out: Path,
    output: str,
    style: Style,
    most_pixels: int | None = None,
    memory: int | None = None,
) -> np.ndarray:
    """Segment one picture and write its results; returns the label map."""
    pixels = job.read(_most_pixels(job, most_pixels, memory))
    try:
        scores = net.scores(pixels, output=output, memory=memory) if style.with_scores else None
        label = net.predict(pixels, output=output, memory=memory) if scores is None else _best(scores)
        check_size(output, label, pixels.shape[:2])
    except InputError as error:
        raise InputError(f"{job}: {error}") from None
    (out / job.stem).parent.mkdir(parents=True, exist_ok=True)
    vis.write_label(out / f"{job.stem}{LABEL}", label)
    vis.write_image(out / f"{job.stem}{OVERLAY}", style.overlay(pixels, label, net.notes.background))
    if scores is not None:
        with atomic_path(out / f"{job.stem}{SCORES}") as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, scores=scores, classes=np.array(style.names))
    return label


def _most_pixels(job: Job, wanted: int | None, memory: int | None) -> int:
    """The pixels up to which a picture is read; one that cannot be read, and shown, within the memory is refused."""
    if wanted is not None or memory is None or device.current().name != "cpu":
        return wanted or MOST_PIXELS
    height, width = job.size()
    check_readable(str(job), (height, width), SHOWN_BYTES, memory)
    return height * width


def _best(scores: np.ndarray) -> np.ndarray:
    """Each pixel's class: the first of the highest."""
    return scores.argmax(0).astype(np.uint8 if len(scores) <= 256 else np.int32)


def _try_segment(
    net: Segmenter,
    job: Job,
    out: Path,
    output: str,
    style: Style,
    most_pixels: int | None,
    memory: int | None,
) -> tuple[np.ndarray | None, str]:
    """The label map of one picture, or what is wrong with it; the next one may be better."""
    try:
        return segment(net, job, out, output, style, most_pixels, memory), ""
    except (InputError, OSError, MemoryError) as error:
        return None, in_one_line(error)


def _write_sheet(path: Path, jobs: Sequence[Job], out: Path) -> None:
    """A contact sheet of the overlays that are there."""
    pictures = [(job.stem, out / f"{job.stem}{OVERLAY}") for job in jobs]
    small = [(stem, read_small(overlay, vis.CELL)) for stem, overlay in pictures if overlay.is_file()]
    if small:
        vis.write_image(path, vis.contact_sheet(small))
        print(printable(f"contact sheet: {path}"))


def _check_places(options: argparse.Namespace, jobs: Sequence[Job]) -> None:
    """Refuse results that would overwrite what is read, and places where none can be."""
    endings = (LABEL, OVERLAY, SCORES) if options.scores else (LABEL, OVERLAY)
    results = [options.out / f"{job.stem}{ending}" for job in jobs for ending in endings]
    if options.sheet is not None:
        if options.sheet.suffix.lower() not in vis.WRITTEN:
            raise InputError(f"--sheet {options.sheet}: name a .jpg or .png file")
        results.append(options.sheet)
    read = [job.source for job in jobs if isinstance(job.source, Path)]
    refuse_overwrite([*read, options.weights], results)
    if options.out.exists() and not options.out.is_dir():
        raise InputError(f"--out {options.out} is a file; name a folder for the results")


@guarded("fcnlite predict", together=True)
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    options = parser().parse_args(arguments)
    use_device(options.device, options.threads, options.fast)
    if STDIN in options.images and (world().size > 1 or options.images.count(STDIN) > 1):
        raise InputError("standard input holds one picture, for one process")
    jobs = jobs_of(options.images, options.out)
    _check_places(options, jobs)
    net = load_net(options)
    net.notes = net.notes.use(options.mean, options.scale)
    output = picture_scores(net, options.output)
    names = class_names(net, output)
    only = chosen_classes(options.classes, names)
    style = Style(names, options.alpha, only, options.contours or 0, options.scores)
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"pixels: {net.notes.pixels}{'' if net.notes.told else ASSUMED}")
    failed = 0
    bar = progress_bar(hidden=len(jobs) < 2, total=len(jobs), unit="image", leave=False)
    with bar:
        for first in range(0, len(jobs), world().size):
            own = jobs[first : first + world().size][world().rank :][:1]
            limits = options.max_pixels, options.memory
            found = [_try_segment(net, job, options.out, output, style, *limits) for job in own]
            for job, (label, mistake) in zip(jobs[first:], world().in_turn(found)):
                bar.update()
                if label is None:
                    failed += 1
                    tqdm.write(f"fcnlite predict: error: {mistake}", file=sys.stderr)
                    continue
                with tqdm.external_write_mode():
                    print(printable(f"{job} -> {options.out / job.stem}{LABEL}"))
                    vis.print_legend(label, names, only=only)
    if options.sheet is not None and world().leads:
        _write_sheet(options.sheet, jobs, options.out)
    return BAD_INPUT if failed else 0
