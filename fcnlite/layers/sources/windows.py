"""WindowData: regions of images, foreground and background in fixed shares, warped to one size (Caffe's, for R-CNN)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

import fcnlite.random
from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.data import opencv
from fcnlite.data.files import read_text
from fcnlite.errors import InputError, warn
from fcnlite.layers.base import Layer, register
from fcnlite.layers.sources.batches import Transform, read_mean


@dataclass(frozen=True)
class Window:
    """A region of an image, corners included, with its label."""

    image: str
    label: int
    x1: int
    y1: int
    x2: int
    y2: int


@register
class WindowData(Layer):
    """Tops: warped windows (N, C, crop_size, crop_size) of images as BGR, and their labels (N,).

    `window_data_param`: source, a text file of images with their windows (below); root_folder, put before each name;
    batch_size; fg_fraction (0.25), the share of the batch that is foreground, which comes last; fg_threshold and
    bg_threshold (0.5), the overlap from which a window is foreground and below which it is background, of label 0;
    context_pad, pixels of the image around the warped window; crop_mode, "warp", or "square" for the tightest square
    around the window; cache_images; scale. `transform_param`: crop_size, mirror, mean_value or mean_file. What lies
    outside the image stays 0.

    Each image of the file: a line `# index`, its name, channels, height, width, the number of windows, and for each
    `label overlap x1 y1 x2 y2`. Windows and mirroring are drawn as Caffe draws them.
    """

    bottoms = (0, 0)
    tops = (2, 2)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p, t = self.param.window_data_param, self.param.transform_param
        self.batch, self.crop = int(p.batch_size), int(t.crop_size)
        if self.batch < 1 or self.crop < 1:
            raise self.fail("batch_size in window_data_param and crop_size in transform_param are needed")
        if 2 * p.context_pad >= self.crop:
            raise self.fail(f"context_pad {p.context_pad} leaves nothing of crop_size {self.crop}")
        if p.crop_mode not in ("warp", "square"):
            raise self.fail(f'crop_mode is "warp" or "square", not \'{p.crop_mode}\'')
        if t.scale != 1:
            warn(
                f"layer '{self.name}' (WindowData): transform_param's scale has no effect; window_data_param's has"
            )
        # Caffe's transformer draws its two seeds although this layer makes no use of it.
        transformer = Transform(self)
        self._seed = fcnlite.random.draw()
        self._channels = 3
        self._read_source(self.find_file(p.source))
        transformer.start()
        self._mean = self._read_mean()
        self._cache: dict[str, np.ndarray] = {}
        self._step, self._start = 1, 0  # batches that it takes: number start, start + step, ..
        self.seek(0)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        top[0].reshape(self.batch, self._channels, self.crop, self.crop)
        top[1].reshape(self.batch)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        drawn = list(self._draw())
        images = [self._cut_out(window, mirrored) for window, mirrored in drawn]
        top[0].new_data()[...] = device.current().asarray(np.stack(images))
        top[1].new_data()[...] = device.current().asarray([float(window.label) for window, _ in drawn])
        self._pass_over(self._step - 1)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        pass

    def seek(self, position: int) -> None:
        """Go on as if `position` forwards had been made."""
        self._twister = fcnlite.random.twister(self._seed)
        self._pass_over(position + self._start)

    def take_every(self, step: int, first: int) -> bool:
        """Take the batches number first, first + step, .. only, from the beginning; `seek` counts all."""
        self._step, self._start = step, first
        self.seek(0)
        return True

    def _pass_over(self, batches: int) -> None:
        draws = batches * self.batch * (1 + self.param.transform_param.mirror)
        if draws:
            self._twister.random_raw(draws, output=False)

    def _draw(self) -> Iterator[tuple[Window, bool]]:
        """A batch's windows, background first, and whether each is mirrored."""
        p = self.param.window_data_param
        foreground = int(np.float32(self.batch) * np.float32(p.fg_fraction))
        for windows, count in ((self._background, self.batch - foreground), (self._foreground, foreground)):
            for _ in range(count):
                window = windows[int(self._twister.random_raw()) % len(windows)]
                mirrored = self.param.transform_param.mirror and int(self._twister.random_raw()) % 2 == 1
                yield window, mirrored

    def _cut_out(self, window: Window, mirrored: bool) -> np.ndarray:
        """The window warped, in an image of zeros where it does not reach."""
        image = self._image(window.image)
        box, size, offset = self._place(window, image.shape[1:], mirrored)
        x1, y1, x2, y2 = box
        if not (0 <= x1 <= x2 < image.shape[2] and 0 <= y1 <= y2 < image.shape[1] and min(size) > 0):
            raise self.fail(
                f"window {box} of '{window.image}' does not lie in its {image.shape[2]} x {image.shape[1]}"
            )
        warped = opencv.resize(image[:, y1 : y2 + 1, x1 : x2 + 1], *size).astype(np.float32)
        warped = warped[:, :, ::-1] if mirrored else warped
        there = slice(offset[0], offset[0] + size[0]), slice(offset[1], offset[1] + size[1])
        mean = self._mean if self._mean.shape[1:] == (1, 1) else self._mean[:, there[0], there[1]]
        out = np.zeros((len(image), self.crop, self.crop), np.float32)
        out[:, there[0], there[1]] = (warped - mean) * np.float32(self.param.window_data_param.scale)
        return out

    def _place(
        self, window: Window, shape: tuple[int, ...], mirrored: bool
    ) -> tuple[tuple[int, int, int, int], tuple[int, int], tuple[int, int]]:
        """The region of an image of (height, width), its size once warped, and where that goes (down, right)."""
        p = self.param.window_data_param
        box = window.x1, window.y1, window.x2, window.y2
        if not p.context_pad and p.crop_mode != "square":
            return box, (self.crop, self.crop), (0, 0)
        across = _expand(window.x1, window.x2, window.y1, window.y2, self.crop, p.context_pad, p.crop_mode)
        down = _expand(window.y1, window.y2, window.x1, window.x2, self.crop, p.context_pad, p.crop_mode)
        (x1, x2, width, left, right), (y1, y2, height, above, _) = (
            _clip(begin, end, size, self.crop)
            for (begin, end), size in ((across, shape[1]), (down, shape[0]))
        )
        side = right if mirrored else left  # the padding is mirrored, too
        size = min(height, self.crop - above), min(width, self.crop - side)
        return (x1, y1, x2, y2), size, (above, side)

    def _image(self, name: str) -> np.ndarray:
        if name in self._cache:
            return self._cache[name]
        try:
            image = opencv.read(self.find_file(self.param.window_data_param.root_folder + name))
        except InputError as error:
            raise self.fail(str(error)) from None
        if self.param.window_data_param.cache_images:
            self._cache[name] = image
        return image

    def _read_mean(self) -> np.ndarray:
        """(C or 1, 1, 1), or the middle of a mean image, (C, crop_size, crop_size)."""
        t = self.param.transform_param
        values = np.array(t.mean_value, np.float32).reshape(-1, 1, 1)
        if not t.HasField("mean_file"):
            if len(values) not in (0, 1, self._channels):
                raise self.fail(f"{len(values)} values of mean_value for {self._channels} channels")
            return values if len(values) else np.zeros((1, 1, 1), np.float32)
        if len(values):
            raise self.fail("mean_file and mean_value cannot both be given")
        mean = read_mean(self, t.mean_file)
        off = (mean.shape[2] - self.crop) // 2
        middle = mean[:, off : off + self.crop, off : off + self.crop] if off >= 0 else mean
        if middle.shape != (self._channels, self.crop, self.crop):
            raise self.fail(f"the mean has shape {mean.shape}, too little for crop_size {self.crop}")
        return middle

    def _read_source(self, path: Path) -> None:
        """Read the windows of all images, and part foreground from background by their overlap."""
        p = self.param.window_data_param
        self._foreground: list[Window] = []
        self._background: list[Window] = []
        read: list[str] = []  # images so far
        try:
            for window, channels, overlap in windows_of(iter(read_text(path).split()), read):
                if channels != 3:
                    raise ValueError(f"its images have {channels} channels; they are read in colour, with 3")
                if overlap >= np.float32(p.fg_threshold):
                    if window.label < 1:
                        raise ValueError(f"it has a foreground window of label {window.label}")
                    self._foreground.append(window)
                elif overlap < np.float32(p.bg_threshold):
                    self._background.append(replace(window, label=0))
        except ValueError as error:
            where = f"image {len(read)}, '{read[-1]}'" if read else "its beginning"
            raise self.fail(f"'{path}' cannot be taken for a list of windows, at {where}: {error}") from None
        for kind, windows in (("foreground", self._foreground), ("background", self._background)):
            if not windows:
                raise self.fail(f"'{path}' has no {kind} window; see fg_threshold and bg_threshold")


def windows_of(words: Iterator[str], read: list[str]) -> Iterator[tuple[Window, int, np.float32]]:
    """Each window of a list, with its image's channels and its overlap; adds the images' names to `read`."""
    while (mark := next(words, None)) is not None:
        if mark != "#":
            raise ValueError(f"'{mark}' instead of #")
        _, name, channels, _, _, count = _take(6, words)
        read.append(name)
        for _ in range(int(count)):
            label, overlap, *box = _take(6, words)
            yield Window(name, int(label), *map(int, box)), int(channels), np.float32(overlap)


def _take(count: int, words: Iterator[str]) -> list[str]:
    taken = list(islice(words, count))
    if len(taken) < count:
        raise ValueError("it ends too early")
    return taken


def _expand(
    begin: int, end: int, other_begin: int, other_end: int, crop: int, pad: int, mode: str
) -> tuple[int, int]:
    """A side of a window with its context: so much more that warped to `crop` it has `pad` pixels of it at each end."""
    scale = np.float32(crop) / np.float32(crop - 2 * pad)
    half, other = np.float32((end - begin + 1) / 2), np.float32((other_end - other_begin + 1) / 2)
    centre = np.float32(begin) + half
    reach = max(half, other) if mode == "square" else half
    return _round(centre - reach * scale), _round(centre + reach * scale)


def _clip(begin: int, end: int, size: int, crop: int) -> tuple[int, int, int, int, int]:
    """A side cut off at the image's borders: where it begins and ends, its length once warped, and what it lacks."""
    before, after = max(0, -begin), max(0, end - size + 1)
    scale = np.float32(crop) / np.float32(end - begin + 1)
    begin, end = begin + before, end - after
    length = _round(np.float32(end - begin + 1) * scale)
    return begin, end, length, _round(np.float32(before) * scale), _round(np.float32(after) * scale)


def _round(value: np.float32) -> int:
    """C's round: halves go away from zero."""
    return int(math.copysign(math.floor(abs(float(value)) + 0.5), value))
