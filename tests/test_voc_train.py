"""Training on photographs through the train command: Caffe's numbers at full size, and that a narrow net learns."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import cases
import h5py
import numpy as np
import photos
import pytest
from cases import rule
from commands import ends, log

from fcnlite import convolutionalise, models
from fcnlite.commands.train import main
from fcnlite.io import iter_weights, write_weights

CASE = "full-fcn32s-voc"


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards: pytest would keep gigabytes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def by_rule() -> dict[str, list[np.ndarray]]:
    """The reference run's initial parameters."""
    params = convolutionalise.fresh(models.build("fcn32s"))
    for layer, arrays in params.items():
        for i, array in enumerate(arrays):
            up = layer.startswith("up")
            arrays[i] = rule.bilinear(array.shape) if up else rule.weight(CASE, layer, i, array.shape)
    return params


def sampled(array: np.ndarray) -> np.ndarray:
    """The elements that the reference file stores, in double."""
    flat = array.ravel()
    return flat[:: max(1, flat.size // 257)][:257].astype(np.float64)


@photos.needed
def test_full_size_fcn32s_learns_as_in_caffe(scratch: Path) -> None:
    """Six heavy iterations over four photographs: losses within 1e-4, parameter changes within 5e-2.

    The changes are so small that one unit in a bias's last place is 4e-2 of them.
    """
    params = by_rule()
    before = {layer: [sampled(array) for array in arrays] for layer, arrays in params.items()}
    write_weights(scratch / "rule.h5", params)
    del params
    options = ["--init", scratch / "rule.h5", "--lr", "1e-12", "--iterations", 6, "--order", "file"]
    options += ["--seed", 1701, "--validate", 0, "--out", scratch / "run"]
    assert ends(main, ["voc", "--data", photos.FOLDER, "--net", "fcn32s", *options]) == 0

    with h5py.File(cases.REFERENCE / "voc-train.h5") as file:
        group = file[CASE]
        losses = np.array([record["loss"] for record in log(scratch / "run")])
        errors = np.abs(losses / group["loss"][()] - 1)
        assert errors.max() <= cases.loss_bound(1e-4), f"losses {losses}, relative errors {errors}"
        worst: dict[str, float] = {}
        for layer, arrays in iter_weights(scratch / "run" / "fcn32s.h5"):
            for i, array in enumerate(arrays):
                expected = group["params"][layer][str(i)][()] - before[layer][i]
                change = sampled(array) - before[layer][i]
                worst[f"{layer}/{i}"] = np.abs(change - expected).max() / (np.abs(expected).max() or 1)
        print({name: f"{error:.1e}" for name, error in sorted(worst.items(), key=lambda item: -item[1])})
        assert len(worst) == 33 and max(worst.values()) <= 5e-2, worst
