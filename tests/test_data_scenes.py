"""NYUDv2, SIFT Flow and PASCAL-Context in their true on-disk formats, made small."""

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse
from PIL import Image

from fcnlite.data import NYUD, Batches, PASCALContext, SIFTFlow
from fcnlite.data.classes import PASCALCONTEXT, SIFTFLOW
from fcnlite.data.hha import encode
from fcnlite.data.nyud import MODES, read_class_mapping
from fcnlite.data.pascalcontext import RAW_NAMES
from fcnlite.errors import InputError

SIZE = (24, 32)


def pixels(rng, size=SIZE):
    return rng.integers(0, 256, size=(*size, 3)).astype(np.uint8)


def bgr_minus(image, mean):
    """What the original layers do to an image."""
    out = np.array(image, dtype=np.float32)[:, :, ::-1]
    out -= np.array(mean, dtype=np.float32)
    return out.transpose(2, 0, 1)


def write_list(folder, split, names):
    (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))


def make_nyud(folder, names=("5001", "5003"), with_hha=True):
    """The layout of the original experiments; returns {id: {map: array}}."""
    rng = np.random.default_rng(3)
    for part in ("data/images", "data/depth", "segmentation", *(["data/hha"] if with_hha else [])):
        (folder / part).mkdir(parents=True, exist_ok=True)
    write_list(folder, "trainval", names)
    held = {}
    for name in names:
        maps = {
            "color": pixels(rng),
            "hha": pixels(rng),
            "depth": rng.integers(700, 9000, SIZE).astype(np.uint16),
            "label": rng.integers(0, 41, SIZE).astype(np.uint8),
        }
        Image.fromarray(maps["color"]).save(folder / f"data/images/img_{name}.png")
        Image.fromarray(maps["depth"]).save(folder / f"data/depth/img_{name}.png")
        if with_hha:
            Image.fromarray(maps["hha"]).save(folder / f"data/hha/img_{name}.png")
        scipy.io.savemat(folder / f"segmentation/img_{name}.mat", {"segmentation": maps["label"]})
        held[name] = maps
    return held


@pytest.mark.parametrize("mode", MODES)
def test_nyud_feeds_what_the_original_layer_does(tmp_path, mode):
    held = make_nyud(tmp_path)
    data = NYUD(tmp_path, "trainval", tops=MODES[mode])
    blobs, maps = data.blobs(1), held["5003"]
    expected = {
        "color": bgr_minus(maps["color"], (116.190, 97.203, 92.318)),
        "hha": (maps["hha"].astype(np.float32) - np.float32([132.431, 94.076, 118.477])).transpose(2, 0, 1),
        "depth": (np.log(maps["depth"].astype(np.float32)) - np.float32(7.844))[None],
        "label": (maps["label"] - np.uint8(1))[None],
    }
    inputs = MODES[mode][:-1]
    names = ["data" if len(inputs) == 1 else inputs[0], *inputs[1:], "label"]
    assert list(blobs) == names
    for name, top in zip(names, MODES[mode]):
        assert blobs[name].dtype == np.float32
        np.testing.assert_array_equal(blobs[name], expected[top])


def test_nyud_samples(tmp_path):
    held = make_nyud(tmp_path)
    sample = NYUD(tmp_path, "trainval", tops=MODES["rgb-hha"])[0]
    assert sample.name == "5001" and list(sample.others) == ["hha"]
    np.testing.assert_array_equal(sample.image, held["5001"]["color"])
    assert (sample.label[held["5001"]["label"] == 0] == 255).all()
    assert sample.label[held["5001"]["label"] == 40][0] == 39
    data = NYUD(tmp_path, "trainval")
    assert len(data.classes) == 40 and data.classes[0] == "wall" and data.classes[39] == "otherprop"
    assert data.background is None


def test_nyud_without_hha_encodes_its_depth(tmp_path):
    held = make_nyud(tmp_path, with_hha=False)
    sample = NYUD(tmp_path, "trainval", tops=MODES["hha"])[0]
    np.testing.assert_array_equal(sample.others["hha"], encode(held["5001"]["depth"] / 1000))


def test_unknown_depth_feeds_the_mean(tmp_path):
    make_nyud(tmp_path)
    Image.fromarray(np.zeros(SIZE, np.uint16)).save(tmp_path / "data/depth/img_5001.png")
    assert (NYUD(tmp_path, "trainval", tops=MODES["rgbd"]).blobs(0)["depth"] == 0).all()


def test_nyud_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="NYUDv2 data not found: looked in .*segmentation.*nyu_depth"):
        NYUD(tmp_path)
    make_nyud(tmp_path)
    with pytest.raises(InputError, match="no map 'sound'"):
        NYUD(tmp_path, tops=["sound", "label"])
    with pytest.raises(InputError, match="name at least one of"):
        NYUD(tmp_path, tops=["label"])
    with pytest.raises(InputError, match="tops is 'color', not a list"):
        NYUD(tmp_path, tops="color")
    scipy.io.savemat(tmp_path / "segmentation/img_5001.mat", {"segmentation": np.full(SIZE, 41)})
    with pytest.raises(InputError, match=r"img_5001.mat holds the value 41; labels are 0 to 40$"):
        NYUD(tmp_path)[0]
    Image.fromarray(np.zeros((5, 5), np.uint16)).save(tmp_path / "data/depth/img_5003.png")
    with pytest.raises(InputError, match=r"depth/img_5003.png is 5 x 5 but"):
        NYUD(tmp_path, tops=MODES["rgbd"])[1]
    (tmp_path / "data/depth/img_5003.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"depth .*img_5003.png is missing"):
        NYUD(tmp_path, tops=MODES["rgbd"])
    assert len(NYUD(tmp_path)) == 2


def make_labelled(folder, count=4, size=SIZE, raw=True):
    """The official labelled data set as MATLAB 7.3 writes it, every axis reversed; returns upright maps."""
    rng = np.random.default_rng(4)
    maps = {
        "images": rng.integers(0, 256, (count, 3, *size)).astype(np.uint8),
        "depths": rng.uniform(1, 5, (count, *size)).astype(np.float32),
        "labels": rng.integers(0, 895, (count, *size)).astype(np.uint16),
    }
    if raw:
        maps["rawDepths"] = np.where(rng.random((count, *size)) < 0.2, 0, maps["depths"])
    with h5py.File(folder / "nyu_depth_v2_labeled.mat", "w") as file:
        for key, value in maps.items():
            file[key] = value.swapaxes(-1, -2)
    mapping = rng.integers(1, 41, 894)
    scipy.io.savemat(folder / "classMapping40.mat", {"mapClass": mapping[None], "className": ["x"]})
    scipy.io.savemat(folder / "splits.mat", {"trainNdxs": [[1], [4]], "testNdxs": [[2], [3]]})
    return maps, np.concatenate([[0], mapping])


def test_the_official_labelled_file(tmp_path):
    maps, mapping = make_labelled(tmp_path)
    data = NYUD(tmp_path, "train", tops=["color", "depth", "hha", "label"])
    assert data.names == ["1", "4"] == NYUD(tmp_path, "trainval").names
    assert NYUD(tmp_path, "test").names == ["2", "3"]
    for index, at in enumerate((0, 3)):
        sample = data[index]
        np.testing.assert_array_equal(sample.image, maps["images"][at].transpose(1, 2, 0))
        np.testing.assert_array_equal(sample.label, (mapping[maps["labels"][at]] - 1).astype(np.uint8))
        np.testing.assert_allclose(sample.others["depth"], 1000 * maps["depths"][at], rtol=1e-6)
        expected = encode(maps["depths"][at], missing=maps["rawDepths"][at] == 0).astype(int)
        assert (np.abs(sample.others["hha"] - expected) > 1).mean() < 0.01
    blobs = data.blobs(0)
    np.testing.assert_allclose(blobs["depth"][0], np.log(1000 * maps["depths"][0]) - 7.844, atol=1e-5)


def test_lists_of_the_labelled_file_may_count_from_5001(tmp_path):
    maps, _ = make_labelled(tmp_path)
    write_list(tmp_path, "train", ["5003"])
    data = NYUD(tmp_path / "nyu_depth_v2_labeled.mat", "train")
    np.testing.assert_array_equal(data[0].image, maps["images"][2].transpose(1, 2, 0))
    write_list(tmp_path, "train", ["5005"])
    with pytest.raises(InputError, match="train.txt lists image 5005, but .* holds 4 images"):
        NYUD(tmp_path, "train")


def test_full_size_images_are_cut_to_where_depth_is(tmp_path):
    maps, _ = make_labelled(tmp_path, count=4, size=(480, 640), raw=False)
    sample = NYUD(tmp_path, "train", tops=MODES["rgbd"])[0]
    np.testing.assert_array_equal(sample.image, maps["images"][0].transpose(1, 2, 0)[44:471, 40:601])
    assert sample.label.shape == sample.others["depth"].shape == (427, 561)


def test_class_mappings_as_text_and_their_errors(tmp_path):
    maps, mapping = make_labelled(tmp_path)
    text = tmp_path / "map.txt"
    text.write_text(", ".join(map(str, mapping[1:])))
    np.testing.assert_array_equal(read_class_mapping(text), mapping)
    np.testing.assert_array_equal(
        NYUD(tmp_path, "train", mapping=text)[0].label, NYUD(tmp_path, "train")[0].label
    )
    text.write_text("1 2 41")
    with pytest.raises(InputError, match="map.txt holds the value 41"):
        read_class_mapping(text)
    text.write_text("1 two 3")
    with pytest.raises(InputError, match="map.txt holds more than numbers"):
        read_class_mapping(text)
    text.write_text("0 0")
    with pytest.raises(InputError, match="maps every class to void"):
        read_class_mapping(text)
    text.write_text("1 2 3")
    with pytest.raises(InputError, match=r"has class \d+, but the class mapping ends at 3"):
        NYUD(tmp_path, "train", mapping=text)[0]
    (tmp_path / "classMapping40.mat").unlink()
    with pytest.raises(FileNotFoundError, match="mapping of NYUDv2's 894 classes to 40 is missing"):
        NYUD(tmp_path, "train")


def test_wrong_labelled_files(tmp_path):
    make_labelled(tmp_path)
    with pytest.raises(InputError, match="splits train, trainval and test, not val"):
        NYUD(tmp_path, "val")
    (tmp_path / "splits.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"neither .*splits.mat nor .*test.txt"):
        NYUD(tmp_path, "test")
    path = tmp_path / "nyu_depth_v2_labeled.mat"
    with h5py.File(path, "a") as file:
        del file["labels"]
    with pytest.raises(InputError, match="it has no variable labels"):
        NYUD(tmp_path, "train")
    path.write_bytes(b"MATLAB 5.0")
    with pytest.raises(InputError, match=r"cannot read .* as a MATLAB 7.3 \(HDF5\) file"):
        NYUD(tmp_path, "train")


@pytest.mark.parametrize(
    "key, content, told",
    [
        ("images", np.zeros((4, 1, 32, 24), np.uint8), "no map of uint8 for each image in images$"),
        ("depths", np.zeros((3, 32, 24), np.float32), "no map of floating for each image in depths$"),
        ("depths", 3.0, "no map of floating for each image in depths$"),
        ("labels", None, "no map of unsignedinteger for each image in labels$"),
        ("labels", np.full((4, 32, 24), np.nan), "no map of unsignedinteger for each image in labels$"),
        ("rawDepths", h5py.ExternalLink("other.h5", "/x"), "rawDepths is a link"),
    ],
)
def test_labelled_files_with_other_variables(tmp_path, key, content, told):
    make_labelled(tmp_path)
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "a") as file:
        del file[key]
        if content is None:
            file.create_group(key)
        else:
            file[key] = content
    with pytest.raises(InputError, match=told):
        NYUD(tmp_path, "train")


def test_a_labelled_file_with_a_damaged_image(tmp_path):
    maps, _ = make_labelled(tmp_path)
    path = tmp_path / "nyu_depth_v2_labeled.mat"
    with h5py.File(path, "a") as file:
        del file["images"]
        file.create_dataset(
            "images", data=maps["images"].swapaxes(-1, -2), chunks=(1, 3, 32, 24), compression="gzip"
        )
        at = file["images"].id.get_chunk_info(0).byte_offset
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(b"damaged")
    with pytest.raises(InputError, match=r"labeled.mat is damaged: images of image 1 cannot be read"):
        NYUD(tmp_path, "train")[0]


@pytest.mark.parametrize(
    "held", [{"x": 1}, "text", np.array([[1, "a"]], object), scipy.sparse.eye(3).tocsc(), np.ones((24, 32, 2)),
             np.full(SIZE, 1.5), np.full(SIZE, np.nan)]
)  # fmt: skip
def test_variables_that_are_no_matrix_of_whole_numbers(tmp_path, held):
    make_siftflow(tmp_path / "sift")
    make_labelled(tmp_path)
    make_context(tmp_path / "VOC2010", tmp_path)
    for file, variable, use in (
        (next(tmp_path.rglob("GeoLabels/*/coast_n1.mat")), "S", lambda: SIFTFlow(tmp_path / "sift")[0]),
        (tmp_path / "trainval/2008_000001.mat", "LabelMap", lambda: PASCALContext(tmp_path)[0]),
        (tmp_path / "splits.mat", "trainNdxs", lambda: NYUD(tmp_path, "train")),
        (tmp_path / "classMapping40.mat", "mapClass", lambda: NYUD(tmp_path, "train")),
    ):
        scipy.io.savemat(file, {variable: held})
        with pytest.raises(InputError, match=f"{file.name}: variable {variable} is not a matrix of whole"):
            use()


def test_labels_in_the_newer_format_say_how_to_save_them(tmp_path):
    make_nyud(tmp_path)
    with h5py.File(tmp_path / "segmentation/img_5001.mat", "w", userblock_size=512) as file:
        file["segmentation"] = np.ones(SIZE)
    with open(tmp_path / "segmentation/img_5001.mat", "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    with pytest.raises(
        InputError, match="img_5001.mat is in MATLAB's 7.3 format; save it with the option -v7"
    ):
        NYUD(tmp_path)[0]


def make_siftflow(folder, names=("coast_n1", "street_u2")):
    rng = np.random.default_rng(7)
    inner = "spatial_envelope_256x256_static_8outdoorcategories"
    for part in ("Images", "SemanticLabels", "GeoLabels"):
        (folder / part / inner).mkdir(parents=True)
    write_list(folder, "trainval", names)
    held = {}
    for name in names:
        semantic = rng.integers(0, 34, SIZE).astype(np.uint8)
        geometric = rng.integers(-1, 4, SIZE).astype(np.int16)
        Image.fromarray(pixels(rng)).save(folder / "Images" / inner / f"{name}.jpg")
        scipy.io.savemat(folder / "SemanticLabels" / inner / f"{name}.mat", {"S": semantic, "names": ["x"]})
        scipy.io.savemat(folder / "GeoLabels" / inner / f"{name}.mat", {"S": geometric})
        image = np.array(Image.open(folder / "Images" / inner / f"{name}.jpg"))
        held[name] = image, semantic, geometric
    return held


def test_siftflow_feeds_what_the_original_layer_does(tmp_path):
    held = make_siftflow(tmp_path)
    data = SIFTFlow(tmp_path, "trainval")
    image, semantic, geometric = held["street_u2"]
    geometric[geometric == -1] = 0
    blobs = data.blobs(1)
    assert list(blobs) == ["data", "sem", "geo"]
    np.testing.assert_array_equal(blobs["data"], bgr_minus(image, (114.578, 115.294, 108.353)))
    np.testing.assert_array_equal(blobs["sem"][0], semantic - np.uint8(1))
    np.testing.assert_array_equal(blobs["geo"][0], geometric.astype(np.uint8) - np.uint8(1))
    assert {int(v) for v in np.unique(blobs["geo"])} == {0, 1, 2, 255}
    assert {name: len(classes) for name, classes in data.heads.items()} == {"sem": 33, "geo": 3}
    assert [SIFTFLOW[k] for k in data.not_scored] == ["cow", "desert", "moon"]


def test_jitter_makes_every_label_blob_void_outside(tmp_path):
    make_siftflow(tmp_path)
    with Batches(SIFTFlow(tmp_path), jitter=200) as batches:
        shown = [next(batches) for _ in range(6)]
    gone = [b for b in shown if (b["data"] == 0).all()]
    assert gone
    for blobs in gone:
        assert (blobs["sem"] == 255).all() and (blobs["geo"] == 255).all()


def test_siftflow_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="SIFT Flow data not found: looked in .*SiftFlowDataset.zip"):
        SIFTFlow(tmp_path)
    make_siftflow(tmp_path)
    path = next((tmp_path / "GeoLabels").rglob("coast_n1.mat"))
    scipy.io.savemat(path, {"S": np.full(SIZE, 4)})
    with pytest.raises(InputError, match=r"GeoLabels.*coast_n1.mat holds the value 4; labels are 0 to 3$"):
        SIFTFlow(tmp_path)[0]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"label .*GeoLabels.*coast_n1.mat is missing"):
        SIFTFlow(tmp_path)


def make_context(voc, context, names=("2008_000001", "2010_000002"), own_list=False):
    """VOC 2010 and PASCAL-Context's annotations; returns {id: raw label} and the numbered raw names."""
    rng = np.random.default_rng(8)
    raw_names = [f"other thing {k}" for k in range(399)]
    raw_names += [RAW_NAMES.get(name, name) for name in PASCALCONTEXT[1:]]
    rng.shuffle(raw_names)
    (voc / "ImageSets/Main").mkdir(parents=True)
    (voc / "JPEGImages").mkdir()
    (context / "trainval").mkdir(parents=True)
    write_list(voc / "ImageSets/Main", "train", names)
    spaced = {"diningtable": "dining table", "pottedplant": "potted plant"}
    (context / "labels.txt").write_text("".join(f"{k}: {n}\n" for k, n in enumerate(raw_names, 1)))
    if own_list:
        lines = [f"{k}: {spaced.get(n, n)}\n" for k, n in enumerate(PASCALCONTEXT) if k]
        (context / "59_labels.txt").write_text("".join(lines))
    held = {}
    for name in names:
        held[name] = rng.integers(0, len(raw_names) + 1, SIZE).astype(np.uint16)
        Image.fromarray(pixels(rng)).save(voc / "JPEGImages" / f"{name}.jpg")
        scipy.io.savemat(context / "trainval" / f"{name}.mat", {"LabelMap": held[name]})
    return held, raw_names


@pytest.mark.parametrize("own_list", [False, True])
def test_pascalcontext_feeds_what_the_original_layer_does(tmp_path, own_list):
    held, raw_names = make_context(tmp_path / "VOC2010", tmp_path / "pascal-context", own_list=own_list)
    data = PASCALContext(tmp_path, "train")
    assert data.classes == PASCALCONTEXT and len(data.classes) == 60
    raw = held["2008_000001"]
    expected = np.zeros(SIZE, np.uint8)
    for k, name in enumerate(PASCALCONTEXT[1:]):
        expected[raw == raw_names.index(RAW_NAMES.get(name, name)) + 1] = k + 1
    blobs = data.blobs(0)
    np.testing.assert_array_equal(blobs["label"][0], expected)
    assert expected.any() and expected.dtype == data[0].label.dtype
    with Image.open(tmp_path / "VOC2010/JPEGImages/2008_000001.jpg") as image:
        np.testing.assert_array_equal(blobs["data"], bgr_minus(image, (104.007, 116.669, 122.679)))


@pytest.mark.parametrize(
    ("voc", "context"),
    [("VOC2010", "."), ("VOCdevkit/VOC2010", "pascal-context"), (".", "pascal-context"), ("VOC2010", "else")],
)
def test_pascalcontext_is_found(tmp_path, voc, context):
    make_context(tmp_path / voc, tmp_path / context)
    options = {"context_folder": tmp_path / "else"} if context == "else" else {}
    assert len(PASCALContext(tmp_path, "train", **options)) == 2


def test_pascalcontext_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="VOC 2010 .* not found: looked in"):
        PASCALContext(tmp_path)
    held, raw_names = make_context(tmp_path / "VOC2010", tmp_path)
    with pytest.raises(FileNotFoundError, match="labels.txt and trainval not found: looked in"):
        PASCALContext(tmp_path, context_folder=tmp_path / "x")
    scipy.io.savemat(tmp_path / "trainval/2008_000001.mat", {"LabelMap": np.full(SIZE, 459)})
    with pytest.raises(InputError, match=r"2008_000001.mat holds the value 459; .*labels.txt ends at 458"):
        PASCALContext(tmp_path)[0]
    labels = tmp_path / "labels.txt"
    text = labels.read_text()
    labels.write_text(text.replace(": bedclothes\n", ": duvet\n"))
    with pytest.raises(InputError, match="labels.txt does not list bedclothes"):
        PASCALContext(tmp_path)
    labels.write_bytes(b"\xff\xfe1")
    with pytest.raises(InputError, match=r"labels.txt is not a text file"):
        PASCALContext(tmp_path)
    labels.write_text("1: a\nnonsense\n")
    with pytest.raises(InputError, match=r"labels.txt:2: expected 'number: class name', not 'nonsense'"):
        PASCALContext(tmp_path)
    labels.write_text(text)
    (tmp_path / "59_labels.txt").write_text("1: aeroplane\n")
    with pytest.raises(InputError, match="lists 1 classes instead of 59"):
        PASCALContext(tmp_path)
