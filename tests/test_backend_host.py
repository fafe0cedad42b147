"""The CPU backend: matrix products in every layout, work sharing, and the kernel cache's safety."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from cases import relative_error
from hypothesis import given, settings
from hypothesis import strategies as st

from fcnlite import device
from fcnlite.backend import compile as compiler
from fcnlite.backend.source import source
from fcnlite.errors import InputError
from fcnlite.resources import kernels_folder

sizes = st.integers(1, 40)


@given(
    m=sizes,
    n=sizes,
    k=sizes,
    layout=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    add=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_gemm_in_every_layout(m, n, k, layout, add):
    """Transposes, slices of wider matrices, accumulation, double: all equal to NumPy's product."""
    backend = device.use("cpu", dtype=np.float64)
    rng = np.random.default_rng(m * 10007 + n * 101 + k)
    turned_a, turned_b, sliced = layout
    a = (
        rng.standard_normal((k, m + 3))[:, 1 : m + 1].T
        if turned_a
        else rng.standard_normal((m, k + 2))[:, 2:]
    )
    b = rng.standard_normal((n, k + 1))[:, :k].T if turned_b else rng.standard_normal((k, n))
    whole = rng.standard_normal((m, n + 5))
    before = whole.copy()
    out = whole[:, 3 : n + 3] if sliced else whole[:, :n].copy()
    expected = a @ b + (out if add else 0)
    backend.gemm(a, b, out, add)
    np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-12)
    if sliced:
        np.testing.assert_array_equal(whole[:, :3], before[:, :3])
        np.testing.assert_array_equal(whole[:, n + 3 :], before[:, n + 3 :])
    device.use("cpu")


@pytest.mark.parametrize("m, n, k", [(0, 5, 4), (3, 0, 4), (3, 5, 0)])
def test_gemm_of_nothing(m, n, k):
    a, b, out = np.ones((m, k), np.float32), np.ones((k, n), np.float32), np.full((m, n), 7, np.float32)
    device.current().gemm(a, b, out, accumulate=True)
    assert (out == 7).all()
    device.current().gemm(a, b, out)
    assert (out == 0).all()


def test_gemm_refuses_what_it_would_get_wrong():
    backend = device.use("cpu")
    a, b, out = (np.zeros(s, np.float32) for s in ((3, 4), (4, 5), (3, 5)))
    with pytest.raises(ValueError, match="does not give"):
        backend.gemm(a, b, out.T)
    with pytest.raises(TypeError, match="float64"):
        backend.gemm(a.astype(np.float64), b, out)
    with pytest.raises(ValueError, match="no dense axis"):
        backend.gemm(np.zeros((6, 8), np.float32)[::2, ::2], b, out)
    with pytest.raises(ValueError, match="dense rows"):
        backend.gemm(a, b, np.zeros((5, 3), np.float32).T)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_big_products_and_sums_do_not_depend_on_threads(threads):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((300, 200), np.float32), rng.standard_normal((200, 170), np.float32)
    results = []
    for count in (1, threads):
        backend = device.use("cpu", threads=count)
        out, sums = np.empty((300, 170), np.float32), np.empty(300, np.float32)
        backend.gemm(a, b, out)
        backend.row_sums(a, sums)
        results.append((out, sums))
    device.use("cpu")
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])
    assert relative_error(results[0][0], a.astype(float) @ b) <= 2e-6
    assert relative_error(results[0][1], a.sum(1, dtype=float)) <= 2e-6


def test_total_adds_one_after_the_other():
    values = np.random.default_rng(3).standard_normal(10_001).astype(np.float32)
    expected = np.float32(0)
    for value in values:
        expected += value
    assert device.use("cpu").total(values)[0] == expected


def test_parallel_runs_each_task_once_and_carries_errors_over():
    backend = device.use("cpu", threads=3)
    seen, lock = [], threading.Lock()

    def note(i):
        with lock:
            seen.append(i)

    backend.parallel(100, note)
    assert sorted(seen) == list(range(100))

    def fail(i):
        if i == 57:
            raise RuntimeError("task 57")

    with pytest.raises(RuntimeError, match="task 57"):
        backend.parallel(100, fail)
    backend.parallel(3, note)  # still works
    device.use("cpu")


def test_damaged_and_foreign_cache_files_are_built_again(tmp_path, monkeypatch):
    monkeypatch.setenv("FCNLITE_CACHE", str(tmp_path))
    text = 'extern "C" int answer() { return 42; }'
    path = compiler.library(text, "float")
    good = path.read_bytes()
    assert path.parent == tmp_path / "kernels"
    for damage in (good[: len(good) // 2], b"not a library", b"", good[:-1] + bytes([good[-1] ^ 1])):
        path.write_bytes(damage)
        assert compiler.library(text, "float") == path
        assert compiler._intact(path)
    assert list(path.parent.iterdir()) == [path], "no leftovers"


def test_cache_key_covers_source_and_precision(tmp_path, monkeypatch):
    monkeypatch.setenv("FCNLITE_CACHE", str(tmp_path))
    text = 'extern "C" int answer() { return 42; }'
    paths = {
        compiler.library(text, "float"),
        compiler.library(text, "double"),
        compiler.library(text + " ", "float"),
    }
    assert len(paths) == 3


def test_two_processes_may_build_at_once(tmp_path):
    script = (
        "import sys; from fcnlite.backend import compile as c;"
        "import ctypes; p = c.library('extern \"C\" int answer() { return 42; }', 'float');"
        "sys.exit(ctypes.CDLL(str(p)).answer() != 42)"
    )
    environment = {**os.environ, "FCNLITE_CACHE": str(tmp_path)}
    running = [subprocess.Popen([sys.executable, "-c", script], env=environment) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]


def test_compiler_errors_are_clear(tmp_path, monkeypatch):
    monkeypatch.setenv("FCNLITE_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="could not compile the kernels"):
        compiler.library("this is no C++", "float")
    assert not list((tmp_path / "kernels").iterdir()), "nothing half-built stays"
    compiler.find_compiler.cache_clear()
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match="no-such-compiler"):
        compiler.find_compiler()
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(compiler.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="install g\\+\\+"):
        compiler.find_compiler()
    compiler.find_compiler.cache_clear()


def test_a_build_that_sigterm_ends_leaves_nothing(tmp_path):
    script = tmp_path / "compiler"
    script.write_text(
        "#!/bin/sh\ncase $* in *' -o '*) touch $TMPDIR/x.s; kill -TERM $PPID; exec sleep 60; esac\n"
    )
    script.chmod(0o755)
    environment = {**os.environ, "FCNLITE_CACHE": str(tmp_path / "cache"), "CXX": str(script)}
    command = [sys.executable, "-m", "fcnlite.train", "shapes", "--device", "cpu"]
    run = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=50
    )
    assert run.returncode == 128 + signal.SIGTERM
    assert run.stderr.endswith("\nfcnlite train: interrupted\n")
    assert not list((tmp_path / "cache" / "kernels").iterdir())


@pytest.mark.parametrize("name", ["kernels", "product"])
def test_kernels_compile_without_warnings(name, tmp_path):
    text = source() if name == "kernels" else (kernels_folder() / "product.cpp").read_text()
    command = [
        *compiler.find_compiler(),
        *(compiler.FLAGS if name == "kernels" else compiler.FUSED),
        "-DREAL=float",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-x",
        "c++",
        "-",
        "-o",
    ]
    command.append(str(tmp_path / "kernels.so"))
    result = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr


def test_unknown_devices_are_refused():
    for name in ("gpu", "cuda:x", "cpu:1"):
        with pytest.raises(InputError, match="choose auto, cpu, cuda"):
            device.use(name)
    with pytest.raises(InputError, match="float32 or float64"):
        device.use("cpu", dtype=np.int32)


def test_numpy_keeps_its_own_threads():
    """Only the BLAS that fcnlite calls is held to one thread, where SciPy carries its own."""
    script = (
        "import numpy, threadpoolctl as t; from pathlib import Path\n"
        "blas = lambda: {l['filepath']: l['num_threads'] for l in t.threadpool_info() if l['user_api'] == 'blas'}\n"
        "before = blas(); from fcnlite import device; device.use('cpu'); after = blas()\n"
        "own = {p: n for p, n in after.items() if Path(p).parent.name == 'scipy.libs'}\n"
        "assert set((own or after).values()) == {1}, after\n"
        "assert not own or all(after[p] == n for p, n in before.items() if p not in own), (before, after)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)


@given(
    m=st.integers(8, 230),
    n=st.integers(1, 120),
    k=st.one_of(st.integers(1, 40), st.integers(570, 590), st.integers(1150, 1160)),
    turned=st.booleans(),
    apart=st.sampled_from([0, 3, 3000]),
    add=st.booleans(),
    single=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_product_adds_up_to_the_same_bits_however_it_is_cut(m, n, k, turned, apart, add, single):
    """Every column of fcnlite's own product by itself; edges, far rows and several blocks of depth among them."""
    dtype = np.float32 if single else np.float64
    backend = device.use("cpu", dtype=dtype, threads=1)
    backend.own_products = True  # whether or not it gains here
    rng = np.random.default_rng(m * 10007 + n * 101 + k)
    a = rng.standard_normal((k, m + 1) if turned else (m, k + 1)).astype(dtype)
    a = a[:, :m].T if turned else a[:, :k]
    b = rng.standard_normal((k, n + apart)).astype(dtype)[:, :n]
    whole = rng.standard_normal((m, n + 5)).astype(dtype)
    before, out = whole.copy(), whole[:, 3 : n + 3]
    apart_out = out.copy()
    backend.gemm(a, b, out, add)
    expected = a.astype(float) @ b + (before[:, 3 : n + 3] if add else 0)
    assert relative_error(out, expected) <= (2e-6 if single else 1e-14)
    np.testing.assert_array_equal(
        np.delete(whole, np.s_[3 : n + 3], 1), np.delete(before, np.s_[3 : n + 3], 1)
    )
    for first, last in ((0, n // 3), (n // 3, n // 3 + 1), (n // 3 + 1, n)):
        backend.gemm(a, b[:, first:last], apart_out[:, first:last], add)
    np.testing.assert_array_equal(apart_out, out)
    device.use("cpu")
