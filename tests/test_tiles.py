"""Pictures in tiles: the labels and scores of the whole, for the paper's nets and any net whose windows have an end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cases import relative_error
from commands import ends, fails, printed
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_plateaus import built, convolutions, poolings

from fcnlite import device, models
from fcnlite.commands import evaluate
from fcnlite.commands.predict import main
from fcnlite.data import Dataset, Sample
from fcnlite.data.dataset import as_blob
from fcnlite.errors import InputError
from fcnlite.memory import bytes_of, shown
from fcnlite.net import Net, Segmenter
from fcnlite.net.segmenter import segment
from fcnlite.net.tiles import Cut, Reach, TooLittle, cuts, tiling

BOUND = 1e-6


def make(net: str, width: int = 4, fc: int = 32, classes: int = 5) -> Segmenter:
    """A net of the catalogue whose scores depend on all that it sees."""
    made = Segmenter(
        models.build(net, classes=classes, width=width, fc=fc, filler={"type": "msra"}, deploy=True)
    )
    for i, blobs in enumerate(made.params.values()):
        if not blobs[0].data.any():
            blobs[0].data[...] = np.random.default_rng(i).normal(size=blobs[0].shape)
    return made


def picture(*size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.fixture
def nothing_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory is all the pass's own."""
    monkeypatch.setattr(type(device.current()), "held_bytes", lambda self: 0)


def tightest(net: Net, output: str, size: tuple[int, int]) -> int:
    """The least memory in which a picture goes."""
    with pytest.raises(TooLittle) as told:
        tiling(net, output, size, 1, _score_bytes(net, output))
    return told.value.needed


def _score_bytes(net: Net, output: str) -> int:
    return 4 * net.blobs[output].shape[1]


@pytest.mark.usefixtures("nothing_held")
@pytest.mark.parametrize("name", ["fcn32s", "fcn8s", "fcn-alexnet"])
def test_the_nets_of_the_paper_give_what_they_give_at_once(name: str) -> None:
    """To the bit, if no product is the BLAS's."""
    net, image = make(name, width=8, classes=8), picture(700, 620)
    memory = tightest(net, "score", (700, 620)) + (5 << 20)
    assert 1 < len(tiling(net, "score", (700, 620), memory, _score_bytes(net, "score"))) < 30
    whole, found = net.scores(image), net.scores(image, memory=memory)
    assert relative_error(found, whole) <= (0 if device.current().own_products else BOUND)
    np.testing.assert_array_equal(net.predict(image, memory=memory), whole.argmax(0))
    np.testing.assert_array_equal(net.segment(image, memory=memory).scores, found)


def grow(text: str, kinds: list[tuple[str, str]], bottom: str) -> tuple[str, str]:
    for i, (kind, param) in enumerate(kinds):
        top = f"{bottom[0]}{i + 1}"
        text += f" layer {{ name: '{top}' type: '{kind}' bottom: '{bottom}' top: '{top}' {param} }}"
        bottom = top
    return text, bottom


def described(
    chain: list[tuple[str, str]], size: tuple[int, int], up: tuple[int, int, int], skips: bool
) -> str:
    """A chain of layers, upsampled; with a second way from the picture, cropped and added, of the same step."""
    shape = f"shape {{ dim: [1, 3, {size[0]}, {size[1]}] }}"
    text = f"layer {{ name: 'data' type: 'Input' top: 'data' input_param {{ {shape} }} }}"
    text, last = grow(text, chain, "data")
    kernel, stride, pad = up
    for name in ("up", "up_skip") if skips else ("up",):
        text += (
            f" layer {{ name: '{name}' type: 'Deconvolution' bottom: '{last}' top: '{name}' convolution_param {{"
            f" num_output: 3 kernel_size: {kernel} stride: {stride} pad: {pad} }} }}"
        )
    if skips:
        text += (
            " layer { name: 'crop' type: 'Crop' bottom: 'up' bottom: 'up_skip' top: 'crop' }"
            " layer { name: 'sum' type: 'Eltwise' bottom: 'crop' bottom: 'up_skip' top: 'sum' }"
            " layer { name: 'both' type: 'Concat' bottom: 'sum' bottom: 'up' top: 'both' }"
            " layer { name: 'norm' type: 'Softmax' bottom: 'both' top: 'score' }"
        )
    else:
        text += " layer { name: 'score' type: 'ReLU' bottom: 'up' top: 'score' relu_param { negative_slope: 0.3 } }"
    return text


@pytest.mark.usefixtures("nothing_held")
@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.one_of(st.tuples(st.just("Convolution"), convolutions), st.tuples(st.just("Pooling"), poolings)),
        min_size=1,
        max_size=4,
    ),
    st.tuples(st.integers(40, 160), st.integers(40, 160)),
    st.tuples(st.integers(2, 7), st.integers(1, 4), st.integers(0, 2)),
    st.booleans(),
    st.integers(0, 12),
)
def test_any_net_of_windows_gives_what_it_gives_at_once(
    chain: list[tuple[str, str]], size: tuple[int, int], up: tuple[int, int, int], skips: bool, spare: int
) -> None:
    try:
        net = Segmenter(built(described(chain, size, up, skips), 3).param)
    except InputError:  # a window that does not fit
        assume(False)
    for i, blobs in enumerate(net.params.values()):
        for blob in blobs:
            blob.data[...] = np.random.default_rng(i).normal(size=blob.shape)
    image = picture(*size)
    whole = net.scores(image)
    memory = tightest(net, "score", size) + (spare << 13)
    found = net.scores(image, memory=memory)
    assert found.shape == whole.shape and relative_error(found, whole) < BOUND
    event(f"tiles: {min(9, len(tiling(net, 'score', size, memory, _score_bytes(net, 'score'))))}")


@given(st.integers(1, 40), st.integers(0, 50), st.integers(0, 50), st.integers(1, 2000), st.integers(1, 700))
def test_tiles_cover_an_axis_once_and_keep_their_margins(
    multiple: int, head: int, tail: int, length: int, most: int
) -> None:
    made = cuts(Reach(multiple, 1, head, tail), length, length, most)  # type: ignore[arg-type]
    if most >= length:
        assert made == [Cut(0, length, 0, length, 0)]
    if not made:
        assert most < head + tail + 2 * multiple
        return
    assert made[0].begin == made[0].first == 0 and made[-1].end == made[-1].last == length
    for cut, after in zip(made, made[1:]):
        assert cut.last == after.first and cut.last <= cut.end - tail
        assert after.begin % multiple == 0 and after.skip == after.first - after.begin >= head
    assert all(cut.end - cut.begin <= most for cut in made)


@pytest.mark.usefixtures("nothing_held")
def test_a_picture_that_fits_is_not_cut() -> None:
    assert len(tiling(make("fcn8s"), "score", (700, 620), 1 << 30)) == 1


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        ("type: 'Pooling' pooling_param { pool: AVE global_pooling: true }", "Pooling"),
        ("type: 'MVN'", "MVN"),
        ("type: 'Reduction' reduction_param { axis: 2 }", "Reduction"),
    ],
)
@pytest.mark.usefixtures("nothing_held")
def test_nets_that_see_the_whole_picture_are_refused(layer: str, told: str) -> None:
    text = (
        "layer { name: 'data' type: 'Input' top: 'data' input_param { shape { dim: [1, 3, 9, 9] } } }"
        " layer { name: 'conv' type: 'Convolution' bottom: 'data' top: 'conv'"
        " convolution_param { num_output: 2 kernel_size: 3 } }"
        f" layer {{ name: 'all' bottom: 'conv' top: 'score' {layer} }}"
    )
    with pytest.raises(InputError, match=f"'all' \\({told}\\).*whole picture|no map"):
        Segmenter(text).scores(picture(200, 300), memory=1 << 20)


def test_too_little_memory_is_told_with_what_is_needed() -> None:
    with pytest.raises(
        InputError,
        match=r"1 MB \(--memory\) is too little: with tiles of \d+ x \d+ pixels, .* takes [\d.]+ [MG]B, of",
    ):
        make("fcn8s").predict(picture(700, 620), memory="1M")


@pytest.mark.parametrize(
    ("amount", "count"),
    [("2G", 2 << 30), ("1.5 GiB", 3 << 29), ("800m", 800 << 20), ("64KB", 64 << 10), (77, 77)],
)
def test_amounts_of_memory(amount: str | int, count: int) -> None:
    assert bytes_of(amount) == count


@pytest.mark.parametrize("amount", ["", "G", "-2G", "2 gigs", "0", "1e9", "nan"])
def test_what_is_no_amount_of_memory(amount: str) -> None:
    with pytest.raises(InputError, match="amount of memory"):
        bytes_of(amount)


def test_amounts_as_shown() -> None:
    assert [shown(n) for n in (812 << 20, 5 << 29)] == ["812 MB", "2.50 GB"]


@pytest.mark.usefixtures("nothing_held")
def test_predict_works_in_tiles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net, image = make("fcn8s"), picture(640, 700)
    net.save(tmp_path / "net.h5")
    Image.fromarray(image).save(tmp_path / "large.png")
    options = [tmp_path / "large.png", "--weights", tmp_path / "net.h5", "--scores"]
    tiled = ["--max-pixels", "999999", "--memory", "124M"]
    assert ends(main, [*options, "--out", tmp_path / "tiles", *tiled]) == 0
    assert ends(main, [*options, "--out", tmp_path / "whole"]) == 0
    tiles, whole = (np.asarray(Image.open(tmp_path / name / "large.png")) for name in ("tiles", "whole"))
    np.testing.assert_array_equal(tiles, whole)
    scores = [np.load(tmp_path / name / "large_scores.npz")["scores"] for name in ("tiles", "whole")]
    assert 0 < relative_error(*scores) < BOUND  # other products, so there were tiles
    capsys.readouterr()
    assert ends(main, [*options, "--out", tmp_path / "none", "--memory", "1M"]) == 2
    assert "large.png has 700 x 640 pixels" in capsys.readouterr().err
    assert ends(main, [*options, "--out", tmp_path / "none", "--memory", "1M", "--max-pixels", "999999"]) == 2
    assert "1 MB (--memory) is too little: with tiles of 480 x 480 pixels" in capsys.readouterr().err
    fails(capsys, main, [*options, "--out", tmp_path / "none", "--memory", "much"], "'much'", "2G")


@pytest.fixture
def large(tmp_path: Path) -> tuple[Path, Path]:
    """A data set of one large picture in VOC's layout, and a file of weights for its classes."""
    folder, rng = tmp_path / "data", np.random.default_rng(1)
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    Image.fromarray(picture(640, 700)).save(folder / "JPEGImages" / "large.jpg")
    label = rng.choice([0, 1, 2, 3, 4, 255], (640, 700)).astype(np.uint8)
    Image.fromarray(label).save(folder / "SegmentationClass" / "large.png")
    (folder / "ImageSets" / "Segmentation" / "val.txt").write_text("large\n")
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in "abcde"))
    make("fcn8s").save(tmp_path / "net.h5")
    return folder, tmp_path / "net.h5"


@pytest.mark.usefixtures("nothing_held")
def test_evaluate_works_in_tiles(large: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder, weights = large
    memory = tightest(make("fcn8s"), "score", (640, 700))
    assert len(tiling(make("fcn8s"), "score", (640, 700), memory, 1)) > 1
    options = ["voc", "--data", folder, "--weights", weights]
    counts = []
    for name, more in (("tiles", ["--memory", memory]), ("whole", [])):
        written = folder.parent / f"{name}.csv"
        assert ends(evaluate.main, [*options, "--confusion", written, *more]) == 0
        counts.append(written.read_text())
    assert counts[0] == counts[1] and len(set(counts[0].split(","))) > 5
    fails(
        capsys, evaluate.main, [*options, "--memory", "40M"], "large: a memory of 40 MB (--memory)", "tiles"
    )
    fails(
        capsys,
        evaluate.main,
        [*options, "--memory", "4M"],
        "large has 700 x 640 pixels",
        "(--memory) of 4 MB",
    )


class Pairs(Dataset):
    """One sample with a picture, depths and two label maps."""

    folder, split, names, classes = Path(), "all", ["only"], ("a", "b", "c")
    heads = {"label": ("a", "b", "c"), "sem": ("a", "b")}  # type: ignore[assignment]

    def load(self, name: str) -> Sample:
        return Sample(name, picture(300, 260), np.zeros((300, 260), np.uint8))

    def blobs(self, index: int) -> dict[str, np.ndarray]:
        drawn, truth = picture(300, 260), as_blob(self[index].label)
        data, depth = drawn.transpose(2, 0, 1).astype(np.float32), drawn[None, :, :, 0].astype(np.float32)
        return {"data": data, "depth": depth, "label": truth, "sem": truth}


@pytest.mark.usefixtures("nothing_held")
def test_tiles_of_several_inputs_for_several_label_maps() -> None:
    text = "".join(
        f"layer {{ name: '{name}' type: 'Input' top: '{name}' input_param {{ shape {{ dim: [1, {n}, 300, 260] }} }} }}"
        for name, n in (("data", 3), ("depth", 1))
    )
    text += "layer { name: 'both' type: 'Concat' bottom: 'data' bottom: 'depth' top: 'both' }"
    for name, outputs in (("score", 3), ("score_sem", 2)):
        filler = "weight_filler { type: 'gaussian' std: 1 }"
        convolved = f"convolution_param {{ num_output: {outputs} kernel_size: 9 pad: 4 {filler} }}"
        text += f"layer {{ name: '{name}' type: 'Convolution' bottom: 'both' top: '{name}' {convolved} }}"
    net = Net(text, "TEST")
    memory = tightest(net, "score", (300, 260)) + (1 << 20)
    assert len(tiling(net, "score", (300, 260), memory, 1)) > 1
    whole, found = segment(net, Pairs(), 0), segment(net, Pairs(), 0, memory=memory)
    for head in ("label", "sem"):
        np.testing.assert_array_equal(found[head][1], whole[head][1])
        assert len(np.unique(whole[head][1])) == len(Pairs.heads[head])  # type: ignore[index]
    with pytest.raises(InputError, match="looked at whole"):
        segment(net, Pairs(), 0, look=print, memory=memory)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from Linux's /proc")
def test_the_peak_stays_under_what_was_asked(tmp_path: Path) -> None:
    weights = tmp_path / "net.h5"
    make("fcn8s", width=8).save(weights)
    script = (
        "import sys, numpy as np; from fcnlite.net import load; from fcnlite import device\n"
        "device.use('cpu', threads=2); net = load(sys.argv[1])\n"
        "image = np.random.default_rng(0).integers(0, 256, (1700, 1400, 3), dtype=np.uint8)\n"
        "for _ in range(2): net.predict(image, memory=sys.argv[2])  # what the first leaves is there for the second\n"
        "print(peak())"
    )
    peaks = [float(printed(script, weights, f"{most}M")) for most in (265, 2000)]
    assert peaks[0] <= 265 < peaks[1]
