"""Windows over any number of axes, and channels on any axis, against naive loops and central differences."""

import itertools

import numpy as np
import pytest
from gradients import check_gradients
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fcnlite import device, geometry, layers
from fcnlite.backend.host import HostBackend
from fcnlite.blob import Blob
from fcnlite.errors import InputError
from fcnlite.net import Net
from fcnlite.proto import parse_net

QUICK = settings(max_examples=25, deadline=None)
pytestmark = pytest.mark.usefixtures("double")


def places(sizes):
    return itertools.product(*map(range, sizes))


def naive_correlation(image, weight, out_size, pad, stride, dilation):
    """(C, size) and (O, C, kernel) to (O, out): every output position looks at its window."""
    out = np.zeros((weight.shape[0], *out_size))
    for at in places(out_size):
        for tap in places(weight.shape[2:]):
            where = [a * s + t * d - p for a, s, t, d, p in zip(at, stride, tap, dilation, pad)]
            if all(0 <= w < n for w, n in zip(where, image.shape[1:])):
                out[(slice(None), *at)] += (
                    weight[(slice(None), slice(None), *tap)] @ image[(slice(None), *where)]
                )
    return out


@st.composite
def windows(draw, most_axes=4):
    """A window's sides and the size of a map on which it fits."""
    axes, sides = draw(st.integers(1, most_axes)), {}
    for name, high in (("kernel", 3), ("stride", 2), ("dilation", 2)):
        sides[name] = draw(st.lists(st.integers(1, high), min_size=axes, max_size=axes))
    extents = [d * (k - 1) + 1 for k, d in zip(sides["kernel"], sides["dilation"])]
    sides["pad"] = [draw(st.integers(0, extent - 1)) for extent in extents]
    return sides, [max(1, e - p) + draw(st.integers(0, 2)) for e, p in zip(extents, sides["pad"])]


@QUICK
@given(windows(), st.integers(1, 2), st.integers(1, 2), st.booleans(), st.integers(0, 999))
def test_convolution_over_any_axes_and_channels_on_any_axis(drawn, leading, group, forced, seed):
    sides, size = drawn
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((*(2,) * leading, 2 * group, *size))
    layer = layers.Convolution(
        num_output=3 * group, kernel_size=sides["kernel"], pad=sides["pad"], stride=sides["stride"],
        dilation=sides["dilation"], group=group, axis=leading, force_nd_im2col=forced,
    )  # fmt: skip
    layer.build(x.shape)
    weight, bias = (rng.standard_normal(blob.shape) for blob in layer.blobs)
    layer.blobs[0].data[...], layer.blobs[1].data[...] = weight, bias
    top = layer(Blob(x))
    numbers = (sides["pad"], sides["stride"], sides["dilation"])
    for image in places(x.shape[:leading]):
        for g in range(group):
            outs, ins = slice(3 * g, 3 * g + 3), slice(2 * g, 2 * g + 2)
            expected = naive_correlation(x[image][ins], weight[outs], top.shape[leading + 1 :], *numbers)
            expected += bias[outs].reshape(-1, *(1,) * len(size))
            np.testing.assert_allclose(top.data[image][outs], expected, rtol=0, atol=1e-12)


@QUICK
@given(windows(3), st.integers(1, 2), st.integers(0, 999))
def test_deconvolution_is_the_adjoint(drawn, group, seed):
    """<deconvolution(x), y> = <x, convolution(y)> without biases, for the same weight."""
    sides, size = drawn
    rng = np.random.default_rng(seed)
    fields = {"kernel_size": sides["kernel"], "pad": sides["pad"], "stride": sides["stride"]}
    fields |= {"dilation": sides["dilation"], "group": group, "bias_term": False}
    up, x = layers.Deconvolution(num_output=2 * group, **fields), Blob(rng.standard_normal((2, group, *size)))
    numbers = zip(size, sides["stride"], sides["kernel"], sides["dilation"], sides["pad"])
    assume(all(s * (n - 1) + d * (k - 1) + 1 - 2 * p >= 1 for n, s, k, d, p in numbers))
    up.build(x.shape)
    up.blobs[0].data[...] = rng.standard_normal(up.blobs[0].shape)
    tall = up(x)
    down, y = layers.Convolution(num_output=group, **fields), Blob(rng.standard_normal(tall.shape))
    down.build(y.shape)
    down.blobs[0].data[...] = up.blobs[0].data
    low = down(y)
    assert low.shape == x.shape
    assert abs((tall.data * y.data).sum() - (x.data * low.data).sum()) < 1e-10


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize("shape", [(2, 2, 5), (1, 2, 4, 3, 4), (1, 2, 3, 2, 3, 2)])
def test_gradients(kind, shape):
    fillers = {"weight_filler": {"type": "xavier"}, "bias_filler": {"value": 0.1}}
    layer = getattr(layers, kind)(num_output=2, kernel_size=2, pad=1, stride=2, **fillers)
    check_gradients(layer, [np.random.default_rng(0).standard_normal(shape)])


def test_a_convolution_without_spatial_axes_is_an_inner_product():
    layer, x = (
        layers.Convolution(num_output=3, weight_filler={"type": "xavier"}),
        np.arange(8.0).reshape(2, 4),
    )
    np.testing.assert_allclose(layer(Blob(x)).data, x @ layer.blobs[0].data.T)


@pytest.mark.parametrize("average", [False, True])
@QUICK
@given(drawn=windows(3), seed=st.integers(0, 999))
def test_pooling_over_any_axes(average, drawn, seed):
    sides, size = drawn
    kernel, pads = sides["kernel"], [min(p, k - 1) for p, k in zip(sides["pad"], sides["kernel"])]
    size = [max(n, k) for n, k in zip(size, kernel)]
    stride = sides["stride"] if any(pads) else [min(s, k) for s, k in zip(sides["stride"], kernel)]
    x = np.random.default_rng(seed).integers(-3, 4, (1, 2, *size)).astype(float)  # many ties
    shapes = {"kernel_shape": kernel, "pad_shape": pads, "stride_shape": stride}
    top = layers.Pooling(pool="AVE" if average else "MAX", **shapes)(Blob(x))
    for at in places(top.shape[2:]):
        first = [a * s - p for a, s, p in zip(at, stride, pads)]
        end = [min(f + k, n + p) for f, k, n, p in zip(first, kernel, size, pads)]
        inside = tuple(slice(max(0, f), min(e, n)) for f, e, n in zip(first, end, size))
        window = x[(slice(None), slice(None), *inside)].reshape(1, 2, -1)
        area = np.prod([e - f for f, e in zip(first, end)])
        expected = window.sum(-1) / area if average else window.max(-1)
        np.testing.assert_allclose(top.data[(slice(None), slice(None), *at)], expected, rtol=1e-12)


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
@pytest.mark.parametrize("shape", [(1, 2, 7), (1, 2, 4, 5, 3), (1, 1, 3, 4, 2, 3)])
def test_gradients_through_poolings(pool, shape):
    values = np.random.default_rng(1).permutation(int(np.prod(shape))).reshape(shape) * 0.1
    check_gradients(layers.Pooling(pool=pool, kernel_size=2, stride=1, pad=1), [values])
    check_gradients(layers.Pooling(pool=pool, global_pooling=True), [values])


def test_the_first_of_equal_maxima_in_memory_order_gets_the_gradient():
    x = Blob(np.zeros((1, 1, 3, 3, 3)), needs_diff=True)
    layers.Pooling(kernel_size=3)(x).backward()
    assert x.diff[0, 0, 0, 0, 0] == 1 and x.diff.sum() == 1


def test_a_third_axis_of_one_changes_no_bit():
    with device.using(HostBackend(np.dtype(np.float32))):
        x = np.random.default_rng(2).standard_normal((1, 3, 20, 17)).astype(np.float32)
        xavier = {"weight_filler": {"type": "xavier"}}
        plane = layers.Convolution(num_output=4, kernel_size=3, pad=2, stride=2, **xavier)
        volume = layers.Convolution(num_output=4, kernel_size=[1, 3, 3], pad=[0, 2, 2], stride=[1, 2, 2])
        flat = plane(Blob(x))
        volume.build((1, 3, 1, 20, 17))
        for mine, theirs in zip(volume.blobs, plane.blobs):
            mine.data[...] = theirs.data.reshape(mine.shape)
        np.testing.assert_array_equal(volume(Blob(x[:, :, None])).data[:, :, 0], flat.data)


NETS = {
    "three spatial axes": ((1, 1, 8, 8, 6), "num_output: 2 kernel_size: 3 pad: 1", (1, 2, 8, 8, 6)),
    "one axis, channels on axis 2": ((2, 3, 9, 9), "num_output: 3 kernel_size: 3 axis: 2", (2, 3, 3, 7)),
}


@pytest.mark.parametrize("case", NETS)
def test_nets_of_other_axes_build_run_and_are_measured(case):
    shape, fields, expected = NETS[case]
    dims = " ".join(f"dim: {n}" for n in shape)
    text = f"""force_backward: true
        layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {dims} }} }} }}
        layer {{ name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param {{ {fields} }} }}"""
    net = Net(text)
    assert net.forward(x=np.ones(shape))["c"].shape == expected
    assert net.backward(c=np.ones(expected))["x"].shape == shape
    conv, weight = geometry.measure(parse_net(text))[-1], net.params["c"][0]
    assert conv.macs == weight.count * np.prod(expected) // weight.shape[0] and conv.field is None


def test_sizes_of_other_axes_are_told():
    with pytest.raises(InputError, match="kernel_h and kernel_w are for two axes; here are 3"):
        layers.Convolution(num_output=1, kernel_h=2, kernel_w=2)(Blob(np.zeros((1, 1, 4, 4, 4))))
    with pytest.raises(InputError, match="kernel_shape needs 3 numbers, one for each axis; it has 2"):
        layers.Pooling(kernel_shape=[2, 2])(Blob(np.zeros((1, 1, 4, 4, 4))))
    with pytest.raises(InputError, match="pad_h and pad_w go together; pad_h stands alone"):
        layers.Pooling(kernel_size=2, pad_h=1)(Blob(np.zeros((1, 1, 4, 4))))
    with pytest.raises(InputError, match="5 x 1 x 5 is too small for kernel"):
        layers.Convolution(num_output=1, kernel_size=2)(Blob(np.zeros((1, 1, 5, 1, 5))))
