"""Every kernel through NVRTC, the compiler that CuPy calls, for the GPUs in use; it needs no GPU itself."""

import re
from collections.abc import Sequence

import pytest

pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC is not installed: pip install fcnlite[nvrtc]")
pytest.importorskip("elftools", reason="pyelftools is not installed: pip install fcnlite[nvrtc]")

from benchmarks import kernels, nvrtc
from fcnlite.backend.source import signatures, source

# Kernels that multiply and add without dividing or calling a function, which the compiler makes of fused operations.
SUMS = (
    "add_scaled",
    "channel_dots",
    "eltwise_sum",
    "interp_forward",
    "nesterov_update",
    "scale_forward",
    "sgd_update",
    "softmax_backward",
)
SAMPLE = (75, 90, 120)  # instruction sets differ between these
ROWS = source().split("#line", 2)[1]  # rows.cuh alone, to hold a kernel of the test's own


def examine_one(body: str, architecture: int = 80, options: Sequence[str] = ()) -> nvrtc.Kernel:
    """Compile `body` as a kernel over rows `tried(ROWS, width, factor, in, out)`, by default as CuPy does."""
    text = (
        f"#line{ROWS}\n"
        f"KERNEL tried(ROWS, int width, real factor, const real* in, real* out) {{ FOR_ROWS(r) {{"
        f" const real* a = in + (size_t)r * width; real* b = out + (size_t)r * width; {body} }} }}"
    )
    return nvrtc.examine(text, tuple(options) or nvrtc.options("float", architecture))["tried"]


def test_the_installed_nvrtc_knows_the_gpus_in_use():
    assert nvrtc.architectures() == list(nvrtc.ARCHITECTURES)


@pytest.mark.parametrize("real", ["float", "double"])
@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
def test_every_kernel_compiles_and_fits(architecture, real):
    found = nvrtc.examine(source(), nvrtc.options(real, architecture))
    assert found.keys() == signatures().keys()
    for kernel in found.values():
        most = 255 if kernel.name.startswith("winograd") else 128  # a block of 256 threads fits either way
        assert 0 < kernel.registers <= most, f"{kernel} leaves room for fewer than {65536 // most} threads"
        assert kernel.stack == 0 and kernel.local == 0, f"{kernel} spills registers"
        assert kernel.shared == 0, f"{kernel}: its threads wait for or write to each other"
        assert real == "double" or kernel.double == 0, f"{kernel} computes in double where real is float"
        assert kernel.name not in SUMS or kernel.fused == 0, f"{kernel} rounds a product and a sum at once"


def test_a_fused_multiply_add_shows():
    body = "FOR_LANES(i, width) b[i] = a[i] * factor + a[i];"
    assert examine_one(body).fused == 0
    fused = examine_one(body, options=[o for o in nvrtc.options("float", 80) if o != "--fmad=false"])
    assert fused.fused > 0


@pytest.mark.parametrize("architecture", SAMPLE)
def test_double_arithmetic_shows(architecture):
    assert examine_one("FOR_LANES(i, width) b[i] = a[i] * factor;", architecture).double == 0
    assert examine_one("FOR_LANES(i, width) b[i] = a[i] * 0.1;", architecture).double > 0
    assert examine_one("FOR_LANES(i, width) b[i] = a[i] / (double)factor;", architecture).double > 0
    assert examine_one("FOR_LANES(i, width) b[i] = a[i] + exp((double)a[i]);", architecture).double > 0


@pytest.mark.parametrize("architecture", SAMPLE)
def test_local_memory_shows(architecture):
    kernel = examine_one(
        "real v[64]; FOR_LANES(i, width) { for (int k = 0; k < 64; ++k) v[(k * width) & 63] = a[i + k];"
        " b[i] = v[r & 63]; }",
        architecture,
    )
    assert kernel.stack >= 64 * 4 and kernel.local > 0


@pytest.mark.parametrize("architecture", SAMPLE)
@pytest.mark.parametrize(
    "body",
    [
        "FOR_LANES(i, width) b[i] = a[i]; __syncthreads();",
        "FOR_LANES(i, width) atomicAdd(b, a[i]);",
        "FOR_LANES(i, width) factor += a[i] + atomicAdd(b + 1, a[i]); *b = factor;",
        "__shared__ real s[32]; FOR_LANES(i, width) s[i & 31] = a[i]; b[0] = s[r & 31];",
        "b[0] = __shfl_xor_sync(0xffffffff, a[r], 1);",
    ],
    ids=["barrier", "reduction", "atomic", "shared", "shuffle"],
)
def test_threads_that_meet_show(body, architecture):
    assert examine_one(body, architecture).shared > 0


def test_a_wrong_source_gives_the_compilers_words():
    with pytest.raises(nvrtc.CompileError, match="relu.cu.*undefined"):
        nvrtc.compile_source(source().replace("slope * a[i]", "slop * a[i]"), nvrtc.options("float", 80))


def test_the_registers_are_those_the_assembler_reports():
    flags = nvrtc.options("float", 90)
    _, log = nvrtc.compile_source(source(), (*flags, "--ptxas-options=-v"))
    reported = re.findall(r"Compiling entry function '(\w+)'.*?Used (\d+) registers", log, re.DOTALL)
    found = nvrtc.examine(source(), flags)
    assert {name: kernel.registers for name, kernel in found.items()} == {n: int(r) for n, r in reported}


def test_the_command_prints_every_kernel(capsys):
    assert kernels.main(["--arch", "90"]) == 0
    printed = capsys.readouterr().out
    assert "sm_90" in printed
    assert all(f"\n{name} " in printed for name in signatures())
