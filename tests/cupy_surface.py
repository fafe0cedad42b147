"""What the real CuPy offers, name by name with parameters: records it in tests/standin/surface.txt.

`python tests/cupy_surface.py` where CuPy is installed (no GPU is needed); the stand-in is checked against the file.
The entries of cuBLAS and NCCL are kept as they are where those libraries themselves are not installed.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "standin" / "surface.txt"
MODULES = (
    "cupy",
    "cupy.cuda",
    "cupy.cuda.runtime",
    "cupy.cuda.device",
    "cupy.cuda.memory",
    "cupy.cuda.compiler",
)
CLASSES = (
    "cupy.ndarray",
    "cupy.RawKernel",
    "cupy.RawModule",
    "cupy.cuda.Device",
    "cupy.cuda.Event",
    "cupy.cuda.MemoryPointer",
    "cupy.cuda.MemoryPool",
    "cupy.cuda.PinnedMemoryPool",
    "cupy.cuda.Stream",
)
CUBLAS = "cupy_backends.cuda.libs.cublas"
NCCL = "cupy.cuda.nccl"
COMMUNICATOR = f"{NCCL}.NcclCommunicator"


def record(kept: dict[str, str]) -> dict[str, str]:
    """Every public name of the installed CuPy with its parameters, `?` for what has none to tell."""
    found: dict[str, str] = {}
    for module in MODULES:
        members = vars(importlib.import_module(module))
        found |= {
            f"{module}.{name}": parameters(value) for name, value in members.items() if public(name, value)
        }
    for path in CLASSES:
        module, _, name = path.rpartition(".")
        cls = getattr(importlib.import_module(module), name)
        found |= {f"{path}.{n}": parameters(getattr(cls, n)) for n in dir(cls) if public(n, getattr(cls, n))}
    try:
        members = vars(importlib.import_module(CUBLAS))
        found |= {
            f"{CUBLAS}.{name}": parameters(value) for name, value in members.items() if public(name, value)
        }
    except ImportError:
        found |= {name: value for name, value in kept.items() if name.startswith(CUBLAS)}
    nccl = importlib.import_module(NCCL)
    if nccl.available:
        found |= {
            f"{NCCL}.{name}": parameters(value) for name, value in vars(nccl).items() if public(name, value)
        }
        members = {name: getattr(nccl.NcclCommunicator, name) for name in dir(nccl.NcclCommunicator)}
        found |= {
            f"{COMMUNICATOR}.{n}": parameters(value) for n, value in members.items() if public(n, value)
        }
    else:
        found |= {name: value for name, value in kept.items() if name.startswith(NCCL)}
    return dict(sorted(found.items()))


def public(name: str, value: Any) -> bool:
    """Whether a name is for users; of special methods, those that an instance answers to."""
    return not name.startswith("_") and not inspect.ismodule(value)


def parameters(value: Any) -> str:
    """`(a,b=,*,c=)`, or `?`; compiled functions have it in the first line of their description."""
    try:
        return listing(str(inspect.signature(value)))
    except (TypeError, ValueError):
        lines = (getattr(value, "__doc__", None) or "").strip().splitlines()
        described = re.match(r"[\w.]+(\(.*)", lines[0]) if callable(value) and lines else None
        return listing(described[1]) if described else "?"


def listing(text: str) -> str:
    """A signature without types and default values."""
    depth, parts, part = 0, [], ""
    for character in text[1:]:
        if character == ")" and depth == 0:
            break
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += character
    names = [name(p) for p in [*parts, part] if p.strip()]
    return f"({','.join(n for n in names if n != 'self')})"


def name(parameter: str) -> str:
    head, equals, _ = parameter.replace("\\", "").partition("=")
    head = head.split(":")[0].strip()  # `name: type` or `type name`
    return head.split()[-1] + ("=" if equals else "")


def read(path: Path = FILE) -> dict[str, str]:
    """The recorded names."""
    lines = path.read_text().splitlines() if path.exists() else []
    return dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))


def main() -> int:
    import cupy

    lines = [f"{name} {value}" for name, value in record(read()).items()]
    header = (
        f"# CuPy {cupy.__version__}, by `python tests/cupy_surface.py`: a name and its parameters a line."
    )
    FILE.write_text("\n".join([header, *lines]) + "\n")
    print(f"{FILE}: {len(lines)} names of CuPy {cupy.__version__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
