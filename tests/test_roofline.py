"""The cost on paper: what the counting backend counts is what the layers' shapes say."""

import numpy as np
import pytest

from benchmarks import roofline
from fcnlite import device, models
from fcnlite.backend.cuda import CudaBackend
from fcnlite.net import Net

SIZE = (60, 84)


class Watched(Net):
    """A net that notes each layer's multiply-adds, from the shapes in which the layers run."""

    def __init__(self, param):
        super().__init__(param, phase="TEST")
        self.found = {}

    def forward_node(self, node):
        super().forward_node(node)
        layer = node.layer
        if layer.type in ("Convolution", "Deconvolution"):
            image = (node.tops if layer.type == "Convolution" else node.bottoms)[0].shape
            self.found[layer.name] = layer.blobs[0].count * image[2] * image[3]


def products(name):
    """Multiply-adds of each layer with weights, forward, from the shapes alone."""
    with roofline.counting():
        net = Watched(models.build(name, width=8, deploy=True))
        net.infer(data=np.zeros((1, 3, *SIZE), np.float32))
        return net.found


@pytest.mark.parametrize("name", ["fcn32s", "fcn8s"])
def test_multiply_adds_are_those_of_the_shapes(name):
    expected = products(name)
    inference, _ = roofline.count(name, SIZE, train=False, width=8)
    assert {layer: sum(w.products for w in inference if w.layer == layer) for layer in expected} == expected
    training, _ = roofline.count(name, SIZE, train=True, width=8)
    forward = sum(w.products for w in training if w.phase == "forward")
    back = {
        layer: sum(
            w.products for w in training if w.layer == layer and w.phase == "backward" and w.kernel == "gemm"
        )
        for layer in expected
    }
    assert forward == sum(expected.values())
    for (
        layer,
        count,
    ) in expected.items():  # towards weights and image; upsampling is fixed, the first image data
        assert back[layer] == (count if layer.startswith("up") or layer == "conv1_1" else 2 * count), layer


def test_equal_windows_and_winograd_save_multiply_adds():
    def total(**options):
        return sum(w.products for w in roofline.count("fcn8s", (500, 334), train=False, **options)[0])

    with roofline.counting():
        net = Net(models.build("fcn8s", deploy=True))
        net.blobs["data"].reshape(1, 3, 500, 334)
        net.reshape()
        whole = sum(n.layer.blobs[0].count * n.tops[0].count // n.tops[0].channels for n in net.nodes
                    if n.layer.type == "Convolution")  # fmt: skip
    assert total() < 0.82 * whole
    assert total(fast=True) < 0.4 * whole


def test_every_kernel_moves_its_arrays_at_least_once():
    work, _ = roofline.count("fcn16s", SIZE, train=True, width=8)
    assert len(work) > 200 and all(w.bytes > 0 for w in work)
    assert {w.phase for w in work} == {"forward", "backward", "update"}
    columns = [w for w in work if w.kernel == "im2col" and w.layer == "fc6" and w.phase == "forward"]
    with roofline.counting():
        net = Net(models.build("fcn16s", width=8, deploy=True), phase="TEST")
        net.blobs["data"].reshape(1, 3, *SIZE)
        net.reshape()
        pool5, fc6 = net.blobs["pool5"], net.blobs["fc6"]
    written = pool5.channels * 49 * fc6.height * fc6.width
    assert written * 4 < sum(w.bytes for w in columns) <= (written + pool5.count) * 4


def test_a_floor_is_the_larger_of_arithmetic_and_traffic():
    gpu = roofline.Gpu("some", teraflops=1, gigabytes=100)
    assert gpu.seconds(roofline.Work("", "", "", 10**9, 1)) == pytest.approx(2e-3)
    assert gpu.seconds(roofline.Work("", "", "", 1, 10**9)) == pytest.approx(1e-2)


def test_the_counter_cuts_the_work_as_the_gpus_backend_does():
    for attribute in ("strip_bytes", "whole_bytes", "strip_depth", "checks_data", "ahead"):
        assert getattr(roofline.Counter, attribute) == getattr(CudaBackend, attribute)
    assert roofline.Counter().channel_blocks(64, 9) == CudaBackend.channel_blocks(None, 64, 9)


def test_the_device_in_use_is_kept():
    before = device.current()
    roofline.count("fcn32s", SIZE, train=False, width=8)
    assert device.current() is before and isinstance(before.zeros(1), np.ndarray)


def test_the_command_prints_a_floor_for_each_gpu(capsys):
    assert roofline.main(["--net", "fcn8s", "--size", "60x84", "--layers"]) == 0
    printed = capsys.readouterr().out
    assert "fcn8s, 60 x 84, inference" in printed and "a training iteration" in printed
    for text in ("K40", "RTX4090", "conv1_2 forward", "backward: col2im", "The paper's figure"):
        assert text in printed
