"""Which layers of a net exist in a given state: Caffe's include and exclude rules."""

from __future__ import annotations

from typing import Any

from fcnlite.errors import InputError


def meets_rule(state: Any, rule: Any) -> bool:
    """Tell whether a NetState meets every condition of a NetStateRule (Caffe's Net::StateMeetsRule)."""
    stages = set(state.stage)
    return (
        (not rule.HasField("phase") or rule.phase == state.phase)
        and (not rule.HasField("min_level") or state.level >= rule.min_level)
        and (not rule.HasField("max_level") or state.level <= rule.max_level)
        and stages.issuperset(rule.stage)
        and stages.isdisjoint(rule.not_stage)
    )


def filter_net(net: Any, state: Any) -> Any:
    """The net without the layers that its state leaves out (Caffe's Net::FilterNet).

    Parameters
    ----------
    net : NetParameter
        In the new form (see `fcnlite.proto.upgrade`).
    state : NetState
        Phase, level and stages of the net to be built.

    Returns
    -------
    NetParameter
        A copy. A layer with include rules stays if any of them is met; one with exclude rules goes if any is.

    Raises
    ------
    InputError
        A layer has both include and exclude rules.
    """
    filtered = type(net)()
    filtered.CopyFrom(net)
    del filtered.layer[:]
    for layer in net.layer:
        if layer.include and layer.exclude:
            raise InputError(f"layer '{layer.name}' has both include and exclude rules; keep one kind")
        if layer.include:
            kept = any(meets_rule(state, rule) for rule in layer.include)
        else:
            kept = not any(meets_rule(state, rule) for rule in layer.exclude)
        if kept:
            filtered.layer.add().CopyFrom(layer)
    return filtered
