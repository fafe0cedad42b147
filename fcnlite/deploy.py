"""From a net for training to the net for prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fcnlite.layers import LAYERS
from fcnlite.proto import LayerParameter, NetParameter


def deploy(param: Any, shapes: Mapping[str, Sequence[int]] | None = None) -> Any:
    """The net for prediction: no losses, no labels, nothing that only they need.

    Parameters
    ----------
    param : NetParameter
        For instance a training net.
    shapes : mapping of str to sequence of int, optional
        Shapes of blobs: layers that fetch data become inputs of those shapes.

    Returns
    -------
    NetParameter
        Layers in order; inputs that nothing reads any more are gone.
    """

    def measures(layer: Any) -> bool:
        cls = LAYERS.get(layer.type)
        return layer.type in ("Accuracy", "Silence") or (cls is not None and cls.is_loss)

    kept = NetParameter()
    kept.CopyFrom(param)
    del kept.layer[:]
    kept.force_backward = False
    layers = [_as_input(layer, shapes or {}) for layer in param.layer if not measures(layer)]
    read = {name for layer in layers for name in layer.bottom}
    for layer in layers:
        if layer.type == "Input":
            declared = list(layer.input_param.shape)
            used = [i for i, top in enumerate(layer.top) if top in read]
            if not used:
                continue
            copy = kept.layer.add()
            copy.CopyFrom(layer)
            del copy.top[:]
            copy.top.extend(layer.top[i] for i in used)
            if len(declared) > 1:
                del copy.input_param.shape[:]
                copy.input_param.shape.extend(declared[i] for i in used)
        else:
            copy = kept.layer.add()
            copy.CopyFrom(layer)
            for field in ("include", "exclude", "phase"):  # it is here, in whatever phase the net is built
                copy.ClearField(field)
            for field in ("convolution_param", "inner_product_param"):
                if copy.HasField(field):  # weights are copied in, so drawing them first is wasted time
                    getattr(copy, field).ClearField("weight_filler")
    return kept


def _as_input(layer: Any, shapes: Mapping[str, Sequence[int]]) -> Any:
    """An Input layer in place of one that fetches data, if the shapes of all its tops are known."""
    fetches = layer.type not in ("Input", "Parameter") and not layer.bottom and layer.top
    if not fetches or any(top not in shapes for top in layer.top):
        return layer
    made = LayerParameter(name=layer.name, type="Input", top=layer.top)
    for top in layer.top:
        made.input_param.shape.add(dim=shapes[top])
    return made
