"""pycaffe's `caffe.Classifier`: image classification with any classifier net."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fcnlite.caffe import io
from fcnlite.caffe.net import Net
from fcnlite.proto import TEST


class Classifier(Net):
    """A net with the preparation of its images.

    Parameters
    ----------
    model_file, pretrained_file : path
        Prototxt and weights.
    image_dims : sequence of int, optional
        Height and width that images are scaled to ahead of cropping; the net's own input size by default.
    mean, input_scale, raw_scale, channel_swap : optional
        As for `fcnlite.caffe.io.Transformer`.
    """

    def __init__(
        self,
        model_file: Any,
        pretrained_file: Any,
        image_dims: Sequence[int] | None = None,
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
    ):
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.transformer = make_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].shape[2:])
        self.image_dims = tuple(self.crop_dims) if image_dims is None else tuple(image_dims)

    def predict(self, inputs: Sequence[np.ndarray], oversample: bool = True) -> np.ndarray:
        """Class probabilities of images.

        Parameters
        ----------
        inputs : sequence of numpy.ndarray
            (H, W, K) images.
        oversample : bool
            Average over the corners, the centre and their mirror images, instead of taking the centre alone.

        Returns
        -------
        numpy.ndarray
            (N, classes).
        """
        images = [io.resize_image(image, self.image_dims) for image in inputs]
        if oversample:
            crops = io.oversample(images, self.crop_dims.tolist())
        else:
            top, left = ((np.array(self.image_dims) - self.crop_dims) // 2).tolist()
            height, width = self.crop_dims.tolist()
            crops = np.stack([image[top : top + height, left : left + width] for image in images])
        name = self.inputs[0]
        prepared = np.stack([self.transformer.preprocess(name, crop) for crop in crops])
        predictions = self.forward_all(None, **{name: prepared})[self.outputs[0]]
        if oversample:
            predictions = predictions.reshape(len(images), 10, *predictions.shape[1:]).mean(axis=1)
        return predictions


def make_transformer(
    net: Net,
    mean: np.ndarray | None,
    input_scale: float | None,
    raw_scale: float | None,
    channel_swap: Sequence[int] | None,
) -> io.Transformer:
    """The transformer of a net's first input, for (H, W, C) images."""
    name = net.inputs[0]
    transformer = io.Transformer({name: net.blobs[name].shape})
    transformer.set_transpose(name, (2, 0, 1))
    if mean is not None:
        transformer.set_mean(name, mean)
    if input_scale is not None:
        transformer.set_input_scale(name, input_scale)
    if raw_scale is not None:
        transformer.set_raw_scale(name, raw_scale)
    if channel_swap is not None:
        transformer.set_channel_swap(name, channel_swap)
    return transformer
