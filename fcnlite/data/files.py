"""Readers of the files of data sets: lists of ids, images, label maps.

A mistake in a file is told in one line that names the file.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fcnlite.errors import InputError, check_name

LABEL_SUFFIXES = (".png", ".PNG")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")
# Formats of photographs and label maps. Pillow knows fifty more; one of them (EPS) starts another program.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
MOST_PIXELS = 80_000_000  # of a picture; it takes under 1 GB to decode


def read_text(path: Path) -> str:
    """A text file's content."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file: {error}") from None


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without those that are blank and spaces at either end."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def read_list(path: str | os.PathLike) -> list[str]:
    """The ids a split file lists, one a line; blank lines do not count.

    Raises
    ------
    FileNotFoundError
        If the file is missing; the message names the lists that the folder has instead.
    InputError
        If the list is empty, is not text, or holds an id that leads out of the data folder.
    """
    path = Path(path)
    if not path.is_file():
        there = sorted(p.stem for p in path.parent.glob("*.txt"))
        have = f"the folder has {', '.join(there)}" if there else "the folder has no lists"
        raise FileNotFoundError(f"split list {path} is missing; {have}")
    names = read_lines(path)
    if not names:
        raise InputError(f"split list {path} is empty: no image to load")
    for name in names:
        _check_inside(name, path)
    return names


class Entry(NamedTuple):
    """A line of a split file: an image's id and, where the line names them, its files.

    `image` and `label` are paths from the data set's folder, "" where the id tells.
    """

    name: str
    image: str = ""
    label: str = ""


def read_entries(path: str | os.PathLike) -> list[Entry]:
    """The lines of a split file of ids, of file names, or of two columns: an image's and its label's file.

    Parameters
    ----------
    path : path
        The ids of names with a suffix are the names without it; an id of two columns is the image's path, from
        JPEGImages on where it lies there. Both are as other programs' lists have them: `a.jpg`, or
        `/JPEGImages/a.jpg /SegmentationClassAug/a.png`.

    Raises
    ------
    FileNotFoundError, InputError
        As `read_list`; or the list holds one id twice, or lines of both kinds.
    """
    lines = [line.split() for line in read_lines(Path(path))] if Path(path).is_file() else []
    if not any(len(line) == 2 and all(map(_is_image, line)) for line in lines):
        names = [name.rpartition(".")[0] if _is_image(name) else name for name in read_list(path)]
        return [Entry(name) for name in names]
    entries = []
    for number, line in enumerate(lines, 1):
        if len(line) != 2:
            raise InputError(
                f"split list {path}, entry {number}: an image and a label, as in other lines, are needed"
            )
        image, label = (name.lstrip("/") for name in line)
        _check_inside(image, path)
        _check_inside(label, path)
        entries.append(Entry(image.removeprefix("JPEGImages/").rpartition(".")[0], image, label))
    twice = next((name for name, count in Counter(e.name for e in entries).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"split list {path} names the image {twice} twice")
    return entries


def _is_image(name: str) -> bool:
    return name.endswith(IMAGE_SUFFIXES)


def is_id(name: str) -> bool:
    """True if a name, as part of a path, cannot lead out of its folder."""
    parts = PurePosixPath(name)
    return not ("\\" in name or "\0" in name or parts.is_absolute() or ".." in parts.parts)


def _check_inside(name: str, path: Path | str | os.PathLike) -> None:
    """Refuse an id that leads out of a folder: ids become file names, for reading and (predictions) for writing."""
    check_name(name, f"split list {path}")
    if not is_id(name):
        raise InputError(f"split list {path}: {name!r} is not an image id")


class Folder:
    """One folder of a data set, listed once: finds an id's file by suffix without asking the disk again.

    Parameters
    ----------
    path : path
        The folder.
    suffixes : sequence of str
        File suffixes to try, in order.
    """

    def __init__(self, path: str | os.PathLike, suffixes: Sequence[str]) -> None:
        self.path = Path(path)
        self.suffixes = tuple(suffixes)
        if not self.path.is_dir():
            raise FileNotFoundError(f"data folder {self.path} is missing")
        self._listed: dict[str, frozenset[str]] = {}

    def find(self, name: str) -> Path | None:
        """Path of `name`'s file, or None where there is none."""
        parent, _, stem = name.rpartition("/")
        if parent not in self._listed:
            folder = self.path / parent
            self._listed[parent] = frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()
        for suffix in self.suffixes:
            if stem + suffix in self._listed[parent]:
                return self.path / (name + suffix)
        return None

    def require(self, names: Iterable[str], what: str, listed_in: object) -> None:
        """Raise FileNotFoundError for the first of `names` without a file; says how many more lack theirs."""
        missing = [name for name in names if self.find(name) is None]
        if missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            path = self.path / (missing[0] + self.suffixes[0])
            raise FileNotFoundError(f"{what} {path} is missing{more}, though {listed_in} lists it")


def open_image(
    path: str | os.PathLike | BinaryIO, most_pixels: int = MOST_PIXELS, grey: bool = False
) -> Image.Image:
    """Decode a picture in one of `FORMATS`; with `grey`, of a JPEG the brightness alone.

    Raises
    ------
    FileNotFoundError, InputError
        There is no such file; it is not such a picture, damaged, or of more than `most_pixels`.
    """
    shown = "from standard input" if isinstance(path, io.BufferedIOBase) else path
    try:
        with _no_bound_of_pillows(), Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > most_pixels:
                raise InputError(
                    f"image {shown} has {image.width} x {image.height} pixels, more than {most_pixels:,}"
                )
            if grey:
                image.draft("L", image.size)
            image.load()
            return image
    except InputError:
        raise
    except FileNotFoundError:
        raise FileNotFoundError(f"image {shown} is missing") from None
    except IsADirectoryError:
        raise InputError(f"{shown} is a folder, not an image") from None
    except UnidentifiedImageError:
        raise InputError(f"cannot read image {shown}: not a picture in a known format") from None
    except Exception as error:  # a decoder may raise anything over a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"cannot read image {shown}: {reason}") from None


def picture_size(path: str | os.PathLike | BinaryIO) -> tuple[int, int]:
    """Height and width of a picture, from its header alone.

    Raises
    ------
    FileNotFoundError, InputError
        As for `open_image`.
    """
    try:
        with _no_bound_of_pillows(), Image.open(path, formats=FORMATS) as image:
            return image.height, image.width
    except Exception:
        image = open_image(path)  # says what is wrong
        return image.height, image.width


@contextmanager
def _no_bound_of_pillows() -> Iterator[None]:
    """Leave the number of pixels to the caller, who knows the user's bound."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def to_rgb(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 RGB pixels of a PIL image of any mode; 16-bit grey is scaled, transparency dropped."""
    if image.mode.startswith("I;16") or (image.mode == "I" and np.asarray(image).max() > 255):
        # PIL would clip these at 255 instead.
        grey = (np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def read_image(path: str | os.PathLike) -> np.ndarray:
    """The image at `path` as (H, W, 3) uint8 RGB, whatever its mode (grey, palette, CMYK, RGBA, ...).

    Raises
    ------
    FileNotFoundError
        If it is missing.
    InputError
        If it cannot be decoded.
    """
    return to_rgb(open_image(path))


def read_photo(path: str | os.PathLike | BinaryIO, most_pixels: int = MOST_PIXELS) -> np.ndarray:
    """Read a picture as `read_image` does, turned upright where the camera noted (in EXIF) that it was held sideways.

    For pictures to look at; a data set's images stay as they are stored, since its label maps are drawn on that.
    """
    image = open_image(path, most_pixels)
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # a damaged note on how the camera was held: the picture stays as it is
        pass
    return to_rgb(image)


def read_small(path: str | os.PathLike[str], longest: int) -> np.ndarray:
    """Read a picture as `read_image` does, shrunk so that its longer side has at most so many pixels."""
    image = open_image(path)
    image = Image.fromarray(to_rgb(image))
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return np.asarray(image)


def read_label(path: str | os.PathLike, classes: int, ignore: int = 255) -> np.ndarray:
    """The label map at `path`, a palette or grey-level image whose pixel values are the classes.

    Parameters
    ----------
    path : path
        Image file (VOC: a palette PNG).
    classes : int
        Labels 0 .. classes - 1 are valid, and `ignore`.
    ignore : int
        The void label.

    Returns
    -------
    numpy.ndarray
        (H, W) uint8.

    Raises
    ------
    FileNotFoundError
        If it is missing.
    InputError
        If it cannot be decoded, is a colour image, or holds a label out of range.
    """
    image = open_image(path)
    if image.mode not in ("P", "L", "1", "I") and not image.mode.startswith("I;16"):
        raise InputError(
            f"label {path} is a {image.mode} image; a label must be a palette or grey-level image "
            "whose pixel values are class numbers"
        )
    return check_label(np.asarray(image), path, classes, ignore)


def check_label(label: np.ndarray, path: object, classes: int, ignore: int = 255) -> np.ndarray:
    """`label` as (H, W) uint8, every value being a class or `ignore`; else InputError naming `path`."""
    if label.ndim != 2:
        raise InputError(f"label {path} has shape {label.shape}; expected height x width")
    if label.dtype != np.uint8:
        if label.dtype.kind not in "biuf" or not np.array_equal(label, np.trunc(label)):
            raise InputError(f"label {path} holds values that are not whole numbers")
        bad = label[(label < 0) | (label > 255)]
        if bad.size:
            raise InputError(_out_of_range(path, bad[0], classes, ignore))
        label = label.astype(np.uint8)
    allowed = np.zeros(256, bool)
    allowed[:classes] = True
    allowed[ignore] = True
    valid = allowed[label]
    if not valid.all():
        raise InputError(_out_of_range(path, label[~valid][0], classes, ignore))
    return np.array(label)


def _out_of_range(path: object, value: object, classes: int, ignore: int) -> str:
    void = f", or {ignore} for void" if ignore >= classes else ""
    return f"label {path} holds the value {value}; labels are 0 to {classes - 1}{void}"


def same_size(image: np.ndarray, label: np.ndarray, image_path: object, label_path: object) -> None:
    """Raise InputError if an image and its label map differ in height or width."""
    if image.shape[:2] != label.shape[:2]:
        raise InputError(
            f"label {label_path} is {label.shape[1]} x {label.shape[0]} but "
            f"image {image_path} is {image.shape[1]} x {image.shape[0]}"
        )


def missing_folder(what: str, looked: Iterable[object], how: str) -> FileNotFoundError:
    """The error of a data set that is not there: what, where it was looked for, how to get it."""
    places = ", ".join(dict.fromkeys(str(place) for place in looked))
    return FileNotFoundError(f"{what} not found: looked in {places}; {how}")
