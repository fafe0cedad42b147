"""The autograd: blobs as functions of blobs, and the tape that backward() walks."""

import numpy as np
import pytest
from gradients import central_differences

import fcnlite.random
from fcnlite.blob import Blob
from fcnlite.errors import InputError
from fcnlite.layers import Convolution, Crop, Dropout, Eltwise, Pooling, ReLU, SoftmaxWithLoss

pytestmark = pytest.mark.usefixtures("double")


def draw(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def test_a_skip_architecture_gets_its_gradient():
    """Pool and skip branch share a blob; crop and sum fuse them: FCN's graph in small, without a Net."""
    image, label = Blob(draw(1, 2, 9, 8), needs_diff=True), Blob(np.array([[[[0, 1, 2], [255, 2, 1]]]]))
    conv = Convolution(num_output=3, kernel_size=3, pad=1, weight_filler={"type": "xavier"})
    score = Convolution(num_output=3, kernel_size=1, weight_filler={"type": "xavier"})
    pool, relu, fuse = Pooling(kernel_size=2, stride=2), ReLU(negative_slope=0.2), Eltwise()
    crop, loss = Crop(offset=[1, 1]), SoftmaxWithLoss(ignore_label=255, normalize=False)

    def run():
        pooled = pool(relu(conv(image)))
        fused = fuse(score(pooled), pooled)  # `pooled` has two readers
        return loss(crop(fused, Blob(shape=(1, 3, 2, 3))), label)

    total = run()
    total.backward()
    for blob in (image, conv.blobs[0], conv.blobs[1], score.blobs[0]):
        expected = central_differences(blob.data, lambda: float(run().data), step=1e-6)
        np.testing.assert_allclose(blob.diff, expected, rtol=1e-6, atol=1e-8)


def test_one_blob_read_twice_by_one_layer():
    x = Blob(draw(2, 3), needs_diff=True)
    square = Eltwise(operation="PROD")(x, x)
    square.backward(np.full((2, 3), 0.5))
    np.testing.assert_allclose(square.data, x.data**2)
    np.testing.assert_allclose(x.diff, x.data)


def test_backward_adds_to_parameters_and_overwrites_blobs():
    x = Blob(draw(1, 2, 4, 4), needs_diff=True)
    conv = Convolution(num_output=2, kernel_size=3, weight_filler={"type": "xavier"})
    y = conv(x)
    y.backward()
    weight_once, image_once = conv.blobs[0].diff.copy(), x.diff.copy()
    y.backward()
    np.testing.assert_allclose(conv.blobs[0].diff, 2 * weight_once)
    np.testing.assert_allclose(x.diff, image_once)
    conv.blobs[0].clear_diff()
    y.backward()
    np.testing.assert_allclose(conv.blobs[0].diff, weight_once)


def test_cleared_diff_reads_as_zero_and_keeps_its_memory():
    blob = Blob(shape=(3, 2))
    blob.diff[...] = 4
    memory = blob.diff
    blob.clear_diff()
    assert not blob.has_diff
    assert blob.diff is memory
    assert not blob.diff.any()


def test_reshape_keeps_content_of_equal_count_only():
    blob = Blob(np.arange(6.0))
    blob.reshape(2, 3)
    np.testing.assert_array_equal(blob.data, [[0, 1, 2], [3, 4, 5]])
    blob.reshape(4)
    np.testing.assert_array_equal(blob.data, np.zeros(4))
    assert (blob.num, blob.channels, blob.height, blob.width, blob.count) == (4, 1, 1, 1, 4)


def test_wrong_use_is_told():
    with pytest.raises(ValueError, match="does not fit"):
        Blob(shape=(2, 3)).diff = np.zeros((3, 2))
    with pytest.raises(TypeError, match="no parameter 'kernel_sise'"):
        Convolution(kernel_sise=3)
    with pytest.raises(InputError, match=r"layer Crop\(\): 1 bottoms given, 2 needed"):
        Crop()(Blob(shape=(1, 1, 2, 2)))
    with pytest.raises(InputError, match="label 7 is not a class: there are classes 0 to 2, void label 255"):
        SoftmaxWithLoss(ignore_label=255)(Blob(shape=(1, 3, 1, 1)), Blob(np.full((1, 1, 1, 1), 7.0)))


@pytest.mark.parametrize("make", [lambda: Pooling(kernel_size=2, stride=2), lambda: Dropout(phase="TRAIN")])
def test_a_layer_applied_twice_goes_back_through_each_application(make):
    diffs = []
    for first in (make(), make()):
        fcnlite.random.set_random_seed(2)
        x = Blob(np.random.default_rng(1).standard_normal((1, 2, 8, 8)), needs_diff=True)
        second = first if not diffs else make()
        second(first(x)).backward()
        diffs.append(x.diff)
    np.testing.assert_array_equal(*diffs)


def test_a_layer_applied_twice_has_one_set_of_parameters():
    layer, x = (
        Convolution(num_output=2, kernel_size=1, weight_filler={"type": "msra"}),
        Blob(np.ones((1, 2, 3, 3))),
    )
    layer(layer(x)).backward()
    twice = layer.blobs[1].diff.copy()
    layer.blobs[1].clear_diff()
    layer(x).backward()
    assert not np.array_equal(twice, layer.blobs[1].diff)
