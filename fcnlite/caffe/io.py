"""pycaffe's `caffe.io`: images to net inputs and back, and arrays to Caffe's records and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from fcnlite.caffe.proto import caffe_pb2  # noqa: F401  (scripts read it here, as in pycaffe)
from fcnlite.data.encoded import decode
from fcnlite.data.files import open_image
from fcnlite.errors import InputError
from fcnlite.proto import BlobProto, BlobProtoVector, Datum

_LUMINANCE = np.array((0.2125, 0.7154, 0.0721), np.float32)  # of red, green, blue

# Records


def blobproto_to_array(blob: Any, return_diff: bool = False) -> np.ndarray:
    """The array in a BlobProto.

    Parameters
    ----------
    blob : BlobProto
    return_diff : bool
        The diff instead of the data.

    Returns
    -------
    numpy.ndarray
        Of the blob's shape; of four axes where it gives the old num, channels, height, width.

    Raises
    ------
    ValueError
        The shape does not fit the number of values.
    """
    single, double = (blob.diff, blob.double_diff) if return_diff else (blob.data, blob.double_data)
    values = np.array(single) if len(single) or not len(double) else np.array(double)
    if any(blob.HasField(name) for name in ("num", "channels", "height", "width")):
        return values.reshape(blob.num, blob.channels, blob.height, blob.width)
    return values.reshape(tuple(blob.shape.dim))


def array_to_blobproto(arr: np.ndarray, diff: np.ndarray | None = None) -> Any:
    """A BlobProto of an array, and of a diff of the same shape."""
    blob = BlobProto()
    blob.shape.dim.extend(arr.shape)
    blob.data.extend(arr.astype(float).flat)
    if diff is not None:
        blob.diff.extend(diff.astype(float).flat)
    return blob


def arraylist_to_blobprotovector_str(arraylist: Sequence[np.ndarray]) -> bytes:
    """Several arrays as the bytes of a BlobProtoVector."""
    return BlobProtoVector(blobs=map(array_to_blobproto, arraylist)).SerializeToString()


def blobprotovector_str_to_arraylist(text: bytes) -> list[np.ndarray]:
    """The arrays in the bytes of a BlobProtoVector."""
    return [blobproto_to_array(blob) for blob in BlobProtoVector.FromString(text).blobs]


def array_to_datum(arr: np.ndarray, label: int | None = None) -> Any:
    """A Datum of a (C, H, W) array: bytes if it is uint8, else floats."""
    if arr.ndim != 3:
        raise ValueError(f"a Datum holds channels x height x width; the array has shape {arr.shape}")
    datum = Datum()
    datum.channels, datum.height, datum.width = arr.shape
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.astype(float).flat)
    if label is not None:
        datum.label = label
    return datum


def datum_to_array(datum: Any) -> np.ndarray:
    """The (C, H, W) array in a Datum, without its label; an encoded image is decoded."""
    if datum.encoded:
        return decode(datum.data)
    shape = datum.channels, datum.height, datum.width
    if len(datum.data):
        return np.frombuffer(datum.data, np.uint8).reshape(shape).copy()
    return np.array(datum.float_data, float).reshape(shape)


# Inputs


class Transformer:
    """Turns images into what a net takes, and back.

    `preprocess` resizes, transposes, swaps channels, scales, subtracts the mean and scales again, in this
    order, each as far as it has been set for the input.

    Parameters
    ----------
    inputs : mapping of str to sequence of int
        The shape (N, C, H, W) of each input blob.
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]):
        self.inputs = inputs
        self.transpose: dict[str, Sequence[int]] = {}
        self.channel_swap: dict[str, Sequence[int]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, np.ndarray] = {}
        self.input_scale: dict[str, float] = {}

    def preprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """An (H, W, K) image as (K, H, W) float32 of the size that input `in_` has."""
        self._check(in_)
        out = np.array(data, np.float32)
        size = tuple(self.inputs[in_][2:])
        if out.shape[:2] != size:
            out = resize_image(out, size)
        if in_ in self.transpose:
            out = out.transpose(self.transpose[in_])
        if in_ in self.channel_swap:
            out = out[list(self.channel_swap[in_]), :, :]
        if in_ in self.raw_scale:
            out = out * np.float32(self.raw_scale[in_])
        if in_ in self.mean:
            out = (out - self.mean[in_]).astype(np.float32)
        if in_ in self.input_scale:
            out = out * np.float32(self.input_scale[in_])
        return out

    def deprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """The image of an input blob: `preprocess` undone, but for the size."""
        self._check(in_)
        out = np.array(data).squeeze()
        if in_ in self.input_scale:
            out = out / self.input_scale[in_]
        if in_ in self.mean:
            out = out + self.mean[in_]
        if in_ in self.raw_scale:
            out = out / self.raw_scale[in_]
        if in_ in self.channel_swap:
            out = out[np.argsort(self.channel_swap[in_]), :, :]
        if in_ in self.transpose:
            out = out.transpose(np.argsort(self.transpose[in_]))
        return out

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of axes: (2, 0, 1) makes (H, W, C) into (C, H, W)."""
        self._check(in_)
        if len(order) != len(self.inputs[in_]) - 1:
            raise InputError(
                f"transpose order {tuple(order)} has {len(order)} axes, input '{in_}' {len(self.inputs[in_]) - 1}"
            )
        self.transpose[in_] = order

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of channels, which are the first axis once transposed: (2, 1, 0) makes RGB into BGR."""
        self._check(in_)
        if len(order) != self.inputs[in_][1]:
            raise InputError(
                f"channel order {tuple(order)} has {len(order)} channels, input '{in_}' {self.inputs[in_][1]}"
            )
        self.channel_swap[in_] = order

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """Set what images are multiplied by ahead of the mean: 255 for images in 0 .. 1 and nets that take 0 .. 255."""
        self._check(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean: np.ndarray) -> None:
        """Set the mean to subtract: (C,) for each channel, or (C, H, W) or (H, W), resized to the input."""
        self._check(in_)
        channels, *size = self.inputs[in_][1:]
        mean = np.asarray(mean)
        if mean.ndim == 1:
            if len(mean) != channels:
                raise InputError(f"the mean has {len(mean)} channels, input '{in_}' {channels}")
            mean = mean[:, np.newaxis, np.newaxis]
        elif mean.ndim not in (2, 3):
            raise InputError(f"a mean of shape {mean.shape} is neither (C,) nor (H, W) nor (C, H, W)")
        elif (1, *mean.shape)[-3:] != (channels, *size):
            planes = mean.reshape(-1, *mean.shape[-2:])
            mean = resize_image(planes.transpose(1, 2, 0), size).transpose(2, 0, 1)
        self.mean[in_] = mean

    def set_input_scale(self, in_: str, scale: float) -> None:
        """Set what the input is multiplied by behind the mean."""
        self._check(in_)
        self.input_scale[in_] = scale

    def _check(self, in_: str) -> None:
        if in_ not in self.inputs:
            raise InputError(f"'{in_}' is not an input of the net; its inputs are {', '.join(self.inputs)}")


# Images


def load_image(filename: Any, color: bool = True) -> np.ndarray:
    """Read an image.

    Parameters
    ----------
    filename : path
    color : bool
        RGB, else luminance.

    Returns
    -------
    numpy.ndarray
        (H, W, 3), or (H, W, 1) without colour, float32 in 0 .. 1; transparency is dropped.
    """
    image = open_image(filename)
    deep = image.mode.startswith("I")  # 16 bits of grey
    if not deep and image.mode not in ("L", "RGB", "F"):
        image = image.convert("L" if image.mode in ("1", "LA") else "RGB")
    pixels = np.asarray(image, np.float32) / (65535 if deep else 1 if image.mode == "F" else 255)
    if pixels.ndim == 2:
        return np.repeat(pixels[:, :, np.newaxis], 3 if color else 1, axis=2)
    return pixels if color else (pixels @ _LUMINANCE)[:, :, np.newaxis]


def resize_image(im: np.ndarray, new_dims: Sequence[int], interp_order: int = 1) -> np.ndarray:
    """Resize an (H, W, K) image by interpolation.

    Parameters
    ----------
    im : numpy.ndarray
    new_dims : sequence of int
        Height and width.
    interp_order : int
        0 nearest, 1 linear, up to 5.

    Returns
    -------
    numpy.ndarray
        (new_dims[0], new_dims[1], K) float32.

    Notes
    -----
    As scikit-image resized for pycaffe: pixels are areas, values are not smoothed beforehand, and beyond the border
    lies the image's least value. Images of other than 1 or 3 channels align the corner pixels' centres instead.
    """
    height, width = (int(n) for n in new_dims)
    im = np.asarray(im)
    scale = (height / im.shape[0], width / im.shape[1], 1)
    if im.shape[-1] not in (1, 3):
        return ndimage.zoom(im, scale, order=interp_order).astype(np.float32)
    least, most = im.min(), im.max()
    if most == least:
        return np.full((height, width, im.shape[-1]), least, np.float32)
    unit = (im.astype(np.float64) - least) / (most - least)
    out = ndimage.zoom(unit, scale, order=interp_order, mode="grid-constant", cval=0.0, grid_mode=True)
    return (out.clip(0, 1) * (most - least) + least).astype(np.float32)


def oversample(images: Sequence[np.ndarray], crop_dims: Sequence[int]) -> np.ndarray:
    """Cut the four corners and the centre out of each image, and their mirror images.

    Parameters
    ----------
    images : sequence of numpy.ndarray
        (H, W, K), of one size.
    crop_dims : sequence of int
        Height and width of the crops.

    Returns
    -------
    numpy.ndarray
        (10 N, height, width, K) float32: for each image the five crops, then the same five mirrored.
    """
    height, width = (int(n) for n in crop_dims)
    below, right = images[0].shape[0] - height, images[0].shape[1] - width
    if below < 0 or right < 0:
        raise InputError(f"crops of {height} x {width} do not fit into images of {images[0].shape[:2]}")
    corners = [(y, x) for y in (0, below) for x in (0, right)]
    corners.append((int(images[0].shape[0] / 2 - height / 2), int(images[0].shape[1] / 2 - width / 2)))
    crops = []
    for image in images:
        cut = [image[y : y + height, x : x + width] for y, x in corners]
        crops += cut + [crop[:, ::-1] for crop in cut]
    return np.stack(crops).astype(np.float32)
