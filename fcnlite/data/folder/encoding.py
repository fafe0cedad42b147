"""The meaning of the values, colours or names of masks: the classes, and which pixels are void."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ImageColor

from fcnlite.data.dataset import IGNORE
from fcnlite.data.files import read_text
from fcnlite.data.folder import labelme
from fcnlite.data.folder.facts import Facts
from fcnlite.data.folder.masks import COLOURS, NAMES, NUMBERS, Key, Mask, shown
from fcnlite.errors import InputError

BACKGROUND = "background"
VOID = "void"
_BLACK = 0
_VOC_VOID = 0xE0E0C0  # the border's colour in VOC's palette


@dataclass
class Encoding:
    """The classes of masks.

    Attributes
    ----------
    kind : str
        `fcnlite.data.folder.masks.NUMBERS`, `COLOURS` or `NAMES`.
    classes : list of str
    keys : list
        The value, colour (0xRRGGBB) or name of each class.
    void : list
        Values, colours or names of pixels that do not count.
    remarks : list of str
        How the masks were understood, in a line each, for the user to see.
    """

    kind: str
    classes: list[str]
    keys: list[Key]
    void: list[Key] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def background(self) -> int | None:
        """The class of that name, if there is one."""
        return self.classes.index(BACKGROUND) if BACKGROUND in self.classes else None

    def labels(self) -> dict[Key, int]:
        """The label of each key; 255 for void."""
        return {**dict.fromkeys(self.void, IGNORE), **{key: i for i, key in enumerate(self.keys)}}

    def apply(self, mask: Mask, where: object) -> np.ndarray:
        """The label map of a mask: (H, W) uint8.

        Raises
        ------
        InputError
            It holds something that is no class.
        """
        table = self.labels()
        values, inverse = np.unique(mask.codes, return_inverse=True)
        keys = [_key(mask, int(value)) for value in values]
        unknown = [key for key in keys if key not in table]
        if unknown:
            raise InputError(f"mask {where} holds {shown(unknown[0], self.kind)}, which is no class")
        return np.array([table[key] for key in keys], np.uint8)[inverse].reshape(mask.codes.shape)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def _key(mask: Mask, code: int) -> Key:
    if mask.kind != NAMES:
        return code
    return mask.names[code] if code < len(mask.names) else labelme.VOID_NAMES[0]


def read_colours(path: Path) -> dict[str, int]:
    """Class names and colours (0xRRGGBB) of a file with the header name,r,g,b, in its order."""
    rows = list(csv.DictReader(read_text(path).splitlines(), skipinitialspace=True))
    if not rows or not {"name", "r", "g", "b"} <= {str(key).strip().lower() for key in rows[0]}:
        raise InputError(f"{path}: its first line must be name,r,g,b and each further line a class")
    found: dict[str, int] = {}
    for line, row in enumerate(rows, 2):
        cells = {str(key).strip().lower(): str(value or "").strip() for key, value in row.items()}
        try:
            red, green, blue = (int(cells[channel]) for channel in "rgb")
        except ValueError:
            red = -1
        if red < 0 or not (max(red, green, blue) < 256 and min(green, blue) >= 0):
            raise InputError(f"{path}, line {line}: r, g and b are whole numbers from 0 to 255")
        colour = red << 16 | green << 8 | blue
        if not cells["name"] or cells["name"] in found or colour in found.values():
            raise InputError(f"{path}, line {line}: the name or the colour is empty or there already")
        found[cells["name"]] = colour
    return found


def decide(
    found: Sequence[Facts],
    classes: Sequence[str] | None = None,
    colours: Mapping[str, int] | None = None,
    void: int | None = IGNORE,
) -> Encoding:
    """Find the meaning of the masks from all that is in them.

    Parameters
    ----------
    found : sequence of Facts
    classes : sequence of str, optional
        Names in the order of the values, the background first.
    colours : mapping of str to int, optional
        Names and colours: masks mean their colours; "void" names pixels that do not count.
    void : int or None
        The value of pixels that do not count in masks of numbers.

    Raises
    ------
    InputError
        There are no masks, or they mean nothing that can be told.
    """
    kinds = {facts.kind for facts in found if facts.pixels}
    if not kinds:
        raise InputError("no mask can be read")
    used: Counter[Key] = Counter()
    for facts in found:
        used.update(facts.pixels)
    if NAMES in kinds:
        if kinds != {NAMES}:
            raise InputError("some masks are images, others annotation files; keep one kind in the folder")
        return _of_names(used, classes)
    if colours is not None:
        names = [name for name in colours if name.lower() != VOID]
        voids: list[Key] = [value for name, value in colours.items() if name.lower() == VOID]
        return Encoding(COLOURS, names, [colours[name] for name in names], voids)
    if COLOURS in kinds:
        return _of_colours(used, classes)
    return _of_numbers(used, found, classes, void)


def _of_names(used: Counter[Key], classes: Sequence[str] | None) -> Encoding:
    void: list[Key] = list(labelme.VOID_NAMES)
    if classes is not None:
        return Encoding(NAMES, list(classes), list(classes), void)
    names = sorted(str(name) for name in used if name not in void and name != BACKGROUND)
    return Encoding(NAMES, [BACKGROUND, *names], [BACKGROUND, *names], void)


def _of_colours(used: Counter[Key], classes: Sequence[str] | None) -> Encoding:
    values = sorted(
        (int(key) for key in used if key != _VOC_VOID), key=lambda value: (value != _BLACK, value)
    )
    if len(values) > IGNORE:
        raise InputError(
            f"the masks hold {len(values)} colours, more than there can be classes: saved as JPEG, or with smooth "
            "edges? save them as PNG, or name the colours that count with --colors FILE"
        )
    void: list[Key] = [_VOC_VOID] if _VOC_VOID in used else []
    if classes is not None and len(classes) == len(values):
        names, remark = (
            list(classes),
            f"the masks' {len(values)} colours are the classes in order of their values",
        )
    else:
        names = [colour_name(value) for value in values]
        remark = (
            f"the masks hold {len(values)} colours, named {', '.join(names[:8])}{', ...' if names[8:] else ''}; "
            "name them with --colors FILE (header name,r,g,b); results are drawn in VOC's colours"
        )
    return Encoding(COLOURS, names, list(values), void, [remark])


def colour_name(value: int) -> str:
    """A name for a colour: black is the background, CSS's names where they fit, else #rrggbb."""
    if value == _BLACK:
        return BACKGROUND
    code = f"#{value:06x}"
    # Not colormap's values, which Pillow turns into tuples as they are used.
    wanted = ImageColor.getrgb(code)
    return next((name for name in ImageColor.colormap if ImageColor.getrgb(name) == wanted), code)


def _of_numbers(
    used: Counter[Key], found: Sequence[Facts], classes: Sequence[str] | None, void: int | None
) -> Encoding:
    values = sorted(int(key) for key in used)
    palettes = [facts.palette for facts in found if facts.palette is not None]
    border = any(palette.get(IGNORE) == _VOC_VOID for palette in palettes)
    two = classes is None or len(classes) == 2
    if void == IGNORE and set(values) <= {0, IGNORE} and IGNORE in values and two and not border:
        names = list(classes or (BACKGROUND, "object"))
        remark = f"masks of 0 and 255: 255 is the class '{names[1]}'"
        return Encoding(NUMBERS, names, [0, IGNORE], [], [remark])
    plain = [value for value in values if value != void]
    voids: list[Key] = [] if void is None else [void]
    if classes is not None:
        return Encoding(NUMBERS, list(classes), list(range(len(classes))), voids)
    if not plain:
        raise InputError("every pixel of every mask is void (255)")
    if plain == list(range(len(plain))):
        names = [BACKGROUND, "object"] if len(plain) == 2 else [BACKGROUND, *map(str, plain[1:])]
        return Encoding(NUMBERS, names, list(plain), voids)
    if len(plain) > IGNORE:
        raise InputError(f"the masks hold {len(plain)} values, more than there can be classes")
    names = [BACKGROUND if value == 0 else str(value) for value in plain]
    told = ", ".join(map(str, plain[:8])) + (", ..." if plain[8:] else "")
    remark = f"the masks hold the values {told}; each is a class of that name (--classes FILE names them all)"
    return Encoding(NUMBERS, names, list(plain), voids, [remark])
