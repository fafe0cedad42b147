"""pycaffe's `caffe.Detector`: a classifier run on windows of images, as R-CNN does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fcnlite.caffe import io
from fcnlite.caffe.classifier import make_transformer
from fcnlite.caffe.net import Net
from fcnlite.errors import InputError
from fcnlite.proto import TEST


class Detector(Net):
    """A net with the preparation of windows of images.

    Parameters
    ----------
    model_file, pretrained_file : path
        Prototxt and weights; the input is square.
    mean, input_scale, raw_scale, channel_swap : optional
        As for `fcnlite.caffe.io.Transformer`.
    context_pad : int, optional
        So many pixels along each side of the net's input show what surrounds the window; what lies outside the
        image is the mean.
    """

    def __init__(
        self,
        model_file: Any,
        pretrained_file: Any,
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        context_pad: int | None = None,
    ):
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.transformer = make_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.configure_crop(context_pad)

    def detect_windows(self, images_windows: Iterable[tuple[Any, Sequence[Any]]]) -> list[dict[str, Any]]:
        """Run the net on windows of images, each warped to the net's input.

        Parameters
        ----------
        images_windows : iterable of (path, windows)
            Windows are (ymin, xmin, ymax, xmax) in pixels.

        Returns
        -------
        list of dict
            With `filename`, `window` and `prediction`, in the order given.
        """
        found, crops = [], []
        for filename, windows in images_windows:
            image = io.load_image(filename)
            for window in windows:
                crops.append(self.crop(image, window))
                found.append({"filename": filename, "window": window})
        if not crops:
            return []
        name = self.inputs[0]
        prepared = np.stack([self.transformer.preprocess(name, crop) for crop in crops])
        predictions = self.forward_all(None, **{name: prepared})[self.outputs[0]]
        for detection, prediction in zip(found, predictions):
            detection["prediction"] = prediction
        return found

    def crop(self, im: np.ndarray, window: Sequence[float]) -> np.ndarray:
        """The window (ymin, xmin, ymax, xmax) of an (H, W, K) image, with its surroundings if so configured."""
        top, left, bottom, right = (int(edge) for edge in window)
        if not self.context_pad:
            return im[top:bottom, left:right]
        size = self.blobs[self.inputs[0]].width
        grown = size / (size - 2 * self.context_pad)
        half = np.array((bottom - top + 1, right - left + 1)) / 2
        centre = np.array((top, left)) + half
        start, stop = np.round(centre - grown * half), np.round(centre + grown * half)
        scale = size / (stop - start + 1)  # input pixels for an image pixel
        before = np.round(np.maximum(0, -start) * scale).astype(int)  # what lies outside the image
        start, stop = np.clip(start, 0, im.shape[:2]), np.clip(stop, 0, im.shape[:2])
        if (stop - start < 1).any():
            raise InputError(
                f"the window {tuple(window)} lies outside the image of {im.shape[0]} x {im.shape[1]}"
            )
        inside = np.minimum(np.round((stop - start + 1) * scale).astype(int), size - before)
        (y0, x0), (y1, x1) = start.astype(int), stop.astype(int)
        out = np.ones(self.crop_dims, np.float32) * self.crop_mean
        (y, x), (height, width) = before, inside
        out[y : y + height, x : x + width] = io.resize_image(im[y0:y1, x0:x1], inside)
        return out

    def configure_crop(self, context_pad: int | None) -> None:
        """Set how much of the surroundings windows are cropped with."""
        name = self.inputs[0]
        channels, height, width = self.blobs[name].shape[1:]
        self.crop_dims = (height, width, channels)
        self.context_pad = context_pad
        mean = self.transformer.mean.get(name)
        # In the images' own space, that is before the transformer has touched them.
        self.crop_mean: np.ndarray = np.zeros(self.crop_dims, np.float32)
        if mean is not None:
            planes = np.asarray(mean, np.float32)
            if name in self.transformer.channel_swap:
                planes = planes[np.argsort(self.transformer.channel_swap[name])]
            self.crop_mean = planes.transpose(1, 2, 0) / self.transformer.raw_scale.get(name, 1)
