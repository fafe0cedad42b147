"""Nets as PyTorch modules: the same layers under the same names, to run or to go on training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fcnlite import device
from fcnlite.blob import Blob, Node
from fcnlite.errors import InputError
from fcnlite.export.prediction import dummy_tops, for_prediction, needed
from fcnlite.export.torch import forks  # noqa: F401  (adds to FUNCTIONS)
from fcnlite.export.torch.layers import FUNCTIONS, Function
from fcnlite.io.safetensors import parameter_names
from fcnlite.net import Net

_BUFFERS = {"BatchNorm"}  # types whose parameters are statistics


class CaffeLayer(nn.Module):
    """A layer: a function of its bottoms, with Caffe's parameters as `weight`, `bias` and so on.

    Parameters
    ----------
    function : Function
        Computes the tops from this module and the bottoms.
    """

    def __init__(self, function: Function):
        super().__init__()
        self.function = function

    def forward(self, *bottoms: Tensor) -> Any:
        """The top, or a tuple of tops."""
        return self.function(self, *bottoms)


class CaffeModule(nn.Module):
    """A net for PyTorch.

    `module(data)`, or `module(data=..., depth=...)`, gives the output's tensor, or a dict of tensors where there are
    several outputs. Keys of its `state_dict` are `LAYER.weight` and `LAYER.bias`, with Caffe's layer names;
    `module.layer(name)` gives a layer.

    Attributes
    ----------
    inputs, outputs : list of str
        Caffe's names of the blobs.
    """

    def __init__(self, net: Net):
        super().__init__()
        self.inputs, self.outputs = list(net.inputs), list(net.outputs)
        nodes = [node for node in needed(net, net.outputs) if node.layer.type != "Input"]
        unknown = [node.layer for node in nodes if node.layer.type not in FUNCTIONS]
        if unknown:
            named = ", ".join(f"'{layer.name}' ({layer.type})" for layer in unknown)
            raise InputError(f"there is no PyTorch form of the layers {named}")
        learns = {id(p.blob): p.lr_mult != 0 for p in net.learnable_params}
        parameters: dict[Blob, nn.Parameter] = {}
        self.steps: list[tuple[str, list[str], list[str]]] = []
        for node in nodes:
            # Not add_module, which refuses dots, and names of its own methods such as "type".
            self._modules[node.layer.name] = _module(node, learns, parameters)
            self.steps.append((node.layer.name, [b.name for b in node.bottoms], [t.name for t in node.tops]))

    def layer(self, name: str) -> CaffeLayer:
        """The layer called `name`."""
        found = self._modules.get(name)
        if not isinstance(found, CaffeLayer):
            raise InputError(f"the net has no layer '{name}'")
        return found

    def forward(self, *inputs: Tensor, **named: Tensor) -> Any:
        """The output, or a dict of the outputs."""
        blobs = dict(zip(self.inputs, inputs)) | named
        missing = [name for name in self.inputs if name not in blobs]
        if missing:
            raise InputError(f"the net takes {', '.join(self.inputs)}; {', '.join(missing)} not given")
        for name, bottoms, tops in self.steps:
            made = self.layer(name)(*(blobs[bottom] for bottom in bottoms))
            blobs.update(zip(tops, made if isinstance(made, tuple) else (made,) * len(tops)))
        outputs = {name: blobs[name] for name in self.outputs}
        return outputs if len(outputs) > 1 else next(iter(outputs.values()))


def _module(node: Node, learns: Mapping[int, bool], parameters: dict[Blob, nn.Parameter]) -> CaffeLayer:
    """The module of a layer; parameters that layers share are one tensor."""
    layer = node.layer
    module = CaffeLayer(FUNCTIONS[layer.type](node))
    for name, blob in zip(parameter_names(layer.type, len(layer.blobs), len(node.bottoms)), layer.blobs):
        if blob not in parameters:
            tensor = torch.from_numpy(np.array(device.current().tonumpy(blob.data)))
            if layer.type in _BUFFERS:
                module.register_buffer(name, tensor)
                continue
            parameters[blob] = nn.Parameter(tensor, requires_grad=learns.get(id(blob), True))
        module.register_parameter(name, parameters[blob])
    if layer.type == "DummyData":
        for i, array in enumerate(dummy_tops(node)):
            module.register_buffer(f"top_{i}", torch.from_numpy(np.array(array)), persistent=False)
    return module


def to_torch(net: Net) -> CaffeModule:
    """A net as a PyTorch module that computes and trains as the net does.

    Parameters
    ----------
    net : Net
        Losses and labels are left out; its weights are copied.

    Returns
    -------
    CaffeModule
        In evaluation mode: call `train()` on it to go on training. Parameters with lr_mult 0 do not require a gradient.

    Raises
    ------
    InputError
        A layer has no PyTorch form; all such are named.

    Examples
    --------
    >>> module = to_torch(fcnlite.load("fcn8s.h5"))          # doctest: +SKIP
    >>> scores = module(torch.zeros(1, 3, 500, 334))         # doctest: +SKIP
    """
    return CaffeModule(for_prediction(net)).eval()
