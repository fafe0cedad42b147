"""Every layer against what Caffe computed for it: outputs, gradients of inputs and of parameters."""

import cases
import h5py
import pytest

BOUND = 1e-5


@pytest.mark.parametrize("case", cases.names("layers.h5"))
def test_layer_gives_caffes_numbers(case):
    with h5py.File(cases.REFERENCE / "layers.h5") as file:
        group = file[case]
        net = cases.build(case, group)
        cases.run(case, net)
        errors = cases.compare(net, group, BOUND)
    worst = max(errors, key=errors.get)
    print(f"{case}: worst {errors[worst]:.1e} at {worst}")
