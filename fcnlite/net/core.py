"""Nets: a NetParameter brought to life as named layers over the tape, with pycaffe's surface.

>>> net = Net("deploy.prototxt", weights="fcn8s.h5")        # doctest: +SKIP
>>> score = net.forward(data=image)["score"]                # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fcnlite import device
from fcnlite.coord_map import fix_crops
from fcnlite.deploy import deploy
from fcnlite.errors import InputError, mistake, warn
from fcnlite.io import iter_weights, write_weights
from fcnlite.layers.base import phase_number
from fcnlite.net.build import Builder, Origin
from fcnlite.net.graph import Graph
from fcnlite.net.parameters import copy_layer, is_given, lacking, share
from fcnlite.net.summary import Summary, one_line, summary
from fcnlite.proto import (
    TEST,
    NetParameter,
    NetState,
    V1LayerParameter,
    filter_net,
    insert_splits,
    read_net,
    to_text,
    upgrade,
)
from fcnlite.proto.filter import in_stages, left_out


class Notes(Protocol):
    """Facts about a net that its description does not give, kept beside the weights in HDF5 files."""

    def to_json(self) -> dict[str, Any]:
        """The notes as plain numbers, lists and mappings."""


class Net(Graph):
    """A net, as Caffe builds one from a NetParameter.

    Parameters
    ----------
    source : path, str or NetParameter
        A prototxt file, its text, or a message.
    phase : str or int
        `"TRAIN"` or `"TEST"`.
    weights : path, optional
        Weights to copy in, by layer name (see `copy_from`).
    level, stages : int, sequence of str
        For the include and exclude rules of layers, besides the phase; stages add to the net's own.
    folder : path, optional
        Folder in which to look for files that layers name, if they are not in the working folder; that of the
        prototxt by default.

    Attributes
    ----------
    name, blobs, params, inputs, outputs, layers, nodes, learnable_params
        See `Graph`.
    phase : int
        TRAIN or TEST.
    param : NetParameter
        The description, in today's format, without the layers that phase, level and stages leave out.
    notes : Notes or None
        Kept in the HDF5 files that the net is saved in; the net itself makes nothing of them.

    Raises
    ------
    InputError, FileNotFoundError
        With file, line and layer, where the net cannot be built.
    """

    notes: Notes | None = None

    def __init__(
        self,
        source: Any,
        phase: str | int = "TEST",
        weights: str | os.PathLike[str] | None = None,
        level: int = 0,
        stages: Sequence[str] = (),
        folder: str | os.PathLike[str] | None = None,
    ):
        param = source if isinstance(source, NetParameter) else read_net(source)
        self.phase = phase_number(phase)
        param = in_stages(param, stages)
        state = NetState(phase=self.phase, level=level, stage=param.state.stage)
        origin = Origin(source, folder)
        whole = upgrade(self.form_of(param, origin.folder))
        self.param = filter_net(whole, state)
        if any(layer.type == V1LayerParameter.CROP for layer in param.layers):
            fix_crops(self.param)  # the old form has no offsets: its layer derived them
        try:
            built = Builder(self.param, self.phase, origin)
        except InputError as error:
            raise InputError(f"{error}{left_out(error.blob, whole, state)}") from None
        super().__init__(built)
        if weights is not None:
            told = lacking(self.copy_from(weights), weights)
            if told and self.phase == TEST:
                warn(told)

    def __repr__(self) -> str:
        return one_line(self)

    def summary(self) -> Summary:
        """A table of the layers, their tops' shapes and their parameters: `print(net.summary())`."""
        return summary(self)

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def form_of(self, param: NetParameter, folder: Path | None) -> NetParameter:
        """The form of a description, which lies in a folder, that is built: here the description itself."""
        return param

    def copy_from(
        self,
        source: str | os.PathLike[str] | Mapping[str, Sequence[np.ndarray]],
        allow_nonfinite: bool = False,
        is_new: bool = False,
    ) -> list[str]:
        """Copy parameters by layer name, from a .caffemodel, a Caffe HDF5 file or a mapping of arrays.

        Layers of the file that the net lacks are passed over, and layers of the net that the file lacks stay as they
        are. A layer with `name` in both must have as many parameters of the same shapes, of finite numbers unless
        `allow_nonfinite`. With `is_new`, which says that nobody shares the parameters yet, arrays of a file that are
        in memory take their place, rather than being copied.

        Returns
        -------
        list of str
            The layers that stay as they are, but for those whose weights the description gives (`is_given`).
        """
        label = "the mapping" if isinstance(source, Mapping) else os.fspath(source)
        copied = set()
        for layer, arrays in source.items() if isinstance(source, Mapping) else iter_weights(source):
            if layer in self.params and arrays:
                if not allow_nonfinite and not all(np.isfinite(array).all() for array in arrays):
                    mistake(
                        f"{label}: layer '{layer}' holds NaN or infinite numbers, with which no net computes"
                    )
                owned = {p.index for p in self.learnable_params if p.layer == layer}
                copy_layer(layer, self.params[layer], owned, arrays, label, is_new)
                copied.add(layer)
        if self.params and not copied:
            raise InputError(
                f"{label}: none of its layers is in the net '{self.name}' ({', '.join(list(self.params)[:4])}, ..)"
            )
        own = {param.layer for param in self.learnable_params} - copied
        return [layer.name for layer in self.layers if layer.name in own and not is_given(layer.param)]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the parameters: .h5 in Caffe's HDF5 layout with the deploy net inside, or .caffemodel."""
        backend = device.current()
        arrays = {layer.name: [backend.tonumpy(b.data) for b in layer.blobs] for layer in self.layers}
        notes = None if self.notes is None else self.notes.to_json()
        shapes = {name: blob.shape for name, blob in self.blobs.items()}
        text = to_text(deploy(self.param, shapes))
        write_weights(path, arrays, net=self.definition(), deploy=text, notes=notes)

    def definition(self) -> Any:
        """The net as Caffe describes it beside the weights in a file: with its Split layers and phases."""
        net = insert_splits(self.param)
        for layer in net.layer:
            if not layer.HasField("phase"):
                layer.phase = self.phase
        return net

    def share_with(self, other: Net) -> None:
        """Use the other net's parameters, by layer name: changing either changes both."""
        share(self.params, other.params)
