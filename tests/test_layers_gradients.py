"""Every layer's gradients against central differences in double precision, at shapes drawn at random."""

import re
from pathlib import Path

import numpy as np
import pytest
from gradients import check_gradients
from hypothesis import given, settings
from hypothesis import strategies as st

from fcnlite import layers
from fcnlite.blob import Blob
from fcnlite.layers import LAYERS
from fcnlite.proto import BlobProto

QUICK = settings(max_examples=6, deadline=None, derandomize=True)


pytestmark = pytest.mark.usefixtures("double")


def seeded(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def away_from(values, points, by=0.05):
    """The values, those within `by` of one of the points moved off: there differences mean nothing."""
    for point in points:
        close = np.abs(values - point) < by
        values = np.where(close, point + np.where(values < point, -2 * by, 2 * by), values)
    return values


def distinct(seed, *shape):
    """Values no two of which are closer than 0.1, so that a small step changes no maximum."""
    return np.random.default_rng(seed).permutation(int(np.prod(shape))).reshape(shape) * 0.1 - 1.0


def fill(layer_type, seed=1, **fields):
    """A layer whose parameters get values drawn at random when it makes them."""
    layer = getattr(layers, layer_type)(**fields)
    layer.new_parameter = lambda shape, filler: Blob(seeded(seed + len(shape), *shape))
    return layer


small = st.integers(1, 3)
maps = st.tuples(small, small, st.integers(3, 7), st.integers(3, 7))
blocks = st.lists(st.integers(1, 4), min_size=2, max_size=4).map(tuple)
seeds = st.integers(0, 1000)


# Convolution and its kin


@QUICK
@given(
    seeds, small, small, st.integers(1, 2), st.integers(1, 3), st.integers(0, 2), st.integers(1, 3),
    st.integers(1, 2), st.booleans(), st.booleans(),
)  # fmt: skip
def test_convolution(seed, n, outputs, group, kernel, pad, stride, dilation, bias, transposed):
    size = dilation * (kernel - 1) + 2
    layer = fill(
        "Deconvolution" if transposed else "Convolution", num_output=outputs * group, kernel_h=kernel,
        kernel_w=min(kernel + 1, 3), pad=min(pad, kernel - 1) if transposed else pad, stride=stride,
        dilation=dilation, group=group, bias_term=bias,
    )  # fmt: skip
    check_gradients(layer, [seeded(seed, n, 2 * group, size, size + 2)])


@QUICK
@given(seeds, small, st.lists(st.integers(1, 4), max_size=2), st.booleans(), st.booleans())
def test_inner_product(seed, n, rest, transpose, bias):
    layer = fill("InnerProduct", num_output=3, transpose=transpose, bias_term=bias)
    check_gradients(layer, [seeded(seed, n, 2, *rest)])


def test_inner_product_of_the_last_axis():
    check_gradients(fill("InnerProduct", num_output=2, axis=-1), [seeded(0, 2, 3, 4)])


def test_embed():
    check_gradients(fill("Embed", num_output=3, input_dim=4), [np.array([[0, 3], [3, 1]])])


@QUICK
@given(seeds, maps, st.sampled_from(["MAX", "AVE"]), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2))
def test_pooling(seed, shape, pool, kernel, stride, pad):
    # A stride beyond the kernel makes windows outside the image, whose maximum is -FLT_MAX as in Caffe.
    stride, pad = min(stride, kernel), min(pad, kernel - 1)
    layer = fill("Pooling", pool=pool, kernel_size=kernel, stride=stride, pad=pad)
    check_gradients(layer, [distinct(seed, *shape)])


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
def test_global_pooling_and_pyramid(pool):
    check_gradients(fill("Pooling", pool=pool, global_pooling=True), [distinct(0, 2, 3, 4, 5)])
    check_gradients(fill("SPP", pool=pool, pyramid_height=3), [distinct(1, 2, 2, 8, 9)])
    check_gradients(fill("SPP", pool=pool, pyramid_height=1), [distinct(2, 2, 2, 3, 5)])


@QUICK
@given(seeds, maps, st.sampled_from([1, 3, 5]), st.sampled_from(["ACROSS_CHANNELS", "WITHIN_CHANNEL"]))
def test_lrn(seed, shape, size, region):
    for beta in (0.75, 0.4):
        layer = fill("LRN", local_size=size, alpha=0.7, beta=beta, k=1.5, norm_region=region)
        check_gradients(layer, [seeded(seed, *shape)])


# Element by element

ELEMENTWISE = [
    ("ReLU", {}, "any"),
    ("ReLU", {"negative_slope": 0.1}, "any"),
    ("Sigmoid", {}, "any"),
    ("TanH", {}, "any"),
    ("AbsVal", {}, "any"),
    ("BNLL", {}, "any"),
    ("ELU", {"alpha": 0.6}, "any"),
    ("Swish", {"beta": 1.5}, "any"),
    ("Clip", {"min": -0.5, "max": 0.7}, "any"),
    ("Power", {}, "any"),
    ("Power", {"power": 1, "scale": 0.3, "shift": 2}, "any"),
    ("Power", {"power": 2, "scale": 0.3, "shift": 0.5}, "any"),
    ("Power", {"power": 3}, "any"),
    ("Power", {"power": -0.5, "scale": 0.5, "shift": 0.2}, "positive"),
    ("Power", {"power": 0}, "any"),
    ("Power", {"power": 2, "scale": 0, "shift": 3}, "any"),
    ("Exp", {}, "any"),
    ("Exp", {"base": 2, "scale": 0.5, "shift": 1}, "any"),
    ("Exp", {"scale": 0.5, "shift": 1}, "any"),
    ("Log", {}, "positive"),
    ("Log", {"base": 10, "scale": 0.5, "shift": 1}, "positive"),
    ("PReLU", {}, "any"),
    ("PReLU", {"channel_shared": True}, "any"),
    ("Dropout", {"phase": "TEST"}, "any"),
]


def element_values(domain, shape, seed=0):
    values = away_from(seeded(seed, *shape), [0, -0.5, 0.7])
    return np.abs(values) + 0.1 if domain == "positive" else values


@pytest.mark.parametrize("kind, fields, domain", ELEMENTWISE)
def test_elementwise(kind, fields, domain):
    for shape in ((2, 3, 2, 2), (2, 3)):
        check_gradients(fill(kind, **fields), [element_values(domain, shape)])


@pytest.mark.parametrize("kind, fields, domain", [case for case in ELEMENTWISE if case[0] != "AbsVal"])
def test_elementwise_in_place(kind, fields, domain):
    values = element_values(domain, (2, 3, 4), 3)
    weight = seeded(4, 2, 3, 4)

    def gradients(in_place):
        layer = fill(kind, **fields)
        bottom = Blob(values.copy())
        top = bottom if in_place else Blob()
        layer.setup([bottom], [top])
        layer.reshape([bottom], [top])
        layer.forward([bottom], [top])
        top.diff = weight.copy()
        layer.backward([top], [True], [bottom])
        return [np.array(a) for a in (top.data, bottom.diff, *(blob.diff for blob in layer.blobs))]

    for apart, together in zip(gradients(False), gradients(True)):
        np.testing.assert_allclose(together, apart, rtol=1e-12)


def test_dropout_in_training_sends_back_what_it_kept():
    layer, bottom = layers.Dropout(phase="TRAIN", dropout_ratio=0.3), Blob(np.ones((4, 50)), needs_diff=True)
    top = layer(bottom)
    top.backward(np.full((4, 50), 2.0))
    np.testing.assert_allclose(bottom.diff, 2 * top.data)
    assert 0 < (top.data == 0).sum() < 200


@QUICK
@given(seeds, blocks, st.integers(2, 4))
def test_eltwise(seed, shape, count):
    inputs = [seeded(seed + i, *shape) for i in range(count)]
    check_gradients(fill("Eltwise", operation="SUM", coeff=[0.5, -2, 1, 3][:count]), inputs)
    check_gradients(fill("Eltwise", operation="PROD"), inputs)
    check_gradients(
        fill("Eltwise", operation="PROD", stable_prod_grad=False), [np.abs(a) + 0.5 for a in inputs]
    )
    apart = distinct(seed, count, *shape)
    check_gradients(fill("Eltwise", operation="MAX"), list(apart))


# Channels


@pytest.mark.parametrize("axis, num_axes", [(1, 1), (0, 2), (1, -1), (2, 1), (-1, 1), (0, 0)])
@pytest.mark.parametrize("kind, bias", [("Scale", False), ("Scale", True), ("Bias", None)])
def test_scale_and_bias(kind, bias, axis, num_axes):
    shape = (2, 3, 4)
    more = {} if bias is None else {"bias_term": bias}
    check_gradients(fill(kind, axis=axis, num_axes=num_axes, **more), [seeded(0, *shape)])
    first = axis % 3
    operand = shape[first:] if num_axes == -1 else shape[first : first + num_axes]
    check_gradients(fill(kind, axis=axis, **more), [seeded(0, *shape), seeded(1, *operand)])


@pytest.mark.parametrize("shape", [(3, 2), (4, 2, 3), (2, 3, 2, 2)])
def test_batch_norm(shape):
    check_gradients(fill("BatchNorm", phase="TRAIN"), [seeded(0, *shape)], parameters=False, bound=1e-5)
    layer = layers.BatchNorm(phase="TEST")
    layer(Blob(seeded(0, *shape)))
    for blob, value in zip(layer.blobs, (1.5, 3.0, 2.0)):
        blob.data.fill(value)
    check_gradients(layer, [seeded(1, *shape)], parameters=False)


@pytest.mark.parametrize("kind", ["BatchNorm", "MVN"])
def test_normalising_in_place_gives_the_same_gradient(kind):
    values, weight = seeded(0, 3, 2, 4), seeded(1, 3, 2, 4)
    results = []
    for in_place in (False, True):
        layer, bottom = getattr(layers, kind)(phase="TRAIN"), Blob(values.copy())
        top = bottom if in_place else Blob()
        layer.setup([bottom], [top])
        layer.reshape([bottom], [top])
        layer.forward([bottom], [top])
        top.diff = weight.copy()
        layer.backward([top], [True], [bottom])
        results.append(np.array(bottom.diff))
    np.testing.assert_allclose(*results, rtol=1e-12)


@pytest.mark.parametrize("variance", [True, False])
@pytest.mark.parametrize("across", [True, False])
def test_mvn(variance, across):
    layer = fill("MVN", normalize_variance=variance, across_channels=across)
    check_gradients(layer, [seeded(0, 2, 3, 3, 4)], bound=1e-5)


@QUICK
@given(seeds, blocks, st.integers(-2, 1))
def test_softmax(seed, shape, axis):
    check_gradients(fill("Softmax", axis=axis), [seeded(seed, *shape)])


# Shapes


@QUICK
@given(seeds, st.integers(-4, 3), st.lists(small, min_size=1, max_size=3))
def test_concat_and_slice(seed, axis, sizes):
    shape = [2, 3, 2, 3]
    inputs = []
    for i, size in enumerate(sizes):
        shape[axis] = size
        inputs.append(seeded(seed + i, *shape))
    check_gradients(fill("Concat", axis=axis), inputs)
    points = np.cumsum(sizes)[:-1].tolist()
    layer = fill("Slice", axis=axis, slice_point=points, top=[f"t{i}" for i in range(len(sizes))])
    check_gradients(layer, [np.concatenate(inputs, axis)])


def test_slice_into_equal_parts():
    check_gradients(fill("Slice", axis=1, top=["a", "b"]), [seeded(0, 2, 4, 3)])


@QUICK
@given(seeds, blocks, st.integers(-2, 1), st.integers(1, 3))
def test_tile(seed, shape, axis, tiles):
    check_gradients(fill("Tile", axis=axis, tiles=tiles), [seeded(seed, *shape)])


def test_flatten_reshape_split():
    check_gradients(fill("Flatten"), [seeded(0, 2, 3, 4)])
    check_gradients(fill("Flatten", axis=0, end_axis=1), [seeded(0, 2, 3, 4)])
    check_gradients(fill("Reshape", shape={"dim": [0, -1, 2]}), [seeded(0, 2, 3, 4)])
    check_gradients(fill("Split", top=["a", "b", "c"]), [seeded(0, 2, 3)])


def test_crop():
    for fields in ({"axis": 2, "offset": [1, 2]}, {"axis": 1, "offset": [1]}, {"axis": 3}):
        smaller = {2: (2, 3, 2, 2), 1: (2, 2, 3, 2), 3: (2, 3, 4, 3)}[fields["axis"]]
        check_gradients(fill("Crop", **fields), [seeded(0, 2, 3, 4, 5), seeded(1, *smaller)])


@pytest.mark.parametrize("operation", ["SUM", "ASUM", "SUMSQ", "MEAN"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_reduction(operation, axis):
    values = away_from(seeded(0, 2, 3, 4), [0])
    check_gradients(fill("Reduction", operation=operation, axis=axis, coeff=0.7), [values])


def test_batch_reindex_and_filter():
    check_gradients(fill("BatchReindex"), [seeded(0, 3, 2, 2), np.array([2, 0, 2, 2])])
    layer = fill("Filter", top=["a", "b"])
    inputs = [seeded(0, 4, 2), seeded(1, 4, 3, 2), np.array([0, 1, 0, 1])]
    check_gradients(layer, inputs, wanted=[0, 1])


def test_parameter_learns_through_its_readers():
    layer = layers.Parameter(shape={"dim": [2, 3]})
    doubled = layers.Power(scale=2)(layer())
    doubled.backward(np.ones((2, 3)))
    np.testing.assert_array_equal(layer.blobs[0].diff, np.full((2, 3), 2.0))
    doubled.backward(np.ones((2, 3)))
    np.testing.assert_array_equal(layer.blobs[0].diff, np.full((2, 3), 4.0))


def test_silence_sends_zeros():
    layer, bottom = layers.Silence(), Blob(seeded(0, 2, 3))
    assert layer(bottom) == ()
    layer.backward([], [True], [bottom])
    np.testing.assert_array_equal(bottom.diff, np.zeros((2, 3)))


# Losses


def labels_like(seed, shape, classes, ignored=True):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, shape).astype(float)
    return np.where(rng.random(shape) < 0.3, 255, labels) if ignored else labels


@QUICK
@given(seeds, small, st.integers(2, 4), st.integers(1, 3))
def test_softmax_loss(seed, n, classes, size):
    for normalization in ("FULL", "VALID", "BATCH_SIZE", "NONE"):
        layer = fill("SoftmaxWithLoss", ignore_label=255, normalization=normalization)
        inputs = [seeded(seed, n, classes, size, 2), labels_like(seed, (n, 1, size, 2), classes)]
        check_gradients(layer, inputs)


@pytest.mark.parametrize("normalize", [True, False])
def test_softmax_loss_the_older_way(normalize):
    layer = fill("SoftmaxWithLoss", normalize=normalize, ignore_label=255)
    check_gradients(layer, [seeded(0, 2, 3, 2, 2), labels_like(1, (2, 1, 2, 2), 3)])
    layer = fill("SoftmaxWithLoss", axis=-1)
    check_gradients(layer, [seeded(0, 2, 2, 3), labels_like(1, (2, 2), 3, ignored=False)])


@pytest.mark.parametrize("fields", [{}, *({"normalization": n} for n in ("FULL", "VALID", "NONE"))])
def test_sigmoid_cross_entropy_loss(fields):
    targets = np.where(seeded(2, 2, 3, 2) > 0.8, 255, np.random.default_rng(1).random((2, 3, 2)))
    layer = fill("SigmoidCrossEntropyLoss", ignore_label=255, **fields)
    check_gradients(layer, [seeded(0, 2, 3, 2) * 3, targets])


def test_infogain_loss(tmp_path):
    matrix = np.abs(seeded(3, 4, 4))
    inputs = [seeded(0, 2, 4, 3, 2), labels_like(1, (2, 1, 3, 2), 4)]
    check_gradients(fill("InfogainLoss", ignore_label=255), [*inputs, matrix], wanted=[0])
    file = tmp_path / "h.binaryproto"
    file.write_bytes(BlobProto(num=1, channels=1, height=4, width=4, data=matrix.ravel()).SerializeToString())
    check_gradients(fill("InfogainLoss", ignore_label=255, source=str(file), normalization="FULL"), inputs)


def test_losses_of_a_batch():
    first, second = seeded(0, 4, 3, 2), seeded(1, 4, 3, 2)
    labels = np.array([0, 5, 2, 2])
    check_gradients(fill("EuclideanLoss"), [first, second])
    check_gradients(fill("HingeLoss"), [away_from(first, [1, -1]), labels])
    check_gradients(fill("HingeLoss", norm="L2"), [first, labels])
    check_gradients(fill("MultinomialLogisticLoss"), [np.abs(first) + 0.1, labels])


@pytest.mark.parametrize("legacy", [False, True])
def test_contrastive_loss(legacy):
    first, second = seeded(0, 6, 3), seeded(1, 6, 3)
    layer = fill("ContrastiveLoss", margin=3, legacy_version=legacy)
    # Caffe's gradient of a distance has 1e-4 in its divisor, against a distance of 0.
    check_gradients(layer, [first, second, np.array([1, 0, 0, 1, 0, 0])], bound=1e-6 if legacy else 1e-3)


def test_a_loss_weight_scales_the_gradient():
    score, label = Blob(seeded(0, 2, 3), needs_diff=True), Blob(np.array([0.0, 2.0]))
    layers.SoftmaxWithLoss()(score, label).backward()
    once = np.array(score.diff)
    layers.SoftmaxWithLoss(loss_weight=[0.25])(score, label).backward()
    np.testing.assert_allclose(score.diff, 0.25 * once, rtol=1e-12)


@pytest.mark.parametrize("shape", [(2, 2, 5, 4), (1, 2, 6), (1, 2, 3, 4, 3)])
def test_im2col(shape):
    check_gradients(layers.Im2col(kernel_size=2, pad=1, stride=2), [seeded(0, *shape)])


# Over time


CONT = [[0, 0], [1, 1], [1, 0]]  # the first step begins sequences, so that no state is left from a run before


def test_lstm_unit():
    cont = np.array([[1, 0]])
    check_gradients(layers.LSTMUnit(), [seeded(0, 1, 2, 3), seeded(1, 1, 2, 12), cont], wanted=[0, 1])


@pytest.mark.parametrize("kind", ["RNN", "LSTM"])
@pytest.mark.parametrize("static", [False, True])
def test_recurrent(kind, static):
    given = [seeded(0, 3, 2, 4), np.array(CONT, np.float64), *([seeded(1, 2, 2)] if static else [])]
    check_gradients(fill(kind, num_output=3), given, wanted=[0, 2] if static else [0])


def test_every_layer_is_here():
    """Layers added later need a test above, or a reason to have none."""
    sources = {name for name, cls in LAYERS.items() if cls.bottoms == (0, 0)}
    without_gradient = {"ArgMax", "Accuracy", "Threshold", "SegAccuracy", "MatWrite", "HDF5Output"}
    of_others = {"Python"}
    tests = "".join(
        Path(__file__).with_name(name).read_text() for name in (Path(__file__).name, "test_layers_forks.py")
    )
    named = set(re.findall(r'(?:layers\.|")(\w+)', tests))
    assert set(LAYERS) - named - sources - without_gradient - of_others == set()
