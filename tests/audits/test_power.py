"""Power against the number of shadow models."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from simulated import permuted, world

import leakpro_nb as lp
from leakpro_nb.attacks import create
from leakpro_nb.audits import power
from leakpro_nb.measures import auc_interval

QUICK = ("lira_offline", "lira", "rmia_offline", "rmia", "combined")


def curve(view, member, *, names=QUICK, threat=None, **options):
    attacks = {name: create(name) for name in names}
    asked = {"fpr": 0.05, "level": 0.95, **options}
    return power.curve(view, attacks, {}, threat or lp.ThreatModel(), member, **asked)


@pytest.mark.parametrize(
    ("models", "expected"),
    [(0, [0]), (1, [0, 1]), (2, [0, 1, 2]), (7, [0, 1, 2, 4, 7]), (16, [0, 1, 2, 4, 8, 16])],
)
def test_budgets(models, expected):
    assert power.budgets(models) == expected


def test_more_shadow_models_find_more():
    view, member = world(1.0, records=2000)
    found = curve(view, member)
    assert [row["models"] for row in found["best"]] == [0, 1, 2, 4, 8]
    aucs = [row["auc"] for row in found["best"]]
    assert aucs == sorted(aucs)
    assert found["best"][-1]["auc_low"] > found["best"][2]["auc_high"]
    json.dumps(found, allow_nan=False)


def test_the_recommended_attack_follows_the_rule_and_the_threat_model():
    view, member = world(1.0)
    best = [row["attack"] for row in curve(view, member)["best"]]
    assert best == ["population", "rmia_offline", "rmia", "combined", "combined"]
    offline = lp.ThreatModel(knowledge=("labels", "recipe"))
    assert {row["attack"] for row in curve(view, member, threat=offline)["best"]} == {"population", "rmia_offline"}
    labels = lp.ThreatModel(access="labels")
    view = dataclasses.replace(view, access="labels", _cache={})
    found = curve(view, member, names=("gap",), threat=labels)
    assert {row["attack"] for row in found["best"]} == {"gap"}
    assert all(row["tpr"] is None for row in found["best"])


def test_one_shadow_model_gives_an_offline_point_for_the_records_it_left_out():
    view, member = world(1.5, models=1)
    found = curve(view, member)
    best = [(row["attack"], row["models"], row["records"]) for row in found["best"]]
    assert best == [("population", 0, 600), ("rmia_offline", 1, 300)]
    assert found["gain"] is None
    assert found["reading"] == "unsettled"


def test_an_odd_number_of_models_ends_the_curve():
    view, member = world(1.5, models=5)
    found = curve(view, member)
    assert [row["models"] for row in found["best"]] == [0, 1, 2, 4, 5]
    assert found["gain"]["from"] == 2


def test_without_shadow_models_there_is_no_curve():
    view, member = world(1.0)
    assert set(curve(dataclasses.replace(view, references=None, _cache={}), member)) == {"reason"}


def test_known_scores_are_not_computed_again(monkeypatch):
    view, member = world(1.0)
    scores = {"rmia": np.random.default_rng(0).normal(size=len(member))}
    found = power.curve(view, {"rmia": create("rmia")}, scores, lp.ThreatModel(), member, fpr=0.05, level=0.95)
    last = next(row for row in found["points"] if row["models"] == 8)
    assert last["auc"] == pytest.approx(auc_interval(scores["rmia"], member)[0])


def test_the_first_models_are_the_same_attacker_with_less():
    view, _ = world(1.0)
    less = power.with_models(view, 4)
    np.testing.assert_array_equal(less.references.trained_on, view.references.trained_on[:4])
    assert less.references.pair.tolist() == [1, 0, 3, 2]
    assert power.with_models(view, 0).references is None
    assert power.with_models(view, 8) is view


def test_paired_gain_of_auc_covers_and_equals_the_difference():
    """Of 200 pairs of attacks with true AUCs Phi(1/sqrt 2) and Phi(1.5/sqrt 2), 95 % cover; fewer than 178: 1e-3."""
    from scipy.stats import norm

    rng = np.random.default_rng(0)
    truth = norm.cdf(1.5 / np.sqrt(2)) - norm.cdf(1 / np.sqrt(2))
    covered = 0
    for _ in range(200):
        member = np.arange(400) % 2 == 0
        shared = rng.normal(size=400)
        before = np.sqrt(0.5) * (shared + rng.normal(size=400)) + 1.0 * member
        after = np.sqrt(0.5) * (shared + rng.normal(size=400)) + 1.5 * member
        gain, low, high = power.auc_gain(before, after, member, 0.95)
        covered += low <= truth <= high
    assert covered >= 178
    assert gain == pytest.approx(auc_interval(after, member)[0] - auc_interval(before, member)[0])


def test_paired_gain_of_hits():
    rng = np.random.default_rng(0)
    member = np.arange(4000) % 2 == 0
    scores = rng.normal(size=4000) + member
    same = power.tpr_gain(scores, scores, member, 0.05, 0.95)
    assert same == (0.0, 0.0, 0.0)
    better = power.tpr_gain(scores, scores + member, member, 0.05, 0.95)
    assert better[1] > 0.2
    from leakpro_nb.measures import tpr_at_fpr

    rates = [tpr_at_fpr(each, member, 0.05)[0].tpr for each in (scores, scores + member)]
    assert better[0] == pytest.approx(rates[1] - rates[0])
    order = rng.permutation(4000)
    assert power.tpr_gain(scores[order], (scores + member)[order], member[order], 0.05, 0.95) == better


@pytest.mark.parametrize(
    ("before", "after", "reading"), [(0.3, 1.5, "pays"), (1.0, 1.0, "stopped"), (1.0, None, "unsettled")]
)
def test_the_reading_follows_the_rule(before, after, reading):
    rng = np.random.default_rng(0)
    n = 4000 if after is not None else 100
    member = np.arange(n) % 2 == 0
    noise = rng.normal(size=n)
    first = noise + before * member
    second = noise + after * member if after is not None else rng.normal(size=n) + before * member
    found = power._verdict({4: first, 8: second}, member, 8, 0.05, 0.95)
    assert found["reading"] == reading


def test_order_of_records_changes_nothing():
    view, member = world(1.0)
    order = np.random.default_rng(3).permutation(len(member))
    one, other = curve(view, member), curve(permuted(view, order), member[order])
    for a, b in zip(one["points"], other["points"], strict=True):
        assert a == pytest.approx(b)
    assert one["gain"]["auc"] == pytest.approx(other["gain"]["auc"])
    assert one["gain"]["tpr"] == pytest.approx(other["gain"]["tpr"])
