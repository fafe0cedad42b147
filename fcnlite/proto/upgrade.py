"""Older ways to write a net, brought to the present one, as Caffe does when it reads a file."""

from __future__ import annotations

from typing import Any

from fcnlite.errors import InputError
from fcnlite.proto.schema import is_repeated, message_class

# V1 enum names whose string type is not simply the words capitalised and joined.
_V1_TYPES = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "LRN": "LRN",
    "MVN": "MVN",
    "RELU": "ReLU",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "TANH": "TanH",
}
_TRANSFORM_FIELDS = ("scale", "mean_file", "crop_size", "mirror")
_DATA_PARAMS = {"DATA": "data_param", "IMAGE_DATA": "image_data_param", "WINDOW_DATA": "window_data_param"}
_DISCARDED = ("layer", "type", "param", "blob_share_mode", "blobs_lr", "weight_decay")


def v1_type(layer: Any) -> str:
    """The string type (`"InnerProduct"`) of a V1LayerParameter's enum (`INNER_PRODUCT`)."""
    name = layer.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number[layer.type].name
    return _V1_TYPES.get(name, "".join(word.capitalize() for word in name.split("_")))


def _move_transforms(layer: Any) -> None:
    """Scaling, mean and cropping of old data layers, from the layer's own parameters to transform_param."""
    enum = layer.DESCRIPTOR.fields_by_name["type"].enum_type
    name = _DATA_PARAMS.get(enum.values_by_number[layer.type].name)
    if name is None or not layer.HasField(name):
        return
    data = getattr(layer, name)
    for field in _TRANSFORM_FIELDS:
        if data.HasField(field):
            setattr(layer.transform_param, field, getattr(data, field))
            data.ClearField(field)


def _param(layer: Any, index: int) -> Any:
    while len(layer.param) <= index:
        layer.param.add()
    return layer.param[index]


def _upgrade_layer(old: Any, layer: Any) -> None:
    """Fill the LayerParameter `layer` with what the V1LayerParameter `old` says."""
    for field, value in old.ListFields():
        if field.name in _DISCARDED:
            continue
        if is_repeated(field):
            getattr(layer, field.name).extend(value)
        elif field.message_type is not None:
            getattr(layer, field.name).CopyFrom(value)
        else:
            setattr(layer, field.name, value)
    if old.HasField("type"):
        layer.type = v1_type(old)
    for i, name in enumerate(old.param):
        _param(layer, i).name = name
    for i, mode in enumerate(old.blob_share_mode):
        _param(layer, i).share_mode = mode
    for i, rate in enumerate(old.blobs_lr):
        _param(layer, i).lr_mult = rate
    for i, decay in enumerate(old.weight_decay):
        _param(layer, i).decay_mult = decay


def _upgrade_layers(net: Any) -> None:
    """V1 `layers` to `layer`."""
    if net.layer:
        raise InputError(
            f"net '{net.name}' has both 'layer' and old 'layers'; "
            'write all of them as layer { type: "Name" ... }'
        )
    for index, old in enumerate(net.layers):
        if old.HasField("layer"):
            raise InputError(
                f"net '{net.name}', layers number {index}: this is the form of 2013 (V0, a layer inside "
                "layers), which is not read; Caffe's upgrade_net_proto_text converts it"
            )
        _move_transforms(old)
        _upgrade_layer(old, net.layer.add())
    del net.layers[:]


def _upgrade_inputs(net: Any) -> None:
    """The net's own input fields to one Input layer in front, called "input"."""
    names, shapes, dims = list(net.input), list(net.input_shape), list(net.input_dim)
    for field in ("input", "input_shape", "input_dim"):
        net.ClearField(field)
    if not shapes and not dims:
        return  # old weight files name their inputs without sizes
    if not shapes:
        if len(dims) != 4 * len(names):
            raise InputError(
                f"net '{net.name}': {len(names)} inputs need {4 * len(names)} input_dim values (4 each), "
                f"found {len(dims)}"
            )
        shapes = [message_class("BlobShape")(dim=dims[i : i + 4]) for i in range(0, len(dims), 4)]
    if len(shapes) != len(names):
        raise InputError(
            f"net '{net.name}': {len(names)} inputs need as many input_shape, found {len(shapes)}"
        )
    first = message_class("LayerParameter")(name="input", type="Input", top=names)
    first.input_param.shape.extend(shapes)
    net.layer.insert(0, first)


def _upgrade_batch_norm(net: Any) -> None:
    """Keep the batch norm statistics of old nets from the solver: their three parameters are not learned."""
    for layer in net.layer:
        if layer.type == "BatchNorm" and len(layer.param) == 3:
            for param in layer.param:
                param.lr_mult = param.decay_mult = 0


def _upgrade_pooling(net: Any) -> None:
    """`ceil_mode: false`, which some forks write, to Caffe's `round_mode: FLOOR`."""
    for layer in net.layer:
        pooling = layer.pooling_param
        if not pooling.HasField("ceil_mode"):
            continue
        mode = pooling.CEIL if pooling.ceil_mode else pooling.FLOOR
        if pooling.HasField("round_mode") and pooling.round_mode != mode:
            raise InputError(
                f"layer '{layer.name}': ceil_mode and round_mode contradict each other; give one"
            )
        pooling.round_mode = mode
        pooling.ClearField("ceil_mode")


def _upgrade_holes(net: Any) -> None:
    """DeepLab's hole_h and hole_w, which Caffe has as the two values of `dilation`."""
    for layer in net.layer:
        p = layer.convolution_param
        if p.HasField("hole_h") or p.HasField("hole_w"):
            if p.dilation:
                raise InputError(f"layer '{layer.name}': give either dilation or hole_h and hole_w, not both")
            p.dilation.extend([max(p.hole_h, 1), max(p.hole_w, 1)])
            p.ClearField("hole_h")
            p.ClearField("hole_w")


def upgrade(net: Any) -> Any:
    """Bring a net to the present form, as Caffe's UpgradeNetAsNeeded does.

    V1 `layers` with enum types become `layer` with string types (names, learning rates and decays of
    parameters go to `param`), data transformations move to `transform_param`, `input` with `input_dim` or
    `input_shape` becomes an Input layer, batch norm layers with three `param` get zero rates, DeepLab's holes become
    dilations, and some forks' `ceil_mode` of a pooling becomes `round_mode`.

    Parameters
    ----------
    net : NetParameter

    Returns
    -------
    NetParameter
        A copy; the argument stays as it was.

    Raises
    ------
    InputError
        Old and new layers are mixed, sizes of inputs are missing, or the net is in the form of 2013.
    """
    upgraded = type(net)()
    upgraded.CopyFrom(net)
    if upgraded.layers:
        _upgrade_layers(upgraded)
    if upgraded.input:
        _upgrade_inputs(upgraded)
    _upgrade_batch_norm(upgraded)
    _upgrade_pooling(upgraded)
    _upgrade_holes(upgraded)
    return upgraded
