"""The kernels as a GPU would get them, without one: compiled by NVRTC as CuPy calls it, and taken apart."""

from __future__ import annotations

import io
import re
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cuda.bindings import nvrtc
from cuda.pathfinder import find_nvidia_binary_utility
from elftools.elf.elffile import ELFFile

from fcnlite.backend import cuda

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)  # compute capability times ten

# Attributes of the cubin's .nv.info section: entries of format 4 hold a symbol's number and a value.
_SIZED_ENTRY = 4
_REGISTERS, _FRAME = 0x2F, 0x11

_SECTION = re.compile(r"^\s*\.section\s+\.text\.(\w+)")
_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:\{\s*)?(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)")
_DOUBLE = re.compile(r"D(ADD|MUL|FMA|SETP|SET|MNMX|MMA)\b|\w+(\.\w+)*\.F64\b|MUFU\.\w+64H")
_FUSED = re.compile(r"[FD]FMA\b")
_LOCAL = re.compile(r"(LDL|STL)\b")
_SHARED = re.compile(r"BAR|ATOM|RED|LDS|STS|SHFL|MATCH")  # and their kin: ATOMG, REDUX, LDSM ..


class CompileError(Exception):
    """NVRTC refused a source; the message is its log."""


@dataclass(frozen=True)
class Kernel:
    """A compiled kernel: counts of instructions by kind, registers a thread, bytes of stack a thread.

    `local` counts loads and stores of local memory, where spilled registers and indexed arrays live. `shared`
    counts what lets threads see each other: barriers, atomics, shared memory, shuffles. `fused` counts multiply-adds
    that round once; divisions, roots and exponentials are made of them.
    """

    name: str
    registers: int
    stack: int
    instructions: int
    double: int
    fused: int
    local: int
    shared: int


def architectures() -> list[int]:
    """Those of :data:`ARCHITECTURES` that the installed NVRTC knows."""
    known = set(_checked(nvrtc.nvrtcGetSupportedArchs()))
    return [architecture for architecture in ARCHITECTURES if architecture in known]


def version() -> str:
    """The version of the installed NVRTC, as `13.5`."""
    status, major, minor = nvrtc.nvrtcVersion()
    _checked((status,))
    return f"{major}.{minor}"


def options(real: str, architecture: int) -> tuple[str, ...]:
    """Options of NVRTC: the backend's own options and those CuPy 14 adds to any RawModule's.

    `real` is what the kernels compute in, `float` or `double`; `architecture` one of `architectures`.
    CuPy also names its folders of headers, which our source, having no `#include`, never looks into.
    """
    own = cuda.options(real)
    standard = () if any("-std=" in option for option in own) else ("--std=c++17",)
    return (*own, *standard, "-ftz=true", f"-arch=sm_{architecture}", "--device-as-default-execution-space")


def compile_source(source: str, flags: tuple[str, ...]) -> tuple[bytes, str]:
    """Compile CUDA C; gives the cubin and what the compiler had to say.

    Raises
    ------
    CompileError
        With NVRTC's log.
    """
    program = _checked(nvrtc.nvrtcCreateProgram(source.encode(), b"kernels.cu", 0, [], []))
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(flags), [flag.encode() for flag in flags])
        log = bytes(_checked(nvrtc.nvrtcGetProgramLogSize(program)))  # NVRTC writes into it
        _checked(nvrtc.nvrtcGetProgramLog(program, log))
        text = log.rstrip(b"\0\n").decode()
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise CompileError(text)
        cubin = bytes(_checked(nvrtc.nvrtcGetCUBINSize(program)))
        _checked(nvrtc.nvrtcGetCUBIN(program, cubin))
        return cubin, text
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def examine(source: str, flags: tuple[str, ...]) -> dict[str, Kernel]:
    """Every kernel of a source by name, as compiled with `flags`."""
    cubin, _ = compile_source(source, flags)
    registers, stack = _resources(cubin)
    opcodes = _opcodes(cubin)
    return {
        name: Kernel(
            name,
            registers[name],
            stack.get(name, 0),
            instructions=sum(opcodes[name].values()),
            double=_count(opcodes[name], _DOUBLE),
            fused=_count(opcodes[name], _FUSED),
            local=_count(opcodes[name], _LOCAL),
            shared=_count(opcodes[name], _SHARED),
        )
        for name in sorted(registers)
    }


def _resources(cubin: bytes) -> tuple[dict[str, int], dict[str, int]]:
    """Registers and bytes of stack by function, from the cubin's .nv.info section."""
    sections = {section.name: section for section in ELFFile(io.BytesIO(cubin)).iter_sections()}
    symbols: Any = sections[".symtab"]
    found: dict[int, dict[str, int]] = {_REGISTERS: {}, _FRAME: {}}
    for attribute, data in _info_entries(sections[".nv.info"].data()):
        if attribute in found:
            symbol, value = struct.unpack("<II", data)
            found[attribute][symbols.get_symbol(symbol).name] = value
    return found[_REGISTERS], found[_FRAME]


def _info_entries(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The (attribute, value) pairs of a .nv.info section; entries of other formats have no value here."""
    place = 0
    while place < len(data):
        form, attribute, size = struct.unpack_from("<BBH", data, place)
        place += 4
        if form == _SIZED_ENTRY:
            yield attribute, data[place : place + size]
            place += size


def _opcodes(cubin: bytes) -> dict[str, Counter[str]]:
    """Count how often each instruction occurs in each kernel and its subroutines, as nvdisasm reads them."""
    nvdisasm = find_nvidia_binary_utility("nvdisasm")
    if nvdisasm is None:
        raise FileNotFoundError("nvdisasm not found: pip install nvidia-cuda-nvdisasm")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.cubin"
        path.write_bytes(cubin)
        text = subprocess.run([nvdisasm, "-c", str(path)], capture_output=True, text=True, check=True).stdout
    counts: dict[str, Counter[str]] = {}
    name = ""
    for line in text.splitlines():
        if section := _SECTION.match(line):
            name = section[1]
            counts[name] = Counter()
        elif name and (instruction := _INSTRUCTION.match(line)) and instruction[1] != "NOP":
            counts[name][instruction[1]] += 1
    return counts


def _count(opcodes: Counter[str], kind: re.Pattern[str]) -> int:
    return sum(count for opcode, count in opcodes.items() if kind.match(opcode))


def _checked(result: tuple) -> Any:
    """The value of an NVRTC call's (status, value), once the status says all is well."""
    status, *values = result
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise RuntimeError(f"NVRTC: {status.name}")
    return values[0] if values else None
