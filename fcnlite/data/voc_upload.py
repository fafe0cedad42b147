"""The archive that PASCAL VOC's evaluation server takes: predictions for a test set, in folders of set names."""

from __future__ import annotations

import gzip
import re
import tarfile
from pathlib import Path

from fcnlite.data.dataset import Dataset
from fcnlite.data.voc import VOC
from fcnlite.errors import InputError
from fcnlite.io import atomic_path

# Segmentation trained on VOC's own training images alone, or on any but the test images.
COMPETITIONS = ("comp5", "comp6")
ARCHIVE = "results.tar.gz"


def year_of(dataset: Dataset) -> str:
    """The year at the end of a data set's folder, "2012" of VOC2012; "" if there is none."""
    found = re.search(r"20\d\d$", dataset.folder.resolve().name)
    return found[0] if found else ""


def segmentation_folder(root: Path, dataset: Dataset, competition: str = "comp6") -> Path:
    """Where the server looks for a test set's predictions, ID.png each, below a folder to be packed.

    Parameters
    ----------
    root : path
        The folder to hand in.
    dataset : Dataset
        A split of VOC 2011 or 2012, in a folder that says which (VOC2012).
    competition : str
        comp5 or comp6.

    Raises
    ------
    InputError
        The data set is another one, or its folder does not say the year.
    """
    year = year_of(dataset)
    if not isinstance(dataset, VOC) or not year:
        raise InputError(
            f"--upload is for VOC's test sets, in a folder named VOC2011 or VOC2012, not {dataset.folder}"
        )
    return root / "results" / f"VOC{year}" / "Segmentation" / f"{competition}_{dataset.split}_cls"


def pack(root: Path) -> Path:
    """Write root/results.tar.gz from root/results; the same predictions always give the same bytes."""
    archive = root / ARCHIVE
    with (
        atomic_path(archive) as temporary,
        open(temporary, "wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for path in sorted((root / "results").rglob("*.png")):
            entry = tarfile.TarInfo(path.relative_to(root).as_posix())
            entry.size, entry.mode = path.stat().st_size, 0o644
            with open(path, "rb") as content:
                tar.addfile(entry, content)
    return archive
