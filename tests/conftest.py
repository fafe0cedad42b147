"""Every test file starts on the CPU in float32, whatever device an earlier one in the same process has left."""

from collections.abc import Iterator

import numpy as np
import pytest

from fcnlite import device


@pytest.fixture(autouse=True, scope="module")
def on_the_cpu() -> Iterator[None]:
    """Choose the CPU again where something else is in use; the first choice is left to whoever needs a device."""
    backend = device._current
    if backend is not None and (backend.name != "cpu" or backend.dtype != np.float32):
        device.use("cpu")
    yield
