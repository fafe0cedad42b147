"""Receptive fields against what gradients reach in the net itself."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from fcnlite import geometry, models, proto
from fcnlite.errors import InputError
from fcnlite.net import Net
from fcnlite.netspec import NetSpec
from fcnlite.netspec import layers as L
from fcnlite.netspec import params as P
from fcnlite.receptive_field import PIXEL


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["conv", "max", "ave", "up", "crop"]),
            st.integers(1, 4),
            st.integers(1, 3),
            st.integers(0, 2),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_receptive_fields_are_what_a_net_sees(steps):
    """Against the net itself: the gradient of an output reaches no pixel outside its field.

    Upsampled positions take turns in which inputs they see, so theirs is right to half of the finer step.
    """
    n = NetSpec()
    top = n.data = L.Input(shape={"dim": [1, 1, 17, 17]})
    for kind, kernel, stride, extra in steps:
        if kind == "conv":
            top = L.Convolution(
                top,
                num_output=1,
                kernel_size=kernel,
                stride=stride,
                pad=extra,
                dilation=1 + extra,
                bias_term=False,
            )
        elif kind == "up":
            top = L.Deconvolution(
                top, num_output=1, kernel_size=kernel + stride - 1, stride=stride, bias_term=False
            )
        elif kind == "crop":
            inside = L.Pooling(top, kernel_size=1 + extra, stride=1)
            top = L.Crop(top, inside, offset=[extra])
        else:
            pool = P.Pooling.MAX if kind == "max" else P.Pooling.AVE
            top = L.Pooling(top, pool=pool, kernel_size=kernel, stride=stride, pad=min(extra, kernel - 1))
    n.out = L.ReLU(top)
    param = n.to_proto()
    try:
        field = geometry.measure(param)[-1].field
    except InputError as error:
        assert "too small" in str(error) or "exceed" in str(error) or "crop" in str(error).lower()
        reject()
    measured = {layer.tops[0]: layer for layer in geometry.measure(param)}
    steps_finer = [
        (measured[layer.bottom[0]].field or PIXEL).stride[0] - measured[layer.top[0]].field.stride[0]
        for layer in param.layer
        if layer.type == "Deconvolution"
    ]
    slack = sum(steps_finer) / 2
    net = Net("force_backward: true\n" + proto.to_text(param))
    for blobs in net.params.values():
        blobs[0].data[...] = 1
    net.blobs["data"].data[...] = np.random.RandomState(0).rand(1, 1, 17, 17)
    out = net.forward()["out"]
    for position in {(0, 0), (out.shape[2] // 2, out.shape[3] - 1)}:
        diff = np.zeros(out.shape, np.float32)
        diff[0, 0][position] = 1
        net.backward(out=diff)
        rows, columns = np.nonzero(net.blobs["data"].diff[0, 0])
        for axis, seen in enumerate((rows, columns)):
            centre = field.centre[axis] + position[axis] * field.stride[axis]
            reach = Fraction(field.size[axis] - 1, 2) + slack
            assert all(centre - reach <= int(i) <= centre + reach for i in seen), (position, axis)


def test_receptive_field_of_a_plain_stack_is_met_in_full():
    """Where nothing is clipped, the corners of the field are seen too: the bound above is tight."""
    n = NetSpec()
    n.data = L.Input(shape={"dim": [1, 1, 31, 31]})
    n.conv1 = L.Convolution(n.data, num_output=1, kernel_size=3, stride=2, bias_term=False)
    n.pool1 = L.Pooling(n.conv1, pool=P.Pooling.AVE, kernel_size=2, stride=2)
    n.conv2 = L.Convolution(n.pool1, num_output=1, kernel_size=3, bias_term=False)
    field = geometry.measure(n.to_proto())[-1].field
    net = Net("force_backward: true\n" + proto.to_text(n.to_proto()))
    for blobs in net.params.values():
        blobs[0].data[...] = 1
    net.forward()
    diff = np.zeros(net.blobs["conv2"].shape, np.float32)
    diff[0, 0, 1, 1] = 1
    net.backward(conv2=diff)
    rows = np.nonzero(net.blobs["data"].diff[0, 0].any(1))[0]
    assert field.size == (13, 13) and field.stride == (4, 4)
    assert (rows[0], rows[-1]) == (4, 16) and field.centre == (6, 6)


@pytest.mark.parametrize("name", [name for name in models.names() if "fcn" in name])
def test_scores_of_every_net_lie_on_their_pixels(name):
    measured = geometry.measure(models.build(name, width=4), (97, 130))
    scores = [layer for layer in measured if layer.type == "Crop" and layer.shapes[0][2:] == (97, 130)]
    assert scores
    for score in scores:
        assert score.field.centre == (0, 0) and score.field.stride == (1, 1)


def test_fields_that_nothing_joins_in_step_are_left_out():
    n = NetSpec()
    n.data = L.Input(shape={"dim": [1, 1, 8, 8]})
    n.one = L.Pooling(n.data, kernel_size=2, stride=2)
    n.two = L.Deconvolution(n.one, num_output=1, kernel_size=2, stride=2)
    n.sum = L.Eltwise(n.one, L.Convolution(n.two, num_output=1, kernel_size=1, stride=2))
    n.odd = L.Eltwise(n.sum, L.Crop(n.data, n.sum))
    measured = {layer.name: layer for layer in geometry.measure(n.to_proto())}
    assert measured["sum"].field.stride == (2, 2) and measured["odd"].field is None
    assert measured["two"].field.stride == (1, 1)
    n.loss = L.SoftmaxWithLoss(n.sum, n.sum)
    assert geometry.measure(n.to_proto())[-1].field is None
