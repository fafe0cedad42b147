"""The Split layers that Caffe puts behind every blob with more than one reader, under Caffe's names."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fcnlite.errors import InputError

Slot = tuple[int, int]  # (layer index, top or bottom index)


def _sources(net: Any) -> tuple[dict[Slot, Slot], Counter[Slot]]:
    """Find for every bottom the top that it reads, for every top its number of readers (a loss weight is one)."""
    latest: dict[str, Slot] = {}
    source: dict[Slot, Slot] = {}
    readers: Counter[Slot] = Counter()
    for i, layer in enumerate(net.layer):
        for j, blob in enumerate(layer.bottom):
            if blob not in latest:
                raise InputError(
                    f"layer '{layer.name}': bottom '{blob}' is made by no layer before it; "
                    "check its spelling and the order of the layers",
                    layer=layer.name,
                    blob=blob,
                )
            source[i, j] = latest[blob]
            readers[latest[blob]] += 1
        for j, blob in enumerate(layer.top):
            latest[blob] = (i, j)
        for blob, weight in zip(layer.top, layer.loss_weight, strict=False):
            readers[latest[blob]] += weight != 0
    return source, readers


def insert_splits(net: Any) -> Any:
    """The net with a Split layer behind every top that several layers read (Caffe's InsertSplits).

    Parameters
    ----------
    net : NetParameter
        In the new form, already filtered.

    Returns
    -------
    NetParameter
        A copy. The copies of top `t` number `j` of layer `l` are called `t_l_j_split_0`, `t_l_j_split_1`,
        ... in the order of their readers. A top that is also weighted as a loss hands its weight to the first
        copy, which then no layer reads.

    Raises
    ------
    InputError
        A layer reads a blob that no layer before it makes.
    """
    source, readers = _sources(net)
    split_net = type(net)()
    split_net.CopyFrom(net)
    del split_net.layer[:]
    taken: Counter[Slot] = Counter()
    for i, original in enumerate(net.layer):
        layer = split_net.layer.add()
        layer.CopyFrom(original)
        for j, blob in enumerate(original.bottom):
            top = source[i, j]
            if readers[top] > 1:
                layer.bottom[j] = f"{blob}_{net.layer[top[0]].name}_{top[1]}_split_{taken[top]}"
                taken[top] += 1
        for j, blob in enumerate(original.top):
            if readers[i, j] < 2:
                continue
            stem = f"{blob}_{original.name}_{j}_split"
            split = split_net.layer.add(name=stem, type="Split", bottom=[blob])
            split.top.extend(f"{stem}_{k}" for k in range(readers[i, j]))
            weight = original.loss_weight[j] if j < len(original.loss_weight) else 0
            if weight:
                split.loss_weight.extend([weight] + [0] * (readers[i, j] - 1))
                del layer.loss_weight[:]
                taken[i, j] += 1
    return split_net
