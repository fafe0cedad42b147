"""The number of processes that a launcher such as mpiexec has started, known without MPI."""

from __future__ import annotations

import os

# Variables with the number of processes and of this one: of MPICH (also Slurm's pmi2), and of Open MPI.
_VARIABLES = (("PMI_SIZE", "PMI_RANK"), ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"))


def launched() -> tuple[int, int]:
    """Number of processes, and of this one from 0; (1, 0) without a launcher."""
    for size, rank in _VARIABLES:
        if os.environ.get(size, "").isdecimal() and os.environ.get(rank, "").isdecimal():
            return int(os.environ[size]), int(os.environ[rank])
    return 1, 0


def unconnected() -> int:
    """Number of processes that Slurm has started without telling them of each other; 1 if that is not so."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    return int(tasks) if launched()[0] == 1 and tasks.isdecimal() else 1
