"""Data sets: sequences of samples (name, image, label) read from their true on-disk formats, the image order
of the original experiments, and the batches that feed a net."""

from fcnlite.data.batches import Batches, Prefetch
from fcnlite.data.dataset import IGNORE, MEAN_BGR, Dataset, Sample, preprocess
from fcnlite.data.files import read_image, read_label
from fcnlite.data.order import ImageOrder
from fcnlite.data.palette import voc_palette
from fcnlite.data.sbd import SBD
from fcnlite.data.shapes import open_shapes
from fcnlite.data.voc import VOC, seg11valid

__all__ = [
    "IGNORE",
    "MEAN_BGR",
    "SBD",
    "VOC",
    "Batches",
    "Dataset",
    "ImageOrder",
    "Prefetch",
    "Sample",
    "open_shapes",
    "preprocess",
    "read_image",
    "read_label",
    "seg11valid",
    "voc_palette",
]
