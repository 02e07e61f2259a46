"""Measures against known answers, and their coverage by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from leakpro_nb.measures import (
    auc_interval,
    belief_gain,
    best_threshold,
    blind_baseline_scores,
    clopper_pearson,
    detectable_auc,
    records_needed,
    roc,
    threshold_at_fpr,
    ties,
    tpr_at_fpr,
)
from leakpro_nb.measures.belief import precision


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (0, 1000, 0.0, 0.003682),
        (5, 1000, 0.001625, 0.011629),
        (79, 1000, 0.063041, 0.097487),
        (0, 2500, 0.0, 0.001474),
        (10, 10, 0.691503, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_clopper_pearson_known_answers(k, n, low, high):
    assert clopper_pearson(k, n) == pytest.approx((low, high), abs=1e-6)


def test_clopper_pearson_covers_at_every_rate():
    for p in (0.001, 0.01, 0.3, 0.5, 0.99):
        k = np.arange(201)
        low, high = clopper_pearson(k, 200)
        covered = stats.binom.pmf(k, 200, p)[(low <= p) & (p <= high)].sum()
        assert covered >= 0.95, p


def random_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    member = rng.random(300) < 0.4
    scores = np.round(rng.normal(size=300) + 0.5 * member, seed % 3)  # rounding makes ties
    return scores, member


@pytest.mark.parametrize("seed", range(6))
def test_roc_equals_scikit_learn(seed):
    scores, member = random_case(seed)
    ours = roc(scores, member)
    fpr, tpr, _ = roc_curve(member, scores, drop_intermediate=False)
    np.testing.assert_allclose(ours.fpr, fpr)
    np.testing.assert_allclose(ours.tpr, tpr)
    assert auc_interval(scores, member)[0] == pytest.approx(roc_auc_score(member, scores), abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "auc"),
    [
        ([1, 1, 1, 0, 0, 0], 1.0),  # perfect and binary: two peers report 0.001 here
        ([0, 0, 0, 1, 1, 1], 0.0),
        ([7, 7, 7, 7, 7, 7], 0.5),
        ([1, 1, 0, 1, 0, 0], 2 / 3),
        ([1.0, 1.0, 1.0, 1.0, 1.0, 0.0], 2 / 3),  # saturated
    ],
)
def test_auc_with_ties_is_exact(scores, auc):
    member = np.array([True, True, True, False, False, False])
    assert auc_interval(np.array(scores, dtype=float), member)[0] == pytest.approx(auc, abs=1e-12)


def test_auc_of_a_constant_is_known_surely():
    assert auc_interval(np.zeros(10), np.arange(10) < 5) == (0.5, 0.5, 0.5)


def test_auc_of_a_perfect_attack_has_an_honest_lower_end():
    member = np.arange(40) < 20
    auc, low, high = auc_interval(member.astype(float), member)
    assert (auc, high) == (1.0, 1.0)
    assert low == pytest.approx(0.025 ** (1 / 20))


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.5])
def test_auc_interval_covers(shift):
    truth = stats.norm.cdf(shift / np.sqrt(2))
    rng = np.random.default_rng(1)
    member = np.arange(300) < 120
    covered = 0
    for _ in range(400):
        _, low, high = auc_interval(rng.normal(size=300) + shift * member, member)
        covered += low <= truth <= high
    # 95 % of 400 with three standard errors
    assert covered / 400 >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 400)


def test_tpr_at_fpr_takes_the_largest_step_that_fits_and_never_interpolates():
    member = np.array([True, False, True, False, True, False])
    scores = np.array([6.0, 5, 4, 3, 2, 1])
    assert [threshold_at_fpr(scores, member, f).tpr for f in (0.0, 0.2, 1 / 3, 0.6, 2 / 3, 1.0)] == pytest.approx(
        [1 / 3, 1 / 3, 2 / 3, 2 / 3, 1, 1]
    )
    assert threshold_at_fpr(scores, member, 0.0).threshold == 6.0


def test_tpr_at_fpr_when_everything_ties_is_zero_not_one():
    point, _, _ = tpr_at_fpr(np.ones(20), np.arange(20) < 10, 0.1)
    assert (point.tpr, point.fpr) == (0.0, 0.0)
    assert point.threshold == np.inf


def test_measures_do_not_depend_on_the_order_of_records():
    scores, member = random_case(2)
    order = np.random.default_rng(0).permutation(len(scores))
    assert auc_interval(scores, member) == pytest.approx(auc_interval(scores[order], member[order]))
    for fpr in (0.0, 0.01, 0.1):
        assert threshold_at_fpr(scores, member, fpr) == threshold_at_fpr(scores[order], member[order], fpr)


def test_best_threshold_is_the_largest_advantage():
    scores, member = random_case(3)
    fpr, tpr, _ = roc_curve(member, scores, drop_intermediate=False)
    best = best_threshold(scores, member)
    assert best.tpr - best.fpr == pytest.approx((tpr - fpr).max())


def test_ties_are_counted():
    assert ties(np.array([1.0, 1.0, 2.0, 3.0, 1.0])) == (3, 3)
    assert ties(np.array([])) == (0, 0)


@pytest.mark.parametrize(
    ("hits", "n1", "false", "n0", "gain", "low", "high"),
    [  # the sheet's worked examples at prior 0.5, three digits
        (86, 400, 4, 400, 0.911, 0.718, 0.983),
        (4, 400, 4, 400, 0.0, 0.0, 0.854),
    ],
)
def test_belief_gain_known_answers(hits, n1, false, n0, gain, low, high):
    got = belief_gain(hits, n1, false, n0)
    assert (got.gain, got.low, got.high) == pytest.approx((gain, low, high), abs=1.5e-3)


def test_belief_gain_without_accusations_knows_nothing():
    got = belief_gain(0, 100, 0, 100)
    assert (got.gain, got.low) == (0.0, 0.0)
    assert got.high == 1.0
    assert precision(0.0, 0.0, 0.3) == 0.3


@pytest.mark.parametrize(
    ("fpr", "gain", "needed"), [(0.1, 0.2, 1160), (0.1, 0.5, 167), (0.01, 0.5, 1870), (0.1, 0.05, 18_500)]
)
def test_records_needed_agrees_with_the_sheet(fpr, gain, needed):
    assert records_needed(fpr, gain) == pytest.approx(needed, rel=0.03)


def test_detectable_auc_is_detected_four_times_in_five():
    n = 250
    auc = detectable_auc(n, n)
    shift = np.sqrt(2) * stats.norm.ppf(auc)
    rng = np.random.default_rng(0)
    member = np.arange(2 * n) < n
    found = np.mean([auc_interval(rng.normal(size=2 * n) + shift * member, member)[1] > 0.5 for _ in range(300)])
    assert abs(found - 0.8) < 0.1


def test_blind_baseline_sees_a_shift_and_nothing_else():
    rng = np.random.default_rng(0)
    member = rng.random(1200) < 0.5
    features = rng.normal(size=(1200, 5))
    scores, rows = blind_baseline_scores(features, member)
    _, low, high = auc_interval(scores, member[rows], 0.99)
    assert low <= 0.5 <= high
    features[:, 2] += 0.8 * member
    scores, rows = blind_baseline_scores(features, member)
    assert auc_interval(scores, member[rows], 0.99)[1] > 0.6
