"""Measures of a net, taken from its description alone: shapes, parameters, costs, receptive fields.

The layers themselves say their shapes: each is set up and reshaped on blobs that hold no memory, so a
full-size net is measured in milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fcnlite.random
from fcnlite import layers
from fcnlite.blob import Blob
from fcnlite.data.python_layers import is_data_layer
from fcnlite.errors import InputError, warn
from fcnlite.layers.base import name_loss_top
from fcnlite.proto import TEST, Message, NetParameter, NetState, filter_net, upgrade
from fcnlite.proto.filter import left_out
from fcnlite.receptive_field import PIXEL, Field, field_above

Shape = tuple[int, ...]
FLOAT = 4  # bytes

# Settings of the layers that bring data from outside.
_SETTINGS = {
    "Data": "data_param",
    "DenseImageData": "dense_image_data_param",
    "HDF5Data": "hdf5_data_param",
    "ImageData": "image_data_param",
    "ImageSegData": "image_data_param",
    "MemoryData": "memory_data_param",
    "WindowData": "window_data_param",
}
# The second top is a class for each image.
_NUMBERED = frozenset("Data ImageData MemoryData WindowData".split())
_DECLARED = frozenset("MemoryData WindowData".split())  # which files tell nothing of
# Blobs that hold class indices, in the nets of the paper and in Caffe's examples; "depth" too has one
# channel.
ONE_CHANNEL = frozenset({"label", "labels", "sem", "geo", "depth"})


@dataclass(frozen=True)
class Parameter:
    """A parameter's shape, what fills a new one (a FillerParameter or None), and whether it learns.

    `shared`: it is that of an earlier layer, by the name in `param`, and counts nothing here.
    """

    shape: Shape
    filler: Message
    learns: bool
    shared: bool = False

    @property
    def count(self) -> int:
        """Number of values that this layer adds to the net."""
        return 0 if self.shared else math.prod(self.shape)


@dataclass(frozen=True)
class LayerGeometry:
    """One layer at a given input size.

    Attributes
    ----------
    name, type : str
    bottoms, tops : tuple of str
        Blob names.
    shapes : tuple of tuple of int
        Shapes of the tops.
    parameters : tuple of Parameter
    macs : int
        Multiply-adds of one forward pass; only of layers that are matrix products.
    field : Field or None
        Receptive field of the first top; None for inputs, and where position has no meaning.
    """

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    shapes: tuple[Shape, ...]
    parameters: tuple[Parameter, ...]
    macs: int
    field: Field | None

    @property
    def parameter_count(self) -> int:
        """Number of parameter values."""
        return sum(parameter.count for parameter in self.parameters)


def fetches_data(param: Message) -> bool:
    """True for a layer that brings data from outside, be its type known or not."""
    cls = layers.LAYERS.get(param.type)
    reads = cls is not None and cls.bottoms[0] > 0
    known = reads or param.type in ("Input", "Parameter", "DummyData")
    return not known and not param.bottom and bool(param.top)


def measure(
    net: NetParameter,
    size: tuple[int, int] | None = None,
    phase: int = TEST,
    state: NetState | None = None,
    folder: Path | None = None,
) -> list[LayerGeometry]:
    """Measure every layer of a net.

    Parameters
    ----------
    net : NetParameter
        Of either format; layers of another phase are left out.
    size : (int, int), optional
        Height and width to give every input map in place of those declared. Layers that bring data and declare none
        need it, unless their files tell. Images of which neither tells are taken to have 3 channels, or one where
        called label, sem, geo or depth.
    phase : int
        TRAIN or TEST.
    state : NetState, optional
        Level and stages as well; in place of `phase`.
    folder : Path, optional
        The prototxt's. Layers that bring data then look into their files for the shapes of the first batch; without
        it no file is opened.

    Returns
    -------
    list of LayerGeometry
        In the net's order.

    Raises
    ------
    InputError
        A layer is unknown or wrong, reads a blob that no layer before it writes, or gets a map too small for
        it.
    """
    state = state or NetState(phase=phase, stage=net.state.stage)
    whole = upgrade(net)
    net = filter_net(whole, state)
    blobs: dict[str, Blob] = {}
    fields: dict[str, Field | None] = {}
    owned: set[str] = set()
    try:
        return [_measure_layer(param, blobs, fields, owned, size, phase, folder) for param in net.layer]
    except InputError as error:
        raise InputError(f"{error}{left_out(error.blob, whole, state)}") from None


def _measure_layer(
    param: Message,
    blobs: dict[str, Blob],
    fields: dict[str, Field | None],
    owned: set[str],
    size: tuple[int, int] | None,
    phase: int,
    folder: Path | None,
) -> LayerGeometry:
    name_loss_top(param)
    for name in param.bottom:
        if name not in blobs:
            raise InputError(
                f"layer '{param.name}' ({param.type}): no layer before it writes its bottom '{name}'",
                blob=name,
            )
    bottoms = [blobs[name] for name in param.bottom]
    if fetches_data(param) and param.type in layers.LAYERS:
        shapes = _fed(param, size, phase, folder)
        tops = [Blob(shape=shape, name=name) for name, shape in zip(param.top, shapes)]
        made: list[tuple[Blob, Any]] = []
        layer: Any = None
    else:
        layer = layers.create(param, phase)
        layer.folder = folder
        tops = [blobs[name] if layer.is_in_place(i) else Blob(name=name) for i, name in enumerate(param.top)]
        made = _shaped(layer, bottoms, tops, size)
    for name in set(param.top) - set(param.bottom):
        if name in blobs:
            raise InputError(
                f"layer '{param.name}' ({param.type}): top '{name}' is already made by another layer"
            )
    seen = field_above(param, layer, bottoms, [fields[name] for name in param.bottom])
    for name, top in zip(param.top, tops):
        blobs[name] = top
        is_map = not param.bottom and len(top.shape) == 4
        fields[name] = PIXEL if is_map else seen
    parameters = tuple(
        _parameter(blob, filler, param.param[i] if i < len(param.param) else None, owned)
        for i, (blob, filler) in enumerate(made)
    )
    return LayerGeometry(
        param.name,
        param.type,
        tuple(param.bottom),
        tuple(param.top),
        tuple(tuple(top.shape) for top in tops),
        parameters,
        _macs(param.type, bottoms, tops, parameters),
        seen if param.bottom else None,
    )


def _parameter(blob: Blob, filler: Message, spec: Message, owned: set[str]) -> Parameter:
    """A parameter under its ParamSpec, if it has one; `owned` are the names that earlier layers share by."""
    if spec is None:
        return Parameter(tuple(blob.shape), filler, learns=True)
    shared = spec.name in owned
    owned.update([spec.name] if spec.name else [])
    return Parameter(tuple(blob.shape), filler, spec.lr_mult != 0, shared)


def _fed(param: Message, size: tuple[int, int] | None, phase: int, folder: Path | None) -> list[Shape]:
    """Shapes of the tops of a layer that brings data: as its files tell, else as it declares, at the size given."""
    reason = "it does not say how large its images are"
    if folder is not None and param.type not in _DECLARED:
        try:
            return _resized(first_batch(param, phase, folder), size)
        except (InputError, FileNotFoundError) as error:
            reason = str(error)
    declared = size or declared_size(param)
    if declared is None:
        where = "" if reason.startswith("layer ") else f"layer '{param.name}' ({param.type}): "
        raise InputError(f"{where}{reason}; give the input size (--size)")
    if reason.startswith("layer ") and not is_data_layer(param.python_param.module, param.python_param.layer):
        warn(f"{reason}; sizes and channels are taken as declared, images without to have 3 channels")
    return [declared_shape(param, i, declared) for i in range(len(param.top))]


def first_batch(param: Message, phase: int, folder: Path) -> list[Shape]:
    """The shapes that a layer's files give its tops."""
    layer = layers.create(param, phase)
    layer.folder = folder
    layer.check_counts(0, len(param.top))
    tops = [Blob(name=name) for name in param.top]
    with fcnlite.random.left_alone():
        layer.size_up([], tops)
    return [tuple(top.shape) for top in tops]


def _resized(shapes: list[Shape], size: tuple[int, int] | None) -> list[Shape]:
    """The shapes with maps of the first one's size, and in proportion to it, at another."""
    if size is None or len(shapes[0]) != 4:
        return shapes
    first = shapes[0][2:]
    return [
        (*shape[:2], *(new * old // base for new, old, base in zip(size, shape[2:], first)))
        if len(shape) == 4
        else shape
        for shape in shapes
    ]


def declared_size(param: Message) -> tuple[int, int] | None:
    """Height and width of the images that a layer brings, if its settings have them."""
    settings, transform = getattr(param, _SETTINGS.get(param.type, ""), None), param.transform_param
    pairs = [(transform.crop_size, transform.crop_size), (transform.crop_height, transform.crop_width)]
    for kind in ("crop_", "new_", ""):
        pairs.append((getattr(settings, f"{kind}height", 0), getattr(settings, f"{kind}width", 0)))
    return next(((int(height), int(width)) for height, width in pairs if height and width), None)


def declared_shape(param: Message, index: int, size: tuple[int, int]) -> Shape:
    """The shape of a top of a layer that brings data, as far as its settings have it."""
    settings: Any = getattr(param, _SETTINGS.get(param.type, ""), None)
    batch = int(settings.batch_size) if settings is not None else 1
    if index == 1 and param.type in _NUMBERED:
        return (batch,)  # a class for each image
    if index == 2 and param.type == "ImageSegData":
        return batch, 1, 1, 2  # each image's size
    is_label = param.top[index] in ONE_CHANNEL or (
        index == 1 and param.type.endswith(("ImageData", "SegData"))
    )
    is_grey = param.transform_param.force_gray or not getattr(settings, "is_color", True)
    channels = 1 if is_label or is_grey else 3
    if param.type == "MemoryData":
        channels = int(settings.channels)
    divisor = settings.label_divide_factor if is_label and param.type == "DenseImageData" else 1
    return batch, channels, size[0] // divisor, size[1] // divisor


def _shaped(
    layer: Any, bottoms: list[Blob], tops: list[Blob], size: tuple[int, int] | None
) -> list[tuple[Blob, Any]]:
    """Set a layer up on blobs without memory; return its parameters, each with its filler."""
    fillers: dict[int, Any] = {}

    def unfilled(shape: Sequence[int], filler: Message) -> Blob:
        blob = Blob(shape=shape)
        fillers[id(blob)] = filler
        return blob

    layer.new_parameter = unfilled  # a parameter's shape is wanted, not its hundred megabytes
    layer.check_counts(len(bottoms), len(tops))
    layer.size_up(bottoms, tops)
    if layer.type == "Input" and size is not None:
        for top in tops:
            if len(top.shape) == 4:
                top.reshape(*top.shape[:2], *size)
    return [(blob, fillers.get(id(blob))) for blob in layer.blobs]


def _macs(type_name: str, bottoms: list[Blob], tops: list[Blob], parameters: tuple[Parameter, ...]) -> int:
    """Multiply-adds of a forward pass: each weight is used once a position of the map it slides over."""
    if not parameters:
        return 0
    weight = math.prod(parameters[0].shape)
    if type_name == "Convolution":
        return sum(weight * top.count // parameters[0].shape[0] for top in tops)
    if type_name == "Deconvolution":
        return sum(weight * bottom.count // parameters[0].shape[0] for bottom in bottoms)
    if type_name == "InnerProduct":
        return weight * (tops[0].count // tops[0].shape[-1])
    return 0


@dataclass(frozen=True)
class Properties:
    """A net in the terms of the paper's Table 1, and what it costs.

    Attributes
    ----------
    conv_layers : int
        Most layers with learned weights on a way from input to output (inner products count as convolutions).
    parameters : int
        Learned parameters.
    fixed : int
        Parameters that do not learn (lr_mult 0), such as upsampling weights.
    receptive_field, max_stride : int
        Largest of any layer ahead of upsampling, in input pixels.
    macs : int
        Multiply-adds of a forward pass.
    blob_bytes, peak_bytes, parameter_bytes : int
        float32 memory: of all blobs, as forward() keeps them; of the blobs alive at once if each is freed
        after its last reader; and of the parameters.
    """

    conv_layers: int
    parameters: int
    fixed: int
    receptive_field: int
    max_stride: int
    macs: int
    blob_bytes: int
    peak_bytes: int
    parameter_bytes: int


def properties(measured: Sequence[LayerGeometry]) -> Properties:
    """Sum up what `measure` found (Table 1 of the paper: its rows are the classifiers with 21 classes)."""
    every = [parameter for layer in measured for parameter in layer.parameters]
    fields = _before_upsampling(measured)
    return Properties(
        conv_layers=_depth(measured),
        parameters=sum(parameter.count for parameter in every if parameter.learns),
        fixed=sum(parameter.count for parameter in every if not parameter.learns),
        receptive_field=max((max(field.size) for field in fields), default=0),
        max_stride=max((int(max(field.stride)) for field in fields), default=0),
        macs=sum(layer.macs for layer in measured),
        blob_bytes=FLOAT * sum(_sizes(measured).values()),
        peak_bytes=FLOAT * _peak(measured),
        parameter_bytes=FLOAT * sum(parameter.count for parameter in every),
    )


def _before_upsampling(measured: Sequence[LayerGeometry]) -> list[Field]:
    """Fields of the layers that no Deconvolution leads to."""
    upsampled: set[str] = set()
    fields = []
    for layer in measured:
        if layer.type == "Deconvolution" or upsampled.intersection(layer.bottoms):
            upsampled.update(layer.tops)
        elif layer.field:
            fields.append(layer.field)
    return fields


def _depth(measured: Sequence[LayerGeometry]) -> int:
    depths: dict[str, int] = {}
    for layer in measured:
        below = max((depths.get(name, 0) for name in layer.bottoms), default=0)
        counts = layer.type in ("Convolution", "InnerProduct")
        for name in layer.tops:
            depths[name] = below + counts
    return max(depths.values(), default=0)


def _sizes(measured: Sequence[LayerGeometry]) -> dict[str, int]:
    """Values in each blob; an in-place layer writes the one it reads, and a Split's tops are views of it."""
    return {
        name: math.prod(shape)
        for layer in measured
        if layer.type != "Split"
        for name, shape in zip(layer.tops, layer.shapes)
    }


def _peak(measured: Sequence[LayerGeometry]) -> int:
    """Most values alive while a layer runs, if each blob goes after its last reader and the outputs stay."""
    sizes = _sizes(measured)
    last = {name: i for i, layer in enumerate(measured) for name in (*layer.tops, *layer.bottoms)}
    read = {name for layer in measured for name in layer.bottoms}
    alive: set[str] = set()
    peak = 0
    for i, layer in enumerate(measured):
        alive.update(layer.tops)
        peak = max(peak, sum(sizes.get(name, 0) for name in alive))
        alive -= {name for name in alive if last[name] == i and name in read}
    return peak
