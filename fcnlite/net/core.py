"""Nets: a NetParameter brought to life as named layers over the tape, with pycaffe's surface.

>>> net = Net("deploy.prototxt", weights="fcn8s.h5")        # doctest: +SKIP
>>> score = net.forward(data=image)["score"]                # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from PIL import Image

from fcnlite import device
from fcnlite.blob import Blob, Node
from fcnlite.data.dataset import MEAN_BGR, preprocess
from fcnlite.data.files import read_photo, to_rgb
from fcnlite.deploy import deploy
from fcnlite.errors import InputError
from fcnlite.io import check, iter_weights, read_deploy, read_notes, write_weights
from fcnlite.layers import Convolution, Layer, ReLU, create
from fcnlite.layers.base import name_loss_top, phase_number
from fcnlite.models import recognise
from fcnlite.proto import (
    NetParameter,
    NetState,
    filter_net,
    folder_of,
    insert_splits,
    locate,
    parse_net,
    read_net,
    to_text,
    upgrade,
)

_PERMISSIVE = 1
# What `load` takes from a file's notes.
_NOTES = {
    "classes": dict[str, list[str]],
    "mean_bgr": list[float],
    "background": Annotated[int, (0, 255)] | None,
}


@dataclass
class LearnableParam:
    """A parameter as a solver sees it: the blob, where it belongs, and how it learns."""

    blob: Blob
    layer: str
    index: int
    lr_mult: float
    decay_mult: float


class Net:
    """A net, as Caffe builds one from a NetParameter.

    Parameters
    ----------
    source : path, str or NetParameter
        A prototxt file, its text, or a message.
    phase : str or int
        ``"TRAIN"`` or ``"TEST"``.
    weights : path, optional
        Weights to copy in, by layer name (see :meth:`copy_from`).
    level, stages : int, sequence of str
        What the include and exclude rules of layers look at besides the phase; stages add to the net's own.
    folder : path, optional
        Where files that layers name are looked for if they are not in the working folder; that of the prototxt by
        default.

    Attributes
    ----------
    blobs : OrderedDict of str to Blob
        Every blob, in the order in which layers make them.
    params : OrderedDict of str to list of Blob
        Each layer's parameters, weight before bias.
    inputs, outputs : list of str
        Blobs to set from outside, and those no layer reads.
    layers : list of Layer
    nodes : list of Node
        What runs, in order: each layer with its bottoms and tops.
    learnable_params : list of LearnableParam
        Every parameter once, in layer order (a solver's history has this order).
    mean_bgr : sequence of float
        The mean colour of the data that the net is for, which :meth:`predict` subtracts.
    classes : dict of str to tuple of str
        For each score blob the names of its classes, where they are known.
    background : int or None
        The class that pictures leave untinted. These three are kept in HDF5 files.

    Raises
    ------
    InputError, FileNotFoundError
        With file, line and layer, where the net cannot be built.
    """

    def __init__(
        self,
        source: Any,
        phase: str | int = "TEST",
        weights: str | os.PathLike[str] | None = None,
        level: int = 0,
        stages: Sequence[str] = (),
        folder: str | os.PathLike[str] | None = None,
    ):
        self._source = source
        self._folder = Path(folder) if folder is not None else folder_of(source)
        param = source if isinstance(source, NetParameter) else read_net(source)
        self.phase = phase_number(phase)
        state = NetState(phase=self.phase, level=level, stage=[*param.state.stage, *stages])
        self.param = filter_net(upgrade(param), state)
        self.name = self.param.name
        self.blobs: OrderedDict[str, Blob] = OrderedDict()
        self.params: OrderedDict[str, list[Blob]] = OrderedDict()
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.layers: list[Layer] = []
        self.learnable_params: list[LearnableParam] = []
        self.mean_bgr: Sequence[float] = MEAN_BGR
        self.classes: dict[str, tuple[str, ...]] = {}
        self.background: int | None = 0
        self.nodes: list[Node] = []
        self._owners: dict[str, tuple[LearnableParam, Any]] = {}  # by a param's name, with what its specs say
        self._unread: dict[str, None] = {}
        try:
            split = insert_splits(self.param)
        except InputError as error:
            raise InputError(f"{self._where(error.layer)}{error}") from None
        for layer_param in split.layer:
            self._add(layer_param)
        self.outputs = list(self._unread)
        self._plan_backward()
        self._foldable = self._find_foldable()
        if weights is not None:
            self.copy_from(weights)

    # Building

    def _add(self, param: Any) -> None:
        name_loss_top(param)
        with self._naming(param.name):
            layer = create(param, param.phase if param.HasField("phase") else self.phase)
            layer.folder = self._folder
            layer.check_counts(len(param.bottom), len(param.top))
            bottoms = [self._bottom(layer, name) for name in param.bottom]
            tops = [self._top(layer, name, list(param.bottom)) for name in param.top]
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

    def _top(self, layer: Layer, name: str, bottoms: list[str]) -> Blob:
        if name in bottoms and (layer.in_place or layer.type == "Split"):
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

    def _share(self, layer: Layer, i: int, spec: Any, owner: LearnableParam, owners_spec: Any) -> None:
        """Let the layer use a parameter that an earlier layer named."""
        mine, theirs = layer.blobs[i].shape, owner.blob.shape
        if mine != theirs:
            permissive = spec.share_mode == _PERMISSIVE and layer.blobs[i].count == owner.blob.count
            reason = (
                "PERMISSIVE sharing of equal counts needs equal shapes here"
                if permissive
                else "shapes differ"
            )
            raise layer.fail(
                f"cannot share param {spec.name!r} with layer {owner.layer!r}: {reason} ({mine}, {theirs})"
            )
        for field in ("lr_mult", "decay_mult"):
            if not spec.HasField(field):
                continue
            value = getattr(spec, field)
            if owners_spec.HasField(field) and value != getattr(owners_spec, field):
                raise layer.fail(f"shared param {spec.name!r} has mismatched {field}")
            setattr(owners_spec, field, value)  # whoever says it first, says it for all
            setattr(owner, field, value)
        layer.blobs[i] = owner.blob

    def _plan_backward(self) -> None:
        """Decide which layers run back and which bottoms and parameters get gradients (Caffe's Net::Init)."""
        force = self.param.force_backward
        rates = {id(p.blob): p.lr_mult for p in self.learnable_params}
        needs: dict[Blob, bool] = {}
        for node in self.nodes:
            layer = node.layer
            layer.param_propagate_down = [force or rates[id(blob)] != 0 for blob in layer.blobs]
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
            self._skip_what_no_loss_sees()

    def _skip_what_no_loss_sees(self) -> None:
        """Layers that no loss depends on need not run back (nets without any loss are seeded at their outputs)."""
        if not any(node.layer.loss_weights for node in self.nodes):
            return
        seen: set[Blob] = set()
        for node in reversed(self.nodes):
            if node.layer.loss_weights or any(top in seen for top in node.tops):
                seen.update(node.bottoms)
            else:
                node.runs_back = False

    def _find_foldable(self) -> list[tuple[Convolution, ReLU]]:
        """Pairs of a convolution and the in-place ReLU right behind it, which can share one pass over the output."""
        return [
            (first.layer, second.layer)
            for first, second in pairwise(self.nodes)
            if isinstance(first.layer, Convolution)
            and isinstance(second.layer, ReLU)
            and len(first.tops) == 1
            and second.bottoms == second.tops == first.tops
        ]

    # Running

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
            The outputs' data (or the last layer's tops', with ``end``).
        """
        self._set_inputs(inputs)
        first, last = self._index(start, 0), self._index(end, len(self.nodes) - 1)
        for node in self.nodes[first : last + 1]:
            self.forward_node(node)
        names = list(self.nodes[last].layer.param.top) if end else self.outputs
        return {name: self._blob(name).data for name in [*names, *(blobs or ())]}

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
            The inputs' diffs (or the last layer's bottoms', with ``end``).
        """
        first, last = self._index(start, len(self.nodes) - 1), self._index(end, 0)
        self._seed(self.nodes[last : first + 1])
        for name, diff in out_diffs.items():
            blob = self._blob(name)
            if np.shape(diff) != blob.shape:
                raise InputError(
                    f"the diff given for blob '{name}' has shape {np.shape(diff)}; it must be {blob.shape}"
                )
            blob.new_diff()[...] = device.current().asarray(diff)
        for node in reversed(self.nodes[last : first + 1]):
            if node.runs_back:
                node.backward()
        names = list(self.nodes[last].layer.param.bottom) if end else self.inputs
        return {name: self._blob(name).diff for name in [*names, *(diffs or ())]}

    def forward_backward(self, keep_blobs: bool = False, **inputs: Any) -> Any:
        """One pass forward and back, for training.

        What nobody needs any more is freed on the way: a diff after its last reader, a layer's output after the
        gradients through it; inputs, outputs and parameters' diffs stay. Convolution and ReLU share one pass.

        Parameters
        ----------
        keep_blobs : bool
            Keep every blob's data and diff, as Caffe does.
        **inputs : array_like
            As for :meth:`forward`.

        Returns
        -------
        array
            The weighted sum of all losses, a scalar on the device.
        """
        self._set_inputs(inputs)
        with _Folded(self._foldable):
            for node in self.nodes:
                self.forward_node(node)
        loss = self.total_loss()
        outputs = [self.blobs[name] for name in self.outputs]
        self._seed(self.nodes)
        for node in reversed(self.nodes):
            if node.runs_back:
                node.backward()
            if not keep_blobs:
                self._release(node.tops, keep=[*node.bottoms, *outputs])
        return loss

    def infer(self, output: str | None = None, **inputs: Any) -> Any:
        """One pass forward that frees every blob but the inputs after its last reader.

        Returns
        -------
        array
            The data of ``output``, by default the only output.
        """
        wanted = output or self._only_output()
        self._set_inputs(inputs)
        last = {blob: node for node in self.nodes for blob in node.bottoms}
        with _Folded(self._foldable):
            for node in self.nodes:
                self.forward_node(node)
                keep = [self.blobs[wanted]] if wanted in self.blobs else []
                done = [blob for blob in node.bottoms if last[blob] is node]
                self._release([*done, *(top for top in node.tops if top not in last)], keep=keep)
        return self._blob(wanted).data

    def predict(
        self, image: Any, mean_bgr: Sequence[float] | None = None, output: str | None = None
    ) -> np.ndarray:
        """Segment an image.

        Parameters
        ----------
        image : path, PIL.Image or numpy.ndarray
            An array is H x W x 3 uint8, RGB. A file is turned upright if its EXIF says that it lies on a side.
        mean_bgr : sequence of float, optional
            Mean colour to subtract (the net's own, VOC's unless set, by default).
        output : str, optional
            The score blob to use, where the net has several.

        Returns
        -------
        numpy.ndarray
            H x W uint8: each pixel's class.
        """
        mean = self.mean_bgr if mean_bgr is None else mean_bgr
        score = self.infer(output, data=preprocess(_pixels(image), mean)[None])
        labels = argmax_channels(score)[0]
        for blob in self.blobs.values():
            blob.drop_data()
        return labels

    def reshape(self) -> None:
        """Size every blob for the inputs' present shapes, without computing anything."""
        for node in self.nodes:
            with self._naming(node.layer.name):
                node.reshape()

    def clear_param_diffs(self) -> None:
        """Forget the parameters' gradients: the next backward overwrites instead of adding."""
        for param in self.learnable_params:
            param.blob.clear_diff()

    # Weights

    def copy_from(self, source: str | os.PathLike[str] | Mapping[str, Sequence[np.ndarray]]) -> None:
        """Copy parameters by layer name, from a .caffemodel, a Caffe HDF5 file or a mapping of arrays.

        Layers of the file that the net lacks are passed over, and layers of the net that the file lacks stay as they
        are. A layer with ``name`` in both must have as many parameters of the same shapes.
        """
        label = "the mapping" if isinstance(source, Mapping) else os.fspath(source)
        copied = 0
        for layer, arrays in source.items() if isinstance(source, Mapping) else iter_weights(source):
            if layer in self.params and arrays:
                self._copy_layer(layer, arrays, label)
                copied += 1
        if self.params and not copied:
            raise InputError(
                f"{label}: none of its layers is in the net '{self.name}' ({', '.join(list(self.params)[:4])}, ..)"
            )

    def _copy_layer(self, layer: str, arrays: Sequence[np.ndarray], label: str) -> None:
        blobs = self.params[layer]
        owned = {p.index for p in self.learnable_params if p.layer == layer}
        # Caffe's HDF5 leaves out parameters that an earlier layer shares.
        left_out = {
            i for i in range(len(blobs)) if i not in owned and (i >= len(arrays) or not arrays[i].size)
        }
        if len(arrays) > len(blobs) or not left_out.issuperset(range(len(arrays), len(blobs))):
            raise InputError(
                f"{label}: layer '{layer}' has {len(arrays)} parameters there, {len(blobs)} in the net"
            )
        for i, (blob, array) in enumerate(zip(blobs, arrays)):
            if i in left_out:
                continue
            if array.shape != blob.shape and _trim(array.shape) != _trim(blob.shape):
                raise InputError(
                    f"{label}: layer '{layer}', parameter {i}: shape {array.shape} there, {blob.shape} in the "
                    "net; to start this layer afresh rename it"
                )
            # Into the blob's own array: nets that share it see the change.
            blob.data[...] = device.current().asarray(array.reshape(blob.shape))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the parameters: .h5 in Caffe's HDF5 layout with the deploy net inside, or .caffemodel."""
        backend = device.current()
        arrays = {layer.name: [backend.tonumpy(b.data) for b in layer.blobs] for layer in self.layers}
        notes = {
            "classes": self.classes,
            "mean_bgr": [float(value) for value in self.mean_bgr],
            "background": self.background,
        }
        shapes = {name: blob.shape for name, blob in self.blobs.items()}
        text = to_text(deploy(self.param, shapes))
        write_weights(path, arrays, net=self.definition(), deploy=text, notes=notes)

    def definition(self) -> Any:
        """The net as Caffe describes it beside the weights in a file: with its Split layers and phases."""
        net = insert_splits(self.param)
        for layer in net.layer:
            if not layer.HasField("phase"):
                layer.phase = self.phase
        return net

    def share_with(self, other: Net) -> None:
        """Use the other net's parameters, by layer name: changing either changes both."""
        for name, blobs in self.params.items():
            for i, theirs in enumerate(other.params.get(name, ())):
                if i >= len(blobs) or blobs[i].shape != theirs.shape:
                    raise InputError(
                        f"layer '{name}': its parameters have other shapes in the net to share with"
                    )
                blobs[i].data = theirs.data

    # Small services

    def layer(self, name: str) -> Layer:
        """The layer called ``name``."""
        return self.layers[self._index(name, 0)]

    def _where(self, layer: str) -> str:
        """``FILE:LINE: `` of a layer, if the net comes from a text."""
        return "" if isinstance(self._source, NetParameter) else locate(self._source, layer)

    @contextmanager
    def _naming(self, layer: str) -> Iterator[None]:
        """While active, errors say which layer they are about, and where it stands."""
        try:
            yield
        except InputError as error:
            raise InputError(f"{self._where(layer)}{error}") from None
        except MemoryError as error:
            raise MemoryError(f"{self._where(layer)}layer '{layer}': {error}") from None

    def forward_node(self, node: Node) -> None:
        """Run one node forward; a mistake is told with its layer's place in the prototxt."""
        with self._naming(node.layer.name):
            node.forward()

    def _set_inputs(self, inputs: Mapping[str, Any]) -> None:
        for name, value in inputs.items():
            if name not in self.inputs:
                raise InputError(
                    f"'{name}' is no input of the net; its inputs are {', '.join(self.inputs) or 'none'}"
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

    def _only_output(self) -> str:
        if "score" in self.outputs or len(self.outputs) != 1:
            if "score" not in self.blobs:
                raise InputError(
                    f"the net has the outputs {', '.join(self.outputs)}; say which one is wanted"
                )
            return "score"
        return self.outputs[0]

    def _blob(self, name: str) -> Blob:
        if name not in self.blobs:
            raise InputError(f"the net has no blob '{name}'")
        return self.blobs[name]

    def _index(self, name: str | None, default: int) -> int:
        if name is None:
            return default
        for i, layer in enumerate(self.layers):
            if layer.name == name:
                return i
        raise InputError(f"the net has no layer '{name}'")


class _Folded:
    """While active, convolutions apply the ReLU behind them themselves."""

    def __init__(self, pairs: Sequence[tuple[Convolution, ReLU]]):
        self.pairs = pairs

    def __enter__(self) -> None:
        for convolution, relu in self.pairs:
            convolution.slope, relu.folded = relu.slope, True

    def __exit__(self, *_: object) -> None:
        for convolution, relu in self.pairs:
            convolution.slope, relu.folded = 1.0, False


def load(path: str | os.PathLike[str], prototxt: Any = None) -> Net:
    """A net ready to predict, from a file of weights.

    Parameters
    ----------
    path : path
        An HDF5 file that fcnlite wrote (it carries its own net), or a bare Caffe HDF5 or .caffemodel of one of the
        paper's nets, which is recognised by its layers' names and shapes.
    prototxt : path, str or NetParameter, optional
        The net to use instead.

    Returns
    -------
    Net
        In phase TEST, with the weights copied in.

    Raises
    ------
    FileNotFoundError, InputError
        If there is no such file, or no net for it.
    """
    if Path(path).is_dir():
        raise InputError(f"{os.fspath(path)}: this is a folder; name the file of weights in it")
    if not Path(path).is_file():
        raise FileNotFoundError(f"{os.fspath(path)}: no such weights file")
    text = read_deploy(path) if prototxt is None else None
    source = parse_net(text, f"{os.fspath(path)}, attribute 'prototxt'") if text else prototxt
    if source is None:
        shapes = {layer: [array.shape for array in arrays] for layer, arrays in iter_weights(path)}
        source = recognise(shapes)
        if source is None:
            raise InputError(
                f"{os.fspath(path)}: its layers are those of no net in the catalogue; give the deploy prototxt too"
            )
    try:
        net = Net(source, "TEST")
    except InputError as error:
        raise InputError(str(error) if prototxt is not None else f"{os.fspath(path)}: {error}") from None
    net.copy_from(path)
    notes = read_notes(path)
    where = f"{os.fspath(path)}: its note on classes and mean colour"
    check(notes, {name: kind for name, kind in _NOTES.items() if name in notes}, where)
    net.classes = {blob: tuple(names) for blob, names in notes.get("classes", {}).items()}
    net.mean_bgr = tuple(notes.get("mean_bgr", MEAN_BGR))
    net.background = notes.get("background", 0)
    wrong = [b for b, names in net.classes.items() if b in net.blobs and net.blobs[b].channels != len(names)]
    if len(net.mean_bgr) != 3 or wrong:
        of = f"the classes of {wrong[0]}" if wrong else "blue, green and red"
        raise InputError(f"{where} is damaged: it has another number of values than {of}")
    return net


def argmax_channels(score: Any) -> np.ndarray:
    """The class of each pixel: (N, C, H, W) scores on the device to (N, H, W) uint8 (int32 above 255 classes)."""
    backend = device.current()
    n, channels, height, width = score.shape
    labels = backend.empty((n, height, width), np.int32)
    backend.launch("argmax_forward", n * height, width, channels, height, score, labels)
    return backend.tonumpy(labels).astype(np.uint8 if channels <= 256 else np.int32)


def _pixels(image: Any) -> np.ndarray:
    if isinstance(image, (str, os.PathLike)):
        return read_photo(image)
    if isinstance(image, Image.Image):
        return to_rgb(image)
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise InputError(f"an image array must be H x W x 3 uint8; this one is {pixels.shape} {pixels.dtype}")
    return pixels


def _trim(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape without leading ones: Caffe's old files pad shapes to four axes."""
    dims = list(shape)
    while dims and dims[0] == 1:
        dims.pop(0)
    return tuple(dims)
