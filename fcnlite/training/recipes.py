"""The paper's training of each net, by its name in `fcnlite.models`: learning rate, iterations, momentum ..."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from fcnlite.errors import InputError, nearest


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of one net's training.

    Attributes
    ----------
    lr : float
        Learning rate at the start; biases learn at twice this, without decay.
    iterations : int
        Weight updates.
    momentum, weight_decay : float
    iter_size : int
        Images (forward and backward passes) an update.
    normalize : bool
        The loss is the mean over pixels instead of their sum.
    average_loss : int
        Losses in the displayed mean.
    snapshot : int
        Iterations between snapshots.
    start : tuple of str
        The nets whose weights this one starts from: a classifier, the next coarser FCN, one for each tower.
    power : float
        The rate falls as (1 - iteration / iterations) ** power (Caffe's policy poly); 0 keeps it.
    clip : float
        A gradient of larger L2 norm than this is scaled down to it; 0 for none.
    """

    lr: float
    iterations: int = 100_000
    momentum: float = 0.99
    weight_decay: float = 5e-4
    iter_size: int = 1
    normalize: bool = False
    average_loss: int = 20
    snapshot: int = 4000
    start: tuple[str, ...] = ("vgg16",)
    power: float = 0.0
    clip: float = 0.0


_LONG = Recipe(1e-10, iterations=300_000)
_ALEXNET = Recipe(1e-4, momentum=0.9, iter_size=20, normalize=True, start=("caffenet",))

# "Heavy" learning: one image an update, high momentum, unnormalised loss (PAMI 2016, section 4.3, and the
# solvers of the published experiments). FCN-GoogLeNet has none there; it gets the settings of FCN-AlexNet, at
# the ratio of the two nets' rates in CVPR 2015.
HEAVY: dict[str, Recipe] = {
    "fcn32s": Recipe(1e-10),
    "fcn16s": Recipe(1e-12, start=("fcn32s",)),
    "fcn8s": Recipe(1e-14, start=("fcn16s",)),
    "fcn8s-atonce": _LONG,
    "fcn-alexnet": _ALEXNET,
    "fcn-googlenet": replace(_ALEXNET, lr=5e-6, start=("googlenet",)),
    "nyud-fcn32s-color": replace(_LONG, snapshot=2000),
    "nyud-fcn32s-color-d": replace(_LONG, snapshot=2000),
    "nyud-fcn32s-hha": replace(_LONG, snapshot=2000),
    "nyud-fcn32s-color-hha": replace(
        _LONG, lr=1e-12, snapshot=2000, start=("nyud-fcn32s-color", "nyud-fcn32s-hha")
    ),
    # Not among the published solvers; as fcn16s, at a hundredth of the rate of what it starts from.
    "nyud-fcn16s-color-hha": replace(_LONG, lr=1e-14, snapshot=2000, start=("nyud-fcn32s-color-hha",)),
    "siftflow-fcn32s": _LONG,
    "siftflow-fcn16s": replace(_LONG, lr=1e-12, start=("siftflow-fcn32s",)),
    "siftflow-fcn8s": replace(_LONG, lr=1e-12, start=("siftflow-fcn16s",)),
    "pascalcontext-fcn32s": _LONG,
    "pascalcontext-fcn16s": replace(_LONG, lr=1e-12, start=("pascalcontext-fcn32s",)),
    "pascalcontext-fcn8s": replace(_LONG, lr=1e-14, start=("pascalcontext-fcn16s",)),
}

# CVPR 2015, section 4.3: updates of 20 images, momentum 0.9, a rate for each base net; finer nets go on from
# coarser ones at a hundredth of the rate (section 4.2).
_CVPR15 = Recipe(1e-4, momentum=0.9, iter_size=20, normalize=True)
CVPR15_RATES = {"caffenet": 1e-3, "vgg16": 1e-4, "googlenet": 5e-5}


def recipe(net: str, style: str = "heavy") -> Recipe:
    """The recipe of a net.

    Parameters
    ----------
    net : str
        A name of fcnlite.models.
    style : str
        "heavy" or "cvpr15".

    Raises
    ------
    InputError
        If there is no such recipe; the nearest is named.
    """
    if style not in ("heavy", "cvpr15"):
        raise InputError(f"there is no recipe {style!r}; the recipes are heavy and cvpr15")
    if net not in HEAVY:
        hint = nearest(net, HEAVY) or f"; there are recipes for {', '.join(HEAVY)}"
        raise InputError(f"there is no recipe for the net '{net}'{hint}")
    heavy = HEAVY[net]
    if style == "heavy":
        return heavy
    rate = CVPR15_RATES.get(heavy.start[0], CVPR15_RATES["vgg16"] / 100)
    return replace(_CVPR15, lr=rate, start=heavy.start)


# Training from nothing, which the paper never does. Random weights need larger steps than a trained classifier
# bears, a falling rate, and a bound on the first gradients. fc6 and fc7, which see the sum of all that is below
# them, are kept small, since the more channels they have the smaller the steps must be.
_SCRATCH = Recipe(2e-2, iterations=20_000, momentum=0.9, normalize=True, start=(), power=0.9, clip=2.0)
SCRATCH_FC = 8  # channels of fc6 and fc7 for each of the width, 64 in the published nets
DEMO_WIDTH = 8
DEMO_ITERATIONS = 600


def from_nothing(data_set: str, width: int | None = None) -> Recipe:
    """The recipe for a net without weights to start from.

    Parameters
    ----------
    data_set : str
        The demo's, shapes, is learned in `DEMO_ITERATIONS`.
    width : int, optional
        Channels of the first convolution: the rate falls with more than 8 of them, the published nets' 64 if None.
    """
    iterations = DEMO_ITERATIONS if data_set == "shapes" else _SCRATCH.iterations
    return replace(_SCRATCH, lr=_SCRATCH.lr * min(1.0, 8 / (width or 64)), iterations=iterations)


OWN_WIDTH = (
    16  # channels of the first convolution: two cores learn 1,000 pictures of 200 x 200 in four minutes
)
PASSES = 20  # over all pictures in a run
ROUNDS = 20  # validations in a run, and snapshots
TRAINED_SHARE = 0.1  # of the rate from nothing, for nets that start from trained weights
OWN_CHANGES: dict[str, Any] = {
    "mirror": True,
    "jitter": 16,
    "zoom": 1.25,
    "recolor": 0.2,
}  # of the images, at random


def interval(iterations: int) -> int:
    """Iterations between validations: `ROUNDS` of them in a run, but no closer than ten iterations."""
    return max(10, iterations // ROUNDS)


def for_own_pictures(images: int, width: int | None = None, trained: bool = False) -> Recipe:
    """The recipe for pictures of one's own, from nothing or from any weights.

    Rates, decay and clipping are those found for training from nothing; a few pictures have to be seen often, and each
    time otherwise: mirrored, moved, zoomed and in other colours.

    Parameters
    ----------
    images : int
        Pictures to train on: each is seen `PASSES` times, and there are 1,000 to 40,000 updates.
    width : int, optional
        Channels of the first convolution, the published nets' 64 if None.
    trained : bool
        The net starts from weights, which bear smaller steps only.
    """
    iterations = min(max(PASSES * images, 1000), 40_000)
    scratch = from_nothing("", width)
    return replace(
        scratch,
        lr=scratch.lr * (TRAINED_SHARE if trained else 1),
        iterations=iterations,
        snapshot=interval(iterations),
    )
