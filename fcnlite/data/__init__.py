"""Data sets as sequences of samples (name, image, label), in the image order of the original experiments.

They are read from their true on-disk formats; `Batches` makes of them what feeds a net.

>>> data = open_dataset("voc", "VOCdevkit/VOC2012", "val")      # doctest: +SKIP
>>> data[0].image.shape, data.classes[1]                        # doctest: +SKIP
((366, 500, 3), 'aeroplane')
>>> for blobs in Batches(data, count=len(data)):                # doctest: +SKIP
...     net.forward(**blobs)
"""

from __future__ import annotations

from fcnlite.data.batches import Batches, Prefetch
from fcnlite.data.catalogue import SPLITS, open_dataset
from fcnlite.data.cues import HIDE, Masked
from fcnlite.data.dataset import IGNORE, MEAN_BGR, Dataset, Sample, preprocess
from fcnlite.data.files import read_image, read_label, read_photo
from fcnlite.data.nyud import NYUD
from fcnlite.data.order import ImageOrder
from fcnlite.data.palette import voc_palette
from fcnlite.data.pascalcontext import PASCALContext
from fcnlite.data.python_layers import is_data_layer, open_data_layer
from fcnlite.data.sbd import SBD
from fcnlite.data.shapes import open_shapes
from fcnlite.data.siftflow import SIFTFlow
from fcnlite.data.voc import VOC, seg11valid

__all__ = [
    "HIDE",
    "IGNORE",
    "MEAN_BGR",
    "Masked",
    "NYUD",
    "SBD",
    "SPLITS",
    "VOC",
    "Batches",
    "Dataset",
    "ImageOrder",
    "PASCALContext",
    "Prefetch",
    "SIFTFlow",
    "Sample",
    "is_data_layer",
    "open_data_layer",
    "open_dataset",
    "open_shapes",
    "preprocess",
    "read_image",
    "read_label",
    "read_photo",
    "seg11valid",
    "voc_palette",
]
