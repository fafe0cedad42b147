"""That the checks of the GPU path work: each of these mistakes, made in a copy of the tree, is seen by one of them."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RELU = "FOR_LANES(i, width) b[i] = a[i] > 0 ? a[i] : slope * a[i];"
BITS = "test_cuda_semantics.py::test_any_grid_gives_the_cpus_bits[float-{}]"
MEMORY = "test_cuda_semantics.py::test_sanitizers_find_nothing[address+undefined]"
RACES = "test_cuda_semantics.py::test_sanitizers_find_nothing[thread]"
NVRTC = "test_nvrtc.py::test_every_kernel_compiles_and_fits[80-float]"
LAUNCH = "test_cuda_backend.py::test_the_launcher_converts_and_checks"
SHAPES = "test_cuda_backend.py::test_launches_fit_the_device_and_cover_the_work"
PRODUCTS = "test_cuda_backend.py::test_products_of_slices_and_transposes[float32]"
AHEAD = "test_cuda_backend.py::test_a_loss_is_read_while_the_gpu_goes_on"
THREADS = "test_cuda_backend.py::test_any_thread_works_on_the_gpu_chosen"
HUGE = "test_cuda_semantics.py::test_a_billion_rows_are_gone_through_once"
WAITS = "test_cuda_backend.py::test_an_iteration_never_waits"
CALLS = "test_cupy_standin.py::test_the_package_calls_nothing_that_the_real_cupy_lacks"
RECIPES = "test_cuda_semantics.py::test_every_output_element_is_written_and_none_read_before[{}]"


@dataclass(frozen=True)
class Mutation:
    """A mistake: text to replace in a file, the check that sees it, and what that says.

    Only `kernels` are copied, where given, so that they compile in a moment.
    """

    name: str
    file: str
    before: str
    after: str
    check: str
    said: str
    kernels: tuple[str, ...] = ()


def in_relu(name, after, check, said):
    return Mutation(name, "kernels/relu.cu", RELU, after, check, said, ("relu",))


BITS_OF_RELU = BITS.format("relu_forward")
MUTATIONS = [
    in_relu("a barrier", f"{RELU} __syncthreads();", BITS_OF_RELU, "__syncthreads"),
    in_relu(
        "a barrier that only the GPU sees",
        f"{RELU}\n#ifdef __CUDACC__\n__syncthreads();\n#endif\n",
        BITS_OF_RELU,
        "poisoned",
    ),
    in_relu(
        "a barrier, to NVRTC",
        f"{RELU}\n#ifdef __CUDACC__\n__syncthreads();\n#endif\n",
        NVRTC,
        "wait for or write",
    ),
    in_relu("a double literal", RELU.replace("slope *", "1.0 * slope *"), BITS_OF_RELU, "double-promotion"),
    in_relu(
        "a double literal, to NVRTC", RELU.replace("slope *", "1.1 * slope *"), NVRTC, "computes in double"
    ),
    in_relu("a cast to double", RELU.replace("slope *", "(double)slope *"), NVRTC, "computes in double"),
    in_relu(
        "a path of the GPU's own",
        f"\n#ifdef __CUDACC__\nslope += (real)0.001;\n#endif\n{RELU}",
        BITS_OF_RELU,
        "relu_forward over .* differs",
    ),
    in_relu(
        "a race for one place, if always with the same value",
        f"{RELU} out[0] = in[0] > 0 ? in[0] : slope * in[0];",
        RACES,
        "data race",
    ),
    in_relu(
        "the first lane left out",
        RELU.replace("FOR_LANES(i, width)", "FOR_SPAN(i, 1, width)"),
        RECIPES.format("relu_forward"),
        "relu_forward over .* differs",
    ),
    Mutation(
        "a row too many",
        "kernels/rows.cuh",
        "(unsigned)r < (unsigned)row_end; \\\n",
        "(unsigned)r <= (unsigned)row_end; \\\n",
        MEMORY,
        "use-after-poison",
        ("relu",),
    ),
    Mutation(
        "rows passed over",
        "kernels/rows.cuh",
        "(unsigned)r + gridDim.x * blockDim.y",
        "(unsigned)r + gridDim.x * blockDim.x",
        BITS_OF_RELU,
        "relu_forward over .* differs",
        ("relu",),
    ),
    Mutation(
        "bounds removed",
        "kernels/columns.cu",
        "hi = max_int(lo, min_int(width, floor_div(in_w - 1 - shift, stride_w) + 1));",
        "hi = width;",
        MEMORY,
        "use-after-poison",
        ("columns",),
    ),
    Mutation(
        "a plane's index in 32 bits",
        "kernels/pooling.cu",
        "in + (size_t)(r / out_h) * in_h * in_w;\n        FOR_TILES(t, width) {\n            real best",
        "in + (r / out_h) * in_h * in_w;\n        FOR_TILES(t, width) {\n            real best",
        "test_huge_arrays.py::test_the_last_rows_of_huge_arrays[max_pool_forward]",
        "differs at .* behind",
        ("pooling",),
    ),
    Mutation(
        "fused multiply-adds",
        "fcnlite/backend/cuda.py",
        '"--fmad=false", ',
        "",
        NVRTC,
        "rounds a product and a sum at once",
    ),
    Mutation(
        "swapped parameters",
        "kernels/relu.cu",
        "relu_backward(ROWS, int width, real slope, const real* in, const real* out_diff,",
        "relu_backward(ROWS, int width, real slope, const real* out_diff, const real* in,",
        "test_reference_layers.py::test_layer_gives_caffes_numbers[relu]",
        "beyond 1e-05",
        ("relu",),
    ),
    Mutation(
        "a Python number for a float",
        "fcnlite/backend/cuda.py",
        "value if make is None else make(value)",
        "value",
        LAUNCH,
        "is passed as int64, int32 taken",
    ),
    Mutation(
        "a Python number for the rows",
        "fcnlite/backend/cuda.py",
        "np.int32(rows), *values",
        "rows, *values",
        LAUNCH,
        "is passed as int64, int32 taken",
    ),
    Mutation(
        "a list for the grid",
        "fcnlite/backend/cuda.py",
        "function(grid, block, (",
        "function(list(grid), block, (",
        LAUNCH,
        "expected tuple, got list",
    ),
    Mutation(
        "a block too large",
        "fcnlite/backend/cuda.py",
        "BLOCK_THREADS = 256",
        "BLOCK_THREADS = 2048",
        SHAPES,
        "over 1024",
    ),
    Mutation(
        "leading dimensions swapped",
        "fcnlite/backend/cuda.py",
        "a.data.ptr, p.lda,",
        "a.data.ptr, p.ldb,",
        PRODUCTS,
        "INVALID_VALUE|does not lie in one array|assert",
    ),
    Mutation(
        "no conversion to the working precision",
        "fcnlite/backend/cuda.py",
        'self.xp.asarray(array, dtype or self.dtype, order="C")',
        'self.xp.asarray(array, order="C")',
        LAUNCH,
        "dtype int64 given, float32 taken",
    ),
    Mutation(
        "a call that CuPy lacks",
        "fcnlite/backend/cuda.py",
        "self.xp.asnumpy(array)",
        "self.xp.tonumpy(array)",
        CALLS,
        "real CuPy has no cupy.tonumpy",
    ),
    Mutation(
        "the loss read where all that came after it is waited for",
        "fcnlite/backend/cuda.py",
        "self._scalar.get(stream=self._aside)",
        "self._scalar.get()",
        AHEAD,
        "assert .*get",
    ),
    Mutation(
        "the loss read before it is there",
        "fcnlite/backend/cuda.py",
        "        self._computed.synchronize()\n",
        "",
        AHEAD,
        "read on another stream ahead of",
    ),
    Mutation(
        "a thread that has not chosen its GPU",
        "fcnlite/device.py",
        "    backend.select()\n",
        "",
        THREADS,
        "is used on GPU 0",
    ),
    Mutation(
        "a stride past the last int",
        "kernels/rows.cuh",
        "(unsigned)r < (unsigned)row_end; \\\n",
        "r < row_end; \\\n",
        HUGE,
        "rows instead of",
        ("relu",),
    ),
    Mutation(
        "a scalar read back",
        "fcnlite/layers/loss.py",
        "backend.xp.maximum(backend.total(valid), 1).reshape(())",
        "backend.asarray(max(float(backend.total(valid)[0]), 1)).reshape(())",
        WAITS,
        "assert not Counter",
    ),
]


def copy_tree(folder, kernels):
    """What the checks need of the tree; of the kernels, only these files if any are named."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "fcnlite", folder / "fcnlite", ignore=ignored)
    shutil.copytree(ROOT / "benchmarks", folder / "benchmarks", ignore=ignored)
    shutil.copytree(ROOT / "weights", folder / "weights")
    (folder / "kernels").mkdir()
    for path in (ROOT / "kernels").iterdir():
        if not kernels or path.suffix != ".cu" or path.stem in kernels:
            shutil.copy(path, folder / "kernels")
    (folder / "tests").mkdir()
    for path in (ROOT / "tests").glob("*.py"):
        shutil.copy(path, folder / "tests")
    for name in ("semantics", "standin"):
        shutil.copytree(ROOT / "tests" / name, folder / "tests" / name, ignore=ignored)
    (folder / "tests" / "reference").symlink_to(ROOT / "tests" / "reference")
    shutil.copy(ROOT / "pyproject.toml", folder)


def checked(folder, checks, own_cache):
    """Exit status and output of pytest on some tests of the copy; what it compiles is not kept with `own_cache`."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    if own_cache:
        environment["FCNLITE_CACHE"] = str(folder / "cache")
    environment.pop("PYTEST_XDIST_WORKER", None)
    tests = [f"tests/{check}" for check in checks]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=600)
    return done.returncode, done.stdout + done.stderr


def available(check):
    if check == NVRTC and not importlib.util.find_spec("elftools"):
        pytest.skip("NVRTC is not installed: pip install fcnlite[nvrtc]")
    return check


@pytest.mark.parametrize(
    "kernels", sorted({m.kernels for m in MUTATIONS}), ids=lambda k: "+".join(k) or "all"
)
def test_the_tree_as_it_is_passes(tmp_path, kernels):
    copy_tree(tmp_path, kernels)
    checks = sorted({m.check for m in MUTATIONS if m.kernels == kernels})
    if importlib.util.find_spec("elftools") is None:
        checks = [check for check in checks if check != NVRTC]
    status, output = checked(tmp_path, checks, bool(kernels))
    assert status == 0 and f"{len(checks)} passed" in output, output


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_a_mistake_is_seen(tmp_path, mutation):
    check = available(mutation.check)
    copy_tree(tmp_path, mutation.kernels)
    path = tmp_path / mutation.file
    text = path.read_text()
    assert text.count(mutation.before) == 1, f"{mutation.file} has changed: write this mutation anew"
    path.write_text(text.replace(mutation.before, mutation.after))
    status, output = checked(tmp_path, [check], bool(mutation.kernels))
    assert status == 1, output
    assert "1 failed" in output, output
    assert re.search(mutation.said, output), output
