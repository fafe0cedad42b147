"""Several processes under mpiexec against one."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cases
import mpi
import numpy as np
import parallel_cases
import pytest

CASES = cases.names("solvers.h5")


@cache
def alone(case: str) -> dict[str, np.ndarray]:
    return parallel_cases.train(case)


@pytest.fixture(scope="module", params=[(2, "sums"), (3, "sums"), (2, "exact"), (3, "exact")], ids=str)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    ranks, kind = request.param
    folder = tmp_path_factory.mktemp("trained")
    done = mpi.run(ranks, [Path(parallel_cases.__file__), folder, kind], folder)
    assert done.returncode == 0, done.stderr
    return folder, ranks, kind


@pytest.mark.parametrize("case", CASES)
def test_processes_together_train_as_one(trained: tuple[Path, int, str], case: str) -> None:
    folder, ranks, kind = trained
    expected = alone(case)
    for rank in range(ranks):
        with np.load(folder / f"{case}-{kind}-{ranks}-{rank}.npz") as found:
            assert sorted(found) == sorted(expected)
            for name, values in expected.items():
                if kind == "exact" or name == "masks":
                    assert np.array_equal(found[name], values), (rank, name)
                else:
                    assert cases.relative_error(found[name], values) <= 1e-6, (rank, name)
