"""Which net of the catalogue a file of bare weights belongs to, told by its layers' names and shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fcnlite.proto import NetParameter

Shapes = Mapping[str, Sequence[tuple[int, ...]]]


def recognise(shapes: Shapes) -> NetParameter | None:
    """The deploy form of the net with these parameters.

    Parameters
    ----------
    shapes : mapping of layer name to the shapes of its parameters

    Returns
    -------
    NetParameter or None
        The catalogue's net with exactly these learnable layers, its classes and widths as in the shapes;
        None if no net has them.
    """
    from fcnlite.models import CATALOGUE, build

    learned = {layer: list(values) for layer, values in shapes.items() if len(values)}
    for name, model in CATALOGUE.items():
        options = _options(learned, model.defaults())
        if options is None:
            continue
        if _learnable_layers(build(name, **options)) == set(learned):
            return build(name, **options)
    return None


def _options(shapes: Mapping[str, list[tuple[int, ...]]], known: Mapping[str, Any]) -> dict[str, Any] | None:
    """Classes and widths read off the shapes, as far as the net takes them; None if it is another net."""
    first = next((s for n, s in shapes.items() if n.startswith(("conv1_1", "conv1"))), None)
    options: dict[str, Any] = {"deploy": True} if "deploy" in known else {}
    if first is None:
        return None
    if "width" in known:
        options["width"] = first[0][0]
    scores = next((s for n, s in shapes.items() if n.startswith(("score_fr", "fc8"))), None)
    if scores is not None and "classes" in known:
        options["classes"] = scores[0][0]
    if "fc" in known and "fc6" in shapes:
        options["fc"] = shapes["fc6"][0][0]
    return options


def _learnable_layers(net: NetParameter) -> set[str]:
    return {
        layer.name
        for layer in net.layer
        if layer.type in ("Convolution", "Deconvolution", "InnerProduct", "Scale")
    }
