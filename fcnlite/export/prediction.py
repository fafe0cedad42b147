"""The part of a net that others' tools take over: from its inputs to its scores, without losses and labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fcnlite import device
from fcnlite.blob import Node
from fcnlite.deploy import FIXED, deploy
from fcnlite.errors import InputError
from fcnlite.net import Net


def for_prediction(net: Net) -> Net:
    """The net without losses and labels: itself if it has none, else a new one that shares its weights."""
    param = deploy(net.param, {name: blob.shape for name, blob in net.blobs.items()})
    if [(each.name, each.type) for each in param.layer] == [
        (each.name, each.type) for each in net.param.layer
    ]:
        return net
    bare = Net(param, "TEST")
    bare.share_with(net)
    return bare


def needed(net: Net, wanted: Sequence[str]) -> list[Node]:
    """The nodes that some blobs depend on, in order."""
    open_blobs = {net.blobs[name] for name in wanted}
    kept = []
    for node in reversed(net.nodes):
        if open_blobs.intersection(node.tops):
            open_blobs.update(node.bottoms)
            kept.append(node)
    return kept[::-1]


def dummy_tops(node: Node) -> list[np.ndarray]:
    """The tops of a DummyData layer, which are always the same.

    Raises
    ------
    InputError
        Its fillers draw new ones every time.
    """
    drawn = [
        filler.type for filler in node.layer.param.dummy_data_param.data_filler if filler.type not in FIXED
    ]
    if drawn:
        raise InputError(
            f"layer '{node.layer.name}' (DummyData) draws its data ({drawn[0]}), which is not exported"
        )
    node.forward()
    return [device.current().tonumpy(top.data) for top in node.tops]
