"""Pictures of one's own: every form of masks comes out as the same label maps, and every fault is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import own_pictures as own
import pytest
from commands import ends, fails
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fcnlite.commands.data import main
from fcnlite.data import VOC, open_dataset
from fcnlite.data.folder import MANIFEST, Choices, OwnPictures, Report, find_pairs, inspect, locate
from fcnlite.data.folder.dataset import resized
from fcnlite.data.folder.facts import Facts
from fcnlite.data.folder.layout import Pair
from fcnlite.data.folder.split import parted
from fcnlite.errors import InputError


def look(root: Path, **choices: object) -> Report:
    return inspect(locate(root), Choices(**choices), progress=False)  # type: ignore[arg-type]


def opened(report: Report, where: Path, part: str = "all") -> OwnPictures:
    report.manifest.write(where / MANIFEST)
    return OwnPictures(where / MANIFEST, part)


def check_labels(data: OwnPictures, classes: tuple[str, ...], order: tuple[int, ...] = (0, 1, 2)) -> None:
    """Each picture's labels are those drawn, the classes numbered as `order` says."""
    assert data.classes == classes and len(data) == 6
    for name in data.names:
        wanted = np.array(order, np.uint8)[own.label(int(name[1:]))]
        np.testing.assert_array_equal(data.load(name).label, wanted)


@pytest.mark.parametrize("ending", ["", "_mask", "-mask", "_labels", "_gt"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".bmp"])
def test_masks_of_numbers_under_any_name(tmp_path: Path, ending: str, suffix: str) -> None:
    def lossless(values: np.ndarray) -> Image.Image:
        return own.numbers(values) if suffix != ".webp" else Image.fromarray(values).convert("RGB")

    if suffix == ".webp":
        root = own.draw(tmp_path, ending=ending)
        for path in list((root / "masks").iterdir()):
            lossless(np.asarray(Image.open(path))).save(path.with_suffix(".webp"), lossless=True)
            path.unlink()
    else:
        root = own.draw(tmp_path, ending=ending, suffix=suffix)
    report = look(root)
    assert not report.errors and not report.warnings
    check_labels(opened(report, tmp_path), ("background", "1", "2"))


def test_palette_masks_are_their_values(tmp_path: Path) -> None:
    check_labels(opened(look(own.draw(tmp_path, mask=own.palette)), tmp_path), ("background", "1", "2"))


def test_colour_masks_are_found_and_named(tmp_path: Path) -> None:
    report = look(own.draw(tmp_path, mask=own.colours))
    assert "name them with --colors FILE" in report.manifest.encoding.remarks[0]
    check_labels(opened(report, tmp_path), ("background", "blue", "red"), (0, 2, 1))  # by colour value


@pytest.mark.parametrize("mask", [own.colours, own.palette])
def test_colours_named_in_a_file(tmp_path: Path, mask: object) -> None:
    root = own.draw(tmp_path, mask=mask)  # type: ignore[arg-type]
    (tmp_path / "c.csv").write_text("name,r,g,b\nsky,0,0,0\nred thing,255,0,0\nblue thing, 0, 0, 255\n")
    report = look(root, colors=str(tmp_path / "c.csv"))
    check_labels(opened(report, tmp_path), ("sky", "red thing", "blue thing"))


@pytest.mark.parametrize(
    "text, told",
    [
        ("r,g,b\n", "its first line must be name,r,g,b"),
        ("name,r,g,b\n", "its first line must be name,r,g,b"),
        ("name,r,g,b\na,0,0,256\n", "line 2: r, g and b are whole numbers from 0 to 255"),
        ("name,r,g,b\na,0,0,0\nb,0,0,0\n", "line 3: the name or the colour is empty or there already"),
    ],
)
def test_a_file_of_colours_may_be_wrong(tmp_path: Path, text: str, told: str) -> None:
    root = own.draw(tmp_path, mask=own.colours)
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(InputError, match=told):
        look(root, colors=str(tmp_path / "c.csv"))


def test_masks_of_0_and_255_are_two_classes(tmp_path: Path) -> None:
    report = look(own.draw(tmp_path, mask=own.binary))
    data = opened(report, tmp_path)
    assert data.classes == ("background", "object") and not report.errors
    for name in data.names:
        np.testing.assert_array_equal(data.load(name).label, own.label(int(name[1:])) > 0)


def test_masks_of_0_and_255_with_three_class_names_are_refused(tmp_path: Path) -> None:
    root = own.draw(tmp_path, mask=own.binary)
    (root / "classes.txt").write_text("background\ncat\ndog\n")
    report = look(root)
    assert "every pixel that counts is 'background'" in report.errors[0]
    assert "the masks hold 0, 255, and 255 is void" in report.errors[0]


def test_masks_of_0_and_1_and_of_one_bit(tmp_path: Path) -> None:
    root = own.draw(tmp_path / "a", mask=lambda values: Image.fromarray((values > 0).astype(np.uint8)))
    assert opened(look(root), tmp_path).classes == ("background", "object")
    root = own.draw(tmp_path / "b", mask=lambda values: Image.fromarray(values > 0))
    data = opened(look(root), tmp_path)
    assert data.classes == ("background", "object")
    np.testing.assert_array_equal(data.load("p3").label, own.label(3) > 0)


def test_labelme_files(tmp_path: Path) -> None:
    root = own.draw(tmp_path)
    for index in range(6):
        (root / "masks" / f"p{index}.png").unlink()
        own.write_json(root / "masks" / f"p{index}.json", own.labelme(index))
    check_labels(opened(look(root), tmp_path), ("background", "cat", "dog"))


def test_coco_polygons_and_run_lengths(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    root = own.draw(tmp_path, masks="x")
    own.write_json(tmp_path / "annotations.json", own.coco(6))
    report = inspect(locate(images=root / "images", masks=tmp_path / "annotations.json"), progress=False)
    check_labels(opened(report, tmp_path), ("background", "cat", "dog"))


@pytest.mark.parametrize("annotation", ["labelme", "coco"])
@pytest.mark.parametrize("where", ["shapes", "annotations"])
def test_damaged_annotations_are_named(tmp_path: Path, annotation: str, where: str) -> None:
    root = own.draw(tmp_path, masks="x")
    value = dict(own.labelme(0) if annotation == "labelme" else own.coco(6))
    if where in value:
        value[where] = [{"label": 3, "image_id": "x"}]
    else:
        value = {"nothing": 1}
    path = tmp_path / "images" / "p0.json" if annotation == "labelme" else tmp_path / "all.json"
    own.write_json(path, value)
    masks = path.parent if annotation == "labelme" else path
    with pytest.raises(InputError) as caught:
        inspect(locate(images=root / "images", masks=masks), progress=False)
    assert str(path) in str(caught.value) and "damaged" in str(caught.value)


def test_side_by_side_in_one_folder(tmp_path: Path) -> None:
    own.draw(tmp_path, images="all", masks="all")
    check_labels(opened(look(tmp_path / "all"), tmp_path), ("background", "1", "2"))


def test_vocs_layout_brings_lists_and_classes(tmp_path: Path) -> None:
    root = own.draw(tmp_path / "voc", images="JPEGImages", masks="SegmentationClass")
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text("p0\np1\np2\np3\n")
    (root / "ImageSets/Segmentation/val.txt").write_text("p4.jpg\np5\n")
    (root / "classes.txt").write_text("background\ncat\ndog\n")
    report = look(root)
    assert not report.errors
    check_labels(opened(report, tmp_path), ("background", "cat", "dog"))
    assert OwnPictures(tmp_path / MANIFEST, "val").names == ["p4", "p5"]


def test_folders_called_train_and_val_part_the_pictures(tmp_path: Path) -> None:
    for part in ("train", "val"):
        own.draw(tmp_path, 3, images=f"images/{part}", masks=f"masks/{part}")
    report = look(tmp_path)
    assert [name for name, *_ in report.manifest.parts["val"]] == ["val/p0", "val/p1", "val/p2"]
    assert sum("are the same picture" in error for error in report.errors) == 3


def test_other_sizes_are_named_or_scaled(tmp_path: Path) -> None:
    root = own.draw(tmp_path)
    Image.fromarray(own.label(2)).resize((24, 20), Image.Resampling.NEAREST).save(root / "masks" / "p2.png")
    report = look(root)
    assert "p2.png is 24 x 20 for a picture of 48 x 40; --resize-masks" in report.errors[0]
    report = look(root, resize_masks=True)
    assert not report.errors and opened(report, tmp_path).load("p2").label.shape == own.SIZE


def test_large_pictures_are_scaled_down(tmp_path: Path) -> None:
    data = opened(look(own.draw(tmp_path), max_size=24), tmp_path)
    sample = data.load("p1")
    assert sample.image.shape == (20, 24, 3) and sample.label.shape == (20, 24)
    np.testing.assert_array_equal(sample.label, resized(own.label(1), (20, 24)))


def test_pictures_turned_by_exif_follow_their_masks(tmp_path: Path) -> None:
    root = own.draw(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    Image.fromarray(np.rot90(own.photo(1)).copy()).save(
        root / "images" / "p1.jpg", exif=exif, quality=100, subsampling=0
    )
    report = look(root)
    assert not report.errors and report.manifest.turned == ["p1"]
    shown = opened(report, tmp_path).load("p1").image.astype(int)
    assert np.abs(shown - own.photo(1)).mean() < 2


def test_missing_parts_are_counted(tmp_path: Path) -> None:
    root = own.draw(tmp_path)
    (root / "masks" / "p0.png").unlink()
    (root / "images" / "p5.jpg").unlink()
    report = look(root)
    assert not report.errors
    assert "1 pictures have no mask and are left out (p0)" in report.warnings
    assert "1 masks have no picture and are left out (p5)" in report.warnings


def test_a_damaged_file_is_an_error_or_skipped(tmp_path: Path) -> None:
    root = own.draw(tmp_path)
    (root / "images" / "p3.jpg").write_bytes(b"no picture")
    assert any("p3.jpg" in error for error in look(root).errors)
    report = look(root, skip_bad=True)
    assert not report.errors and any("p3.jpg" in warning for warning in report.warnings)
    assert "p3" not in opened(report, tmp_path).names


def test_palettes_that_disagree_are_no_class_numbers(tmp_path: Path) -> None:
    root = own.draw(tmp_path, mask=own.palette)
    image = Image.fromarray(own.label(4))
    image.putpalette(own.COLOURS[[0, 2, 1]].tobytes())
    image.save(root / "masks" / "p4.png")
    (error,) = look(root).errors
    assert (
        "the palettes disagree: the value 1 is #ff0000 in p0 but #0000ff in p4" in error
        and "--colors" in error
    )


def test_values_that_are_no_class(tmp_path: Path) -> None:
    root = own.draw(tmp_path)
    (root / "classes.txt").write_text("background\ncat\n")
    with pytest.raises(InputError, match="6 masks hold 2, which is no class"):
        look(root)
    (root / "classes.txt").write_text("background\ncat\ndog\n")
    values = own.label(0)
    values[0, 0] = 9
    Image.fromarray(values).save(root / "masks" / "p0.png")
    assert (
        "1 masks hold 9, which is no class (p0); the classes are 0 background, 1 cat, 2 dog"
        in look(root).errors
    )


def test_a_class_without_a_pixel_is_told(tmp_path: Path) -> None:
    root = own.draw(tmp_path)
    (root / "classes.txt").write_text("background\ncat\ndog\ncow\n")
    assert "no mask has a pixel of cow" in look(root).warnings


def test_masks_saved_as_jpeg_are_told(tmp_path: Path) -> None:
    def noisy(values: np.ndarray) -> Image.Image:
        rng = np.random.default_rng(0)
        return Image.fromarray(rng.integers(0, 255, (*values.shape, 3), dtype=np.uint8))

    with pytest.raises(InputError, match="more than there can be classes: saved as JPEG"):
        look(own.draw(tmp_path, mask=noisy))


def test_names_that_do_not_meet_are_told(tmp_path: Path) -> None:
    root = own.draw(tmp_path)
    for path in list((root / "masks").iterdir()):
        path.rename(path.with_name(f"other{path.name}"))
    with pytest.raises(
        InputError, match="no mask in .* has the name of a picture .* such as p0, .*called otherp0"
    ):
        look(root)


def test_lists_that_overlap_or_name_nothing(tmp_path: Path) -> None:
    root = own.draw(tmp_path)
    (root / "train.txt").write_text("p0\np1\np2\nnone\n")
    (root / "val.txt").write_text("p2\np3\n")
    errors = look(root).errors
    assert any("train.txt lists none, but no picture has that name" in error for error in errors)
    assert any("p2 is listed both to train on and to validate on" in error for error in errors)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sets(st.integers(0, 4), min_size=1), min_size=2, max_size=20),
    st.integers(0, 2**31),
    st.sampled_from([0.1, 0.2, 0.5]),
)
def test_each_class_is_in_both_parts_when_it_can_be(shows: list[set[int]], seed: int, share: float) -> None:
    facts = [Facts(Pair(f"p{i}", None, None), digest=str(i)) for i in range(len(shows))]
    classes = {f"p{i}": each for i, each in enumerate(shows)}
    train, val = parted(facts, classes, share, seed)
    assert sorted(train + val) == sorted(classes) and train
    assert val or len(train) <= 5  # each is kept for one of the five classes
    assert (train, val) == parted(facts[::-1], classes, share, seed)
    for kind in range(5):
        having = {name for name, each in classes.items() if kind in each}
        if len(having) > 1 and not _alone(classes, having):
            assert having & set(train) and having & set(val), kind


def _alone(classes: dict[str, set[int]], having: set[str]) -> bool:
    """True if pictures of a class are the only ones of another class, so that they cannot be parted freely."""
    only = [each for k in range(5) if len(each := {n for n, shown in classes.items() if k in shown}) <= 2]
    return any(each & having for each in only)


def test_equal_pictures_stay_together() -> None:
    facts = [Facts(Pair(f"p{i}", None, None), digest=str(i // 3)) for i in range(12)]
    train, val = parted(facts, {f"p{i}": {0} for i in range(12)}, 0.25)
    groups = [{int(name[1:]) // 3 for name in part} for part in (train, val)]
    assert not groups[0] & groups[1] and len(val) == 3


def test_check_prints_a_table_and_its_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = own.draw(tmp_path / "good", mask=own.colours)
    assert ends(main, ["check", root]) == 0
    told = capsys.readouterr().out
    assert "pictures    6" in told and "5 train, 1 val" in told and "blue        #0000ff" in told
    bad = own.draw(tmp_path / "bad")
    (bad / "images" / "p1.jpg").write_bytes(b"")
    assert ends(main, ["check", root, bad]) == 1
    assert "error: cannot read image" in capsys.readouterr().out
    fails(capsys, main, ["check"], "name a folder that holds pictures and masks")
    fails(capsys, main, ["check", tmp_path / "nowhere"], "no such folder")
    fails(capsys, main, ["convert", root], "--to DIR")


def test_convert_writes_vocs_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = own.draw(tmp_path / "own", mask=own.colours, ending="_mask")
    assert ends(main, ["convert", root, "--to", tmp_path / "voc"]) == 0
    assert "6 pictures, 3 classes" in capsys.readouterr().out
    train, val = VOC(tmp_path / "voc", "train"), VOC(tmp_path / "voc", "val")
    assert train.classes == ("background", "blue", "red") and len(train) + len(val) == 6
    name = train.names[0]
    np.testing.assert_array_equal(train[0].label, np.array([0, 2, 1], np.uint8)[own.label(int(name[1:]))])
    np.testing.assert_array_equal(train[0].image, np.asarray(Image.open(root / "images" / f"{name}.jpg")))
    fails(capsys, main, ["convert", root, "--to", tmp_path / "voc"], "holds other files")


def test_a_manifest_may_be_damaged_or_its_part_unknown(tmp_path: Path) -> None:
    report = look(own.draw(tmp_path))
    data = opened(report, tmp_path, "train")
    assert len(open_dataset("folder", tmp_path, "val")) == 6 - len(data)
    with pytest.raises(InputError, match="parts train, val and all, not 'x'"):
        OwnPictures(tmp_path, "x")
    with pytest.raises(FileNotFoundError, match="no such file"):
        OwnPictures(tmp_path / "nowhere.json")
    content = json.loads((tmp_path / MANIFEST).read_text())
    outside = {"parts": {"train": [["../../x", "p0.jpg", "p0.png"]], "val": []}}
    for change in (
        {"parts": {"train": []}},
        {"images": 3},
        {"parts": {"train": [["a"]], "val": []}},
        outside,
    ):
        (tmp_path / MANIFEST).write_text(json.dumps(content | change))
        with pytest.raises(InputError, match="damaged"):
            OwnPictures(tmp_path)


def test_find_pairs_passes_over_hidden_files(tmp_path: Path) -> None:
    root = own.draw(tmp_path)
    (root / "images" / ".thumb.jpg").write_bytes(b"")
    assert [pair.name for pair in find_pairs(locate(root))] == [f"p{i}" for i in range(6)]


def test_names_with_spaces_get_others_in_vocs_lists(tmp_path: Path) -> None:
    root = own.draw(tmp_path / "own")
    for folder, suffix in (("images", ".jpg"), ("masks", ".png")):
        (root / folder / f"p0{suffix}").rename(root / folder / f"my photo{suffix}")
    assert ends(main, ["convert", root, "--to", tmp_path / "voc"]) == 0
    names = VOC(tmp_path / "voc", "train").names + VOC(tmp_path / "voc", "val").names
    assert sorted(names) == ["my_photo", "p1", "p2", "p3", "p4", "p5"]


def test_labelme_files_beside_their_pictures(tmp_path: Path) -> None:
    root = own.draw(tmp_path, images="all", masks="x")
    for index in range(6):
        own.write_json(tmp_path / "all" / f"p{index}.json", own.labelme(index))
    check_labels(opened(look(root / "all"), tmp_path), ("background", "cat", "dog"))


def test_a_coco_file_beside_the_folder_of_pictures(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    own.draw(tmp_path / "a")
    root = tmp_path / "a"
    for path in list((root / "masks").iterdir()):
        path.unlink()
    (root / "masks").rmdir()
    own.write_json(root / "annotations.json", own.coco(6))
    check_labels(opened(look(root), tmp_path), ("background", "cat", "dog"))
