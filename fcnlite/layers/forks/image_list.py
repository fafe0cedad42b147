"""Pairs of an image and its label image from a list, for DenseImageData and ImageSegData."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fcnlite.random
from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.data.files import open_image, read_lines, to_rgb
from fcnlite.layers.base import Layer
from fcnlite.layers.sources.batches import read_mean


class Sample(NamedTuple):
    """An image, (H, W, channels) of BGR or (H, W, 1) of grey, its labels (H, W), and how much is not filling."""

    image: np.ndarray
    label: np.ndarray
    size: tuple[int, int]


class ImageList(Layer):
    """A layer whose tops are batches of a list's images, less a mean and scaled, and of their labels.

    Each line of the list names an image and what belongs to it, from `root_folder`, or beside the prototxt. Random
    numbers for an image (mirror, crop, scale) depend on the seed and its place in the run alone, so that a run can be
    resumed.

    Subclasses give the settings, and make a sample of a line.
    """

    bottoms = (0, 0)
    settings: Any
    columns = 2  # words that a line must have

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p, t = self.settings, self.param.transform_param
        if p.batch_size < 1:
            raise self.fail("batch_size is missing or 0")
        if bool(p.new_height) != bool(p.new_width):
            raise self.fail("new_height and new_width must be given together")
        if t.HasField("mean_file") and t.mean_value:
            raise self.fail("mean_file and mean_value cannot both be given")
        self.root, self.batch, self.scale = p.root_folder, int(p.batch_size), np.float32(t.scale)
        self.mean = np.array(t.mean_value, np.float32)
        self.mean_image = read_mean(self, t.mean_file).transpose(1, 2, 0) if t.HasField("mean_file") else None
        self.channels = 3 if p.is_color else 1
        if self.mean.size not in (0, 1, self.channels):
            raise self.fail(f"{self.mean.size} values of mean_value for {self.channels} channels")
        self.lines = self._read_list(p.source)
        self._seed = fcnlite.random.draw() if self.is_random() else 0
        self._skip = int(np.random.default_rng(self._seed).integers(p.rand_skip)) if p.rand_skip else 0
        self._position, self._every = 0, (1, 0)
        self._first: tuple[int, Sample] | None = None  # what reshape has read, and where

    def is_random(self) -> bool:
        """True if anything is drawn."""
        p, t = self.settings, self.param.transform_param
        return bool(p.shuffle or p.rand_skip or t.mirror or t.crop_size)

    def sample(self, words: list[str], rng: np.random.Generator) -> Sample:
        """A line's image and labels, as they go into a batch."""
        raise NotImplementedError

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        # The first image of a batch says how large it is, so that single images may each have their own size.
        if self._first is None or self._first[0] != self._position:
            self._first = self._position, self._read(self._position)
        image, label, _ = self._first[1]
        top[0].reshape(self.batch, image.shape[2], *image.shape[:2])
        if len(top) > 1:
            top[1].reshape(self.batch, 1, *label.shape)
        if len(top) > 2:
            top[2].reshape(self.batch, 1, 1, 2)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        assert self._first is not None  # reshape comes first
        samples = [self._first[1], *(self._read(self._position + i) for i in range(1, self.batch))]
        for i, sample in enumerate(samples):
            if sample.image.shape != samples[0].image.shape or sample.label.shape != samples[0].label.shape:
                raise self.fail(
                    f"image '{self._words(self._position + i)[0]}' has {_size(sample.image)} pixels, the first of its "
                    f"batch {_size(samples[0].image)}; give a crop, new_height and new_width, or batch_size 1"
                )
        images = np.stack([sample.image for sample in samples]).astype(np.float32)
        images = (images - self.mean if self.mean.size else images) * self.scale
        values = [images.transpose(0, 3, 1, 2), np.stack([sample.label for sample in samples])[:, None]]
        values.append(np.array([sample.size for sample in samples]).reshape(-1, 1, 1, 2))
        for blob, array in zip(top, values):
            blob.new_data()[...] = device.current().asarray(array)
        self._position += self.batch * self._every[0]

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        pass

    def seek(self, position: int) -> None:
        """Go on as if `position` forwards had been made."""
        step, first = self._every
        self._position = (position + (first - position) % step) * self.batch

    def take_every(self, step: int, first: int) -> bool:
        """Serve the batches number first, first + step, .. only; `seek` counts all."""
        self._every = step, first
        self.seek(0)
        return True

    def read_image(self, name: str) -> np.ndarray:
        """An image file as a sample has it."""
        picture, p = open_image(self._path(name)), self.settings
        image = to_rgb(picture)[:, :, ::-1] if p.is_color else np.asarray(picture.convert("L"))[..., None]
        return resize_bilinear(image, int(p.new_height), int(p.new_width)) if p.new_height else image

    def read_label(self, name: str, divisor: int = 1) -> np.ndarray:
        """A label image: palette indices or grey levels; never blended where the image is resized."""
        path, p = self._path(name), self.settings
        picture = open_image(path)
        if picture.mode not in ("P", "L", "1"):
            raise self.fail(
                f"label '{path}' is a {picture.mode} image; its pixel values must be class numbers, in a palette or "
                "grey-level image"
            )
        label = np.asarray(picture).astype(np.uint8)
        return (
            resize_nearest(label, p.new_height // divisor, p.new_width // divisor) if p.new_height else label
        )

    def centred(self, sample: Sample, name: str) -> Sample:
        """A sample less the image of `mean_file`, if there is one, before anything of it is cut off."""
        if self.mean_image is None:
            return sample
        if self.mean_image.shape != sample.image.shape:
            mean, image = (
                tuple(array.shape[i] for i in (2, 0, 1)) for array in (self.mean_image, sample.image)
            )
            raise self.fail(f"the mean has shape {mean}, image '{name}' {image}")
        return sample._replace(image=sample.image.astype(np.float32) - self.mean_image)

    def pair(self, words: list[str], image: np.ndarray, label: np.ndarray) -> Sample:
        """Image and label together; an error unless they have one size."""
        if image.shape[:2] != label.shape:
            raise self.fail(
                f"image '{words[0]}' has {_size(image)} pixels, its label '{words[1]}' {_size(label)}; they must agree"
            )
        return Sample(image, label, label.shape)

    def _path(self, name: str) -> Path:
        # The forks put root_folder and name together as text, so that "images/" and "/a.png" are one path.
        return self.find_file(self.root + name if self.root else name)

    def _read_list(self, source: str) -> list[list[str]]:
        path = self.find_file(source)
        lines = [(i, line.split()) for i, line in enumerate(read_lines(path), 1) if line.strip()]
        for number, words in lines:
            if len(words) < self.columns:
                raise self.fail(f"{path}:{number}: {self.columns} names are needed, an image and its label")
        if not lines:
            raise self.fail(f"the list '{path}' names no image")
        return [words for _, words in lines]

    def _words(self, position: int) -> list[str]:
        epoch, index = divmod(position + self._skip, len(self.lines))
        if self.settings.shuffle:
            index = int(np.random.default_rng([self._seed, epoch]).permutation(len(self.lines))[index])
        return self.lines[index]

    def _read(self, position: int) -> Sample:
        return self.sample(self._words(position), np.random.default_rng([self._seed, position, 1]))


def crop(sample: Sample, height: int, width: int, top: int, left: int) -> Sample:
    """A window of both."""
    rows, columns = slice(top, top + height), slice(left, left + width)
    size = min(height, sample.size[0]), min(width, sample.size[1])
    return Sample(sample.image[rows, columns], sample.label[rows, columns], size)


def mirrored(sample: Sample) -> Sample:
    """Both, left and right exchanged."""
    return Sample(sample.image[:, ::-1], sample.label[:, ::-1], sample.size)


def resize_bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W, C) uint8 resized as OpenCV's INTER_LINEAR does: centres meet, nothing is averaged where it shrinks."""
    values = image.astype(np.float32)
    for axis, size in enumerate((height, width)):
        old = values.shape[axis]
        place = np.clip((np.arange(size) + 0.5) * (old / size) - 0.5, 0, old - 1)
        low = place.astype(np.intp)
        part = (place - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        high = np.minimum(low + 1, old - 1)
        values = values.take(low, axis) * (1 - part) + values.take(high, axis) * part
    return np.rint(values).astype(np.uint8)


def resize_nearest(label: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W) resized as OpenCV's INTER_NEAREST does."""
    rows = np.arange(height) * label.shape[0] // height
    columns = np.arange(width) * label.shape[1] // width
    return label[rows][:, columns]


def _size(array: np.ndarray) -> str:
    return f"{array.shape[0]} x {array.shape[1]}"
