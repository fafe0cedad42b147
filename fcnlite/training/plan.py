"""The plan of a run: all that decides what it computes, as `settings.json` keeps it and as options give it."""

from __future__ import annotations

import sys
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from fcnlite import models
from fcnlite.data import HIDE, SPLITS, catalogue
from fcnlite.data.files import read_list
from fcnlite.data.folder import MANIFEST, Manifest
from fcnlite.data.voc import find_voc
from fcnlite.errors import InputError
from fcnlite.io import check, iter_weights
from fcnlite.training.recipes import (
    DEMO_WIDTH,
    OWN_CHANGES,
    OWN_WIDTH,
    SCRATCH_FC,
    TRAINED_SHARE,
    Recipe,
    for_own_pictures,
    from_nothing,
    interval,
    recipe,
)

# What settings.json may hold.
Whole = Annotated[int, (0, 2**31 - 1)]
Count = Annotated[int, (1, 2**31 - 1)]
Amount = Annotated[float, (0, sys.float_info.max)]
Positive = Annotated[float, (sys.float_info.min, sys.float_info.max)]
Zoom = Annotated[float, (1, sys.float_info.max)]
Share = Annotated[float, (sys.float_info.min, 1)]
# The net each data set is trained with unless another is named, and what NYUDv2's nets read.
NETS = {
    "voc": "fcn32s",
    "sbd": "fcn32s",
    "shapes": "fcn8s",
    "folder": "fcn8s",
    "nyud": "nyud-fcn32s-color",
    "siftflow": "siftflow-fcn32s",
    "pascalcontext": "pascalcontext-fcn32s",
}
NYUD_MODES = {
    "nyud-fcn32s-color-d": "rgbd",
    "nyud-fcn32s-hha": "hha",
    "nyud-fcn32s-color-hha": "rgb-hha",
    "nyud-fcn16s-color-hha": "rgb-hha",
}
LEARNING = tuple(option.name for option in fields(Recipe) if option.name != "start")
CHANGES = ("mirror", "jitter", "zoom", "recolor")  # of the images, at random
# Settings that a resumed run may have otherwise, beside those of LEARNING.
MAY_CHANGE = ("validate", "keep", "final", "patience", "skip_bad")
# Settings that decide the weights' shapes or the images' order, so that a resumed run has to keep them.
KEPT = (
    "net",
    "width",
    "fc",
    "seed",
    "order",
    *CHANGES,
    "freeze",
    "sample_patches",
    "fixed",
    "hide",
    "iter_size",
    "normalize",
)
PIXEL_SCALES = ("scale_data", "scale_color", "scale_hha")  # what such layers are called


@dataclass
class Plan:
    """All that decides what a run computes; `settings.json` keeps it.

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
    zoom, recolor : float
        See `fcnlite.data.augment.Augmentation`.
    class_weights : list of float
        Factors on the loss of each class's pixels; empty for none.
    freeze : list of str
        Patterns of names: layers that keep their weights.
    skip_bad : bool
        Go on with the next image where one cannot be read.
    keep : int
        Snapshots to keep, the newest ones and the best; 0 for all.
    final : str
        The weights a run ends with: those of the "last" snapshot, or of the "best" by mean IU in validation.
    patience : int
        Validations without a better mean IU that end the run; 0 for none.
    validate_first : bool
        Validate before the first iteration, too.
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
    zoom: Zoom = 1.0
    recolor: Amount = 0.0
    class_weights: list[Amount] = field(default_factory=list)
    freeze: list[str] = field(default_factory=list)
    skip_bad: bool = False
    keep: Whole = 3
    final: Literal["last", "best"] = "last"
    patience: Whole = 0
    validate_first: bool = False
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
        """The type of each value, as `fcnlite.io.check` takes it."""
        return get_type_hints(cls, include_extras=True)

    def to_json(self) -> dict[str, Any]:
        """The plan as plain values."""
        return asdict(self)


def plan_from(given: dict[str, Any], out: Path | None = None) -> Plan:
    """The plan for options as given, completed by the data set's and the net's defaults.

    Parameters
    ----------
    given : dict
        Options by name; those not given are absent.
    out : path, optional
        The run's folder, where the demo's data goes.
    """
    name = catalogue.canonical(given.get("data_set", "shapes"))
    net = net_name(name, given.get("net"))
    if given.get("init") and "width" not in given:
        given = {"width": _width_of(given["init"][0])} | given
        given = {option: value for option, value in given.items() if value is not None}
    images = own_images(name, given, out)
    style = style_of(given, images is not None)
    settings = _recipe(style, name, net, given, images or 0)
    plan = Plan(
        name=name,
        data_set=name,
        data=_data_of(name, given, out),
        split=_split_of(name, given),
        net=net,
        width=_width(name, given),
        mirror=name == "shapes",
        **{option: getattr(settings, option) for option in LEARNING},
    )
    if style == "own":
        plan = replace(plan, validate_first=True, final="best", **OWN_CHANGES)
    own = ("fc", "init", "seed", "order", "fixed", "hide", "freeze", *CHANGES, *MAY_CHANGE)
    plan = replace(plan, **{option: given[option] for option in own if option in given})
    if "sample_patches" in given:
        plan.sample_patches = given["sample_patches"]
        plan.iter_size = enlarged(plan.iter_size, plan.sample_patches)
    _choose_data(plan, given)
    plan.from_nothing = not plan.init and ("resume" not in given or given.get("recipe") == "scratch")
    if plan.fixed and plan.from_nothing:
        raise InputError("--fixed keeps all but the scores as they are; give weights to keep with --init")
    plan.scaled = plan.from_nothing
    if plan.init:
        _take_form(plan, given)
    elif plan.from_nothing and "fc" not in given:
        defaults = models.CATALOGUE[net].defaults()
        if "fc" in defaults:
            plan.fc = SCRATCH_FC * (plan.width or defaults["width"])
    return plan


def _data_of(name: str, given: dict[str, Any], out: Path | None) -> str:
    if name == "folder":
        return str((out or Path()) / MANIFEST)
    return given.get("data") or str(out / "data" if out and name == "shapes" else Path("data") / name)


def _split_of(name: str, given: dict[str, Any]) -> str:
    return SPLITS[name].train if name == "folder" else given.get("split", SPLITS[name].train)


def own_images(name: str, given: dict[str, Any], out: Path | None = None) -> int | None:
    """Number of pictures to train on where they are the user's own; None for the data sets of the paper.

    Own are those of `folder`, whose manifest lies in the run's folder `out`, and those in VOC's layout with a file
    classes.txt.
    """
    if name == "folder":
        return len(Manifest.read((out or Path()) / MANIFEST).parts["train"])
    if name != "voc" or "sbd" in given:
        return None
    root = find_voc(given.get("data", Path("data") / name), given.get("year"))
    if not (root / "classes.txt").is_file():
        return None
    return len(read_list(root / "ImageSets" / "Segmentation" / f"{_split_of(name, given)}.txt"))


def _width(data_set: str, given: dict[str, Any]) -> int | None:
    return given.get("width", {"shapes": DEMO_WIDTH, "folder": OWN_WIDTH}.get(data_set))


def net_name(data_set: str, given: str | None) -> str:
    """The catalogue's name of the net; "fcn8s" with siftflow is siftflow-fcn8s."""
    if given is None:
        return NETS[data_set]
    own = f"{data_set}-{given}"
    return models.canonical(own if own in models.names() else given)


def style_of(given: dict[str, Any], own: bool) -> str:
    """The recipe in the options, else that for the user's own pictures, for trained weights or for nothing."""
    trained = "init" in given or "resume" in given
    return given.get("recipe", "own" if own else "heavy" if trained else "scratch")


def _recipe(style: str, data_set: str, net: str, given: dict[str, Any], images: int) -> Recipe:
    trained, width = "init" in given or "resume" in given, _width(data_set, given)
    if style == "own":
        settings = for_own_pictures(images, width, trained)
    elif style == "scratch":
        settings = from_nothing(data_set, width)
        if "init" in given:  # trained weights bear smaller steps only
            settings = replace(settings, lr=settings.lr * TRAINED_SHARE)
    else:
        settings = recipe(net, style)
    if style == "own" and "iterations" in given and "snapshot" not in given:
        settings = replace(settings, snapshot=interval(given["iterations"]))
    return replace(settings, **{option: given[option] for option in LEARNING if option in given})


def _choose_data(plan: Plan, given: dict[str, Any]) -> None:
    """Fill in the data sets' options, and what to validate on."""
    usable = catalogue.options_of(plan.data_set)
    options = {"year": "year", "labels": "labels", "mapping": "mapping", "context": "context_folder"}
    for option, keyword in options.items():
        if option in given:
            if keyword not in usable:
                raise InputError(f"--{option} is not an option of the data set {plan.data_set}")
            plan.data_options[keyword] = given[option]
    if plan.net in NYUD_MODES and plan.data_set == "nyud":
        plan.data_options["mode"] = NYUD_MODES[plan.net]
    plan.val_data_set, plan.val_data = plan.data_set, plan.data
    plan.val_options = dict(plan.data_options)
    if plan.data_set == "folder":
        plan.val_split = "val" if Manifest.read(plan.data).parts["val"] else None
        return
    plan.val_split = given.get("val_split", SPLITS[plan.data_set].evaluate)
    if "sbd" in given:
        if plan.data_set != "voc":
            raise InputError(f"--sbd goes with voc, not with {plan.data_set}")
        plan.data_set, plan.data, plan.data_options = "sbd", given["sbd"], {}
        if given.get("year") != 2012:
            plan.val_split = given.get("val_split", "seg11valid")
            plan.val_options["sbd_folder"] = given["sbd"]
    elif plan.data_set == "voc" and "val_split" not in given:
        lists = find_voc(plan.data, given.get("year")) / "ImageSets" / "Segmentation"
        if not (lists / f"{plan.val_split}.txt").is_file():
            plan.val_split = None  # a folder of one's own without images held back


def _width_of(weights: str) -> int | None:
    """Channels of the first convolution in a file of weights."""
    for layer, arrays in iter_weights(weights):
        first = layer.startswith("conv1_1") or layer in ("conv1", "conv1/7x7_s2")
        if first and arrays and arrays[0].ndim:
            return int(arrays[0].shape[0])
    return None


def _take_form(plan: Plan, given: dict[str, Any]) -> None:
    """Make fc6 as wide as in the weights to start from, unless that was said, and scale pixels as they do."""
    for layer, arrays in iter_weights(plan.init[0]):
        if layer in PIXEL_SCALES:
            plan.scaled = True
        elif layer == "fc6" and "fc" not in given and len(arrays) > 1:
            plan.fc = int(arrays[1].size)


def enlarged(images: int, share: float) -> int:
    """Images an update when only a share of each one's patches count, so that as many patches do as before."""
    most = 2**31 - 1  # Caffe's int
    if images > most * share:
        raise InputError(
            f"--sample-patches {share:g} is too small a share: an update would need too many images"
        )
    return max(1, round(images / share))


def resumed(plan: Plan, given: dict[str, Any], where: Path) -> Plan:
    """The plan of a run to go on with, changed by what may change."""
    if "data_set" in given and catalogue.canonical(given["data_set"]) != plan.name:
        raise InputError(f"the run in {where} trains on {plan.name}, not on {given['data_set']}")
    if "iter_size" in given:
        given = given | {"iter_size": enlarged(given["iter_size"], plan.sample_patches)}
    for option in KEPT:
        if option in given and given[option] != getattr(plan, option):
            name = option.replace("_", "-")
            raise InputError(
                f"--{name} {given[option]} differs from the {getattr(plan, option)} that the run in {where} has; "
                f"leave --{name} out, or start a new run"
            )
    if "class_weights" in given:
        raise InputError(f"--class-weights is decided when a run begins; leave it out to go on with {where}")
    changes = {option: given[option] for option in (*LEARNING, *MAY_CHANGE) if option in given}
    if plan.data_set == "folder":
        if any(option in given for option in ("data", "images", "masks")):
            raise InputError(
                f"the run in {where} goes on with its own pictures; leave --data, --images, --masks out"
            )
        changes |= {"data": str(where / MANIFEST), "val_data": str(where / MANIFEST)}
    elif "data" in given:
        changes |= {"data": given["data"], "val_data": given["data"]}
    return replace(plan, **changes)
