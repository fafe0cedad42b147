"""Scores at every pixel from a net that scores one position in many: shift-and-stitch, and what it amounts to.

A net of stride f computes one of each f x f dense scores. Shifting its input over all f x f offsets computes
the others (`shift_and_stitch`); so does a single pass of the net whose strides are removed and whose later
filters are spread out, with holes between their taps (`rarefy`, `a_trous`). Paper, section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fcnlite import device
from fcnlite.coord_map import PASS_THROUGH_LAYERS
from fcnlite.deploy import deploy
from fcnlite.errors import InputError
from fcnlite.geometry import measure
from fcnlite.layers.window import Window
from fcnlite.net import Net
from fcnlite.proto import NetParameter, upgrade
from fcnlite.receptive_field import Field

Pair = tuple[int, int]
# Layers that compute each position by itself.
POINTWISE = (PASS_THROUGH_LAYERS | {"Clip", "Concat", "Slice"}) - {"MVN"}


def shift_and_stitch(net: Net, data: Any, output: str | None = None) -> Any:
    """Dense scores by running the net once for each of its f x f shifts and interlacing what comes out.

    Parameters
    ----------
    net : Net
        A convolutional net, in phase TEST (`fcnlite.convolutionalise` makes one of a classifier).
    data : array_like
        (N, C, H, W), what the net takes.
    output : str, optional
        The blob wanted, ahead of any upsampling (`score_fr` of the paper's nets); by default the only output.

    Returns
    -------
    array
        (N, K, H', W') on the device. Position (0, 0) is the coarse map's own; neighbours are one pixel apart.

    Raises
    ------
    InputError
        The net has no dense form (see `rarefy`), or the image is smaller than its receptive field.
    """
    param = ending_at(net.param, output)
    size = _dense_size(param, np.shape(data)[2:])
    rows, columns = (int(f) for f in _field(param).stride)
    coarse, pad = _without_first_pad(param)
    part = _sharing(coarse, net)
    backend = device.current()
    sides = [(0, 0), (0, 0), *((p, p) for p in pad)]
    padded = np.pad(backend.tonumpy(backend.asarray(data)), sides)
    stitched: Any = None
    for y in range(min(rows, size[0])):
        for x in range(min(columns, size[1])):
            scores = part.infer(part.outputs[0], **{part.inputs[0]: padded[:, :, y:, x:]})
            if stitched is None:
                stitched = backend.zeros((*scores.shape[:2], *size))
            place = stitched[:, :, y::rows, x::columns]
            # Poolings round the size up: what lies beyond the dense map saw less than a whole window.
            place[...] = scores[:, :, : place.shape[2], : place.shape[3]]
    return stitched


def a_trous(net: Net, data: Any, output: str | None = None) -> Any:
    """The same dense scores in one pass of the rarefied net, which shares the net's parameters.

    Parameters, returns and errors are those of `shift_and_stitch`. The two agree to rounding wherever no
    receptive field reaches the border of a map that is padded inside the net (`exact_region`): everywhere, if
    only the first layer pads. At such a border each shifted run puts its zeros in another place.
    """
    part = _sharing(rarefy(net.param, output), net)
    _dense_size(ending_at(net.param, output), np.shape(data)[2:])
    return part.infer(part.outputs[0], **{part.inputs[0]: data})


def rarefy(net: NetParameter, output: str | None = None) -> NetParameter:
    """The net with stride 1 throughout: strides are removed, and all windows after one dilated by it.

    Parameters
    ----------
    net : NetParameter
    output : str, optional
        As for `shift_and_stitch`; the net ends there.

    Returns
    -------
    NetParameter
        It has the same parameters under the same names. A dilated Pooling is fcnlite's own: Caffe has none.

    Raises
    ------
    InputError
        A layer has no such form: those that upsample (end the net ahead of them), crop or flatten.
    """
    rare = ending_at(net, output)
    holes: dict[str, Pair] = {}
    for layer in rare.layer:
        below = {holes[name] for name in layer.bottom}
        if len(below) > 1:
            raise InputError(
                f"layer '{layer.name}' ({layer.type}) joins maps of different strides, which have no common dense form"
            )
        hole = below.pop() if below else (1, 1)
        if layer.type in ("Convolution", "Pooling"):
            hole = _spread(layer, hole)
        elif layer.type != "Input" and layer.type not in POINTWISE or not _is_local(layer):
            raise InputError(f"layer '{layer.name}' ({layer.type}) {_advice(layer)}")
        holes.update((name, hole) for name in layer.top)
    return rare


def ending_at(net: NetParameter, output: str | None = None) -> NetParameter:
    """The part of a net that computes one blob, by default its only output; losses and labels are left out.

    Raises
    ------
    InputError
        There is no such blob, or more than one output to choose from.
    """
    net = deploy(upgrade(net))
    if output is None:
        read = {name for layer in net.layer for name in layer.bottom if name not in layer.top}
        ends = list(dict.fromkeys(name for layer in net.layer for name in layer.top if name not in read))
        if len(ends) != 1:
            raise InputError(f"the net has the outputs {', '.join(ends)}; say which one is wanted")
        output = ends[0]
    if not any(output in layer.top for layer in net.layer):
        raise InputError(f"the net has no blob '{output}'")
    needed, kept = {output}, []
    for layer in reversed(net.layer):
        if needed.intersection(layer.top):
            needed.update(layer.bottom)
            kept.append(layer)
    part = NetParameter(name=net.name)
    part.layer.extend(reversed(kept))
    return part


def exact_region(net: NetParameter, size: Sequence[int], output: str | None = None) -> tuple[slice, slice]:
    """Rows and columns of the dense map whose receptive fields lie within the image in each shifted run.

    There `shift_and_stitch` and `a_trous` agree, and are what the net computes on a patch cut out of the image,
    whatever the net pads inside.
    """
    part = ending_at(net, output)
    field, dense = _field(part), _dense_size(part, size)
    axes = zip(field.padding, field.stride, field.size, size, dense)
    first_last = [(p + f - 1, n + p - r + 1, m) for p, f, r, n, m in axes]
    rows, columns = (slice(max(0, int(a)), max(0, min(int(b), m))) for a, b, m in first_last)
    return rows, columns


def _spread(layer: Any, hole: Pair) -> Pair:
    """Dilate a window layer by `hole` and take its stride away; returns the holes of what comes after it."""
    pooling = layer.type == "Pooling"
    window = layer.pooling_param if pooling else layer.convolution_param
    if pooling and window.global_pooling:
        raise InputError(f"layer '{layer.name}' (Pooling) pools the whole map, which has no dense form")
    read = Window.read(window)
    stride, pad = read.stride, read.pad
    _set(window, "stride", (1, 1))
    _set(window, "pad", (pad[0] * hole[0], pad[1] * hole[1]))
    del window.dilation[:]
    dilation = read.dilation[0] * hole[0], read.dilation[1] * hole[1]
    window.dilation.extend(dilation[: len(set(dilation))])
    return hole[0] * stride[0], hole[1] * stride[1]


def _set(window: Any, name: str, sides: Pair) -> None:
    """Write such a field the short way, or not at all where it is the default."""
    for part in (name, f"{name}_h", f"{name}_w"):
        window.ClearField(part)
    if sides == ((1, 1) if name == "stride" else (0, 0)):
        return
    if sides[0] != sides[1]:
        setattr(window, f"{name}_h", sides[0])
        setattr(window, f"{name}_w", sides[1])
    elif isinstance(getattr(window, name), int):
        setattr(window, name, sides[0])
    else:
        getattr(window, name).append(sides[0])


def _is_local(layer: Any) -> bool:
    """Tell whether a layer keeps positions apart: it works across channels, where it has the choice."""
    if layer.type == "LRN":
        return layer.lrn_param.norm_region == layer.lrn_param.ACROSS_CHANNELS
    if layer.type in ("Softmax", "Concat", "Slice"):
        return getattr(layer, f"{layer.type.lower()}_param").axis == 1
    return True


def _advice(layer: Any) -> str:
    if layer.type == "Deconvolution":
        return f"upsamples; end the net ahead of it: output '{layer.bottom[0]}' or one before"
    if layer.type == "InnerProduct":
        return "takes one size of image; make it a convolution (fcnlite.convolutionalise)"
    return "has no dense form"


def _without_first_pad(net: NetParameter) -> tuple[NetParameter, Pair]:
    """The net without its first convolution's padding, and that padding.

    Shifting the image moves it against the padding, so the padding must be part of what is shifted.
    """
    bare = NetParameter()
    bare.CopyFrom(net)
    inputs = {name for layer in bare.layer if layer.type == "Input" for name in layer.top}
    first = [layer for layer in bare.layer if inputs.intersection(layer.bottom)]
    if len(first) != 1 or first[0].type != "Convolution":
        return bare, (0, 0)
    window = first[0].convolution_param
    high, wide = Window.read(window).pad
    _set(window, "pad", (0, 0))
    for layer in bare.layer:  # the sizes declared must still do
        if layer.type == "Input":
            for shape in layer.input_param.shape:
                shape.dim[2], shape.dim[3] = shape.dim[2] + 2 * high, shape.dim[3] + 2 * wide
    return bare, (high, wide)


def _sharing(param: NetParameter, net: Net) -> Net:
    part = Net(param, "TEST")
    if len(part.inputs) != 1:
        raise InputError(f"dense scores need a net with one input, not {', '.join(part.inputs) or 'none'}")
    part.share_with(net)
    return part


def _field(param: NetParameter) -> Field:
    """Receptive field of a net's last blob."""
    field = measure(param)[-1].field
    if field is None:
        raise InputError("the net's output has no receptive field")
    return field


def _dense_size(param: NetParameter, size: Sequence[int]) -> tuple[int, int]:
    """Height and width of the dense scores of an image."""
    if len(size) != 2:
        raise InputError("dense scores need data of shape N x C x H x W")
    height, width = measure(rarefy(param), (size[0], size[1]))[-1].shapes[0][2:]
    return height, width
