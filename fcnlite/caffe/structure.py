"""The parts of a net as pycaffe shows them: blobs, parameters, layers and their numbers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from fcnlite import device
from fcnlite import net as core
from fcnlite.blob import Node
from fcnlite.errors import InputError
from fcnlite.hostblob import HostBlob, HostBlobs
from fcnlite.layers import Layer as CoreLayer
from fcnlite.layers.python import PythonLayer


class Layer:
    """A layer of a net, as `net.layers[i]` shows it.

    Attributes
    ----------
    type : str
        Caffe's type name.
    blobs : HostBlobs
        Its parameters, weight first.
    """

    def __init__(self, layer: CoreLayer):
        self._layer = layer
        self.type = layer.type
        self.blobs = HostBlobs(layer.blobs)

    def setup(self, bottom: Sequence[HostBlob], top: Sequence[HostBlob]) -> None:
        """Read the parameters again."""
        self._layer.setup([b.blob for b in bottom], [t.blob for t in top])

    def reshape(self, bottom: Sequence[HostBlob], top: Sequence[HostBlob]) -> None:
        """Size the tops for the bottoms."""
        self._layer.reshape([b.blob for b in bottom], [t.blob for t in top])


class Structure:
    """The parts of a net.

    Attributes
    ----------
    blobs : OrderedDict of str to HostBlob
    params : OrderedDict of str to HostBlobs
    layers : list of Layer
        A Python layer shows itself.
    layer_dict : OrderedDict of str to Layer
    inputs, outputs : list of str
    top_names, bottom_names : OrderedDict of str to list of str
        The blobs of each layer.
    blob_loss_weights : OrderedDict of str to float
    """

    def _show(self, net: core.Net) -> None:
        self._net = net
        self._backend = device.current()
        self.blobs = OrderedDict((name, HostBlob(blob)) for name, blob in net.blobs.items())
        self.layers = [_shown(layer) for layer in net.layers]
        self._layer_names = [layer.name for layer in net.layers]
        self.params = OrderedDict((name, HostBlobs(blobs)) for name, blobs in net.params.items())
        self.inputs, self.outputs = list(net.inputs), sorted(net.outputs)  # by name, as Caffe has them
        for node in self._nodes:
            if node.layer.loss_weights:
                node.seed()

    @property
    def name(self) -> str:
        return self._net.name

    @property
    def _nodes(self) -> list[Node]:
        return self._net.nodes

    @property
    def layer_dict(self) -> OrderedDict[str, Any]:
        return OrderedDict(zip(self._layer_names, self.layers))

    @property
    def top_names(self) -> OrderedDict[str, list[str]]:
        return OrderedDict((layer.name, list(layer.param.top)) for layer in self._net.layers)

    @property
    def bottom_names(self) -> OrderedDict[str, list[str]]:
        return OrderedDict((layer.name, list(layer.param.bottom)) for layer in self._net.layers)

    @property
    def blob_loss_weights(self) -> OrderedDict[str, float]:
        return OrderedDict(zip(self._blob_names, self._blob_loss_weights))

    @property
    def _blob_names(self) -> list[str]:
        return list(self.blobs)

    @property
    def _blobs(self) -> list[HostBlob]:
        return list(self.blobs.values())

    @property
    def _blob_loss_weights(self) -> list[float]:
        weights = dict.fromkeys(self.blobs, 0.0)
        for layer in self._net.layers:
            weights.update(zip(layer.param.top, layer.loss_weights))
        return list(weights.values())

    @property
    def _inputs(self) -> list[int]:
        return [self._blob_names.index(name) for name in self.inputs]

    @property
    def _outputs(self) -> list[int]:
        return [self._blob_names.index(name) for name in self.outputs]

    @property
    def _input_list(self) -> list[str]:
        return list(self.inputs)

    @property
    def _output_list(self) -> list[str]:
        return list(self.outputs)

    def _top_ids(self, layer: int) -> list[int]:
        return [self._blob_names.index(name) for name in self._net.layers[layer].param.top]

    def _bottom_ids(self, layer: int) -> list[int]:
        return [self._blob_names.index(name) for name in self._net.layers[layer].param.bottom]

    def _blob(self, name: str) -> HostBlob:
        if name not in self.blobs:
            raise InputError(f"the net has no blob '{name}'")
        return self.blobs[name]

    def _index(self, layer: str | None, default: int) -> int:
        if layer is None:
            return default
        if layer not in self._layer_names:
            raise InputError(f"the net has no layer '{layer}'")
        return self._layer_names.index(layer)


def _shown(layer: CoreLayer) -> Any:
    served = getattr(layer, "served", None)
    return served if isinstance(served, PythonLayer) else Layer(layer)
