"""Pictures of segmentations and of training: palette PNGs, overlays, legends, loss curves."""

from __future__ import annotations

import io
import math
import os
import sys
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import maximum_filter, minimum_filter

from fcnlite.data.palette import PALETTE
from fcnlite.errors import InputError
from fcnlite.io.atomic import atomic_buffer

WRITTEN = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}  # formats by suffix
GAP = 6  # pixels of white between pictures side by side
CELL = 240  # pixels of the longer side of a picture on a contact sheet
_BAND = 256  # rows that are tinted at a time
NARROWEST = 240  # pixels that a legend below a picture has at least, so that names can be read


def write_label(path: str | os.PathLike[str], label: np.ndarray) -> None:
    """Write a label map as `encode_label` gives it, whole or not at all."""
    encoded = encode_label(label)
    with atomic_buffer(path) as buffer:
        buffer.write(encoded)


def encode_label(label: np.ndarray) -> bytes:
    """A label map as a palette PNG, as VOC has them and its evaluation server takes them.

    One with labels above 255 becomes a grey-level PNG of 16 bits.

    Parameters
    ----------
    label : numpy.ndarray
        (H, W), whole numbers 0 .. 65535.
    """
    if label.ndim != 2 or label.size == 0 or label.min() < 0 or label.max() > 65535:
        raise ValueError(f"a label map is height x width with values 0 to 65535, not {label.shape}")
    if label.max() < len(PALETTE):
        image = Image.fromarray(label.astype(np.uint8))
        image.putpalette(PALETTE.tobytes())
    else:
        image = Image.fromarray(label.astype(np.uint16))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def write_image(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB pixels as PNG or JPEG, by suffix; whole or not at all.

    Raises
    ------
    InputError
        If the suffix is neither.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in WRITTEN:
        raise InputError(f"cannot write {path}: pictures are written as .png, .jpg or .jpeg")
    with atomic_buffer(path) as buffer:
        Image.fromarray(image).save(buffer, format=WRITTEN[suffix], **_QUALITY[WRITTEN[suffix]])


_QUALITY: dict[str, dict[str, int]] = {"PNG": {}, "JPEG": {"quality": 92}}


def paint(label: np.ndarray) -> np.ndarray:
    """Paint an (H, W) label map in VOC's colours, which begin anew after 256: (H, W, 3) uint8 RGB."""
    return PALETTE[label.astype(np.uint8)]  # which wraps


def overlay(
    image: np.ndarray,
    label: np.ndarray,
    *,
    alpha: float = 0.5,
    background: int | None = 0,
    classes: Sequence[str] | None = None,
    only: Sequence[int] | None = None,
    contours: int = 0,
) -> np.ndarray:
    """An image tinted with its labels' colours.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W, 3) uint8 RGB.
    label : numpy.ndarray
        (H, W).
    alpha : float
        Weight of the label colours, 0 to 1.
    background : int or None
        The label whose pixels stay as they are.
    classes : sequence of str, optional
        Class names: adds a legend of those present below the image, which is put on white where it is narrower than a
        legend has to be.
    only : sequence of int, optional
        Labels to show; the pixels of all others stay as they are.
    contours : int
        Pixels of a line in full colour along the edge of each region; 0 for none.

    Returns
    -------
    numpy.ndarray
        (H or more, W or more, 3) uint8 RGB.
    """
    if image.shape[:2] != label.shape:
        raise ValueError(f"image is {image.shape[:2]} but label is {label.shape}")
    shown = label != background
    if only is not None:
        shown &= np.isin(label, list(only))
    picture: np.ndarray = np.empty(image.shape, np.uint8)
    for begin in range(0, len(label), _BAND):  # the whole as float32 would take much memory
        band = slice(begin, begin + _BAND)
        colours = paint(label[band])
        change = np.float32(alpha) * (colours.astype(np.float32) - image[band])
        picture[band] = image[band] + change * shown[band, :, np.newaxis] + 0.5
        if contours:
            first = max(0, begin - contours)
            line = edges(label[first : begin + _BAND + contours], contours)[begin - first :][: len(colours)]
            line &= shown[band]
            picture[band][line] = colours[line]
    if classes is None:
        return picture
    if only is not None and background is not None:
        label = np.where(shown, label, background)
    return _stacked(picture, legend(label, classes, max(picture.shape[1], NARROWEST)))


def edges(label: np.ndarray, width: int) -> np.ndarray:
    """(H, W) bool: the pixels no more than `width` away from one with another label, by rows and columns."""
    size = 2 * width + 1
    return maximum_filter(label, size, mode="nearest") != minimum_filter(label, size, mode="nearest")


def contact_sheet(
    pictures: Sequence[tuple[str, np.ndarray]], columns: int = 0, cell: int = CELL
) -> np.ndarray:
    """Small pictures (H, W, 3) in rows, each above its name: (h, w, 3) uint8 RGB.

    Parameters
    ----------
    pictures : sequence of (str, array)
        Those larger than `cell` pixels are shrunk to it.
    columns : int
        0 chooses: about as many as rows, ten at most.
    """
    columns = columns or min(10, len(pictures), max(1, math.ceil(math.sqrt(len(pictures)))))
    font = _font(cell)
    head = _line_height(font)
    small = []
    for name, picture in pictures:
        image = Image.fromarray(picture)
        image.thumbnail((cell, cell), Image.Resampling.LANCZOS)
        small.append((name, image))
    rows = [small[i : i + columns] for i in range(0, len(small), columns)]
    tall = [max(image.height for _, image in row) + head + GAP for row in rows]
    sheet = Image.new("RGB", (columns * (cell + GAP) + GAP, sum(tall) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    top = GAP
    for row, height in zip(rows, tall):
        for i, (name, image) in enumerate(row):
            left = GAP + i * (cell + GAP)
            sheet.paste(image, (left, top))
            draw.text((left, top + image.height + 1), _fitted(name, cell, font), fill="black", font=font)
        top += height
    return np.array(sheet)


def _stacked(*pictures: np.ndarray) -> np.ndarray:
    """Pictures below one another, on white as wide as the widest."""
    width = max(picture.shape[1] for picture in pictures)
    return np.vstack(
        [
            np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=255)
            if p.shape[1] < width
            else p
            for p in pictures
        ]
    )


def side_by_side(pictures: Mapping[str, np.ndarray]) -> np.ndarray:
    """Put pictures (H, W, 3) of any sizes next to each other on white, each under its title."""
    width = sum(p.shape[1] for p in pictures.values()) + GAP * (len(pictures) - 1)
    font = _font(width)
    head = _line_height(font)
    sheet = Image.new("RGB", (width, head + max(p.shape[0] for p in pictures.values())), "white")
    draw = ImageDraw.Draw(sheet)
    left = 0
    for title, picture in pictures.items():
        sheet.paste(Image.fromarray(picture), (left, head))
        draw.text((left + 2, 1), _fitted(title, picture.shape[1] - 2, font), fill="black", font=font)
        left += picture.shape[1] + GAP
    return np.array(sheet)


def legend(label: np.ndarray, classes: Sequence[str], width: int = 320) -> np.ndarray:
    """Draw a strip with a swatch and the name of each class in `label`: (h, width, 3) uint8 RGB.

    Names stand in columns as wide as the widest, in the order of the classes; labels that are no class come last, as
    void.
    """
    font = _font(width)
    line = _line_height(font)
    room = width - line - line // 8 - 4
    present = [(k, _fitted(classes[k], room, font)) for k in _present(label, classes)]
    odd = label[(label < 0) | (label >= len(classes))]
    if odd.size:
        present.append((int(odd.flat[0]), "void"))
    widest = max((int(np.ceil(font.getlength(name))) for _, name in present), default=0)
    cell = min(width - 4, line + widest + line)
    columns = max(1, min((width - 4) // max(cell, 1), len(present)))
    rows = -(-len(present) // columns)
    strip = Image.new("RGB", (width, max(rows, 1) * line + 4), "white")
    draw = ImageDraw.Draw(strip)
    for i, (k, name) in enumerate(present):
        x, y = 4 + i // rows * cell, 2 + i % rows * line
        box = (x, y + 2, x + line - 4, y + line - 4)
        draw.rectangle(box, fill=tuple(PALETTE[k % len(PALETTE)].tolist()), outline="black")
        draw.text((x + line + line // 8, y), name, fill="black", font=font)
    return np.array(strip)


def legend_text(
    label: np.ndarray, classes: Sequence[str], *, colour: bool = False, only: Sequence[int] | None = None
) -> str:
    """Write lines "swatch name percent" of the classes in `label`, or of those of `only`, most pixels first.

    Swatches are ANSI 24-bit colours and appear only if `colour`. Void does not count towards the percentages.
    """
    length = max(256, len(classes))
    bands = (label[i : i + _BAND].ravel().astype(np.intp) for i in range(0, len(label), _BAND))
    counts = sum((np.bincount(band, minlength=length)[:length] for band in bands), np.zeros(length, np.intp))
    counts = counts[: len(classes)]
    listed = [k for k in np.flatnonzero(counts).tolist() if only is None or k in only]
    present = sorted(listed, key=lambda k: -counts[k])
    wide = max((len(classes[k]) for k in present), default=0)
    lines = []
    for k in present:
        red, green, blue = PALETTE[k % len(PALETTE)]
        swatch = f"\x1b[48;2;{red};{green};{blue}m  \x1b[0m " if colour else ""
        lines.append(f"{swatch}{classes[k]:<{wide}}  {100 * counts[k] / counts.sum():5.1f} %")
    return "\n".join(lines)


def print_legend(
    label: np.ndarray,
    classes: Sequence[str],
    stream: TextIO | None = None,
    only: Sequence[int] | None = None,
) -> None:
    """Print `legend_text`, in colour where the stream is a terminal and NO_COLOR is not set."""
    out = sys.stdout if stream is None else stream
    colour = out.isatty() and not os.environ.get("NO_COLOR")
    text = legend_text(label, classes, colour=colour, only=only)
    if text:
        print(text, file=out)


def write_loss_curve(
    path: str | os.PathLike[str],
    iterations: Sequence[float],
    loss: Sequence[float],
    lr: Sequence[float] | None = None,
    *,
    smooth: int = 20,
    title: str = "training loss",
    validations: Sequence[tuple[int, float | None, float | None]] = (),
) -> None:
    """Draw the loss over the iterations, its running mean, and the learning rate, as a PNG.

    Parameters
    ----------
    path : path
        PNG file, written whole or not at all.
    iterations, loss : sequences of the same length
        The loss axis is logarithmic where all are positive and span more than a factor of 20.
    lr : sequence, optional
        Learning rates: a second axis if they change, a word in the title if not.
    smooth : int
        Losses in the running mean.
    title : str
    validations : sequence of (int, float or None, float or None)
        Iteration, loss and mean IU of each validation: the losses as points beside those of training, the mean IU on an
        axis of its own below.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if len(iterations) != len(loss) or (lr is not None and len(lr) != len(loss)):
        raise ValueError("iterations, loss and lr must have the same length")
    if not len(loss):
        raise ValueError("no losses to draw")
    x, y = np.asarray(iterations, float), np.asarray(loss, float)
    figure = Figure(figsize=(8, 6 if validations else 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes, *below = (
        figure.subplots(2, 1, sharex=True, height_ratios=(3, 1)) if validations else [figure.subplots()]
    )
    axes.plot(x, y, color="#9ecae1", linewidth=0.8, label="loss")
    if smooth > 1 and len(y) > 1:
        axes.plot(x, running_mean(y, smooth), color="#08519c", linewidth=1.8, label=f"mean of {smooth}")
    measured = [(at, value) for at, value, _ in validations if value is not None]
    if measured:
        axes.plot(
            *zip(*measured), color="#a50f15", marker="o", markersize=3, linewidth=1.2, label="validation loss"
        )
    known = y[np.isfinite(y)]
    if known.size and known.min() > 0 and known.max() > 20 * known.min():
        axes.set_yscale("log")
    axes.set(xlabel="iteration", ylabel="loss", title=title)
    axes.grid(alpha=0.3)
    lines = list(axes.get_lines())
    if lr is not None and len(set(lr)) > 1:
        rate = axes.twinx()
        lines += rate.plot(x, np.asarray(lr, float), color="#e6550d", linewidth=1, label="learning rate")
        rate.set_ylabel("learning rate")
        if min(lr) > 0 and max(lr) > 20 * min(lr):
            rate.set_yscale("log")
    elif lr is not None:
        axes.set_title(f"{title}, learning rate {lr[0]:g}")
    axes.legend(handles=lines, loc="upper right")
    for part in below:
        scored = [(at, value) for at, _, value in validations if value is not None]
        part.plot(
            [at for at, _ in scored],
            [value for _, value in scored],
            color="#238b45",
            marker="o",
            markersize=3,
        )
        part.set(xlabel="iteration", ylabel="mean IU", ylim=(0, 1))
        part.grid(alpha=0.3)
        axes.set_xlabel("")
    with atomic_buffer(path) as buffer:
        figure.savefig(buffer, format="png", dpi=110)


def running_mean(values: np.ndarray, length: int) -> np.ndarray:
    """Average each value with up to `length` - 1 before it."""
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - length, 0)
    return (total[end] - total[start]) / (end - start)


def _present(label: np.ndarray, classes: Sequence[str]) -> list[int]:
    return [int(k) for k in np.unique(label) if 0 <= k < len(classes)]


def _font(width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Letters that can still be read when a picture of `width` pixels is shrunk to fit a screen."""
    return ImageFont.load_default(max(12, width // 80))


def _line_height(font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    return int(font.getbbox("Ag")[3]) + 5


def _fitted(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The longest beginning of a text that is no wider than `width` pixels, in time linear in that width."""
    lengths = range(1, min(len(text), width) + 1)
    return text[: bisect_right(lengths, width, key=lambda n: int(np.ceil(font.getlength(text[:n]))))]
