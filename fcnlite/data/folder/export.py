"""Writes pictures of one's own as a folder in VOC's layout."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from fcnlite.data.folder.dataset import Manifest, OwnPictures
from fcnlite.data.palette import voc_palette
from fcnlite.errors import InputError
from fcnlite.io.atomic import atomic_buffer, write_text
from fcnlite.progress import progress_bar


def write_voc(manifest_path: Path, manifest: Manifest, folder: Path) -> int:
    """Write a manifest's pictures as JPEGImages, SegmentationClass, ImageSets/Segmentation and classes.txt.

    Parameters
    ----------
    manifest_path : Path
        The manifest's file.
    manifest : Manifest
    folder : Path
        New or empty.

    Returns
    -------
    int
        Pictures written. They are PNG files, without loss.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} holds other files; name a new or empty folder")
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True, exist_ok=True)
    number = 0
    for part, rows in manifest.parts.items():
        if not rows:
            continue
        dataset = OwnPictures(manifest_path, part)
        written = [_without_spaces(name) for name in dataset.names]
        if len(set(written)) < len(written):
            raise InputError(
                f"{manifest.images}: two names differ in spaces only, which VOC's lists cannot tell apart"
            )
        for name, plain in zip(progress_bar(dataset.names, desc=part, unit="image", leave=False), written):
            sample = dataset.load(name)
            _write(folder / "JPEGImages" / f"{plain}.png", Image.fromarray(sample.image))
            label = Image.fromarray(sample.label)
            label.putpalette(voc_palette().tobytes())
            _write(folder / "SegmentationClass" / f"{plain}.png", label)
            number += 1
        write_text(lists / f"{part}.txt", "".join(f"{name}\n" for name in written))
    write_text(folder / "classes.txt", "".join(f"{name}\n" for name in manifest.encoding.classes))
    return number


def _without_spaces(name: str) -> str:
    """A name as a list of VOC's can hold it, whose columns are parted by spaces."""
    return "_".join(name.split())


def _write(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_buffer(path) as buffer:
        image.save(buffer, format="PNG")
