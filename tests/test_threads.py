"""Threads: the same bits whatever their number, one net for several, forks, random streams of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cupy_standin import standing_in

from fcnlite import caffe, device, layers, random
from fcnlite.backend.host import HostBackend
from fcnlite.blob import Blob
from fcnlite.errors import InputError
from fcnlite.net import Net, Segmenter
from fcnlite.random import set_random_seed
from fcnlite.solver import SGDSolver

THREADS = (1, 2, 3, 5)


@pytest.fixture(autouse=True)
def restored():
    with device.using(device.current()):
        yield


def run(make, shape, threads):
    """Everything a layer computes, forwards and backwards, on so many threads."""
    device.use("cpu", threads=threads)
    rng = np.random.default_rng(0)
    layer, bottom = make(), Blob(rng.standard_normal(shape, np.float32), needs_diff=True)
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


NET = """name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 12 dim: 10 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "score" type: "Convolution" bottom: "conv" top: "score"
  convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: "msra" } } }
"""


def in_threads(number, job):
    """Run job(0) .. job(number - 1) at once; what each returns or raises."""
    with ThreadPoolExecutor(number) as pool:
        barrier = threading.Barrier(number)
        futures = [pool.submit(lambda i: (barrier.wait(), job(i))[1], i) for i in range(number)]
        return [future.exception() or future.result() for future in futures]


def test_one_net_predicts_the_same_for_eight_threads_as_for_one():
    set_random_seed(1)
    net, rng = Segmenter(NET), np.random.default_rng(0)
    images = [rng.integers(0, 256, (*rng.integers(20, 90, 2), 3), np.uint8) for _ in range(12)]
    alone = [net.predict(image) for image in images]
    assert len(np.unique(np.concatenate([labels.ravel() for labels in alone]))) == 3
    for found in in_threads(8, lambda _: [net.predict(image) for image in images]):
        for labels, expected in zip(found, alone, strict=True):
            np.testing.assert_array_equal(labels, expected)


def test_what_infer_returns_outlives_the_next_pass():
    set_random_seed(1)
    net, data = Segmenter(NET), np.ones((1, 3, 6, 5), np.float32)
    first = net.infer(data=data)
    kept = device.current().tonumpy(first).copy()
    net.infer(data=-data)
    np.testing.assert_array_equal(device.current().tonumpy(first), kept)


@pytest.mark.parametrize("run", ["forward", "backward", "forward_backward", "reshape"])
def test_a_pass_beside_another_threads_is_an_error(run):
    net = Net(NET, "TRAIN")
    with net.exclusive():
        net.forward()  # the thread that has the net goes on
        with ThreadPoolExecutor(1) as other:
            error = other.submit(getattr(net, run)).exception()
    assert isinstance(error, InputError) and "net 'small' is running in another thread" in str(error)
    net.forward()


def test_pycaffe_nets_refuse_a_second_thread_too(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    inside, errors = threading.Event(), []
    other = threading.Thread(target=lambda: (inside.wait(10), errors.append(_error_of(net.forward))))
    other.start()
    net.before_forward(lambda layer: (inside.set(), other.join(10)) if not errors else None)
    net.forward()
    assert len(errors) == 1 and "running in another thread" in errors[0]


def _error_of(call):
    try:
        call()
    except InputError as error:
        return str(error)
    return ""


def test_a_device_chosen_for_a_block_is_its_threads_alone():
    outer = device.current()
    inner = HostBackend(np.dtype(np.float64))
    with device.using(inner), ThreadPoolExecutor(1) as other:
        assert device.current() is inner
        assert other.submit(device.current).result() is outer
    assert device.current() is outer


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_computes_as_its_parent():
    script = f"""
import os, threading, warnings
import numpy as np
from fcnlite import device, set_random_seed
from fcnlite.net import Segmenter
warnings.simplefilter("ignore")
device.use("cpu", threads=3)
set_random_seed(1)
net = Segmenter({NET!r})
image = np.random.default_rng(0).integers(0, 256, (200, 220, 3), np.uint8)
expected = net.predict(image)
with net.exclusive():
    held = threading.Thread(target=lambda: net.predict(image), daemon=True)
    held.start()
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(net.predict(image), expected) else 1)
print(os.waitpid(child, 0)[1])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("0\n", 0), done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_is_told_that_its_gpu_is_lost(monkeypatch):
    with standing_in(monkeypatch):
        backend = device.use("cuda")
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                backend.select()
            except InputError as error:
                os.write(writer, str(error).encode())
            os._exit(0)
        os.close(writer)
        with open(reader) as answer:
            assert "a GPU does not outlive a fork" in answer.read()
        os.waitpid(child, 0)
        backend.select()


def draws(_=None):
    return [int(random.draw()), *random.bernoulli(20, 0.5), *random.filler_stream().integers(0, 1000, 3)]


def seeded(seed):
    random.set_random_seed(seed)
    time.sleep(0.01)  # for the other thread to seed its streams meanwhile
    return draws()


def test_trainings_in_two_threads_draw_as_each_would_alone():
    alone = [seeded(seed) for seed in range(2)]
    assert in_threads(2, seeded) == alone


TRAINED = (
    NET
    + """layer { name: "drop" type: "Dropout" bottom: "score" top: "score" }
layer { name: "mean" type: "Reduction" bottom: "score" top: "loss" loss_weight: 1
  reduction_param { operation: SUMSQ } }"""
)


def trained(seed):
    """The weights of a net with dropout after eight updates from random weights."""
    text = f"random_seed: {seed} base_lr: 0.001 lr_policy: 'fixed' max_iter: 8 momentum: 0.9 net_param {{ {TRAINED} }}"
    rng = np.random.default_rng(seed)
    solver = SGDSolver(text, source=iter(lambda: {"data": rng.standard_normal((1, 3, 12, 10))}, None))
    solver.step(8)
    return [device.current().tonumpy(param.blob.data).copy() for param in solver.net.learnable_params]


def test_trainings_in_two_threads_end_with_the_bits_of_each_alone():
    alone = [trained(seed) for seed in range(2)]
    for found, expected in zip(in_threads(2, trained), alone):
        for one, other in zip(found, expected, strict=True):
            assert one.tobytes() == other.tobytes()
    assert not np.array_equal(alone[0][0], alone[1][0])


def test_threads_without_a_seed_draw_differently_and_leave_the_main_thread_alone():
    set_random_seed(3)
    alone = draws()
    set_random_seed(3)
    found = sorted(in_threads(3, draws))
    assert draws() == alone
    assert len({tuple(values) for values in found}) == 3
    set_random_seed(3)
    assert sorted(in_threads(3, draws)) == found
