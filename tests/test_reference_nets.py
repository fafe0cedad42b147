"""The paper's nets, narrow, against what Caffe computed: blobs, gradients of blobs and of parameters."""

import cases
import pytest

BOUND = 5e-5


@pytest.mark.parametrize("case", cases.names("nets.h5"))
def test_net_gives_caffes_numbers(case):
    cases.check("nets.h5", case, BOUND)
