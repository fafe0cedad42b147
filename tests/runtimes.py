"""Exported nets in the runtimes of others, beside our own passes: ONNX Runtime, OpenVINO and PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cases
import numpy as np
import onnxruntime

from fcnlite.export import to_torch
from fcnlite.io.safetensors import parameter_names
from fcnlite.net import Net

Arrays = Mapping[str, np.ndarray]
HAS_TORCH, HAS_OPENVINO = (find_spec(name) is not None for name in ("torch", "openvino"))


def ours(net: Net, feeds: Arrays) -> dict[str, np.ndarray]:
    """The outputs of the net for some inputs."""
    return {name: np.array(array) for name, array in net.forward(**feeds).items()}


def in_onnxruntime(path: Path, feeds: Arrays) -> dict[str, np.ndarray]:
    """All outputs of an ONNX file, with the optimisations that a user gets."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    taken = {each.name for each in session.get_inputs()}
    return dict(zip(names, session.run(names, {name: a for name, a in feeds.items() if name in taken})))


def in_openvino(path: Path, feeds: Arrays) -> dict[str, np.ndarray]:
    """All outputs of an ONNX file, in single precision."""
    import openvino

    core = openvino.Core()
    model = core.compile_model(core.read_model(str(path)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    taken = {name for each in model.inputs for name in each.names}
    result = model({name: array for name, array in feeds.items() if name in taken})
    return {name: result[output] for output in model.outputs for name in output.names}


def worst(expected: Arrays, found: Arrays) -> cases.RelativeError:
    """The largest relative error of some arrays."""
    return max(cases.relative_error(found[name], array) for name, array in expected.items())


def check_torch(net: Net, feeds: Arrays, diffs: Arrays, bound: float, gradient_bound: float) -> None:
    """Compare the PyTorch module with the net, forward and back to the inputs and the parameters."""
    import torch

    module = to_torch(net)
    inputs = {name: torch.tensor(array, requires_grad=True) for name, array in feeds.items()}
    outputs: Any = module(**inputs)
    tensors = outputs if isinstance(outputs, dict) else {module.outputs[0]: outputs}
    found = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
    error = worst(ours(net, feeds), found)
    assert error <= bound, error
    if not any(tensor.requires_grad for tensor in tensors.values()):
        return
    seeds = {name: diffs[name] for name, tensor in tensors.items() if tensor.requires_grad}
    net.backward(**diffs)
    torch.autograd.backward([tensors[name] for name in seeds], [torch.tensor(seeds[name]) for name in seeds])
    parameters = dict(module.named_parameters(remove_duplicate=False))
    wanted = {name: net.blobs[name].diff for name in feeds if inputs[name].grad is not None}
    got = {name: inputs[name].grad.numpy() for name in wanted}
    for node in net.nodes:
        layer = node.layer
        for name, blob in zip(parameter_names(layer.type, len(layer.blobs), len(node.bottoms)), layer.blobs):
            parameter = parameters.get(f"{layer.name}.{name}")
            if parameter is not None and parameter.grad is not None:
                wanted[f"{layer.name}.{name}"], got[f"{layer.name}.{name}"] = (
                    blob.diff,
                    parameter.grad.numpy(),
                )
    error = worst(wanted, got)
    assert error <= gradient_bound, error
