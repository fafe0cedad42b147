"""Downloads from a server of the test's own, which misbehaves as told, and their conversion."""

import hashlib
import json
import re
import subprocess
import sys
import threading
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from fcnlite import models, published
from fcnlite.commands import download
from fcnlite.convolutionalise import fresh
from fcnlite.data import published as data_published
from fcnlite.errors import InputError
from fcnlite.geometry import measure
from fcnlite.io import read_deploy, read_weights, write_weights
from fcnlite.io.fetch import fetch as fetch_file
from fcnlite.net import load
from fcnlite.proto import parse_net

CONTENT = np.random.default_rng(7).bytes(1_000_000)
SHA1 = hashlib.sha1(CONTENT).hexdigest()


@dataclass
class Server:
    """What the server has and does; `requests` lists the Range header of each request it got."""

    content: bytes = CONTENT
    etag: str = '"one"'
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)  # bytes after which the next responses break off
    replaced_by: bytes = b""  # what the file becomes after the first such break
    statuses: list[int] = field(default_factory=list)  # what the next requests get instead of the file
    announce: bool = True  # whether to say how long the file is
    kind: str = "application/octet-stream"
    requests: list[str] = field(default_factory=list)
    base: str = ""
    lies: dict[str, str] = field(default_factory=dict)  # headers of the next rest of a file
    retry_after: list[str] = field(default_factory=list)  # of the next errors


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.requests.append(self.headers.get("Range", ""))
            status = state.statuses.pop(0) if state.statuses else 200
            if status != 200 or not self.path.endswith(".caffemodel"):
                self.send_response(status if status != 200 else 404)
                if state.retry_after:
                    self.send_header("Retry-After", state.retry_after.pop(0))
                self.end_headers()
                return
            begin = self.begin()
            self.send_response(206 if begin else 200)
            headers = {"Content-Type": state.kind}
            if begin:
                headers["Content-Range"] = f"bytes {begin}-{len(state.content) - 1}/{len(state.content)}"
            if state.etag:
                headers["ETag"] = state.etag
            if state.announce:
                headers["Content-Length"] = str(len(state.content) - begin)
            if begin:
                headers, state.lies = headers | state.lies, {}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            cut = state.cuts.pop(0) if state.cuts else None
            self.wfile.write(state.content[begin:][:cut])
            if cut and state.replaced_by:
                state.content, state.etag = state.replaced_by, '"two"'

        def begin(self):
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            same = self.headers.get("If-Range") == state.etag
            return int(asked[1]) if asked and state.ranges and same else 0

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        state.base = f"http://127.0.0.1:{httpd.server_port}"
        yield state
        httpd.shutdown()
        thread.join()


@pytest.fixture
def weights(server):
    return published.Published(
        "fcn32s", "a net", f"{server.base}/some/net.caffemodel", "free", SHA1, len(CONTENT)
    )


def fetch(weights, folder):
    return published.fetch(weights, folder, attempts=3, pause=0.0)


def files(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_download_arrives_whole_and_once(server, weights, tmp_path):
    for _ in range(2):
        path = fetch(weights, tmp_path / "new" / "folder")
        assert path == tmp_path / "new" / "folder" / "net.caffemodel"
        assert path.read_bytes() == CONTENT
    assert server.requests == [""]
    assert files(path.parent) == ["net.caffemodel"]


def test_a_cut_download_goes_on_where_it_stopped(server, weights, tmp_path):
    server.cuts = [400_000, 1, 200_000, 7]
    assert fetch(weights, tmp_path).read_bytes() == CONTENT
    begins = [int(asked[6:-1]) for asked in server.requests[1:]]
    assert begins == [400_000, 400_001, 600_001, 600_008]  # not a byte is fetched twice


@pytest.mark.parametrize("ranges, etag", [(False, '"one"'), (True, ""), (True, 'W/"weak"')])
def test_a_server_that_cannot_continue_starts_over(server, weights, tmp_path, ranges, etag):
    server.ranges, server.etag, server.cuts = ranges, etag, [400_000, 400_000]
    assert fetch(weights, tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_a_file_that_changes_meanwhile_is_not_stitched_together(server, weights, tmp_path):
    server.cuts, server.replaced_by = [400_000], bytes(reversed(CONTENT))
    changed = replace(weights, sha1=hashlib.sha1(server.replaced_by).hexdigest())
    assert fetch(changed, tmp_path).read_bytes() == server.replaced_by
    assert server.requests[1] != ""


@pytest.mark.parametrize(
    "lie",
    [
        {"Content-Range": "bytes 500000-999999/1000001"},
        {"Content-Range": "bytes 400000-999999/1000000"},
        {"Content-Range": "bytes 500000-899999/1000000"},
        {"Content-Range": "bytes */1000000"},
        {"ETag": '"other"'},
        {"Content-Length": "7"},
    ],
    ids=str,
)
def test_a_rest_that_does_not_agree_with_what_was_begun_is_not_taken(server, weights, tmp_path, lie):
    server.cuts, server.lies = [500_000], lie
    assert fetch(weights, tmp_path).read_bytes() == CONTENT
    assert server.requests == ["", "bytes=500000-", ""]


def test_a_range_that_is_not_there_begins_anew(server, weights, tmp_path):
    server.cuts, server.statuses = [1000], [200, 416]
    assert fetch(weights, tmp_path).read_bytes() == CONTENT
    assert server.requests == ["", "bytes=1000-", ""]


def test_a_server_that_asks_to_wait_is_waited_for(server, weights, tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr("fcnlite.io.fetch.time.sleep", waited.append)
    server.statuses, server.retry_after = [429, 503, 429], ["7", "Wed, 21 Oct 2015 07:28:00 GMT", "99999"]
    remote = published.Remote("net", weights.url, weights.bytes, weights.sha1)
    assert fetch_file(remote, tmp_path, attempts=4, pause=0.5).read_bytes() == CONTENT
    assert waited == [7, 1.0, 300]


def test_more_bytes_than_the_file_has_are_not_taken_in(server, weights, tmp_path):
    server.announce, server.content = False, CONTENT * 3
    with pytest.raises(InputError, match="sends more than 1000000 bytes: not the published file$"):
        fetch(weights, tmp_path)
    assert files(tmp_path) == []


def test_a_download_that_never_gets_further_is_given_up(server, weights, tmp_path):
    server.cuts, server.ranges = [400_000] * 9, False
    with pytest.raises(
        InputError, match=r"^fcn32s: cannot download from 127.0.0.1:\d+ \(.*put it in"
    ) as caught:
        fetch(weights, tmp_path)
    assert "\n" not in str(caught.value)
    assert len(server.requests) < 9
    assert files(tmp_path) == []


def test_a_server_in_trouble_is_asked_again(server, weights, tmp_path):
    server.statuses = [503, 500]
    assert fetch(weights, tmp_path).read_bytes() == CONTENT


def test_a_missing_file_is_an_error_at_once(server, weights, tmp_path):
    gone = replace(weights, url=f"{server.base}/gone")
    with pytest.raises(InputError, match=r"^fcn32s: the server answers 404 Not Found for http://127.*/gone$"):
        fetch(gone, tmp_path)
    assert server.requests == [""]
    assert files(tmp_path) == []


def test_a_wrong_checksum_is_refused(server, weights, tmp_path):
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(
        InputError, match=f"checksum or size: expected sha1 {SHA1}, found [0-9a-f]{{40}}; .*not kept$"
    ):
        fetch(weights, tmp_path)
    assert files(tmp_path) == []


def test_a_damaged_file_from_before_is_fetched_again(server, weights, tmp_path):
    (tmp_path / "net.caffemodel").write_bytes(CONTENT[:1000])
    assert fetch(weights, tmp_path).read_bytes() == CONTENT


def test_another_length_is_refused_before_it_is_fetched(server, weights, tmp_path):
    server.content = b"<html>please log in to this network</html>"
    with pytest.raises(InputError, match="is 42 bytes long instead of 1000000: not the published file$"):
        fetch(weights, tmp_path)
    assert files(tmp_path) == []


def test_a_web_page_in_its_place_is_not_kept(server, weights, tmp_path):
    server.content, server.kind = b"<html>this domain is for sale</html>", "text/html; charset=utf-8"
    with pytest.raises(InputError, match="net.caffemodel is a web page now: not the published file$"):
        fetch(replace(weights, sha1=None, bytes=None), tmp_path)
    assert files(tmp_path) == []


@pytest.mark.parametrize("announce", [True, False])
def test_without_checksum_and_length_what_comes_is_taken(server, weights, tmp_path, announce):
    server.announce = announce
    assert fetch(replace(weights, sha1=None, bytes=None), tmp_path).read_bytes() == CONTENT


def test_without_a_network_the_error_says_what_to_do(weights, tmp_path):
    nobody = replace(weights, url="http://127.0.0.1:9/net.caffemodel")
    with pytest.raises(
        InputError, match="cannot download from 127.0.0.1:9 .Connection refused.; check the network"
    ):
        fetch(nobody, tmp_path)


def test_a_file_put_there_by_hand_needs_no_network(weights, tmp_path):
    (tmp_path / "net.caffemodel").write_bytes(CONTENT)
    nobody = replace(weights, url="http://127.0.0.1:9/net.caffemodel")
    assert fetch(nobody, tmp_path) == tmp_path / "net.caffemodel"


def test_a_folder_that_cannot_be_made_is_named(server, weights, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=f"^{tmp_path}/file/folder: cannot be written"):
        fetch(weights, tmp_path / "file" / "folder")


def test_the_catalogue_names_nets_that_exist():
    entries = published.catalogue()
    assert len(entries) == len({weights.file_name for weights in entries.values()}) == 18
    for name, weights in entries.items():
        assert models.canonical(name) == name
        assert weights.url.startswith("http") and weights.file_name.endswith(".caffemodel")
        assert weights.sha1 is None or re.fullmatch("[0-9a-f]{40}", weights.sha1)
        assert weights.about and weights.licence


def test_names_are_understood_as_everywhere_else():
    assert published.find("VOC_FCN8s").name == "fcn8s"
    with pytest.raises(InputError, match="did you mean 'googlenet'"):
        published.find("gogglenet")
    with pytest.raises(InputError, match="no weights of fcn-googlenet were ever published"):
        published.find("fcn-googlenet")


def test_the_list_shows_every_entry(capsys):
    assert download.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*published.catalogue(), *data_published.catalogue()]


@pytest.fixture(scope="module")
def googlenet(tmp_path_factory):
    """A published file as it could be: GoogLeNet, with the blobs of Caffe's oldest form."""
    path = tmp_path_factory.mktemp("published") / "googlenet.caffemodel"
    params = {
        name: [array.reshape((1,) * (4 - array.ndim) + array.shape) for array in arrays]
        for name, arrays in fresh(models.build("googlenet")).items()
    }
    rng = np.random.default_rng(3)
    for arrays in params.values():
        for array in arrays:
            array[...] = rng.standard_normal(array.shape, np.float32)
    write_weights(path, params, net=models.build("googlenet"))
    return path, params


def test_the_command_downloads_checks_and_converts(server, googlenet, tmp_path, monkeypatch, capsys):
    source, params = googlenet
    server.content = source.read_bytes()
    entry = published.Published(
        "googlenet", "", f"{server.base}/bvlc_googlenet.caffemodel", "unrestricted use"
    )
    monkeypatch.setattr("fcnlite.published.catalogue", lambda: {"googlenet": entry})
    assert download.main(["GoogLeNet", "--to", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert hashlib.sha1(server.content).hexdigest() in printed
    assert f"{tmp_path}/googlenet.h5  [unrestricted use]" in printed
    assert files(tmp_path) == ["bvlc_googlenet.caffemodel", "googlenet.h5"]

    written = read_weights(tmp_path / "googlenet.h5")
    assert {name for name, arrays in written.items() if arrays} == params.keys()
    for name, arrays in params.items():
        for mine, theirs in zip(written[name], arrays, strict=True):
            np.testing.assert_array_equal(mine.ravel(), theirs.ravel())
    assert written["loss3/classifier"][0].shape == (1000, 1024)
    assert written["loss3/classifier"][1].shape == (1000,)
    assert parse_net(read_deploy(tmp_path / "googlenet.h5"), "deploy") == models.build(
        "googlenet", deploy=True
    )
    net = load(tmp_path / "googlenet.h5")
    assert net.inputs == ["data"] and net.outputs == ["prob"]


def test_the_original_alone_is_kept_on_request(server, weights, tmp_path, monkeypatch):
    monkeypatch.setattr("fcnlite.published.catalogue", lambda: {"fcn32s": weights})
    assert download.main(["fcn32s", "--to", str(tmp_path), "--no-hdf5"]) == 0
    assert files(tmp_path) == ["net.caffemodel"]


def test_what_is_no_model_is_one_line_and_status_2(server, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("fcnlite.published.catalogue", lambda: {"fcn32s": weights})
    assert download.main(["fcn32s", "--to", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fcnlite download: error: ") and error.count("\n") == 1
    assert files(tmp_path) == ["net.caffemodel"]


@pytest.mark.parametrize("content", [b"<!DOCTYPE html><html>sign in</html>", b"Quota exceeded", bytes(5000)])
def test_what_nothing_vouches_for_and_is_no_model_is_removed(
    server, weights, tmp_path, monkeypatch, capsys, content
):
    """As a second try would otherwise find it there, and never ask the server again."""
    server.content = content
    known = {"fcn32s": replace(weights, sha1=None, bytes=None)}
    monkeypatch.setattr("fcnlite.published.catalogue", lambda: known)
    for _ in range(2):
        assert download.main(["fcn32s", "--to", str(tmp_path)]) == 2
        assert capsys.readouterr().err.strip().endswith("it has no published checksum, and was removed")
        assert files(tmp_path) == []
    assert server.requests == ["", ""]


@pytest.mark.parametrize("name", [name for name in published.catalogue() if "fcn" in name])
def test_every_net_gets_the_names_of_its_classes(name):
    notes = published._notes(name)
    shapes = {
        blob: shape
        for layer in measure(models.build(name, deploy=True), (64, 96))
        for blob, shape in zip(layer.tops, layer.shapes)
    }
    for blob, names in notes.classes.items():
        assert shapes[blob] == (1, len(names), 64, 96)
    assert notes.classes and len(notes.mean_bgr) == 3


def test_a_file_of_another_net_is_refused(googlenet, tmp_path):
    source, _ = googlenet
    with pytest.raises(InputError, match="has no parameters for .*of fcn-alexnet"):
        published.convert(published.find("fcn-alexnet"), source)
    assert not source.with_name("fcn-alexnet.h5").exists()


def test_the_module_runs_as_a_command():
    result = subprocess.run(
        [sys.executable, "-m", "fcnlite", "download", "nonsense"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert (
        result.stderr.startswith("fcnlite download: error: no net is called 'nonsense'")
        and result.stderr.count("\n") == 1
    )


def test_the_catalogue_is_plain_json():
    entries = json.loads((published.weights_folder() / "catalogue.json").read_text())
    assert set().union(*entries.values()) == {"about", "url", "licence", "sha1", "bytes"}
