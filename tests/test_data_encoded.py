"""Encoded images of databases, as OpenCV gives them to Caffe: channels, their order, what is refused."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fcnlite.caffe.io import datum_to_array
from fcnlite.data.encoded import decode
from fcnlite.errors import InputError
from fcnlite.proto import Datum

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 4, 3), np.uint8)
GREY = RNG.integers(0, 256, (5, 4), np.uint8)
OPACITY = RNG.integers(0, 256, (5, 4), np.uint8)
BGR = RGB[:, :, ::-1].transpose(2, 0, 1)


def png(pixels: np.ndarray, mode: str | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels, mode).save(buffer, "PNG", **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png16(pixels: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, (H, W) or (H, W, 3) uint16, which Pillow does not write in colour."""
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_grey_is_one_channel_and_colour_three_from_blue_to_red() -> None:
    np.testing.assert_array_equal(decode(png(GREY)), GREY[None])
    np.testing.assert_array_equal(decode(png(RGB)), BGR)
    np.testing.assert_array_equal(decode(png(GREY), color=True), np.repeat(GREY[None], 3, 0))
    np.testing.assert_array_equal(decode(png(np.repeat(GREY[:, :, None], 3, 2)), color=False), GREY[None])


def test_transparency_is_a_fourth_channel_and_left_out_of_forced_colour() -> None:
    data = png(np.dstack([RGB, OPACITY]))
    np.testing.assert_array_equal(decode(data), np.concatenate([BGR, OPACITY[None]]))
    np.testing.assert_array_equal(decode(data, color=True), BGR)
    grey = png(np.dstack([GREY, OPACITY]), "LA")
    np.testing.assert_array_equal(decode(grey), np.stack([GREY, GREY, GREY, OPACITY]))


def test_palettes_give_their_colours_and_opacity_where_they_have_some() -> None:
    image = Image.fromarray(np.arange(20, dtype=np.uint8).reshape(5, 4) % 3, "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    blue = np.array([30, 60, 90], np.uint8)[np.asarray(image)]
    for options, channels in (({}, 3), ({"transparency": b"\xff\x80\x00"}, 4)):
        buffer = io.BytesIO()
        image.save(buffer, "PNG", **options)
        found = decode(buffer.getvalue())
        assert found.shape == (channels, 5, 4)
        np.testing.assert_array_equal(found[0], blue)
        if channels == 4:
            np.testing.assert_array_equal(found[3], np.array([255, 128, 0])[np.asarray(image)])
        assert decode(buffer.getvalue(), color=True).shape == (3, 5, 4)


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3)])
def test_16_bits_are_refused_as_by_caffe_and_cut_where_colour_is_forced(shape: tuple[int, ...]) -> None:
    pixels = RNG.integers(0, 65536, shape).astype(np.uint16)
    with pytest.raises(InputError, match="more than 8 bits a channel, which Caffe refuses"):
        decode(png16(pixels))
    high = (pixels >> 8).astype(np.uint8)
    expected = high[:, :, ::-1].transpose(2, 0, 1) if high.ndim == 3 else np.repeat(high[None], 3, 0)
    np.testing.assert_array_equal(decode(png16(pixels), color=True), expected)


def test_what_is_not_an_image_is_told() -> None:
    for data in (b"", b"GIF?", png(RGB)[:40]):
        with pytest.raises(InputError, match="is not an image that can be decoded"):
            decode(data)


def test_an_encoded_datum_is_an_array_too() -> None:
    np.testing.assert_array_equal(datum_to_array(Datum(encoded=True, data=png(RGB))), BGR)
