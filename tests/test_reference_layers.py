"""Every layer against what Caffe computed for it: outputs, gradients of inputs and of parameters."""

import cases
import pytest

BOUND = 1e-5


@pytest.mark.parametrize("case", cases.names("layers.h5"))
def test_layer_gives_caffes_numbers(case):
    cases.check("layers.h5", case, BOUND)
