"""ImageSegData: images with label images from a list (DeepLab, PSPNet)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fcnlite.blob import Blob
from fcnlite.layers.base import register
from fcnlite.layers.forks.image_list import (
    ImageList,
    Sample,
    crop,
    mirrored,
    resize_bilinear,
    resize_nearest,
)
from fcnlite.proto import TRAIN

NONE, IMAGE, PIXEL = range(3)


@register
class ImageSegData(ImageList):
    """Tops: images (N, C, H, W), BGR; labels (N, 1, H, W); and, if there is a third, each image's height and width.

    `image_data_param`: source, a list whose lines name an image and what `label_type` says: PIXEL, a label image;
    IMAGE (the default), one label for all pixels; NONE, nothing, and all labels are `ignore_label` (255). root_folder
    is put before names; batch_size, shuffle, rand_skip, new_height, new_width and is_color are as in ImageData.
    `transform_param`: scale_factors, of which one is drawn to resize by; crop_size, or crop_height and crop_width: at
    random in TRAIN, else the centre, images that are smaller being filled up to the right and below with the mean and
    `ignore_label`; mirror; mean_value or mean_file, of the images' size; scale. Image and label are treated alike,
    but labels never blended.
    (DeepLab's image_seg_data_layer; its own random numbers cannot be repeated.)
    """

    tops = (1, 3)
    messages = ("image_data_param", "transform_param")

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.settings, t = self.param.image_data_param, self.param.transform_param
        self.columns = 1 if self.settings.label_type == NONE else 2
        both = t.HasField("crop_height"), t.HasField("crop_width")
        if both[0] != both[1] or (both[0] and t.crop_size):
            raise self.fail("give either crop_size or both crop_height and crop_width")
        self.crop = (t.crop_size, t.crop_size) if t.crop_size else (int(t.crop_height), int(t.crop_width))
        if any(factor <= 0 for factor in t.scale_factors):
            raise self.fail(f"scale_factors {list(t.scale_factors)} must be positive")
        super().setup(bottom, top)

    def is_random(self) -> bool:
        """True if anything is drawn."""
        crops = self.crop[0] and self.phase == TRAIN
        return bool(super().is_random() or crops or self.param.transform_param.scale_factors)

    def sample(self, words: list[str], rng: np.random.Generator) -> Sample:
        """A line's image and labels, scaled, cropped and mirrored alike."""
        t = self.param.transform_param
        image = self.read_image(words[0])
        label = self._label(words, image)
        sample = self.pair(words, image, label)
        mirror = t.mirror and rng.integers(2)
        if t.scale_factors:
            factor = t.scale_factors[int(rng.integers(len(t.scale_factors)))]
            size = (max(1, int(label.shape[0] * factor)), max(1, int(label.shape[1] * factor)))
            sample = Sample(resize_bilinear(image, *size), resize_nearest(label, *size), size)
        sample = self.centred(sample, words[0])
        if self.crop[0]:
            sample = self._cropped(sample, rng)
        return mirrored(sample) if mirror else sample

    def _label(self, words: list[str], image: np.ndarray) -> np.ndarray:
        kind = self.settings.label_type
        if kind == PIXEL:
            return self.read_label(words[1])
        value = self.settings.ignore_label
        if kind == IMAGE:
            try:
                value = int(words[1])
            except ValueError:
                raise self.fail(
                    f"'{words[1]}', the label of image '{words[0]}', is no number: label images need label_type: PIXEL"
                ) from None
        return np.full(image.shape[:2], value, np.int32)

    def _cropped(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """A window of the crop's size, of the pair filled up to it."""
        height, width = self.crop
        below, right = (max(0, want - have) for want, have in zip(self.crop, sample.label.shape))
        if (below or right) and self.mean_image is not None:
            raise self.fail(
                f"a crop of {height} x {width} reaches beyond an image of {sample.label.shape[0]} x "
                f"{sample.label.shape[1]}, and a mean_file has nothing to fill it with; give mean_value"
            )
        if below or right:
            fill = self.mean if self.mean.size else np.zeros(1, np.float32)
            image = np.empty((*np.add(sample.label.shape, (below, right)), sample.image.shape[2]), np.float32)
            image[...] = fill
            image[: sample.label.shape[0], : sample.label.shape[1]] = sample.image
            label = np.pad(
                sample.label.astype(np.int32),
                ((0, below), (0, right)),
                constant_values=self.settings.ignore_label,
            )
            sample = Sample(image, label, sample.size)
        spare = [have - want for have, want in zip(sample.label.shape, self.crop)]
        if self.phase == TRAIN:
            top, left = (int(rng.integers(n + 1)) for n in spare)
        else:
            top, left = (n // 2 for n in spare)
        return crop(sample, height, width, top, left)
