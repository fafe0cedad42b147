"""The order of the images, the thread that prepares them, mirroring and jitter."""

import gc
import json
import random
import threading
import time

import numpy as np
import own_pictures
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from fcnlite.data import Batches, Dataset, ImageOrder, Prefetch, Sample, folder
from fcnlite.data.augment import moved
from fcnlite.errors import InputError


class Numbers(Dataset):
    """Images of `count` sizes and colours, without files."""

    def __init__(self, count=5, split="train"):
        self.split = split
        self.names = [str(i) for i in range(count)]
        self.classes = ("background", "thing")
        self.mean_bgr = (0.0, 0.0, 0.0)

    def load(self, name):
        size = (4 + int(name), 6)
        image = np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(*size, 3) + np.uint8(name)
        return Sample(name, image, (image[:, :, 0] % 2).astype(np.uint8))


def shown(batches, count):
    """Which images the next `count` batches show."""
    return [next(batches)["data"].shape[2] - 4 for _ in range(count)]


def test_draws_are_those_of_python_2():
    # Python 2.7: random.seed(0); [random.randint(0, 9) for _ in range(10)]
    order = ImageOrder(10, True, seed=0)
    assert [next(order) for _ in range(10)] == [8, 7, 4, 2, 5, 4, 7, 3, 4, 5]


@given(st.integers(0, 2**40), st.integers(1, 20000), st.integers(0, 60))
def test_any_order_is_the_rule_and_can_be_joined_midway(seed, count, position):
    reference = random.Random(seed)
    expected = [int(reference.random() * count) for _ in range(position + 5)]
    order = ImageOrder(count, True, seed, position)
    assert [next(order) for _ in range(5)] == expected[position:]
    assert order.position == position + 5
    order.seek(0)
    assert next(order) == expected[0]


def test_only_splits_with_train_in_their_name_are_random():
    assert [next(ImageOrder.of_split(1000, split, seed=1)) for split in ("train", "trainval")] == [134, 134]
    for split in ("val", "test", "seg11valid"):
        order = ImageOrder.of_split(3, split, position=2)
        assert [next(order) for _ in range(5)] == [2, 0, 1, 2, 0]
    order = ImageOrder.of_split(3, "train", randomize=False)
    assert [next(order) for _ in range(4)] == [0, 1, 2, 0]


def test_without_a_seed_it_is_1337():
    first = [next(ImageOrder(10**6, True, seed)) for seed in (None, 1337, 1338)]
    assert first[0] == first[1] != first[2]
    with pytest.raises(InputError, match="empty"):
        ImageOrder(0, True)


def test_the_global_generator_is_left_alone():
    random.seed(3)
    expected = random.random()
    random.seed(3)
    next(ImageOrder(10, True))
    assert random.random() == expected


def test_batches_follow_the_order_with_a_leading_axis():
    order = ImageOrder(5, True)
    with Batches(Numbers()) as batches:
        for t in range(12):
            blobs = next(batches)
            index = next(order)
            assert {k: (v.shape, v.dtype) for k, v in blobs.items()} == {
                "data": ((1, 3, 4 + index, 6), np.float32),
                "label": ((1, 1, 4 + index, 6), np.float32),
            }
            np.testing.assert_array_equal(blobs["data"][0], Numbers().blobs(index)["data"])
            assert batches.position == t + 1


@pytest.mark.parametrize("options", [{}, {"mirror": True, "jitter": 3}, {"keep": 0.5}])
def test_a_run_resumed_at_a_position_sees_what_the_whole_run_saw(options):
    with Batches(Numbers(), **options) as whole:
        seen = [next(whole) for _ in range(9)]
        state = json.loads(json.dumps(whole.position))
        later = [next(whole) for _ in range(6)]
    assert len(seen) == state
    with Batches(Numbers(), position=state, **options) as resumed:
        for expected in later:
            got = next(resumed)
            for name in expected:
                np.testing.assert_array_equal(got[name], expected[name])


def test_augmentation_does_not_disturb_the_order():
    with Batches(Numbers()) as plain, Batches(Numbers(), mirror=True, jitter=32) as other:
        assert shown(plain, 30) == shown(other, 30)


def test_mirrored_images_are_mirrored_with_their_labels_half_the_time():
    data, flips = Numbers(1), 0
    plain = data.blobs(0)
    with Batches(data, mirror=True) as batches:
        for _ in range(40):
            blobs = next(batches)
            flip = not np.array_equal(blobs["data"][0], plain["data"])
            flips += flip
            for name in plain:
                np.testing.assert_array_equal(
                    blobs[name][0], plain[name][:, :, ::-1] if flip else plain[name]
                )
    assert 10 <= flips <= 30


@given(st.integers(1, 6), st.integers(1, 6), st.integers(-9, 9), st.integers(-9, 9), st.booleans())
def test_moved_pixels_come_from_where_they_should(height, width, dy, dx, flip):
    blob = np.arange(2 * height * width, dtype=np.float32).reshape(2, height, width)
    out = moved(blob, dy, dx, flip, -1)
    for y in range(height):
        for x in range(width):
            sy, sx = y - dy, x - dx
            inside = 0 <= sy < height and 0 <= sx < width
            expected = blob[:, sy, width - 1 - sx if flip else sx] if inside else [-1, -1]
            np.testing.assert_array_equal(out[:, y, x], expected)


def test_jitter_brings_in_mean_colour_and_void():
    with Batches(Numbers(1), jitter=3) as batches:
        shifts = [next(batches) for _ in range(30)]
    void = [blobs["label"][0, 0] == 255 for blobs in shifts]
    assert any(v.any() for v in void) and not all(v.all() for v in void)
    for blobs, outside in zip(shifts, void):
        assert (blobs["data"][0][:, outside] == 0).all()
        rows, columns = outside.all(axis=1).sum(), outside.all(axis=0).sum()
        assert rows <= 3 and columns <= 3
    with pytest.raises(ValueError, match="negative"):
        Batches(Numbers(), jitter=-1)


def test_a_counted_pass_shows_every_image_once_in_file_order():
    with Batches(Numbers(4, "val"), count=4) as batches:
        assert [b["data"].shape[2] - 4 for b in batches] == [0, 1, 2, 3]


def test_an_error_reaches_the_reader_in_its_place():
    class Broken(Numbers):
        def load(self, name):
            if name == "2":
                raise InputError("image 2 is broken")
            return super().load(name)

    batches = Batches(Broken(split="val"))
    assert shown(batches, 2) == [0, 1]
    with pytest.raises(InputError, match="image 2 is broken"):
        next(batches)
    assert list(batches) == []


def test_the_thread_stays_just_ahead_and_ends_when_closed():
    made = []

    def items():
        for i in range(100):
            made.append(i)
            yield i

    before = threading.active_count()
    ahead = Prefetch(items(), depth=2)
    deadline = time.monotonic() + 5
    while len(made) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.05)
    assert made == [0, 1]
    assert next(ahead) == 0
    ahead.close()
    ahead.close()
    assert threading.active_count() == before
    assert list(ahead) == [] and len(made) <= 4


def test_forgotten_batches_end_their_thread():
    before = threading.active_count()
    batches = Batches(Numbers())
    next(batches)
    assert threading.active_count() == before + 1
    del batches
    gc.collect()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


@given(st.lists(st.integers(), max_size=20), st.integers(1, 4))
def test_prefetching_changes_nothing(items, depth):
    with Prefetch(items, depth) as ahead:
        assert list(ahead) == items


def test_depth_must_be_positive():
    with pytest.raises(ValueError, match="at least 1"):
        Prefetch([], 0)


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("change", ["", "scaled", "turned"])
def test_shapes_are_known_from_headers_before_pictures_are_read(tmp_path, step, change):
    """Of the batches of all processes; where one of the pictures is changed when it is read, they are not."""
    own_pictures.draw(tmp_path / "own", count=5)
    paths = tmp_path / "own/images/p2.jpg", tmp_path / "own/masks/p2.png"
    for path in paths:
        with Image.open(path) as picture:
            picture.resize((60, 52), Image.Resampling.NEAREST).save(path)
    if change == "turned":
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        with Image.open(paths[0]) as picture:
            picture.transpose(Image.Transpose.ROTATE_90).save(paths[0], exif=exif)
    choices = folder.Choices(max_size=30 if change == "scaled" else 0)
    report = folder.inspect(folder.locate(tmp_path / "own"), choices, progress=False)
    report.manifest.write(tmp_path / folder.MANIFEST)
    data = folder.OwnPictures(tmp_path, "all")
    batches, sharing = (Batches(data, mirror=True, jitter=3, position=3, names=["d", "l"]) for _ in range(2))
    sharing.take_every(step, 0)
    with batches, sharing:
        for position in range(3, 15, 2 * step):
            told = sharing.shapes(2 * step)
            seen = [{name: blob.shape for name, blob in next(batches).items()} for _ in range(2 * step)]
            shown = {data.names[(position + i) % 5] for i in range(2 * step)}
            changed = change == "scaled" or (change == "turned" and "p2" in shown)
            assert told == (None if changed else seen)
            for _ in range(2):
                next(sharing)
