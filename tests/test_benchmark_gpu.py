"""The command for the day a GPU is there, run on the stand-in: every part works and says what it must."""

import json

import numpy as np
import pytest
from cupy_standin import standing_in

from benchmarks import gpu
from fcnlite import device
from fcnlite.surgery import bilinear_weights

SMALL = ["--size", "40x50", "--width", "2", "--fc", "4", "--runs", "1", "--cases", "conv-3x3-pad1"]


@pytest.fixture
def cupy(monkeypatch):
    with standing_in(monkeypatch) as module:
        yield module


def test_every_part_runs_and_is_written_down(cupy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu, "STRIPS", (64,))
    monkeypatch.setattr(gpu, "WARPS", (256,))
    status = gpu.main(["--out", str(tmp_path / "gpu.json"), *SMALL])
    printed = capsys.readouterr().out
    assert status == 0 and "all checks passed" in printed, printed
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["device"]["name"] == "stand-in"
    checks = report["checks"]["errors"]
    assert checks["layers.h5"]["conv-3x3-pad1"] <= 1e-5
    assert max(checks["kernels"].values()) == 0  # the stand-in has the CPU's own exp and log
    for part, net in (("inference", "fcn8s"), ("training", "fcn32s")):
        assert report[part]["net"] == net and len(report[part]["fcnlite"]) == 1
        assert report[part]["floors"]["H100"] > 0
    assert report["training"]["same_bits_twice"] is True
    kernels = report["kernels"]["kernels"]
    assert {"gemm", "im2col", "col2im", "bias_forward", "sgd_update", "row_sums"} <= kernels.keys()
    assert all(kernel["ms"] >= 0 and kernel["bytes"] > 0 for kernel in kernels.values())
    assert report["strips"].keys() == {"64"} and report["blocks"].keys() == {"256"}


@pytest.mark.parametrize(("train", "ups"), [(False, 3), (True, 1)])
def test_weights_are_random_but_for_upsampling(cupy, train, ups):
    device.use("cuda")
    net, _ = gpu._make(gpu._parser().parse_args(SMALL), train)
    found = 0
    for name, blobs in net.params.items():
        weight = device.current().tonumpy(blobs[0].data)
        if net.layer(name).type == "Deconvolution":
            np.testing.assert_array_equal(weight, bilinear_weights(weight.shape))
            found += 1
        else:
            assert len(np.unique(weight)) == weight.size
    assert found == ups


def test_a_wrong_kernel_fails_and_does_not_stop_the_rest(cupy, tmp_path, capsys, monkeypatch):
    right = gpu.cuda.CudaBackend.launch

    def wrong(self, name, rows, *arguments):
        right(self, name, rows, *arguments)
        if name == "relu_forward":
            arguments[-1].fill(np.float32(7))

    monkeypatch.setattr(gpu.cuda.CudaBackend, "launch", wrong)
    status = gpu.main(["--out", str(tmp_path / "gpu.json"), *SMALL, "--parts", "checks", "kernels"])
    printed = capsys.readouterr().out
    assert status == 1 and "FAILED: relu_forward" in printed and "failed: checks" in printed
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["checks"]["failed"] == ["kernels: relu_forward"]
    assert report["kernels"]["kernels"]["gemm"]["launches"] > 0


def test_without_a_gpu_it_says_so_in_one_line(monkeypatch, capsys, tmp_path):
    with standing_in(monkeypatch, gpus=0):
        assert gpu.main(["--out", str(tmp_path / "gpu.json")]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "CuPy finds no GPU (cudaErrorInsufficientDriver" in said[0]
    assert not (tmp_path / "gpu.json").exists()
