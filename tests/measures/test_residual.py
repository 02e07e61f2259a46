"""Residual risk: known answers, coverage by simulation, and guesses that hit one record."""

from __future__ import annotations

import numpy as np
import pytest

from leakpro_nb.measures.residual import cluster_bootstrap, holm, rate, residual_risk


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"), [(0, 100, 0.0, 0.0370), (10, 100, 0.0552, 0.1744), (100, 100, 0.9630, 1.0)]
)
def test_wilson_known_answers(hits, n, low, high):
    found = rate(np.r_[np.ones(hits), np.zeros(n - hits)])
    assert found.low == pytest.approx(low, abs=5e-5)
    assert found.high == pytest.approx(high, abs=5e-5)
    assert found.worth == n


def test_copies_of_a_guess_are_worth_nothing():
    rng = np.random.default_rng(0)
    once = (rng.random(200) < 0.3).astype(float)
    alone, copied = rate(once), rate(np.repeat(once, 5), np.repeat(np.arange(200), 5))
    assert copied.worth == pytest.approx(200, rel=0.01)
    assert copied[:3] == pytest.approx(alone[:3], abs=2e-4)
    assert rate(np.ones(1000), np.repeat(np.arange(200), 5)).worth == 200


def test_guesses_without_a_record_stand_for_themselves():
    success, record = np.zeros(50), np.full(50, -1)
    assert rate(success, record).worth == 50


def test_agrees_with_the_cluster_bootstrap_away_from_the_edges():
    rng = np.random.default_rng(1)
    record = rng.integers(0, 150, 600)
    success = (rng.random(150) < 0.4)[record].astype(float)
    low, high = cluster_bootstrap(success, record)
    found = rate(success, record)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)
    naive = rate(success)
    assert found.high - found.low > 1.5 * (naive.high - naive.low)


@pytest.mark.parametrize(("attack", "control"), [(0.0, 0.0), (0.02, 0.02), (0.3, 0.3), (0.5, 0.2), (0.05, 0.01)])
def test_interval_covers_the_true_risk(attack, control):
    rng = np.random.default_rng(2)
    truth, covered = (attack - control) / (1 - control), 0
    for _ in range(1000):
        a, c = (rng.random(500) < attack).astype(float), (rng.random(500) < control).astype(float)
        found = residual_risk(a, c)
        covered += found.low <= truth <= found.high
    assert covered >= 930


def test_interval_covers_with_clusters():
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(600):
        record = rng.integers(0, 120, 500)
        a = (rng.random(120) < 0.2)[record].astype(float)
        c = (rng.random(120) < 0.2)[record].astype(float)
        found = residual_risk(a, c, attack_record=record, control_record=record)
        covered += found.low <= 0 <= found.high
    assert 0.925 <= covered / 600 <= 1


def test_p_values_are_uniform_without_a_leak():
    rng = np.random.default_rng(4)
    p = [residual_risk(rng.random(400) < 0.2, rng.random(400) < 0.2).p_value for _ in range(1000)]
    assert 0.03 <= np.mean(np.array(p) < 0.05) <= 0.07


def test_edges_have_answers():
    ones, zeros = np.ones(20), np.zeros(20)
    assert np.isnan(residual_risk(ones, ones).value)
    assert residual_risk(ones, zeros).value == 1.0
    assert residual_risk(zeros, zeros).value == 0.0
    assert residual_risk(zeros, zeros).low < 0 < residual_risk(zeros, zeros).high
    assert residual_risk(np.zeros(0), zeros).p_value == 1.0


def test_holm_holds_the_rate_of_any_false_finding():
    rng = np.random.default_rng(5)
    any_found = np.mean([min(holm(rng.random(10).tolist())) < 0.05 for _ in range(2000)])
    assert 0.035 <= any_found <= 0.065
