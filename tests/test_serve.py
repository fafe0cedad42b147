"""`fcnlite serve`: answers, refusals that tell nothing of the machine, the queue, load, and the page in a browser."""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fcnlite.data.notes import Notes
from fcnlite.net import Segmenter

pytest.importorskip("starlette", reason="starlette is not installed")
testclient = pytest.importorskip("starlette.testclient", reason="httpx is not installed")
from fcnlite.serve import Limits, Model, create_app  # noqa: E402

NET = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 5 pad: 2 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "score" type: "Convolution" bottom: "conv" top: "score"
        convolution_param { num_output: 3 kernel_size: 1 } }
"""
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def small(seed: int = 0) -> Segmenter:
    net = Segmenter(NET)
    draw = np.random.default_rng(seed)
    for layer in net.layers:
        for blob in layer.blobs:
            blob.data[...] = draw.normal(0, 0.3, blob.shape)
    net.notes = Notes({"score": ("background", "<b>cat</b>", "dog")}, told=True)
    return net


def encoded(pixels: np.ndarray, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def client() -> Iterator[Any]:
    models = [Model.of(small(), "first.h5"), Model.of(small(1), "second.h5")]
    limits = Limits(upload=200_000, pixels=20_000, seconds=5)
    with testclient.TestClient(create_app(models, limits), base_url="http://127.0.0.1") as made:
        yield made


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP"])
def test_labels_are_predicts(client: Any, form: str) -> None:
    body = encoded(picture(30, 41), form)
    pixels = np.array(Image.open(io.BytesIO(body)).convert("RGB"))
    for name, net in (("first", small()), ("second", small(1))):
        answer = client.post(f"/api/segment?net={name}", content=body)
        assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
        label = Image.open(io.BytesIO(answer.content))
        assert label.mode == "P" and np.array_equal(np.array(label), net.predict(pixels))


def test_a_model_keeps_to_its_memory() -> None:
    body = encoded(picture(30, 41))
    models = [Model.of(small(), f"{most}.h5", memory=most) for most in (1, 1 << 40)]
    with testclient.TestClient(create_app(models), base_url="http://127.0.0.1") as client:
        little, much = (client.post(f"/api/segment?net={model.name}", content=body) for model in models)
    assert little.status_code == 422
    assert np.array_equal(np.array(Image.open(io.BytesIO(much.content))), small().predict(picture(30, 41)))


def test_json_has_shares_and_the_png(client: Any) -> None:
    pixels = picture(20, 30)
    told = client.post("/api/segment?format=json", content=encoded(pixels)).json()
    label = small().predict(pixels)
    assert (told["width"], told["height"], told["net"]) == (30, 20, "first")
    png = np.array(Image.open(io.BytesIO(base64.b64decode(told["png"]))))
    assert np.array_equal(png, label)
    counts = {one["index"]: one["pixels"] for one in told["classes"]}
    assert counts == {int(i): int((label == i).sum()) for i in np.unique(label)}
    assert sum(one["share"] for one in told["classes"]) == pytest.approx(1)
    assert list(counts.values()) == sorted(counts.values(), reverse=True)


def bomb() -> bytes:
    """A small PNG that claims to be huge."""
    buffer = io.BytesIO()
    Image.new("1", (20000, 20000)).save(buffer, "PNG")
    return buffer.getvalue()


HOSTILE = {
    "nothing": (b"", 400),
    "text": (b"hello, I am a picture", 415),
    "half": (encoded(picture(60, 60))[:2000], 415),
    "page": (b"<html><script>alert(1)</script></html>", 415),
    "large": (encoded(picture(300, 300)), 413),
    "bomb": (bomb(), 413),
    "many pixels": (encoded(np.zeros((200, 200, 3), np.uint8)), 413),
    "zeros": (b"\0" * 5000, 415),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>', 415),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_bad_files_get_a_message_and_nothing_of_the_machine(client: Any, kind: str) -> None:
    body, status = HOSTILE[kind]
    answer = client.post("/api/segment", content=body)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert not re.search(
        r"Traceback|File \"|/usr|/home|/work|site-packages|0x[0-9a-f]{6}|standard input", answer.text
    )


@pytest.mark.parametrize(
    ("request_line", "options", "status"),
    [
        ("GET /api/segment", {}, 405),
        ("GET /api/nothing", {}, 404),
        ("GET /../pyproject.toml", {}, 404),
        ("GET /page.js/../model.py", {}, 404),
        ("POST /api/segment?net=other", {"content": b"x"}, 404),
        ("POST /api/segment?format=tiff", {"content": b"x"}, 400),
        ("POST /api/segment", {"content": b"x", "headers": {"origin": "http://elsewhere.example"}}, 403),
        ("GET /", {"headers": {"host": "elsewhere.example"}}, 400),
    ],
)
def test_refusals(client: Any, request_line: str, options: dict[str, Any], status: int) -> None:
    method, path = request_line.split()
    assert client.request(method, path, **options).status_code == status


def test_the_page_takes_nothing_from_elsewhere(client: Any) -> None:
    answer = client.get("/")
    assert answer.status_code == 200 and "default-src 'none'" in answer.headers["content-security-policy"]
    for name in ("", "page.css", "page.js"):
        assert not re.search(
            r"https?://|//[a-z]", re.sub(r"^ *//.*$", "", client.get(f"/{name}").text, flags=re.M)
        )


def test_the_description_names_every_path_and_status(client: Any) -> None:
    described = client.get("/api/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    assert set(described["paths"]) == {"/api/nets", "/api/segment"}
    responses = described["paths"]["/api/segment"]["post"]["responses"]
    assert {str(status) for _, status in HOSTILE.values()} < set(responses)
    assert described["paths"]["/api/segment"]["post"]["parameters"][0]["schema"]["enum"] == [
        "first",
        "second",
    ]
    nets = client.get("/api/nets").json()["nets"]
    assert [net["name"] for net in nets] == ["first", "second"]
    assert nets[0]["classes"][1] == {"index": 1, "name": "<b>cat</b>", "colour": "#800000"}


def test_a_full_queue_and_a_late_answer_are_told() -> None:
    model = Model.of(small(), "net.h5")
    gate, begun = threading.Event(), threading.Event()
    segment = model.segment

    def slow(image: np.ndarray) -> np.ndarray:
        begun.set()
        gate.wait(10)
        return segment(image)

    model.segment = slow  # type: ignore[method-assign]
    body = encoded(picture(10, 10))
    limits = Limits(waiting=0, seconds=0.5)
    with testclient.TestClient(create_app([model], limits), base_url="http://127.0.0.1") as client:
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(client.post, "/api/segment", content=body)
            assert begun.wait(5)
            refused = client.post("/api/segment", content=body)
            assert refused.status_code == 503 and "too many" in refused.json()["error"]
            assert first.result().status_code == 503 and "no answer within" in first.result().json()["error"]
        gate.set()
        for _ in range(50):
            if client.post("/api/segment", content=body).status_code == 200:
                break
            time.sleep(0.05)
        assert client.post("/api/segment", content=body).status_code == 200


def test_a_failure_of_ours_is_not_shown() -> None:
    model = Model.of(small(), "net.h5")

    def broken(image: np.ndarray) -> np.ndarray:
        raise RuntimeError("secret /home/me")

    model.segment = broken  # type: ignore[method-assign]
    app = create_app([model])
    with testclient.TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        answer = client.post("/api/segment", content=encoded(picture(10, 10)))
    assert answer.status_code == 500 and "secret" not in answer.text and "/home" not in answer.text


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """A running `fcnlite serve` with two nets: its address and process."""
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    folder = tmp_path_factory.mktemp("serve")
    for seed, name in enumerate(("first.h5", "second.h5")):
        small(seed).save(folder / name)
    command = [sys.executable, "-m", "fcnlite", "serve", "--weights", "first.h5", "--weights", "second.h5"]
    environment = {**os.environ, "FCNLITE_DEVICE": "cpu"}
    words = [
        *command,
        "--port",
        "0",
        "--memory",
        "4G",
        "--fast",
        "--max-pixels",
        "20000",
        "--max-bytes",
        "200000",
    ]
    running = subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, text=True, env=environment)
    assert running.stdout is not None
    line = running.stdout.readline()
    try:
        yield line.split()[0], running.pid
    finally:
        running.terminate()
        assert running.wait(20) == 128 + 15


def post(address: str, body: bytes) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"{address}/api/segment", body, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def resident(pid: int) -> int:
    """Memory of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) // 1024  # type: ignore[index]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_two_hundred_requests_from_eight_clients(server: tuple[str, int]) -> None:
    """Every fourth file is hostile; every answer is right, and memory stays as it is."""
    address, pid = server
    pictures = [picture(60 + i, 90 - i, i) for i in range(5)]
    net = small()
    labels = [net.predict(each) for each in pictures]
    bodies = [encoded(each) for each in pictures]
    hostile = list(HOSTILE.values())

    def ask(i: int) -> None:
        if i % 4 == 3:
            body, status = hostile[i % len(hostile)]
            assert post(address, body)[0] == status
            return
        status, content = post(address, bodies[i % 5])
        assert status == 200, content
        assert np.array_equal(np.array(Image.open(io.BytesIO(content))), labels[i % 5])

    with ThreadPoolExecutor(8) as clients:
        list(clients.map(ask, range(40)))
        before = resident(pid)
        list(clients.map(ask, range(200)))
    after = resident(pid)
    print(f"{before} MB before, {after} MB after")
    assert after - before < 40


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
def test_the_page_in_a_browser(server: tuple[str, int], tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    address, _ = server
    image = np.kron(picture(5, 6, 7), np.ones((20, 20, 1), np.uint8))
    (tmp_path / "photo.png").write_bytes(encoded(image))
    (tmp_path / "huge.png").write_bytes(encoded(np.kron(image, np.ones((3, 3, 1), np.uint8))))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        asked: list[str] = []
        faults: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        held: list[Any] = []
        page.route("**/api/nets", lambda route: held.append(route))
        page.goto(address)
        page.set_input_files("#file", tmp_path / "photo.png")  # before the page knows the nets
        page.wait_for_timeout(300)
        assert page.locator("#controls").is_hidden()
        held[0].continue_()
        page.wait_for_selector("#controls:not([hidden])")
        assert page.locator("article h2").all_inner_texts() == ["first", "second"]
        check_overlay(page, image)
        check_download(page, image)
        page.set_input_files("#file", tmp_path / "huge.png")
        page.get_by_text("Shrunk from 360 x 300 to").wait_for()
        page.wait_for_selector("#controls:not([hidden])")
        page.set_input_files("#file", tmp_path / "broken.png")
        page.wait_for_selector("#status.error")
        assert "not a picture" in page.inner_text("#status")
        browser.close()
    assert not faults
    assert not [url for url in asked if not url.startswith((address, "data:", "blob:"))]


def canvas(page: Any) -> np.ndarray:
    """The first result's pixels."""
    script = "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
    first = page.locator("canvas").first
    width, height = first.evaluate("c => [c.width, c.height]")
    return np.array(first.evaluate(script), np.uint8).reshape(height, width, 4)[:, :, :3]


def check_overlay(page: Any, image: np.ndarray) -> None:
    """The slider's ends show the picture and the classes; a class that is switched off shows the picture."""
    label = small().predict(image)
    palette = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)
    shown = label != 0  # the background is switched off at first
    page.fill("#strength", "0")
    assert np.array_equal(canvas(page), image)
    page.fill("#strength", "100")
    assert np.array_equal(canvas(page), np.where(shown[:, :, None], palette[label], image))
    article = page.locator("article").first
    article.get_by_text("dog", exact=True).click()
    shown &= label != 2
    assert np.array_equal(canvas(page), np.where(shown[:, :, None], palette[label], image))
    shares = {
        row.split("\t")[-2].strip(): row.split("\t")[-1]
        for row in article.locator("tbody tr").all_inner_texts()
    }
    assert shares["<b>cat</b>"] == f"{100 * (label == 1).mean():.1f} %"


def check_download(page: Any, image: np.ndarray) -> None:
    with page.expect_download() as download:
        page.locator(".download").first.click()
    assert download.value.suggested_filename == "first-labels.png"
    assert np.array_equal(np.array(Image.open(download.value.path())), small().predict(image))


def test_the_python_on_the_docs_page_runs(server: tuple[str, int], tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "serve.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    pixels = picture(30, 40)
    (tmp_path / "photo.jpg").write_bytes(encoded(pixels))
    code = code.replace("http://127.0.0.1:8000", server[0])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    names = ("background", "<b>cat</b>", "dog")
    label = small().predict(pixels)
    assert {line.split(":")[0] for line in done.stdout.splitlines()} == {names[i] for i in np.unique(label)}


def test_a_missing_package_is_told(monkeypatch: Any, capsys: Any) -> None:
    from fcnlite.__main__ import main

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", "--weights", "net.h5"]) == 2
    assert "pip install 'fcnlite[serve]'" in capsys.readouterr().err
