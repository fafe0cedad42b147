"""The parts of a net, found by name."""

from __future__ import annotations

from fcnlite.blob import Blob
from fcnlite.errors import InputError
from fcnlite.layers import Layer
from fcnlite.net.build import Builder


class Parts:
    """Named layers in the order they run, with the blobs between them.

    Parameters
    ----------
    built : Builder
        Gives the parts.

    Attributes
    ----------
    name : str
    blobs : OrderedDict of str to Blob
        Every blob, in the order in which layers make them.
    params : OrderedDict of str to list of Blob
        Each layer's parameters, weight before bias.
    inputs, outputs : list of str
        Blobs to set from outside, and those no layer reads.
    layers : list of Layer
    nodes : list of Node
        Each layer with its bottoms and tops, in the order they run.
    learnable_params : list of LearnableParam
        Every parameter once, in layer order (a solver's history has this order).
    """

    def __init__(self, built: Builder):
        self.name, self._origin = built.name, built.origin
        self.blobs, self.params = built.blobs, built.params
        self.inputs, self.outputs = built.inputs, built.outputs
        self.layers, self.nodes = built.layers, built.nodes
        self.learnable_params = built.learnable_params

    def layer(self, name: str) -> Layer:
        """The layer called `name`."""
        return self.layers[self.index(name, 0)]

    def only_output(self) -> str:
        """The output that is meant where none is named: the only one, or `score`."""
        if "score" in self.outputs or len(self.outputs) != 1:
            if "score" not in self.blobs:
                raise InputError(f"the net has the outputs {', '.join(self.outputs)}; name one of them")
            return "score"
        return self.outputs[0]

    def blob(self, name: str) -> Blob:
        """The blob called `name`."""
        if name not in self.blobs:
            raise InputError(f"the net has no blob '{name}'")
        return self.blobs[name]

    def index(self, name: str | None, default: int) -> int:
        """The number of the layer called `name`; `default` if None."""
        if name is None:
            return default
        for i, layer in enumerate(self.layers):
            if layer.name == name:
                return i
        raise InputError(f"the net has no layer '{name}'")

    def drop_blobs(self) -> None:
        """Free every blob's data."""
        for blob in self.blobs.values():
            blob.drop_data()

    def clear_param_diffs(self) -> None:
        """Forget the parameters' gradients: the next backward overwrites instead of adding."""
        for param in self.learnable_params:
            param.blob.clear_diff()
