"""The kernels run as CUDA runs them, without a GPU: the source's GPU branch, built by the host compiler.

`blockIdx`, `threadIdx`, `blockDim` and `gridDim` are variables that a driver counts through every thread of
a grid, in any order. The same text becomes a library, for the stand-in CuPy, and programs for sanitizers.
"""

from __future__ import annotations

import ctypes
import math
import os
import re
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fcnlite.backend import compile as compiler
from fcnlite.backend.cuda import launch_shape
from fcnlite.backend.source import signature

_FOLDER = Path(__file__).parent / "semantics"
_KERNEL = re.compile(r"^KERNEL\s+(\w+)\s*\(", re.MULTILINE)  # not the parser of fcnlite: one checks the other
# CUDA C++ programming guide, every compute capability in use.
_LIMITS = {"grid": (2**31 - 1, 65535, 65535), "block": (1024, 1024, 64)}
_THREADS = 1024
# As the CPU backend compiles, but for time: a thread has one lane, so there is nothing to vectorise.
_QUICK = tuple("-O1" if flag == "-O3" else flag for flag in compiler.FLAGS)
# A float kernel that computes in double by accident promotes a float: an error here.
STRICT = ("-Werror=double-promotion",)


@dataclass(frozen=True)
class Launch:
    """Grid and block, and the order of the threads: natural, reversed or shuffled."""

    grid: tuple[int, ...]
    block: tuple[int, ...]
    order: str = "natural"

    @property
    def threads(self) -> int:
        """Threads in the whole launch."""
        return math.prod(self.grid) * math.prod(self.block)

    def packed(self) -> bytes:
        """The struct `Launch` of drive.h."""
        dims = [*_three(self.grid), *_three(self.block)]
        total = self.threads
        step, first = {
            "natural": (1, 0),
            "reversed": (total - 1, total - 1),
            "shuffled": (_coprime(total), 1),
        }[self.order]
        return struct.pack("<6I2Q", *dims, max(step, 1), first % total)


def launches(rows: int, width: int) -> list[Launch]:
    """The launcher's own choice for a kernel, in three orders, and grids that it would never choose."""
    chosen = launch_shape(rows, width)
    return [
        Launch(*chosen),
        Launch(*chosen, "reversed"),
        Launch(*chosen, "shuffled"),
        Launch((1,), (1,)),
        Launch((3,), (7, 3)),
        Launch((3,), (7, 3), "shuffled"),
        Launch((rows + 5,), (2 * width + 3, 2)),  # more threads than work, both ways
        Launch((max(1, rows // 2 - 1),), (5, 1), "reversed"),  # fewer blocks than rows
    ]


def oversize(grid: Sequence[int], block: Sequence[int]) -> str | None:
    """Why a GPU would refuse the launch, or None."""
    for what, dims in (("grid", grid), ("block", block)):
        for axis, dim, limit in zip("xyz", dims, _LIMITS[what]):
            if dim > limit:
                return f"{what}.{axis} is {dim}, over {limit}"
    if math.prod(block) > _THREADS:
        return f"a block of {math.prod(block)} threads, over {_THREADS}"
    return None


def text(source: str, program: bool = False) -> str:
    """The C++ of a kernel source with its drivers; as a program with a `main`, too."""
    names = _KERNEL.findall(source)
    parts = [_read("prelude.h"), source, _read("drive.h"), *(f"DRIVER({name})" for name in names)]
    if program:
        entries = " ".join(f"ENTRY({name})" for name in names)
        parts.append("struct Entry { const char* name; void (*run)(const Launch&, void* const*, bool); };")
        parts.append(f"static const Entry ENTRIES[] = {{{entries} {{nullptr, nullptr}}}};")
        parts.append(_read("harness.h"))
    return "\n".join(parts)


class Library:
    """Every kernel of a source as a function of this process, on arrays in this process's memory.

    `fused` lets the compiler contract a * b + c, as NVRTC does unless told not to.
    """

    def __init__(self, source: str, real: str, fused: bool = False):
        flags = (*_QUICK, *(STRICT if real == "float" else ()), *(("-ffp-contract=fast",) if fused else ()))
        self._library = ctypes.CDLL(str(compiler.library(text(source), real, flags)))
        self.names = frozenset(_KERNEL.findall(source))

    @cache  # noqa: B019 (a handful of libraries, kept for the whole run)
    def types(self, name: str) -> tuple[str, ...]:
        """The C parameters of a kernel as the compiler sees them, such as `const float32*`."""
        function = getattr(self._library, f"types_{name}")
        function.argtypes, function.restype = [], ctypes.POINTER(ctypes.c_char_p)
        found, names = function(), []
        while found[len(names)] is not None:
            names.append(found[len(names)].decode())
        return tuple(names)

    def run(self, name: str, launch: Launch, values: Sequence[bytes]) -> None:
        """Launch a kernel; `values` are its parameters' bytes, a pointer's being an address."""
        slots = [ctypes.create_string_buffer(value, 8) for value in values]
        addresses = (ctypes.c_void_p * len(slots))(*map(ctypes.addressof, slots))
        function = getattr(self._library, f"drive_{name}")
        function.argtypes, function.restype = [ctypes.c_char_p, ctypes.c_void_p], None
        function(launch.packed(), addresses)


class Program:
    """The same as an executable, so that a sanitizer can watch it: `address`, `undefined`, `thread`."""

    def __init__(self, source: str, real: str, sanitizers: Sequence[str] = ()):
        flags = [f for f in _QUICK if f not in ("-fPIC", "-shared")]
        flags += ["-g1", "-fno-omit-frame-pointer", *(f"-fsanitize={name}" for name in sanitizers)]
        if "undefined" in sanitizers:
            flags += ["-fsanitize=float-cast-overflow", "-fno-sanitize-recover=all"]
        self._path = compiler.library(text(source, program=True), real, (*flags, "-pthread"))
        self._at_once = "thread" in sanitizers

    def run(self, work: Sequence[tuple[str, Launch, Sequence[Any]]]) -> list[list[Any]]:
        """Run launches of (kernel, grid, row range and arguments); gives the arguments as they are after.

        Raises
        ------
        AssertionError
            With what the sanitizer or a guard band had to say.
        """
        with tempfile.TemporaryDirectory() as folder:
            given, got = Path(folder) / "in", Path(folder) / "out"
            with given.open("wb") as file:
                for name, launch, arguments in work:
                    file.write(
                        name.encode().ljust(64, b"\0") + launch.packed() + struct.pack("<Q", len(arguments))
                    )
                    for argument in arguments:
                        kind, content = _kind(argument)
                        file.write(struct.pack("<2Q", kind, len(content)) + content)
            command = [str(self._path), str(given), str(got), *(["threads"] if self._at_once else [])]
            environment = {
                **os.environ,
                "UBSAN_OPTIONS": "print_stacktrace=1",
                "TSAN_OPTIONS": "halt_on_error=1",
            }
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment)
            assert done.returncode == 0, f"{done.stderr[:3000]}\n(exit status {done.returncode})"
            return _unpack(got.read_bytes(), work)


def bits(array: np.ndarray) -> np.ndarray:
    """An array's bits, every NaN being the same one (its payload is the processor's affair)."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.dtype.kind == "f":
        flat = np.where(np.isnan(flat), flat.dtype.type(np.nan), flat)
    return flat.view(f"u{flat.itemsize}")


def typed(name: str, rows: int, arguments: Sequence[Any], real: np.dtype) -> list[Any]:
    """A launch's arguments with the row range, numbers as the NumPy scalars that the kernel takes."""
    converted = [
        value if parameter.pointer else parameter.dtype(real).type(value)
        for parameter, value in zip(signature(name).parameters, arguments)
    ]
    return [np.int32(0), np.int32(rows), *converted]


def _unpack(content: bytes, work: Sequence[tuple[str, Launch, Sequence[Any]]]) -> list[list[Any]]:
    place, results = 0, []
    for _, _, arguments in work:
        result = []
        for argument in arguments:
            if isinstance(argument, np.ndarray):
                end = place + argument.nbytes
                result.append(np.frombuffer(content[place:end], argument.dtype).reshape(argument.shape))
                place = end
            else:
                result.append(argument)
        results.append(result)
    assert place == len(content)
    return results


def _kind(argument: Any) -> tuple[int, bytes]:
    if argument is None:
        return 2, b""
    return (1 if isinstance(argument, np.ndarray) else 0), argument.tobytes()


def _three(dims: Sequence[int]) -> list[int]:
    return [*dims, *[1] * (3 - len(dims))]


def _coprime(total: int) -> int:
    """A step of some size that visits every number under `total` once."""
    step = max(1, int(total * 0.382))
    while math.gcd(step, total) != 1:
        step += 1
    return step


def _read(name: str) -> str:
    return f'#line 1 "{name}"\n{(_FOLDER / name).read_text()}'
