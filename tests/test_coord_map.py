"""Coordinate maps between blobs, and the crop offsets they imply."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fcnlite.coord_map import (
    AlignmentError,
    AxisMismatchException,
    UnconnectedError,
    UndefinedMapException,
    compose,
    coord_map,
    coord_map_from_to,
    crop,
    inverse,
)
from fcnlite.errors import InputError
from fcnlite.geometry import measure
from fcnlite.netspec import NetSpec
from fcnlite.netspec import layers as L


def pyramid(kernel=3, stride=1, pad=0, pool=2, up=2, up_pad=0):
    """An image convolved, pooled and upsampled: the pattern of every FCN."""
    n = NetSpec()
    n.data = L.Input(shape={"dim": [2, 1, 100, 100]})
    n.conv = L.Convolution(n.data, num_output=4, kernel_size=kernel, stride=stride, pad=pad)
    n.pool = L.Pooling(n.conv, kernel_size=pool, stride=pool)
    up_kernel = [2 * s for s in up] if isinstance(up, list) else 2 * up
    n.up = L.Deconvolution(n.pool, num_output=4, kernel_size=up_kernel, stride=up, pad=up_pad)
    return n


def test_pooling_and_upsampling_by_the_same_factor_cancel():
    assert _between(pyramid()) == (1, 1, 0)
    assert _between(pyramid(pool=4, up=4)) == (1, 1, -1)


def _between(n):
    return coord_map_from_to(n.up, n.data)


def test_padding_shifts_and_upsampling_pads_shift_back():
    assert _between(pyramid(pad=7))[2] == -7
    assert _between(pyramid(up_pad=3))[2] == 3
    assert _between(pyramid(pad=5, up_pad=5)) == (1, 1, 0)


def test_elementwise_and_pointwise_layers_change_nothing():
    n = pyramid(pad=1)
    expected = _between(n)
    n.relu = L.ReLU(n.up)
    n.scale = L.Scale(n.relu, bias_term=True)
    n.score = L.Convolution(n.scale, num_output=3, kernel_size=1)
    n.sum = L.Eltwise(n.score, n.score)
    assert coord_map_from_to(n.sum, n.data) == expected


def test_rectangular_kernels_are_their_two_axes():
    both = _between(pyramid(kernel=[3, 5], stride=[1, 2], pad=[0, 10]))
    first, second = (
        _between(pyramid(kernel=3, stride=1, pad=0)),
        _between(pyramid(kernel=5, stride=2, pad=10)),
    )
    np.testing.assert_array_equal(np.stack(both[1:], 1)[0], np.ravel(first[1:]))
    np.testing.assert_array_equal(np.stack(both[1:], 1)[1], np.ravel(second[1:]))


def test_old_spelling_of_rectangular_kernels_counts():
    n = NetSpec()
    n.data = L.Input(shape={"dim": [1, 1, 40, 40]})
    n.new = L.Convolution(n.data, num_output=1, kernel_size=[3, 5], pad=[1, 2], stride=[1, 2])
    n.old = L.Convolution(
        n.data, num_output=1, kernel_h=3, kernel_w=5, pad_h=1, pad_w=2, stride_h=1, stride_w=2
    )
    new, old = coord_map(n.new.fn), coord_map(n.old.fn)
    np.testing.assert_array_equal(new[1], old[1])
    np.testing.assert_array_equal(new[2], old[2])


def test_dilation_counts_as_the_kernel_it_covers():
    n = NetSpec()
    n.data = L.Input(shape={"dim": [1, 1, 40, 40]})
    n.dilated = L.Convolution(n.data, num_output=1, kernel_size=3, dilation=4, pad=4)
    n.plain = L.Convolution(n.data, num_output=1, kernel_size=9, pad=4)
    assert coord_map(n.dilated.fn) == coord_map(n.plain.fn)


def test_three_spatial_axes_map_alike():
    n = NetSpec()
    n.data = L.Input(shape={"dim": [2, 3, 100, 100, 100]})
    n.conv = L.Convolution(n.data, num_output=10, kernel_size=[3, 3, 3], stride=[1, 1, 1], pad=[0, 1, 2])
    n.pool = L.Pooling(n.conv, kernel_size=2, stride=2, pad=0)
    n.up = L.Deconvolution(n.pool, num_output=10, kernel_size=4, stride=2)
    axis, scale, shift = _between(n)
    assert axis == 1 and list(scale) == [1, 1, 1]
    assert list(shift) == [0, -1, -2]


def test_tops_of_one_layer_follow_their_own_bottoms():
    n = pyramid()
    n.aux = L.Input(shape={"dim": [2, 1, 20, 20]})
    n.a, n.b = L.Convolution(n.data, n.aux, ntop=2, num_output=10, kernel_size=5, stride=2)
    assert coord_map_from_to(n.a, n.data) == coord_map_from_to(n.b, n.aux)
    with pytest.raises(UnconnectedError):
        coord_map_from_to(n.a, n.aux)


def test_a_crop_maps_what_it_crops_and_not_what_it_crops_to():
    n = pyramid(pad=9)
    before = _between(n)
    n.crop = L.Crop(n.up, n.data, axis=2, offset=6)
    axis, scale, shift = coord_map_from_to(n.crop, n.data)
    assert (axis, scale, shift) == (before[0], before[1], before[2] + 6)
    n.other = L.Input(shape={"dim": [1, 1, 9, 9]})
    n.far = L.Crop(n.up, n.other)
    with pytest.raises(UnconnectedError):
        coord_map_from_to(n.far, n.other)


def test_joined_channels_pass_and_joined_rows_do_not():
    n = pyramid()
    n.joined = L.Concat(n.up, n.up)
    assert coord_map_from_to(n.joined, n.data) == _between(n)
    n.stacked = L.Concat(n.up, n.up, axis=2)
    with pytest.raises(UndefinedMapException):
        coord_map(n.stacked.fn)


def test_crop_writes_axis_and_whole_offset():
    n = pyramid(pad=12, pool=4, up=4)
    n.score = crop(n.up, n.data)
    layer = n.to_proto().layer[-1]
    assert (layer.name, layer.type, list(layer.bottom)) == ("score", "Crop", ["up", "data"])
    assert layer.crop_param.axis == 2 and list(layer.crop_param.offset) == [13]


def test_crop_of_blobs_in_line_is_at_offset_zero():
    n = NetSpec()
    n.data = L.Input(shape={"dim": [1, 1, 9, 9]})
    n.relu = L.ReLU(n.data)
    layer = crop(n.relu, n.data).to_proto().layer[-1]
    assert layer.crop_param.axis == 2 and list(layer.crop_param.offset) == [0]


@pytest.mark.parametrize(
    ("n", "told"),
    [
        (pyramid(pool=3, up=2), "scale mismatch"),
        (pyramid(up_pad=10), "-10 is negative"),
        (pyramid(kernel=2, pad=4), "4.5 is not an integer"),
    ],
)
def test_impossible_crops_say_why(n, told):
    with pytest.raises(AlignmentError, match=told) as caught:
        crop(n.up, n.data)
    assert isinstance(caught.value, AssertionError) and isinstance(caught.value, InputError)
    assert "Deconvolution blob to the Input blob" in str(caught.value)


def test_blobs_that_no_spatial_layer_connects_are_refused():
    n = pyramid()
    n.flat = L.InnerProduct(n.up, num_output=10)
    with pytest.raises(UnconnectedError, match="InnerProduct blob to the Input blob") as caught:
        coord_map_from_to(n.flat, n.data)
    assert isinstance(caught.value, RuntimeError)
    n.all = L.Pooling(n.up, global_pooling=True)
    with pytest.raises(UnconnectedError):
        crop(n.all, n.data)


def test_layers_on_different_axes_do_not_compose():
    n = NetSpec()
    n.data = L.Input(shape={"dim": [1, 1, 9, 9, 9]})
    n.conv = L.Convolution(n.data, num_output=1, kernel_size=3, axis=2)
    n.crop = L.Crop(n.conv, n.data, axis=2)
    with pytest.raises(AxisMismatchException, match="after 1.*after 2"):
        coord_map_from_to(n.crop, n.data)


def test_paths_out_of_line_are_warned_of():
    n = NetSpec()
    n.data = L.Input(shape={"dim": [1, 1, 20, 20]})
    n.wide = L.Convolution(n.data, num_output=1, kernel_size=3)
    n.shifted = L.Crop(n.wide, n.data, axis=2, offset=1)
    n.sum = L.Eltwise(n.wide, n.shifted)
    with pytest.warns(UserWarning, match="out of line"):
        crop(n.data, n.sum)


def test_long_ladders_of_joins_are_walked_once():
    n = NetSpec()
    top = n.data = L.Input(shape={"dim": [1, 1, 20, 20]})
    for _ in range(60):  # 2 ** 60 paths
        top = L.Eltwise(L.ReLU(top), L.ReLU(top))
    assert coord_map_from_to(top, n.data) == (None, 1, 0)


whole = st.integers(1, 9)


@given(st.tuples(whole, st.integers(-20, 20)), st.tuples(whole, st.integers(-20, 20)))
def test_a_map_composed_with_its_inverse_is_the_identity(one, other):
    base = compose((1, *one), (None, *other))
    axis, scale, shift = compose(base, inverse(base))
    assert axis == 1
    np.testing.assert_allclose([scale, shift], [1, 0], atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 7), st.integers(0, 3)), min_size=1, max_size=4),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_a_derived_crop_lines_the_centres_up(convolutions, pools, width):
    """Any stack of convolutions and halvings, upsampled and cropped: where a crop exists it is exact.

    Checked against the receptive fields, which are worked out from the layers another way.
    """
    n = NetSpec()
    top = n.data = L.Input(shape={"dim": [1, width, 150, 150]})
    n.pad = top = L.Convolution(top, num_output=1, kernel_size=1, pad=40)
    for kernel, pad in convolutions:
        top = L.Convolution(top, num_output=1, kernel_size=kernel, pad=pad)
    for _ in range(pools):
        top = L.Pooling(top, kernel_size=2, stride=2)
    n.up = L.Deconvolution(top, num_output=1, kernel_size=2 * 2**pools, stride=2**pools, bias_term=False)
    try:
        n.score = crop(n.up, n.data)
    except AlignmentError as error:
        assume("not an integer" not in str(error))  # kernels that sum to an even size
        raise
    score = measure(n.to_proto())[-1]
    assert score.shapes[0][2:] == (150, 150)
    assert score.field.centre == (0, 0) and score.field.stride == (1, 1)
