"""DenseImageData: images with label images from a list (SegNet, ENet)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fcnlite.blob import Blob
from fcnlite.layers.base import register
from fcnlite.layers.forks.image_list import ImageList, Sample, crop, mirrored


@register
class DenseImageData(ImageList):
    """Tops: images (N, C, H, W), BGR, and labels (N, 1, H, W).

    `transform_param`: mean_value or mean_file, subtracted, and scale, multiplied.

    `dense_image_data_param`: source, a list whose lines name an image and its label image; root_folder, put before
    both; batch_size; shuffle and rand_skip; new_height and new_width; is_color; mirror, for every other pair at
    random; crop_height and crop_width, at random in both phases; ENet's label_divide_factor, by which labels are
    smaller than new_height and new_width say. (SegNet's dense_image_data_layer; its own random numbers cannot be
    repeated.)
    """

    tops = (2, 2)
    messages = ("dense_image_data_param", "transform_param")

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.settings = p = self.param.dense_image_data_param
        t = self.param.transform_param
        if t.mirror or t.crop_size:
            raise self.fail(
                "mirror and crop of transform_param would treat image and label apart; give mirror, crop_height and "
                "crop_width in dense_image_data_param"
            )
        if p.HasField("mean_file"):
            raise self.fail("mean_file has no effect there; give it, or mean_value, in transform_param")
        if bool(p.crop_height) != bool(p.crop_width):
            raise self.fail("crop_height and crop_width must be given together")
        if p.label_divide_factor < 1 or (p.label_divide_factor > 1 and not p.new_height):
            raise self.fail("label_divide_factor must be at least 1, and needs new_height and new_width")
        super().setup(bottom, top)

    def is_random(self) -> bool:
        """True if anything is drawn."""
        p = self.settings
        return bool(p.shuffle or p.rand_skip or p.mirror or p.crop_height)

    def sample(self, words: list[str], rng: np.random.Generator) -> Sample:
        """A line's image and labels, mirrored and cropped alike."""
        p = self.settings
        image, label = self.read_image(words[0]), self.read_label(words[1], p.label_divide_factor)
        if p.label_divide_factor == 1:
            sample = self.pair(words, image, label)
        else:
            sample = Sample(image, label, image.shape[:2])
        sample = self.centred(sample, words[0])
        if p.mirror and rng.integers(2):
            sample = mirrored(sample)
        if not p.crop_height:
            return sample
        height, width = sample.image.shape[:2]
        if p.crop_height > height or p.crop_width > width or p.label_divide_factor > 1:
            raise self.fail(
                f"a crop of {p.crop_height} x {p.crop_width} is larger than image '{words[0]}', or its label smaller"
            )
        top, left = rng.integers(height - p.crop_height + 1), rng.integers(width - p.crop_width + 1)
        return crop(sample, p.crop_height, p.crop_width, int(top), int(left))
