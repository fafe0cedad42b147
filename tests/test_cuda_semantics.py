"""Every kernel's GPU branch against the CPU backend, thread by thread: same bits, no access outside, no race.

The launches are those of tests/kernel_cases.py, each in the grid that the launcher chooses and in odd ones.
"""

import subprocess
from functools import cache
from pathlib import Path

import cuda_semantics
import kernel_cases
import numpy as np
import pytest
from cuda_semantics import Launch, Library, Program, bits, launches, typed

from fcnlite.backend import compile as compiler
from fcnlite.backend.cuda import launch_shape
from fcnlite.backend.host import HostBackend
from fcnlite.backend.source import signatures, source
from fcnlite.errors import InputError
from fcnlite.resources import kernels_folder

KERNELS = sorted(signatures())
REALS = {"float": np.dtype(np.float32), "double": np.dtype(np.float64)}
C_NAMES = {"int": "int32", "unsigned char": "uint8", "unsigned short": "uint16"}

library = cache(lambda real: Library(source(), real))
host = cache(lambda real: HostBackend(REALS[real], threads=1))


@cache
def program(code, *sanitizers):
    try:
        return Program(code, "float", sanitizers)
    except InputError as error:
        if "sanitize" in str(error) or "asan" in str(error) or "tsan" in str(error):
            pytest.skip(f"the compiler {compiler.find_compiler()} has no sanitizers")
        raise


def on_cpu(case, real, byte):
    arguments = case.filled(byte)
    host(real).launch(case.kernel, case.rows, *arguments)
    return arguments


def agree(case, launch, got, expected):
    for (parameter, _), mine, theirs in zip(case.pairs(), got, expected):
        if isinstance(theirs, np.ndarray):
            differ = np.flatnonzero(bits(mine) != bits(theirs))
            assert not differ.size, (
                f"{case}, {launch}: {parameter.name} differs at {differ.size} places, first {differ[0]}: "
                f"{mine[differ[0]]!r}, {theirs[differ[0]]!r} on the CPU"
            )


def run(case, real, launch, arguments):
    values = [
        np.uint64(a.ctypes.data if a.size else 0)
        if isinstance(a, np.ndarray)
        else np.uint64(0)
        if a is None
        else a
        for a in typed(case.kernel, case.rows, arguments, REALS[real])
    ]
    library(real).run(case.kernel, launch, [value.tobytes() for value in values])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("real", REALS)
def test_any_grid_gives_the_cpus_bits(kernel, real):
    for case in kernel_cases.cases(kernel, REALS[real]):
        expected = on_cpu(case, real, 0xFF)
        for launch in launches(case.rows, case.arguments[0]):
            arguments = case.filled(0xFF)
            run(case, real, launch, arguments)
            agree(case, launch, arguments, expected)


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_output_element_is_written_and_none_read_before(kernel):
    for case in kernel_cases.cases(kernel, REALS["float"]):
        launch = launches(case.rows, case.arguments[0])[0]
        results = []
        for byte in (0xFF, 0x33):
            results.append(case.filled(byte))
            run(case, "float", launch, results[-1])
        agree(case, launch, *results)


@pytest.mark.parametrize("real", REALS)
def test_launches_are_checked_against_the_types_that_the_compiler_sees(real):
    for name, kernel in signatures().items():
        expected = ["int32", "int32"]
        for p in kernel.parameters:
            name_ = C_NAMES.get(p.ctype, REALS[real].name)
            const = "const " if kernel_cases.is_constant(name, p.name) else ""
            expected.append(f"{const}{name_}*" if p.pointer else name_)
        assert list(library(real).types(name)) == expected, name


@pytest.mark.parametrize("sanitizers", [("address", "undefined"), ("thread",)], ids="+".join)
def test_sanitizers_find_nothing(sanitizers):
    work, expected = [], []
    for kernel in KERNELS:
        for case in kernel_cases.cases(kernel, REALS["float"], 3 if "thread" in sanitizers else 6):
            width = case.arguments[0]
            if "thread" in sanitizers:
                tried = [Launch((2,), (5, 3))]
            else:
                tried = [Launch(*launch_shape(case.rows, width)), Launch((3,), (7, 3), "shuffled")]
            arguments = typed(kernel, case.rows, case.filled(0xFF), REALS["float"])
            work += [(kernel, launch, arguments) for launch in tried]
            expected += [(case, launch, on_cpu(case, "float", 0xFF)) for launch in tried]
    for (case, launch, on_host), got in zip(expected, program(source(), *sanitizers).run(work)):
        agree(case, launch, got[2:], on_host)


def test_every_recipe_has_a_kernel():
    assert kernel_cases.without_kernel() == []


# That the checks above see what they are for.

ROWS = source().split("#line", 2)[1]


def tried(body):
    """rows.cuh and one kernel of the test's own."""
    return (
        f"#line{ROWS}\n"
        "KERNEL tried(ROWS, int width, real factor, const real* in, real* out) { FOR_ROWS(r) {"
        f" const real* a = in + (size_t)r * width; real* b = out + (size_t)r * width; {body} }} }}"
    )


def try_out(body, sanitizers=(), launch=None):
    a = np.arange(15, dtype=np.float32)
    arguments = [np.int32(0), np.int32(3), np.int32(5), np.float32(2), a, np.full_like(a, np.nan)]
    launch = launch or Launch((2,), (3, 2))
    return program(tried(body), *sanitizers).run([("tried", launch, arguments)])[0][-1]


def test_a_right_kernel_passes():
    for sanitizers in ((), ("address", "undefined"), ("thread",)):
        out = try_out("FOR_LANES(i, width) b[i] = a[i] * factor;", sanitizers)
        assert (out == np.arange(15) * 2).all()


@pytest.mark.parametrize(
    ("body", "sanitizers", "said"),
    [
        ("FOR_LANES(i, width) b[i] = a[i + 1];", ("address", "undefined"), "use-after-poison"),
        ("FOR_LANES(i, width) b[i - 1] = a[i];", ("address", "undefined"), "use-after-poison"),
        ("FOR_LANES(i, width) b[i + 1] = a[i];", (), "writes outside an array"),
        (
            "int big = 2147483647; FOR_LANES(i, width) b[i] = big + row_end;",
            ("address", "undefined"),
            "overflow",
        ),
        (
            "FOR_LANES(i, width) b[i] = (real)(int)(a[i] * 1e38f);",
            ("address", "undefined"),
            "outside the range",
        ),
        ("FOR_LANES(i, width) { b[i] = a[i]; out[0] = 7; }", ("thread",), "data race"),
        ("FOR_LANES(i, width) b[i] = a[i]; if (r > 0) b[0] += out[0];", ("thread",), "data race"),
    ],
    ids=["read outside", "write outside", "guard", "overflow", "cast", "race", "read race"],
)
def test_what_is_wrong_shows(body, sanitizers, said):
    with pytest.raises(AssertionError, match=said):
        try_out(body, sanitizers)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("FOR_LANES(i, width) b[i] = a[i]; __syncthreads();", "poisoned"),
        ("__shared__ real s[4]; FOR_LANES(i, width) b[i] = s[0];", "poisoned"),
        ("FOR_LANES(i, width) atomicAdd(b + i, a[i]);", "poisoned"),
        ("FOR_LANES(i, width) b[i] = a[i] * 0.5;", "double-promotion"),
        ("FOR_LANES(i, width) b[i] = a[i] * INFINITY;", "INFINITY"),
    ],
    ids=["barrier", "shared memory", "atomic", "double", "host header"],
)
def test_what_a_kernel_may_not_hold_does_not_compile(body, said):
    with pytest.raises(InputError, match=said):
        Library(tried(body), "float")


HUGE = """
#include <stdio.h>

int main() {
    const int row_begin = 0, row_end = 2147483647;
    gridDim = {8388608, 1, 1}, blockDim = {1, 256, 1};  // the launcher's choice: a row a thread
    const unsigned threads[][2] = {{0, 0}, {5000000, 3}, {8388607, 254}, {8388607, 255}};
    for (auto& thread : threads) {
        blockIdx = {thread[0], 0, 0}, threadIdx = {0, thread[1], 0};
        int rows = 0;
        FOR_ROWS(r) {
            if (++rows > 1) break;
        }
        int wanted = thread[0] * 256 + thread[1] < (unsigned)row_end;
        if (rows != wanted) return printf("block %u: %d rows instead of %d", thread[0], rows, wanted), 1;
    }
}
"""


def test_a_billion_rows_are_gone_through_once(tmp_path):
    """A thread's next row is beyond the last; it must not come out as a negative one."""
    prelude = (Path(cuda_semantics.__file__).parent / "semantics" / "prelude.h").read_text()
    macros = (kernels_folder() / "rows.cuh").read_text().replace("#pragma once", "")
    (tmp_path / "huge.cpp").write_text(prelude + macros + HUGE)
    program = tmp_path / "huge"
    subprocess.run([*compiler.find_compiler(), "-O2", "-o", program, tmp_path / "huge.cpp"], check=True)
    done = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_threads_run_in_every_order_once():
    for order in ("natural", "reversed", "shuffled"):
        out = try_out(
            "FOR_LANES(i, width) b[i] = (real)(blockIdx.x * 100 + threadIdx.y * 10 + threadIdx.x);",
            launch=Launch((2,), (3, 2), order),
        )
        rows = [r // 2 * 100 + r % 2 * 10 + lane % 3 for r in range(3) for lane in range(5)]
        assert list(out) == rows


def test_a_kernel_without_a_case_is_named(monkeypatch):
    monkeypatch.delitem(kernel_cases._RECIPES, "im2col")
    with pytest.raises(kernel_cases.Missing, match="kernel im2col has no case"):
        kernel_cases.cases("im2col", REALS["float"])


def test_oversized_launches_are_known():
    assert cuda_semantics.oversize((2**31 - 1,), (32, 32)) is None
    assert "block" in cuda_semantics.oversize((1,), (64, 17))
    assert "grid.y" in cuda_semantics.oversize((1, 65536), (1,))
    assert "block.z" in cuda_semantics.oversize((1,), (1, 1, 65))
