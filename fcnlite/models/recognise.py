"""Recognise the net of the catalogue that bare weights belong to, by its layers' names and shapes."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fcnlite.geometry import measure
from fcnlite.models.catalogue import CATALOGUE, build
from fcnlite.proto import NetParameter

Shapes = Mapping[str, Sequence[tuple[int, ...]]]

# Where each option of a net's function shows: the number of outputs of one of these layers.
TELLTALES = {
    "width": ("conv1_1", "conv1_1_bgrd", "conv1_1color", "conv1", "conv1/7x7_s2"),
    "fc": ("fc6", "fc6color"),
    "classes": ("score_fr", "score_fr_sem", "score_frcolor", "fc8", "loss3/classifier"),
    "geometric": ("score_fr_geo",),
}
# Classifiers that only served to train GoogLeNet; its published weights have them.
AUXILIARY = ("loss1/", "loss2/")


def recognise(shapes: Shapes) -> NetParameter | None:
    """The deploy form of the net with these parameters.

    Parameters
    ----------
    shapes : mapping of layer name to the shapes of its parameters
        As in the file; the 4-axis shapes of old files will do.

    Returns
    -------
    NetParameter or None
        The first net of the catalogue with exactly these learnable layers, its classes and widths as the
        shapes have them; None if there is none. CaffeNet and AlexNet have the same parameters: it is CaffeNet
        then, and FCN-32s for RGB or HHA is FCN-32s.
    """
    learned = {
        layer: list(values)
        for layer, values in shapes.items()
        if len(values) and not layer.startswith(AUXILIARY)
    }
    for name, model in CATALOGUE.items():
        options = _options(learned, model.defaults())
        if options is not None and _learnable_layers(name) == set(learned):
            net = build(name, **options)
            if _fits(net, learned):
                return net
    return None


def _options(shapes: Shapes, known: Mapping[str, Any]) -> dict[str, Any] | None:
    """The options that the shapes show, of those the net knows; None if they cannot be this net's."""
    options: dict[str, Any] = {"deploy": True}
    for option, layers in TELLTALES.items():
        present = [layer for layer in layers if layer in shapes]
        if present and option in known:
            options[option] = _outputs(shapes[present[0]][0])
        elif present and option != "fc":
            return None
    odd_groups = known.get("width") == 96 and options.get("width", 0) % 2
    return None if odd_groups or min(v for v in options.values()) < 1 else options


def _outputs(shape: tuple[int, ...]) -> int:
    """Outputs of a layer by its weight's shape; inner products of old files are (1, 1, outputs, inputs)."""
    if not shape:
        return 0
    return shape[2] if len(shape) == 4 and shape[:2] == (1, 1) else shape[0]


@functools.cache
def _learnable_layers(name: str) -> frozenset[str]:
    """Layers with parameters of a net of the catalogue, the same whatever its options."""
    types = ("Convolution", "Deconvolution", "InnerProduct", "Scale")
    return frozenset(layer.name for layer in build(name).layer if layer.type in types)


def _fits(net: NetParameter, shapes: Shapes) -> bool:
    """True if every parameter has as many values as in the net."""
    return all(
        [parameter.count for parameter in layer.parameters] == [math.prod(s) for s in shapes[layer.name]]
        for layer in measure(net)
        if layer.parameters
    )
