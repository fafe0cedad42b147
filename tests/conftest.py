"""Every test file starts in float32 on the CPU, whatever device an earlier one in the same process has left; those that
compare with Caffe start on the device that $FCNLITE_DEVICE names. Properties are checked on the same examples in
every run.
"""

import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import settings

from fcnlite import device
from fcnlite.backend.host import HostBackend

ON_ANY_DEVICE = ("test_reference_", "test_voc_train")

# The same examples in every run; `pytest --hypothesis-profile=default` looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)  # machines are shared
settings.load_profile("repeatable")


@pytest.fixture(autouse=True, scope="module")
def start_on(request: pytest.FixtureRequest) -> Iterator[None]:
    """Choose the device again where another is in use; the first choice is left to whoever needs one."""
    anywhere = request.module.__name__.startswith(ON_ANY_DEVICE)
    wanted = os.environ.get("FCNLITE_DEVICE", "cpu") if anywhere else "cpu"
    backend = device._current
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FCNLITE_DEVICE", wanted)
        if backend is not None and not (backend.name.startswith(wanted) and backend.dtype == np.float32):
            device.use(wanted)
        yield


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_works() -> Iterator[None]:
    """Give SIGINT its default meaning where it is ignored, as under nohup, for tests and their children alike."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def small_disk() -> Iterator[None]:
    """While a test runs, no file grows beyond 2000 bytes: what a full disk does to whoever writes."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def double() -> Iterator[None]:
    """The CPU in double precision."""
    with device.using(HostBackend(np.dtype(np.float64))):
        yield
