"""The paper's data sets, from archives as published (made small) to a folder that opens."""

import hashlib
import shutil
import tarfile
import zipfile

import pytest
from test_data_scenes import make_context, make_nyud, make_siftflow, write_list
from test_data_voc import make_sbd, make_voc

from fcnlite.data import open_dataset
from fcnlite.data.published import catalogue, install
from fcnlite.errors import InputError


def tar(path, folder, names, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name in names:
            archive.add(folder / name, arcname=name)


def publish(name, folder):
    """Write the files that a data set is published as, small, into `folder`."""
    made = folder / "made"
    made.mkdir()
    if name.startswith("voc"):
        year = name.removeprefix("voc")
        top = "TrainVal" if year == "2011" else ""
        make_voc(made / top / "VOCdevkit" / f"VOC{year}", {"train": ["a", "b"], "val": ["c"]})
        tar(folder / catalogue()[name].files[0].file_name, made, [top or "VOCdevkit"])
    elif name == "sbd":
        make_sbd(made / "benchmark_RELEASE" / "dataset", {"train": ["a"], "val": ["b"]})
        tar(folder / "benchmark.tgz", made, ["benchmark_RELEASE"], "w:gz")
    elif name == "siftflow":
        make_siftflow(made / "SiftFlowDataset")
        with zipfile.ZipFile(folder / "SiftFlowDataset.zip", "w") as archive:
            for path in (made / "SiftFlowDataset").rglob("*.*"):
                if path.suffix != ".txt":
                    archive.write(path, path.relative_to(made))
        write_list(folder, "trainval", ["coast_n1"])
        write_list(folder, "test", ["street_u2"])
    elif name == "nyud":
        make_nyud(made / "nyud")
        (made / "nyud" / "trainval.txt").unlink()
        tar(folder / "nyud.tar.gz", made, ["nyud"], "w:gz")
        for split, listed in (("train", ["5001"]), ("val", ["5003"]), ("test", ["5003"])):
            write_list(folder, split, listed)
    else:
        make_context(made / "VOCdevkit" / "VOC2010", made / "context")
        lists = made / "VOCdevkit" / "VOC2010" / "ImageSets" / "Main"
        shutil.copy(lists / "train.txt", lists / "val.txt")
        tar(folder / "VOCtrainval_03-May-2010.tar", made, ["VOCdevkit"])
        tar(folder / "trainval.tar.gz", made / "context", ["trainval", "labels.txt"], "w:gz")


@pytest.mark.parametrize("name", catalogue())
def test_what_is_published_becomes_a_folder_that_opens(tmp_path, name):
    published, data, fetched = tmp_path / "published", catalogue()[name], []
    published.mkdir()
    publish(name, published)

    def fetch(part, folder):
        fetched.append(part.file_name)
        folder.mkdir(parents=True, exist_ok=True)
        return shutil.copy(published / part.file_name, folder / part.file_name)

    root = install(data, tmp_path / "data", fetch)
    assert fetched == [part.file_name for part in data.files]
    assert [path.name for path in (tmp_path / "data").iterdir()] == [name]
    dataset = open_dataset(data.data_set, root)
    assert len(dataset) and dataset[0].label is not None
    assert install(data, tmp_path / "data", fetch) == root and len(fetched) == len(data.files)
    if name == "nyud":
        assert (root / "trainval.txt").read_text() == "5001\n5003\n"


def test_an_archive_of_something_else_is_told_and_may_be_replaced(tmp_path):
    (tmp_path / "readme").write_text("words")
    tar(tmp_path / "bad.tar", tmp_path, ["readme"])
    data = catalogue()["nyud"]

    def fetch(part, folder):
        folder.mkdir(parents=True, exist_ok=True)
        return shutil.copy(tmp_path / ("bad.tar" if part.is_archive else "readme"), folder / part.file_name)

    with pytest.raises(InputError, match="nyud holds no folder segmentation"):
        install(data, tmp_path / "data", fetch)
    assert not (tmp_path / "data" / "nyud").exists()


def test_the_catalogue_is_well_formed():
    for data in catalogue().values():
        assert data.about and data.licence and data.files
        for part in data.files:
            assert part.url.startswith(("http://", "https://")) and part.file_name
            assert part.md5 is None or len(bytes.fromhex(part.md5)) == hashlib.md5().digest_size
