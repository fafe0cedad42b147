"""Nets: a NetParameter brought to life (`core`), and the same as something that segments pictures (`segmenter`)."""

from __future__ import annotations

from fcnlite.net.core import Net
from fcnlite.net.parameters import LearnableParam
from fcnlite.net.segmentation import Segmentation
from fcnlite.net.segmenter import Segmenter, argmax_channels, load, segment

__all__ = ["LearnableParam", "Net", "Segmentation", "Segmenter", "argmax_channels", "load", "segment"]
