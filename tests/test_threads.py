"""The same bits whatever the number of threads: windows forwards and backwards, and a training step's sums."""

import numpy as np
import pytest

from fcnlite import device, layers
from fcnlite.blob import Blob

THREADS = (1, 2, 3, 5)


@pytest.fixture(autouse=True)
def restored():
    with device.using(device.current()):
        yield


def run(make, shape, threads):
    """Everything a layer computes, forwards and backwards, on so many threads."""
    device.use("cpu", threads=threads)
    rng = np.random.default_rng(0)
    layer, bottom = make(), Blob(rng.standard_normal(shape, np.float32))
    layer(Blob(shape=shape))
    for blob in layer.blobs:
        blob.data = rng.standard_normal(blob.shape, np.float32)
    top = layer(bottom)
    top.backward(rng.standard_normal(top.shape, np.float32))
    return [top.data, bottom.diff, *(blob.diff for blob in layer.blobs)]


CASES = {
    "conv-3x3": (lambda: layers.Convolution(num_output=24, kernel_size=3, pad=1), (2, 19, 67, 81)),
    "conv-strips": (lambda: layers.Convolution(num_output=8, kernel_size=3, pad=1), (1, 40, 150, 210)),
    "conv-1x1": (lambda: layers.Convolution(num_output=40, kernel_size=1), (1, 64, 45, 67)),
    "conv-group-dilation": (
        lambda: layers.Convolution(num_output=16, kernel_size=3, stride=2, dilation=2, group=2),
        (2, 16, 50, 61),
    ),
    "deconv-stride8": (
        lambda: layers.Deconvolution(num_output=5, kernel_size=16, stride=8, bias_term=True),
        (1, 5, 19, 23),
    ),
    "pool-max": (lambda: layers.Pooling(kernel_size=3, stride=2, pad=1), (2, 16, 67, 81)),
    "pool-ave": (lambda: layers.Pooling(pool="AVE", kernel_size=3, stride=2), (2, 16, 67, 81)),
    "inner-product": (lambda: layers.InnerProduct(num_output=130), (6, 8, 17, 19)),
    "lrn": (lambda: layers.LRN(local_size=5), (1, 32, 45, 51)),
    "prelu": (layers.PReLU, (2, 24, 45, 51)),
    "batch-norm": (lambda: layers.BatchNorm(phase="TRAIN"), (3, 24, 45, 51)),
}


@pytest.mark.parametrize("case", CASES)
def test_threads_do_not_change_a_bit(case):
    make, shape = CASES[case]
    alone = run(make, shape, 1)
    for threads in THREADS[1:]:
        for one, several in zip(alone, run(make, shape, threads)):
            assert one.tobytes() == several.tobytes(), f"{threads} threads differ"
