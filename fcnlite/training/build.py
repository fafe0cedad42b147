"""Builds what a plan describes: the data sets, the net and Caffe's solver settings."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from fcnlite import models
from fcnlite.data import Dataset, Masked, open_dataset
from fcnlite.errors import InputError
from fcnlite.proto import LayerParameter, NetParameter, SolverParameter
from fcnlite.training.class_weights import CLASS_WEIGHTS, weigh_classes
from fcnlite.training.plan import Plan

# Nets trained from scratch divide pixels by this (a fixed Scale layer): a rate that suits the other layers is too
# large for a random first convolution on raw pixels.
GREY_LEVELS = 64.0


def open_data(plan: Plan) -> tuple[Dataset, Dataset | None]:
    """The images to train on and those to validate on, if any."""
    train = open_dataset(plan.data_set, plan.data, plan.split, **plan.data_options)
    if plan.hide is not None:
        train = Masked(train, plan.hide)
    if plan.val_split is None or plan.validate == 0:
        return train, None
    val = open_dataset(plan.val_data_set, plan.val_data, plan.val_split, **plan.val_options)
    if not val.has_labels:
        return train, None
    return train, val if plan.hide is None else Masked(val, plan.hide)


def describe_net(plan: Plan, classes: int, folder: Path = Path()) -> NetParameter:  # noqa: B008
    """The net to train, with fillers where it starts from nothing.

    Parameters
    ----------
    plan : Plan
    classes : int
    folder : Path
        The run's, where the class weights are, if there are any.
    """
    options = {
        "classes": classes,
        "width": plan.width,
        "normalize": plan.normalize,
        "filler": {"type": "msra"} if plan.from_nothing else None,
    }
    if plan.fc is not None:  # not every net has such layers
        options["fc"] = plan.fc
    param = models.build(plan.net, **options)
    if plan.sample_patches < 1 and not plan.normalize:
        for layer in param.layer:
            if layer.type == "SoftmaxWithLoss":
                layer.loss_weight[:] = [1 / plan.sample_patches]
    if plan.fixed:
        _fix(layer for layer in param.layer if _learns(layer) and not layer.name.startswith("score"))
    for pattern in plan.freeze:
        _freeze(param, pattern)
    if plan.class_weights:
        weigh_classes(param, folder / CLASS_WEIGHTS)
    if plan.scaled:
        _scale_pixels(param)
    return param


def _learns(layer: LayerParameter) -> bool:
    return layer.type == "Convolution"  # upsampling is fixed in the nets of the catalogue


def _fix(layers: Iterable[LayerParameter]) -> None:
    """Give layers a learning rate of zero."""
    for layer in layers:
        while len(layer.param) < 1 + layer.convolution_param.bias_term:
            layer.param.add()
        for spec in layer.param:
            spec.lr_mult = 0


def _freeze(param: NetParameter, pattern: str) -> None:
    """Fix the layers whose names a pattern matches.

    Raises
    ------
    InputError
        None does, or all do.
    """
    learning = [layer for layer in param.layer if _learns(layer)]
    found = [layer for layer in learning if fnmatchcase(layer.name, pattern)]
    names = ", ".join(layer.name for layer in learning)
    if not found:
        raise InputError(f"--freeze {pattern} matches no layer; those that learn are {names}")
    _fix(found)
    if all(layer.param and not any(spec.lr_mult for spec in layer.param) for layer in learning):
        raise InputError(f"--freeze {pattern} leaves no layer that learns; there are {names}")


def _scale_pixels(param: NetParameter) -> None:
    """Put a fixed scale_X between each blob X of pixels, joined or as they are, and the convolution that reads it."""
    pixels: set[str] = set()
    layers = []
    for layer in param.layer:
        if layer.type == "Input" or (layer.type == "Concat" and pixels.issuperset(layer.bottom)):
            pixels.update(layer.top)
        elif layer.type == "Convolution" and pixels.issuperset(layer.bottom):
            (blob,) = layer.bottom
            filler = {"type": "constant", "value": 1 / GREY_LEVELS}
            layers.append(
                LayerParameter(
                    name=f"scale_{blob}",
                    type="Scale",
                    bottom=[blob],
                    top=[f"{blob}_scaled"],
                    param=[{"lr_mult": 0}],
                    scale_param={"filler": filler},
                )
            )
            layer.bottom[0] = f"{blob}_scaled"
        layers.append(layer)
    copy = NetParameter(layer=layers)
    del param.layer[:]
    param.layer.extend(copy.layer)


def solver_of(plan: Plan, snapshots: Path) -> SolverParameter:
    """The plan as Caffe's solver settings."""
    policy = {"lr_policy": "poly", "power": plan.power} if plan.power else {"lr_policy": "fixed"}
    return SolverParameter(
        base_lr=plan.lr,
        momentum=plan.momentum,
        weight_decay=plan.weight_decay,
        iter_size=plan.iter_size,
        max_iter=plan.iterations,
        average_loss=plan.average_loss,
        clip_gradients=plan.clip or -1,
        random_seed=plan.seed,
        display=0,
        snapshot=plan.snapshot,
        snapshot_format=SolverParameter.HDF5,
        snapshot_prefix=str(snapshots / plan.net),
        **policy,
    )
