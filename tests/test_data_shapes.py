"""The drawn demo data set: reproducible, VOC-like, with every class in use."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from fcnlite.data import VOC, open_shapes, shapes, voc_palette
from fcnlite.errors import InputError


def test_pictures_depend_on_seed_and_index_only():
    first, again = shapes.draw(7, 3), shapes.draw(7, 3)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.label, again.label)
    for other in (shapes.draw(7, 4), shapes.draw(8, 3)):
        assert other.image.shape != first.image.shape or (other.image != first.image).any()


def test_pictures_have_the_promised_form():
    seen = np.zeros(256, int)
    for index in range(25):
        sample = shapes.draw(1, index)
        height, width = sample.label.shape
        assert 176 <= height <= 240 and 176 <= width <= 240
        assert sample.image.shape == (height, width, 3)
        assert sample.image.dtype == sample.label.dtype == np.uint8
        assert 5 <= len(set(np.unique(sample.label)) - {0, 255}) <= 6
        seen += np.bincount(sample.label.ravel(), minlength=256)
    assert set(np.flatnonzero(seen)) == {*range(7), 255}
    share = seen[:7] / seen[:7].sum()
    assert 0.5 < share[0] < 0.85 and share[1:].min() > 0.02


def test_void_separates_all_labels():
    label = shapes.draw(2, 0).label
    solid = np.where(label == 255, 0, label + 1)
    high = ndimage.maximum_filter(solid, footprint=ndimage.generate_binary_structure(2, 1))
    low = ndimage.minimum_filter(
        np.where(solid == 0, 99, solid), footprint=ndimage.generate_binary_structure(2, 1)
    )
    assert (high[solid > 0] == solid[solid > 0]).all()
    assert (low[solid > 0] == solid[solid > 0]).all()
    assert 0.005 < (label == 255).mean() < 0.2


def test_the_folder_is_a_voc_folder(tmp_path):
    folder = shapes.write(tmp_path / "demo", train=3, val=2, seed=9)
    train, val = VOC(folder, "train"), VOC(folder, "val")
    assert train.classes == shapes.CLASSES == (
        "background", "circle", "square", "triangle", "star", "ring", "cross",
    )  # fmt: skip
    assert len(train) == 3 and len(val) == 2 and not set(train.names) & set(val.names)
    for index, sample in enumerate([*train, *val]):
        drawn = shapes.draw(9, index)
        np.testing.assert_array_equal(sample.label, drawn.label)
        assert np.abs(sample.image.astype(int) - drawn.image).mean() < 12
    with Image.open(folder / "SegmentationClass" / f"{train.names[0]}.png") as label:
        assert label.mode == "P"
        np.testing.assert_array_equal(np.array(label.getpalette()).reshape(-1, 3), voc_palette())


def test_a_finished_folder_is_kept_and_another_one_redrawn(tmp_path):
    settings = {"train": 2, "val": 1, "seed": 1}
    folder = shapes.write(tmp_path, **settings)
    image = folder / "JPEGImages" / "000000.jpg"
    stamp = image.stat().st_mtime_ns
    assert len(open_shapes(folder, "train", **settings)) == 2
    assert image.stat().st_mtime_ns == stamp
    pixels = image.read_bytes()
    assert len(open_shapes(folder, "val", train=2, val=2, seed=2)) == 2
    assert image.read_bytes() != pixels


def test_an_interrupted_drawing_is_not_taken_for_finished(tmp_path, monkeypatch):
    settings = {"train": 2, "val": 1, "seed": 1}
    shapes.write(tmp_path, **settings)
    true_draw = shapes.draw
    monkeypatch.setattr(shapes, "draw", lambda seed, index: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        shapes.write(tmp_path, train=2, val=2)
    monkeypatch.setattr(shapes, "draw", true_draw)
    (tmp_path / "JPEGImages" / "000001.jpg").unlink()
    shapes.write(tmp_path, **settings)
    assert len(VOC(tmp_path, "train")) == 2


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="holds other files"):
        shapes.write(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(InputError, match="images in both splits"):
        shapes.write(tmp_path / "new", train=0)
