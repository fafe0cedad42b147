"""Where a pixel of one blob lies in another, and the Crop that follows: Caffe's `caffe.coord_map`.

A map `(axis, scale, shift)` says that position i of a layer's input lies at `scale * i + shift` of its
output, for the spatial axes after `axis` (the channels). Maps compose along a path; the offset that aligns
two blobs is the shift left over when one path is followed forth and the other back.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from fcnlite.errors import InputError
from fcnlite.netspec import Function, Top
from fcnlite.netspec import layers as L

# axis is None where a layer treats all axes alike; scale and shift have one entry, or one a spatial axis.
Map: TypeAlias = "tuple[int | None, Any, Any]"

IDENTITY: Map = (None, 1, 0)

# Output position i depends on input position i: the elementwise layers, and those that mix channels only.
PASS_THROUGH_LAYERS = frozenset(
    "AbsVal BatchNorm Bias BNLL Dropout Eltwise ELU Exp Log LRN MVN Power PReLU ReLU Scale Sigmoid Softmax"
    " Split Swish TanH Threshold".split()
)


class UndefinedMapException(InputError):
    """The layer has no coordinate map: its output is not an image of its input's plane."""


class AxisMismatchException(InputError):
    """Two maps disagree on which axes are spatial."""


class AlignmentError(InputError, AssertionError):
    """No Crop aligns the two blobs (an AssertionError, as in pycaffe)."""


class UnconnectedError(InputError, RuntimeError):
    """Two blobs have no ancestor in common along spatial layers (a RuntimeError, as in pycaffe)."""


def conv_params(fn: Function) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Axis, stride, kernel extent and pad of a Convolution, Deconvolution, Im2col or Pooling layer.

    Each of the last three is an integer array of one entry for all spatial axes, or one for each. The extent
    is that of the dilated kernel, (kernel - 1) * dilation + 1. `kernel_h` and `kernel_w` count too.

    Raises
    ------
    UndefinedMapException
        The layer names no kernel (global pooling).
    """
    message = "pooling_param" if fn.type_name == "Pooling" else "convolution_param"
    given: Mapping[str, Any] = {**fn.params, **fn.params.get(message, {})}
    kernel = _spatial(given, "kernel_size", "kernel_h", "kernel_w", None)
    if kernel is None:
        raise UndefinedMapException(f"{fn.type_name} layer without a kernel_size has no coordinate map")
    dilation = np.array(given.get("dilation", 1), ndmin=1)
    stride = _spatial(given, "stride", "stride_h", "stride_w", 1)
    pad = _spatial(given, "pad", "pad_h", "pad_w", 0)
    return given.get("axis", 1), stride, (kernel - 1) * dilation + 1, pad


def _spatial(given: Mapping[str, Any], both: str, high: str, wide: str, default: int | None) -> Any:
    if high in given or wide in given:
        return np.array([given.get(high, default), given.get(wide, default)])
    value = given.get(both, default)
    return None if value is None else np.array(value, ndmin=1)


def crop_params(fn: Function) -> tuple[int, np.ndarray]:
    """First cropped axis (2 by default) and offsets of a Crop layer."""
    given = fn.params.get("crop_param", fn.params)
    return given.get("axis", 2), np.array(given.get("offset", 0), ndmin=1)


def coord_map(fn: Function) -> Map:
    """Coordinate map of one layer, from its input to its output.

    Raises
    ------
    UndefinedMapException
        The layer (InnerProduct, Reshape, global pooling ...) does not map a plane to a plane.
    """
    if fn.type_name in ("Convolution", "Pooling", "Im2col"):
        axis, stride, kernel, pad = conv_params(fn)
        return axis, 1 / stride, (pad - (kernel - 1) / 2) / stride
    if fn.type_name == "Deconvolution":
        axis, stride, kernel, pad = conv_params(fn)
        return axis, stride, (kernel - 1) / 2 - pad
    if fn.type_name in PASS_THROUGH_LAYERS:
        return IDENTITY
    if fn.type_name == "Crop":
        axis, offset = crop_params(fn)
        return axis - 1, 1, -offset
    if fn.type_name == "Concat" and _joins_channels(fn):
        return IDENTITY
    raise UndefinedMapException(f"{fn.type_name} layers have no coordinate map")


def _joins_channels(fn: Function) -> bool:
    given = fn.params.get("concat_param", fn.params)
    return given.get("axis", given.get("concat_dim", 1)) == 1


def compose(base: Map, following: Map) -> Map:
    """The map `base` seen through `following`: scales multiply, and base scales the further shift.

    Raises
    ------
    AxisMismatchException
        Both name an axis, and not the same.
    """
    axis, scale, shift = base
    next_axis, next_scale, next_shift = following
    if axis is not None and next_axis is not None and axis != next_axis:
        raise AxisMismatchException(
            f"one layer maps the axes after {axis}, the other those after {next_axis}"
        )
    return next_axis if axis is None else axis, scale * next_scale, scale * next_shift + shift


def inverse(mapping: Map) -> Map:
    """The map the other way: de-scaled and un-shifted."""
    axis, scale, shift = mapping
    return axis, 1 / scale, -shift / scale


def coord_map_from_to(top_from: Top, top_to: Top) -> Map:
    """Map from positions of `top_from` to positions of `top_to`, through an ancestor of both.

    Raises
    ------
    UnconnectedError
        No common ancestor is reached through layers that have a coordinate map.
    AxisMismatchException
        Layers on the way disagree on the spatial axes.
    """
    ancestors = dict(_ancestors(top_from))
    for top, mapping in _ancestors(top_to):
        if top in ancestors:
            return compose(mapping, inverse(ancestors[top]))
    raise UnconnectedError(
        f"cannot relate the {top_from.fn.type_name} blob to the {top_to.fn.type_name} blob: they have no"
        " common ancestor that spatial layers lead to"
    )


def _ancestors(top: Top) -> Iterator[tuple[Top, Map]]:
    """Yield `top` and all it is computed from in space, nearest first, each with the map up to `top`."""
    maps: dict[Top, Map] = {top: IDENTITY}
    queue = [top]
    for current in queue:
        yield current, maps[current]
        # A Crop's second bottom gives only the size, so nothing of it is in the output.
        bottoms = current.fn.inputs[:1] if current.fn.type_name == "Crop" else current.fn.inputs
        try:
            mapping = compose(maps[current], coord_map(current.fn))
        except UndefinedMapException:
            continue
        if len(current.fn.tops) == len(bottoms) > 1 and current.fn.type_name != "Split":
            bottoms = (bottoms[current.n],)  # Convolution and its kin map bottom i to top i
        for bottom in bottoms:
            if bottom not in maps:
                maps[bottom] = mapping
                queue.append(bottom)
            elif not _agree(maps[bottom], mapping):
                warnings.warn(
                    f"two paths from a {bottom.fn.type_name} blob to a {top.fn.type_name} blob are out of"
                    f" line (shifts {maps[bottom][2]} and {mapping[2]}); the shorter one is used",
                    stacklevel=4,
                )


def _agree(one: Map, other: Map) -> bool:
    return bool(np.allclose(one[1], other[1]) and np.allclose(one[2], other[2]))


def crop(top_from: Top, top_to: Top) -> Top:
    """Crop `top_from` to the place and size of `top_to`, at the offset that the layers between imply.

    Raises
    ------
    AlignmentError
        The two differ in scale, or the offset would be negative or not whole.
    UnconnectedError, AxisMismatchException
        As `coord_map_from_to`.
    """
    axis, scale, shift = coord_map_from_to(top_from, top_to)
    pair = f"cannot crop the {top_from.fn.type_name} blob to the {top_to.fn.type_name} blob"
    offset = -np.array(shift, dtype=float, ndmin=1)
    whole = np.round(offset)
    if not np.allclose(scale, 1):
        raise AlignmentError(f"{pair}: scale mismatch, one step of it is {_show(scale)} steps there")
    if not np.allclose(offset, whole):
        raise AlignmentError(
            f"{pair}: the offset {_show(offset)} is not an integer; change a kernel size by one"
        )
    if (whole < 0).any():
        raise AlignmentError(
            f"{pair}: the offset {_show(whole)} is negative, it begins inside; pad more before it"
        )
    first_axis = 2 if axis is None else axis + 1
    return L.Crop(
        top_from, top_to, crop_param={"axis": first_axis, "offset": [int(value) for value in whole]}
    )


def _show(values: Any) -> str:
    return " x ".join(f"{value:g}" for value in np.ravel(values))


@dataclass(frozen=True)
class MisplacedCrop:
    """A Crop whose offset is not the place at which its reference begins; `str()` tells of it in a line.

    Attributes
    ----------
    layer, reference : str
        The layer, and the blob that it crops to.
    given, derived : tuple of int
        Offsets of the spatial axes: as the description has them, and as the layers between the two blobs imply.
    """

    layer: str
    reference: str
    given: tuple[int, ...]
    derived: tuple[int, ...]

    def __str__(self) -> str:
        given, derived = (_show(offsets[:1] if len(set(offsets)) == 1 else offsets) for offsets in self._both)
        return (
            f"layer '{self.layer}' (Crop): offset {given}, but '{self.reference}' begins at {derived}"
            " (fcnlite convert --fix-crops writes it)"
        )

    @property
    def _both(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self.given, self.derived


def misplaced_crops(net: Any) -> list[MisplacedCrop]:
    """The crops of a net that are out of line with their reference.

    Crops that nothing aligns (no common ancestor, other scales, half pixels) are passed over. A crop that is found is
    taken to be right for those after it.

    Parameters
    ----------
    net : NetParameter
        In today's format, filtered.
    """
    tops: dict[str, Top] = {}
    found = []
    for layer in net.layer:
        if all(name in tops for name in layer.bottom):
            fn = _function(layer, tuple(tops[name] for name in layer.bottom))
            if layer.type == "Crop" and (crop := _misplaced(layer, fn)) is not None:
                found.append(crop)
            tops.update(zip(layer.top, fn.tops))
    return found


def fix_crops(net: Any) -> list[MisplacedCrop]:
    """Give the crops of a net the offsets at which their references begin; returns those that were changed."""
    found = {(crop.layer, crop.reference): crop for crop in misplaced_crops(net)}
    for layer in net.layer:
        if layer.type == "Crop" and (layer.name, layer.bottom[1]) in found:
            offsets = list(layer.crop_param.offset)
            channels = [offsets[0] if offsets else 0] if layer.crop_param.axis == 1 else []
            y, x = found[layer.name, layer.bottom[1]].derived
            layer.crop_param.offset[:] = [y] if y == x and not channels else [*channels, y, x]
    return list(found.values())


def _function(layer: Any, inputs: tuple[Top, ...]) -> Function:
    """A layer of a description as the functions above take it."""
    params: dict[str, Any] = {"ntop": len(layer.top)}
    for field, value in layer.ListFields():
        if field.name.endswith("_param"):
            params[field.name] = {
                part.name: list(held) if isinstance(held, Sequence) and not isinstance(held, str) else held
                for part, held in value.ListFields()
            }
    return Function(layer.type, inputs, params)


def _misplaced(layer: Any, fn: Function) -> MisplacedCrop | None:
    """A Crop if its offset is wrong, which is then put right in `fn`."""
    if layer.crop_param.axis not in (1, 2) or len(fn.inputs) != 2:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted = crop(*fn.inputs).fn.params["crop_param"]["offset"]
    except InputError:
        return None
    derived = (wanted[0], wanted[-1])
    offsets = list(layer.crop_param.offset) or [0]
    given = (offsets[max(0, len(offsets) - 2)], offsets[-1])
    if given == derived:
        return None
    fn.params["crop_param"] = {"axis": 2, "offset": list(derived)}
    return MisplacedCrop(layer.name, layer.bottom[1], given, derived)
