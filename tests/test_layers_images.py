"""ImageData, WindowData and HDF5Output beyond what Caffe's numbers show: label images, resuming, mistakes."""

import h5py
import numpy as np
import pytest
from cases import check_sharing
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import fcnlite.random
from fcnlite import device
from fcnlite.data import opencv
from fcnlite.deploy import deployed
from fcnlite.errors import InputError, InputWarning
from fcnlite.net import Net
from fcnlite.proto import parse_net

PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0] + [7] * (256 * 3 - 9)


def picture(path, seed, size=(9, 12)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels[:, :, ::-1].transpose(2, 0, 1)


def labels(path, seed, size=(9, 12)):
    values = np.random.default_rng(seed + 100).integers(0, 3, size).astype(np.uint8)
    image = Image.fromarray(values)
    image.putpalette(PALETTE)
    image.save(path)
    return values


def layer(kind="ImageData", settings="", transform="", tops=("data", "label"), source="list.txt"):
    named = " ".join(f'top: "{top}"' for top in tops)
    fields = {"ImageData": "image_data_param", "WindowData": "window_data_param"}[kind]
    return (
        f'layer {{ name: "data" type: "{kind}" {named} {fields} {{ source: "{source}" {settings} }} '
        f"transform_param {{ {transform} }} }}\n"
    )


def step(net):
    net.forward()
    return [device.current().tonumpy(blob.data).copy() for blob in net.blobs.values()]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Images a, b, c with label images, and two lists of them."""
    images = {name: picture(tmp_path / f"{name}.png", seed) for seed, name in enumerate("abc")}
    maps = {name: labels(tmp_path / f"{name} label.png", seed) for seed, name in enumerate("abc")}
    (tmp_path / "list.txt").write_text("a.png 4\nb.png 5\n\nc.png -1\n")
    monkeypatch.chdir(tmp_path)
    for name in "abc":
        (tmp_path / f"{name} label.png").rename(tmp_path / f"{name}_label.png")
    (tmp_path / "maps.txt").write_text("".join(f"{name}.png {name}_label.png\n" for name in "abc"))
    return images, maps


def test_images_come_in_the_lists_order(folder):
    images, _ = folder
    net = Net(layer(settings="batch_size: 2"))
    for names, numbers in (("ab", [4, 5]), ("ca", [-1, 4]), ("bc", [5, -1])):
        data, label = step(net)
        assert np.array_equal(data, [images[name] for name in names]) and label.tolist() == numbers


def test_one_top_is_enough(folder):
    assert list(Net(layer(tops=("data",))).blobs) == ["data"]


def test_label_images_hold_classes_as_their_palette_numbers_them(folder):
    images, maps = folder
    net = Net(layer(source="maps.txt"))
    for name in "abca":
        data, label = step(net)
        assert np.array_equal(data[0], images[name]) and label.shape == (1, 1, 9, 12)
        assert np.array_equal(label[0, 0], maps[name])


def test_label_images_are_cut_and_mirrored_with_their_images(folder):
    images, maps = folder
    fcnlite.random.set_random_seed(3)
    net = Net(layer(source="maps.txt", transform="crop_size: 5 mirror: true"), "TRAIN")
    seen = set()
    for k in range(30):
        data, label = step(net)
        image, whole = images["abc"[k % 3]], maps["abc"[k % 3]]
        places = [
            (top, left, flip)
            for top in range(5)
            for left in range(8)
            for flip in (1, -1)
            if np.array_equal(data[0], image[:, top : top + 5, left : left + 5][:, :, ::flip])
        ]
        assert len(places) == 1
        top, left, flip = places[0]
        assert np.array_equal(label[0, 0], whole[top : top + 5, left : left + 5][:, ::flip])
        seen.add(places[0])
    assert len(seen) > 15 and {flip for _, _, flip in seen} == {1, -1}


def test_label_images_are_resized_without_mixing(folder):
    net = Net(layer(source="maps.txt", settings="new_height: 18 new_width: 24"))
    data, label = step(net)
    assert data.shape == (1, 3, 18, 24)
    assert np.array_equal(label[0, 0], folder[1]["a"].repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("settings", ["shuffle: true", "shuffle: true batch_size: 2 rand_skip: 2", ""])
def test_a_run_that_goes_on_sees_what_a_whole_run_sees(folder, settings):
    text = layer(settings=settings, transform="crop_size: 6 mirror: true")
    fcnlite.random.set_random_seed(5)
    net = Net(text, "TRAIN")
    whole = [step(net) for _ in range(8)]
    for start in (6, 2, 0):
        net.layers[0].seek(start)
        for expected in whole[start:]:
            for got, wanted in zip(step(net), expected, strict=True):
                assert np.array_equal(got, wanted)


def test_every_round_of_a_shuffle_has_every_image(folder):
    net = Net(layer(settings="shuffle: true"), "TRAIN")
    rounds = [[float(step(net)[1][0]) for _ in range(3)] for _ in range(12)]
    assert all(sorted(numbers) == [-1, 4, 5] for numbers in rounds)
    assert len({tuple(numbers) for numbers in rounds}) > 2


def test_paths_are_found_beside_the_prototxt(folder, tmp_path, monkeypatch):
    (tmp_path / "net.prototxt").write_text(layer(settings='root_folder: "./"'))
    monkeypatch.chdir("/")
    assert np.array_equal(step(Net(tmp_path / "net.prototxt"))[0][0], folder[0]["a"])


@pytest.mark.parametrize(
    ("lines", "settings", "said"),
    [
        ("", "", r"list.txt' names no image"),
        ("a.png 1\nb.png\n", "", "list.txt:2: a name and a label are needed"),
        ("a.png 1\nb.png b_label.png\n", "", "list.txt:2: 'b_label.png' is another kind of label"),
        ("a.png 1\nnone.png 2\n", "batch_size: 2", "'none.png' is neither in"),
        ("list.txt 1\n", "", "cannot read image list.txt: not a picture"),
        ("a.png small.png\n", "", r"small.png has size \(3, 3\), its image \(9, 12\)"),
        ("a.png b.png\n", "", "b.png has mode RGB; its grey levels or palette indices must be"),
        (
            "a.png 1\nsmall.png 2\n",
            "batch_size: 2",
            r"image 'small.png' has shape \(3, 3, 3\), the first of its batch",
        ),
        ("a.png 1\n", "batch_size: 0", "batch_size is missing or 0"),
        ("a.png 1\n", "new_height: 3", "new_height and new_width must be given together"),
    ],
)
def test_mistakes_in_a_list_are_told(folder, tmp_path, lines, settings, said):
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(tmp_path / "small.png")
    (tmp_path / "list.txt").write_text(lines)
    with pytest.raises((InputError, FileNotFoundError), match=said):
        step(Net(layer(settings=settings)))


def test_a_net_that_reads_images_has_a_deploy_form():
    text = layer(transform="crop_size: 7") + (
        'layer { name: "c" type: "Convolution" bottom: "data" top: "c" '
        "convolution_param { num_output: 2 kernel_size: 1 } }"
        'layer { name: "l" type: "SoftmaxWithLoss" bottom: "c" bottom: "label" top: "l" }'
    )
    net = Net(deployed(parse_net(text)))
    assert net.inputs == ["data"] and net.blobs["c"].shape == (1, 2, 7, 7)


# Reading and resizing


def test_transparency_sixteen_bits_and_turned_photos_are_read_as_opencv_does(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 4)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "alpha.png")
    assert np.array_equal(opencv.read(tmp_path / "alpha.png"), pixels[:, :, 2::-1].transpose(2, 0, 1))
    deep = np.arange(20, dtype=np.uint16).reshape(4, 5) * 3000
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert np.array_equal(opencv.read(tmp_path / "deep.png", color=False)[0], deep >> 8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels[:, :, :3]).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(
        opencv.read(tmp_path / "turned.png")[::-1].transpose(1, 2, 0), np.rot90(pixels[:, :, :3], -1)
    )


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_resizing_is_linear_between_the_pixels_centres(height, width, new_height, new_width, seed):
    image = np.random.default_rng(seed).integers(0, 256, (2, height, width)).astype(np.uint8)
    got = opencv.resize(image, new_height, new_width)
    if (height, width) == (2 * new_height, 2 * new_width):
        return
    rows, columns = (
        (np.arange(n) + 0.5) * old / n - 0.5 for n, old in ((new_height, height), (new_width, width))
    )
    columns, rows = columns.clip(0, width - 1), rows.clip(0, height - 1)
    across = np.array([[np.interp(columns, np.arange(width), row) for row in plane] for plane in image])
    exact = np.array([[np.interp(rows, np.arange(height), line) for line in plane.T] for plane in across])
    assert np.abs(got - exact.transpose(0, 2, 1)).max() <= 1


def test_resizing_to_half_averages():
    image = np.arange(24, dtype=np.uint8).reshape(1, 4, 6) ** 2
    expected = np.floor(image.reshape(1, 2, 2, 3, 2).mean(axis=(2, 4)) + 0.5)
    assert np.array_equal(opencv.resize(image, 2, 3), expected)


# Windows

WINDOWS = "# 0\na.png\n3\n9\n12\n3\n2 0.9 1 1 6 6\n1 0.1 0 0 3 3\n1 0.5 2 2 9 8\n"


@pytest.mark.parametrize(
    ("text", "settings", "transform", "said"),
    [
        ("", "batch_size: 2", "crop_size: 4", "has no foreground window"),
        ("a.png", "batch_size: 2", "crop_size: 4", "windows, at its beginning: 'a.png' instead of #"),
        (
            WINDOWS + "# 1\nb.png 3 9",
            "batch_size: 2",
            "crop_size: 4",
            "at image 1, 'a.png': it ends too early",
        ),
        (
            WINDOWS.replace("2 0.9", "0 0.9"),
            "batch_size: 2",
            "crop_size: 4",
            "a foreground window of label 0",
        ),
        (WINDOWS, "batch_size: 2", "", "crop_size in transform_param are needed"),
        (
            WINDOWS,
            "batch_size: 2 context_pad: 2",
            "crop_size: 4",
            "context_pad 2 leaves nothing of crop_size 4",
        ),
        (WINDOWS, 'batch_size: 2 crop_mode: "round"', "crop_size: 4", "not 'round'"),
        (WINDOWS.replace("6 6\n", "60 60\n"), "batch_size: 8", "crop_size: 4", "does not lie in its 12 x 9"),
        (
            WINDOWS.replace("a.png\n3", "a.png\n1"),
            "batch_size: 2",
            "crop_size: 4",
            "its images have 1 channels",
        ),
    ],
)
def test_mistakes_in_windows_are_told(folder, tmp_path, text, settings, transform, said):
    (tmp_path / "windows.txt").write_text(text)
    with pytest.raises(InputError, match=said):
        net = Net(layer("WindowData", settings, transform, source="windows.txt"), "TRAIN")
        for _ in range(5):
            step(net)


def test_windows_go_on_where_a_run_stopped_and_tell_of_a_scale_that_does_nothing(folder, tmp_path):
    (tmp_path / "windows.txt").write_text(WINDOWS)
    with pytest.warns(InputWarning, match="transform_param's scale has no effect"):
        net = Net(
            layer("WindowData", "batch_size: 4", "crop_size: 4 mirror: true scale: 2", source="windows.txt")
        )
    whole = [step(net) for _ in range(5)]
    net.layers[0].seek(2)
    for got, expected in zip(step(net), whole[2], strict=True):
        assert np.array_equal(got, expected)


def test_windows_are_shared_out_to_processes(folder, tmp_path):
    """What each takes is what one process takes in its turn."""
    (tmp_path / "windows.txt").write_text(WINDOWS)
    check_sharing(layer("WindowData", "batch_size: 4", "crop_size: 4 mirror: true", source="windows.txt"))


# Output

OUTPUT = (
    'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 2 dim: 3 } } }\n'
    'layer { name: "l" type: "Input" top: "l" input_param { shape { dim: 2 } } }\n'
    'layer { name: "out" type: "HDF5Output" bottom: "d" bottom: "l" hdf5_output_param { file_name: "out.h5" } }\n'
)


def test_every_forward_pass_adds_its_rows_to_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = Net(OUTPUT)
    assert not (tmp_path / "out.h5").exists()
    batches = [np.arange(6, dtype=np.float32).reshape(2, 3) + 10 * k for k in range(3)]
    for k, batch in enumerate(batches):
        net.forward(d=batch, l=np.full(2, k, np.float32))
    with h5py.File("out.h5") as file:
        assert np.array_equal(file["data"][()], np.concatenate(batches).reshape(6, 3, 1, 1))
        assert file["label"][:, 0, 0, 0].tolist() == [0, 0, 1, 1, 2, 2]
    net.forward(d=np.zeros((5, 3), np.float32), l=np.zeros(5, np.float32))  # any number of rows
    with pytest.raises(InputError, match=r"rows of shape \(4, 1, 1\) do not fit those of \(3, 1, 1\)"):
        net.forward(d=np.zeros((2, 4), np.float32), l=np.zeros(2, np.float32))
    Net(OUTPUT).forward(d=batches[0], l=np.zeros(2, np.float32))  # another run begins anew
    with h5py.File("out.h5") as file:
        assert file["data"].shape == (2, 3, 1, 1)


def test_output_refuses_what_it_cannot_write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="2 rows of data and 3 of labels"):
        Net(OUTPUT.replace("shape { dim: 2 }", "shape { dim: 3 }"))
    with pytest.raises(InputError, match="1 to 4 axes can be written"):
        Net(OUTPUT.replace("dim: 2 dim: 3", "dim: 2 dim: 3 dim: 1 dim: 1 dim: 1"))
    with pytest.raises(InputError, match="file_name is missing"):
        Net(OUTPUT.replace('file_name: "out.h5"', ""))
    (tmp_path / "out.h5").write_text("my notes")
    with pytest.raises(InputError, match="is not an HDF5 file; it is not overwritten"):
        Net(OUTPUT).forward()
    assert (tmp_path / "out.h5").read_text() == "my notes"
