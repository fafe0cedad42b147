"""Looks at pictures and masks before a net does: what there is, and everything that would fail or mislead."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fcnlite.data.dataset import IGNORE
from fcnlite.data.folder.dataset import Manifest, relative
from fcnlite.data.folder.encoding import Encoding, decide, read_colours
from fcnlite.data.folder.facts import Facts, gather, uses_colours
from fcnlite.data.folder.layout import TRAIN, VAL, Layout, Pair, find_pairs, read_names
from fcnlite.data.folder.masks import COLOURS, NUMBERS, shown
from fcnlite.data.folder.split import parted
from fcnlite.data.voc import read_classes
from fcnlite.errors import InputError
from fcnlite.tables import headed

LARGE = 1500  # pixels on the longer side, from which on a net is slow and a photograph has more than it needs


@dataclass(frozen=True)
class Choices:
    """The user's statements on the data.

    Attributes
    ----------
    colors, classes : path or None
        Files with the classes' colours, and with their names.
    void : int or None
        The value of pixels that do not count.
    max_size : int
    resize_masks : bool
    skip_bad : bool
        Leave out files that cannot be used instead of failing.
    train_list, val_list : path or None
        Files with the names to train and to validate on.
    val_share : float
        The part to validate on, where there are no lists.
    seed : int
    """

    colors: str | None = None
    classes: str | None = None
    void: int | None = IGNORE
    max_size: int = 0
    resize_masks: bool = False
    skip_bad: bool = False
    train_list: str | None = None
    val_list: str | None = None
    val_share: float = 0.2
    seed: int = 1337


@dataclass
class Report:
    """The findings of `inspect`.

    Attributes
    ----------
    facts : list of Facts
        Of every pair.
    manifest : Manifest
        Of the pairs that can be used.
    errors : list of str
        Training would fail or mislead.
    warnings : list of str
        May be meant.
    pixels, images : dict of str to Counter
        For each part: pixels of each label, and images that show it.
    """

    facts: list[Facts]
    manifest: Manifest
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    pixels: dict[str, Counter[int]] = field(default_factory=dict)
    images: dict[str, Counter[int]] = field(default_factory=dict)

    def __str__(self) -> str:
        """The report for people: figures, a table of the classes, then warnings and errors."""
        lines = [*_figures(self), "", *_class_table(self)]
        told = {"note": self.manifest.encoding.remarks, "warning": self.warnings, "error": self.errors}
        lines += [f"{kind}: {text}" for kind, texts in told.items() for text in texts]
        return "\n".join(lines)


def inspect(
    layout: Layout,
    choices: Choices = Choices(),  # noqa: B008
    progress: bool = True,
    gather: Callable[[Sequence[Pair], bool, bool], list[Facts]] = gather,
) -> Report:
    """Read every picture and mask once, decide what the masks mean, part the pictures, and look for faults.

    Parameters
    ----------
    layout : Layout
    choices : Choices
    progress : bool
        Show a bar on a terminal.

    Raises
    ------
    FileNotFoundError, InputError
        There is nothing to look at, or nothing can be made of the masks.
    """
    pairs = find_pairs(layout)
    colours = read_colours(Path(choices.colors)) if choices.colors is not None else None
    classes = read_classes(choices.classes) if choices.classes is not None else layout.classes
    facts = gather(pairs, colours is not None, progress)
    if colours is None and uses_colours(facts) and any(each.kind == NUMBERS for each in facts):
        facts = gather(pairs, True, progress)  # a colour image among them: a grey one means its colours, too
    whole = [each for each in facts if each.whole]
    if not whole:
        faults = [fault for each in facts for fault in each.faults]
        raise InputError(faults[0] if faults else f"no picture in {layout.images} has a mask")
    encoding = decide(whole, classes, colours, choices.void)
    report = Report(
        facts, Manifest(str(layout.images.absolute()), str(layout.masks.absolute()), encoding, {})
    )
    report.manifest.max_size, report.manifest.resize_masks = choices.max_size, choices.resize_masks
    usable = _usable(report, whole, encoding, choices)
    _part(report, usable, layout, choices)
    _count(report)
    _look_at_pairs(report, choices)
    _look_at_palettes(report)
    _look_at_classes(report)
    _look_at_sizes(report, usable, choices)
    return report


def _usable(report: Report, whole: Sequence[Facts], encoding: Encoding, choices: Choices) -> list[Facts]:
    """The pairs that can be trained on; what is wrong with the others goes into the report."""
    known = encoding.labels()
    usable, odd, strange = [], [], defaultdict(list)
    for each in whole:
        unknown = [key for key in each.pixels if key not in known]
        if unknown:
            strange[unknown[0]].append(each.pair.name)
        elif not each.same_size and not choices.resize_masks:
            odd.append(each)
        else:
            usable.append(each)
    tell = report.warnings if choices.skip_bad else report.errors
    for key, names in strange.items():
        tell.append(
            f"{len(names)} masks hold {shown(key, encoding.kind)}, which is no class ({_some(names)}); the classes are "
            f"{_some([f'{shown(k, encoding.kind)} {n}' for k, n in zip(encoding.keys, encoding.classes)], 6)}"
        )
    if odd:
        first = odd[0]
        assert first.size and first.mask_size
        sizes = (
            f"{first.mask_size[0]} x {first.mask_size[1]} for a picture of {first.size[0]} x {first.size[1]}"
        )
        tell.append(
            f"{len(odd)} masks have another size than their pictures: {first.pair.mask} is {sizes}; --resize-masks "
            f"scales them ({_some([each.pair.name for each in odd])})"
        )
    if not usable:
        raise InputError((report.errors + report.warnings)[0])
    return usable


def _part(report: Report, usable: Sequence[Facts], layout: Layout, choices: Choices) -> None:
    """Decide which pictures are trained on and which validated on."""
    by_name = {each.pair.name: each for each in usable}
    train, val = _listed(report, by_name, layout, choices)
    manifest = report.manifest
    roots = Path(manifest.images), Path(manifest.masks)
    for part, names in (("train", train), ("val", val)):
        rows = []
        for name in names:
            pair = by_name[name].pair
            assert pair.image is not None and pair.mask is not None
            rows.append(
                (name, relative(pair.image.absolute(), roots[0]), relative(pair.mask.absolute(), roots[1]))
            )
        manifest.parts[part] = rows
    manifest.turned = [name for name, each in by_name.items() if each.turned]
    sides = {name: part for part, rows in manifest.parts.items() for name, *_ in rows}
    seen: dict[str, str] = {}
    for name, side in sides.items():
        other = seen.setdefault(by_name[name].digest, name)
        if sides[other] != side:
            report.errors.append(
                f"{other} and {name} are the same picture, one to train on, one to validate on"
            )
    if not train:
        report.errors.append("no picture is left to train on")


def _listed(
    report: Report, by_name: dict[str, Facts], layout: Layout, choices: Choices
) -> tuple[list[str], list[str]]:
    """Names to train and to validate on: by lists, by folders called train and val, or drawn."""
    train_list = choices.train_list or layout.lists.get("train")
    val_list = choices.val_list or layout.lists.get("val")
    if train_list is not None or val_list is not None:
        lists = [None if path is None else read_names(path) for path in (train_list, val_list)]
        every = {each.pair.name for each in report.facts}
        for path, names in zip((train_list, val_list), lists):
            lost = [name for name in names or () if name not in every]
            if lost:
                report.errors.append(f"{path} lists {_some(lost)}, but no picture has that name")
        val = [name for name in lists[1] or () if name in by_name]
        train = (
            [name for name in lists[0] if name in by_name]
            if lists[0] is not None
            else sorted(by_name.keys() - val)
        )
        both = sorted(set(train) & set(val))
        if both:
            report.errors.append(f"{_some(both)} is listed both to train on and to validate on")
        return list(dict.fromkeys(train)), [name for name in dict.fromkeys(val) if name not in set(train)]
    tops = {name.split("/")[0].lower() for name in by_name}
    if tops & set(TRAIN) and tops & set(VAL) and tops <= {*TRAIN, *VAL}:
        train = sorted(name for name in by_name if name.split("/")[0].lower() in TRAIN)
        return train, sorted(by_name.keys() - train)
    known = report.manifest.encoding.labels()
    shows = {n: {known[key] for key in each.pixels} - {IGNORE} for n, each in by_name.items()}
    return parted(list(by_name.values()), shows, choices.val_share, choices.seed)


def _count(report: Report) -> None:
    """Count pixels and images of each label in each part."""
    known = report.manifest.encoding.labels()
    by_name = {each.pair.name: each for each in report.facts}
    for part, rows in report.manifest.parts.items():
        report.pixels[part], report.images[part] = Counter(), Counter()
        for name, *_ in rows:
            labels: Counter[int] = Counter()
            for key, number in by_name[name].pixels.items():
                labels[known[key]] += number
            report.pixels[part].update(labels)
            report.images[part].update(labels.keys())


def _look_at_pairs(report: Report, choices: Choices) -> None:
    faults = [fault for each in report.facts for fault in each.faults]
    (report.warnings if choices.skip_bad else report.errors).extend(faults)
    bare = [each.pair.name for each in report.facts if each.pair.mask is None]
    lone = [each.pair.name for each in report.facts if each.pair.image is None]
    if bare:
        tell = report.errors if len(bare) > len(report.facts) / 2 else report.warnings
        tell.append(f"{len(bare)} pictures have no mask and are left out ({_some(bare)})")
    if lone:
        report.warnings.append(f"{len(lone)} masks have no picture and are left out ({_some(lone)})")


def _look_at_palettes(report: Report) -> None:
    """Palettes that give one value two colours: then values are no class numbers."""
    if report.manifest.encoding.kind == COLOURS:
        return
    seen: dict[int, tuple[int, str]] = {}
    for each in report.facts:
        for value, colour in (each.palette or {}).items():
            first, name = seen.setdefault(value, (colour, each.pair.name))
            if first != colour:
                report.errors.append(
                    f"the palettes disagree: the value {value} is #{first:06x} in {name} but #{colour:06x} in "
                    f"{each.pair.name}, so the values are no class numbers; --colors FILE reads the colours instead"
                )
                return


def _look_at_classes(report: Report) -> None:
    names = report.manifest.encoding.classes
    total = sum(report.pixels.values(), Counter[int]())
    present = [k for k in range(len(names)) if total[k]]
    if len(present) < 2:
        only = names[present[0]] if present else "void"
        report.errors.append(
            f"every pixel that counts is '{only}': {_lacking(report)}there is nothing to tell apart"
        )
        return
    empty = [name for k, name in enumerate(names) if not total[k]]
    if empty:
        report.warnings.append(f"no mask has a pixel of {_some(empty, 6)}")
    for part, other in (("train", "val"), ("val", "train")):
        missing = [names[k] for k in present if report.pixels[other][k] and not report.pixels[part][k]]
        if missing and report.manifest.parts[part]:
            report.warnings.append(f"{_some(missing, 6)} is in no picture of {part}, but in some of {other}")
    if not report.manifest.parts["val"]:
        report.warnings.append("no picture is left to validate on")
    if total[IGNORE] > 0.9 * total.total():
        report.warnings.append(f"{100 * total[IGNORE] / total.total():.0f} % of all pixels are void")


def _lacking(report: Report) -> str:
    """Why a class may be missing, where the values tell."""
    encoding = report.manifest.encoding
    values = {key for each in report.facts for key in each.pixels}
    empty = [name for name, key in zip(encoding.classes, encoding.keys) if key not in values]
    told = f"no mask has a pixel of {_some(empty)}; " if empty else ""
    if encoding.kind == NUMBERS and IGNORE in values and IGNORE in encoding.void:
        told += f"the masks hold {_some(sorted(map(str, values)))}, and 255 is void (--void none makes it a class); "
    return told


def _look_at_sizes(report: Report, usable: Sequence[Facts], choices: Choices) -> None:
    large = [each for each in usable if each.size and max(each.size) > LARGE]
    if large and not choices.max_size:
        report.warnings.append(
            f"{len(large)} pictures are over {LARGE} pixels wide or high, which takes long; --max-size 800 scales them "
            f"down ({_some([each.pair.name for each in large])})"
        )


def _figures(report: Report) -> list[str]:
    sizes = [each.size for each in report.facts if each.size]
    rows = [
        ("pictures", str(sum(each.pair.image is not None for each in report.facts))),
        (
            "with masks",
            str(sum(each.pair.image is not None and each.pair.mask is not None for each in report.facts)),
        ),
        ("usable", ", ".join(f"{len(rows)} {part}" for part, rows in report.manifest.parts.items())),
    ]
    if sizes:
        low, high = (tuple(f(side) for side in zip(*sizes)) for f in (min, max))
        one = f"{low[0]} x {low[1]}"
        rows.append(("size", one if low == high else f"{one} to {high[0]} x {high[1]}"))
    rows.append(("masks hold", report.manifest.encoding.kind))
    return [f"{name:<12}{value}" for name, value in rows]


def _class_table(report: Report) -> list[str]:
    encoding = report.manifest.encoding
    total = sum(report.pixels.values(), Counter[int]())
    all_pixels = max(1, total.total())
    labels = [*enumerate(encoding.classes), *([(IGNORE, "(void)")] if total[IGNORE] else [])]
    rows = []
    for k, name in labels:
        key = shown(encoding.keys[k], encoding.kind) if k < len(encoding.keys) else ""
        images = [str(report.images[part][k]) for part in ("train", "val")]
        rows.append([name, key, f"{100 * total[k] / all_pixels:.2f} %", *images])
    return headed(["class", "in masks", "pixels", "train pictures", "val pictures"], rows, left=2)


def _some(names: Iterable[object], most: int = 3) -> str:
    shown_names = list(map(str, names))
    return ", ".join(shown_names[:most]) + (", ..." if shown_names[most:] else "")
