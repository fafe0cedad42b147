"""Pictures and masks of one's own, in the forms that people have: found, understood, checked, parted and read.

>>> from fcnlite.data import folder
>>> report = folder.inspect(folder.locate(images="photos", masks="masks"))     # doctest: +SKIP
>>> print(report)                                                             # doctest: +SKIP
"""

from __future__ import annotations

from fcnlite.data.folder.check import Choices, Report, inspect
from fcnlite.data.folder.dataset import MANIFEST, Manifest, OwnPictures
from fcnlite.data.folder.export import write_voc
from fcnlite.data.folder.layout import Layout, Pair, find_pairs, locate

__all__ = [
    "MANIFEST",
    "Choices",
    "Layout",
    "Manifest",
    "OwnPictures",
    "Pair",
    "Report",
    "find_pairs",
    "inspect",
    "locate",
    "write_voc",
]
