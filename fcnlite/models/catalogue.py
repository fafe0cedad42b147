"""The paper's nets by name, with what makes each and its defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fcnlite.errors import InputError, nearest
from fcnlite.models.alexnet import alexnet, caffenet, fcn_alexnet
from fcnlite.models.googlenet import fcn_googlenet, googlenet
from fcnlite.models.nyud import nyud_early_fusion, nyud_late_fusion, nyud_late_fusion_16s
from fcnlite.models.siftflow import siftflow_fcn8s, siftflow_fcn16s, siftflow_fcn32s
from fcnlite.models.vgg16 import fcn8s, fcn8s_atonce, fcn16s, fcn32s, vgg16
from fcnlite.proto import NetParameter


@dataclass(frozen=True)
class Model:
    """An entry of the catalogue: what makes the net, what it is, and what differs from its defaults."""

    make: Callable[..., NetParameter]
    summary: str
    preset: dict[str, Any] = field(default_factory=dict)

    def defaults(self) -> dict[str, Any]:
        """Every option of this net and its value unless given."""
        own = {name: option.default for name, option in inspect.signature(self.make).parameters.items()}
        return own | self.preset


def _family(prefix: str, data_set: str, **preset: Any) -> dict[str, Model]:
    """FCN-32s, 16s and 8s with another data set's classes."""
    makes = {"fcn32s": fcn32s, "fcn16s": fcn16s, "fcn8s": fcn8s}
    return {f"{prefix}-{name}": Model(make, f"{name} for {data_set}", preset) for name, make in makes.items()}


_NYUD = {"classes": 40, "size": (480, 640)}

CATALOGUE: dict[str, Model] = {
    "fcn32s": Model(fcn32s, "FCN-32s on VGG16, PASCAL VOC's 21 classes"),
    "fcn16s": Model(fcn16s, "FCN-16s on VGG16: pool4 joins"),
    "fcn8s": Model(fcn8s, "FCN-8s on VGG16: pool4 and pool3 join"),
    "fcn8s-atonce": Model(fcn8s_atonce, "FCN-8s on VGG16 with damped skips, learned in one go"),
    "fcn-alexnet": Model(fcn_alexnet, "FCN-AlexNet on CaffeNet, stride 32"),
    "fcn-googlenet": Model(fcn_googlenet, "FCN-GoogLeNet on BVLC GoogLeNet, stride 32"),
    "nyud-fcn32s-color": Model(fcn32s, "FCN-32s for NYUDv2 from RGB", _NYUD),
    "nyud-fcn32s-color-d": Model(nyud_early_fusion, "FCN-32s for NYUDv2 from RGB-D, early fusion"),
    "nyud-fcn32s-hha": Model(fcn32s, "FCN-32s for NYUDv2 from HHA", _NYUD),
    "nyud-fcn32s-color-hha": Model(nyud_late_fusion, "FCN-32s for NYUDv2 from RGB and HHA, late fusion"),
    "nyud-fcn16s-color-hha": Model(
        nyud_late_fusion_16s, "FCN-16s for NYUDv2 from RGB and HHA: both pool4 join"
    ),
    "siftflow-fcn32s": Model(siftflow_fcn32s, "two-headed FCN-32s for SIFT Flow, 33 + 3 classes"),
    "siftflow-fcn16s": Model(siftflow_fcn16s, "two-headed FCN-16s for SIFT Flow"),
    "siftflow-fcn8s": Model(siftflow_fcn8s, "two-headed FCN-8s for SIFT Flow"),
    **_family("pascalcontext", "PASCAL-Context's 59 classes and background", classes=60),
    "vgg16": Model(vgg16, "the VGG16 classifier"),
    "caffenet": Model(caffenet, "the BVLC CaffeNet classifier, base of FCN-AlexNet"),
    "alexnet": Model(alexnet, "the BVLC AlexNet classifier"),
    "googlenet": Model(googlenet, "the BVLC GoogLeNet classifier"),
}


def names() -> list[str]:
    """Names of all nets in the catalogue."""
    return list(CATALOGUE)


def canonical(name: str) -> str:
    """The catalogue's spelling of a net's name: any case, `_` for `-`, and a `voc-` before it will do.

    Raises
    ------
    InputError
        No net has that name; the nearest is named.
    """
    wanted = name.lower().replace("_", "-").removeprefix("voc-")
    if wanted in CATALOGUE:
        return wanted
    hint = nearest(wanted, CATALOGUE) or f"; the catalogue has {', '.join(CATALOGUE)}"
    raise InputError(f"no net is called '{name}'{hint}")


def build(name: str, **options: Any) -> NetParameter:
    """Build a net of the catalogue.

    Parameters
    ----------
    name : str
        See `names`.
    **options
        Those of the net's function: `classes`, `width`, `fc`, `size`, `deploy` (no label and loss),
        `normalize`, `filler`. None stands for the net's own value.

    Returns
    -------
    NetParameter
        Named after the catalogue.

    Raises
    ------
    InputError
        Unknown name or option, or a value that makes no net.
    """
    name = canonical(name)
    model = CATALOGUE[name]
    known = model.defaults()
    for option in options:
        if option not in known:
            raise InputError(f"net '{name}' has no option '{option}'; it has {', '.join(known)}")
    net = model.make(**model.preset | {key: value for key, value in options.items() if value is not None})
    net.name = name
    return net
