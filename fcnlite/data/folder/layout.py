"""Finds pictures and masks as people keep them: two folders, one folder holding both, or VOC's layout."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fcnlite.data.files import read_list
from fcnlite.data.voc import read_classes
from fcnlite.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")
# Names of the two folders, in the order in which they are looked for; upper and lower case count alike.
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "photos", "pictures")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations", "segmentationclass", "gt", "ground_truth")
# What a mask's name may have beside its picture's.
ENDINGS = ("", "_mask", "-mask", ".mask", "_masks", "_label", "_labels", "_gt", "_seg", "_segmentation")
BEGINNINGS = ("mask_", "mask-", "label_", "gt_")
TRAIN, VAL = ("train", "training"), ("val", "valid", "validation", "test")


@dataclass(frozen=True)
class Pair:
    """A picture and its mask under one name; either is None where it is missing.

    Attributes
    ----------
    name : str
        The picture's path in its folder, without suffix.
    image : Path or None
    mask : Path or None
        An image, a LabelMe file, or the COCO file that covers every picture.
    """

    name: str
    image: Path | None
    mask: Path | None


@dataclass(frozen=True)
class Layout:
    """Where the pictures and the masks are.

    Attributes
    ----------
    images, masks : Path
        Folders; `masks` may be a COCO file.
    classes : tuple of str or None
        Class names of a `classes.txt` found beside them.
    lists : dict of str to Path
        Lists of names found: "train", "val".
    """

    images: Path
    masks: Path
    classes: tuple[str, ...] | None = None
    lists: dict[str, Path] = field(default_factory=dict)


def locate(
    folder: str | os.PathLike[str] | None = None,
    images: str | os.PathLike[str] | None = None,
    masks: str | os.PathLike[str] | None = None,
) -> Layout:
    """Where the pictures and the masks are: as named, or found in one folder.

    Parameters
    ----------
    folder : path, optional
        One that holds both: in folders with common names (images and masks, VOC's JPEGImages and
        SegmentationClass), side by side, or pictures with LabelMe files or a COCO file beside them.
    images, masks : path, optional
        The two, where they are not in one folder; `masks` may name a COCO file.

    Raises
    ------
    FileNotFoundError, InputError
        A folder is missing, or `folder` holds nothing of that kind.
    """
    if folder is not None:
        root = _existing(folder)
        found_images, found_masks = _inside(root)
        images_at = Path(images) if images is not None else found_images
        masks_at = Path(masks) if masks is not None else found_masks
    elif images is None:
        raise InputError("name the pictures: --images DIR, or --data DIR for one folder that holds both")
    else:
        images_at = Path(images)
        masks_at = Path(masks) if masks is not None else images_at
    _existing(images_at)
    if not masks_at.exists():
        raise FileNotFoundError(f"{masks_at}: no such folder of masks")
    if masks_at.is_file() and masks_at.suffix.lower() != ".json":
        raise InputError(f"{masks_at} is a file; name the folder of masks, or a COCO .json")
    root = Path(folder) if folder is not None else images_at.parent
    coco = _coco_in(masks_at)
    return Layout(images_at, coco or masks_at, _classes_near(root, masks_at), _lists_in(root))


def find_pairs(layout: Layout) -> list[Pair]:
    """Pictures and masks brought together by name, sorted; those without a counterpart are among them.

    Raises
    ------
    InputError
        There are no pictures, two of one name, or no mask has a picture's name.
    """
    listed = list(_files(layout.images, SUFFIXES))
    together = layout.images.resolve() == layout.masks.resolve()
    if together:
        masks = _masks_among(listed) | set(_files(layout.images, (".json",)))
        listed = [path for path in listed if path not in masks]
    elif layout.masks.is_file():
        masks = set()
    else:
        masks = set(_files(layout.masks, (*SUFFIXES, ".json")))
    images = _by_name(layout.images, listed, "pictures")
    if not images:
        raise InputError(f"{layout.images} holds no pictures ({', '.join(SUFFIXES)})")
    if layout.masks.is_file():  # COCO
        return [Pair(name, path, layout.masks) for name, path in images.items()]
    named = _by_name(layout.masks, sorted(masks), "masks")
    pairs, left = [], dict(named)
    for name, path in images.items():
        found = next((other for other in _mask_names(name) if other in named), None)
        pairs.append(Pair(name, path, left.pop(found, None) if found is not None else None))
    if not any(pair.mask for pair in pairs):
        shown = f"; the masks are called {next(iter(named))}, ..." if named else ": there are none"
        raise InputError(
            f"no mask in {layout.masks} has the name of a picture in {layout.images}, such as "
            f"{pairs[0].name}, or that name with _mask or the like behind it{shown}"
        )
    return pairs + [Pair(name, None, path) for name, path in sorted(left.items())]


def _existing(folder: str | os.PathLike[str]) -> Path:
    path = Path(folder)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder of pictures")
    return path


def _inside(root: Path) -> tuple[Path, Path]:
    """The folders of pictures and masks in one that holds both; the folder itself where they lie side by side."""
    folders = {path.name.lower(): path for path in sorted(root.iterdir()) if path.is_dir()}
    images = next((folders[name] for name in IMAGE_FOLDERS if name in folders), None)
    masks = next(
        (folders[name] for name in MASK_FOLDERS if name in folders and folders[name] != images), None
    )
    if images is None and masks is None:
        return root, root
    if images is not None and masks is not None:
        return images, masks
    if images is not None:
        return images, root if _coco_in(root) else images
    raise InputError(
        f"{root} holds {masks.name if masks else 'nothing'} but no folder of pictures ({', '.join(IMAGE_FOLDERS)}); "
        "name both with --images DIR --masks DIR"
    )


def _coco_in(path: Path) -> Path | None:
    """A COCO file: the path itself, or the only .json of a folder without other masks that has COCO's keys."""
    from fcnlite.data.folder.coco import looks_like_coco

    if path.is_file():
        return path if path.suffix.lower() == ".json" else None
    found = sorted(path.glob("*.json"))
    return found[0] if len(found) == 1 and looks_like_coco(found[0]) else None


def _classes_near(root: Path, masks: Path) -> tuple[str, ...] | None:
    for place in dict.fromkeys((root, masks, masks.parent)):
        if (place / "classes.txt").is_file():
            return read_classes(place / "classes.txt")
    return None


def _lists_in(root: Path) -> dict[str, Path]:
    places = (root, root / "ImageSets" / "Segmentation", root / "splits")
    found = {}
    for kind in ("train", "val"):
        path = next((p / f"{kind}.txt" for p in places if (p / f"{kind}.txt").is_file()), None)
        if path is not None:
            found[kind] = path
    return found


def read_names(path: str | os.PathLike[str]) -> list[str]:
    """Names of a list, one a line, with or without the pictures' suffix."""
    names = read_list(path)
    return [
        str(Path(name).with_suffix("")) if Path(name).suffix.lower() in SUFFIXES else name for name in names
    ]


def _files(folder: Path, suffixes: Iterable[str]) -> Iterator[Path]:
    """The files of these suffixes in a folder and those below it, sorted; hidden ones are passed over."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and name.lower().endswith(tuple(suffixes)):
                yield Path(place) / name


def _by_name(root: Path, files: Iterable[Path], kind: str) -> dict[str, Path]:
    """Files by their path in a folder without suffix."""
    named: dict[str, Path] = {}
    for path in files:
        name = path.relative_to(root).with_suffix("").as_posix()
        if name in named:
            raise InputError(f"{root} holds two {kind} called {name}: {named[name].name} and {path.name}")
        named[name] = path
    return named


def _mask_names(name: str) -> Iterator[str]:
    """Names that the mask of a picture may have."""
    folder, slash, stem = name.rpartition("/")
    for ending in ENDINGS:
        yield f"{name}{ending}"
    for beginning in BEGINNINGS:
        yield f"{folder}{slash}{beginning}{stem}"


def _masks_among(files: Iterable[Path]) -> set[Path]:
    """The masks among files that lie side by side with pictures: marked by their name, or a .png beside a photo."""
    by_stem: dict[Path, list[Path]] = {}
    for path in files:
        by_stem.setdefault(path.with_suffix(""), []).append(path)
    masks: set[Path] = set()
    for stem, paths in by_stem.items():
        names = [name for name in _mask_names(stem.name) if name != stem.name]
        for name in names:
            masks.update(by_stem.get(stem.with_name(name), ()))
        if len(paths) == 2:  # photo.jpg and photo.png
            drawn = [path for path in paths if path.suffix.lower() == ".png"]
            masks.update(drawn if len(drawn) == 1 else ())
    return masks
