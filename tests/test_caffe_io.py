"""caffe.io: records, images and their transformation for a net."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

import fcnlite.caffe as caffe
from fcnlite.errors import InputError

arrays = hnp.arrays(np.float32, hnp.array_shapes(max_dims=4, max_side=5), elements=st.floats(-9, 9, width=32))


@given(array=arrays)
def test_arrays_survive_as_records(array):
    for back in (
        caffe.io.blobproto_to_array(caffe.io.array_to_blobproto(array)),
        caffe.io.blobproto_to_array(caffe.io.array_to_blobproto(array * 0, diff=array), return_diff=True),
        caffe.io.blobprotovector_str_to_arraylist(
            caffe.io.arraylist_to_blobprotovector_str([array * 0, array])
        )[1],
    ):
        assert back.shape == array.shape
        np.testing.assert_array_equal(back, array)


def test_old_and_missing_shapes_of_records():
    blob = caffe.proto.caffe_pb2.BlobProto(data=range(12), num=1, channels=2, height=3, width=2)
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(blob), np.arange(12).reshape(1, 2, 3, 2))
    assert caffe.io.blobproto_to_array(caffe.proto.caffe_pb2.BlobProto(data=[5])) == 5
    assert caffe.io.blobproto_to_array(caffe.proto.caffe_pb2.BlobProto(double_data=[2.5])) == 2.5
    with pytest.raises(ValueError):
        caffe.io.blobproto_to_array(caffe.proto.caffe_pb2.BlobProto(data=[1, 2]))


@given(shape=st.tuples(*[st.integers(1, 5)] * 3), label=st.none() | st.integers(0, 9), whole=st.booleans())
def test_images_survive_as_datums(shape, label, whole):
    rng = np.random.default_rng(sum(shape))
    image = (
        rng.integers(0, 256, shape).astype(np.uint8) if whole else rng.normal(size=shape).astype(np.float32)
    )
    datum = caffe.io.array_to_datum(image, label)
    assert bool(datum.data) == whole and datum.HasField("label") == (label is not None)
    assert label is None or datum.label == label
    back = caffe.io.datum_to_array(datum)
    assert back.shape == shape and back.flags.writeable
    np.testing.assert_array_equal(back, image)


def test_a_datum_needs_three_axes():
    with pytest.raises(ValueError, match=r"the array has shape \(2, 2\)"):
        caffe.io.array_to_datum(np.zeros((2, 2)))


def linear(image, size):
    """Bilinear interpolation between pixel centres, with the least value beyond the border."""
    height, width, _ = image.shape
    low = image.min()
    out = np.zeros((*size, image.shape[2]))
    for i in range(size[0]):
        for j in range(size[1]):
            y, x = (i + 0.5) * height / size[0] - 0.5, (j + 0.5) * width / size[1] - 0.5
            for v in (int(np.floor(y)), int(np.floor(y)) + 1):
                for u in (int(np.floor(x)), int(np.floor(x)) + 1):
                    inside = 0 <= v < height and 0 <= u < width
                    share = (1 - abs(y - v)) * (1 - abs(x - u))
                    out[i, j] += share * (image[v, u] if inside else low)
    return out


@given(
    shape=st.tuples(st.integers(1, 7), st.integers(1, 7), st.sampled_from([1, 3])),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_resizing_is_linear_interpolation(shape, size):
    image = np.random.default_rng(sum(shape) + sum(size)).normal(size=shape).astype(np.float32)
    got = caffe.io.resize_image(image, size)
    assert got.shape == (*size, shape[2]) and got.dtype == np.float32
    np.testing.assert_allclose(got, linear(image, size), atol=1e-5)


def test_resizing_constant_and_many_channelled_images():
    assert (caffe.io.resize_image(np.full((3, 4, 3), 7.5), (5, 2)) == 7.5).all()
    ramp = np.repeat(np.linspace(0, 1, 3)[:, None, None], 2, axis=1) * np.ones(5)
    got = caffe.io.resize_image(ramp, (5, 2))  # corners stay where they are
    np.testing.assert_allclose(got[:, 0, 0], np.linspace(0, 1, 5), atol=1e-6)


def test_oversampling_takes_corners_centre_and_mirror_images():
    images = np.random.default_rng(1).normal(size=(2, 7, 8, 3)).astype(np.float32)
    crops = caffe.io.oversample(images, (4, 5))
    assert crops.shape == (20, 4, 5, 3)
    for n, image in enumerate(images):
        for k, (y, x) in enumerate(((0, 0), (0, 3), (3, 0), (3, 3), (1, 1))):
            crop = image[y : y + 4, x : x + 5]
            np.testing.assert_array_equal(crops[10 * n + k], crop)
            np.testing.assert_array_equal(crops[10 * n + 5 + k], crop[:, ::-1])
    with pytest.raises(InputError, match="crops of 9 x 5 do not fit"):
        caffe.io.oversample(images, (9, 5))


def transformer():
    made = caffe.io.Transformer({"data": (1, 3, 4, 6)})
    made.set_transpose("data", (2, 0, 1))
    made.set_channel_swap("data", (2, 1, 0))
    made.set_raw_scale("data", 255)
    made.set_mean("data", np.array([104.0, 117.0, 123.0]))
    made.set_input_scale("data", 0.017)
    return made


def test_preprocessing_is_the_documented_chain():
    image = np.random.default_rng(4).random((4, 6, 3))
    got = transformer().preprocess("data", image)
    bgr = 255 * image[:, :, ::-1].transpose(2, 0, 1)
    np.testing.assert_allclose(
        got, 0.017 * (bgr - np.array([104, 117, 123])[:, None, None]), rtol=1e-4, atol=1e-4
    )
    assert got.dtype == np.float32 and got.shape == (3, 4, 6)
    np.testing.assert_allclose(transformer().deprocess("data", got[None]), image, atol=1e-4)
    other = np.random.default_rng(5).random((9, 7, 3)).astype(np.float32)
    resized = transformer().preprocess("data", caffe.io.resize_image(other, (4, 6)))
    np.testing.assert_allclose(transformer().preprocess("data", other), resized, atol=1e-5)


def test_nothing_set_changes_nothing():
    image = np.random.default_rng(4).random((4, 6, 3)).astype(np.float32)
    made = caffe.io.Transformer({"data": (1, 3, 4, 6)})
    np.testing.assert_array_equal(made.preprocess("data", image), image)
    np.testing.assert_array_equal(made.deprocess("data", image), image)


def test_means_of_every_form():
    rng = np.random.default_rng(6)
    made = caffe.io.Transformer({"data": (1, 3, 4, 6), "grey": (1, 1, 4, 6)})
    exact, larger = rng.random((3, 4, 6)), rng.random((3, 9, 9))
    made.set_mean("data", exact)
    np.testing.assert_array_equal(made.mean["data"], exact)
    made.set_mean("data", larger)
    expected = caffe.io.resize_image(larger.transpose(1, 2, 0), (4, 6)).transpose(2, 0, 1)
    np.testing.assert_array_equal(made.mean["data"], expected)
    made.set_mean("grey", rng.random((4, 6)))
    assert made.mean["grey"].shape == (4, 6)
    with pytest.raises(ValueError, match="the mean has 2 channels, input 'data' 3"):
        made.set_mean("data", np.zeros(2))
    with pytest.raises(ValueError, match="neither"):
        made.set_mean("data", np.zeros((1, 3, 4, 6)))


def test_wrong_settings_are_told():
    made = transformer()
    with pytest.raises(InputError, match="'x' is not an input of the net; its inputs are data"):
        made.preprocess("x", np.zeros((4, 6, 3)))
    with pytest.raises(InputError, match="transpose order"):
        made.set_transpose("data", (1, 0))
    with pytest.raises(InputError, match="channel order"):
        made.set_channel_swap("data", (1, 0))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "LA", "1", "CMYK", "I;16"])
def test_images_load_as_colour_and_as_luminance(tmp_path, mode):
    pixels = np.random.default_rng(3).integers(0, 256, (5, 6, 3)).astype(np.uint8)
    if mode == "I;16":
        picture = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(pixels).convert(mode)
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    picture.save(path)
    if mode == "I;16":
        expected = np.repeat(pixels[:, :, :1], 3, axis=2) / 255
    else:
        expected = np.asarray(Image.open(path).convert("RGB")) / 255
    colour, grey = caffe.io.load_image(path), caffe.io.load_image(str(path), color=False)
    assert colour.dtype == grey.dtype == np.float32
    np.testing.assert_allclose(colour, expected, atol=1e-6)
    np.testing.assert_allclose(grey[:, :, 0], expected @ [0.2125, 0.7154, 0.0721], atol=1e-5)


def test_what_is_no_image_is_told(tmp_path):
    (tmp_path / "x.png").write_text("hello")
    with pytest.raises(InputError, match="x.png"):
        caffe.io.load_image(tmp_path / "x.png")
    with pytest.raises(FileNotFoundError, match="y.png"):
        caffe.io.load_image(tmp_path / "y.png")
