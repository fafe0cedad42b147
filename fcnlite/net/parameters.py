"""A net's parameters: how each learns, and how they are copied in and shared by layer name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fcnlite import device
from fcnlite.backend import Array
from fcnlite.blob import Blob
from fcnlite.errors import InputError
from fcnlite.proto import Message


@dataclass
class LearnableParam:
    """A parameter as a solver sees it: the blob, where it belongs, and how it learns."""

    blob: Blob
    layer: str
    index: int
    lr_mult: float
    decay_mult: float


class Reshaped(Blob):
    """A parameter of another layer in this one's shape (PERMISSIVE sharing): data and diff are one memory.

    Parameters
    ----------
    owner : Blob
    shape : sequence of int
        Of as many elements.
    """

    def __init__(self, owner: Blob, shape: Sequence[int]) -> None:
        super().__init__(shape=shape, name=owner.name, needs_diff=True)
        self.owner = owner

    @property
    def data(self) -> Array:
        return self.owner.data.reshape(self.shape)

    @data.setter
    def data(self, array: Array) -> None:
        self.owner.data = array.reshape(self.owner.shape)

    @property
    def diff(self) -> Array:
        return self.owner.diff.reshape(self.shape)

    @diff.setter
    def diff(self, array: Array) -> None:
        self.owner.diff = array.reshape(self.owner.shape)

    @property
    def has_data(self) -> bool:
        return self.owner.has_data

    @property
    def has_diff(self) -> bool:
        return self.owner.has_diff

    def new_data(self) -> Array:
        return self.owner.new_data().reshape(self.shape)

    def new_diff(self) -> Array:
        return self.owner.new_diff().reshape(self.shape)

    def drop_data(self) -> None:
        self.owner.drop_data()

    def drop_diff(self) -> None:
        self.owner.drop_diff()

    def clear_diff(self) -> None:
        self.owner.clear_diff()


def copy_layer(
    layer: str,
    blobs: Sequence[Blob],
    owned: set[int],
    arrays: Sequence[np.ndarray],
    label: str,
    is_new: bool = False,
) -> None:
    """Copy arrays into a layer's parameters.

    Parameters
    ----------
    layer : str
    blobs : sequence of Blob
        The layer's parameters, weight first.
    owned : set of int
        The parameters that are the layer's own, not those of an earlier layer.
    arrays : sequence of numpy.ndarray
    label : str
        The file they come from, for errors.
    is_new : bool
        Nobody shares the parameters yet, so that arrays in memory may take their place without a copy.

    Raises
    ------
    InputError
        The counts or the shapes differ; leading axes of length 1 do not count.
    """
    # Caffe's HDF5 leaves out parameters that an earlier layer shares.
    left_out = {i for i in range(len(blobs)) if i not in owned and (i >= len(arrays) or not arrays[i].size)}
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
        values = device.current().asarray(array.reshape(blob.shape))
        if is_new and array.flags.writeable:
            blob.data = values  # no second copy of the largest layers
        else:  # into the blob's own array: nets that share it see the change
            blob.data[...] = values


def is_given(param: Message) -> bool:
    """True for a layer whose weights follow from its description: it does not learn, and has a filler to say so.

    Parameters
    ----------
    param : LayerParameter
    """
    fillers = [
        getattr(param, message).weight_filler
        for message in ("convolution_param", "inner_product_param")
        if param.HasField(message) and getattr(param, message).HasField("weight_filler")
    ]
    if param.HasField("scale_param") and param.scale_param.HasField("filler"):
        fillers.append(param.scale_param.filler)
    fixed = any(f.type == "bilinear" or (f.type == "constant" and f.value) for f in fillers)
    return fixed and len(param.param) > 0 and all(spec.lr_mult == 0 for spec in param.param)


def lacking(layers: Sequence[str], weights: object) -> str:
    """The message about layers for which a file of weights has nothing; "" if there are none."""
    if not layers:
        return ""
    several = "layers " if len(layers) > 1 else "layer "
    names = ", ".join(f"'{name}'" for name in layers[:4]) + (", .." if layers[4:] else "")
    return f"{weights}: nothing in it for {several}{names} of the net"


def share(params: Mapping[str, Sequence[Blob]], with_: Mapping[str, Sequence[Blob]]) -> None:
    """Let the parameters of one net be those of another, by layer name: changing either changes both.

    Raises
    ------
    InputError
        Layers of one name have parameters of other shapes.
    """
    for name, blobs in params.items():
        others = with_.get(name, ())
        for i, theirs in enumerate(others):
            if i >= len(blobs):
                raise InputError(
                    f"layer '{name}' has {len(blobs)} parameters, and {len(others)} in the net to share with"
                )
            if blobs[i].shape != theirs.shape:
                raise InputError(
                    f"layer '{name}': parameter {i} has shape {blobs[i].shape}, and {theirs.shape} in the net to share"
                    " with; the two nets must describe the layer alike, and give it bottoms of as many channels"
                )
            blobs[i].data = theirs.data


def _trim(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape without leading ones: Caffe's old files pad shapes to four axes."""
    dims = list(shape)
    while dims and dims[0] == 1:
        dims.pop(0)
    return tuple(dims)
