"""Segment pictures: `fcnlite predict`."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fcnlite import vis
from fcnlite.commands.options import (
    BAD_INPUT,
    Parser,
    add_device_options,
    add_weights_options,
    at_least,
    guarded,
    in_one_line,
    load_net,
    refuse_overwrite,
    use_device,
)
from fcnlite.data.classes import VOC
from fcnlite.data.files import MOST_PIXELS, read_photo
from fcnlite.errors import InputError, printable
from fcnlite.net import Segmenter
from fcnlite.net.segmenter import check_size
from fcnlite.parallel import world

ASSUMED = ", VOC's, as the weights tell none; --mean and --scale give others"
LABEL, OVERLAY = ".png", "_overlay.jpg"  # how the results' names end
_HELP = """\
Segment pictures. For each, OUT gets NAME.png, whose pixel values are the classes (in VOC's palette), and
NAME_overlay.jpg, the picture tinted with them.

  fcnlite predict photo.jpg --weights fcn8s.h5 --out segmented
  fcnlite predict holiday/*.jpg --weights runs/shapes-fcn8s/fcn8s.h5 --out segmented

A photograph taken sideways is turned upright first. A picture that cannot be read does not stop the others; the
exit status then is 2.
"""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = Parser("fcnlite predict", description=_HELP)
    made.add_argument("images", nargs="+", metavar="IMAGE", type=Path, help="picture files")
    made.add_argument(
        "--out", required=True, metavar="DIR", type=Path, help="where the results go; made if missing"
    )
    add_weights_options(made)
    made.add_argument("--output", metavar="BLOB", help="the scores to use (default: the first output)")
    made.add_argument(
        "--max-pixels",
        type=at_least(1),
        default=MOST_PIXELS,
        metavar="N",
        help=f"refuse pictures of more pixels (default: {MOST_PIXELS})",
    )
    add_device_options(made)
    return made


def class_names(net: Segmenter, output: str) -> tuple[str, ...]:
    """Names of a score blob's classes: those kept with the weights, VOC's for 21, else numbers."""
    if output in net.notes.classes:
        return tuple(net.notes.classes[output])
    count = net.blobs[output].shape[1]
    return VOC if count == len(VOC) else tuple(map(str, range(count)))


def _score_blob(net: Segmenter, wanted: str | None) -> str:
    name = wanted or ("score" if "score" in net.blobs else net.outputs[0])
    if name not in net.blobs:
        raise InputError(
            f"--output {name}: the net has no such blob; its outputs are {', '.join(net.outputs)}"
        )
    if len(net.blobs[name].shape) != 4:
        raise InputError(f"blob '{name}' holds no score maps; choose them with --output")
    if len(net.inputs) != 1:
        takes = ", ".join(net.inputs) or "no input"
        raise InputError(f"the net takes {takes}, not one picture; use fcnlite evaluate")
    return name


def stems(images: Sequence[Path]) -> list[str]:
    """Names for each picture's results: its own without suffix, or with it where two would be the same."""
    counts = Counter(path.stem for path in images)
    names = [path.stem if counts[path.stem] == 1 else path.name.replace(".", "_") for path in images]
    twice = next((path for path, name in zip(images, names) if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(
            f"two pictures called {twice.name} would overwrite each other's results in one folder"
        )
    return names


def segment(
    net: Segmenter, image: Path, stem: str, out: Path, output: str, most_pixels: int = MOST_PIXELS
) -> np.ndarray:
    """Segment one picture and write both results; returns the label map."""
    pixels = read_photo(image, most_pixels)
    try:
        label = net.predict(pixels, output=output)
        check_size(output, label, pixels.shape[:2])
    except InputError as error:
        raise InputError(f"{image}: {error}") from None
    names = class_names(net, output)
    vis.write_label(out / f"{stem}{LABEL}", label)
    picture = vis.overlay(pixels, label, background=net.notes.background, classes=names)
    vis.write_image(out / f"{stem}{OVERLAY}", picture)
    return label


def _try_segment(
    net: Segmenter, image: Path, stem: str, out: Path, output: str, most_pixels: int
) -> tuple[np.ndarray | None, str]:
    """The label map of one picture, or what is wrong with it; the next one may be better."""
    try:
        return segment(net, image, stem, out, output, most_pixels), ""
    except (InputError, OSError, MemoryError) as error:
        return None, in_one_line(error)


@guarded("fcnlite predict", together=True)
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    options = parser().parse_args(arguments)
    use_device(options.device, options.threads)
    names = stems(options.images)
    results = [options.out / f"{stem}{ending}" for stem in names for ending in (LABEL, OVERLAY)]
    refuse_overwrite([*options.images, options.weights], results)
    net = load_net(options)
    net.notes = net.notes.use(options.mean, options.scale)
    output = _score_blob(net, options.output)
    if options.out.exists() and not options.out.is_dir():
        raise InputError(f"--out {options.out} is a file; name a folder for the results")
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"pixels: {net.notes.pixels}{'' if net.notes.told else ASSUMED}")
    failed = 0
    jobs = list(zip(options.images, names))
    bar = tqdm(total=len(jobs), unit="image", disable=None if len(names) > 1 else True, leave=False)
    with bar:
        for first in range(0, len(jobs), world().size):
            own = jobs[first : first + world().size][world().rank :][:1]
            found = [
                _try_segment(net, path, stem, options.out, output, options.max_pixels) for path, stem in own
            ]
            for (path, stem), (label, mistake) in zip(jobs[first:], world().in_turn(found)):
                bar.update()
                if label is None:
                    failed += 1
                    tqdm.write(f"fcnlite predict: error: {mistake}", file=sys.stderr)
                    continue
                with tqdm.external_write_mode():
                    print(printable(f"{path} -> {options.out / stem}{LABEL}"))
                    vis.print_legend(label, class_names(net, output))
    return BAD_INPUT if failed else 0
