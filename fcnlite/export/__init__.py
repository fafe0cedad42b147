"""Nets for today's tools: ONNX, safetensors, PyTorch.

Each needs packages that are not needed otherwise: the extras `export` (onnx, onnxruntime) and `torch`.
"""

from __future__ import annotations

from typing import Any

from fcnlite.errors import InputError
from fcnlite.net import Net

__all__ = ["to_torch", "write_onnx"]


def write_onnx(net: Net, path: Any, **options: Any) -> Any:
    """Write a net as an ONNX file, as `fcnlite.export.onnx.write_onnx` does."""
    try:
        from fcnlite.export.onnx import write_onnx as write
    except ImportError as error:
        raise _lacking(error, "export") from None
    return write(net, path, **options)


def to_torch(net: Net) -> Any:
    """A net as a PyTorch module, as `fcnlite.export.torch.to_torch` does."""
    try:
        from fcnlite.export.torch import to_torch as convert
    except ImportError as error:
        raise _lacking(error, "torch") from None
    return convert(net)


def _lacking(error: ImportError, extra: str) -> InputError:
    return InputError(f"the package {error.name} is missing: pip install 'fcnlite[{extra}]'")
