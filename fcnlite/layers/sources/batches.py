"""Batches of images with their labels: what Data and ImageData share, Caffe's DataTransformer foremost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

import fcnlite.random
from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.layers.base import Layer
from fcnlite.proto import TRAIN, BlobProto

Label = float | np.ndarray  # a number, or a label map (1, H, W)


class ImageBatches(Layer):
    """Tops: batches of transformed images (N, C, H, W), one after another, and, with a second top, their labels.

    Subclasses set `batch` and `transform` in setup, and read single images.
    """

    bottoms = (0, 0)
    tops = (1, 2)
    batch: int
    transform: Transform
    _position = 0
    _step, _start = 1, 0  # batches that it takes: number start, start + step, ..
    _deal, _hand = 1, 0  # images that it takes, with as many solvers: number hand, hand + deal, ..
    _first: tuple[int, tuple[np.ndarray, Label]] | None = None  # what reshape has read, and where

    def read(self, position: int) -> tuple[np.ndarray, Label]:
        """Image (C, H, W) number `position` of an endless row, and its label."""
        raise NotImplementedError

    def name_of(self, position: int) -> str:
        """Name of that image in errors."""
        raise NotImplementedError

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        # The first image of a batch says how large it is, so that single images may each have their own size.
        if self._first is None or self._first[0] != self._position:
            self._first = self._position, self._read(self._position)
        image, label = self._first[1]
        size = self.transform.size(image)
        top[0].reshape(self.batch, image.shape[0], *size)
        if len(top) > 1:
            top[1].reshape(self.batch, *((1, *size) if isinstance(label, np.ndarray) else ()))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        assert self._first is not None  # reshape comes first
        read = [self._first[1], *(self._read(self._position + i) for i in range(1, self.batch))]
        images, labels = [], []
        for i, (image, label) in enumerate(read):
            self.transform.draw(image)
            images.append(self.transform(image))
            labels.append(self.transform.cut(label) if isinstance(label, np.ndarray) else label)
            if images[i].shape != images[0].shape:
                number = (self._position + i) * self._deal + self._hand
                raise self.fail(
                    f"{self.name_of(number)} has shape {images[i].shape}, the first of its batch "
                    f"{images[0].shape}; give a crop_size, or batch_size 1"
                )
        top[0].new_data()[...] = device.current().asarray(np.stack(images))
        if len(top) > 1:
            top[1].new_data()[...] = device.current().asarray(np.stack(labels).astype(np.float32))
        self._position += self.batch * self._step
        self.transform.skip(self.batch * (self._step - 1))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        pass

    def seek(self, position: int) -> None:
        """Go on as if `position` forwards had been made."""
        self._position = (position + self._start) * self.batch
        self.transform.restart(self._position)

    def take_every(self, step: int, first: int) -> bool:
        """Take the batches number first, first + step, .. only, from the beginning; `seek` counts all."""
        self._step, self._start = step, first
        self.seek(0)
        return True

    def deal(self, hands: int, hand: int) -> None:
        """Make batches of the images number hand, hand + hands, .. only, as each of Caffe's parallel solvers does."""
        self._deal, self._hand, self._first = hands, hand, None

    def _read(self, position: int) -> tuple[np.ndarray, Label]:
        return self.read(position * self._deal + self._hand)

    @property
    def seed(self) -> int | None:
        """The seed of its crops and mirrors; None if it draws none."""
        return self.transform.seed


class Transform:
    """The changes that `transform_param` asks for, made to one image after another.

    As in Caffe, the first of the two seeds is drawn before the layer draws anything else, and the one that is used at
    `start`.
    """

    def __init__(self, layer: Layer):
        p = layer.param.transform_param
        self._layer, self._crop, self._mirror = layer, int(p.crop_size), p.mirror
        self._random_crop = bool(self._crop) and layer.phase == TRAIN
        self._scale = np.float32(p.scale)
        self._mean_file = read_mean(layer, p.mean_file) if p.HasField("mean_file") else None
        self._mean_value = np.array(p.mean_value, np.float32)
        if self._mean_file is not None and self._mean_value.size:
            raise layer.fail("mean_file and mean_value cannot both be given")
        self.seed: int | None = None
        self.mirrored, self._top, self._left = False, 0, 0
        if self.is_random:
            fcnlite.random.draw()

    @property
    def is_random(self) -> bool:
        """True if anything is drawn."""
        return self._mirror or self._random_crop

    def start(self) -> None:
        """Begin with the stream of draws, and draw what Caffe seeds the layer's thread with."""
        if self.is_random:
            self.seed = _seed(self._layer, self._crop * self._random_crop, self._mirror)
            self.restart(0)
        fcnlite.random.draw()

    def restart(self, images: int) -> None:
        """Rewind the random stream to where it stood after `images` images."""
        if self.seed is not None:
            self._twister = fcnlite.random.twister(self.seed)
            self.skip(images)

    def skip(self, images: int) -> None:
        """Pass over the draws for so many images."""
        draws = images * (int(self._mirror) + 2 * int(self._random_crop))
        if draws:
            self._twister.random_raw(draws, output=False)

    def size(self, image: np.ndarray) -> tuple[int, int]:
        """Height and width that an image will have."""
        height, width = image.shape[1:]
        if self._crop > min(height, width):
            raise self._layer.fail(f"crop_size {self._crop} is more than the {height} x {width} of an image")
        return (self._crop, self._crop) if self._crop else (height, width)

    def draw(self, image: np.ndarray) -> None:
        """Draw mirror and crop for an image (C, H, W)."""
        (height, width), (whole_height, whole_width) = self.size(image), image.shape[1:]
        self.mirrored = self._mirror and self._draw(2) == 1
        if self._random_crop:
            self._top = self._draw(whole_height - height + 1)
            self._left = self._draw(whole_width - width + 1)
        else:
            self._top, self._left = (whole_height - height) // 2, (whole_width - width) // 2

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The image, less the mean, cut and scaled."""
        return self.cut(image.astype(np.float32) - self._mean(image)) * self._scale

    def cut(self, array: np.ndarray) -> np.ndarray:
        """The window (C, h, w) of an image or a label map, mirrored or not, as drawn."""
        height, width = self.size(array)
        window = array[:, self._top : self._top + height, self._left : self._left + width]
        return window[:, :, ::-1] if self.mirrored else window

    def _draw(self, count: int) -> int:
        return int(self._twister.random_raw() % count)

    def _mean(self, image: np.ndarray) -> Any:
        if self._mean_file is not None:
            if self._mean_file.shape != image.shape:
                raise self._layer.fail(f"the mean has shape {self._mean_file.shape}, an image {image.shape}")
            return self._mean_file
        if self._mean_value.size > 1 and self._mean_value.size != len(image):
            raise self._layer.fail(f"{self._mean_value.size} values of mean_value for {len(image)} channels")
        return self._mean_value.reshape(-1, 1, 1) if self._mean_value.size else np.float32(0)


_together: ContextVar[dict[int, tuple[int, int, bool, str]] | None] = ContextVar("seeds", default=None)


@contextmanager
def drawing_together() -> Iterator[None]:
    """Let the layers of the nets built meanwhile draw the same crops and mirrors, as an image and its labels need.

    Caffe has nothing like it: each layer draws for itself.
    """
    before = _together.set({})
    try:
        yield
    finally:
        _together.reset(before)


def _seed(layer: Layer, crop: int, mirror: bool) -> int:
    """The seed of a layer's draws: its own, or within `drawing_together` that of the first layer of its phase."""
    seeds = _together.get()
    if seeds is not None and layer.phase in seeds:
        seed, *same, name = seeds[layer.phase]
        if same != [crop, mirror]:
            raise layer.fail(
                f"its crop_size and mirror must be those of layer '{name}', to be drawn with them"
            )
        return seed
    seed = fcnlite.random.draw()
    if seeds is not None:
        seeds[layer.phase] = seed, crop, mirror, layer.name
    return seed


def read_mean(layer: Layer, name: str) -> np.ndarray:
    """The (C, H, W) image in a binaryproto file."""
    path = layer.find_file(name)
    try:
        blob = BlobProto.FromString(path.read_bytes())
        shape = tuple(blob.shape.dim) or (blob.num, blob.channels, blob.height, blob.width)
        return np.array(blob.data, np.float32).reshape(shape[-3:])
    except (DecodeError, OSError, ValueError):
        raise layer.fail(f"the mean '{path}' is not a binaryproto of an image") from None
