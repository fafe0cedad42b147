"""Net surgery: parameters carried from one net to another, and the fixed or fresh ones set.

The paper starts every net from another: an FCN from its classifier (see `fcnlite.convolutionalise`), FCN-16s from 32s
and 8s from 16s, RGB-D from RGB. All functions take a `Net` or a mapping from layer name to
its arrays, weight first, as `fcnlite.io.read_weights` gives; a mapping's arrays are replaced, never written
into, so that they may be views of a file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np

from fcnlite import device
from fcnlite.errors import InputError

Weights: TypeAlias = "MutableMapping[str, list[np.ndarray]]"


class HasParams(Protocol):
    """The part of `fcnlite.net.Net` that surgery uses: params, layer name -> blobs with `shape` and `data`."""

    params: Any


@dataclass
class Transplant:
    """Record of a transplant, by kind; `str()` gives a line for each.

    Attributes
    ----------
    copied : list of str
        Layers copied as they were, "old -> new" where the name changed.
    reshaped : list of str
        Layers whose arrays took another shape, with both shapes.
    left : list of str
        Layers of the source that the target lacks, or that the caller held back.
    interpolated : list of str
        Upsampling layers that `initialise` gave bilinear weights.
    untouched : list of str
        Layers of the target that got nothing.
    """

    copied: list[str] = field(default_factory=list)
    reshaped: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    interpolated: list[str] = field(default_factory=list)
    untouched: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = {
            "copied": self.copied,
            "reshaped": self.reshaped,
            "left out": self.left,
            "bilinear": self.interpolated,
            "as they were": self.untouched,
        }
        return "\n".join(f"{what}: {', '.join(layers)}" for what, layers in told.items() if layers)


def transplant(
    target: HasParams | Weights,
    source: HasParams | Weights,
    suffix: str = "",
    *,
    rename: Callable[[str], str] | MutableMapping[str, str] | None = None,
    leave: Collection[str] = (),
) -> Transplant:
    """Copy every layer's parameters to the layer of the same name.

    Where shapes differ and counts agree, the values take the target's shape: an inner product's (O, I)
    becomes the convolution's (O, C, H, W), since Caffe flattens a map in that order, and the 4-axis shapes
    of old files become today's.

    Parameters
    ----------
    target, source : Net or mapping of str to list of numpy.ndarray
    suffix : str
        Ends the names of the target's layers: `suffix="color"` fills conv1_1color from conv1_1.
    rename : mapping or callable, optional
        Name in the target for a name in the source, before the suffix; names not in a mapping stay.
    leave : collection of str
        Layers of the source to leave out (a score layer for other classes).

    Returns
    -------
    Transplant
        What was copied, reshaped and left.

    Raises
    ------
    InputError
        A layer of the same name cannot hold the parameters, and nothing was copied; the message gives the
        layer and both shapes.
    """
    new, old = _view(target), _view(source)
    translate = rename if callable(rename) else (lambda name: (rename or {}).get(name, name))
    places = {layer: translate(layer) + suffix for layer in old.names() if old.shapes(layer)}
    pairs = {layer: place for layer, place in places.items() if layer not in leave and place in new}
    changes = {
        layer: _changes(layer, place, old.shapes(layer), new.shapes(place)) for layer, place in pairs.items()
    }
    report = Transplant(left=[layer for layer in places if layer not in pairs])
    for layer, place in pairs.items():
        given, wanted = len(old.shapes(layer)), len(new.shapes(place))
        for i in range(min(given, wanted)):
            new.put(place, i, old.get(layer, i))
        if given > wanted:
            report.left.append(f"{layer} (of {given} parameters, all but {wanted})")
        if changes[layer]:
            report.reshaped.append(f"{_arrow(layer, place)} {changes[layer]}")
        elif wanted:
            report.copied.append(_arrow(layer, place))
    filled = set(pairs.values())
    report.untouched = [layer for layer in new.names() if new.shapes(layer) and layer not in filled]
    return report


def of_other_classes(target: HasParams | Weights, source: HasParams | Weights, suffix: str = "") -> list[str]:
    """The source's layers of scores and of their upsampling that have another number of classes than the target's.

    Scores for other classes mean something else: such layers are to be left out of a transplant, as `leave`.
    """
    new, old = _view(target), _view(source)
    return [
        layer
        for layer in old.names()
        if layer.startswith(("score", "up"))
        and layer + suffix in new
        and list(map(math.prod, old.shapes(layer))) != list(map(math.prod, new.shapes(layer + suffix)))
    ]


def _arrow(layer: str, place: str) -> str:
    return layer if layer == place else f"{layer} -> {place}"


def _changes(layer: str, place: str, given: Sequence[Any], wanted: Sequence[Any]) -> str:
    """Describe how shapes change, or say that they cannot."""
    changes = []
    for old, new in zip(given, wanted):
        if old != new:
            fits = np.prod(old) == np.prod(new) and _outputs(old) == _outputs(new)
            if not fits:
                raise InputError(
                    f"layer '{_arrow(layer, place)}': parameters of shape {_show(old)} do not fit"
                    f" {_show(new)}; to start it afresh give it another name in the prototxt (in a program: leave it"
                    " out, or use expand_score where only classes were added)"
                )
            changes.append(f"{_show(old)} to {_show(new)}")
    return ", ".join(changes)


def _outputs(shape: Sequence[int]) -> int:
    """Length of the first axis, not counting the ones that old files put before it."""
    return next((length for length in shape if length != 1), 1)


def bilinear_weights(shape: Sequence[int]) -> np.ndarray:
    """Return deconvolution weights that interpolate bilinearly, each channel to itself.

    Parameters
    ----------
    shape : sequence of int
        (C, C, K, K) for a dense deconvolution, (C, 1, K, K) for one with a group a channel. A stride of s
        goes with K = 2s, or 2s - 1 for odd kernels.

    Returns
    -------
    numpy.ndarray
        float32: in row and column, 1 - |i - centre| / ceil(K / 2), on the diagonal of the first two axes.

    Raises
    ------
    InputError
        The shape is not of that form.
    """
    if len(shape) != 4 or shape[1] not in (1, shape[0]) or shape[2] != shape[3]:
        raise InputError(f"bilinear weights need a shape (C, C, K, K) or (C, 1, K, K), not {_show(shape)}")
    channels, inner, size, _ = shape
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    ramp = 1 - np.abs(np.arange(size) - centre) / factor
    weights = np.zeros(shape, np.float32)
    own = np.arange(channels)
    weights[own, own if inner > 1 else 0] = np.outer(ramp, ramp)
    return weights


def interpolate(target: HasParams | Weights, layers: Iterable[str] | None = None) -> list[str]:
    """Give layers bilinear weights, by default all with "up" in their name, as upsampling layers are called.

    Returns
    -------
    list of str
        The layers that were set.

    Raises
    ------
    InputError
        A layer does not exist, or cannot interpolate.
    """
    params = _view(target)
    chosen = [layer for layer in params.names() if "up" in layer] if layers is None else list(layers)
    for layer in chosen:
        try:
            params.put(layer, 0, bilinear_weights(params.shape(layer, 0)))
        except InputError as error:
            raise InputError(f"layer '{layer}': {error}") from None
    return chosen


def expand_score(
    target: HasParams | Weights,
    target_layer: str,
    source: HasParams | Weights,
    source_layer: str,
) -> None:
    """Copy a score layer into one with more classes: the old ones come first, the new start at zero.

    Raises
    ------
    InputError
        The target has fewer classes, or the layers differ in more than their classes.
    """
    new, old = _view(target), _view(source)
    count = min(len(new.shapes(target_layer)), len(old.shapes(source_layer)))
    for i in range(count):
        wanted, values = new.shape(target_layer, i), old.get(source_layer, i)
        if i:  # a bias of an old file is (1, 1, 1, C)
            values = values.reshape(-1)
        if values.shape[1:] != wanted[1:] or values.shape[0] > wanted[0]:
            raise InputError(
                f"layer '{source_layer}': scores of shape {_show(values.shape)} do not fit '{target_layer}',"
                f" {_show(wanted)}; only classes may be added"
            )
        expanded = np.zeros(wanted, np.float32)
        expanded[: len(values)] = values
        new.put(target_layer, i, expanded)


def add_input_channels(
    target: HasParams | Weights,
    target_layer: str,
    source: HasParams | Weights,
    source_layer: str,
) -> None:
    """Copy a first convolution into one that reads more channels; each new one gets the mean of the colours.

    So depth, joined to RGB by early fusion, is first seen as brightness (paper, section 5: conv1_1_bgrd).

    Raises
    ------
    InputError
        The target reads fewer channels, or the layers differ in more than their input channels.
    """
    new, old = _view(target), _view(source)
    wanted, weights = new.shape(target_layer, 0), old.get(source_layer, 0)
    same = len(wanted) == weights.ndim == 4 and (wanted[0], *wanted[2:]) == (
        weights.shape[0],
        *weights.shape[2:],
    )
    if not same or wanted[1] < weights.shape[1]:
        raise InputError(
            f"layer '{source_layer}': weights of shape {_show(weights.shape)} do not fit '{target_layer}',"
            f" {_show(wanted)}; only input channels may be added"
        )
    further = wanted[1] - weights.shape[1]
    mean = weights.mean(axis=1, keepdims=True, dtype=np.float32)
    new.put(target_layer, 0, np.concatenate([weights, *[mean] * further], axis=1))
    for i in range(1, min(len(new.shapes(target_layer)), len(old.shapes(source_layer)))):
        new.put(target_layer, i, old.get(source_layer, i))


def initialise(
    target: HasParams | Weights,
    source: HasParams | Weights,
    suffix: str = "",
    *,
    rename: Callable[[str], str] | MutableMapping[str, str] | None = None,
    leave: Collection[str] = (),
) -> Transplant:
    """Start a net from another one, as the paper does: `transplant`, then what follows from the names.

    A conv1_1_bgrd is made from the source's conv1_1 (`add_input_channels`), and upsampling layers that the
    source lacks get bilinear weights. Score layers that it lacks stay as they are: zero in a fresh net, so a
    new skip changes nothing until it has learned. Serves VGG-16, CaffeNet or GoogLeNet to FCN-32s, 32s to 16s
    and 16s to 8s alike.

    Parameters, returns and errors are those of `transplant`.
    """
    report = transplant(target, source, suffix, rename=rename, leave=leave)
    new, old = _view(target), _view(source)
    if "conv1_1_bgrd" in report.untouched and "conv1_1" in old:
        add_input_channels(target, "conv1_1_bgrd", source, "conv1_1")
        report.untouched.remove("conv1_1_bgrd")
        report.left = [layer for layer in report.left if layer != "conv1_1"]
        shapes = [_show(old.shape("conv1_1", 0)), _show(new.shape("conv1_1_bgrd", 0))]
        report.reshaped.append("conv1_1 -> conv1_1_bgrd " + " to ".join(shapes))
    report.interpolated = interpolate(target, [layer for layer in report.untouched if "up" in layer])
    report.untouched = [layer for layer in report.untouched if layer not in report.interpolated]
    return report


class _View:
    """The parameters of a Net or a mapping, read as NumPy arrays and set by layer and index."""

    def __init__(self, params: Any) -> None:
        self.params = params

    def __contains__(self, layer: str) -> bool:
        return layer in self.params

    def names(self) -> list[str]:
        return list(self.params)

    def shapes(self, layer: str) -> list[tuple[int, ...]]:
        if layer not in self.params:
            raise InputError(
                f"there is no layer '{layer}' with parameters; there are {', '.join(self.params)}"
            )
        return [tuple(array.shape) for array in self.params[layer]]

    def shape(self, layer: str, i: int) -> tuple[int, ...]:
        shapes = self.shapes(layer)
        if i >= len(shapes):
            raise InputError(f"layer '{layer}' has {len(shapes)} parameters, so no number {i}")
        return shapes[i]

    def get(self, layer: str, i: int) -> np.ndarray:
        self.shape(layer, i)
        return np.asarray(self.params[layer][i])

    def put(self, layer: str, i: int, values: np.ndarray) -> None:
        values = np.asarray(values, np.float32).reshape(self.shape(layer, i))
        arrays = list(self.params[layer])
        arrays[i] = values
        self.params[layer] = arrays


class _NetView(_View):
    """The same for a Net, whose blobs are written in place, since other nets may share them."""

    def get(self, layer: str, i: int) -> np.ndarray:
        self.shape(layer, i)
        return device.current().tonumpy(self.params[layer][i].data)

    def put(self, layer: str, i: int, values: np.ndarray) -> None:
        blob = self.params[layer][i]
        blob.data[...] = device.current().asarray(np.reshape(values, self.shape(layer, i)))


def _view(params: Any) -> _View:
    return _NetView(params.params) if hasattr(params, "params") else _View(params)


def _show(shape: Sequence[int]) -> str:
    return "(" + ", ".join(map(str, shape)) + ")"
