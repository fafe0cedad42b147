"""How nets and segmented pictures show themselves, in terminals and notebooks."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

import fcnlite
from fcnlite import models, vis
from fcnlite.data.notes import Notes
from fcnlite.net import Net, Segmenter


@pytest.fixture(scope="module")
def net() -> Segmenter:
    fcnlite.set_random_seed(4)
    param = models.build("fcn32s", classes=3, width=2, fc=8, filler={"type": "msra"}, deploy=True)
    made = Segmenter(param)
    rng = np.random.default_rng(0)
    for layer, blobs in made.params.items():
        if layer.startswith(("score", "up")):
            blobs[0].data[...] = rng.normal(size=blobs[0].shape).astype(np.float32)
    made.notes = Notes({"score": ("ground", "tree", "<sky>")})
    return made


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (40, 56, 3), np.uint8)


def test_a_net_tells_what_it_is_in_a_line(net: Segmenter, image: np.ndarray) -> None:
    net.predict(image)
    count = sum(blob.count for blobs in net.params.values() for blob in blobs)
    assert re.fullmatch(
        r"Segmenter\(('.*', )?TEST: data 1 x 3 x 40 x 56 -> score 1 x 3 x 40 x 56; .* parameters\)", repr(net)
    )
    assert f"{count:,} parameters" in repr(net)


def test_the_summary_has_a_line_for_each_layer(net: Segmenter) -> None:
    table = net.summary()
    lines = str(table).splitlines()
    assert lines[0] == repr(net) and [row[0] for row in table.rows] == [
        layer.name for layer in net.layers if layer.type != "Split"
    ]
    first = next(line for line in lines if line.startswith("conv1_1"))
    weight, bias = net.params["conv1_1"]
    assert first.split()[:3] == ["conv1_1", "Convolution", "conv1_1"]
    assert first.split()[-1] == f"{weight.count + bias.count:,}"
    assert table._repr_html_().count("<tr>") == len(table.rows) + 1 == net._repr_html_().count("<tr>")


def test_names_are_text_in_html() -> None:
    net = Net('name: "<b>" layer { name: "<i>" type: "Input" top: "x" input_param { shape { dim: 2 } } }')
    assert "<b>" not in net._repr_html_() and "&lt;i&gt;" in net._repr_html_()


def test_a_segmentation_knows_its_picture_labels_and_probabilities(net: Segmenter, image: np.ndarray) -> None:
    found = net.segment(image)
    assert np.array_equal(found.labels, net.predict(image)) and np.array_equal(found.image, image)
    assert found.classes == ("ground", "tree", "<sky>")
    np.testing.assert_allclose(found.probabilities.sum(0), 1, rtol=1e-5)
    assert np.array_equal(found.probabilities.argmax(0), found.labels)
    assert sum(found.shares.values()) == pytest.approx(1)
    expected = vis.overlay(image, found.labels, background=net.notes.background, classes=found.classes)
    assert np.array_equal(found.overlay(), expected)
    assert found.overlay(classes=None, alpha=0).shape == image.shape
    assert re.match(r"Segmentation\(40 x 56: \S+ [\d.]+ %", repr(found))


def test_a_notebook_shows_it(net: Segmenter, image: np.ndarray) -> None:
    found = net.segment(image)
    shown = found._repr_html_()
    picture = Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", shown)[1])))
    assert picture.size == found.overlay().shape[1::-1] and "<sky>" not in shown


def test_lists_of_images(net: Segmenter, image: np.ndarray) -> None:
    one, other = net.predict([image, image[:20]])
    assert np.array_equal(one, net.predict(image)) and np.array_equal(other, net.predict(image[:20]))
