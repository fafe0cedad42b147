"""Convolution by Winograd's algorithm F(4 x 4, 3 x 3): a quarter of the products, with somewhat larger rounding errors.

Tiles of 4 x 4 outputs are computed in strips, sized as those of `fcnlite.layers.columns`: the image's tiles are
transformed, 36 matrix products sum over the channels, and the sums are transformed back (Lavin and Gray, 2016).

A sum that is exactly 0, as over padding under a bias of 0, may come out as a tiny number of either sign here: the
gradient of a ReLU behind it then depends on rounding.
"""

from __future__ import annotations

from dataclasses import replace

from fcnlite import device
from fcnlite.backend import Array
from fcnlite.layers.window import Window

_PLACES = 36  # of a transformed tile
_TILE = 4
_FEW_CHANNELS = 16  # below, transforming costs more than it saves
_MANY_STRIPS = 8
MOST_PAD = 2  # of a window whose image gradient goes this way


def strip_bytes() -> int:
    """Size to which a thread's buffer is kept: of images and of sums, each a strip's."""
    backend = device.current()
    return min(2 * backend.strip_bytes, backend.whole_bytes)


def suits(window: Window, channels: int, outputs: int) -> bool:
    """True if a convolution of so many channels a group can go this way, and gains by it."""
    plain = window.kernel == (3, 3) and window.stride == window.dilation == (1, 1)
    return plain and min(channels, outputs) >= _FEW_CHANNELS


def correlate(
    image: Array, weight: Array, bias: Array, out: Array, window: Window, group: int, slope: float = 1.0
) -> None:
    """As `fcnlite.layers.columns.correlate`, for windows that `suits` approves of."""
    _run(image, weight, bias, out, window, group, slope, turned=False)


def image_gradient(weight: Array, out_diff: Array, image_diff: Array, window: Window, group: int) -> None:
    """As `fcnlite.layers.columns.image_gradient`: a convolution with the kernels turned round.

    The padding must be at most MOST_PAD.
    """
    opposite = replace(window, pad=(2 - window.pad[0], 2 - window.pad[1]))
    _run(out_diff, weight, None, image_diff, opposite, group, 1.0, turned=True)


def _run(
    image: Array,
    weight: Array,
    bias: Array,
    out: Array,
    window: Window,
    group: int,
    slope: float,
    turned: bool,
) -> None:
    channels, outputs = image.shape[1] // group, out.shape[1] // group
    transformed = device.current().empty((_PLACES, outputs, channels))
    for g in range(group):
        own = weight[g * weight.shape[0] // group : (g + 1) * weight.shape[0] // group]
        steps = (9, 9 * outputs, 1) if turned else (9 * channels, 9, 0)
        device.current().launch("winograd_weights", outputs, channels, outputs, *steps, own, transformed)
        shift = None if bias is None else bias[g * outputs : (g + 1) * outputs]
        for n in range(image.shape[0]):
            source = image[n, g * channels : (g + 1) * channels]
            _group(source, transformed, shift, out[n, g * outputs : (g + 1) * outputs], window, slope)


def _group(image: Array, transformed: Array, bias: Array, out: Array, window: Window, slope: float) -> None:
    """One image, one group of channels."""
    backend = device.current()
    _, outputs, channels = transformed.shape
    height, width = (-(-n // _TILE) for n in out.shape[1:])  # in tiles
    row_bytes = _PLACES * (channels + outputs) * width * out.itemsize
    rows = max(1, strip_bytes() // row_bytes)
    if -(-height // rows) < _MANY_STRIPS or rows * width < outputs // 2:
        rows = max(1, min(height, backend.whole_bytes // row_bytes))
        shared = True
    else:
        shared = False
    rows = -(-height // -(-height // rows))

    def strip(begin: int) -> None:
        count = min(height, begin + rows) - begin
        tiles = count * width
        space = backend.workspace(_PLACES * (channels + outputs) * tiles)
        below = space[: _PLACES * channels * tiles]
        above = space[_PLACES * channels * tiles :]
        lines = channels * count
        arguments = (*image.shape[1:], *window.pad, begin, count, lines, image, below)
        backend.launch("winograd_tiles", lines, width, *arguments)
        left, right = below.reshape(_PLACES, channels, tiles), above.reshape(_PLACES, outputs, tiles)
        backend.gemms(transformed, left, right)
        lines = outputs * count
        numbers = (*out.shape[1:], begin, count, lines, slope)
        backend.launch("winograd_out", lines, width, *numbers, bias, above, out)

    begins = range(0, height, rows)
    if shared:
        for begin in begins:
            strip(begin)
    else:
        backend.parallel(len(begins), lambda i: strip(begins[i]))
