"""Where tests find real VOC photographs; they are not part of the project, and tests that need them skip elsewhere."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FOLDER = Path(os.environ.get("FCNLITE_VOC") or Path(__file__).parents[2] / "shared" / "voc-mini")
needed = pytest.mark.skipif(
    not (FOLDER / "JPEGImages").is_dir(),
    reason=f"no VOC photographs at {FOLDER}; set FCNLITE_VOC to a VOC folder",
)


def load(name: str) -> tuple[np.ndarray, np.ndarray]:
    """One photograph: data (1, 3, H, W) BGR minus the mean, and label (1, 1, H, W), both float32."""
    image = np.asarray(Image.open(FOLDER / "JPEGImages" / f"{name}.jpg").convert("RGB"))
    label = np.asarray(Image.open(FOLDER / "SegmentationClass" / f"{name}.png"))
    data = image[:, :, ::-1].astype(np.float32) - np.array((104.00699, 116.66877, 122.67892), np.float32)
    return np.ascontiguousarray(data.transpose(2, 0, 1)[None]), label[None, None].astype(np.float32)
