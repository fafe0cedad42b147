"""Kernels: compiled as tests/cuda_semantics.py does, launched by CuPy's rules, every argument's width checked.

Real CuPy converts an argument by its Python type alone, and looks neither at the kernel's parameter nor at the number
of parameters. Here each is compared with what the compiler says the kernel takes.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Any

import numpy as np
from cuda_semantics import Launch, Library, oversize
from cupy_backends.cuda.api.driver import CUDADriverError

from cupy import _memory, _standin
from cupy._arrays import ndarray
from cupy._standin import Refused, current_device
from cupy.cuda.compiler import CompileException
from fcnlite.errors import InputError

_OPTIONS = (
    "-D",
    "--define-macro=",
    "-std=c++",
    "--std=c++",
    "--fmad=",
    "-fmad=",
)  # those whose meaning is kept here


class RawModule:
    def __init__(
        self,
        code: str | None = None,
        *,
        path: str | None = None,
        options: tuple = (),
        backend: str = "nvrtc",
        translate_cucomplex: bool = False,
        enable_cooperative_groups: bool = False,
        name_expressions: Any = None,
        jitify: Any = None,
    ):
        if not isinstance(code, str):
            raise TypeError(f"Argument 'code' has incorrect type (expected str, got {type(code).__name__})")
        if not isinstance(options, tuple):
            raise TypeError(
                f"Argument 'options' has incorrect type (expected tuple, got {type(options).__name__})"
            )
        if backend != "nvrtc" or path or translate_cucomplex or enable_cooperative_groups or name_expressions:
            raise NotImplementedError("the stand-in compiles plain code by NVRTC's rules only")
        if jitify is not None:
            raise Refused("`jitify` is deprecated: CuPy 14 warns of it")
        if '#include "' in code:
            raise Refused("CuPy caches by source and options alone: a changed header would go unnoticed")
        self._code, self._options = code, options

    def compile(self, log_stream: Any = None) -> None:
        _library(self._code, self._options)

    def get_function(self, name: str) -> RawKernel:
        library = _library(self._code, self._options)
        if name not in library.names:
            raise CUDADriverError("CUDA_ERROR_NOT_FOUND: named symbol not found")
        return RawKernel._of(library, name)


class RawKernel:
    def __init__(
        self,
        code: str,
        name: str,
        options: tuple = (),
        backend: str = "nvrtc",
        translate_cucomplex: bool = False,
        *,
        enable_cooperative_groups: bool = False,
        jitify: Any = None,
    ):
        made = RawModule(code=code, options=options, backend=backend, jitify=jitify).get_function(name)
        self._library, self.name = made._library, name

    @classmethod
    def _of(cls, library: Library, name: str) -> RawKernel:
        made = object.__new__(cls)
        made._library, made.name = library, name
        return made

    def __call__(
        self, grid: tuple, block: tuple, args: Any, *, shared_mem: int = 0, stream: Any = None
    ) -> None:
        for what, dims in (("grid", grid), ("block", block)):
            if not isinstance(dims, tuple):
                raise TypeError(
                    f"Argument '{what}' has incorrect type (expected tuple, got {type(dims).__name__})"
                )
            if not 1 <= len(dims) <= 3:
                raise ValueError(f"{what} {dims} must have one to three entries")
        grid, block = (tuple(max(1, int(d)) for d in dims) for dims in (grid, block))
        trouble = oversize(grid, block)
        if trouble:
            raise CUDADriverError(f"CUDA_ERROR_INVALID_VALUE: invalid argument ({self.name}: {trouble})")
        types = self._library.types(self.name)
        if len(args) != len(types):
            raise Refused(
                f"kernel {self.name} takes {len(types)} arguments, {len(args)} given; CuPy would not notice"
            )
        values = [
            _convert(f"kernel {self.name}, argument {i}", a, t) for i, (a, t) in enumerate(zip(args, types))
        ]
        self._library.run(self.name, Launch(grid, block), values)


@cache
def _library(code: str, options: tuple[str, ...]) -> Library:
    macros = {}
    for option in options:
        if not isinstance(option, str) or not option.startswith(_OPTIONS):
            raise CompileException(
                f"the stand-in does not know the option {option!r}", code, "kernels.cu", options
            )
        if option.startswith("-D"):
            name, _, value = option[2:].partition("=")
            macros[name] = value
    fused = "--fmad=false" not in options  # NVRTC's default
    try:
        return Library(code, macros.get("REAL", "float"), fused)
    except InputError as error:
        raise CompileException(str(error), code, "kernels.cu", options) from None


def _convert(where: str, value: Any, taken: str) -> bytes:
    """The bytes that CuPy would pass; raises where they are not what the kernel reads."""
    pointer = taken.endswith("*")
    if isinstance(value, ndarray):
        given = f"{value.dtype}*"
        if not pointer or taken.removeprefix("const ") != given:
            raise Refused(f"{where}: an array of {value.dtype} given, {taken} taken")
        if not value.flags.c_contiguous:
            raise Refused(
                f"{where}: the array is not contiguous (strides {value.strides}); CuPy ignores strides"
            )
        if value.data.device_id != current_device():
            raise Refused(
                f"{where}: the array is on GPU {value.data.device_id}, the launch on {current_device()}"
            )
        if not taken.startswith("const "):
            value.data.mem.written = _standin.ask()
        address = value.data.ptr
        if value.size and _memory.holder(address, value.nbytes) is None:
            raise Refused(f"{where}: the array does not lie in live device memory")
        return struct.pack("<Q", address)
    if value is None and pointer:
        return struct.pack("<Q", 0)
    if isinstance(value, np.ndarray):
        raise Refused(
            f"{where}: a numpy.ndarray given; CuPy would pass one of size 1 by value and refuse others"
        )
    if isinstance(value, (bool, np.bool_)):
        found = "bool", struct.pack("<?", value)
    elif isinstance(value, np.generic):
        found = value.dtype.name, value.tobytes()
    elif isinstance(value, int):
        found = "int64", struct.pack("<q", value)
    elif isinstance(value, float):
        found = "float64", struct.pack("<d", value)
    else:
        raise TypeError(f"Unsupported type {type(value)}")
    if found[0] != taken:
        raise Refused(f"{where}: {type(value).__name__} {value!r} is passed as {found[0]}, {taken} taken")
    return found[1]
