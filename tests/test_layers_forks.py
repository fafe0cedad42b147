"""The layers of Caffe's forks against their formulas in NumPy, and their gradients against central differences."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cases import relative_error
from gradients import check_gradients
from PIL import Image
from scipy.io import loadmat

from fcnlite import InputError, layers, set_random_seed
from fcnlite.blob import Blob
from fcnlite.caffe.io import array_to_blobproto
from fcnlite.layers.forks.lattice import Lattice
from fcnlite.net import Net

BOUND = 1e-5


def seeded(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def fill(layer_type, seed=1, **fields):
    """A layer whose parameters get values drawn at random when it makes them."""
    layer = getattr(layers, layer_type)(**fields)
    layer.new_parameter = lambda shape, filler: Blob(seeded(seed + len(shape), *shape) + 2)
    return layer


def apply(layer, *arrays):
    top = layer(*(Blob(array) for array in arrays))
    return top.data


SEGNET = {"bn_param": {"scale_filler": {"value": 1}, "shift_filler": {"value": 0.5}}}


class TestBN:
    x = seeded(0, 3, 2, 4, 5) * 2 + 1

    def normalised(self, eps, mean=None, variance=None):
        mean = self.x.mean((0, 2, 3)) if mean is None else mean
        variance = self.x.var((0, 2, 3)) if variance is None else variance
        return (self.x - mean[:, None, None]) / np.sqrt(variance + eps)[:, None, None]

    @pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
    def test_segnets_takes_the_batchs_statistics_in_both_phases(self, phase):
        layer = layers.BN(phase=phase, **SEGNET)
        assert relative_error(apply(layer, self.x), self.normalised(1e-9) + 0.5) <= BOUND
        assert [blob.shape for blob in layer.blobs] == [(1, 2, 1, 1)] * 2

    def test_segnets_inference_is_scale_and_shift(self):
        layer = fill("BN", bn_param={"bn_mode": "INFERENCE"}, phase="TEST")
        out = apply(layer, self.x)
        scale, shift = (blob.data for blob in layer.blobs)
        assert relative_error(out, self.x * scale + shift) <= BOUND

    def test_pspnets_keeps_moving_statistics(self):
        layer = layers.BN(slope_filler={"value": 2}, bias_filler={"value": -1}, momentum=0.75, eps=1e-3)
        assert relative_error(apply(layer, self.x), 2 * self.normalised(1e-3) - 1) <= BOUND
        assert relative_error(layer.blobs[2].data.reshape(-1), self.x.mean((0, 2, 3)) / 4) <= BOUND
        assert relative_error(layer.blobs[3].data.reshape(-1), self.x.var((0, 2, 3)) / 4) <= BOUND
        assert [p.lr_mult for p in layer.param.param] == [1, 1, 0, 0]
        layer = fill("BN", phase="TEST", eps=1e-3)
        out = apply(layer, self.x)
        slope, bias, mean, variance = (blob.data.reshape(-1) for blob in layer.blobs)
        expected = self.normalised(1e-3, mean, variance) * slope[:, None, None] + bias[:, None, None]
        assert relative_error(out, expected) <= BOUND

    def test_frozen_learns_nothing_and_uses_the_moving_statistics_in_training(self):
        layer = layers.BN(slope_filler={"value": 1}, frozen=True)
        assert relative_error(apply(layer, self.x), self.x / np.sqrt(1 + 1e-5)) <= BOUND
        assert [p.lr_mult for p in layer.param.param] == [0, 0, 0, 0]
        assert not any(layer.learns(i) for i in range(4))

    @pytest.mark.usefixtures("double")
    @pytest.mark.parametrize(
        ("fields", "phase"),
        [
            (SEGNET, "TRAIN"),
            ({"bn_param": {"bn_mode": "INFERENCE"}}, "TEST"),
            ({"eps": 1e-3, "momentum": 0.5}, "TRAIN"),
            ({"eps": 1e-3}, "TEST"),
            ({"frozen": True}, "TRAIN"),
        ],
        ids=["segnet", "segnet inference", "pspnet", "pspnet test", "frozen"],
    )
    def test_gradients(self, fields, phase):
        check_gradients(fill("BN", phase=phase, **fields), [self.x])


class TestUpsample:
    def test_puts_values_back_where_pooling_found_them(self):
        x = seeded(1, 2, 3, 5, 7)
        pooled, mask = layers.Pooling(kernel_size=2, stride=2, top=["a", "b"])(Blob(x))
        up = layers.Upsample(upsample_h=5, upsample_w=7)(pooled, mask)
        expected = np.zeros(x.shape)
        for plane in np.ndindex(2, 3):
            for value, place in zip(pooled.data[plane].flat, mask.data[plane].flat):
                expected[plane].flat[int(place)] = value
        assert relative_error(up.data, expected) <= BOUND
        assert layers.Upsample(scale=2, pad_out_h=True)(pooled, Blob(mask.data * 0)).shape == (2, 3, 5, 8)
        assert layers.Upsample(scale_h=3, scale_w=2)(pooled, mask).shape == (2, 3, 9, 8)

    def test_a_mask_of_another_size_is_refused(self):
        with pytest.raises(InputError, match="place 17 of a plane of 4 x 4"):
            layers.Upsample()(Blob(np.ones((1, 1, 2, 2))), Blob(np.array([[[[0, 1], [2, 17]]]])))

    @pytest.mark.usefixtures("double")
    def test_gradient(self):
        mask = np.random.default_rng(0).permuted(np.tile(np.arange(16), (6, 1)), axis=1)[:, :4]
        check_gradients(layers.Upsample(), [seeded(2, 2, 3, 2, 2), mask.reshape(2, 3, 2, 2)], wanted=[0])


def interpolated(x, height, width):
    """Corner-aligned bilinear interpolation, pixel by pixel."""
    out = np.zeros((*x.shape[:2], height, width))
    for v in range(height):
        for u in range(width):
            y = v * (x.shape[2] - 1) / (height - 1) if height > 1 else 0.0
            z = u * (x.shape[3] - 1) / (width - 1) if width > 1 else 0.0
            i, j = min(int(y + 1e-6), x.shape[2] - 1), min(int(z + 1e-6), x.shape[3] - 1)
            below, beside = min(i + 1, x.shape[2] - 1), min(j + 1, x.shape[3] - 1)
            f, g = y - i, z - j
            out[:, :, v, u] = (1 - f) * ((1 - g) * x[:, :, i, j] + g * x[:, :, i, beside]) + f * (
                (1 - g) * x[:, :, below, j] + g * x[:, :, below, beside]
            )
    return out


class TestInterp:
    @pytest.mark.parametrize(
        ("fields", "size"),
        [
            ({"height": 9, "width": 4}, (9, 4)),
            ({"height": 1, "width": 1}, (1, 1)),
            ({"zoom_factor": 8}, (33, 49)),
            ({"shrink_factor": 2}, (3, 4)),
            ({"zoom_factor": 3, "shrink_factor": 2}, (7, 10)),
            ({"height": 5, "width": 7}, (5, 7)),
        ],
    )
    def test_values_and_sizes(self, fields, size):
        x = seeded(3, 2, 2, 5, 7)
        assert relative_error(apply(layers.Interp(**fields), x), interpolated(x, *size)) <= BOUND

    def test_a_second_bottom_gives_the_size_and_pads_crop(self):
        x = seeded(4, 1, 2, 6, 7)
        like = Blob(shape=(1, 9, 4, 11))
        assert relative_error(layers.Interp()(Blob(x), like).data, interpolated(x, 4, 11)) <= BOUND
        cropped = layers.Interp(height=8, width=9, pad_beg=-1, pad_end=-2)
        assert relative_error(apply(cropped, x), interpolated(x[:, :, 1:-2, 1:-2], 8, 9)) <= BOUND

    @pytest.mark.usefixtures("double")
    @pytest.mark.parametrize(
        "fields",
        [
            {"height": 7, "width": 3},
            {"zoom_factor": 3},
            {"shrink_factor": 2},
            {"height": 2, "width": 9, "pad_beg": -1, "pad_end": -1},
            {"height": 1, "width": 2},
        ],
    )
    def test_gradient(self, fields):
        check_gradients(layers.Interp(**fields), [seeded(5, 2, 2, 4, 5)])

    def test_mistakes(self):
        for fields, said in (({"pad_beg": 1}, "only crop"), ({}, "must give its size")):
            with pytest.raises(InputError, match=said):
                layers.Interp(**fields)(Blob(seeded(0, 1, 1, 3, 3)))


@pytest.mark.parametrize("name", ["ConvolutionDepthwise", "DepthwiseConvolution"])
def test_depthwise_is_a_filter_for_each_channel(name):
    x = seeded(6, 2, 3, 6, 5)
    layer = fill(name, num_output=3, kernel_size=3, pad=1, stride=2)
    out = apply(layer, x)
    assert [blob.shape for blob in layer.blobs] == [(3, 1, 3, 3), (3,)]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::2, ::2]
    weight, bias = (np.asarray(blob.data, np.float64) for blob in layer.blobs)
    expected = np.einsum("nchwij,cij->nchw", windows, weight[:, 0]) + bias[:, None, None]
    assert relative_error(out, expected) <= BOUND
    with pytest.raises(InputError, match="must be the number of channels"):
        getattr(layers, name)(num_output=4, kernel_size=1, group=2)(Blob(seeded(0, 1, 4, 2, 2)))


def test_axpy():
    a, x, y = seeded(7, 2, 3, 1, 1), seeded(8, 2, 3, 4, 5), seeded(9, 2, 3, 4, 5)
    assert relative_error(apply(layers.Axpy(), a, x, y), a * x + y) <= BOUND
    with pytest.raises(InputError, match=r"\(N, C, 1, 1\)"):
        apply(layers.Axpy(), x, x, y)


@pytest.mark.parametrize(("order", "axes"), [([0, 2, 3, 1], 4), ([3, 1], 4), ([], 3), ([1, 0], 2), ([0], 1)])
def test_permute(order, axes):
    x = seeded(10, *(2, 3, 4, 5)[:axes])
    whole = order + [axis for axis in range(axes) if axis not in order]
    assert relative_error(apply(layers.Permute(order=order), x), x.transpose(whole)) <= BOUND


def test_permute_names_each_axis_once():
    with pytest.raises(InputError, match=r"order \[0, 0\]"):
        apply(layers.Permute(order=[0, 0]), seeded(0, 2, 2))


@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_normalize(across, shared):
    x = seeded(11, 2, 3, 4, 5)
    layer = fill("Normalize", across_spatial=across, channel_shared=shared, eps=1e-3)
    out = apply(layer, x)
    axes = (1, 2, 3) if across else (1,)
    scale = np.asarray(layer.blobs[0].data, np.float64)
    scale = scale if shared else scale[:, None, None]
    expected = x / np.sqrt((x**2).sum(axes, keepdims=True) + 1e-3) * scale
    assert relative_error(out, expected) <= BOUND


@pytest.mark.usefixtures("double")
class TestGradients:
    def test_depthwise(self):
        layer = fill("ConvolutionDepthwise", num_output=3, kernel_size=2, dilation=2)
        check_gradients(layer, [seeded(12, 2, 3, 4, 5)])

    def test_axpy(self):
        check_gradients(layers.Axpy(), [seeded(13, 2, 3), seeded(14, 2, 3, 2, 4), seeded(15, 2, 3, 2, 4)])

    @pytest.mark.parametrize("order", [[0, 2, 3, 1], [3, 2, 1, 0], []])
    def test_permute(self, order):
        check_gradients(layers.Permute(order=order), [seeded(16, 2, 3, 4, 2)])

    @pytest.mark.parametrize("across", [True, False])
    @pytest.mark.parametrize("shared", [True, False])
    def test_normalize(self, across, shared):
        layer = fill("Normalize", across_spatial=across, channel_shared=shared)
        check_gradients(layer, [seeded(17, 2, 3, 2, 4)])

    def test_class_weights(self):
        layer = layers.SoftmaxWithLoss(
            weight_by_label_freqs=True, class_weighting=[0.5, 2, 1.5], ignore_label=255
        )
        labels = np.array([[[[0, 1, 2], [255, 1, 0]]]])
        check_gradients(layer, [seeded(18, 1, 3, 2, 3), labels], wanted=[0])


class TestClassWeights:
    scores, labels = seeded(19, 2, 3, 2, 2), np.array([0, 1, 2, 1, 0, 0, 255, 2]).reshape(2, 1, 2, 2)
    weights = (0.25, 2.0, 1.5)

    def test_each_pixels_loss_is_times_its_labels_weight(self):
        layer = layers.SoftmaxWithLoss(
            weight_by_label_freqs=True, class_weighting=self.weights, ignore_label=255
        )
        p = np.exp(self.scores) / np.exp(self.scores).sum(1, keepdims=True)
        expected = 0.0
        for n, y, x in np.ndindex(2, 2, 2):
            k = self.labels[n, 0, y, x]
            expected += 0 if k == 255 else -self.weights[k] * np.log(p[n, k, y, x]) / 7
        assert relative_error(apply(layer, self.scores, self.labels), np.array(expected)) <= BOUND

    def test_one_is_needed_for_each_class(self):
        layer = layers.SoftmaxWithLoss(weight_by_label_freqs=True, class_weighting=[1, 2])
        with pytest.raises(InputError, match="2 values of class_weighting for 3 classes"):
            apply(layer, self.scores, self.labels * 0)

    def test_without_weight_by_label_freqs_they_have_no_effect_and_that_is_said(self):
        layer = layers.SoftmaxWithLoss(class_weighting=self.weights, ignore_label=255)
        with pytest.warns(UserWarning, match="no effect without weight_by_label_freqs"):
            out = apply(layer, self.scores, self.labels)
        plain = apply(layers.SoftmaxWithLoss(ignore_label=255), self.scores, self.labels)
        assert out == plain


def test_dropout_draws_in_testing_if_asked():
    x = np.ones((4, 100))
    set_random_seed(3)
    sampled = apply(layers.Dropout(sample_weights_test=True, phase="TEST"), x)
    set_random_seed(3)
    assert (sampled == apply(layers.Dropout(phase="TRAIN"), x)).all()
    assert set(np.unique(sampled)) == {0, 2}
    assert (apply(layers.Dropout(phase="TEST"), x) == 1).all()


def test_seg_accuracy_gives_pixel_and_class_accuracy_and_mean_iu():
    labels = np.array([[0, 0, 1, 255], [1, 1, 0, 0]]).reshape(1, 1, 2, 4)
    taken = np.array([[0, 1, 1, 0], [1, 0, 0, 0]])
    scores = (taken == np.arange(3)[:, None, None])[None] * 1.0
    layer = layers.SegAccuracy(ignore_label=[255])
    out = apply(layer, scores, labels)
    assert relative_error(out.reshape(3), [5 / 7, (3 / 4 + 2 / 3) / 2, (3 / 5 + 2 / 4 + 1) / 3]) <= BOUND
    kept = layers.SegAccuracy(ignore_label=[255], reset=False)
    for _ in range(2):
        apply(kept, scores, labels)
    assert kept.matrix.sum() == 14
    with pytest.raises(InputError, match="label 7 is no class"):
        apply(layer, scores, np.full((1, 1, 2, 4), 7))


def filtered(features, values, transposed=False):
    """The permutohedral lattice's filter, a point and a vertex at a time (Adams, Baek and Davis 2010)."""
    points, d = features.shape
    scale = [np.float32(np.sqrt(2 / 3) * (d + 1) / np.sqrt((i + 1) * (i + 2))) for i in range(d)]
    corners, vertices = [], {}
    for point in features.astype(np.float32):
        elevated, total = np.zeros(d + 1, np.float32), np.float32(0)
        for j in range(d, 0, -1):
            scaled = np.float32(point[j - 1] * scale[j - 1])
            elevated[j], total = total - np.float32(j) * scaled, total + scaled
        elevated[0] = total
        base = np.rint(elevated / np.float32(d + 1)) * (d + 1)
        rest = elevated - base
        order = sorted(range(d + 1), key=lambda i: (-rest[i], i))
        rank = np.empty(d + 1, int)
        rank[order] = np.arange(d + 1)
        rank += int(base.sum()) // (d + 1)
        for i in range(d + 1):
            turns = int(rank[i] < 0) - int(rank[i] > d)
            rank[i] += turns * (d + 1)
            base[i] += turns * (d + 1)
        ordered = np.empty(d + 1, np.float32)
        ordered[rank] = (elevated - base) / np.float32(d + 1)
        weight = [1 - ordered[0] + ordered[d]] + [
            ordered[d - k] - ordered[d - k + 1] for k in range(1, d + 1)
        ]
        mine = []
        for k in range(d + 1):
            key = tuple(int(base[i]) + (k if rank[i] <= d - k else k - d - 1) for i in range(d + 1))
            mine.append((key, float(weight[k])))
            vertices[key] = 0.0
        corners.append(mine)
    for value, mine in zip(values, corners):
        for key, weight in mine:
            vertices[key] += weight * value
    for axis in range(d, -1, -1) if transposed else range(d + 1):
        blurred = {}
        for key, value in vertices.items():
            sides = [
                tuple(k - s + (s * (d + 1) if i == axis else 0) for i, k in enumerate(key)) for s in (1, -1)
            ]
            blurred[key] = value + sum(vertices.get(side, 0.0) for side in sides) / 2
        vertices = blurred
    return np.array([sum(weight * vertices[key] for key, weight in mine) for mine in corners])


@pytest.mark.parametrize(("points", "dimensions"), [(40, 2), (40, 5), (1, 3), (60, 1)])
def test_the_lattice_filters_as_one_made_vertex_by_vertex(points, dimensions):
    features = (seeded(20 + dimensions, points, dimensions) * 2).astype(np.float32)
    values, ones = seeded(21, 2, points), np.ones(points)
    lattice = Lattice(features)
    for transposed in (False, True):
        out = lattice.filter(Blob(values).data, Blob(ones).data, transposed)
        assert relative_error(out, np.array([filtered(features, v, transposed) for v in values])) <= BOUND


def test_features_too_far_apart_are_told():
    with pytest.raises(InputError, match="too far apart"):
        Lattice(np.array([[0] * 5, [1e6] * 5], np.float32))


def test_the_lattice_is_near_to_a_gaussian():
    y, x = np.mgrid[:24, :24]
    features = (np.stack([x, y], -1).reshape(-1, 2) / 3).astype(np.float32)
    values = np.random.default_rng(0).random((1, 576))
    exact = np.exp(-((features[:, None] - features) ** 2).sum(-1) / 2)
    lattice, ones = Lattice(features), np.ones(576)
    out, norm = (lattice.filter(Blob(v).data, Blob(ones).data) for v in (values, ones[None]))
    assert relative_error(out / norm, values @ exact / exact.sum(0)) < 0.05  # the lattice is an approximation


class TestMeanfield:
    unary, q = seeded(30, 2, 3, 5, 6), seeded(31, 2, 3, 5, 6)
    image = np.random.default_rng(32).uniform(0, 255, (2, 3, 5, 6))
    settings = {"theta_alpha": 4, "theta_beta": 60, "theta_gamma": 2, "spatial_filter_weight": 3}

    def test_is_the_formula(self):
        layer = layers.MultiStageMeanfield(num_iterations=3, bilateral_filter_weight=5, **self.settings)
        out = apply(layer, self.unary, self.q, self.image)
        y, x = np.mgrid[:5, :6]
        places = np.stack([x, y], -1).reshape(-1, 2).astype(np.float32)
        for n in range(2):
            colours = self.image[n].reshape(3, -1).T.astype(np.float32) / np.float32(60)
            kinds = [places / np.float32(2), np.concatenate([places / np.float32(4), colours], 1)]
            norms = [filtered(kind, np.ones(30)) for kind in kinds]
            unary, q = (array[n].reshape(3, -1) for array in (self.unary, self.q))
            for _ in range(3):
                prob = np.exp(q) / np.exp(q).sum(0)
                near, alike = (
                    np.array([filtered(kind, p) for p in prob]) / norm for kind, norm in zip(kinds, norms)
                )
                q = unary + 3 * near + 5 * alike
            assert relative_error(out[n].reshape(3, -1), q) <= BOUND

    def test_weights_come_from_text_or_from_files(self, tmp_path):
        (tmp_path / "bilateral.par").write_text("1\n2\n3\n")
        layer = layers.MultiStageMeanfield(spatial_filter_weights_str="7 8 9", **self.settings)
        layer.folder = tmp_path
        layer.build(*(array.shape for array in (self.unary, self.q, self.image)))
        space, colour, compatibility = (np.diag(blob.data[0, 0]) for blob in layer.blobs)
        assert (space.tolist(), colour.tolist(), compatibility.tolist()) == ([7, 8, 9], [1, 2, 3], [-1] * 3)
        layer = layers.MultiStageMeanfield(spatial_filter_weights_str="7 8", **self.settings)
        with pytest.raises(InputError, match="2 spatial weights for 3 classes"):
            layer.build(*(array.shape for array in (self.unary, self.q, self.image)))

    def test_the_later_form_has_four_bottoms_and_seven_parameters(self):
        inputs = [array[:1] for array in (self.unary, self.q, self.image)]
        old = layers.MultiStageMeanfield(num_iterations=3, **self.settings)
        new = layers.MultiStageMeanfield(
            num_iterations=3, ho_num_layers=2, top=["pred", "detections"], **self.settings
        )
        outs = new(*map(Blob, inputs), Blob(np.zeros((1, 1, 1, 1))))
        expected = apply(old, *inputs)
        assert (np.asarray(outs[0].data) == expected).all()
        assert outs[1].shape == (1, 1, 1, 200) and not np.asarray(outs[1].data).any()
        shapes = [blob.shape[2:] for blob in new.blobs]
        assert shapes == [(3, 3)] * 3 + [(1, 3)] * 2 + [(1, 2)] * 2
        outs[0].backward(np.ones(outs[0].shape, np.float32))
        assert all(np.asarray(blob.diff).any() for blob in new.blobs[:3])
        assert not any(np.asarray(blob.diff).any() for blob in new.blobs[3:])
        with pytest.raises(InputError, match="ho_potentials_enabled is not here"):
            apply(layers.MultiStageMeanfield(ho_potentials_enabled=True, **self.settings), *inputs)

    @pytest.mark.usefixtures("double")
    def test_gradients(self):
        layer = fill("MultiStageMeanfield", num_iterations=2, **self.settings)
        inputs = [array[:, :, :2, :3] for array in (self.unary, self.q, self.image)]
        check_gradients(layer, inputs)


@pytest.fixture
def pairs(tmp_path):
    """Six images of 8 x 6 pixels with labels, the list of them, and what they hold."""
    rng, lines, held = np.random.default_rng(0), [], []
    for i in range(6):
        image = rng.integers(0, 256, (8, 6, 3), np.uint8)
        label = rng.integers(0, 5, (8, 6), np.uint8)
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        picture = Image.fromarray(label)
        picture.putpalette(list(range(255, 255 - 15, -1)))  # indices count, not colours
        picture.save(tmp_path / f"{i}-label.png")
        lines.append(f"/{i}.png /{i}-label.png\n")
        held.append((image[:, :, ::-1].transpose(2, 0, 1).astype(np.float32), label.astype(np.float32)))
    (tmp_path / "list.txt").write_text("".join(lines))
    (tmp_path / "tags.txt").write_text("".join(f"/{i}.png {i}\n" for i in range(6)))
    return tmp_path, held


def source(kind, folder, tops=2, **fields):
    """A layer of one of the two kinds, and a list that its next batches come from."""
    layer = getattr(layers, kind)(
        root_folder=str(folder), source="list.txt", top=["a", "b", "c"][:tops], **fields
    )
    layer.folder = folder
    return layer


def batches(layer, count):
    return [[np.array(top.data) for top in layer()] for _ in range(count)]


class TestImageLists:
    def test_dense_image_data_reads_pairs_in_order_round_and_round(self, pairs):
        folder, held = pairs
        layer = source(
            "DenseImageData", folder, batch_size=4, transform_param={"mean_value": [10, 20, 30], "scale": 0.5}
        )
        mean = np.array([10, 20, 30]).reshape(3, 1, 1)
        for first, (images, labels) in zip((0, 4), batches(layer, 2)):
            for i in range(4):
                image, label = held[(first + i) % 6]
                assert (images[i] == (image - mean) / 2).all() and (labels[i, 0] == label).all()

    @pytest.mark.parametrize("kind", ["DenseImageData", "ImageSegData"])
    def test_image_and_label_are_mirrored_and_cropped_alike(self, kind, pairs):
        folder, held = pairs
        if kind == "DenseImageData":
            fields = {"mirror": True, "crop_height": 5, "crop_width": 3}
        else:
            crops = {"mirror": True, "crop_height": 5, "crop_width": 3}
            fields = {"transform_param": crops, "label_type": "PIXEL"}
        set_random_seed(5)
        seen = set()
        for k, (images, labels) in enumerate(batches(source(kind, folder, batch_size=1, **fields), 18)):
            image, label = held[k % 6]
            places = [
                (top, left, step)
                for top in range(4)
                for left in range(4)
                for step in (1, -1)
                if (image[:, top : top + 5, left : left + 3][:, :, ::step] == images[0]).all()
            ]
            assert len(places) == 1
            top, left, step = places[0]
            assert (label[top : top + 5, left : left + 3][:, ::step] == labels[0, 0]).all()
            seen.add(places[0])
        assert len(seen) > 8

    @pytest.mark.parametrize("kind", ["DenseImageData", "ImageSegData"])
    def test_shuffled_lists_give_each_image_once_an_epoch_and_go_on_where_asked(self, kind, pairs):
        folder, held = pairs
        settings = {"mirror": True} if kind == "DenseImageData" else {"transform_param": {"mirror": True}}
        settings |= {"shuffle": True, "batch_size": 3, "label_type": "PIXEL"}
        if kind == "DenseImageData":
            del settings["label_type"]
        set_random_seed(1)
        layer = source(kind, folder, **settings)
        first = batches(layer, 4)
        for epoch in (first[:2], first[2:]):
            sums = sorted(label.sum() for _, labels in epoch for label in labels)
            assert sums == sorted(label.sum() for _, label in held)
        layer.seek(1)
        assert all((a == b).all() for a, b in zip(first[1], batches(layer, 1)[0]))
        assert layer.take_every(2, 1)
        assert all((a == b).all() for a, b in zip(first[3], batches(layer, 2)[1]))

    def test_image_seg_data_has_labels_of_three_kinds(self, pairs):
        folder, held = pairs
        (images, labels, size) = batches(source("ImageSegData", folder, 3, label_type="PIXEL"), 1)[0]
        assert (images[0] == held[0][0]).all() and (labels[0, 0] == held[0][1]).all()
        assert size.tolist() == [[[[8, 6]]]]
        none = source("ImageSegData", folder, label_type="NONE", ignore_label=9)
        assert (batches(none, 1)[0][1] == 9).all()
        tags = source("ImageSegData", folder)
        tags.param.image_data_param.source = "tags.txt"
        assert [np.unique(labels).tolist() for _, labels in batches(tags, 3)] == [[0], [1], [2]]
        with pytest.raises(InputError, match="label images need label_type: PIXEL"):
            batches(source("ImageSegData", folder), 1)

    def test_image_seg_data_fills_up_to_its_crop(self, pairs):
        folder, held = pairs
        crops = {"crop_size": 9, "mean_value": [10, 20, 30]}
        layer = source("ImageSegData", folder, 3, label_type="PIXEL", transform_param=crops)
        images, labels, size = batches(layer, 1)[0]
        mean = np.array([10, 20, 30]).reshape(3, 1, 1)
        assert (images[0, :, :8, :6] == held[0][0] - mean).all() and (
            labels[0, 0, :8, :6] == held[0][1]
        ).all()
        assert (images[0, :, 8:] == 0).all() and (images[0, :, :, 6:] == 0).all()
        assert (labels[0, 0, 8:] == 255).all() and size.tolist() == [[[[8, 6]]]]

    @pytest.mark.parametrize("kind", ["DenseImageData", "ImageSegData"])
    def test_a_mean_image_is_cut_where_the_image_is(self, kind, pairs):
        folder, held = pairs
        mean = np.random.default_rng(7).uniform(0, 255, (3, 8, 6)).astype(np.float32)
        (folder / "mean").write_bytes(array_to_blobproto(mean[None]).SerializeToString())
        transform = {"mean_file": "mean", "scale": 0.5}
        crops = {"mirror": True, "crop_height": 5, "crop_width": 3}
        fields = crops if kind == "DenseImageData" else {"label_type": "PIXEL"}
        if kind == "ImageSegData":
            transform |= crops
        set_random_seed(5)
        seen = set()
        layer = source(kind, folder, batch_size=1, transform_param=transform, **fields)
        for k, (images, labels) in enumerate(batches(layer, 18)):
            image, label = held[k % 6]
            for top, left, step in itertools.product(range(4), range(4), (1, -1)):
                expected = np.empty((3, 5, 3), np.float32)
                for c, y, x in itertools.product(range(3), range(5), range(3)):
                    at = left + (x if step == 1 else 2 - x)
                    expected[c, y, x] = (image[c, top + y, at] - mean[c, top + y, at]) * np.float32(0.5)
                if (expected == images[0]).all():
                    assert (label[top : top + 5, left : left + 3][:, ::step] == labels[0, 0]).all()
                    seen.add((k, top, left, step))
        assert len(seen) == 18

    def test_a_mean_image_must_have_the_images_size(self, pairs):
        folder, _ = pairs
        for shape, crop, said in (((3, 8, 5), 4, "has shape"), ((3, 8, 6), 9, "nothing to fill it with")):
            blob = array_to_blobproto(np.zeros((1, *shape), np.float32))
            (folder / "mean").write_bytes(blob.SerializeToString())
            transform = {"mean_file": "mean", "crop_size": crop}
            with pytest.raises(InputError, match=said):
                batches(source("ImageSegData", folder, label_type="PIXEL", transform_param=transform), 1)

    def test_testing_takes_the_centre(self, pairs):
        folder, held = pairs
        layer = source(
            "ImageSegData", folder, label_type="PIXEL", phase="TEST", transform_param={"crop_size": 4}
        )
        images, labels = batches(layer, 1)[0]
        assert (images[0] == held[0][0][:, 2:6, 1:5]).all() and (labels[0, 0] == held[0][1][2:6, 1:5]).all()

    def test_resizing_blends_images_but_not_labels(self, pairs):
        folder, held = pairs
        layer = source(
            "DenseImageData", folder, batch_size=1, new_height=16, new_width=12, label_divide_factor=2
        )
        images, labels = batches(layer, 1)[0]
        assert images.shape == (1, 3, 16, 12) and (labels[0, 0] == held[0][1]).all()
        scaled = {"scale_factors": [2.0]}
        layer = source("ImageSegData", folder, label_type="PIXEL", transform_param=scaled)
        images, labels = batches(layer, 1)[0]
        assert (labels[0, 0] == held[0][1].repeat(2, 0).repeat(2, 1)).all()
        image = held[0][0]
        near = np.rint((image[:, 1, 1] * 9 + 3 * image[:, 0, 1] + 3 * image[:, 1, 0] + image[:, 0, 0]) / 16)
        assert (images[0, :, 2, 2] == near).all()

    @pytest.mark.parametrize(
        ("kind", "fields", "said"),
        [
            ("DenseImageData", {}, "batch_size"),
            ("DenseImageData", {"batch_size": 1, "transform_param": {"mirror": True}}, "treat image and label apart"),
            ("DenseImageData", {"batch_size": 1, "crop_height": 9, "crop_width": 3}, "larger than image"),
            ("DenseImageData", {"batch_size": 1, "new_height": 9}, "given together"),
            ("DenseImageData", {"batch_size": 1, "transform_param": {"mean_value": [1, 2]}}, "2 values of mean_value"),
            ("ImageSegData", {"transform_param": {"mean_file": "m"}}, "'m' is neither in"),
            ("ImageSegData", {"transform_param": {"mean_file": "m", "mean_value": 1}}, "cannot both be given"),
            ("ImageSegData", {"transform_param": {"crop_size": 3, "crop_width": 3}}, "either crop_size or both"),
        ],
    )  # fmt: skip
    def test_mistakes(self, kind, fields, said, pairs):
        with pytest.raises(InputError, match=said):
            batches(source(kind, pairs[0], **fields), 1)

    def test_broken_lists_and_labels(self, pairs):
        folder, _ = pairs
        list_file = folder / "list.txt"
        list_file.write_text("0.png\n")
        with pytest.raises(InputError, match=r"list.txt:1: 2 names are needed"):
            batches(source("DenseImageData", folder, batch_size=1), 1)
        list_file.write_text("/0.png /0.png\n")
        with pytest.raises(
            InputError, match=r"0.png' is a RGB image; its pixel values must be class numbers"
        ):
            batches(source("DenseImageData", folder, batch_size=1), 1)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "small.png")
        list_file.write_text("/0.png /small.png\n")
        with pytest.raises(InputError, match=r"has 8 x 6 pixels, its label '/small.png' 4 x 4"):
            batches(source("DenseImageData", folder, batch_size=1), 1)


def test_mat_write_names_its_files_by_the_list(tmp_path):
    (tmp_path / "list.txt").write_text("a.jpg\nb.jpg\n")
    (tmp_path / "out").mkdir()
    layer = layers.MatWrite(prefix=f"{tmp_path}/out/", source="list.txt", strip=4)
    layer.folder = tmp_path
    x = seeded(40, 1, 2, 3, 4)
    for factor in (1, 2):
        layer(Blob(x * factor))
    for name, factor in (("a", 1), ("b", 2)):
        data = loadmat(tmp_path / "out" / f"{name}_blob_0.mat")["data"]
        assert relative_error(data, (x * factor).transpose(3, 2, 1, 0)) <= BOUND
    with pytest.raises(InputError, match="has 2 names, and all are used"):
        layer(Blob(x))
    with pytest.raises(InputError, match="is not there"):
        layers.MatWrite(prefix=f"{tmp_path}/nowhere/")(Blob(x))


REGIONS = np.array([[0, 0, 0, 7, 5], [1, 2, 1, 3, 9], [1, 6, 5, 40, 40], [0, -9, -9, -7, -7]], float)


def pooled(x, regions, height, width, scale):
    """Every cell's maximum, in loops."""
    out = np.zeros((len(regions), x.shape[1], height, width))
    for k, (n, *corners) in enumerate(regions):
        x1, y1, x2, y2 = (int(np.sign(c) * np.floor(abs(c) * scale + 0.5)) for c in corners)
        down, right = max(y2 - y1 + 1, 1) / height, max(x2 - x1 + 1, 1) / width
        for i, j in np.ndindex(height, width):
            rows = np.clip([np.floor(i * down) + y1, np.ceil((i + 1) * down) + y1], 0, x.shape[2]).astype(int)
            columns = np.clip(
                [np.floor(j * right) + x1, np.ceil((j + 1) * right) + x1], 0, x.shape[3]
            ).astype(int)
            cell = x[int(n), :, slice(*rows), slice(*columns)]
            out[k, :, i, j] = cell.max((1, 2)) if cell[0].size else 0
    return out


def test_roi_pooling():
    x = np.random.default_rng(41).permutation(2 * 3 * 6 * 8).reshape(2, 3, 6, 8) * 0.1
    layer = layers.ROIPooling(pooled_h=3, pooled_w=2, spatial_scale=0.5)
    assert relative_error(apply(layer, x, REGIONS), pooled(x, REGIONS, 3, 2, 0.5)) <= BOUND
    with pytest.raises(InputError, match="a region is of image 2; there are images 0 to 1"):
        apply(layer, x, np.array([[2.0, 0, 0, 1, 1]]))


@pytest.mark.usefixtures("double")
def test_roi_pooling_gradient():
    x = np.random.default_rng(42).permutation(2 * 2 * 5 * 6).reshape(2, 2, 5, 6) * 0.1
    check_gradients(layers.ROIPooling(pooled_h=2, pooled_w=3, spatial_scale=0.5), [x, REGIONS], wanted=[0])


class TestSpatialDropout:
    def net(self, phase):
        given = f"""{{\\'phase\\': \\'{phase}\\', \\'p\\': \\'0.5\\'}}"""
        return Net(
            f"""force_backward: true
            layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: [8, 6, 2, 3] }} }} }}
            layer {{ name: "y" type: "Python" bottom: "x" top: "y" python_param {{
                module: "spatial_dropout" layer: "SpatialDropoutLayer" param_str: "{given}" }} }}"""
        )

    def test_drops_whole_channels(self):
        net = self.net("TRAIN")
        out = net.forward(x=np.ones((8, 6, 2, 3)))["y"]
        kept = out[:, :, 0, 0]
        assert (out == kept[..., None, None]).all() and set(np.unique(kept)) == {0, 2}
        assert (net.backward(y=np.ones((8, 6, 2, 3)))["x"] == out).all()

    def test_in_testing_scales_as_enets_does(self):
        assert (self.net("TEST").forward(x=np.ones((8, 6, 2, 3)))["y"] == 2).all()
