"""Pictures: what their pixels are, that they are whole files, and that legends say what is there."""

import io

import matplotlib
import numpy as np
import pytest
from PIL import Image

from fcnlite import vis
from fcnlite.data import voc_palette
from fcnlite.errors import InputError

CLASSES = ("background", "aeroplane", "bicycle")


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)


@pytest.fixture
def label():
    label = np.zeros((40, 60), np.uint8)
    label[10:30, 10:30] = 1
    label[10:30, 30:32] = 255
    return label


def test_label_png_holds_the_numbers_and_the_palette(tmp_path, label):
    vis.write_label(tmp_path / "l.png", label.astype(np.int64))
    with Image.open(tmp_path / "l.png") as read:
        assert read.mode == "P" and read.format == "PNG"
        np.testing.assert_array_equal(np.array(read), label)
        np.testing.assert_array_equal(np.array(read.getpalette()).reshape(-1, 3), voc_palette())
        np.testing.assert_array_equal(np.array(read.convert("RGB")), vis.paint(label))
    assert [p.name for p in tmp_path.iterdir()] == ["l.png"]
    with pytest.raises(ValueError, match="0 to 65535"):
        vis.write_label(tmp_path / "bad.png", np.full((2, 2), 65536))
    with pytest.raises(ValueError, match="height x width"):
        vis.write_label(tmp_path / "bad.png", np.zeros((2, 2, 3)))
    assert not (tmp_path / "bad.png").exists()


def test_pictures_are_written_by_suffix(tmp_path, image):
    vis.write_image(tmp_path / "a.png", image)
    with Image.open(tmp_path / "a.png") as read:
        np.testing.assert_array_equal(np.array(read), image)
    vis.write_image(tmp_path / "a.JPG", image)
    with Image.open(tmp_path / "a.JPG") as read:
        assert read.format == "JPEG" and read.size == (60, 40)
    with pytest.raises(InputError, match=r"cannot write .*a.bmp: pictures are written as"):
        vis.write_image(tmp_path / "a.bmp", image)
    with pytest.raises(InputError, match="folder .* does not exist"):
        vis.write_image(tmp_path / "no" / "a.png", image)


def test_overlay_tints_all_but_the_background(image, label):
    out = vis.overlay(image, label, alpha=0.25)
    assert out.shape == image.shape and out.dtype == np.uint8
    np.testing.assert_array_equal(out[label == 0], image[label == 0])
    for value in (1, 255):
        expected = 0.75 * image[label == value] + 0.25 * voc_palette()[value]
        np.testing.assert_allclose(out[label == value], expected, atol=0.51)
    np.testing.assert_array_equal(vis.overlay(image, label, alpha=0), image)
    with pytest.raises(ValueError, match="label"):
        vis.overlay(image, label[:5])


def test_overlay_legend_shows_the_classes_present(image, label):
    out = vis.overlay(image, label, classes=CLASSES)
    strip = out[image.shape[0] :]
    assert out.shape[1] == vis.NARROWEST > image.shape[1] and strip.shape[0] > 10
    assert (out[: image.shape[0], image.shape[1] :] == 255).all()  # a small picture stands on white above it
    colours = {tuple(c) for c in strip.reshape(-1, 3)}
    assert tuple(voc_palette()[1]) in colours and tuple(voc_palette()[2]) not in colours


@pytest.mark.parametrize("width", [1, 20, 64, 500])
def test_legends_fit_any_width(width):
    names = tuple(f"class number {k} with a long name" for k in range(30))
    strip = vis.legend(np.arange(30).reshape(5, 6), names, width=width)
    assert strip.shape[1] == width and strip.dtype == np.uint8


def test_legends_of_large_pictures_stay_legible_when_shrunk(image, label):
    def height(wide):
        return vis.legend(label[:1, :1], CLASSES, width=wide).shape[0]

    assert height(200) == height(900) and height(4000) > 2.5 * height(900)
    head = vis.side_by_side({"image": np.zeros((10, 4000, 3), np.uint8)}).shape[0] - 10
    assert head > 40


def test_a_legend_for_forty_classes_names_them_all_and_void():
    names = tuple(f"class {k}" for k in range(40))
    label = np.append(np.arange(40), [255, 255]).reshape(6, 7)
    strip = vis.legend(label, names, width=500)
    colours = {tuple(c) for c in strip.reshape(-1, 3)}
    assert all(tuple(c) in colours for c in voc_palette()[[*range(1, 40), 255]])
    without = vis.legend(np.arange(40).reshape(5, 8), names, width=500)
    assert tuple(voc_palette()[255]) not in {tuple(c) for c in without.reshape(-1, 3)}


def test_some_classes_alone_and_contours(image):
    label = np.zeros(image.shape[:2], np.uint8)
    label[10:30, 10:30], label[10:30, 30:50] = 1, 2
    only = vis.overlay(image, label, alpha=1, only=[2])
    assert (only[10:30, 30:50] == voc_palette()[2]).all() and (
        only[10:30, 10:30] == image[10:30, 10:30]
    ).all()
    lined = vis.overlay(image, label, alpha=0, contours=2)
    inside = np.zeros(label.shape, bool)
    inside[12:28, 12:28] = inside[12:28, 32:48] = True
    expected = np.where((label > 0)[..., None] & ~inside[..., None], voc_palette()[label], image)
    np.testing.assert_array_equal(lined, expected)


@pytest.mark.parametrize("contours", [0, 1, 7])
def test_a_tall_picture_is_drawn_as_its_parts_would_be(contours: int) -> None:
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (600, 40, 3), dtype=np.uint8)
    label = np.kron(rng.integers(0, 3, (60, 4)), np.ones((10, 10), int)).astype(np.uint8)
    whole = vis.overlay(image, label, alpha=0.3, contours=contours)
    part = vis.overlay(image[200:320], label[200:320], alpha=0.3, contours=contours)
    np.testing.assert_array_equal(whole[200 + contours : 320 - contours], part[contours : 120 - contours])


def test_a_contact_sheet_holds_every_picture():
    pictures = [(f"picture {i}", np.full((50 + 10 * i, 80, 3), 20 * i, np.uint8)) for i in range(7)]
    sheet = vis.contact_sheet(pictures, cell=60)
    assert sheet.shape[1] == 3 * (60 + vis.GAP) + vis.GAP
    for i in range(7):
        assert ((sheet == 20 * i).all(-1)).sum() > 1000


def test_pictures_stand_side_by_side_under_their_titles(image, label):
    pictures = {
        "image": image,
        "prediction": vis.paint(np.where(label == 255, 0, label)),
        "truth": vis.paint(label),
    }
    out = vis.side_by_side(pictures)
    head = out.shape[0] - 40
    pitch = 60 + vis.GAP
    assert out.shape[1] == 3 * 60 + 2 * vis.GAP and head > 5
    for i, expected in enumerate(pictures.values()):
        np.testing.assert_array_equal(out[head:, i * pitch : i * pitch + 60], expected)


def test_a_name_of_any_length_is_cut_by_measuring_a_few_beginnings(monkeypatch):
    measured = []
    font = type(vis.ImageFont.load_default(10))
    length = font.getlength
    monkeypatch.setattr(
        font, "getlength", lambda self, text: measured.append(len(text)) or length(self, text)
    )
    vis.legend(np.zeros((2, 2), np.uint8), ["x" * 10**6], width=300)
    assert len(measured) < 20 and max(measured) <= 300


def test_legend_text_gives_shares_without_void(label):
    lines = vis.legend_text(label, CLASSES).splitlines()
    counted = (label != 255).sum()
    assert [line.split()[0] for line in lines] == ["background", "aeroplane"]
    assert lines[1].split()[1] == f"{100 * 400 / counted:.1f}"
    assert "\x1b" not in "".join(lines)
    coloured = vis.legend_text(label, CLASSES, colour=True)
    assert "\x1b[48;2;128;0;0m" in coloured and coloured.count("\x1b[0m") == 2
    assert vis.legend_text(np.full((2, 2), 255), CLASSES) == ""


def test_colour_goes_to_terminals_only(label, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    file, terminal = io.StringIO(), Terminal()
    vis.print_legend(label, CLASSES, stream=file)
    vis.print_legend(label, CLASSES, stream=terminal)
    assert "\x1b" not in file.getvalue() and "\x1b[48;2;" in terminal.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    vis.print_legend(label, CLASSES, stream=plain)
    assert plain.getvalue() == file.getvalue()


@pytest.mark.parametrize(
    ("loss", "lr"),
    [
        ([3.0], None),
        ([3.0, 2.0, 1.0], [1e-3] * 3),
        ([1e5, 1e3, 10.0], [1e-2, 1e-4, 1e-6]),
        ([0.0, 1.0, float("nan")], [0.0, 1.0, 0.5]),
        ([float("nan"), float("inf")], None),
    ],
)
def test_loss_curves_of_any_run_are_drawn(tmp_path, loss, lr):
    backend = matplotlib.get_backend()
    vis.write_loss_curve(tmp_path / "loss.png", range(1, len(loss) + 1), loss, lr, smooth=2)
    with Image.open(tmp_path / "loss.png") as read:
        assert read.size[0] > 600 and len(np.unique(np.array(read.convert("L")))) > 10
    assert matplotlib.get_backend() == backend


def test_loss_curve_input_is_checked(tmp_path):
    with pytest.raises(ValueError, match="same length"):
        vis.write_loss_curve(tmp_path / "l.png", [1, 2], [1.0])
    with pytest.raises(ValueError, match="no losses"):
        vis.write_loss_curve(tmp_path / "l.png", [], [])
    assert not list(tmp_path.iterdir())


def test_running_mean_is_that_of_the_last_values():
    values = np.array([1.0, 5.0, 3.0, 9.0])
    np.testing.assert_allclose(vis.running_mean(values, 2), [1, 3, 4, 6])
    np.testing.assert_allclose(vis.running_mean(values, 99), [1, 3, 3, 4.5])


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_no_half_picture_on_a_full_disk(tmp_path, small_disk, name):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    with pytest.raises(InputError, match="cannot be written"):
        vis.write_image(tmp_path / name, noise)
    with pytest.raises(InputError, match="cannot be written"):
        vis.write_label(tmp_path / "a.png", noise[:, :, 0])
    assert not list(tmp_path.iterdir())
