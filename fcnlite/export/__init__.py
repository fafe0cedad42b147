"""Nets for today's tools: ONNX, safetensors, PyTorch.

Each needs packages that are not needed otherwise: the extras `export` (onnx, safetensors, onnxruntime) and `torch`.
"""

from __future__ import annotations
