"""From a net for training to the net for prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fcnlite.errors import InputError
from fcnlite.geometry import declared_shape, declared_size, fetches_data, first_batch
from fcnlite.layers import LAYERS
from fcnlite.proto import TEST, TRAIN, LayerParameter, Message, NetParameter, NetState, filter_net, upgrade

SIZE = (500, 500)  # pixels, the largest of VOC's
_TOLD_BY_FILES = ("Data", "HDF5Data")  # layers whose channels only their files tell
FIXED = ("bilinear", "constant")  # fillers that draw nothing


def deploy(param: Message, shapes: Mapping[str, Sequence[int]] | None = None) -> Any:
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
    kept = NetParameter()
    kept.CopyFrom(param)
    del kept.layer[:]
    kept.force_backward = False
    layers = [_as_input(layer, shapes or {}) for layer in param.layer if not _measures(layer)]
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
                if copy.HasField(field) and getattr(copy, field).weight_filler.type not in FIXED:
                    getattr(copy, field).ClearField(
                        "weight_filler"
                    )  # drawing what is copied over wastes time
    return kept


def deployed(param: Message, folder: Path | None = None) -> Any:
    """The form of a net for prediction: the net itself, or `deploy` of it where it fetches data or has losses.

    Layers that fetch data become inputs. Where neither the description nor a database or HDF5 file tells the size of
    images, they are as large as VOC's, of one channel where called so (see `fcnlite.geometry`) and of three otherwise.

    Parameters
    ----------
    param : NetParameter
        Of any format and phase; data layers of phase TRAIN serve where TEST has none.
    folder : Path, optional
        The prototxt's, for files that data layers name; without it none is opened.
    """
    net = filter_net(upgrade(param), NetState(phase=TEST, stage=param.state.stage))
    made = {name for layer in net.layer for name in layer.top}
    train = filter_net(upgrade(param), NetState(phase=TRAIN, stage=param.state.stage))
    fetching = [layer for layer in train.layer if fetches_data(layer) and not made.intersection(layer.top)]
    read = {name for layer in net.layer for name in layer.bottom}
    fetching = [layer for layer in fetching if read.intersection(layer.top)]
    if not fetching and not any(fetches_data(layer) or _measures(layer) for layer in net.layer):
        return param
    whole = NetParameter()
    whole.CopyFrom(net)
    del whole.layer[:]
    whole.layer.extend([*fetching, *net.layer])
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in filter(fetches_data, whole.layer):
        shapes |= zip(layer.top, _assumed(layer, folder))
    return deploy(whole, shapes)


def _measures(layer: Any) -> bool:
    """True for losses and what only tells of training."""
    cls = LAYERS.get(layer.type)
    is_loss = (cls is not None and cls.is_loss) or any(layer.loss_weight)
    return is_loss or layer.type in ("Accuracy", "Silence")


def _assumed(layer: Any, folder: Path | None) -> list[tuple[int, ...]]:
    """The shapes of a data layer's tops, for one image."""
    size = declared_size(layer) or SIZE
    shapes = [declared_shape(layer, i, size) for i in range(len(layer.top))]
    if folder is not None and layer.type in _TOLD_BY_FILES:
        with suppress(InputError, FileNotFoundError):
            shapes = first_batch(layer, TEST, folder)
    return [(1, *shape[1:]) if len(shape) > 1 else (1, 1, *size) for shape in shapes]


def _as_input(layer: Any, shapes: Mapping[str, Sequence[int]]) -> Any:
    """An Input layer in place of one that fetches data, if the shapes of all its tops are known."""
    if not fetches_data(layer) or any(top not in shapes for top in layer.top):
        return layer
    made = LayerParameter(name=layer.name, type="Input", top=layer.top)
    for top in layer.top:
        made.input_param.shape.add(dim=shapes[top])
    return made
