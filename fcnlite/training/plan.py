"""What a run computes: the plan that ``settings.json`` keeps, and the data, net and solver it describes."""

from __future__ import annotations

import sys
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from fcnlite import models
from fcnlite.data import HIDE, Dataset, Masked, open_dataset
from fcnlite.io import check
from fcnlite.proto import LayerParameter, NetParameter, SolverParameter
from fcnlite.solver import HDF5

# Random weights get pixels in units of so many grey levels, by a fixed Scale layer of the net: the trained ones take
# them as they are, but steps that suit the other layers would throw a random first convolution about.
GREY_LEVELS = 64.0
# What settings.json may hold.
Whole = Annotated[int, (0, 2**31 - 1)]
Count = Annotated[int, (1, 2**31 - 1)]
Amount = Annotated[float, (0, sys.float_info.max)]
Positive = Annotated[float, (sys.float_info.min, sys.float_info.max)]
Share = Annotated[float, (sys.float_info.min, 1)]
PIXEL_SCALES = ("scale_data", "scale_color", "scale_hha")  # what such layers are called


@dataclass
class Plan:
    """All that decides what a run computes; ``settings.json`` keeps it.

    Attributes
    ----------
    name : str
        The data set as the user named it.
    data_set, data : str
        The name of what is trained on in fcnlite.data, and its folder (voc may be trained on SBD's images).
    split : str
        The list to train on.
    val_data_set, val_data, val_split : str, str, str or None
        What to validate on; split None for nothing.
    data_options, val_options : dict
        Further options of `fcnlite.data.open_dataset`.
    net : str
        Its name in fcnlite.models.
    width, fc : int or None
        Channels of conv1 and of fc6; None for the published net's.
    init : list of str
        Files of weights to start from.
    from_nothing : bool
        The weights start random.
    scaled : bool
        The net has a layer scale_data, which divides pixels by `GREY_LEVELS`.
    lr, power, clip : float
        The learning rate, how it falls, and the bound on the gradient, as in `fcnlite.data.Recipe`.
    iterations, iter_size, average_loss, snapshot : int
    momentum, weight_decay : float
    normalize : bool
    seed : int
        Of weights, dropout, image order, mirroring and jitter.
    order : str
        "random" or "file".
    mirror : bool
    jitter : int
        See `fcnlite.data.Batches`.
    sample_patches : float
        The share of each image's pixels that count in the loss; `iter_size` is larger by as much. Where the loss
        is summed, each counts 1 / share times, so that an update is as large as one of whole images.
    hide : str or None
        Mask the images, as `fcnlite.data.Masked` does.
    fixed : bool
        Learn the score layers only (the paper's FCN-32s-fixed).
    validate : int or None
        Images to validate on; None for all, 0 for none.
    """

    name: str
    data_set: str
    data: str
    split: str
    net: str
    lr: Positive
    iterations: Count
    val_data_set: str = ""
    val_data: str = ""
    val_split: str | None = None
    data_options: dict[str, str | int] = field(default_factory=dict)
    val_options: dict[str, str | int] = field(default_factory=dict)
    width: Count | None = None
    fc: Count | None = None
    init: list[str] = field(default_factory=list)
    from_nothing: bool = False
    scaled: bool = False
    power: Amount = 0.0
    clip: Amount = 0.0
    momentum: Amount = 0.99
    weight_decay: Amount = 5e-4
    iter_size: Count = 1
    normalize: bool = False
    average_loss: Count = 20
    snapshot: Whole = 4000
    seed: Whole = 1337
    order: Literal["random", "file"] = "random"
    mirror: bool = False
    jitter: Whole = 0
    sample_patches: Share = 1.0
    fixed: bool = False
    hide: Literal[HIDE] | None = None  # type: ignore[valid-type]
    validate: Whole | None = None

    @classmethod
    def from_json(cls, values: dict[str, Any], where: object) -> Plan:
        """A plan as settings.json has it; `where` names the file in the error."""
        kinds = cls.kinds()
        needed = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
        check(values, {name: kinds[name] for name in kinds if name in needed or name in values}, where)
        return cls(**{name: value for name, value in values.items() if name in kinds})

    @classmethod
    def kinds(cls) -> dict[str, Any]:
        """What each of its values may be, as `fcnlite.io.check` takes it."""
        return get_type_hints(cls, include_extras=True)

    def to_json(self) -> dict[str, Any]:
        """The plan as plain values."""
        return asdict(self)


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


def describe_net(plan: Plan, classes: int) -> NetParameter:
    """The net to train, with fillers where it starts from nothing."""
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
        _fix_base(param)
    if plan.scaled:
        _scale_pixels(param)
    return param


def _fix_base(param: NetParameter) -> None:
    """Give every convolution but those that score a learning rate of zero."""
    for layer in param.layer:
        if layer.type == "Convolution" and not layer.name.startswith("score"):
            while len(layer.param) < 1 + layer.convolution_param.bias_term:
                layer.param.add()
            for spec in layer.param:
                spec.lr_mult = 0


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
        snapshot_format=HDF5,
        snapshot_prefix=str(snapshots / plan.net),
        **policy,
    )
