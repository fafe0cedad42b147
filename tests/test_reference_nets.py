"""The paper's nets, narrow, against what Caffe computed: blobs, gradients of blobs and of parameters."""

import cases
import h5py
import pytest

BOUND = 5e-5


@pytest.mark.parametrize("case", cases.names("nets.h5"))
def test_net_gives_caffes_numbers(case):
    with h5py.File(cases.REFERENCE / "nets.h5") as file:
        group = file[case]
        net = cases.build(case, group)
        cases.run(case, net)
        errors = cases.compare(net, group, BOUND)
    worst = max(errors, key=errors.get)
    print(f"{case}: worst {errors[worst]:.1e} at {worst}")
