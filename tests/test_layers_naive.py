"""Windows and neighbourhoods against loops that do nothing clever: convolution, deconvolution, pooling, LRN."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcnlite import layers
from fcnlite.blob import Blob

QUICK = settings(max_examples=12, deadline=None, derandomize=True)
FLT_MAX = np.float64(np.finfo(np.float32).max)


pytestmark = pytest.mark.usefixtures("double")


small, seeds, sides = st.integers(1, 3), st.integers(0, 1000), st.integers(4, 9)
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


def naive_convolution(x, weight, bias, pad, stride, dilation, group):
    """out[n, o, y, x] = bias[o] + the sum over the window of the group's channels."""
    (n, channels, *size), (outputs, depth, *kernel) = x.shape, weight.shape
    out_size = [(size[i] + 2 * pad[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in range(2)]
    padded = np.zeros((n, channels, size[0] + 2 * pad[0], size[1] + 2 * pad[1]))
    padded[:, :, pad[0] : pad[0] + size[0], pad[1] : pad[1] + size[1]] = x
    out = np.zeros((n, outputs, *out_size))
    for o, oy, ox in itertools.product(range(outputs), *map(range, out_size)):
        first = o // (outputs // group) * depth
        for c, ky, kx in itertools.product(range(depth), *map(range, kernel)):
            iy, ix = oy * stride[0] + ky * dilation[0], ox * stride[1] + kx * dilation[1]
            out[:, o, oy, ox] += padded[:, first + c, iy, ix] * weight[o, c, ky, kx]
        out[:, o, oy, ox] += bias[o]
    return out


def naive_deconvolution(x, weight, bias, pad, stride, dilation, group):
    """Every input pixel lays its weighted kernel down on the output."""
    (n, channels, *size), (_, depth, *kernel) = x.shape, weight.shape
    extent = [dilation[i] * (kernel[i] - 1) + 1 for i in range(2)]
    whole = [stride[i] * (size[i] - 1) + extent[i] for i in range(2)]
    out = np.zeros((n, depth * group, *whole))
    for c, iy, ix in itertools.product(range(channels), *map(range, size)):
        first = c // (channels // group) * depth
        for o, ky, kx in itertools.product(range(depth), *map(range, kernel)):
            oy, ox = iy * stride[0] + ky * dilation[0], ix * stride[1] + kx * dilation[1]
            out[:, first + o, oy, ox] += x[:, c, iy, ix] * weight[c, o, ky, kx]
    out = out[:, :, pad[0] : whole[0] - pad[0], pad[1] : whole[1] - pad[1]]
    return out + np.reshape(bias, (1, -1, 1, 1))


@QUICK
@given(
    seeds, small, small, small, st.integers(1, 2), pairs, st.tuples(small, small), pairs, pairs, st.booleans()
)
def test_convolution(seed, n, channels, outputs, group, kernel, pad, stride, dilation, transposed):
    rng = np.random.default_rng(seed)
    pad = [min(p, d * (k - 1)) for p, k, d in zip(pad, kernel, dilation)]
    size = [d * (k - 1) + 2 + seed % 3 for k, d in zip(kernel, dilation)]
    x = rng.standard_normal((n, channels * group, *size))
    layer = (layers.Deconvolution if transposed else layers.Convolution)(
        num_output=outputs * group, kernel_h=kernel[0], kernel_w=kernel[1], pad_h=pad[0], pad_w=pad[1],
        stride_h=stride[0], stride_w=stride[1], dilation=list(dilation), group=group,
    )  # fmt: skip
    layer(Blob(x))
    for blob in layer.blobs:
        blob.data = rng.standard_normal(blob.shape)
    naive = naive_deconvolution if transposed else naive_convolution
    expected = naive(x, layer.blobs[0].data, layer.blobs[1].data, pad, stride, dilation, group)
    np.testing.assert_allclose(layer(Blob(x)).data, expected, rtol=0, atol=1e-12)


def naive_pooling(x, average, kernel, pad, stride, floor):
    """Output and, for maxima, their places in the plane; sizes and clipping as Caffe's."""
    height, width = x.shape[2:]
    out_size = []
    for i, size in enumerate((height, width)):
        steps = (size + 2 * pad[i] - kernel[i]) / stride[i]
        count = int(np.floor(steps) if floor else np.ceil(steps)) + 1
        if any(pad) and (count - 1) * stride[i] >= size + pad[i]:
            count -= 1
        out_size.append(count)
    out = np.full((*x.shape[:2], *out_size), -FLT_MAX)
    mask = np.full(out.shape, -1.0)
    for oy, ox in itertools.product(*map(range, out_size)):
        top, left = oy * stride[0] - pad[0], ox * stride[1] - pad[1]
        bottom, right = min(top + kernel[0], height + pad[0]), min(left + kernel[1], width + pad[1])
        area = (bottom - top) * (right - left)
        inside = [
            (y, x)
            for y in range(max(top, 0), min(bottom, height))
            for x in range(max(left, 0), min(right, width))
        ]
        if average:
            out[:, :, oy, ox] = sum(x[:, :, iy, ix] for iy, ix in inside) / area
            continue
        for iy, ix in inside:
            better = x[:, :, iy, ix] > out[:, :, oy, ox]
            mask[:, :, oy, ox][better] = iy * width + ix
            out[:, :, oy, ox][better] = x[:, :, iy, ix][better]
    return out, mask


@QUICK
@given(seeds, small, small, sides, sides, st.booleans(), pairs, st.tuples(small, small), pairs, st.booleans())
def test_pooling(seed, n, channels, height, width, average, kernel, pad, stride, floor):
    x = np.random.default_rng(seed).integers(-3, 4, (n, channels, height, width)).astype(float)  # many ties
    pad = [min(p, k - 1) for p, k in zip(pad, kernel)]
    if not any(pad):  # else no window starts beyond the image
        stride = [min(s, k) for s, k in zip(stride, kernel)]
    layer = layers.Pooling(
        pool="AVE" if average else "MAX", kernel_h=kernel[0], kernel_w=kernel[1], pad_h=pad[0], pad_w=pad[1],
        stride_h=stride[0], stride_w=stride[1], round_mode="FLOOR" if floor else "CEIL",
        top=["out"] if average else ["out", "mask"],
    )  # fmt: skip
    tops = layer(Blob(x))
    expected, mask = naive_pooling(x, average, kernel, pad, stride, floor)
    if average:
        np.testing.assert_allclose(tops.data, expected, rtol=1e-13)
    else:
        np.testing.assert_array_equal(tops[0].data, expected)
        np.testing.assert_array_equal(tops[1].data, mask)


def test_a_window_outside_the_image_is_as_in_caffe():
    top, mask = layers.Pooling(kernel_size=1, stride=3, top=["out", "mask"])(Blob(np.zeros((1, 1, 3, 3))))
    np.testing.assert_array_equal(top.data, [[[[0, -FLT_MAX], [-FLT_MAX, -FLT_MAX]]]])
    np.testing.assert_array_equal(mask.data, [[[[0, -1], [-1, -1]]]])


def naive_lrn(x, size, alpha, beta, k, within):
    out = np.empty_like(x)
    reach = size // 2
    _, channels, height, width = x.shape
    for n, c, y, i in itertools.product(*map(range, x.shape)):
        if within:
            window = x[n, c, max(0, y - reach) : y + reach + 1, max(0, i - reach) : i + reach + 1]
            scale = 1 + alpha / size**2 * (window**2).sum()
        else:
            window = x[n, max(0, c - reach) : c + reach + 1, y, i]
            scale = k + alpha / size * (window**2).sum()
        out[n, c, y, i] = x[n, c, y, i] * scale**-beta
    return out


@QUICK
@given(seeds, small, st.integers(1, 7), sides, sides, st.sampled_from([1, 3, 5, 7]), st.booleans())
def test_lrn(seed, n, channels, height, width, size, within):
    x = np.random.default_rng(seed).standard_normal((n, channels, height, width))
    region = "WITHIN_CHANNEL" if within else "ACROSS_CHANNELS"
    for beta in (0.75, 0.3):
        layer = layers.LRN(local_size=size, alpha=0.5, beta=beta, k=2, norm_region=region)
        expected = naive_lrn(x, size, 0.5, np.float32(beta), 2, within)
        np.testing.assert_allclose(layer(Blob(x)).data, expected, rtol=1e-12)
