"""Which layers of a net exist in a given state: Caffe's include and exclude rules."""

from __future__ import annotations

from collections.abc import Sequence
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


def in_stages(net: Any, stages: Sequence[str]) -> Any:
    """The net itself, or a copy of it whose own state has these stages, too."""
    if not stages:
        return net
    staged = type(net)()
    staged.CopyFrom(net)
    staged.state.stage.extend(stages)
    return staged


def left_out(blob: str, net: Any, state: Any) -> str:
    """The reason why nothing makes a blob, if a layer that would is left out: `"; layer 'data' .. stage 'deploy' .."`.

    Parameters
    ----------
    blob : str
    net : NetParameter
        Before `filter_net`.
    state : NetState
        As for `filter_net`.
    """
    makers = [layer for layer in net.layer if blob in layer.top and not _is_kept(layer, state)]
    if not makers:
        return ""
    layer = makers[0]
    reasons = [_unmet(rule, state) for rule in layer.include] or [_met(rule) for rule in layer.exclude]
    return f"; layer '{layer.name}' makes it, but is left out: {' or '.join(reasons)}"


def _unmet(rule: Any, state: Any) -> str:
    """Name the condition of an include rule that the state lacks."""
    wanted = []
    if rule.HasField("phase") and rule.phase != state.phase:
        wanted.append(f"phase {_PHASES[rule.phase]}")
    for stage in rule.stage:
        if stage not in state.stage:
            wanted.append(f"stage '{stage}' (--stage {stage})")
    wanted += [f"no stage '{stage}'" for stage in rule.not_stage if stage in state.stage]
    if rule.HasField("min_level") and state.level < rule.min_level:
        wanted.append(f"level {rule.min_level} or above")
    if rule.HasField("max_level") and state.level > rule.max_level:
        wanted.append(f"level {rule.max_level} or below")
    return f"it needs {' and '.join(wanted)}"


def _met(rule: Any) -> str:
    """Name the condition of an exclude rule that the state meets."""
    told = [f"phase {_PHASES[rule.phase]}"] if rule.HasField("phase") else []
    told += [f"stage '{stage}'" for stage in rule.stage] + [f"no stage '{stage}'" for stage in rule.not_stage]
    if rule.HasField("min_level") or rule.HasField("max_level"):
        told.append("this level")
    return f"it is not for {' with '.join(told) or 'any net'}"


_PHASES = ("TRAIN", "TEST")


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
        if _is_kept(layer, state):
            filtered.layer.add().CopyFrom(layer)
    return filtered


def _is_kept(layer: Any, state: Any) -> bool:
    if layer.include:
        return any(meets_rule(state, rule) for rule in layer.include)
    return not any(meets_rule(state, rule) for rule in layer.exclude)
