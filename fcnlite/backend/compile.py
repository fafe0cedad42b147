"""Host compilation: the kernels' CUDA source built by the C++ compiler at hand into a cached shared library."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from fcnlite.errors import InputError
from fcnlite.resources import cache_folder

# -ffp-contract=off: the same bits however the compiler splits or vectorises a loop. The other two let it vectorise
# selections and roots; neither changes what NaN, Inf or any finite number give.
FLAGS = (
    "-std=c++14",
    "-O3",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fPIC",
    "-shared",
)
# For the matrix product: it has one loop for all sums, so a multiplication and an addition that become one instruction
# become so in each of them.
FUSED = tuple(flag.replace("contract=off", "contract=fast") for flag in FLAGS)


def library(source: str, real: str, flags: tuple[str, ...] = FLAGS) -> Path:
    """The shared library of a kernel source, from the cache or built now.

    Parameters
    ----------
    source : str
        CUDA C as `fcnlite.backend.source.source` gives it.
    real : str
        `float` or `double`: what the kernels' type `real` is.

    Returns
    -------
    Path
        A file that carries its own checksum; a truncated or foreign file in the cache is built again, not loaded.
    """
    folder = cache_folder() / "kernels"
    try:
        compiler = find_compiler()
        version = _version(compiler)
    except InputError:
        built = _built_before(folder, source, flags, real)
        if built is None:
            raise
        return built
    native = ("-march=native",) if _accepts(compiler, "-march=native") else ("-mcpu=native",)
    options = (*flags, *native, f"-DREAL={real}")
    key = hashlib.sha256("\0".join([*compiler, *options, version]).encode()).hexdigest()
    path = folder / f"kernels-{real}-{_text_key(source, flags)}-{key[:8]}.so"
    if not _intact(path):
        _build(compiler, options, source, path)
    return path


def _text_key(source: str, flags: tuple[str, ...]) -> str:
    """The part of a library's name that tells what was built, and for which processor."""
    return hashlib.sha256("\0".join([source, *flags, _processor()]).encode()).hexdigest()[:16]


def _built_before(folder: Path, source: str, flags: tuple[str, ...], real: str) -> Path | None:
    """A library that a compiler built which is gone now."""
    found = sorted(folder.glob(f"kernels-{real}-{_text_key(source, flags)}-*.so")) if folder.is_dir() else []
    return next(filter(_intact, found), None)


@cache
def find_compiler() -> tuple[str, ...]:
    """The C++ compiler's command: `$CXX`, else c++, g++ or clang++ on PATH, else the ziglang package."""
    wanted = os.environ.get("CXX")
    if wanted:
        command = tuple(shlex.split(wanted))
        if not command or shutil.which(command[0]) is None:
            raise InputError(f"CXX names the compiler '{wanted}', which is not on PATH")
        return command
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return (name,)
    if importlib.util.find_spec("ziglang"):
        return (sys.executable, "-m", "ziglang", "c++")
    raise InputError("no C++ compiler found: install g++ or clang++, set CXX, or `pip install ziglang`")


@cache
def _accepts(compiler: tuple[str, ...], option: str) -> bool:
    return _run([*compiler, option, "-x", "c++", "-fsyntax-only", "-"], "").returncode == 0


@cache
def _version(compiler: tuple[str, ...]) -> str:
    return _run([*compiler, "--version"], "").stdout


@cache
def _processor() -> str:
    """Describe the processor by what `-march=native` depends on: model and feature flags."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def _build(compiler: tuple[str, ...], options: tuple[str, ...], source: str, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_builds(path.parent)
        folder = tempfile.mkdtemp(prefix=f"build-{os.getpid()}-", dir=path.parent)
    except OSError as error:
        raise InputError(
            f"cannot write the kernel cache {path.parent} ({error.strerror}); set FCNLITE_CACHE to a folder that can "
            "be written"
        ) from None
    try:
        built = Path(folder) / path.name
        result = _run([*compiler, *options, "-x", "c++", "-", "-o", str(built)], source, TMPDIR=folder)
        if result.returncode != 0:
            raise InputError(f"{shlex.join(compiler)} could not compile the kernels:\n{result.stderr}")
        content = built.read_bytes()
        built.write_bytes(content + hashlib.sha256(content).digest())
        os.replace(built, path)  # atomic: another process sees the whole file or none
    except OSError as error:
        raise InputError(
            f"cannot build the kernels in {path.parent} ({error.strerror}); set FCNLITE_CACHE to a folder that has "
            "room"
        ) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _clear_builds(folder: Path) -> None:
    """Remove what builds have left that did not end within an hour: their processes were killed."""
    for path in folder.glob("build-*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > 3600:
                shutil.rmtree(path, ignore_errors=True)


def _intact(path: Path) -> bool:
    """Tell whether the file ends in the checksum of what precedes it; the loader ignores the trailing bytes."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return len(content) > 32 and hashlib.sha256(content[:-32]).digest() == content[-32:]


def _run(command: list[str], text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        input=text,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
