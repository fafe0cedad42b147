"""The stand-in CuPy: its surface is the real one's, and it refuses what the real one would get wrong."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import cupy_surface
import numpy as np
import pytest
from cupy_standin import NO_CUPY, real_cupy, standing_in

import fcnlite
from fcnlite.backend import cuda
from fcnlite.backend.source import source

PACKAGE = Path(fcnlite.__file__).parent
RECORDED = cupy_surface.read()
ROWS = source().split("#line", 2)[1]
KERNEL = (
    f"#line{ROWS}\n"
    "KERNEL tried(ROWS, int width, real factor, const unsigned char* kept, const real* in, real* out) {"
    " FOR_ROWS(r) FOR_LANES(i, width) out[r * width + i] = kept ? kept[i] * in[r * width + i] * factor : factor; }"
)


@pytest.fixture
def cupy(monkeypatch):
    with standing_in(monkeypatch) as module:
        yield module


# The surface


def own_members(module):
    """(path, object) of everything the stand-in defines in a module, or hands out there."""
    path = module.__name__
    handed_out = getattr(module, "__all__", ())
    for name, value in vars(module).items():
        if name in handed_out or (getattr(value, "__module__", "") == path and not name.startswith("_")):
            yield f"{path}.{name}", value
            if f"{path}.{name}" in (*cupy_surface.CLASSES, cupy_surface.COMMUNICATOR):
                for member, inner in inspect.getmembers(value):
                    if not member.startswith("_"):
                        yield f"{path}.{name}.{member}", inner


@pytest.mark.parametrize("name", [*cupy_surface.MODULES, cupy_surface.CUBLAS, cupy_surface.NCCL])
def test_the_stand_in_has_nothing_the_real_one_lacks(cupy, name):
    seen = 0
    for path, value in own_members(importlib.import_module(name)):
        if inspect.ismodule(value) or value is getattr(np, path.removeprefix("cupy."), None):
            continue  # NumPy's own, in the real one too
        seen += 1
        assert path in RECORDED, f"real CuPy has no {path}"
        theirs, mine = RECORDED[path], cupy_surface.parameters(value)
        if (
            callable(value)
            and "?" not in (theirs, mine)
            and "*arguments" not in mine
            and "*args" not in theirs
        ):
            names = [part.rstrip("=") for part in theirs.strip("()").split(",")]
            own = [part.rstrip("=") for part in mine.strip("()").split(",") if part]
            assert own == names[: len(own)], f"{path}{mine}; real CuPy has {theirs}"
    assert seen


def test_the_record_is_the_installed_packages():
    folder = real_cupy()
    if folder is None:
        pytest.skip(NO_CUPY)
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]; import cupy, cupy_surface, json;"
        "print(json.dumps([cupy.__version__, cupy_surface.record(cupy_surface.read())]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folder, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    import json

    version, found = json.loads(done.stdout.splitlines()[-1])
    if version != "14.2.0":
        pytest.skip(f"the record is of CuPy 14.2.0, installed is {version}")
    assert found == RECORDED


def attribute_chains(tree):
    """Every `a.b.c` of a module that starts at a name, as a list of names, the longest alone."""
    inner = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node not in inner:
            chain, at = [], node
            while isinstance(at, ast.Attribute):
                chain.append(at.attr)
                at = at.value
                inner.add(at)
            if isinstance(at, ast.Name):
                yield [at.id, *reversed(chain)], node.lineno
            else:
                yield ["", *reversed(chain)], node.lineno


def calls_of_cupy():
    """(where, dotted name) of every use of CuPy or of the backend's array module in the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for chain, line in attribute_chains(ast.parse(path.read_text())):
            where = f"{path.relative_to(PACKAGE)}:{line}"
            if "xp" in chain and len(chain) > chain.index("xp") + 1:
                yield where, ["cupy", *chain[chain.index("xp") + 1 :]]
            elif chain[0] in ("cupy", "cublas"):
                start = ["cupy"] if chain[0] == "cupy" else cupy_surface.CUBLAS.split(".")
                yield where, [*start, *chain[1:]]


def test_the_package_calls_nothing_that_the_real_cupy_lacks():
    found = list(calls_of_cupy())
    assert len(found) > 15
    for where, names in found:
        known = [".".join(names[:n]) in RECORDED for n in range(2, len(names) + 1)]
        module = ".".join(names[:-1]) in cupy_surface.MODULES
        assert any(known) or ".".join(names) in cupy_surface.MODULES, (
            f"{where}: real CuPy has no {'.'.join(names)}"
        )
        assert known[-1] or not module, f"{where}: real CuPy has no {'.'.join(names)}"


def test_only_the_backend_imports_cupy():
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.parent.name != "backend":
            for node in ast.walk(ast.parse(path.read_text())):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not any(name.split(".")[0] in ("cupy", "cupy_backends") for name in names), path


def test_a_name_that_the_real_one_lacks_is_no_attribute(cupy):
    assert not hasattr(cupy, "ascontiguous")
    assert not hasattr(cupy.ndarray, "scatter")
    with pytest.raises(TypeError, match="unexpected keyword"):
        cupy.clip(cupy.zeros(3), 0, 1, minimum=2)


# Arrays


def test_device_arrays_do_not_turn_into_numpys(cupy):
    array = cupy.ones((2, 3), np.float32)
    assert not isinstance(array, np.ndarray)
    for convert in (np.asarray, np.array, np.ascontiguousarray):
        with pytest.raises(TypeError):
            convert(array)


def test_device_and_host_arrays_do_not_mix(cupy):
    array, host = cupy.ones((2, 3), np.float32), np.ones((2, 3), np.float32)
    for mix in (
        lambda: array + host,
        lambda: host + array,
        lambda: cupy.maximum(array, host),
        lambda: array.__setitem__(..., host),
        lambda: np.add(host, host, out=array),
    ):
        with pytest.raises(TypeError):
            mix()


def test_sums_stay_on_the_device_and_reading_them_is_counted(cupy):
    from cupy._standin import waits

    array = cupy.asarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    total = (array * 2 + 1).sum()
    assert isinstance(total, cupy.ndarray) and total.shape == () and total.dtype == np.float32
    waits.clear()
    assert float(total) == 36 and bool(total > 0) and cupy.asnumpy(total) == 36
    assert waits == {"float": 1, "bool": 1, "get": 1}


def test_views_share_memory_and_results_do_not(cupy):
    array = cupy.zeros((4, 6), np.float32)
    part = array[1:3]
    assert part.data.ptr == array.data.ptr + 24 and part.reshape(-1).data.ptr == part.data.ptr
    assert array[:, 2:].flags.c_contiguous is False and array.T.flags.c_contiguous is False
    part[...] = 5
    assert array.get()[1:3].sum() == 60 and (array + 0).data.mem is not array.data.mem


def test_undefined_content_is_not_zero_by_chance(cupy):
    assert np.isnan(cupy.empty((3, 4), np.float32).get()).all()


# Launches


@pytest.fixture
def tried(cupy):
    function = cupy.RawModule(code=KERNEL, options=cuda.options("float")).get_function("tried")
    arrays = {
        "kept": cupy.ones(4, np.uint8),
        "in": cupy.asarray(np.arange(8, dtype=np.float32)),
        "out": cupy.empty(8, np.float32),
    }

    def launch(grid=(1,), block=(4, 2), drop=0, **changed):
        given = {
            "begin": np.int32(0),
            "end": np.int32(2),
            "width": np.int32(4),
            "factor": np.float32(2),
            **arrays,
            **changed,
        }
        function(grid, block, tuple(given.values())[: len(given) - drop])
        return given["out"].get()

    return launch


def test_a_right_launch_runs(tried):
    assert list(tried()) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert list(tried(kept=None)) == [2] * 8
    assert list(tried(grid=(0,), block=(1,))) == [
        0,
        2,
        4,
        6,
        8,
        10,
        12,
        14,
    ]  # as CuPy, which makes it one block


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"factor": 2.0}, TypeError, "passed as float64, float32 taken"),
        ({"factor": 2}, TypeError, "passed as int64, float32 taken"),
        ({"factor": np.float64(2)}, TypeError, "passed as float64"),
        ({"width": 4}, TypeError, "passed as int64, int32 taken"),
        ({"width": np.int64(4)}, TypeError, "passed as int64"),
        ({"width": True}, TypeError, "passed as bool"),
        ({"width": None}, TypeError, "Unsupported type"),
        ({"width": "4"}, TypeError, "Unsupported type"),
        ({"in": np.zeros(8, np.float32)}, TypeError, "a numpy.ndarray given"),
        ({"factor": np.ones(1, np.float32)}, TypeError, "a numpy.ndarray given"),
        ({"drop": 1}, TypeError, "takes 7 arguments, 6 given"),
        ({"more": np.int32(1)}, TypeError, "takes 7 arguments, 8 given"),
        ({"grid": [1]}, TypeError, "expected tuple, got list"),
        ({"block": 64}, TypeError, "expected tuple, got int"),
        ({"block": (64, 17)}, RuntimeError, "1088 threads"),
        ({"grid": (1, 70000)}, RuntimeError, "grid.y is 70000"),
    ],
)
def test_a_wrong_launch_is_refused(tried, changed, error, said):
    with pytest.raises(error, match=said):
        tried(**changed)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda cupy: cupy.zeros(8, np.float64), "an array of float64"),
        (lambda cupy: cupy.zeros((2, 8), np.float32)[:, ::2], "not contiguous"),
        (lambda cupy: cupy.zeros((2, 4), np.float32).T, "not contiguous"),
    ],
    ids=["dtype", "slice", "transpose"],
)
def test_a_wrong_array_is_refused(cupy, tried, make, said):
    with pytest.raises(TypeError, match=said):
        tried(**{"in": make(cupy)})


def test_modules_are_built_by_cupys_rules(cupy):
    with pytest.raises(TypeError, match="expected tuple, got list"):
        cupy.RawModule(code=KERNEL, options=["-DREAL=float"])
    with pytest.raises(RuntimeError, match="CUDA_ERROR_NOT_FOUND"):
        cupy.RawModule(code=KERNEL, options=cuda.options("float")).get_function("tired")
    with pytest.raises(TypeError, match="a changed header would go unnoticed"):
        cupy.RawModule(code='#include "rows.cuh"\n' + KERNEL)
    with pytest.raises(cupy.cuda.compiler.CompileException, match="not declared"):
        cupy.RawModule(code=KERNEL.replace("factor :", "fector :")).get_function("tried")


def test_fused_multiply_add_unless_told_not_to(cupy):
    code = KERNEL.replace(
        "kept[i] * in[r * width + i] * factor", "in[r * width + i] * factor - 1.00048828125f"
    )
    results = []
    for options in (("-DREAL=float",), cuda.options("float")):
        function = cupy.RawModule(code=code, options=options).get_function("tried")
        values, out = cupy.asarray(np.full(4, 1 + 2**-12, np.float32)), cupy.empty(4, np.float32)
        numbers = (np.int32(0), np.int32(1), np.int32(4), np.float32(1 + 2**-12))
        function((1,), (4,), (*numbers, cupy.ones(4, np.uint8), values, out))
        results.append(out.get()[0])
    assert results[1] == 0  # (1 + 2^-12)^2 rounds to 1 + 2^-11
    assert results[0] in (0, np.float32(2.0**-24))  # the latter where the processor can fuse


# cuBLAS


def gemm(cupy, m=2, n=3, k=4, a=None, lda=2, ldb=4, ldc=2, transa=0, **changed):
    from cupy_backends.cuda.libs import cublas

    one, zero = np.ones((), np.float32), np.zeros((), np.float32)
    a = cupy.ones(8, np.float32) if a is None else a
    b, c = cupy.ones(12, np.float32), cupy.empty(6, np.float32)
    given = {
        "handle": cupy.cuda.device.get_cublas_handle(),
        "alpha": one.ctypes.data,
        "beta": zero.ctypes.data,
        **changed,
    }
    alpha, beta = given["alpha"], given["beta"]
    matrices = (a.data.ptr, lda, b.data.ptr, ldb, beta, c.data.ptr, ldc)
    cublas.sgemm(given["handle"], transa, 0, m, n, k, alpha, *matrices)
    return c.get()


def test_gemm_multiplies_and_checks(cupy):
    assert (gemm(cupy) == 4).all()
    there = cupy.ones(1, np.float32)
    for changed, error, said in (
        ({"lda": 1}, RuntimeError, "CUBLAS_STATUS_INVALID_VALUE"),
        ({"transa": 1}, RuntimeError, "CUBLAS_STATUS_INVALID_VALUE"),
        ({"transa": 2}, RuntimeError, "CUBLAS_STATUS_INVALID_VALUE"),
        ({"m": -1}, RuntimeError, "CUBLAS_STATUS_INVALID_VALUE"),
        ({"lda": 3}, TypeError, "matrix A .* does not lie in one array"),
        ({"ldc": 3}, TypeError, "matrix C .* does not lie in one array"),
        ({"m": 2.0}, TypeError, "float"),
        ({"n": 2**31}, OverflowError, "int"),
        ({"handle": 1}, TypeError, "handle"),
        ({"alpha": there.data.ptr}, TypeError, "alpha must be on the host"),
    ):
        with pytest.raises(error, match=said):
            gemm(cupy, **changed)
