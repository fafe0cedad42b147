"""SIFT Flow (Liu et al., 2009; labels of Tighe and Lazebnik, ECCV 2010): 256 x 256 outdoor scenes.

Each has two labels: semantic (33 classes) and geometric (sky, horizontal, vertical).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fcnlite.data.classes import SIFTFLOW, SIFTFLOW_GEOMETRIC
from fcnlite.data.dataset import Dataset, Sample, as_blob, preprocess
from fcnlite.data.files import Folder, check_label, missing_folder, read_image, read_list, same_size
from fcnlite.data.mat import read_matrix

INNER = "spatial_envelope_256x256_static_8outdoorcategories"
# The test set has no pixel of these, so the data set's evaluation leaves them out.
ABSENT = tuple(SIFTFLOW.index(name) for name in ("cow", "desert", "moon"))
HOW_TO_GET = (
    "fetch it with `fcnlite download siftflow`, or get "
    "http://www.cs.unc.edu/~jtighe/Papers/ECCV10/siftflow/SiftFlowDataset.zip, and trainval.txt and "
    "test.txt from data/sift-flow of github.com/shelhamer/fcn.berkeleyvision.org"
)


class SIFTFlow(Dataset):
    """One split of SIFT Flow.

    Parameters
    ----------
    folder : path
        With SPLIT.txt and Images, SemanticLabels, GeoLabels, each holding the data set's one folder of files.
    split : str
        trainval or test, or another list.
    check : bool
        Look for every listed file now.

    Notes
    -----
    Semantic labels are 0 .. 32 in `Sample.label`, geometric ones 0 .. 2 in `others["geo"]`, both 255 where
    void (0 in the files; geometric also -1). Blobs: "data", "sem", "geo".
    """

    mean_bgr = np.array((114.578, 115.294, 108.353), np.float32)
    background = None
    not_scored = ABSENT

    def __init__(self, folder: str | os.PathLike, split: str = "trainval", *, check: bool = True) -> None:
        self.folder = Path(folder)
        self.split = split
        self.classes = SIFTFLOW
        parts = [self.folder / part / INNER for part in ("Images", "SemanticLabels", "GeoLabels")]
        if not all(part.is_dir() for part in parts):
            raise missing_folder("SIFT Flow data", parts, HOW_TO_GET)
        path = self.folder / f"{split}.txt"
        self.names = read_list(path)
        self._images = Folder(parts[0], (".jpg",))
        self._semantic = Folder(parts[1], (".mat",))
        self._geometric = Folder(parts[2], (".mat",))
        if check:
            for held, what in (
                (self._images, "image"),
                (self._semantic, "label"),
                (self._geometric, "label"),
            ):
                held.require(self.names, what, path)

    @property
    def heads(self) -> dict[str, tuple[str, ...]]:
        return {"sem": self.classes, "geo": SIFTFLOW_GEOMETRIC}

    def load(self, name: str) -> Sample:
        image_path = self._images.path / f"{name}.jpg"
        image = read_image(image_path)
        maps = []
        for folder, classes in ((self._semantic, SIFTFLOW), (self._geometric, SIFTFLOW_GEOMETRIC)):
            path = folder.path / f"{name}.mat"
            raw = read_matrix(path, "S")
            if folder is self._geometric:
                raw = np.where(raw == -1, 0, raw)
            label = check_label(raw, path, len(classes) + 1, 0) - np.uint8(1)  # void 0 becomes 255
            same_size(image, label, image_path, path)
            maps.append(label)
        return Sample(name, image, maps[0], {"geo": maps[1]})

    def blobs(self, index: int) -> dict[str, np.ndarray]:
        sample = self[index]
        data = preprocess(sample.image, self.mean_bgr, self.scale)
        return {"data": data, "sem": as_blob(sample.label), "geo": as_blob(sample.others["geo"])}
