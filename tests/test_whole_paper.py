"""Every net of the paper, on its data set in its own on-disk format: trained, then evaluated, by the commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import draw, ends
from test_data_scenes import make_context, make_nyud, make_siftflow

import fcnlite
from fcnlite import convolutionalise, models
from fcnlite.commands import evaluate, train
from fcnlite.fillers import fill
from fcnlite.io import read_weights, write_weights
from fcnlite.proto import FillerParameter
from fcnlite.training.recipes import HEAVY

MODES = {
    "nyud-fcn32s-color": "rgb",
    "nyud-fcn32s-color-d": "rgbd",
    "nyud-fcn32s-hha": "hha",
    "nyud-fcn32s-color-hha": "rgb-hha",
    "nyud-fcn16s-color-hha": "rgb-hha",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each data set; what is evaluated is what is trained on."""
    base = tmp_path_factory.mktemp("data")
    draw(base / "voc", train=2, val=1)
    for name, make in (("nyud", make_nyud), ("siftflow", make_siftflow)):
        make(base / name)
        shutil.copy(base / name / "trainval.txt", base / name / "test.txt")
    (base / "pascalcontext").mkdir()
    make_context(base / "pascalcontext" / "VOC2010", base / "pascalcontext" / "pascal-context")
    lists = base / "pascalcontext" / "VOC2010" / "ImageSets" / "Main"
    shutil.copy(lists / "train.txt", lists / "val.txt")
    return base


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of narrow nets' weights, as if trained: what the recipes start from."""
    folder = tmp_path_factory.mktemp("weights")
    fcnlite.set_random_seed(0)
    for name in sorted({net for recipe in HEAVY.values() for net in recipe.start}):
        width = {"caffenet": 4, "googlenet": 4}.get(name, 1)
        fresh = convolutionalise.fresh(models.build(name, width=width))
        arrays = {
            layer: [
                fill(FillerParameter(type="msra"), a.shape) if a.ndim > 1 else a + np.float32(0.01)
                for a in layer_arrays
            ]
            for layer, layer_arrays in fresh.items()
        }
        write_weights(folder / f"{name}.h5", arrays)
    return folder


@pytest.mark.parametrize("net", HEAVY)
def test_trains_as_the_recipe_says_and_is_evaluated(
    data: Path, start: Path, tmp_path: Path, net: str
) -> None:
    data_set = next((name for name in ("nyud", "siftflow", "pascalcontext") if net.startswith(name)), "voc")
    inits = [word for name in HEAVY[net].start for word in ("--init", start / f"{name}.h5")]
    out = tmp_path / "run"
    given = [
        data_set,
        "--data",
        data / data_set,
        "--net",
        net,
        *inits,
        "--out",
        out,
        "--no-chain",
        "--recipe",
        "heavy",
    ]
    small = ["--iterations", 1, "--iter-size", 1, "--lr", 1e-6, "--validate", 1]
    assert ends(train.main, [*given, *small]) == 0
    plan = json.loads((out / "settings.json").read_text())["plan"]
    recipe = HEAVY[net]
    assert (plan["momentum"], plan["normalize"]) == (recipe.momentum, recipe.normalize)
    learned, begun = read_weights(out / f"{net}.h5"), read_weights(start / f"{recipe.start[0]}.h5")
    scores = [layer for layer in learned if layer.startswith("score") and learned[layer]]
    assert scores and any(np.abs(learned[layer][0]).max() > 0 for layer in scores)
    first, source = (min(layer for layer in weights if weights[layer]) for weights in (learned, begun))
    channels = 1 if net == "nyud-fcn32s-color-d" else 0  # depth joins the colours
    output, colours, *kernel = begun[source][0].shape
    assert learned[first][0].shape == (output, colours + channels, *kernel)
    found = tmp_path / "found.json"
    mode = ["--mode", MODES[net]] if net in MODES else []
    arguments = [data_set, "--weights", out / f"{net}.h5", "--data", data / data_set, *mode, "--json", found]
    assert ends(evaluate.main, arguments) == 0
    labels = json.loads(found.read_text())["labels"]
    assert list(labels) == (["sem", "geo"] if data_set == "siftflow" else ["label"])
    assert all(0 <= head["pixel_accuracy"] <= 1 for head in labels.values())
