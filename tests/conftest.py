"""Every test file starts on the CPU in float32, whatever device an earlier one in its process has left, and properties
are checked on the same examples in every run."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import settings

from fcnlite import device

# The same examples in every run; `pytest --hypothesis-profile=default` looks for new ones.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True, scope="module")
def on_the_cpu() -> Iterator[None]:
    """Choose the CPU again where something else is in use; the first choice is left to whoever needs a device."""
    backend = device._current
    if backend is not None and (backend.name != "cpu" or backend.dtype != np.float32):
        device.use("cpu")
    yield
