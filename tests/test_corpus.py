"""Small prototxts in the style of Caffe's forks: all build, run forward and back, in both phases, and learn."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnlite import set_random_seed
from fcnlite.net import Net

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.prototxt"))
FORKS = 11  # what the folder holds; a prototxt that goes missing is told
LEARN = {"segnet", "deeplab-v1", "deeplab-v2", "enet", "backbones"}  # those that have a loss in TRAIN


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Four pictures of 18 x 24 pixels in four classes, a list of them and of their names."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    (folder / "features").mkdir()
    for i in range(4):
        label = np.kron(rng.integers(0, 4, (3, 4)), np.ones((6, 6))).astype(np.uint8)
        picture = label[:, :, None] * 60 + rng.integers(0, 30, (18, 24, 3))
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"{i}.png")
        Image.fromarray(label).save(folder / f"{i}-label.png")
    (folder / "list.txt").write_text("".join(f"/{i}.png /{i}-label.png\n" for i in range(4)))
    (folder / "ids.txt").write_text("".join(f"{i}\n" for i in range(4)))
    return folder


def build(path: Path, phase: str, images: Path) -> Net:
    """The net, reading from the folder that @ stands for, its inputs filled."""
    set_random_seed(1)
    net = Net(path.read_text().replace('"@', f'"{images}/'), phase)
    rng = np.random.default_rng(2)
    for name in net.inputs:
        values = rng.uniform(0, 255, net.blobs[name].shape)
        if name == "label":
            values = rng.integers(0, 4, net.blobs[name].shape)
        elif name == "rois":
            values = np.concatenate(
                [np.zeros((3, 1)), np.sort(rng.uniform(0, 32, (3, 2, 2)), 1).reshape(3, 4)], 1
            )
        net.blobs[name].data[...] = values
    return net


def test_the_corpus_is_whole():
    assert len(CORPUS) == FORKS
    assert {path.stem for path in CORPUS} > LEARN


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_builds_and_runs_forward_and_back(path, phase, images):
    net = build(path, phase, images)
    out = net.forward()
    assert all(np.isfinite(values).all() for values in out.values())
    losses = {layer.param.top[0] for layer in net.layers if layer.loss_weights}
    if phase == "TRAIN":
        assert bool(losses) == (path.stem in LEARN)
    net.backward(**{name: np.ones(net.blobs[name].shape) for name in net.outputs if name not in losses})
    diffs = [blob.diff for blobs in net.params.values() for blob in blobs]
    assert all(np.isfinite(diff).all() for diff in diffs)
    assert phase == "TEST" or any(np.any(diff) for diff in diffs)


@pytest.mark.parametrize("name", sorted(LEARN))
def test_steps_against_the_gradient_lower_the_loss(name, images):
    net = build(next(path for path in CORPUS if path.stem == name), "TRAIN", images)

    def mean_loss(step: Callable[[], None]) -> float:
        total = 0.0
        for _ in range(8):
            net.clear_param_diffs()
            total += float(net.forward()["loss"])
            net.backward()
            step()
        return total / 8

    def descend() -> None:
        norm = np.sqrt(sum((p.blob.diff**2).sum() for p in net.learnable_params if p.lr_mult))
        for p in net.learnable_params:
            if p.lr_mult:
                p.blob.data -= 0.05 / max(norm, 1e-9) * p.blob.diff

    before = mean_loss(lambda: None)
    for _ in range(3):
        mean_loss(descend)
    assert mean_loss(lambda: None) < before


def test_an_old_crop_derives_its_offset(images):
    """The old form's CROP, of the branch the FCN models were trained with, has no offset: its layer derived it."""
    v1 = next(path for path in CORPUS if path.stem == "crf-as-rnn-v1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = build(v1, "TEST", images)
    offsets = [list(layer.param.crop_param.offset) for layer in net.layers if layer.param.type == "Crop"]
    assert offsets == [[3], [4]]
