"""Canaries: what they are made of, how their coins fall, and how they are scored."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from leakpro_nb.attacks.usage.canaries import CLIP, KINDS, Gradient, Input, Mislabelled, score, stream, toss
from leakpro_nb.game.threat import ThreatModel


@pytest.fixture
def table() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(400, 5)).astype(np.float32), rng.integers(4, size=400)


@pytest.mark.parametrize("classes", [2, 4])
def test_mislabelled_records_have_every_wrong_label(table, classes):
    X, y = table[0], table[1] % classes
    same, labels = Mislabelled().make(X, y, classes, stream(0, "mislabelled"))
    assert same is X
    assert (labels != y).all()
    assert set(labels) == set(range(classes))


def test_input_canaries_of_a_table_stand_at_its_corners(table):
    X, y = table
    made, labels = Input().make(X, y, 4, stream(0, "input"))
    assert made.dtype == X.dtype
    assert (np.isclose(made, X.min(axis=0)) | np.isclose(made, X.max(axis=0))).all()
    assert 0.4 < np.isclose(made, X.max(axis=0)).mean() < 0.6
    assert set(labels) == {0, 1, 2, 3}


def test_input_canaries_keep_the_type_of_the_records():
    frame = pd.DataFrame({"age": [20, 30, 90, 40], "ward": ["a", "b", "b", "a"], "dose": [0.5, np.nan, 1.5, 0.7]})
    made, _ = Input().make(frame, np.zeros(4, dtype=int), 2, stream(1, "input"))
    assert list(made.dtypes) == list(frame.dtypes)
    assert set(made["age"]) <= {20, 90}
    assert set(made["dose"]) <= {0.5, 1.5}
    assert set(made["ward"]) <= {"a", "b"}
    torch = pytest.importorskip("torch")
    images = torch.rand(6, 1, 4, 4)
    noise, _ = Input().make(images, np.zeros(6, dtype=int), 2, stream(1, "input"))
    assert noise.dtype == images.dtype
    assert noise.shape == images.shape
    assert images.min() <= noise.min() <= noise.max() <= images.max()


def test_coins_are_fair_and_their_own():
    coins = {(kind, run): toss(20_000, 0, kind, run) for kind in KINDS for run in range(3)}
    for each in coins.values():
        assert abs(each.mean() - 0.5) < 0.015  # four standard deviations
    every = np.array(list(coins.values()), dtype=float)
    away = np.corrcoef(every) - np.eye(len(every))
    assert abs(away).max() < 0.03


def test_coins_do_not_depend_on_what_else_is_asked():
    np.testing.assert_array_equal(toss(50, 3, "input", 1), toss(80, 3, "input", 1)[:50])
    assert (toss(50, 3, "input", 1) != toss(50, 4, "input", 1)).any()


def test_coins_are_not_the_stream_that_made_the_canaries():
    made = stream(0, "input").random(1000) < 0.5
    assert 0.4 < (toss(1000, 0, "input", 0) == made).mean() < 0.6


def test_score_is_the_log_odds_beyond_a_clean_model():
    logits, clean = np.array([[0.0, 3.0], [2.0, 0.0]]), np.array([[0.0, 1.0], [0.0, 5.0]])
    np.testing.assert_allclose(score(logits, np.array([1, 1]), access="scores"), [3, -2])
    np.testing.assert_allclose(score(logits, np.array([1, 1]), clean=clean, access="scores"), [2, -7])


def test_labels_alone_say_right_or_wrong():
    logits, clean = np.array([[0.0, 3.0], [2.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 5.0]])
    np.testing.assert_array_equal(score(logits, np.array([1, 1]), access="labels"), [1, 0])
    np.testing.assert_array_equal(score(logits, np.array([1, 1]), clean=clean, access="labels"), [1, -1])


def test_impossible_answers_stay_finite():
    logits = np.array([[0.0, -np.inf, -np.inf], [-np.inf, 0.0, -1.0]])
    values = score(logits, np.array([0, 0]), access="scores")
    assert values.tolist() == [CLIP, -CLIP]


def test_who_may_use_which():
    api = ThreatModel(access="labels", knowledge=())
    assert not api.refusal(Mislabelled())
    assert not api.refusal(Input())
    assert api.refusal(Gradient())
    assert not ThreatModel(access="white_box").refusal(Gradient())
