"""What the layers compute, against NumPy's formulas; the edge cases Caffe decides; and what users are told."""

import math

import numpy as np
import pytest
from scipy import special

from fcnlite import layers
from fcnlite.blob import Blob
from fcnlite.errors import InputError, InputWarning, as_caffe
from fcnlite.geometry import measure
from fcnlite.net import Net
from fcnlite.proto import BlobProto, parse_net

pytestmark = pytest.mark.usefixtures("double")


def seeded(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def values(layer, *inputs):
    """The top's data, or the list of all tops'."""
    tops = layer(*(Blob(np.asarray(a, np.float64)) for a in inputs))
    return [top.data for top in tops] if isinstance(tops, tuple) else tops.data


def close(got, expected, rtol=1e-7):
    """Parameters come in float32 from a prototxt, so that no more digits can be asked for."""
    assert np.shape(got) == np.shape(expected)
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=1e-9)


X = np.random.default_rng(0).standard_normal((2, 3, 4, 5)) * 2


# Element by element


@pytest.mark.parametrize(
    "layer, expected",
    [
        (layers.ReLU(), np.maximum(X, 0)),
        (layers.ReLU(negative_slope=0.25), np.where(X > 0, X, X / 4)),
        (layers.PReLU(), np.where(X > 0, X, X / 4)),
        (layers.Sigmoid(), special.expit(X)),
        (layers.TanH(), np.tanh(X)),
        (layers.AbsVal(), np.abs(X)),
        (layers.BNLL(), np.log1p(np.exp(X))),
        (layers.ELU(alpha=0.5), np.where(X > 0, X, 0.5 * np.expm1(X))),
        (layers.Swish(beta=2), X * special.expit(2 * X)),
        (layers.Clip(min=-0.5, max=1.5), np.clip(X, -0.5, 1.5)),
        (layers.Threshold(threshold=0.5), np.where(X > 0.5, 1, 0)),
        (layers.Power(power=3, scale=0.5, shift=1), (1 + 0.5 * X) ** 3),
        (layers.Power(power=2, scale=0, shift=3), np.full_like(X, 9)),
        (layers.Power(power=0), np.ones_like(X)),
        (layers.Exp(), np.exp(X)),
        (layers.Exp(base=2, scale=0.5, shift=3), 2 ** (3 + 0.5 * X)),
        (layers.Log(shift=20), np.log(20 + X)),
        (layers.Log(base=10, scale=2, shift=20), np.log10(20 + 2 * X)),
        (layers.Flatten(), X.reshape(2, -1)),
        (layers.Tile(axis=2, tiles=3), np.tile(X, (1, 1, 3, 1))),
        (layers.Softmax(), special.softmax(X, 1)),
        (layers.Scale(), X),
        (layers.Bias(), X),
        (layers.Reduction(), X.sum()),
        (layers.Reduction(operation="ASUM", axis=1), np.abs(X).sum((1, 2, 3))),
        (layers.Reduction(operation="SUMSQ", axis=-1, coeff=0.5), 0.5 * (X**2).sum(-1)),
        (layers.Reduction(operation="MEAN", axis=2), X.mean((2, 3))),
    ],
    ids=lambda case: getattr(case, "type", ""),
)
def test_formula(layer, expected):
    close(values(layer, X), expected)


def test_extremes_do_not_overflow():
    far = np.array([[-1000.0, -60, 60, 1000]])
    close(values(layers.BNLL(), far), [[0, math.exp(-60), 60, 1000]])
    close(values(layers.Sigmoid(), far), [[0, 0, 1, 1]])
    close(values(layers.Softmax(), far), [[0, 0, 0, 1]])
    loss = values(layers.SigmoidCrossEntropyLoss(), far, [[0, 1, 1, 0]])
    close(loss, 1060)


def test_power_at_zero_has_a_gradient():
    bottom = Blob(np.array([[0.0, 2.0]]), needs_diff=True)
    layers.Power(power=3)(bottom).backward()
    close(bottom.diff, [[0, 12]])


def test_prelu_takes_a_slope_for_each_channel():
    layer = layers.PReLU()
    values(layer, X)
    layer.blobs[0].data = np.array([0.1, 0.2, 0.3])
    close(values(layer, X), np.where(X > 0, X, X * np.reshape([0.1, 0.2, 0.3], (1, 3, 1, 1))))


# Shapes


def test_concat_and_slice():
    parts = [seeded(i, 2, n, 4) for i, n in enumerate((1, 3, 2))]
    whole = np.concatenate(parts, 1)
    close(values(layers.Concat(), *parts), whole)
    for got, part in zip(values(layers.Slice(slice_point=[1, 4], top=["a", "b", "c"]), whole), parts):
        close(got, part)
    for got, part in zip(values(layers.Slice(axis=-1, top=["a", "b"]), whole), np.split(whole, 2, -1)):
        close(got, part)


def test_a_lone_bottom_or_top_is_shared_not_copied():
    for layer in (layers.Concat(), layers.Slice(), layers.Flatten(), layers.Reshape(shape={"dim": [-1, 5]})):
        bottom = Blob(X, needs_diff=True)
        top = layer(bottom)
        assert np.shares_memory(top.data, bottom.data), layer.type
        top.backward(np.ones(top.shape))
        assert bottom.diff.shape == bottom.shape and (bottom.diff == 1).all()


def test_readers_of_one_blob_keep_their_own_gradients():
    bottom = Blob(X, needs_diff=True)
    flat, other = layers.Flatten()(bottom), layers.Flatten()(bottom)
    total = layers.Eltwise(coeff=[1, 3])(flat, other)
    total.backward()
    close(bottom.diff, np.full_like(X, 4))
    close(flat.diff, np.full((2, 60), 1.0))
    close(other.diff, np.full((2, 60), 3.0))


@pytest.mark.parametrize(
    "fields, shape",
    [
        ({"shape": {"dim": [0, -1]}}, (2, 60)),
        ({"shape": {"dim": [0, 3, 2, 10]}}, (2, 3, 2, 10)),
        ({"shape": {"dim": [-1]}}, (120,)),
        ({"shape": {"dim": [20]}, "axis": 2}, (2, 3, 20)),
        ({"shape": {"dim": [2, 2]}, "axis": 2, "num_axes": 1}, (2, 3, 2, 2, 5)),
        ({"shape": {"dim": [1]}, "axis": 1, "num_axes": 0}, (2, 1, 3, 4, 5)),
        ({"shape": {"dim": [1]}, "axis": -1, "num_axes": 0}, (2, 3, 4, 5, 1)),
        ({"shape": {"dim": [5, -1]}, "axis": -3}, (2, 3, 5, 4)),
    ],
)
def test_reshape(fields, shape):
    np.testing.assert_array_equal(values(layers.Reshape(**fields), X), X.reshape(shape))


def test_flatten_between_axes():
    close(values(layers.Flatten(axis=1, end_axis=2), X), X.reshape(2, 12, 5))
    close(values(layers.Flatten(axis=0, end_axis=-3), X), X.reshape(6, 4, 5))


# Products, embeddings, picks


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("axis", [1, 2, -1, 0])
def test_inner_product(transpose, axis):
    layer = layers.InnerProduct(num_output=3, axis=axis, transpose=transpose)
    values(layer, X)
    outer, inner = X.shape[: axis % 4], math.prod(X.shape[axis % 4 :])
    assert layer.blobs[0].shape == ((inner, 3) if transpose else (3, inner))
    layer.blobs[0].data, layer.blobs[1].data = seeded(1, *layer.blobs[0].shape), seeded(2, 3)
    weight = layer.blobs[0].data if transpose else layer.blobs[0].data.T
    expected = X.reshape(-1, inner) @ weight + layer.blobs[1].data
    close(values(layer, X), expected.reshape(*outer, 3))


def test_embed_batch_reindex_filter():
    layer = layers.Embed(num_output=3, input_dim=5)
    index = [[0, 4], [4, 1]]
    values(layer, index)
    layer.blobs[0].data, layer.blobs[1].data = seeded(1, 5, 3), seeded(2, 3)
    close(values(layer, index), layer.blobs[0].data[index] + layer.blobs[1].data)
    close(values(layers.BatchReindex(), X, [1, 1, 0]), X[[1, 1, 0]])
    kept = values(layers.Filter(top=["a", "b"]), X, X[:, 0], [0, 2])
    close(kept[0], X[1:])
    close(kept[1], X[1:, 0])
    with pytest.raises(InputError, match="index 5 is not one of 0 to 4"):
        values(layer, [5])


def test_scale_and_bias_along_any_axes():
    factor, shift = seeded(1, 3, 4), seeded(2, 4)
    close(values(layers.Scale(axis=1), X, factor), X * factor[:, :, None])
    close(values(layers.Bias(axis=2), X, shift), X + shift[:, None])
    close(values(layers.Scale(), X, np.float64(2)), 2 * X)
    layer = layers.Scale(axis=1, num_axes=0, bias_term=True)
    values(layer, X)
    assert [blob.shape for blob in layer.blobs] == [(), ()]


# Normalisation


def test_batch_norm_learns_moving_statistics():
    fraction = 0.9
    layer = layers.BatchNorm(phase="TRAIN", moving_average_fraction=fraction)
    mean, variance, weight = np.zeros(3), np.zeros(3), 0.0
    for step in range(3):
        batch = seeded(step, 2, 3, 4, 5) * (step + 1) + step
        got = values(layer, batch)
        own_mean, own_variance = batch.mean((0, 2, 3)), batch.var((0, 2, 3))
        stretch = (1, 3, 1, 1)
        expected = (batch - own_mean.reshape(stretch)) / np.sqrt(own_variance.reshape(stretch) + 1e-5)
        close(got, expected, rtol=1e-6)
        mean = own_mean + fraction * mean
        variance = own_variance * 40 / 39 + fraction * variance
        weight = 1 + fraction * weight
    for blob, expected in zip(layer.blobs, (mean, variance, [weight])):
        close(blob.data, expected)
    test = layers.BatchNorm(phase="TEST")
    values(test, X)
    for blob, learned in zip(test.blobs, layer.blobs):
        blob.data = learned.data
    moving = [(a / weight).reshape(1, 3, 1, 1) for a in (mean, variance)]
    close(values(test, X), (X - moving[0]) / np.sqrt(moving[1] + 1e-5), rtol=1e-6)
    assert [param.lr_mult for param in layer.param.param] == [0, 0, 0]


def test_batch_norm_without_statistics_only_divides_by_eps():
    close(values(layers.BatchNorm(eps=0.25, phase="TEST"), X), 2 * X)


def test_mvn():
    axes = (2, 3)
    centred = X - X.mean(axes, keepdims=True)
    close(values(layers.MVN(normalize_variance=False), X), centred)
    close(values(layers.MVN(), X), centred / (X.std(axes, keepdims=True) + 1e-9))
    axes = (1, 2, 3)
    centred = X - X.mean(axes, keepdims=True)
    close(values(layers.MVN(across_channels=True, eps=0.5), X), centred / (X.std(axes, keepdims=True) + 0.5))


# Losses


def test_sigmoid_cross_entropy():
    targets = np.random.default_rng(1).random(X.shape)
    p = special.expit(X)
    terms = -(targets * np.log(p) + (1 - targets) * np.log(1 - p))
    targets = np.where(X > 2, 255, targets)
    kept = terms[targets != 255]
    for normalization, divisor in (("FULL", X.size), ("VALID", kept.size), ("BATCH_SIZE", 2), ("NONE", 1)):
        layer = layers.SigmoidCrossEntropyLoss(ignore_label=255, normalization=normalization)
        close(values(layer, X, targets), kept.sum() / divisor)
    close(values(layers.SigmoidCrossEntropyLoss(ignore_label=255), X, targets), kept.sum() / 2)
    close(values(layers.SigmoidCrossEntropyLoss(ignore_label=255, normalize=True), X, targets), kept.mean())
    assert (
        values(layers.SigmoidCrossEntropyLoss(ignore_label=255, normalize=True), X, np.full(X.shape, 255))
        == 0
    )


def test_losses_of_a_batch():
    first, second, labels = seeded(0, 4, 5), seeded(1, 4, 5), np.array([0, 4, 2, 2])
    close(values(layers.EuclideanLoss(), first, second), ((first - second) ** 2).sum() / 8)
    signs = np.ones((4, 5))
    signs[np.arange(4), labels] = -1
    margins = np.maximum(0, 1 + signs * first)
    close(values(layers.HingeLoss(), first, labels), margins.sum() / 4)
    close(values(layers.HingeLoss(norm="L2"), first, labels), (margins**2).sum() / 4)
    p = special.softmax(first, 1)
    p[0, 0] = 0  # counts as 1e-20
    own = np.maximum(p[np.arange(4), labels], 1e-20)
    close(values(layers.MultinomialLogisticLoss(), p, labels), -np.log(own).mean())


def test_contrastive_loss():
    first, second, similar = seeded(0, 5, 3), seeded(1, 5, 3), np.array([1, 0, 0, 1, 0])
    square = ((first - second) ** 2).sum(1)
    apart = np.maximum(0, 2 - np.sqrt(square)) ** 2
    close(
        values(layers.ContrastiveLoss(margin=2), first, second, similar),
        np.where(similar, square, apart).sum() / 10,
    )
    apart = np.maximum(0, 2 - square)
    layer = layers.ContrastiveLoss(margin=2, legacy_version=True)
    close(values(layer, first, second, similar), np.where(similar, square, apart).sum() / 10)


def test_infogain_loss_of_the_unit_matrix_is_the_softmax_loss(tmp_path):
    labels = np.random.default_rng(1).choice([0, 1, 2, 255], (2, 1, 4, 5))
    plain = values(layers.SoftmaxWithLoss(ignore_label=255), X, labels)
    close(values(layers.InfogainLoss(ignore_label=255), X, labels, np.eye(3)), plain)
    matrix = seeded(3, 3, 3)
    file = tmp_path / "infogain.binaryproto"
    file.write_bytes(BlobProto(shape={"dim": [3, 3]}, double_data=matrix.ravel()).SerializeToString())
    loss, p = values(layers.InfogainLoss(ignore_label=255, source=str(file), top=["loss", "p"]), X, labels)
    close(p, special.softmax(X, 1))
    kept = labels[:, 0] != 255
    terms = matrix[np.where(kept, labels[:, 0], 0)] * np.log(p.transpose(0, 2, 3, 1))
    close(loss, -terms[kept].sum() / kept.sum())
    file.write_bytes(b"\x08\xff")
    for path, message in (
        (file, "holds no BlobProto"),
        (tmp_path / "none", "none' is neither in"),
        ("", "matrix is missing"),
    ):
        with pytest.raises(InputError, match=message):
            values(layers.InfogainLoss(source=str(path)), X, labels)


# ArgMax and Accuracy


def test_argmax_over_an_axis_and_over_images():
    order = np.argsort(-X, 1)
    close(values(layers.ArgMax(axis=1, top_k=2), X), order[:, :2])
    close(values(layers.ArgMax(axis=1, out_max_val=True), X), X.max(1, keepdims=True))
    flat = X.reshape(2, -1)
    order = np.argsort(-flat, 1)[:, :4]
    close(values(layers.ArgMax(top_k=4), X), order.reshape(2, 1, 4, 1))
    both = values(layers.ArgMax(top_k=4, out_max_val=True), X)
    close(both[:, 0, :, 0], order)
    close(both[:, 1, :, 0], np.take_along_axis(flat, order, 1))
    close(values(layers.ArgMax(), flat), order[:, :1].reshape(2, 1, 1))


def test_argmax_takes_the_later_of_equal_values_as_caffe_does():
    np.testing.assert_array_equal(values(layers.ArgMax(top_k=3), [[1, 3, 3, 0, 3]]), [[[4, 2, 1]]])


def test_accuracy():
    rng = np.random.default_rng(1)
    scores, labels = rng.standard_normal((3, 4, 5, 6)), rng.choice([0, 1, 2, 3, 255], (3, 1, 5, 6))
    kept = labels[:, 0] != 255
    for top_k in (1, 2, 4):
        layer = layers.Accuracy(top_k=top_k, ignore_label=255, top=["all", "by_class"])
        overall, by_class = values(layer, scores, labels)
        best = np.argsort(-scores, 1)[:, :top_k]
        hit = (best == labels).any(1)
        close(overall, hit[kept].mean())
        close(by_class, [hit[labels[:, 0] == k].mean() for k in range(4)])
    assert values(layers.Accuracy(ignore_label=255), scores, np.full((3, 5, 6), 255)) == 0


def test_accuracy_counts_a_tie_as_a_miss_and_absent_classes_as_0():
    overall, by_class = values(layers.Accuracy(top=["a", "b"]), [[1, 1, 0], [0, 2, 1]], [0, 1])
    assert overall == 0.5
    np.testing.assert_array_equal(by_class, [0, 1, 0])
    assert values(layers.Accuracy(top_k=2), [[1, 1, 0], [0, 2, 1]], [0, 1]) == 1


def test_eltwise_max_sends_the_gradient_where_caffe_does():
    values = ([1, 0, 1, 1, 2], [1, 1, 0, 1, 2], [1, 1, 1, 2, 1])
    bottoms = [Blob(row, needs_diff=True) for row in values]
    top = layers.Eltwise(operation="MAX")(*bottoms)
    assert top.data.tolist() == [1, 1, 1, 2, 2]
    top.backward()
    assert np.argmax([blob.diff for blob in bottoms], 0).tolist() == [1, 1, 0, 2, 1]


# Errors


@pytest.mark.parametrize(
    "layer, inputs, message",
    [
        (layers.LRN(local_size=4), [X], r"local_size 4 must be odd"),
        (layers.LRN(), [X[0]], r"N x C x H x W is needed"),
        (
            layers.Concat(),
            [X, X[:, :, :3]],
            r"agree on all axes but axis 1; bottom 0 is \(2, 3, 4, 5\), bottom 1",
        ),
        (layers.Concat(axis=4), [X], r"axis 4 is none of the bottom's 4 axes \(2 x 3 x 4 x 5\)"),
        (layers.Slice(top=["a", "b"]), [X], r"2 tops do not divide axis 1 of size 3"),
        (
            layers.Slice(top=["a", "b"], slice_point=[3]),
            [X],
            r"slice_points \[3\] must increase within axis 1",
        ),
        (layers.Slice(top=["a", "b", "c"], slice_point=[1]), [X], r"1 slice_points for 3 tops"),
        (layers.InnerProduct(), [X], r"num_output is missing"),
        (layers.PReLU(), [X[0, 0, 0]], r"at least 2 axes"),
        (layers.Log(base=1), [X], r"base 1 has no logarithm"),
        (layers.Exp(base=-2), [X], r"base -2 must be positive"),
        (layers.Clip(min=1), [X], r"needs both min and max"),
        (layers.Tile(), [X], r"tiles 0 must be at least 1"),
        (layers.Flatten(axis=2, end_axis=1), [X], r"axis 2 lies behind end_axis 1"),
        (layers.Reshape(shape={"dim": [-1, -1]}), [X], r"there may be one -1"),
        (layers.Reshape(shape={"dim": [7]}), [X], r"120 values; dims \[7\] need 7"),
        (layers.Reshape(shape={"dim": [7, -1]}), [X], r"no dim in place of -1"),
        (layers.Reshape(shape={"dim": [1, 1, 1, 1, 0]}), [X], r"no axis 4 to keep"),
        (layers.Reshape(shape={"dim": [1]}, axis=5), [X], r"axis 5 and num_axes -1 do not fit"),
        (layers.ArgMax(top_k=4, axis=1), [X], r"top_k 4 must lie between 1 and the 3 values"),
        (layers.Accuracy(), [X, X], r"120 labels .* for 40 predictions"),
        (layers.Accuracy(top_k=4), [X, X[:, 0]], r"top_k 4 must lie between 1 and the 3 classes"),
        (layers.Accuracy(), [X, np.full((2, 4, 5), 3)], r"label 3 is not a class: there are classes 0 to 2"),
        (layers.SoftmaxWithLoss(), [X, np.full((2, 4, 5), np.nan)], r"label nan is not a class"),
        (layers.HingeLoss(), [X, [0, 60]], r"label 60 is not a class: there are classes 0 to 59"),
        (layers.EuclideanLoss(), [X, X[:1]], r"not batches of one size"),
        (layers.EuclideanLoss(), [X, X[:, :1]], r"have other sizes"),
        (layers.SigmoidCrossEntropyLoss(), [X, X[:, :1]], r"there must be as many"),
        (layers.InfogainLoss(), [X, np.zeros((2, 4, 5)), np.eye(4)], r"has 16 values; 3 x 3 are needed"),
        (layers.BatchReindex(), [X, X], r"indices of shape"),
        (layers.Filter(), [X, [1, 0, 1]], r"selector of 3 numbers"),
        (layers.SPP(), [X], r"pyramid_height 0 must lie"),
        (
            layers.Convolution(num_output=1, kernel_size=[1, 2, 1]),
            [X],
            r"kernel_size is given 3 times; give it once, or once for each of the 2 axes",
        ),
        (layers.Dropout(dropout_ratio=2), [X], r"dropout_ratio 2 must be at least 0 and at most 1"),
        (layers.Embed(num_output=3), [[0]], r"input_dim 0 must be at least 1"),
        (layers.Scale(axis=1), [X, X[0, :2]], r"operand of shape \(2, 4, 5\) does not fit"),
        (
            layers.Pooling(pool="AVE", kernel_size=2, top=["a", "b"]),
            [X],
            r"only MAX pooling over two axes has a second top",
        ),
    ],
    ids=lambda case: getattr(case, "type", ""),
)
def test_mistakes_are_told_in_one_line(layer, inputs, message):
    with pytest.raises(InputError, match=message) as error:
        values(layer, *inputs)
    text = str(error.value)
    assert text.startswith(f"layer {layer!r}: ") and "\n" not in text


def test_wrong_use_as_a_function_is_told():
    with pytest.raises(InputError, match=r"layer ReLU\(\): it reads blobs, not a ndarray: wrap"):
        layers.ReLU()(X)
    with pytest.raises(InputError, match="Pooling, 'pool': cannot take 'MAXX'"):
        layers.Pooling(pool="MAXX", kernel_size=2)
    with pytest.raises(InputError, match="Convolution, 'num_output': cannot take 'many'"):
        layers.Convolution(num_output="many", kernel_size=2)


def test_statistics_cannot_be_made_to_learn():
    text = """
        layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
        layer { name: "bn" type: "BatchNorm" bottom: "x" top: "y" param { lr_mult: 1 } }
        """
    with pytest.raises(InputError, match="layer 'bn' .* param 0 must have lr_mult 0"):
        Net(text, "TRAIN")


INPUTS = """
layer { name: "in" type: "Input" top: "x" top: "y" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "z" inner_product_param { num_output: 3 } }
"""


def test_a_loss_without_a_top_gets_one():
    text = INPUTS + """layer { name: "loss" type: "EuclideanLoss" bottom: "z" bottom: "y" }"""
    net = Net(text, "TRAIN")
    net.forward(x=np.ones((2, 3)), y=np.full((2, 3), 2.0))
    close(net.blobs["loss"].data, 6)
    assert measure(parse_net(text))[-1].tops == ("loss",)


def test_propagate_down_says_where_gradients_go():
    text = """layer { name: "l" type: "EuclideanLoss" bottom: "z" bottom: "y" top: "l"
                      propagate_down: false propagate_down: true }"""
    net = Net(INPUTS + text, "TRAIN")
    net.forward(x=np.ones((2, 3)), y=np.full((2, 3), 2.0))
    net.backward()
    close(net.blobs["y"].diff, np.ones((2, 3)))
    assert not net.params["ip"][1].diff.any()
    with pytest.raises(InputError, match="1 propagate_down for 2 bottoms"):
        Net(INPUTS + text.replace("propagate_down: true", ""), "TRAIN")


def test_layers_in_a_net():
    """In place, from prototxt, with a Silence and a loss that is not one by nature."""
    net = Net(
        """
        layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } } }
        layer { name: "conv" type: "Convolution" bottom: "x" top: "y"
                convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: "xavier" } } }
        layer { name: "bn" type: "BatchNorm" bottom: "y" top: "y" }
        layer { name: "scale" type: "Scale" bottom: "y" top: "y" scale_param { bias_term: true } }
        layer { name: "act" type: "PReLU" bottom: "y" top: "y" }
        layer { name: "cut" type: "Slice" bottom: "y" top: "a" top: "b" slice_param { slice_point: 1 } }
        layer { name: "quiet" type: "Silence" bottom: "a" }
        layer { name: "sum" type: "Reduction" bottom: "b" top: "loss" loss_weight: 0.5
                reduction_param { operation: SUMSQ } }
        """,
        "TRAIN",
    )
    assert net.outputs == ["loss"]
    x = seeded(0, 2, 3, 4, 4)
    net.forward(x=x)
    y = (x.transpose(0, 2, 3, 1) @ net.params["conv"][0].data.reshape(3, 3).T).transpose(0, 3, 1, 2)
    y = (y - y.mean((0, 2, 3), keepdims=True)) / np.sqrt(y.var((0, 2, 3), keepdims=True) + 1e-5)
    y = np.where(y > 0, y, y / 4)
    close(net.blobs["loss"].data, (y[:, 1:] ** 2).sum(), rtol=1e-6)
    net.backward()
    assert net.params["conv"][0].diff.any() and not net.params["bn"][0].diff.any()
    assert [p.lr_mult for p in net.learnable_params if p.layer == "bn"] == [0, 0, 0]


SCORES = np.zeros((1, 3, 2, 2), np.float32)
MAP = np.ones((1, 1, 2, 2), np.float32)


@pytest.mark.parametrize(
    ("layer", "bottoms", "message"),
    [
        (layers.SoftmaxWithLoss, [SCORES, MAP * 1.5], "label 1.5 is not a class number but a fraction"),
        (layers.Accuracy, [SCORES, MAP / 255], r"label 0.0039\d* .* fraction \(class 1 divided by 255\?\)"),
        (layers.HingeLoss, [SCORES[:, :, 0, 0], [0.5]], "label 0.5 is not a class number"),
        (layers.SigmoidCrossEntropyLoss, [MAP, MAP * 255], "target 255 is not a probability, 0 to 1"),
        (layers.SegAccuracy, [SCORES, MAP / 2], "label 0.5 is not a class number but a fraction"),
        (layers.ContrastiveLoss, [np.ones((1, 3)), np.ones((1, 3)), [255]], "label 255 is neither 0 nor 1"),
    ],
)
def test_labels_that_cannot_be_are_refused_and_computed_as_in_caffe_with_a_warning(layer, bottoms, message):
    with pytest.raises(InputError, match=message):
        layer()(*map(Blob, bottoms))
    with as_caffe(), pytest.warns(InputWarning, match=message):
        lax = layer()(*map(Blob, bottoms))
    assert np.isfinite(lax.data).all()


def test_a_mask_of_255_costs_in_a_sigmoid_loss_what_caffe_says():
    scores, targets = np.ones((1, 1, 4, 4), np.float32), np.full((1, 1, 4, 4), 255, np.float32)
    with as_caffe(), pytest.warns(InputWarning):
        loss = layers.SigmoidCrossEntropyLoss()(Blob(scores), Blob(targets))
    expected = 16 * (np.log1p(np.exp(-1.0)) - (255 - 1) * 1.0)
    np.testing.assert_allclose(float(loss.data), expected, rtol=1e-6)


def test_fractions_lose_what_follows_the_point_as_in_caffe():
    scores = np.random.default_rng(0).standard_normal((1, 3, 2, 2)).astype(np.float32)
    with as_caffe(), pytest.warns(InputWarning):
        lax = layers.SoftmaxWithLoss()(Blob(scores), Blob(MAP * 1.7))
    assert float(lax.data) == float(layers.SoftmaxWithLoss()(Blob(scores), Blob(MAP)).data)
