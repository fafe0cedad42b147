"""Several processes under mpiexec against one."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cases
import mpi
import numpy as np
import parallel_cases
import pytest

from fcnlite import device
from fcnlite.backend.host import HostBackend

# In double precision another order of sums moves the weights by 1e-15; in single precision a maximum or a sign of L1
# decay may come out otherwise after it, as it does in one process that is given an update's images in another order.
BOUNDS = {"double": 1e-11, "exact": 0.0}


@cache
def alone(case: str, kind: str) -> dict[str, np.ndarray]:
    """What one process comes to."""
    with device.using(HostBackend(np.dtype(np.float64 if kind == "double" else np.float32))):
        return parallel_cases.train(case)


@pytest.fixture(scope="module", params=[(2, "double"), (3, "exact")], ids=str)
def trained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, int, str]:
    ranks, kind = request.param
    folder = tmp_path_factory.mktemp("trained")
    done = mpi.run(ranks, [Path(parallel_cases.__file__), folder, kind], folder)
    assert done.returncode == 0, done.stderr
    return folder, ranks, kind


@pytest.mark.parametrize("case", parallel_cases.CHOSEN)
def test_processes_together_train_as_one(trained: tuple[Path, int, str], case: str) -> None:
    folder, ranks, kind = trained
    expected = alone(case, kind)
    for rank in range(ranks):
        with np.load(folder / f"{case}-{kind}-{ranks}-{rank}.npz") as found:
            assert sorted(found) == sorted(expected)
            assert np.array_equal(found["masks"], expected["masks"])
            for name, values in expected.items():
                assert cases.relative_error(found[name], values) <= BOUNDS[kind], (rank, name)
