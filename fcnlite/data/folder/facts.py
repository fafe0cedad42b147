"""Reads every picture and mask once, in parallel, and keeps what there is to know of each."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from PIL import ExifTags, ImageOps

from fcnlite.data.files import open_image
from fcnlite.data.folder.layout import Pair
from fcnlite.data.folder.masks import COLOURS, Key, counts, read_mask
from fcnlite.errors import InputError
from fcnlite.progress import progress_bar


@dataclass
class Facts:
    """The contents of one pair.

    Attributes
    ----------
    pair : Pair
    size, mask_size : (int, int) or None
        Width and height.
    turned : bool
        The picture's EXIF says that the camera was turned, and only upright does it have its mask's size.
    digest : str
        Of the picture's pixels: equal for equal pictures.
    kind : str
        Of the mask: see `fcnlite.data.folder.masks.Mask`.
    pixels : dict
        Pixels of each value, colour or name of the mask.
    palette : dict of int to int, or None
        Colours of the values used, where the mask has a palette.
    faults : list of str
        Why a file cannot be used, each naming the file.
    """

    pair: Pair
    size: tuple[int, int] | None = None
    mask_size: tuple[int, int] | None = None
    turned: bool = False
    digest: str = ""
    kind: str = ""
    pixels: dict[Key, int] = field(default_factory=dict)
    palette: dict[int, int] | None = None
    faults: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """True if both files are there and can be read."""
        return self.pair.image is not None and self.pair.mask is not None and not self.faults

    @property
    def same_size(self) -> bool:
        """True if picture and mask have one size."""
        return self.size == self.mask_size


def gather(
    pairs: Sequence[Pair], colours: bool = False, progress: bool = True, first: int = 0, step: int = 1
) -> list[Facts]:
    """The facts of the pairs number first, first + step .., in order: all, or one of `step` processes' share.

    Parameters
    ----------
    pairs : sequence of Pair
    colours : bool
        Masks mean their colours, whatever their values.
    progress : bool
        Show a bar on a terminal, which counts the other processes' pairs, too.
    first, step : int
    """
    threads = max(1, min(32, 2 * (os.cpu_count() or 1)) // step)
    gathered = []
    with (
        ThreadPoolExecutor(threads) as pool,
        progress_bar(
            hidden=not progress, total=len(pairs), desc="checking", unit="image", leave=False
        ) as bar,
    ):
        for facts in pool.map(lambda pair: facts_of(pair, colours), pairs[first::step]):
            gathered.append(facts)
            bar.update(min(step, len(pairs) - bar.n))
    return gathered


def facts_of(pair: Pair, colours: bool = False) -> Facts:
    """The facts of one pair; what cannot be read becomes a fault."""
    facts = Facts(pair)
    upright = None
    if pair.image is not None:
        try:
            image = open_image(pair.image)
            facts.size = image.size
            facts.digest = hashlib.sha1(image.tobytes(), usedforsecurity=False).hexdigest()
            if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
                upright = ImageOps.exif_transpose(image).size
        except (InputError, OSError) as error:
            facts.faults.append(str(error))
    if pair.mask is not None:
        try:
            mask = read_mask(pair, colours)
            facts.kind, facts.palette = mask.kind, mask.palette
            facts.mask_size = mask.codes.shape[1], mask.codes.shape[0]
            facts.pixels = counts(mask)
        except (InputError, OSError) as error:
            text = str(error)
            facts.faults.append(text if str(pair.mask) in text else f"mask {pair.mask}: {text}")
    if upright is not None and facts.size != facts.mask_size == upright:
        facts.turned, facts.size = True, upright
    return facts


def uses_colours(found: Sequence[Facts]) -> bool:
    """True if any mask is a colour image: then all masks mean their colours."""
    return any(facts.kind == COLOURS for facts in found)
