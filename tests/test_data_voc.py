"""VOC and SBD folders: what is read, and what is said of folders and files that are wrong."""

import numpy as np
import photos
import pytest
import scipy.io
from PIL import Image

from fcnlite.data import SBD, VOC, preprocess, read_image, read_label, seg11valid, voc_palette
from fcnlite.data.files import check_label, read_list, to_rgb
from fcnlite.data.voc import read_classes
from fcnlite.errors import InputError


def random_label(rng, height, width, classes=21):
    label = rng.integers(0, classes, size=(height, width)).astype(np.uint8)
    label[0] = 255
    return label


def write_palette(path, label):
    image = Image.fromarray(label)
    image.putpalette(voc_palette().tobytes())
    image.save(path)


def make_voc(folder, lists, height=8, width=11):
    """A VOC year folder with every listed id; returns {id: (image, label)} as they must be read."""
    rng = np.random.default_rng(5)
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    held = {}
    for split, names in lists.items():
        (folder / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("".join(f"{n}\n" for n in names))
        for name in names:
            pixels = rng.integers(0, 256, size=(height, width, 3)).astype(np.uint8)
            label = random_label(rng, height, width)
            Image.fromarray(pixels).save(folder / "JPEGImages" / f"{name}.jpg", quality=95)
            write_palette(folder / "SegmentationClass" / f"{name}.png", label)
            held[name] = (np.array(Image.open(folder / "JPEGImages" / f"{name}.jpg")), label)
    return held


def make_sbd(folder, lists, height=8, width=11):
    """A folder like benchmark_RELEASE/dataset; returns {id: label}."""
    rng = np.random.default_rng(6)
    (folder / "img").mkdir(parents=True)
    (folder / "cls").mkdir()
    held = {}
    for split, names in lists.items():
        (folder / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            Image.fromarray(rng.integers(0, 256, size=(height, width, 3)).astype(np.uint8)).save(
                folder / "img" / f"{name}.jpg"
            )
            held[name] = random_label(rng, height, width)
            truth = {"Boundaries": np.zeros((20, 1)), "Segmentation": held[name], "CategoriesPresent": [1]}
            scipy.io.savemat(folder / "cls" / f"{name}.mat", {"GTcls": truth}, do_compression=True)
    return held


def test_samples_are_the_files_in_list_order(tmp_path):
    held = make_voc(tmp_path, {"train": ["2008_000002", "2007_000001"]})
    data = VOC(tmp_path, "train")
    assert [s.name for s in data] == data.names == ["2008_000002", "2007_000001"]
    assert len(data) == 2 and data.has_labels
    for sample in data:
        image, label = held[sample.name]
        np.testing.assert_array_equal(sample.image, image)
        np.testing.assert_array_equal(sample.label, label)
        assert sample.image.dtype == sample.label.dtype == np.uint8
    assert data[-1].name == "2007_000001"
    assert [s.name for s in data[:1]] == ["2008_000002"]
    with pytest.raises(IndexError):
        data[2]


def test_blobs_are_what_the_original_data_layer_feeds(tmp_path):
    held = make_voc(tmp_path, {"val": ["a"]})
    blobs = VOC(tmp_path, "val").blobs(0)
    image, label = held["a"]
    # The layer subtracts a double mean in place from a float32 image.
    expected = np.array(image, dtype=np.float32)[:, :, ::-1]
    expected -= np.array((104.00699, 116.66877, 122.67892))
    assert list(blobs) == ["data", "label"]
    assert blobs["data"].dtype == blobs["label"].dtype == np.float32
    np.testing.assert_array_equal(blobs["data"], expected.transpose(2, 0, 1))
    np.testing.assert_array_equal(blobs["label"], label[None])
    assert blobs["data"].flags.c_contiguous


@pytest.mark.parametrize(
    "inner", [".", "VOC2011", "VOCdevkit/VOC2011", "TrainVal/VOCdevkit/VOC2011", "VOC2012"]
)
def test_the_year_folder_is_found_from_its_parents(tmp_path, inner):
    make_voc(tmp_path / inner, {"train": ["a"]})
    assert VOC(tmp_path, "train").folder == tmp_path / inner


def test_of_two_years_the_one_asked_for_is_taken(tmp_path):
    make_voc(tmp_path / "VOC2011", {"train": ["a"]})
    make_voc(tmp_path / "VOC2012", {"train": ["b"]})
    assert VOC(tmp_path, "train").names == ["a"]
    assert VOC(tmp_path, "train", year=2012).names == ["b"]
    with pytest.raises(InputError, match="is VOC 2012, but VOC 2011 was asked for"):
        VOC(tmp_path / "VOC2012", "train", year=2011)


def test_a_missing_folder_is_told_in_one_line_with_the_way_out(tmp_path):
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(FileNotFoundError) as caught:
            VOC(folder, "train")
        text = str(caught.value)
        assert "\n" not in text and str(folder) in text
        assert "host.robots.ox.ac.uk" in text and "fcnlite train shapes" in text
    assert f"looked in {tmp_path} and its VOC2011, VOC2012, VOCdevkit/VOC2011" in text


def test_missing_and_empty_lists(tmp_path):
    make_voc(tmp_path, {"train": ["a"], "val": ["b"]})
    with pytest.raises(FileNotFoundError, match="tran.txt is missing; the folder has train, val"):
        VOC(tmp_path, "tran")
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text("\n  \n")
    with pytest.raises(InputError, match="train.txt is empty"):
        VOC(tmp_path, "train")


def test_lists_may_come_from_windows(tmp_path):
    (tmp_path / "l.txt").write_bytes(b"\xef\xbb\xbf2007_000001\r\n\r\n2007_000002 \r\n")
    assert read_list(tmp_path / "l.txt") == ["2007_000001", "2007_000002"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b", "a\\b"])
def test_an_id_cannot_lead_out_of_the_folder(tmp_path, name):
    (tmp_path / "l.txt").write_text(name + "\n")
    with pytest.raises(InputError, match="is not an image id"):
        read_list(tmp_path / "l.txt")


@pytest.mark.parametrize(
    ("part", "suffix", "what"), [("JPEGImages", "jpg", "image"), ("SegmentationClass", "png", "label")]
)
def test_a_listed_file_that_is_missing_is_named_at_once(tmp_path, part, suffix, what):
    make_voc(tmp_path, {"train": ["a", "b", "c"]})
    (tmp_path / part / f"b.{suffix}").unlink()
    (tmp_path / part / f"c.{suffix}").unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"{what} .*b\.{suffix} is missing \(and 1 more\).*train\.txt"
    ):
        VOC(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match=rf"b\.{suffix} is missing"):
        VOC(tmp_path, "train", check=False)[1]


def test_a_test_split_has_no_labels_but_opens(tmp_path):
    make_voc(tmp_path, {"train": ["a"], "test": ["t"]})
    (tmp_path / "SegmentationClass" / "t.png").unlink()
    data = VOC(tmp_path, "test")
    assert not data.has_labels
    assert (data[0].label == 255).all() and data[0].label.shape == (8, 11)
    make_voc(tmp_path, {"test": ["t"]})
    assert VOC(tmp_path, "test").has_labels


def test_wrong_labels_are_named(tmp_path):
    make_voc(tmp_path, {"train": ["a"]})
    path = tmp_path / "SegmentationClass" / "a.png"

    write_palette(path, np.full((8, 12), 3, np.uint8))
    with pytest.raises(InputError, match=r"label .*a.png is 12 x 8 but image .*a.jpg is 11 x 8"):
        VOC(tmp_path, "train")[0]
    write_palette(path, np.full((8, 11), 21, np.uint8))
    with pytest.raises(InputError, match=r"a.png holds the value 21; labels are 0 to 20, or 255"):
        VOC(tmp_path, "train")[0]
    Image.new("RGB", (11, 8)).save(path)
    with pytest.raises(InputError, match=r"a.png is a RGB image; a label must be a palette or grey-level"):
        VOC(tmp_path, "train")[0]
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"cannot read image .*a.png"):
        VOC(tmp_path, "train")[0]


@pytest.mark.parametrize("mode", ["L", "P", "1", "I", "I;16"])
def test_labels_of_every_grey_kind_give_their_numbers(tmp_path, mode):
    label = np.array([[0, 1, 1], [1, 0, 1]], np.uint8)
    image = {
        "1": lambda: Image.fromarray(label * 255).convert("1"),
        "I": lambda: Image.fromarray(label.astype(np.int32)),
        "I;16": lambda: Image.fromarray(label.astype(np.uint16)),
    }.get(mode, lambda: Image.fromarray(label))()
    if mode == "P":
        image.putpalette(voc_palette().tobytes())
    path = tmp_path / ("l.tiff" if mode == "I" else "l.png")
    image.save(path)
    read = read_label(path, 2)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, label)


def test_wide_labels_out_of_range_do_not_wrap_around(tmp_path):
    Image.fromarray(np.full((2, 2), 257, np.uint16)).save(tmp_path / "l.png")
    with pytest.raises(InputError, match="holds the value 257"):
        read_label(tmp_path / "l.png", 21)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F"])
def test_images_of_any_mode_become_rgb(tmp_path, mode):
    rng = np.random.default_rng(1)
    grey = Image.fromarray(rng.integers(0, 256, (9, 7)).astype(np.uint8))
    colour = Image.fromarray(rng.integers(0, 256, (9, 7, 3)).astype(np.uint8))
    source = grey if mode in ("1", "L", "LA", "I", "F") else colour
    path = tmp_path / "i.tiff"
    source.convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (9, 7, 3) and image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.array(source.convert(mode).convert("RGB")))
    assert preprocess(image).shape == (3, 9, 7)
    with pytest.raises(InputError, match="the mean colour has 2 values; blue, green and red are needed"):
        preprocess(image, (1, 2))


def test_a_ycbcr_image_becomes_rgb():
    pixels = np.random.default_rng(1).integers(0, 256, (9, 7, 3)).astype(np.uint8)
    image = Image.fromarray(pixels).convert(
        "YCbCr"
    )  # in memory: some versions of Pillow cannot read their own files
    np.testing.assert_array_equal(to_rgb(image), np.array(image.convert("RGB")))


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    Image.fromarray(np.array([[0, 256, 65535]], np.uint16)).save(tmp_path / "i.png")
    np.testing.assert_array_equal(read_image(tmp_path / "i.png")[0, :, 0], [0, 1, 255])


def test_images_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="image .*no.jpg is missing"):
        read_image(tmp_path / "no.jpg")
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path)
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(InputError, match="cannot read image .*text.jpg: not a picture"):
        read_image(tmp_path / "text.jpg")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:-3000])
    with pytest.raises(InputError, match="cannot read image .*cut.jpg: .*[Tt]runcated"):
        read_image(tmp_path / "cut.jpg")


def test_own_classes_come_from_a_file_in_the_folder(tmp_path):
    make_voc(tmp_path, {"train": ["a"]})
    write_palette(tmp_path / "SegmentationClass" / "a.png", np.full((8, 11), 2, np.uint8))
    (tmp_path / "classes.txt").write_text("other\nroad\nroof\n")
    data = VOC(tmp_path, "train")
    assert data.classes == ("other", "road", "roof")
    assert data[0].label.max() == 2
    (tmp_path / "classes.txt").write_text("other\nroad\n")
    with pytest.raises(InputError, match="holds the value 2; labels are 0 to 1"):
        VOC(tmp_path, "train")[0]
    (tmp_path / "classes.txt").write_text("other\nroad\nroad\n")
    with pytest.raises(InputError, match="lists the class 'road' twice"):
        VOC(tmp_path, "train")
    (tmp_path / "classes.txt").write_text("alone\n")
    with pytest.raises(InputError, match="lists 1 classes"):
        VOC(tmp_path, "train")


@pytest.mark.parametrize("inner", [".", "dataset", "benchmark_RELEASE/dataset", "sbdd/dataset"])
def test_sbd_reads_the_struct_of_its_label_files(tmp_path, inner):
    held = make_sbd(tmp_path / inner, {"train": ["2008_000002", "2008_000003"]})
    data = SBD(tmp_path, "train")
    assert len(data.classes) == 21 and data.names == list(held)
    for sample in data:
        np.testing.assert_array_equal(sample.label, held[sample.name])
        assert sample.label.dtype == np.uint8


def test_sbd_errors(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="SBD data .* not found: looked in .* and its dataset, .*benchmark.tgz"
    ):
        SBD(tmp_path)
    make_sbd(tmp_path, {"train": ["a", "b"]})
    scipy.io.savemat(tmp_path / "cls" / "a.mat", {"GTinst": 1})
    with pytest.raises(InputError, match="a.mat has no variable GTcls; it holds GTinst"):
        SBD(tmp_path)[0]
    scipy.io.savemat(tmp_path / "cls" / "a.mat", {"GTcls": np.zeros((3, 3))})
    with pytest.raises(InputError, match="GTcls is not a struct with a field Segmentation"):
        SBD(tmp_path)[0]
    (tmp_path / "cls" / "a.mat").write_bytes(b"no matlab" * 40)
    with pytest.raises(InputError, match="cannot read MATLAB file .*a.mat"):
        SBD(tmp_path)[0]
    (tmp_path / "cls" / "b.mat").unlink()
    with pytest.raises(FileNotFoundError, match="label .*b.mat is missing"):
        SBD(tmp_path)


def test_seg11valid_is_val_without_what_sbd_trains_on(tmp_path):
    make_voc(tmp_path / "VOC2011", {"train": ["t"], "val": ["d", "a", "c", "b"]})
    make_sbd(tmp_path / "sbd" / "dataset", {"train": ["c", "x", "a"]})
    assert seg11valid(tmp_path / "VOC2011", tmp_path / "sbd/dataset") == ["d", "b"]
    assert VOC(tmp_path, "seg11valid").names == ["d", "b"]
    assert VOC(tmp_path / "VOC2011", "seg11valid").names == ["d", "b"]
    assert VOC(tmp_path / "VOC2011", "seg11valid", sbd_folder=tmp_path / "sbd").names == ["d", "b"]
    (tmp_path / "VOC2011/ImageSets/Segmentation/seg11valid.txt").write_text("c\n")
    assert VOC(tmp_path, "seg11valid").names == ["c"]


def test_seg11valid_says_what_it_needs(tmp_path):
    make_voc(tmp_path / "VOC2011", {"val": ["a"]})
    with pytest.raises(FileNotFoundError, match="SBD was not found beside .*--sbd"):
        VOC(tmp_path, "seg11valid")
    make_sbd(tmp_path / "sbd", {"train": ["a"]})
    with pytest.raises(InputError, match="seg11valid is empty"):
        VOC(tmp_path, "seg11valid")


def test_palette_is_vocs():
    palette = voc_palette()
    assert palette.shape == (256, 3) and palette.dtype == np.uint8
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 8: (64, 0, 0)}
    known |= {15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    for label, colour in known.items():
        assert tuple(palette[label]) == colour
    assert len({tuple(c) for c in palette}) == 256
    np.testing.assert_array_equal(voc_palette(21), palette[:21])
    with pytest.raises(ValueError, match="257"):
        voc_palette(257)


@photos.needed
def test_real_photos():
    data = VOC(photos.FOLDER, "trainval")
    for sample in data:
        assert sample.image.shape[:2] == sample.label.shape
        assert set(np.unique(sample.label)) <= {*range(21), 255}
    with Image.open(photos.FOLDER / "SegmentationClass" / f"{data.names[0]}.png") as label:
        np.testing.assert_array_equal(np.array(label.getpalette()[:768]).reshape(-1, 3), voc_palette())


@pytest.mark.parametrize(
    "values",
    [np.array([[1, "a"]], object), np.full((2, 2), np.inf), np.full((2, 2), 1e300), np.full((2, 2), 1j)],
)
def test_labels_that_are_no_classes(values):
    with pytest.raises(InputError, match="label here holds"):
        check_label(values, "here", 21)


def test_class_names_that_are_no_text(tmp_path):
    (tmp_path / "classes.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="classes.txt is not a text file"):
        read_classes(tmp_path / "classes.txt")
