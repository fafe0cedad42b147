"""ImageData: images that a text file lists, with their labels (Caffe's ImageDataLayer)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

import fcnlite.random
from fcnlite.blob import Blob
from fcnlite.data import opencv
from fcnlite.data.files import open_image, read_text
from fcnlite.errors import InputError
from fcnlite.layers.base import register
from fcnlite.layers.sources.batches import ImageBatches, Label, Transform


@register
class ImageData(ImageBatches):
    """Tops: images as BGR (N, C, H, W), in the list's order round and round, and with a second top their labels (N,).

    `image_data_param`: source, a text file, each line of which names an image file, which may have spaces in it, and
    ends with a space and a label; root_folder, put before each name; batch_size (1); new_height and new_width, to which
    images are resized; is_color (true), else grey; shuffle, anew in each round; rand_skip, at most how many lines less
    one to begin with. `transform_param` as in Data.

    Instead of a number each line may name a label image (which Caffe does not know): grey levels or palette indices are
    classes, the second top is (N, 1, H, W), and crop and mirror treat image and label alike; resized, labels take the
    nearest pixel.

    Images are read and resized as OpenCV does it, crops, mirrors and shuffles drawn as Caffe draws them. Images of a
    batch must have one size; single images may each have their own.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.image_data_param
        if p.batch_size < 1:
            raise self.fail("batch_size is missing or 0")
        if bool(p.new_height) != bool(p.new_width):
            raise self.fail("new_height and new_width must be given together")
        self.batch, self._root = int(p.batch_size), p.root_folder
        self.transform = Transform(self)
        self._lines = self._read_list(self.find_file(p.source))
        self._order = Order(len(self._lines), fcnlite.random.draw() if p.shuffle else None)
        self._skip = fcnlite.random.draw() % p.rand_skip if p.rand_skip else 0
        if self._skip >= len(self._lines):
            raise self.fail(f"rand_skip came to {self._skip} of {len(self._lines)} lines; make it smaller")
        self.transform.start()

    def read(self, position: int) -> tuple[np.ndarray, Label]:
        p = self.param.image_data_param
        name, given = self._lines[self._order[position + self._skip]]
        try:
            image = opencv.read(self._path(name), p.is_color)
            label = self._read_label(given, image) if isinstance(given, str) else given
        except InputError as error:
            raise self.fail(str(error)) from None
        if not p.new_height:
            return image, label
        if isinstance(label, np.ndarray):
            label = _nearest(label, int(p.new_height), int(p.new_width))
        return opencv.resize(image, int(p.new_height), int(p.new_width)), label

    def name_of(self, position: int) -> str:
        return f"image '{self._lines[self._order[position + self._skip]][0]}'"

    def _path(self, name: str) -> Path:
        return self.find_file(self._root + name)

    def _read_label(self, name: str, image: np.ndarray) -> np.ndarray:
        path = self._path(name)
        label = open_image(path)
        if label.mode not in ("P", "L", "1"):
            raise InputError(
                f"label image {path} has mode {label.mode}; its grey levels or palette indices must be classes"
            )
        values = np.asarray(label).astype(np.uint8)[None]
        if values.shape[1:] != image.shape[1:]:
            raise InputError(f"label image {path} has size {values.shape[1:]}, its image {image.shape[1:]}")
        return values

    def _read_list(self, path: Path) -> list[tuple[str, float | str]]:
        """Names and labels of the list's lines; Caffe takes a label that is no number for 0."""
        lines = [(i, line) for i, line in enumerate(read_text(path).splitlines(), 1) if line.strip()]
        if not lines:
            raise self.fail(f"the list '{path}' names no image")
        read: list[tuple[str, float | str]] = []
        for number, line in lines:
            name, _, label = line.rstrip().rpartition(" ")
            if not name:
                raise self.fail(f"{path}:{number}: a name and a label are needed, with a space between them")
            read.append((name, _number(label)))
            if isinstance(read[-1][1], str) != isinstance(read[0][1], str):
                raise self.fail(
                    f"{path}:{number}: '{label}' is another kind of label than that of the first line"
                )
        return read


def _number(label: str) -> float | str:
    """The label as a number, or the name of a label image."""
    try:
        return float(int(label))
    except ValueError:
        return label


def _nearest(label: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns = (np.arange(new) * old // new for new, old in zip((height, width), label.shape[1:]))
    return label[:, rows][:, :, columns]


class Order:
    """Round after round, the numbers 0 .. count - 1: in order, or shuffled in each as Caffe shuffles.

    Parameters
    ----------
    count : int
    seed : int or None
        Of the shuffles; None for none.
    """

    def __init__(self, count: int, seed: int | None):
        self._count, self._seed = count, seed
        self._rounds = -1  # shuffles made so far, less one
        self._numbers = list(range(count))

    def __getitem__(self, position: int) -> int:
        wanted, index = divmod(position, self._count)
        if self._seed is not None:
            if wanted < self._rounds or self._rounds < 0:
                self._rounds, self._numbers = -1, list(range(self._count))
                self._twister = fcnlite.random.twister(self._seed)
            while self._rounds < wanted:
                self._shuffle()
        return self._numbers[index]

    def _shuffle(self) -> None:
        self._rounds += 1
        for last in range(self._count - 1, 0, -1):
            other = fcnlite.random.uniform_int(self._twister, last)
            self._numbers[last], self._numbers[other] = self._numbers[other], self._numbers[last]
