"""Building a net: layers created and connected in order, parameters shared by name, the way back planned."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

from fcnlite.blob import Blob, Node
from fcnlite.errors import InputError
from fcnlite.layers import Convolution, Layer, ReLU, create
from fcnlite.layers.base import name_loss_top
from fcnlite.net.parameters import LearnableParam, Reshaped
from fcnlite.proto import Message, NetParameter, folder_of, insert_splits, locate


class Origin:
    """The place of a net's description, by which errors name file and line.

    Parameters
    ----------
    source : path, str or NetParameter
        A prototxt file, its text, or a message (whose layers have no lines).
    folder : path, optional
        Folder of the files that layers name; that of the prototxt by default.
    """

    def __init__(self, source: Any, folder: str | os.PathLike[str] | None = None):
        self._source = source
        self.folder = Path(folder) if folder is not None else folder_of(source)

    def where(self, layer: str) -> str:
        """`FILE:LINE: ` of a layer, or "" for a net that was given as a message."""
        return "" if isinstance(self._source, NetParameter) else locate(self._source, layer)

    @contextmanager
    def naming(self, layer: str) -> Iterator[None]:
        """While active, errors name the layer, its file and its line."""
        try:
            yield
        except InputError as error:
            raise InputError(f"{self.where(layer)}{error}") from None
        except MemoryError as error:
            raise MemoryError(f"{self.where(layer)}layer '{layer}': {error}") from None


class Builder:
    """The parts of a net, built layer by layer (Caffe's Net::Init).

    Parameters
    ----------
    param : NetParameter
        Filtered: every layer is built.
    phase : int
        TRAIN or TEST, for layers without a phase of their own.
    origin : Origin

    Attributes
    ----------
    name, blobs, params, inputs, outputs, layers, nodes, learnable_params
        As `fcnlite.net.Net` has them.
    """

    def __init__(self, param: Message, phase: int, origin: Origin):
        self.name, self.phase, self.origin = param.name, phase, origin
        self.blobs: OrderedDict[str, Blob] = OrderedDict()
        self.params: OrderedDict[str, list[Blob]] = OrderedDict()
        self.inputs: list[str] = []
        self.layers: list[Layer] = []
        self.nodes: list[Node] = []
        self.learnable_params: list[LearnableParam] = []
        self._owners: dict[str, tuple[LearnableParam, Any]] = {}  # by a param's name, with what its specs say
        self._unread: dict[str, None] = {}
        try:
            split = insert_splits(param)
        except InputError as error:
            raise InputError(f"{origin.where(error.layer)}{error}", error.layer, error.blob) from None
        for layer_param in split.layer:
            self._add(layer_param)
        self.outputs = list(self._unread)
        plan_backward(self.nodes, self.learnable_params, param.force_backward)

    def _add(self, param: Message) -> None:
        name_loss_top(param)
        with self.origin.naming(param.name):
            layer = create(param, param.phase if param.HasField("phase") else self.phase)
            layer.folder = self.origin.folder
            layer.check_counts(len(param.bottom), len(param.top))
            bottoms = [self._bottom(layer, name) for name in param.bottom]
            tops = [self._top(layer, i) for i in range(len(param.top))]
            layer.setup(bottoms, tops)
            node = Node(layer, bottoms, tops)
            node.reshape()
            self._add_params(layer)
            weights = list(param.loss_weight) or [float(layer.is_loss and i == 0) for i in range(len(tops))]
            if len(weights) != len(tops):
                raise layer.fail(f"{len(weights)} loss_weight for {len(tops)} tops")
        layer.loss_weights = weights if any(weights) else []
        for name in param.bottom:
            self._unread.pop(name, None)
        for name in param.top:
            self._unread[name] = None
        if param.type == "Input":
            self.inputs.extend(param.top)
        self.layers.append(layer)
        self.nodes.append(node)

    def _bottom(self, layer: Layer, name: str) -> Blob:
        if name not in self.blobs:
            raise layer.fail(f"bottom '{name}' is made by no layer before it")
        return self.blobs[name]

    def _top(self, layer: Layer, number: int) -> Blob:
        name = layer.param.top[number]
        if layer.is_in_place(number):
            return self.blobs[name]
        if name in self.blobs:
            raise layer.fail(f"top '{name}' is already made by another layer")
        return self.blobs.setdefault(name, Blob(name=name))

    def _add_params(self, layer: Layer) -> None:
        specs = layer.param.param
        if len(specs) > len(layer.blobs):
            raise layer.fail(f"{len(specs)} param entries for {len(layer.blobs)} parameters")
        for i, blob in enumerate(layer.blobs):
            spec = specs[i] if i < len(specs) else None
            lr_mult, decay_mult = (spec.lr_mult, spec.decay_mult) if spec else (1.0, 1.0)
            shared = spec.name if spec else ""
            if shared in self._owners and shared:
                self._share(layer, i, spec, *self._owners[shared])
                continue
            learnable = LearnableParam(blob, layer.name, i, lr_mult, decay_mult)
            self.learnable_params.append(learnable)
            if shared:
                self._owners[shared] = learnable, copy(spec)
        if layer.blobs:
            self.params[layer.name] = layer.blobs

    def _share(self, layer: Layer, i: int, spec: Message, owner: LearnableParam, owners_spec: Any) -> None:
        """Let the layer use a parameter that an earlier layer named."""
        mine, theirs = layer.blobs[i].shape, owner.blob.shape
        if mine != theirs:
            counts = layer.blobs[i].count, owner.blob.count
            if spec.share_mode != spec.PERMISSIVE:
                told = f"shapes {mine} and {theirs} differ; share_mode: PERMISSIVE asks only for equal counts"
            elif counts[0] != counts[1]:
                told = f"they hold {counts[0]} and {counts[1]} numbers"
            else:
                told = ""
            if told:
                raise layer.fail(f"cannot share param {spec.name!r} with layer {owner.layer!r}: {told}")
        for field in ("lr_mult", "decay_mult"):
            if not spec.HasField(field):
                continue
            value = getattr(spec, field)
            if owners_spec.HasField(field) and value != getattr(owners_spec, field):
                raise layer.fail(f"shared param {spec.name!r} has mismatched {field}")
            setattr(owners_spec, field, value)  # whoever says it first, says it for all
            setattr(owner, field, value)
        layer.blobs[i] = owner.blob if mine == theirs else Reshaped(owner.blob, mine)


def plan_backward(nodes: Sequence[Node], learnable: Sequence[LearnableParam], force: bool) -> None:
    """Decide which layers run back and which bottoms and parameters get gradients.

    Parameters
    ----------
    nodes : sequence of Node
        In forward order; they and their layers are told.
    learnable : sequence of LearnableParam
    force : bool
        The net's force_backward: everything gets a gradient.
    """
    rates = {p.blob: p.lr_mult for p in learnable}
    needs: dict[Blob, bool] = {}
    for node in nodes:
        layer = node.layer
        owners = [blob.owner if isinstance(blob, Reshaped) else blob for blob in layer.blobs]
        layer.param_propagate_down = [force or rates[owner] != 0 for owner in owners]
        learns = any(layer.param_propagate_down)
        wanted = list(layer.param.propagate_down) or [needs.get(blob, False) for blob in node.bottoms]
        if len(wanted) != len(node.bottoms):
            raise layer.fail(f"{len(wanted)} propagate_down for {len(node.bottoms)} bottoms")
        node.propagate_down = [
            i not in layer.no_gradient and (force or wish) for i, wish in enumerate(wanted)
        ]
        node.runs_back = learns or any(node.propagate_down)
        for blob in node.tops:
            needs[blob] = node.runs_back or force
    if not force:
        _skip_what_no_loss_sees(nodes)


def _skip_what_no_loss_sees(nodes: Sequence[Node]) -> None:
    """Skip backward for layers no loss depends on; without losses gradients start at the outputs, and all run."""
    if not any(node.layer.loss_weights for node in nodes):
        return
    seen: set[Blob] = set()
    for node in reversed(nodes):
        if node.layer.loss_weights or any(top in seen for top in node.tops):
            seen.update(node.bottoms)
        else:
            node.runs_back = False


def find_foldable(nodes: Sequence[Node]) -> list[tuple[Convolution, ReLU]]:
    """Pairs of a convolution and the in-place ReLU right behind it, which can share one pass over the output."""
    return [
        (first.layer, second.layer)
        for first, second in pairwise(nodes)
        if isinstance(first.layer, Convolution)
        and isinstance(second.layer, ReLU)
        and len(first.tops) == 1
        and second.bottoms == second.tops == first.tops
    ]
