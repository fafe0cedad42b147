"""Passes over a list of nodes: forward, backward, and the two that free memory as they go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from fcnlite import device
from fcnlite.blob import Blob, Node
from fcnlite.errors import InputError
from fcnlite.layers import Convolution, ReLU
from fcnlite.net.build import Builder, find_foldable
from fcnlite.net.exclusive import Exclusive, alone
from fcnlite.net.parts import Parts
from fcnlite.net.plateaus import Plateaus


class Runner(Protocol):
    """Runs a net's layers in its place, to do something besides."""

    def forward(self, node: Node) -> None:
        """Run a layer forward by `Graph.forward_node`."""

    def backward(self, node: Node) -> None:
        """Run a layer back by `Node.backward`."""


class Graph(Parts, Exclusive):
    """Named layers in the order they run, with the blobs between them.

    A pass writes to the blobs, so a net serves one thread at a time: `infer` (and `predict`) wait for each other,
    other passes raise an `InputError` while another thread's pass is under way.

    Parameters, attributes and look-ups are those of `Parts`.
    """

    def __init__(self, built: Builder):
        super().__init__(built)
        self._foldable = find_foldable(self.nodes)

    @alone
    def forward(
        self,
        blobs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **inputs: Any,
    ) -> dict[str, Any]:
        """Run forward.

        Parameters
        ----------
        blobs : sequence of str, optional
            Blobs to return besides the outputs.
        start, end : str, optional
            First and last layer to run.
        **inputs : array_like
            Content of input blobs; the net reshapes to it.

        Returns
        -------
        dict of str to array
            The outputs' data (or the last layer's tops', with `end`).
        """
        self._set_inputs(inputs)
        first, last = self.index(start, 0), self.index(end, len(self.nodes) - 1)
        for node in self.nodes[first : last + 1]:
            self.forward_node(node)
        names = list(self.nodes[last].layer.param.top) if end else self.outputs
        return {name: self.blob(name).data for name in [*names, *(blobs or ())]}

    @alone
    def backward(
        self,
        diffs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **out_diffs: Any,
    ) -> dict[str, Any]:
        """Run backward; losses seed themselves unless their diff is given, parameters' diffs are added to.

        Parameters
        ----------
        diffs : sequence of str, optional
            Blobs whose diffs to return besides the inputs'.
        start, end : str, optional
            First (nearest the output) and last layer to run.
        **out_diffs : array_like
            Gradients of output blobs (by default whatever their diffs hold).

        Returns
        -------
        dict of str to array
            The inputs' diffs (or the last layer's bottoms', with `end`).
        """
        first, last = self.index(start, len(self.nodes) - 1), self.index(end, 0)
        self._seed(self.nodes[last : first + 1])
        for name, diff in out_diffs.items():
            blob = self.blob(name)
            if np.shape(diff) != blob.shape:
                raise InputError(
                    f"the diff given for blob '{name}' has shape {np.shape(diff)}; it must be {blob.shape}"
                )
            blob.new_diff()[...] = device.current().asarray(diff)
        for node in reversed(self.nodes[last : first + 1]):
            if node.runs_back:
                node.backward()
        names = list(self.nodes[last].layer.param.bottom) if end else self.inputs
        return {name: self.blob(name).diff for name in [*names, *(diffs or ())]}

    @alone
    def forward_backward(self, keep_blobs: bool = False, runner: Runner | None = None, **inputs: Any) -> Any:
        """One pass forward and back, for training.

        Frees memory as it goes: a diff after its last reader, a layer's output after the gradients through it.
        Inputs, outputs and parameters' diffs stay. Convolution and ReLU share one pass, and equal windows are computed
        once (`fcnlite.net.plateaus`) unless blobs are kept.

        Parameters
        ----------
        keep_blobs : bool
            Keep every blob's data and diff, as Caffe does.
        runner : Runner, optional
            Called to run each layer.
        **inputs : array_like
            As for `forward`.

        Returns
        -------
        array
            The weighted sum of all losses, a scalar on the device.
        """
        self._set_inputs(inputs)
        forward = self.forward_node if runner is None else runner.forward
        outputs = [self.blobs[name] for name in self.outputs]
        with Plateaus(self.nodes, self.blobs.values() if keep_blobs else outputs) as plateaus:
            with _folded(self._foldable):
                for node in self.nodes:
                    plateaus.before_forward(node)
                    forward(node)
                    plateaus.after_forward(node)
            loss = self.total_loss()
            self._seed(self.nodes)
            for node in reversed(self.nodes):
                if node.runs_back:
                    if runner is None:
                        node.backward()
                    else:
                        runner.backward(node)
                plateaus.after_backward(node)
                if not keep_blobs:
                    self._release(node.tops, keep=[*node.bottoms, *outputs])
        return loss

    def infer(self, output: str | None = None, **inputs: Any) -> Any:
        """One pass forward that frees every blob but the inputs after its last reader; equal windows are computed once.

        Threads that call it at once are served one after the other.

        Returns
        -------
        array
            The data of `output`, by default the only output. It stays as it is when the net runs again.
        """
        wanted = output or self.only_output()
        last = {blob: node for node in self.nodes for blob in node.bottoms}
        keep = [self.blob(wanted)]
        with self.exclusive(), _folded(self._foldable), Plateaus(self.nodes, keep) as plateaus:
            if wanted not in self.inputs:
                keep[0].drop_data()  # the array that the pass before returned is its caller's
            self._set_inputs(inputs)
            for node in self.nodes:
                plateaus.before_forward(node)
                self.forward_node(node)
                plateaus.after_forward(node)
                done = [blob for blob in node.bottoms if last[blob] is node]
                self._release([*done, *(top for top in node.tops if top not in last)], keep=keep)
            return keep[0].data

    @alone
    def reshape(self) -> None:
        """Size every blob for the inputs' present shapes, without computing anything."""
        for node in self.nodes:
            with self._origin.naming(node.layer.name):
                node.reshape()

    def forward_node(self, node: Node) -> None:
        """Run one node forward; a mistake is told with its layer's place in the prototxt."""
        with self._origin.naming(node.layer.name):
            node.forward()

    def _set_inputs(self, inputs: Mapping[str, Any]) -> None:
        for name, value in inputs.items():
            if name not in self.inputs:
                raise InputError(
                    f"'{name}' is not an input of the net; its inputs are {', '.join(self.inputs) or 'none'}"
                )
            shape = np.shape(value)
            declared = self.blobs[name].shape
            if len(shape) != len(declared):
                raise InputError(f"input '{name}' has shape {shape}; as many axes as {declared} are needed")
            self.blobs[name].reshape(*shape)
            # A copy: layers in place, and whoever writes to the blob, must not change the caller's array.
            self.blobs[name].new_data()[...] = device.current().asarray(value)

    def _seed(self, nodes: Sequence[Node]) -> None:
        """Give losses their weights as diffs; a layer that reads a loss replaces that by its gradient, as in Caffe."""
        for node in nodes:
            if node.layer.loss_weights:
                node.seed()

    def _release(self, blobs: Sequence[Blob], keep: Sequence[Blob]) -> None:
        inputs = [self.blobs[name] for name in self.inputs]  # a pass that is given none goes on from the last
        for blob in blobs:
            if blob not in keep:
                blob.drop_diff()
                if blob not in inputs:
                    blob.drop_data()

    def total_loss(self) -> Any:
        """The weighted sum of all losses of the last forward pass, a scalar on the device."""
        terms = [
            top.data.sum() * weight
            for node in self.nodes
            for top, weight in zip(node.tops, node.layer.loss_weights)
            if weight
        ]
        if not terms:
            raise InputError(f"net '{self.name}' has no loss, so it cannot be trained")
        return sum(terms[1:], terms[0])


@contextmanager
def _folded(pairs: Sequence[tuple[Convolution, ReLU]]) -> Iterator[None]:
    """While active, convolutions apply the ReLU behind them themselves."""
    for convolution, relu in pairs:
        convolution.slope, relu.folded = relu.slope, True
    try:
        yield
    finally:
        for convolution, relu in pairs:
            convolution.slope, relu.folded = 1.0, False
