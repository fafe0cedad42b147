"""Patchwise training is loss sampling (paper, section 3.4): gradients of images and of their patches."""

import json

import cases
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_data_batches import Numbers

from fcnlite import geometry
from fcnlite.commands import train
from fcnlite.data import Batches, shapes
from fcnlite.data.augment import sampled
from fcnlite.errors import InputError
from fcnlite.net import Net
from fcnlite.netspec import NetSpec
from fcnlite.netspec import layers as L
from fcnlite.netspec import params as P
from fcnlite.proto import parse_net

BOUND = 2e-5


def training_net(normalize):
    """Stride 4, every output a patch of 15 pixels a side; no padding, as patches have none."""
    n = NetSpec()
    n.data = L.Input(shape={"dim": [1, 2, 39, 43]})
    n.label = L.Input(shape={"dim": [1, 1, 7, 8]})
    n.conv1 = L.Convolution(n.data, num_output=4, kernel_size=5, stride=2, weight_filler={"type": "msra"})
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.norm1 = L.LRN(n.relu1, local_size=3)
    n.pool1 = L.Pooling(n.norm1, pool=P.Pooling.MAX, kernel_size=2, stride=2)
    n.conv2 = L.Convolution(n.pool1, num_output=5, kernel_size=3, weight_filler={"type": "msra"})
    n.relu2 = L.ReLU(n.conv2, in_place=True)
    n.score = L.Convolution(n.relu2, num_output=3, kernel_size=1, weight_filler={"type": "msra"})
    n.loss = L.SoftmaxWithLoss(n.score, n.label, loss_param={"ignore_label": 255, "normalize": normalize})
    return Net(n.to_proto(), "TRAIN")


def gradient(net, data, label):
    """Loss, and the gradients of all parameters in one vector."""
    net.clear_param_diffs()
    loss = float(net.forward_backward(data=data, label=label))
    return loss, np.concatenate([p.blob.diff.ravel() for p in net.learnable_params])


def drawn(seed, batch=1, void=0.0):
    """Images with a label for each of their 7 x 8 outputs, some void."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, (batch, 1, 7, 8)).astype(np.float32)
    label[rng.random(label.shape) < void] = 255
    return rng.standard_normal((batch, 2, 39, 43)), label


def patches(net, data, label):
    """Loss and gradient of each patch by itself, in row-major order; None where its label is void."""
    field = geometry.measure(net.param)[-2].field
    side, step = field.size[0], int(field.stride[0])
    for y, x in np.ndindex(*label.shape[2:]):
        at = label[:, :, y : y + 1, x : x + 1]
        patch = data[:, :, y * step : y * step + side, x * step : x * step + side]
        assert patch.shape[2:] == (side, side)
        yield gradient(net, patch, at) if at.item() != 255 else None


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_an_images_gradient_is_that_of_its_patches(seed, normalize):
    """Their sum; their mean where the loss is normalised."""
    net = training_net(normalize)
    data, label = drawn(seed, void=0.2)
    each = [found for found in patches(net, data, label) if found is not None]
    loss, whole = gradient(net, data, label)
    share = 1 / len(each) if normalize else 1
    assert cases.relative_error(whole, share * np.sum([g for _, g in each], axis=0)) < BOUND
    assert loss == pytest.approx(share * sum(one for one, _ in each), rel=1e-5)


def test_several_images_gradients_are_those_of_all_their_patches():
    net = training_net(False)
    data, label = drawn(7, batch=3)
    parts = [gradient(net, data[i : i + 1], label[i : i + 1])[1] for i in range(3)]
    assert cases.relative_error(3 * gradient(net, data, label)[1], np.sum(parts, axis=0)) < BOUND


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000), st.sampled_from([0.1, 0.25, 0.5, 0.9]))
def test_sampling_leaves_the_kept_patches(seed, keep):
    net = training_net(False)
    data, label = drawn(seed)
    masked = sampled({"label": label[0]}, np.random.default_rng(seed), keep, 255)["label"][None]
    kept = [
        found[1]
        for found, value in zip(patches(net, data, label), masked.ravel())
        if value != 255 and found is not None
    ]
    expected = np.sum([np.zeros_like(gradient(net, data, label)[1]), *kept], axis=0)
    got = gradient(net, data, masked)[1]
    assert cases.relative_error(got, expected) < BOUND
    rest = np.where(masked == 255, label, np.float32(255))
    whole = gradient(net, data, label)[1]
    assert cases.relative_error(got + gradient(net, data, rest)[1], whole) < BOUND


def test_the_draws_are_the_documented_ones():
    with Batches(Numbers(), seed=42) as plain, Batches(Numbers(), seed=42, keep=0.3) as some:
        for position in range(12):
            whole, part = next(plain), next(some)
            np.testing.assert_array_equal(part["data"], whole["data"])
            shape = whole["label"].shape[2:]
            kept = np.random.default_rng((42, position, 1)).random(shape) < 0.3
            np.testing.assert_array_equal(part["label"][0, 0], np.where(kept, whole["label"][0, 0], 255))
            assert part["label"].dtype == np.float32 and part["label"].shape == whole["label"].shape


def test_heads_lose_the_same_patches():
    labels = {"sem": np.ones((1, 30, 40), np.float32), "geo": np.zeros((1, 30, 40), np.float32)}
    found = sampled(labels, np.random.default_rng(0), 0.25, 255)
    np.testing.assert_array_equal(found["sem"] == 255, found["geo"] == 255)
    assert 0.2 < (found["sem"] == 1).mean() < 0.3
    assert (labels["sem"] == 1).all()


@pytest.mark.parametrize("keep", [0, -0.5, 1.5, float("nan")])
def test_keep_is_a_probability(keep):
    with pytest.raises(ValueError, match="probability"):
        Batches(Numbers(), keep=keep)


def plan(**options):
    return train.plan_from({"data_set": "shapes", **options})


def test_batches_grow_as_patches_get_fewer():
    assert plan(recipe="cvpr15", net="fcn32s").iter_size == 20
    assert plan(recipe="cvpr15", net="fcn32s", sample_patches=0.25).iter_size == 80
    assert plan(sample_patches=0.3, iter_size=2).iter_size == 7
    assert plan(sample_patches=1.0).iter_size == 1
    whole = plan(sample_patches=0.5, iter_size=3)
    assert train.resumed(whole, {"iter_size": 3, "sample_patches": 0.5}, "run").iter_size == 6
    with pytest.raises(InputError, match="--sample-patches 0.25 differs from the 0.5"):
        train.resumed(whole, {"sample_patches": 0.25}, "run")


@pytest.mark.parametrize(("recipe", "weight"), [("heavy", 4), ("cvpr15", 1)])
def test_a_sampled_sum_counts_for_the_whole(tmp_path, recipe, weight):
    """train.prototxt says what each kept pixel weighs."""
    data, out = shapes.write(tmp_path / "data", train=2, val=1), tmp_path / "run"
    arguments = ["voc", "--data", str(data), "--width", "1", "--recipe", recipe, "--iter-size", "1"]
    arguments += ["--sample-patches", "0.25", "--iterations", "1", "--validate", "0", "--out", str(out)]
    assert train.main(arguments) == 0
    loss = parse_net((out / "train.prototxt").read_text(), "train").layer[-1]
    assert (list(loss.loss_weight) or [1]) == [weight]
    (record,) = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    assert len(record["images"]) == 4


@pytest.mark.parametrize("value", ["0", "1.5", "-1", "half", "nan"])
def test_a_share_is_above_0_and_at_most_1(value, capsys):
    with pytest.raises(SystemExit) as stopped:
        train.main(["shapes", "--sample-patches", value])
    assert stopped.value.code == 2 and "not a number above 0 and at most 1" in capsys.readouterr().err
