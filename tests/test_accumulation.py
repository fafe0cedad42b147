"""The gradients of an update's passes against sums of each pass by itself."""

from __future__ import annotations

from collections.abc import Iterator

import cases
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcnlite import accumulation, device
from fcnlite.accumulation import Accumulation
from fcnlite.net import Net

# Two layers share a weight of 18 numbers; the last one's has 150.
NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 2 dim: 6 dim: 6 } } }
layer { name: "one" type: "Convolution" bottom: "data" top: "one" param { name: "w" } param { name: "b" }
  convolution_param { num_output: 2 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "two" type: "Convolution" bottom: "one" top: "two" param { name: "w" } param { name: "b" }
  convolution_param { num_output: 2 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "sums" type: "InnerProduct" bottom: "two" top: "sums"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "sums" bottom: "target" top: "loss" }
""".replace(
    "layer",
    'layer { name: "target" type: "Input" top: "target" input_param { shape { dim: 2 dim: 3 } } }\nlayer',
    1,
)
SIZES = {"one": (36, 2), "sums": (216, 3)}  # of weights and biases, in numbers


def inputs(count: int) -> Iterator[dict[str, np.ndarray]]:
    draws = np.random.default_rng(count)
    for _ in range(count):
        yield {"data": draws.standard_normal((2, 2, 6, 6)), "target": draws.standard_normal((2, 3))}


@settings(max_examples=10, deadline=None)
@given(count=st.integers(1, 7), limit=st.integers(1, 300))
def test_small_gradients_are_added_in_the_order_of_passes(count: int, limit: int) -> None:
    """Parameters of at most so many numbers have the bits of passes added one after another, others the same sums."""
    net = Net(NET, phase="TRAIN")
    sums = {}
    for item in inputs(count):
        net.clear_param_diffs()
        net.forward_backward(**item)
        for param in net.learnable_params:
            sums[param.blob] = (
                sums[param.blob] + param.blob.diff if param.blob in sums else param.blob.diff.copy()
            )
    net.clear_param_diffs()
    together, given_items = Accumulation(net), inputs(count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            accumulation, "IN_ORDER_BYTES", limit * count * np.dtype(device.current().dtype).itemsize
        )
        losses = together.run(lambda: next(given_items), count, False)
    assert len(losses) == count
    for blob, expected in sums.items():
        assert cases.relative_error(blob.diff, expected) <= (0 if blob.count <= limit else 1e-5)
    assert sorted({blob.count for blob in sums}) == sorted(size for sizes in SIZES.values() for size in sizes)
