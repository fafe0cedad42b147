"""Chains of nets, coarse to fine: each stage's start, stopping anywhere and going on, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import rule
from commands import NARROW, draw, ends, fails, same_weights

from fcnlite import convolutionalise, models
from fcnlite.commands.train import main
from fcnlite.errors import InputError
from fcnlite.io import read_weights, write_weights
from fcnlite.training.chain import Chain, is_classifier, stages_of
from fcnlite.training.recipes import HEAVY
from fcnlite.training.run_folder import RunFolder

STAGES = ["fcn32s", "fcn16s", "fcn8s"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("data") / "shapes", train=2, val=1)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow VGG16 with weights that the reference rule draws."""
    path = tmp_path_factory.mktemp("weights") / "vgg16.h5"
    fresh = convolutionalise.fresh(models.vgg16(classes=10, width=2, fc=8))
    arrays = {
        layer: [rule.weight("chain", layer, i, a.shape) for i, a in enumerate(values)]
        for layer, values in fresh.items()
    }
    write_weights(path, arrays)
    return path


def options(data: Path, classifier: Path, out: Path, *more: object) -> list[object]:
    given = ["voc", "--data", data, "--init", classifier, "--net", "fcn8s", "--out", out, "--device", "cpu"]
    return [*given, "--recipe", "cvpr15", "--iter-size", 1, "--iterations", 2, "--snapshot", 1, *more]


@pytest.fixture(scope="module")
def whole(data: Path, classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain that nothing disturbed."""
    out = tmp_path_factory.mktemp("chains") / "whole"
    assert ends(main, options(data, classifier, out)) == 0
    return out


def test_stages_are_those_of_the_paper() -> None:
    assert stages_of("fcn8s") == STAGES and stages_of("fcn16s") == STAGES[:2]
    assert stages_of("siftflow-fcn8s") == [f"siftflow-{stage}" for stage in STAGES]
    assert stages_of("pascalcontext-fcn16s") == [f"pascalcontext-{stage}" for stage in STAGES[:2]]
    for net in ("fcn32s", "fcn8s-atonce", "fcn-alexnet", "fcn-googlenet", "nyud-fcn32s-color-hha"):
        assert stages_of(net) == [net]
    assert all(stages_of(net)[-1] == net for net in HEAVY)


def test_classifiers_are_told_from_fcns(classifier: Path, whole: Path) -> None:
    assert is_classifier(classifier) and not is_classifier(whole / "fcn8s.h5")


def test_a_classifier_makes_it_a_chain(whole: Path) -> None:
    """Without --chain: the net named starts from a coarser one in the paper."""
    assert sorted(path.name for path in whole.iterdir()) == [
        "1-fcn32s",
        "2-fcn16s",
        "3-fcn8s",
        "chain.json",
        "fcn8s.h5",
    ]
    assert same_weights(whole / "fcn8s.h5", whole / "3-fcn8s" / "fcn8s.h5")
    plans = [
        json.loads((whole / f"{i}-{net}" / "settings.json").read_text())["plan"]
        for i, net in enumerate(STAGES, 1)
    ]
    assert [plan["net"] for plan in plans] == STAGES
    assert [plan["lr"] for plan in plans] == pytest.approx([1e-4, 1e-6, 1e-6])
    assert [Path(plan["init"][0]).name for plan in plans] == ["vgg16.h5", "fcn32s.h5", "fcn16s.h5"]
    assert [plan["width"] for plan in plans] == [2, 2, 2]


def test_each_stage_starts_from_the_last_ones_weights(whole: Path) -> None:
    """With steps this small nothing has moved far: what a stage took over is still there."""
    before, after = read_weights(whole / "1-fcn32s" / "fcn32s.h5"), read_weights(whole / "fcn8s.h5")
    assert np.abs(before["score_fr"][0]).max() > 0  # learned in the first stage
    np.testing.assert_allclose(after["score_fr"][0], before["score_fr"][0], atol=1e-4)
    assert not np.array_equal(after["score_pool3"][1], np.zeros_like(after["score_pool3"][1]))


class Cut(KeyboardInterrupt):
    """The power fails."""


@pytest.fixture
def power(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Lets the power fail after so many more steps, snapshots and final weights."""
    left = [float("inf")]

    def failing(method: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            result = method(*arguments)
            left[0] -= 1
            if left[0] <= 0:
                raise Cut
            return result

        return run

    for name in ("log", "snapshot", "write_final"):
        monkeypatch.setattr(RunFolder, name, failing(getattr(RunFolder, name)))
    yield lambda after: left.__setitem__(0, after)


def test_a_chain_goes_on_from_wherever_it_was_cut(
    data: Path, classifier: Path, whole: Path, tmp_path: Path, power: Callable[[float], None]
) -> None:
    out, arguments, cuts = tmp_path / "cut", options(data, classifier, tmp_path / "cut"), 0
    for after in cycle((1, 2, 3)):
        power(after)
        status = ends(main, arguments)
        if status == 0:
            break
        assert status == 130 and cuts < 12
        cuts, arguments = cuts + 1, ["--resume", out, "--device", "cpu"]
    assert cuts > 5
    for i, net in enumerate(STAGES, 1):
        assert same_weights(out / f"{i}-{net}" / f"{net}.h5", whole / f"{i}-{net}" / f"{net}.h5"), net
    assert ends(main, ["--resume", out]) == 0  # nothing is left to do
    assert same_weights(out / "fcn8s.h5", whole / "fcn8s.h5")


def test_the_best_snapshot_may_start_the_next_stage(tmp_path: Path) -> None:
    chain = Chain(tmp_path, STAGES[:2], "best", {"data_set": "voc"}, RunFolder(tmp_path))
    run = tmp_path / "1-fcn32s"
    for part in ("validation", "snapshots"):
        (run / part).mkdir(parents=True)
    (run / "fcn32s.h5").touch()
    assert chain.best(0) is None  # nothing was validated: the final weights serve
    assert chain.options(1, {})["init"] == [str(run / "fcn32s.h5")]
    for iteration, mean_iu in ((4, 0.2), (8, 0.5), (12, 0.5), (16, None), (20, 0.9)):
        scores = {"iteration": iteration, "labels": {"label": {"mean_iu": mean_iu}}}
        (run / "validation" / f"iter_{iteration}.json").write_text(json.dumps(scores))
        if iteration != 20:  # deleted by the user
            (run / "snapshots" / f"fcn32s_iter_{iteration}.caffemodel.h5").touch()
    best = str(run / "snapshots" / "fcn32s_iter_8.caffemodel.h5")
    assert chain.options(1, {"lr": 1.0}) == {
        "data_set": "voc",
        "lr": 1.0,
        "net": "fcn16s",
        "init": [best],
        "out": str(tmp_path / "2-fcn16s"),
    }
    final = Chain(tmp_path, STAGES[:2], "final", {}, RunFolder(tmp_path))
    assert final.options(1, {})["init"] == [str(run / "fcn32s.h5")]


def test_fixed_nets_learn_their_scores_only(
    data: Path, classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fixed"
    assert ends(main, options(data, classifier, out, "--net", "fcn32s", "--fixed")) == 0
    before, after = read_weights(classifier), read_weights(out / "fcn32s.h5")
    for layer, arrays in before.items():
        if layer != "fc8":
            for old, new in zip(arrays, after[layer]):
                np.testing.assert_array_equal(old.ravel(), new.ravel(), err_msg=layer)
    assert np.abs(after["score_fr"][0]).max() > 0
    resumed = ["--resume", out, "--iterations", 3]
    assert ends(main, resumed) == 0
    np.testing.assert_array_equal(read_weights(out / "fcn32s.h5")["conv1_1"][0], before["conv1_1"][0])
    fails(capsys, main, ["voc", "--data", data, "--fixed", "--out", tmp_path / "no"], "--init")


def test_from_nothing_only_on_request(data: Path, tmp_path: Path) -> None:
    given = ["voc", "--data", data, *NARROW, "--net", "fcn16s", "--iterations", 1, "--validate", 0]
    assert ends(main, [*given, "--out", tmp_path / "one"]) == 0
    assert not (tmp_path / "one" / "chain.json").exists()
    assert ends(main, [*given, "--out", tmp_path / "two", "--chain", "--stage-weights", "best"]) == 0
    plans = [json.loads(path.read_text())["plan"] for path in sorted(tmp_path.glob("two/*/settings.json"))]
    assert [plan["power"] for plan in plans] == [0.9, 0.9]  # both by the recipe from scratch
    assert plans[1]["lr"] == pytest.approx(plans[0]["lr"] / 10)  # the second one's weights are not random


def test_mistakes_are_told_in_a_line(
    data: Path, classifier: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(capsys, main, options(data, classifier, whole), "holds another chain", "--resume")
    fails(capsys, main, ["--resume", whole, "--net", "fcn16s"], "ends with fcn8s")
    out = tmp_path / "new"
    given = ["voc", "--data", data, "--out", out]
    fails(capsys, main, [*given, "--net", "fcn32s", "--chain"], "fcn32s does not start from a coarser net")
    fails(capsys, main, [*given, "--stage-weights", "best"], "--chain")
    single = whole / "1-fcn32s"
    fails(capsys, main, ["voc", "--net", "fcn8s", "--resume", single, "--chain"], "--resume names no chain")
    missing = [*options(data, classifier, out), "--split", "nowhere"]
    fails(capsys, main, missing, "nowhere")
    assert not out.exists()  # a mistake leaves nothing behind
    (tmp_path / "damaged").mkdir()
    sound = '{"stages": ["fcn32s"], "take": "%s", "given": {%s}}'
    for text in (
        "{",
        "[]",
        '{"stages": ["x"], "take": "final", "given": {}}',
        '{"stages": []}',
        sound % ("last", ""),
        sound % ("final", '"lr": "x"'),
    ):
        (tmp_path / "damaged" / "chain.json").write_text(text)
        with pytest.raises(InputError, match="chain.json is damaged"):
            Chain.read(tmp_path / "damaged")


def test_a_damaged_validation_is_named(whole: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    path = next((copy / "1-fcn32s" / "validation").glob("*.json"))
    for text in ("", "[]", '{"iteration": 1}', '{"iteration": 1, "labels": {"label": {"mean_iu": "x"}}}'):
        path.write_text(text)
        with pytest.raises(InputError, match=f"{path.name} is damaged"):
            Chain.read(copy).best(0)
    path.write_text('{"iteration": 1, "labels": {}}')
    Chain.read(copy).best(0)
