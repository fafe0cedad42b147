"""The paper's data sets, from archives as published (made small) to a folder that opens."""

import hashlib
import shutil
import tarfile
import threading
import zipfile
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from test_data_scenes import make_context, make_nyud, make_siftflow, write_list
from test_data_voc import make_sbd, make_voc

from fcnlite.commands import download
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
        tar(folder / catalogue()[name].files[0].url.rpartition("/")[2], made, [top or "VOCdevkit"])
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


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of the folder `published`, from which the catalogue's files come; lists the requests."""
    published, requests = tmp_path / "published", []
    published.mkdir()
    monkeypatch.setenv("no_proxy", "*")

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(published))

        def do_GET(self):
            requests.append(self.path)
            super().do_GET()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        base = f"http://127.0.0.1:{httpd.server_port}/"

        def moved(data):
            parts = [
                replace(p, url=base + p.url.rpartition("/")[2], md5=None, bytes=None) for p in data.files
            ]
            return replace(data, files=tuple(parts))

        entries = {name: moved(data) for name, data in catalogue().items()}
        monkeypatch.setattr(download, "datasets", lambda: entries)
        yield published, requests, entries
        httpd.shutdown()
        thread.join()


@pytest.mark.parametrize("name", catalogue())
def test_what_is_published_becomes_a_folder_that_opens(tmp_path, server, name, capsys):
    published, requests, entries = server
    publish(name, published)
    for _ in range(2):  # the second time nothing is fetched
        assert download.main([name.upper(), "--to", str(tmp_path / "data")]) == 0
        assert requests == ["/" + part.url.rpartition("/")[2] for part in catalogue()[name].files]
    assert [path.name for path in (tmp_path / "data").iterdir()] == [name]
    folder, _, told = capsys.readouterr().out.partition("  [")
    dataset = open_dataset(catalogue()[name].data_set, folder)
    assert len(dataset) and dataset[0].label is not None and f"--data {folder}" in told
    if name == "nyud":
        assert (Path(folder) / "trainval.txt").read_text() == "5001\n5003\n"


def test_an_archive_of_something_else_is_told(tmp_path, server):
    published, _, entries = server
    publish("nyud", published)
    (tmp_path / "readme").write_text("words")
    tar(published / "nyud.tar.gz", tmp_path, ["readme"])
    with pytest.raises(InputError, match="nyud holds no folder segmentation"):
        install(entries["nyud"], tmp_path / "data")
    assert not (tmp_path / "data" / "nyud").exists()


def test_a_wrong_checksum_is_told_and_nothing_is_unpacked(tmp_path, server):
    published, _, entries = server
    publish("voc2012", published)
    data = entries["voc2012"]
    wrong = replace(data, files=(replace(data.files[0], md5="0" * 32),))
    with pytest.raises(InputError, match=r"expected md5 0{32}, found"):
        install(wrong, tmp_path / "data")
    assert not (tmp_path / "data" / "voc2012").exists()


def test_the_list_names_the_data_sets(capsys):
    assert download.main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert all(f"\n{name} " in listed for name in catalogue())
    assert "2000 MB  md5          PASCAL VOC 2012" in listed


def test_the_catalogue_is_well_formed():
    for data in catalogue().values():
        assert data.about and data.licence and data.files
        for part in data.files:
            assert part.url.startswith(("http://", "https://"))
            assert part.md5 is None or len(bytes.fromhex(part.md5)) == hashlib.md5().digest_size
