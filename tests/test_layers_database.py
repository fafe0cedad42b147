"""Data layers over LMDB: records in order, and Caffe's crops, mirror images, means and scales, from a naive loop."""

import io

import numpy as np
import pytest
from cases import check_sharing
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import fcnlite.random
from fcnlite import device
from fcnlite.errors import InputError
from fcnlite.net import Net
from fcnlite.proto import TEST, TRAIN, BlobProto, Datum

lmdb = pytest.importorskip("lmdb", reason="reading LMDB needs the package lmdb")


def write_database(path, records):
    """An LMDB of serialised records under Caffe's kind of keys."""
    with lmdb.open(str(path), map_size=1 << 20) as environment, environment.begin(write=True) as transaction:
        for i, record in enumerate(records):
            transaction.put(
                f"{i:08d}".encode(), record if isinstance(record, bytes) else record.SerializeToString()
            )


def datum(image, label):
    channels, height, width = image.shape
    made = Datum(channels=channels, height=height, width=width, label=label)
    if image.dtype == np.uint8:
        made.data = image.tobytes()
    else:
        made.float_data.extend(image.ravel().tolist())
    return made


def images(count=5, shape=(3, 6, 7), seed=4):
    return list(np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.uint8))


def net_text(path, batch=2, transform="", extra=""):
    return (
        f'layer {{ name: "data" type: "Data" top: "data" top: "label" transform_param {{ {transform} }} '
        f'data_param {{ source: "{path}" batch_size: {batch} backend: LMDB {extra} }} }}\n'
    )


def run(net):
    net.forward()
    return tuple(device.current().tonumpy(net.blobs[name].data).copy() for name in ("data", "label"))


def test_records_come_in_order_and_wrap_around(tmp_path):
    held = images()
    write_database(tmp_path / "db", [datum(image, label) for label, image in enumerate(held)])
    net = Net(net_text(tmp_path / "db"), TRAIN)
    assert net.blobs["data"].shape == (2, 3, 6, 7) and net.blobs["label"].shape == (2,)
    for start in range(0, 14, 2):
        data, labels = run(net)
        expected = [(start + i) % 5 for i in range(2)]
        assert labels.tolist() == expected
        np.testing.assert_array_equal(data, np.stack([held[i] for i in expected]).astype(np.float32))


@settings(max_examples=25, deadline=None)
@given(
    mirror=st.booleans(),
    crop=st.sampled_from([0, 1, 4, 6]),
    phase=st.sampled_from([TRAIN, TEST]),
    mean=st.sampled_from(["", "mean_value: 7.5", "mean_value: 1 mean_value: 2 mean_value: 3"]),
    scale=st.sampled_from([1.0, 0.017]),
    seed=st.integers(0, 2**32 - 1),
)
def test_transforms_are_caffes(tmp_path_factory, mirror, crop, phase, mean, scale, seed):
    folder, held = tmp_path_factory.mktemp("lmdb"), images()
    write_database(folder / "db", [datum(image, 0) for image in held])
    text = f"mirror: {str(mirror).lower()} crop_size: {crop} scale: {scale} {mean}"
    fcnlite.random.set_random_seed(seed)
    net = Net(net_text(folder / "db", 3, text), phase)
    got = np.concatenate([run(net)[0] for _ in range(2)])

    process = np.random.RandomState(seed)
    draw = lambda twister: int(twister.randint(0, 2**32, dtype=np.uint32))  # noqa: E731
    draw(process)
    own = np.random.RandomState(draw(process))
    values = np.array([float(word) for word in mean.replace("mean_value:", "").split()] or [0], np.float32)
    for k in range(6):
        image = held[k % 5]
        flip = mirror and draw(own) % 2
        size = (crop, crop) if crop else (6, 7)
        if crop and phase == TRAIN:
            top, left = draw(own) % (6 - crop + 1), draw(own) % (7 - crop + 1)
        else:
            top, left = (6 - size[0]) // 2, (7 - size[1]) // 2
        for c in range(3):
            for y in range(size[0]):
                for x in range(size[1]):
                    value = np.float32(image[c, top + y, left + x])
                    expected = (value - values[c % len(values)]) * np.float32(scale)
                    assert got[k, c, y, size[1] - 1 - x if flip else x] == expected


def test_each_record_is_decoded_once(tmp_path, monkeypatch):
    write_database(tmp_path / "db", [datum(image, label) for label, image in enumerate(images())])
    net = Net(net_text(tmp_path / "db", 3), TRAIN)
    taken, read = [], net.layers[0].read
    monkeypatch.setattr(net.layers[0], "read", lambda position: taken.append(position) or read(position))
    for _ in range(3):
        run(net)
    assert taken == list(range(1, 9))  # the net's building has read number 0, for its size


def test_seeking_goes_on_as_after_so_many_forwards(tmp_path):
    write_database(tmp_path / "db", [datum(image, label) for label, image in enumerate(images())])
    nets = []
    for _ in range(2):
        fcnlite.random.set_random_seed(8)
        nets.append(Net(net_text(tmp_path / "db", 2, "mirror: true crop_size: 4"), TRAIN))
    shown = [run(nets[0]) for _ in range(6)]
    nets[1].layers[0].seek(4)
    for expected in shown[4:]:
        for a, b in zip(run(nets[1]), expected):
            np.testing.assert_array_equal(a, b)


def test_batches_are_shared_out_to_processes(tmp_path):
    """What each takes is what one process takes in its turn, crops and mirrors included."""
    write_database(tmp_path / "db", [datum(image, label) for label, image in enumerate(images())])
    check_sharing(net_text(tmp_path / "db", 2, "mirror: true crop_size: 4"))


def test_images_are_dealt_to_parallel_solvers(tmp_path):
    """Solver r of Caffe's n makes its batches of the images r, r + n, r + 2 n and so on."""
    held = images()
    write_database(tmp_path / "db", [datum(image, label) for label, image in enumerate(held)])
    net = Net(net_text(tmp_path / "db", 2), TRAIN)
    net.layers[0].deal(3, 1)
    labels = [number for _ in range(4) for number in run(net)[1]]
    assert labels == [(1 + 3 * k) % 5 for k in range(8)]


def test_float_records_and_a_mean_file(tmp_path):
    rng = np.random.default_rng(2)
    held = rng.normal(size=(2, 2, 3, 4)).astype(np.float32)
    write_database(tmp_path / "db", [datum(image, 1) for image in held])
    mean = rng.normal(size=(2, 3, 4)).astype(np.float32)
    blob = BlobProto(num=1, channels=2, height=3, width=4, data=mean.ravel().tolist())
    (tmp_path / "mean.binaryproto").write_bytes(blob.SerializeToString())
    text = net_text("db", 2, 'mean_file: "mean.binaryproto"')  # both beside the prototxt
    np.testing.assert_array_equal(run(Net(text, TEST, folder=tmp_path))[0], held - mean)


@pytest.mark.parametrize(
    ("mode", "option"), [("RGB", ""), ("L", ""), ("RGB", "force_gray"), ("L", "force_color")]
)
def test_encoded_images_come_as_bgr_of_their_own_size(tmp_path, mode, option):
    pictures = [Image.fromarray(image.transpose(1, 2, 0)).convert(mode) for image in images(2)]
    pictures.append(pictures[0].resize((9, 5)))
    records = []
    for picture in pictures:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        records.append(Datum(encoded=True, data=buffer.getvalue(), label=3))
    write_database(tmp_path / "db", records)
    net = Net(net_text(tmp_path / "db", 1, f"{option}: true" if option else ""), TEST)
    grey = option == "force_gray" or (mode == "L" and not option)
    for picture in pictures:
        pixels = np.asarray(picture.convert("RGB"), np.int64)
        # OpenCV has libpng make brightness of colours, which cuts off what lies behind the point.
        brightness = pixels @ (9797, 19234, 3737) >> 15
        expected = brightness[None] if grey else pixels.transpose(2, 0, 1)[::-1]
        np.testing.assert_array_equal(run(net)[0][0], expected)


@pytest.mark.parametrize(
    ("records", "text", "message"),
    [
        ([datum(images(1)[0], 0)], {"extra": "", "backend": "LEVELDB"}, "its backend is LevelDB"),
        ([datum(images(1)[0], 0)], {"transform": "crop_size: 7"}, "crop_size 7 is more than the 6 x 7"),
        (
            [datum(images(1)[0], 0)],
            {"transform": "mean_value: 1 mean_value: 2"},
            "2 values of mean_value for 3 channels",
        ),
        ([b"\xff\xff\xff"], {}, "record 0 of .* is not a Datum"),
        ([Datum(channels=3, height=9, width=9, data=b"123")], {}, "record 0 holds 3 values for shape"),
        ([Datum(encoded=True, data=b"GIF?")], {}, "record 0 is not an image that can be decoded"),
        ([], {}, "is empty"),
        ([datum(images(1)[0], 0)], {"transform": 'mean_file: "none"'}, "'none' is neither in"),
        ([datum(a, 0) for a in (images(1)[0], images(1, (3, 5, 5))[0])], {}, "record 1 has shape"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path, records, text, message):
    write_database(tmp_path / "db", records)
    backend = text.pop("backend", "LMDB") if "backend" in text else "LMDB"
    made = net_text(tmp_path / "db", **text).replace("LMDB", backend)
    with pytest.raises(InputError, match=f"layer 'data' \\(Data\\): .*{message}"):
        run(Net(made, TRAIN))


def test_a_folder_that_is_no_database_is_told(tmp_path):
    with pytest.raises(InputError, match="not an LMDB database"):
        Net(net_text(tmp_path), TEST)
    with pytest.raises(InputError, match="'nowhere' is neither in .* nor beside the prototxt"):
        Net(net_text("nowhere"), TEST)
