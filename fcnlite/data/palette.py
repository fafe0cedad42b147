"""The label colours of PASCAL VOC, from which every picture of a segmentation here is painted."""

from __future__ import annotations

import numpy as np


def voc_palette(count: int = 256) -> np.ndarray:
    """Give the labels 0 .. count - 1 the colours of the VOC development kit.

    Bits 0, 1 and 2 of a label are the top bits of its red, green and blue, bits 3, 4 and 5 the next ones,
    and so on, so that neighbouring labels get far-away colours.

    Parameters
    ----------
    count : int
        How many colours, at most 256.

    Returns
    -------
    numpy.ndarray
        (count, 3) uint8, RGB.

    Raises
    ------
    ValueError
        If `count` is not in 0 .. 256.
    """
    if not 0 <= count <= 256:
        raise ValueError(f"a palette holds 0 to 256 colours, not {count}")
    labels = np.arange(count)
    colours = np.zeros((count, 3), np.uint8)
    for triple in range(3):
        for channel in range(3):
            bit = (labels >> (3 * triple + channel)) & 1
            colours[:, channel] |= (bit << (7 - triple)).astype(np.uint8)
    return colours


PALETTE = voc_palette()
PALETTE.flags.writeable = False
