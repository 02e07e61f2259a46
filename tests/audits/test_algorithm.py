"""Every shadow model as the target: known answers, intervals that cover, order of records."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats
from simulated import permuted, target_of, world

import leakpro_nb as lp
from leakpro_nb.audits import algorithm
from leakpro_nb.audits.across import across, jackknife, mean_of_groups

PAIRS = np.arange(8) // 2


def audit(view, member, threat=None, **options):
    asked = {"fpr": 0.05, "level": 0.95, **options}
    return algorithm.audit(view, threat or lp.ThreatModel(), target_of(view, member), member, **asked)


def test_flip_rate_known_answers():
    """Of 4 models, 0, 1, 2 and 4 accuse: pairs that disagree are 0, 3, 4 and 0 of 6."""
    found = algorithm.flip_rate(np.array([0, 1, 2, 4]), np.full(4, 4))
    np.testing.assert_allclose(found, [0, 1 / 2, 2 / 3, 0])
    assert np.isnan(algorithm.flip_rate(np.array([1]), np.array([1])))[0]


def test_flip_rate_is_unbiased():
    """However few models there are, its mean is 2 q (1 - q)."""
    rng = np.random.default_rng(0)
    accused = rng.binomial(3, 0.3, 100_000)
    assert algorithm.flip_rate(accused, np.full(100_000, 3)).mean() == pytest.approx(2 * 0.3 * 0.7, abs=0.005)


def test_claims_that_are_coin_flips_by_the_exact_test():
    """P(X >= 7 | 8, 1/2) = 0.035 and P(X >= 6) = 0.145; with four models, nothing can pass."""
    claims = np.array([1, 1, 2, 0])
    assert algorithm.coin_flips(claims, np.array([7, 6, 8, 0]), np.full(4, 8)) == pytest.approx(1 / 4)
    assert algorithm.coin_flips(claims, np.full(4, 4), np.full(4, 4)) == 1.0
    assert algorithm.coin_flips(np.zeros(4), np.full(4, 4), np.full(4, 4)) is None


def test_not_repeated_weighs_claims():
    assert algorithm.not_repeated(np.array([3, 1]), np.array([4, 0]), np.array([4, 4])) == pytest.approx(1 / 4)
    assert np.isnan(algorithm.not_repeated(np.zeros(2), np.zeros(2), np.full(2, 4)))


@pytest.mark.parametrize("separation", [0.0, 1.0, 3.0])
def test_vulnerability_of_gaussian_records_known_answer(separation):
    """Scores N(separation, 1) with and N(0, 1) without the record: TPR at 5 % is Phi(separation - z)."""
    rng = np.random.default_rng(0)
    member = np.arange(16)[:, None] % 2 == np.arange(2000)[None] % 2
    scores = rng.normal(size=member.shape) + separation * member
    threshold = stats.norm.ppf(0.95)
    each = algorithm.vulnerability(scores, member, threshold, 0.05)
    expected = stats.norm.cdf(separation - threshold)
    assert each.predicted_tpr.mean() == pytest.approx(expected, abs=0.02)
    assert each.rate.mean() == pytest.approx(expected, abs=0.02)
    assert each.separation.mean() == pytest.approx(separation, abs=0.1)
    assert (each.inside == 8).all()
    assert (each.outside == 8).all()
    # Jeffreys' interval covers on average at about its level
    assert ((each.low <= expected) & (expected <= each.high)).mean() > (0.9 if 0.01 < expected < 0.99 else 0.0)


def test_predicted_rates_allow_for_records_that_differ_by_themselves():
    """Scores N(ease + separation, 1) and N(ease, 1): one threshold for all misjudges easy and hard records."""
    rng = np.random.default_rng(1)
    true, ease = rng.normal(1.5, 1, 4000), rng.normal(0, 1.5, 4000)
    member = np.arange(16)[:, None] % 2 == np.arange(4000)[None] % 2
    scores = rng.normal(size=member.shape) + true * member + ease
    threshold, _ = algorithm.operating_threshold(scores, member, 0.05)
    each = algorithm.vulnerability(scores, member, threshold, 0.05)
    expected = stats.norm.cdf(true - stats.norm.ppf(0.95))
    assert each.predicted_tpr.mean() == pytest.approx(expected.mean(), abs=0.03)
    assert np.square(each.predicted_tpr - expected).mean() < np.square(each.rate - expected).mean() / 2


def test_records_that_every_model_trained_on_are_left_open():
    member = np.ones((6, 3), dtype=bool)
    member[:3, 1:] = False
    each = algorithm.vulnerability(np.random.default_rng(0).normal(size=(6, 3)), member, 0.0, 0.05)
    assert np.isnan(each.separation).tolist() == [True, False, False]
    assert np.isfinite(each.rate).all()


def test_interval_of_the_mean_and_range_of_another_model_cover():
    """Of 400 draws of four pairs, correlated within, 95 % cover; fewer than 365 (or more than 397) by chance: 1e-3."""
    rng = np.random.default_rng(0)
    inside_mean = inside_range = 0
    for _ in range(400):
        draws = 0.3 + 0.02 * (np.repeat(rng.normal(size=5), 2) + rng.normal(size=10))
        found = across(draws[:8], PAIRS, 0.95)
        inside_mean += found.low <= 0.3 <= found.high
        inside_range += found.expected_low <= draws[8] <= found.expected_high
    assert 365 <= inside_mean <= 397
    assert 365 <= inside_range <= 400


def test_models_of_one_pair_count_once():
    _, whole = mean_of_groups(np.arange(8.0), np.arange(8), 0.95)
    _, paired = mean_of_groups(np.repeat(np.arange(4.0), 2), PAIRS, 0.95)
    assert paired > whole / 2
    assert mean_of_groups(np.ones(2), np.zeros(2), 0.95)[1] == np.inf


def test_jackknife_of_a_mean_is_its_t_interval():
    values = np.array([0.1, 0.4, 0.2, 0.3])
    found = jackknife(lambda chosen: float(values[chosen].mean()), np.arange(4), 0.95)
    low, high = stats.t.interval(0.95, 3, values.mean(), values.std(ddof=1) / 2)
    assert (found["low"], found["high"]) == pytest.approx((low, high))
    assert jackknife(lambda chosen: float("nan"), np.arange(4), 0.95) is None


def test_the_audited_model_lies_where_another_model_is_expected():
    """It is exchangeable with the shadow models: of 40 audits 95 % should cover; fewer than 33 once in 1,000 times."""
    covered = 0
    for seed in range(40):
        view, member = world(1.5, seed=seed, records=300, pool=0)
        auc = audit(view, member).summary["auc"]
        covered += auc["expected_low"] <= auc["audited"] <= auc["expected_high"]
    assert covered >= 33


def test_a_leak_is_found_in_every_model_and_none_where_there_is_none():
    view, member = world(2.0)
    strong = audit(view, member).summary
    assert strong["models"] == 8
    assert strong["auc"]["low"] > 0.8
    assert strong["tpr"]["low"] > 0.15
    view, member = world(0.0, records=3000)
    null = audit(view, member).summary
    assert null["auc"]["low"] <= 0.5 <= null["auc"]["high"]
    assert null["tpr"]["expected_low"] <= 0.05 <= null["tpr"]["expected_high"]
    # accusations by chance are not repeated
    assert null["not_repeated"]["value"] > 0.75
    assert strong["not_repeated"]["value"] < null["not_repeated"]["value"]


def test_no_model_is_judged_by_itself_or_its_complement(monkeypatch):
    from leakpro_nb.attacks.membership import Rmia

    judged = []
    run = Rmia.run
    monkeypatch.setattr(Rmia, "run", lambda self, view: judged.append(view) or run(self, view))
    view, member = world(1.0, records=100)
    audit(view, member)
    for k, seen in enumerate(judged[:8]):
        np.testing.assert_array_equal(seen.logits, view.references.logits[k])
        inside = view.references.trained_on[k]
        for row in seen.references.trained_on:
            assert not (row == inside).all()
            assert not (row == ~inside).all()


def test_order_of_records_changes_nothing():
    view, member = world(1.0)
    order = np.random.default_rng(3).permutation(len(member))
    one, other = audit(view, member), audit(permuted(view, order), member[order])
    np.testing.assert_allclose(other.records.predicted_tpr, one.records.predicted_tpr[order], rtol=1e-9)
    assert other.summary["not_repeated"] == pytest.approx(one.summary["not_repeated"])
    assert other.summary["auc"]["values"] == pytest.approx(one.summary["auc"]["values"])


@pytest.mark.parametrize(
    ("threat", "attack"),
    [
        ({}, ("rmia", "bavaria")),
        ({"knowledge": ["labels", "recipe"]}, ("rmia_offline", "bavaria_offline")),
        ({"access": "labels"}, ("gap",)),
    ],
)
def test_the_attack_is_one_that_the_threat_model_admits(threat, attack):
    view, member = world(1.5)
    found = audit(view, member, lp.ThreatModel.load(threat)).summary
    assert found["attack"] in attack
    assert (found["tpr"] is None) == (attack == ("gap",))  # one that says yes or no has no rate to choose
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("models", [0, 1, 2, 4, 5])
def test_too_few_shadow_models_are_said_to_be(models):
    view, member = world(1.0, models=max(models, 1), records=100)
    if not models:
        view = dataclasses.replace(view, references=None, _cache={})
    found = audit(view, member).summary
    if models == 5:  # two pairs and a single one are three independent trainings
        assert found["models"] == 5
    else:
        assert set(found) == {"reason"}
