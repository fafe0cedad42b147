"""The four metrics against loops written from the paper's formulas, and their 0/0 rules."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fcnlite import metrics
from fcnlite.metrics import histogram, scores, table


def label_maps(classes):
    shapes = st.tuples(st.integers(1, 9), st.integers(1, 9))
    return shapes.flatmap(
        lambda shape: st.tuples(
            arrays.arrays(np.uint8, shape, elements=st.sampled_from([*range(classes), 255])),
            arrays.arrays(np.uint8, shape, elements=st.integers(0, classes - 1)),
        )
    )


@given(label_maps(4), st.sampled_from([np.uint8, np.int32, np.int64, np.float32]))
def test_histogram_counts_pixels(maps, dtype):
    truth, prediction = maps
    expected = np.zeros((4, 4), int)
    for i, j in zip(truth.ravel(), prediction.ravel()):
        if i != 255:
            expected[i, j] += 1
    counts = histogram(truth.astype(dtype), prediction.astype(dtype), 4)
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, expected)


def test_large_maps_are_counted_in_pieces(monkeypatch):
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 5, (2, 30, 41))
    whole = histogram(truth, prediction, 5)
    monkeypatch.setattr(metrics, "_PIECE", 100)
    np.testing.assert_array_equal(histogram(truth, prediction, 5), whole)


def test_histogram_refuses_what_it_cannot_count():
    with pytest.raises(ValueError, match=r"truth is \(2, 3\) but prediction is \(3, 2\)"):
        histogram(np.zeros((2, 3)), np.zeros((3, 2)), 2)
    with pytest.raises(ValueError, match="the prediction holds 2; classes are 0 to 1"):
        histogram(np.array([0, 1]), np.array([0, 2]), 2)
    # Under void anything may be predicted.
    assert histogram(np.array([0, 255]), np.array([0, 7]), 2).sum() == 1
    assert histogram(np.array([-1, 1]), np.array([0, 1]), 2).tolist() == [[0, 0], [0, 1]]


@given(arrays.arrays(np.int64, (5, 5), elements=st.sampled_from([0, 0, 0, 1, 2, 7, 1000])))
def test_scores_follow_the_formulas(n):
    t = [sum(n[i][j] for j in range(5)) for i in range(5)]
    accuracy, iu = [], []
    for i in range(5):
        union = t[i] + sum(n[j][i] for j in range(5)) - n[i][i]
        accuracy.append(n[i][i] / t[i] if t[i] else None)
        iu.append(n[i][i] / union if union else None)
    result = scores(n)

    def mean(values):
        known = [v for v in values if v is not None]
        return sum(known) / len(known) if known else math.nan

    def close(got, expected):
        return np.testing.assert_allclose(got, expected, rtol=1e-12)

    close(result.mean_accuracy, mean(accuracy))
    close(result.mean_iu, mean(iu))
    total = sum(t)
    close(result.pixel_accuracy, sum(n[i][i] for i in range(5)) / total if total else math.nan)
    weighted = sum(t[i] * iu[i] for i in range(5) if t[i])
    close(result.frequency_weighted_iu, weighted / total if total else math.nan)
    assert list(result.class_pixels) == t
    for got, expected in zip((*result.class_accuracy, *result.class_iu), (*accuracy, *iu)):
        assert math.isnan(got) if expected is None else got == pytest.approx(expected, rel=1e-12)


def test_a_class_that_is_nowhere_is_left_out_but_one_wrongly_predicted_counts():
    nowhere = scores(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
    assert nowhere.mean_iu == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert nowhere.mean_accuracy == pytest.approx((3 / 4 + 1) / 2)
    predicted = scores(np.array([[3, 0, 1], [0, 4, 0], [0, 0, 0]]))
    assert predicted.class_iu[2] == 0
    assert predicted.mean_iu == pytest.approx((3 / 4 + 1 + 0) / 3)
    assert predicted.mean_accuracy == pytest.approx((3 / 4 + 1) / 2)


def test_classes_not_scored_leave_the_means_only():
    counts = np.array([[3, 0, 1], [0, 4, 0], [0, 0, 0]])
    plain, without = scores(counts), scores(counts, not_scored=[2])
    assert without.mean_iu == pytest.approx((3 / 4 + 1) / 2)
    assert without.pixel_accuracy == plain.pixel_accuracy
    assert without.frequency_weighted_iu == plain.frequency_weighted_iu


def test_nothing_counted_gives_nan_and_json_null():
    result = scores(np.zeros((2, 2)))
    assert all(math.isnan(v) for v in (result.pixel_accuracy, result.mean_iu, result.mean_accuracy))
    held = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert held["mean_iu"] is None and held["class_iu"] == [None, None] and held["class_pixels"] == [0, 0]
    assert "mean IU -" in str(result)
    with pytest.raises(ValueError, match="square"):
        scores(np.zeros((2, 3)))


def test_table_lists_every_class():
    result = scores(np.array([[60, 20, 0], [0, 20, 0], [0, 0, 0]]), not_scored=[2])
    text = table(result, ["background", "aeroplane", "moon"])
    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ["class", "pixels", "accuracy", "IU"]
    assert lines[1] == ["background", "80.0", "75.0", "75.0"]
    assert lines[2] == ["aeroplane", "20.0", "100.0", "50.0"]
    assert lines[3] == ["moon", "0.0", "-", "-", "(not", "scored)"]
    assert lines[4] == ["mean", "87.5", "62.5"]
    assert lines[5][:3] == ["pixel", "accuracy", "80.0,"]
    widths = {len(line) for line in text.splitlines()[:3]}
    assert len(widths) == 1
    with pytest.raises(ValueError, match="2 class names for 3 classes"):
        table(result, ["a", "b"])
