"""What happens without a usable GPU, in processes of their own: with the real CuPy and no driver, with none at all,
and, on the stand-in, with several GPUs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cupy_standin import FOLDER, NO_CUPY, real_cupy

ROOT = Path(__file__).parents[1]
USE = "from fcnlite import device; print(device.use({!r}).name)"
TRAIN = (
    "import runpy, sys; sys.argv = ['train', 'shapes', '--device', {!r}, '--iterations', '1', '--out', {!r}];"
)
TRAIN += "runpy.run_module('fcnlite.train', run_name='__main__')"
ABSENT = "import sys; sys.modules['cupy'] = None;"
INSTALL = "pip install 'fcnlite[cuda12]' or 'fcnlite[cuda13]', by the CUDA version of the driver"


def python(code, path=(), **environment):
    """Exit status, stdout and the lines of stderr of a Python that finds fcnlite and these folders."""
    inherited = {name: value for name, value in os.environ.items() if name != "FCNLITE_DEVICE"}
    environment = {**inherited, "PYTHONPATH": os.pathsep.join(map(str, [ROOT, *path])), **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=300
    )
    return done.returncode, done.stdout.strip(), done.stderr.strip().splitlines()


@pytest.fixture(scope="module")
def real():
    folder = real_cupy()
    if folder is None:
        pytest.skip(NO_CUPY)
    status, count, _ = python("import cupy; print(cupy.cuda.is_available())", [folder])
    if status or count != "False":
        pytest.skip(f"this machine has a GPU, or CuPy does not import (exit status {status})")
    return [folder]


# cuBLAS is half a gigabyte: its module is replaced by an empty one, so that the real CuPy asks the real driver.
WITH_CUBLAS = (
    "import sys, types; import cupy_backends.cuda.libs as libs;"
    "libs.cublas = sys.modules['cupy_backends.cuda.libs.cublas'] = types.ModuleType('cublas');"
)


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (WITH_CUBLAS, "finds no GPU (cudaErrorInsufficientDriver: CUDA driver version is insufficient"),
        ("", "does not import (Failure finding "),
    ],
    ids=["no driver", "no cuBLAS"],
)
def test_cupy_without_a_driver(real, before, reason):
    if not before and python("from cupy_backends.cuda.libs import cublas", real)[0] == 0:
        pytest.skip("cuBLAS is installed")
    status, out, errors = python(before + USE.format("auto"), real)
    assert (status, out) == (0, "cpu")
    assert len(errors) == 1
    assert errors[0].startswith(f"fcnlite: CuPy is installed but {reason}")
    assert errors[0].endswith("; using the CPU")
    status, out, errors = python(before + USE.format("cuda"), real)
    assert status == 1 and out == ""
    assert errors[-1].startswith(f"fcnlite.errors.InputError: no GPU can be used: CuPy {reason}")
    assert errors[-1].endswith("use the cpu device instead")


def test_the_command_line_says_so_in_one_line(real, tmp_path):
    status, out, errors = python(WITH_CUBLAS + TRAIN.format("cuda", str(tmp_path / "run")), real)
    assert status == 2 and len(errors) == 1
    assert errors[0].startswith("fcnlite train: error: no GPU can be used: CuPy finds no GPU (cudaErrorIns")
    assert not (tmp_path / "run").exists()


def test_without_cupy_the_cpu_is_used_and_nothing_said():
    assert python(ABSENT + USE.format("auto")) == (0, "cpu", [])


def test_without_cupy_asking_for_a_gpu_says_what_to_install(tmp_path):
    status, out, errors = python(ABSENT + TRAIN.format("cuda", str(tmp_path / "run")))
    assert status == 2 and errors == [
        f"fcnlite train: error: no GPU can be used: CuPy is not installed ({INSTALL}); use the cpu device instead"
    ]


def test_a_broken_cupy_is_no_reason_to_stop(tmp_path):
    (tmp_path / "cupy").mkdir()
    (tmp_path / "cupy" / "__init__.py").write_text("import no_such_library\n")
    status, out, errors = python(USE.format("auto"), [tmp_path])
    assert (status, out) == (0, "cpu")
    assert errors == [
        f"fcnlite: CuPy is installed but does not import (No module named 'no_such_library'; {INSTALL}); using the CPU"
    ]


STAND_IN = [FOLDER, FOLDER.parent]


@pytest.mark.parametrize(("name", "used"), [("auto", "cuda:0"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1")])
def test_two_gpus_are_told_apart(name, used):
    code = USE.format(name) + "; import cupy; print(cupy.cuda.Device().id)"
    assert python(code, STAND_IN, FCNLITE_STANDIN_GPUS="2") == (0, f"{used}\n{used[-1]}", [])


def test_a_gpu_that_does_not_exist(tmp_path):
    code = TRAIN.format("cuda:5", str(tmp_path / "run"))
    status, out, errors = python(code, STAND_IN, FCNLITE_STANDIN_GPUS="2")
    assert status == 2
    assert errors == ["fcnlite train: error: GPU 5 does not exist; there are 2, numbered from 0"]


def test_the_environment_chooses_the_device():
    code = "from fcnlite import device; print(device.current().name)"
    chosen = python(code, STAND_IN, FCNLITE_STANDIN_GPUS="2", FCNLITE_DEVICE="cuda:1")
    assert chosen == (0, "cuda:1", [])
    assert python(code, STAND_IN, FCNLITE_DEVICE="cpu")[1] == "cpu"


def test_kernels_that_do_not_compile_are_known_at_once():
    broken = (
        "import fcnlite.backend.source as s, fcnlite.backend.cuda as c;"
        "text = s.source().replace('slope * a[i]', 'slop * a[i]', 1); c.source = lambda: text;"
    )
    status, out, errors = python(broken + USE.format("cuda"), STAND_IN)
    assert status == 1 and "InputError: CuPy cannot compile the kernels (" in errors[-1]
    assert errors[-1].endswith("use the cpu device instead")
