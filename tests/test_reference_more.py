"""Every type of layer of Caffe 1.0 that computes, against what Caffe computed: 332 layers and small graphs."""

import shutil

import cases
import h5py
import numpy as np
import pytest
import rule

import fcnlite.random
from fcnlite import device
from fcnlite.net import Net

BOUND = 1e-5
# Caffe's gradient of an in-place Power with power 1 is (scale * power)^2 whatever arrives: its own bug.
SKIPPED = {"more-in-place-power"}


@pytest.mark.parametrize("case", sorted(set(cases.names("more-layers.h5")) - SKIPPED))
def test_layer_gives_caffes_numbers(case):
    cases.check("more-layers.h5", case, BOUND)


DATA = "more-data.h5"


def feed(case: str, group, net: Net, number: int) -> None:
    """Give the case's inputs the values of one forward pass."""
    for name in net.inputs:
        shape = net.blobs[name].shape
        if name.startswith("label"):
            values = rule.label(case, name, shape, int(group.attrs["classes"]), number)
        else:
            values = rule.image(case, name, shape, number) * np.float32(group.attrs["input_scale"])
        net.blobs[name].data[...] = device.current().asarray(values)


@pytest.mark.parametrize("case", cases.names(DATA))
def test_data_layer_gives_caffes_numbers(case, tmp_path, monkeypatch):
    shutil.copytree(cases.REFERENCE / "image-data", tmp_path / "image-data")
    monkeypatch.chdir(tmp_path)
    with h5py.File(cases.REFERENCE / DATA) as file:
        group = file[case]
        fcnlite.random.set_random_seed(int(group.attrs.get("random_seed", 0)))
        net = Net(group.attrs["prototxt"], group.attrs["phase"])
        cases.fill_params(case, net)
        for number in range(int(group.attrs["forwards"])):
            feed(case, group, net, number)
            net.forward()
            for name, expected in group.get(f"forward{number}", {}).items():
                assert cases.relative_error(net.blobs[name].data, expected[()]) <= BOUND, f"{number}, {name}"
        if "written" in group:
            with h5py.File(group.attrs["written"]) as written:
                assert set(written) == set(group["written"])
                for name, expected in group["written"].items():
                    assert cases.relative_error(written[name][()], expected[()]) == 0
