"""Shift-and-stitch against the rarefied net, and both against the net on every patch (paper, section 3.2)."""

import cases
import numpy as np
import pytest
from gradients import check_gradients
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fcnlite import convolutionalise, dense, device, geometry, models, proto
from fcnlite.backend.host import HostBackend
from fcnlite.blob import Blob
from fcnlite.errors import InputError
from fcnlite.layers import Pooling
from fcnlite.net import Net
from fcnlite.netspec import NetSpec
from fcnlite.netspec import layers as L
from fcnlite.netspec import params as P

BOUND = 5e-6
steps = st.tuples(
    st.sampled_from(["conv", "max", "ave"]), st.integers(1, 4), st.integers(1, 3), st.integers(1, 2)
)


def stack(steps, pad=0, size=40):
    """A net of the given (kind, kernel, stride, dilation) steps; the first convolution pads."""
    n = NetSpec()
    n.data = top = L.Input(shape={"dim": [1, 2, size, size]})
    for i, (kind, kernel, stride, dilation) in enumerate(steps):
        if kind == "conv":
            top = L.Convolution(
                top, num_output=3, kernel_size=kernel, stride=stride, dilation=dilation, pad=0 if i else pad
            )
            n[f"step{i}"] = top
            n[f"relu{i}"] = top = L.ReLU(top, in_place=True, negative_slope=0.1)
        else:
            pool = P.Pooling.MAX if kind == "max" else P.Pooling.AVE
            n[f"step{i}"] = top = L.Pooling(top, pool=pool, kernel_size=kernel, stride=stride)
    n.score = L.Convolution(top, num_output=2, kernel_size=1)
    return n.to_proto()


def filled(param, seed=0):
    net, rng = Net(param), np.random.default_rng(seed)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = rng.standard_normal(blob.shape) / np.sqrt(blob.count / blob.shape[0])
    return net


def on_patches(net, image, field, size):
    """The score of the net on each patch that it sees at once, cut out of the image."""
    height, width = field.size
    scores = np.empty((1, net.blobs["score"].shape[1], *size), np.float32)
    for y in range(size[0]):
        for x in range(size[1]):
            out = net.forward(data=image[:, :, y : y + height, x : x + width])["score"]
            assert out.shape[2:] == (1, 1)
            scores[:, :, y, x] = out[:, :, 0, 0]
    return scores


@settings(deadline=None, max_examples=30)
@given(st.lists(steps, min_size=1, max_size=3), st.integers(0, 3), st.integers(0, 100))
def test_both_forms_are_the_net_on_every_patch(steps, pad, seed):
    pad = pad if steps[0][0] == "conv" else 0
    field = geometry.measure(stack(steps, pad, size=80))[-1].field
    assume(max(field.size) <= 36)
    image = np.random.default_rng(seed).standard_normal((1, 2, field.size[0] + 4, field.size[1] + 7))
    net = filled(stack(steps, pad), seed)
    stitched = dense.shift_and_stitch(net, image)
    rare = dense.a_trous(net, image)
    assert stitched.shape == rare.shape == (1, 2, 5 + 2 * pad, 8 + 2 * pad)
    assert cases.relative_error(rare, stitched) < BOUND
    bare = Net(stack(steps))
    bare.share_with(net)
    padded = np.pad(image, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    assert cases.relative_error(stitched, on_patches(bare, padded, field, stitched.shape[2:])) < BOUND


def padded_net():
    """Strides of convolution and pooling, padding inside, two branches: every border is another."""
    n = NetSpec()
    n.data = L.Input(shape={"dim": [1, 2, 41, 47]})
    n.conv1 = L.Convolution(n.data, num_output=4, kernel_size=3, stride=2, pad=1)
    n.norm1 = L.LRN(n.conv1, local_size=3)
    n.pool1 = L.Pooling(n.norm1, kernel_size=3, stride=2, pad=1)
    n.left = L.Convolution(n.pool1, num_output=4, kernel_h=3, kernel_w=1, pad_h=1, pad_w=0, group=2)
    n.right = L.Pooling(n.pool1, pool=P.Pooling.AVE, kernel_size=3, pad=1)
    n.both = L.Concat(n.left, n.right)
    n.conv2 = L.Convolution(n.both, num_output=3, kernel_size=3, pad=1)
    n.prob = L.Softmax(n.conv2)
    return n.to_proto()


def test_padding_inside_is_seen_at_the_border_only():
    net = filled(padded_net())
    image = np.random.default_rng(1).standard_normal((2, 2, 52, 61))
    stitched, rare = dense.shift_and_stitch(net, image), dense.a_trous(net, image)
    assert stitched.shape == rare.shape == (2, 3, 52, 61)
    region = (slice(None), slice(None), *dense.exact_region(net.param, image.shape[2:]))
    assert rare[region].shape[2:] == (52 - 22 - 3, 61 - 22 - 3)
    assert cases.relative_error(rare[region], stitched[region]) < BOUND
    assert cases.relative_error(rare, stitched) > 1e-3  # and so there is something to leave out


def test_coarse_scores_are_every_fth_of_the_dense_ones():
    net = filled(stack([("conv", 3, 2, 1), ("max", 2, 2, 1), ("conv", 2, 1, 2)]))
    image = np.random.default_rng(2).standard_normal((1, 2, 33, 37))
    coarse = net.forward(data=image)["score"]
    rare = dense.a_trous(net, image)[:, :, ::4, ::4]
    assert cases.relative_error(rare, coarse[:, :, : rare.shape[2], : rare.shape[3]]) < BOUND


@pytest.mark.parametrize(
    ("name", "output"), [("fcn32s", "score_fr"), ("fcn-googlenet", "score_fr"), ("caffenet", "prob")]
)
def test_the_papers_nets_have_dense_forms(name, output):
    param = models.build(name, width=8, deploy=True)
    if name == "caffenet":
        param = convolutionalise.convolutionalise(param)
    rare = dense.rarefy(param, output)
    strides = {layer.name: layer.field.stride for layer in geometry.measure(rare, (400, 400)) if layer.field}
    assert set(strides.values()) == {(1, 1)}
    field = geometry.measure(dense.ending_at(param, output), (400, 400))[-1].field
    ours = geometry.measure(rare, (400, 400))[-1].field
    assert (ours.size, ours.centre) == (field.size, field.centre) and field.stride == (32, 32)
    assert {
        layer: [a.shape for a in arrays] for layer, arrays in convolutionalise.fresh(rare).items()
    }.items() <= {
        layer: [a.shape for a in arrays] for layer, arrays in convolutionalise.fresh(param).items()
    }.items()
    assert proto.parse_net(proto.to_text(rare), "rare") == rare


def test_what_has_no_dense_form_is_said():
    with pytest.raises(InputError, match=r"'upscore' \(Deconvolution\) upsamples.*'score_fr'"):
        dense.rarefy(models.fcn32s(width=1))
    with pytest.raises(InputError, match=r"'fc6' \(InnerProduct\).*convolutionalise"):
        dense.rarefy(models.vgg16(width=1))
    with pytest.raises(InputError, match="no blob 'score_fx'"):
        dense.rarefy(models.fcn32s(width=1), "score_fx")
    with pytest.raises(InputError, match="outputs score_sem, score_geo"):
        dense.rarefy(models.siftflow_fcn32s(width=1))
    n = NetSpec()
    n.data = L.Input(shape={"dim": [1, 1, 9, 9]})
    n.norm = L.LRN(n.data, norm_region=1)
    with pytest.raises(InputError, match=r"'norm' \(LRN\) has no dense form"):
        dense.rarefy(n.to_proto())
    n.norm = L.Pooling(n.data, global_pooling=True)
    with pytest.raises(InputError, match="pools the whole map"):
        dense.rarefy(n.to_proto())
    n.norm = L.Concat(n.data, L.Pooling(n.data, kernel_size=1, stride=2))
    with pytest.raises(InputError, match="different strides"):
        dense.rarefy(n.to_proto())
    net = filled(stack([("conv", 4, 2, 2)]))
    for form in (dense.shift_and_stitch, dense.a_trous):
        with pytest.raises(InputError, match="too small"):
            form(net, np.zeros((1, 2, 6, 9)))


# Pooling with holes, against loops and differences


def pooled_by_loops(image, kernel, stride, pad, dilation, pool):
    extent = dilation * (kernel - 1) + 1
    sides = []
    for n in image.shape[2:]:
        out = -(-(n + 2 * pad - extent) // stride) + 1
        sides.append(out - (pad > 0 and (out - 1) * stride >= n + pad))
    out = np.empty((*image.shape[:2], *sides))
    where = np.empty(out.shape)
    for y, x in np.ndindex(*sides):
        places = [
            (y * stride - pad + ky * dilation, x * stride - pad + kx * dilation)
            for ky in range(kernel)
            for kx in range(kernel)
        ]
        height, width = image.shape[2:]
        inside = [(a, b) for a, b in places if 0 <= a < height and 0 <= b < width]
        values = np.stack([image[:, :, a, b] for a, b in inside])
        if pool == "MAX":
            out[:, :, y, x] = values.max(0)
            first = values.argmax(0)
            flat = np.array([a * width + b for a, b in inside])
            where[:, :, y, x] = flat[first]
        else:
            counted = sum(a < height + pad and b < width + pad for a, b in places)
            out[:, :, y, x] = values.sum(0) / counted
    return out, where


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["MAX", "AVE"]),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(0, 9),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.integers(0, 1000),
)
def test_windows_with_holes(pool, kernel, stride, dilation, pad, more, seed):
    extent = dilation * (kernel - 1) + 1
    pad, stride = min(pad, dilation - 1, extent - 1), min(stride, extent)  # no window misses the image
    sides = [max(dilation, extent - 2 * pad) + m for m in more]
    image = np.random.default_rng(seed).standard_normal((2, 2, *sides)).astype(np.float32)
    layer = Pooling(
        pool=pool,
        kernel_size=kernel,
        stride=stride,
        pad=pad,
        dilation=dilation,
        top=["y", "where"] if pool == "MAX" else ["y"],
    )
    tops = layer(Blob(image))
    expected, where = pooled_by_loops(image, kernel, stride, pad, dilation, pool)
    if pool == "MAX":
        np.testing.assert_array_equal(tops[0].data, expected.astype(np.float32))
        np.testing.assert_array_equal(tops[1].data, where)
    else:
        assert cases.relative_error(tops.data, expected) < BOUND


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
@pytest.mark.parametrize(("kernel", "stride", "dilation", "pad"), [(2, 1, 3, 0), (3, 2, 2, 1), (2, 3, 2, 2)])
def test_gradients_through_windows_with_holes(pool, kernel, stride, dilation, pad):
    with device.using(HostBackend(np.dtype(np.float64))):
        layer = Pooling(pool=pool, kernel_size=kernel, stride=stride, dilation=dilation, pad=pad)
        values = np.random.default_rng(0).permutation(2 * 9 * 8).reshape(1, 2, 9, 8) * 0.1
        check_gradients(layer, [values])


@pytest.mark.parametrize("dilation, message", [([1, 2, 3], "dilation is given 3 times"), (0, "at least 1")])
def test_holes_must_make_sense(dilation, message):
    with pytest.raises(InputError, match=message):
        Pooling(kernel_size=2, dilation=dilation)(Blob(np.zeros((1, 1, 9, 9))))


def test_global_pooling_has_no_holes():
    with pytest.raises(InputError, match="dilation 1"):
        Pooling(global_pooling=True, dilation=2)(Blob(np.zeros((1, 1, 9, 9))))
