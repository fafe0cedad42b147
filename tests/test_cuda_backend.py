"""backend/cuda.py itself, on the stand-in CuPy: whole nets and training give the CPU's numbers, nothing waits."""

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import cases
import cuda_semantics
import h5py
import numpy as np
import pytest
from cupy_standin import standing_in
from hypothesis import given, settings
from hypothesis import strategies as st
from test_reference_solvers import start

from fcnlite import device
from fcnlite.backend import cuda
from fcnlite.backend.source import signatures, source
from fcnlite.net import Net
from fcnlite.solver import SGDSolver

BOUNDS = {np.float32: 2e-6, np.float64: 1e-13}  # sums add up in another order


@pytest.fixture
def cupy(monkeypatch):
    with standing_in(monkeypatch) as module:
        yield module


@pytest.fixture
def waits(cupy):
    from cupy._standin import waits

    waits.clear()
    return waits


def run(file, case, name, dtype):
    """A case on a device: the net and its reference group's name."""
    device.use(name, dtype)
    with h5py.File(cases.REFERENCE / file) as f:
        net = cases.build(case, f[case])
        cases.run(case, net)
    return net


def arrays(net):
    """Everything a net holds, by name, on the host."""
    found = {}
    for name, blob in net.blobs.items():
        found[name] = blob.data
        if blob.has_diff:
            found[f"{name} diff"] = blob.diff
    for name, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            if blob.has_diff:
                found[f"{name}/{i} diff"] = blob.diff
    return {name: device.current().tonumpy(array).copy() for name, array in found.items()}


def agree(file, case, dtype, all_diffs=True):
    theirs = arrays(run(file, case, "cpu", dtype))
    net = run(file, case, "cuda", dtype)
    mine = arrays(net)
    assert mine.keys() == theirs.keys()
    for name, expected in theirs.items():
        if not all_diffs and name.endswith(" diff") and "/" not in name:
            continue
        assert mine[name].dtype == expected.dtype == dtype
        assert cases.relative_error(mine[name], expected) <= BOUNDS[dtype], f"{case}: {name}"
    return net


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("case", cases.names("layers.h5"))
def test_layers_give_the_cpus_numbers(cupy, case, dtype):
    net = agree("layers.h5", case, dtype)
    assert all(isinstance(blob.data, cupy.ndarray) for blob in net.blobs.values())


# In double, where hardly any rounding turns a unit on or off. But in the padding around the image all pixels of a
# pooling window are equal, and rounding chooses one: blobs' gradients differ there, parameters' do not.
@pytest.mark.parametrize("case", ["fcn-alexnet-train", "fcn8s-train"])
def test_nets_give_the_cpus_numbers(cupy, case):
    agree("nets.h5", case, np.float64, all_diffs=False)


@pytest.mark.parametrize("case", ["fcn-alexnet-train", "fcn16s-test"])
def test_nets_give_caffes_numbers(cupy, case):
    net = run("nets.h5", case, "cuda", np.float32)
    with h5py.File(cases.REFERENCE / "nets.h5") as file:
        cases.compare(net, file[case], 5e-5)


@pytest.mark.parametrize("only_forward", [False, True], ids=["forward_backward", "infer"])
def test_the_quick_ways_through_a_net_never_wait(cupy, waits, only_forward):
    device.use("cuda")
    with h5py.File(cases.REFERENCE / "nets.h5") as file:
        net = cases.build("fcn-alexnet-train", file["fcn-alexnet-train"], force_backward=False)
    quick = partial(net.infer, output="score") if only_forward else net.forward_backward
    quick()  # losses look at the labels of their first pass
    waits.clear()
    quick()
    assert not waits


TRAINING = """
name: "small"
layer { name: "data" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 1 dim: 3 dim: 9 dim: 11 } shape { dim: 1 dim: 1 dim: 9 dim: 11 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "conv" bottom: "label" top: "loss"
  loss_param { ignore_label: 255 } }
"""


def small_solver(extra=""):
    rng = np.random.default_rng(1)
    net = Net(TRAINING, phase="TRAIN")
    batch = {"data": rng.normal(size=(1, 3, 9, 11)), "label": rng.integers(0, 4, (1, 1, 9, 11))}

    def batches():
        while True:
            yield batch

    text = f"base_lr: 0.1 lr_policy: 'fixed' max_iter: 100 momentum: 0.9 {extra}"
    net.forward(**batch)  # losses look at the labels of their first pass
    return SGDSolver(text, net=net, source=batches())


def test_an_iteration_never_waits(cupy, waits):
    device.use("cuda")
    solver = small_solver("iter_size: 2 average_loss: 3")
    waits.clear()
    solver.step(3)
    assert not waits
    losses = solver.losses
    assert waits == {"synchronize": 3} and len(losses) == 3 and np.isfinite(losses).all()
    assert solver.smoothed_loss == np.mean(losses)


def test_a_loss_is_read_while_the_gpu_goes_on(cupy, waits):
    from cupy import _standin

    backend = device.use("cuda")
    value = backend.asarray([3])
    loss = backend.later(value.sum() * 2)
    (value + 1).sum()  # asked for later
    waits.clear()
    assert float(loss) == 6
    assert waits == {"synchronize": 1} and _standin.done < _standin.asked


def test_display_reads_the_losses_it_shows_and_no_more(cupy, waits, caplog):
    device.use("cuda")
    solver = small_solver("display: 4 average_loss: 4")
    waits.clear()
    with caplog.at_level(logging.INFO):
        solver.step(5)  # shown: iterations 0 and 4
    assert waits == {"synchronize": 1 + 4}
    assert "Iteration 4, loss = " in caplog.text


def test_clipping_waits_once_an_iteration(cupy, waits):
    device.use("cuda")
    solver = small_solver("clip_gradients: 0.1")
    waits.clear()
    solver.step(3)
    assert waits == {"float": 3}


def train(case, name, steps):
    """The first iterations of a reference run: losses, and parameters and history on the host."""
    device.use(name)
    with h5py.File(cases.REFERENCE / "solvers.h5") as file:
        solver = start(case, file[case])
        losses = []
        for _ in range(steps):
            solver.step(1)
            losses.append(float(solver.net.blobs["loss"].data))
        assert np.abs(np.array(losses) / file[case]["loss"][:steps] - 1).max() <= 5e-5
    params = [p.blob.data for p in solver.net.learnable_params]
    return solver, [device.current().tonumpy(array).copy() for array in [*params, *solver.history]]


@pytest.mark.parametrize("case", ["solver-clip", "solver-l1", "solver-multistep"])
def test_training_runs_end_as_caffes(cupy, case):
    solver, _ = train(case, "cuda", 12)
    with h5py.File(cases.REFERENCE / "solvers.h5") as file:
        for p in solver.net.learnable_params:
            expected = file[case]["params"][p.layer][str(p.index)][()]
            assert cases.relative_error(p.blob.data, expected) <= 5e-5, f"{p.layer}/{p.index}"


def test_training_an_fcn8s_gives_the_cpus_numbers(cupy):
    (_, theirs), (_, mine) = (train("solver-heavy", name, 2) for name in ("cpu", "cuda"))
    for got, expected in zip(mine, theirs, strict=True):
        assert np.abs(got - expected).max() <= 5e-5 * np.abs(expected).max()


def test_a_snapshot_made_on_one_device_goes_on_on_the_other(cupy, tmp_path):
    device.use("cuda")
    solver = small_solver(f"random_seed: 3 snapshot_prefix: '{tmp_path}/s'")
    solver.step(2)
    _, state = solver.snapshot()
    device.use("cpu")
    other = small_solver(f"random_seed: 3 snapshot_prefix: '{tmp_path}/s'")
    other.restore(state)
    device.use("cuda")
    for mine, theirs in zip(solver.history, other.history, strict=True):
        assert (mine.get() == theirs).all()


# The backend's own parts


@settings(max_examples=200, deadline=None)
@given(rows=st.integers(1, 2**31 - 1), width=st.integers(1, 100000))
def test_launches_fit_the_device_and_cover_the_work(rows, width):
    grid, (lanes, block_rows) = cuda.launch_shape(rows, width)
    assert cuda_semantics.oversize(grid, (lanes, block_rows)) is None
    assert min(grid[0], lanes, block_rows) >= 1 and lanes <= width
    assert grid[0] * block_rows >= rows and (grid[0] - 1) * block_rows < rows


@settings(max_examples=200, deadline=None)
@given(rows=st.integers(1, 10**6), width=st.integers(1, 3000))
def test_few_threads_are_idle(rows, width):
    _, (lanes, block_rows) = cuda.launch_shape(rows, width)
    passes = -(-width // lanes)
    assert width > 0.5 * passes * lanes  # lanes past the end of the row
    warps = -(-lanes * block_rows // 32)
    enough = rows * lanes >= cuda.BLOCK_THREADS
    assert not enough or lanes * block_rows > 0.75 * warps * 32  # threads that fill up the last warp
    few = rows * lanes < cuda.DEVICE_THREADS
    assert not few or lanes == min(width, cuda.BLOCK_THREADS)  # a GPU's worth of threads, if the work has it


def test_the_launcher_converts_and_checks(cupy):
    backend = device.use("cuda")
    a, out = backend.asarray([[1, -2], [-3, 4]]), backend.empty((2, 2))
    backend.launch("relu_forward", 2, 2, 0.5, a, out)
    assert (out.get() == [[1, -1], [-1.5, 4]]).all()
    backend.launch("relu_forward", 0, 2, 0.5, a, out)  # no rows, no launch
    with pytest.raises(TypeError, match="relu_forward, parameter in: ndarray given, an array of this device"):
        backend.launch("relu_forward", 2, 2, 0.5, np.zeros((2, 2), np.float32), out)
    with pytest.raises(ValueError, match="not contiguous"):
        backend.launch("relu_forward", 2, 2, 0.5, a.T, out)


def test_every_kernel_is_found_in_the_module(cupy):
    backend = device.use("cuda")
    for name in signatures():
        assert backend._module(source()).get_function(name)


@pytest.mark.parametrize("dtype", BOUNDS)
def test_products_of_slices_and_transposes(cupy, dtype):
    backend = device.use("cuda", dtype)
    rng = np.random.default_rng(0)
    for a_turned, b_turned, add in np.ndindex(2, 2, 2):
        wide = [rng.normal(size=shape).astype(dtype) for shape in ((9, 7), (7, 11), (9, 13))]
        if a_turned:
            wide[0] = np.ascontiguousarray(wide[0].T)
        if b_turned:
            wide[1] = np.ascontiguousarray(wide[1].T)
        on_device = [cupy.asarray(array) for array in wide]
        views = []
        for a, b, c in (wide, on_device):
            a, b = a.T if a_turned else a, b.T if b_turned else b
            views.append((a[2:7, 1:6], b[1:6, 3:10], c[2:7, 4:11]))
        expected = views[0][0] @ views[0][1] + add * views[0][2]
        backend.gemm(*views[1], accumulate=bool(add))
        wide[2][2:7, 4:11] = expected
        assert np.abs(on_device[2].get() - wide[2]).max() < 1e2 * np.finfo(dtype).eps


def test_sums(cupy, waits):
    backend = device.use("cuda")
    matrix = backend.asarray(np.arange(12).reshape(3, 4))
    out = backend.zeros(3)
    backend.row_sums(matrix, out)
    backend.row_sums(matrix, out, accumulate=True)
    total = backend.total(matrix)
    assert not waits
    assert (out.get() == [12, 44, 76]).all() and total.get() == [66]


def elsewhere(task):
    """What a task returns or raises in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(task).result()


def test_the_workspace_is_one_for_each_thread(cupy):
    backend = device.use("cuda")
    first = backend.workspace(100).data.ptr
    assert backend.workspace(50).data.ptr == first
    assert elsewhere(lambda: backend.workspace(50)).data.ptr != first
    backend.synchronize()


def test_any_thread_works_on_the_gpu_chosen(monkeypatch):
    with standing_in(monkeypatch, gpus=2) as cupy:
        chosen = device.use("cuda:1")
        solver = small_solver("")
        solver.step(1)
        elsewhere(lambda: solver.step(1))
        weight = solver.net.learnable_params[0].blob.data
        assert weight.data.device_id == 1 and np.isfinite(solver.losses).all()
        device.use("cuda:0")
        with device.using(chosen):
            solver.step(1)
        assert device.current().zeros(1).data.device_id == 0
        with pytest.raises(TypeError, match="is used on GPU 0"):
            weight + 1
        with pytest.raises(TypeError, match="argument 4: the array is on GPU 1, the launch on 0"):
            chosen.launch("relu_forward", 1, 1, 0.0, weight, weight)
        assert cupy.cuda.Device().id == 0
