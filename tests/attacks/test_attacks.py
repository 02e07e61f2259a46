"""Every attack: strong where there is a leak, blind where there is none, and indifferent to the order of records."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from leakpro_nb.attacks import NotApplicable, available, create, title_of
from leakpro_nb.attacks.membership import Combined, Gap, Lira, MultiSignal, Population, Reference, Rmia
from leakpro_nb.attacks.membership.lira import lira_offline, lira_online
from leakpro_nb.attacks.membership.rmia import reference_probability, rmia_count, rmia_ratio, tune_offline_a
from leakpro_nb.attacks.signals import log_odds, log_probability, probability
from leakpro_nb.errors import AccessDenied, InputError
from leakpro_nb.game.views import References, View
from leakpro_nb.measures import auc_interval
from leakpro_nb.shadows import paired_splits

RECORDS = 1500
POPULATION = 400


def simulate(effect: float, *, models: int = 16, classes: int = 3, seed: int = 0, access: str = "scores"):
    """Return a view and its truth: records of differing difficulty, whose log-odds training raises by ``effect``."""
    rng = np.random.default_rng(seed)
    total = RECORDS + POPULATION
    labels = rng.integers(classes, size=total)
    difficulty = rng.normal(0, 1.5, total)
    trained_on, pair = paired_splits(total, models, seed + 1)
    member = rng.random(total) < 0.5
    member[RECORDS:] = False

    def logits(inside: np.ndarray) -> np.ndarray:
        out = rng.normal(0, 0.3, (total, classes))
        out[np.arange(total), labels] += difficulty + effect * inside + rng.normal(0, 0.6, total)
        return out

    target = logits(member)
    references = References(np.stack([logits(row) for row in trained_on]), trained_on, pair)
    audit, rest = np.arange(RECORDS), np.arange(RECORDS, total)
    view = View(
        access=access, labels=labels[audit], logits=target[audit], references=references.select(slice(None), audit),
        population=target[rest], population_labels=labels[rest],
        population_references=references.select(slice(None), rest),
    )  # fmt: skip
    return view, member[audit]


def permuted(view: View, order: np.ndarray) -> View:
    return dataclasses.replace(
        view, labels=view.labels[order], logits=view.logits[order],
        references=view.references.select(slice(None), order), _cache={},
    )  # fmt: skip


EVERY = [
    # those that ask models about other records have tests of their own, in worlds with models
    *[attack for name in available() if not getattr(attack := create(name), "asks", False)],
    Population(score="rank"),
    Rmia(score="count"),
    Rmia(mode="offline", score="count", a=0.3, gamma=2.0),
    *[Lira(mode, variance) for mode in ("online", "offline") for variance in ("global", "fixed", "per_record")],
    Rmia(signal="soft_margin", temperature=2.0, reference_mean="trimmed"),
    MultiSignal(covariance="pooled"),
    Reference(score="tail"),
    *[Combined(learner) for learner in ("logistic", "ranks")],
]
# lower bounds of the AUC on the simulated leak, well above chance and below what was seen (seed 0)
STRONG = {
    "Gap": 0.55, "Population": 0.65, "Lira online": 0.85, "Lira offline": 0.70, "Rmia online": 0.85, "Rmia offline": 0.80,
    "Base online": 0.90, "Base offline": 0.90, "InforMia online": 0.90, "InforMia offline": 0.85, "Bavaria online": 0.92,
    "Bavaria offline": 0.90, "MultiSignal online": 0.90, "MultiSignal offline": 0.88, "Reference": 0.90,
    "Calibration": 0.80, "Combined": 0.92,
}  # fmt: skip


def name_of(attack) -> str:
    return " ".join([type(attack).__name__, *([attack.mode] if hasattr(attack, "mode") else [])])


@pytest.mark.parametrize("attack", EVERY, ids=repr)
def test_strong_where_there_is_a_leak(attack):
    view, member = simulate(effect=2.0)
    _, low, _ = auc_interval(attack.run(view).values, member)
    assert low > STRONG[name_of(attack)]


@pytest.mark.parametrize("attack", EVERY, ids=repr)
def test_blind_where_there_is_none(attack):
    """Pooled over ten leak-free audits, the interval covers 0.5."""
    scores, truth = [], []
    for seed in range(10):
        view, member = simulate(effect=0.0, seed=seed, models=8)
        values = attack.run(view).values
        scores.append(stats.rankdata(values) / len(values))
        truth.append(member)
    _, low, high = auc_interval(np.concatenate(scores), np.concatenate(truth), 0.99)
    assert low <= 0.5 <= high
    assert high - low < 0.05


@pytest.mark.parametrize("attack", EVERY, ids=repr)
def test_order_of_records_changes_nothing(attack):
    view, _ = simulate(effect=1.0)
    order = np.random.default_rng(3).permutation(RECORDS)
    np.testing.assert_allclose(attack.run(permuted(view, order)).values, attack.run(view).values[order], rtol=1e-12)


@pytest.mark.parametrize("attack", EVERY, ids=repr)
def test_every_attack_says_what_it_is(attack):
    assert title_of(attack)
    assert attack.paper
    assert attack.idea.endswith(".")
    assert attack.access in ("labels", "scores", "white_box")


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_log_odds_are_exact_and_never_saturate(classes):
    rng = np.random.default_rng(0)
    z, y = rng.normal(0, 3, (50, classes)), rng.integers(classes, size=50)
    p = np.exp(z - np.log(np.exp(z).sum(axis=1, keepdims=True)))[np.arange(50), y]
    np.testing.assert_allclose(log_odds(z, y), np.log(p) - np.log1p(-p), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(log_probability(z, y), np.log(p), rtol=1e-9)
    far = np.zeros((4, classes))
    far[np.arange(4), 0] = [36.0, 37.0, 800.0, 900.0]
    assert len(np.unique(log_odds(far, np.zeros(4, dtype=int)))) == 4  # float32 probabilities would all be 1


def test_float32_logits_are_scored_in_float64():
    z = np.array([[0.1, 17.3], [0.1, 17.300001]], dtype=np.float32)
    assert log_odds(z, np.array([1, 1])).dtype == np.float64
    assert probability(z, np.array([1, 1])).dtype == np.float64


def test_rmia_count_by_sorting_equals_all_pairs():
    rng = np.random.default_rng(0)
    r_x, r_z = np.round(rng.random(200), 2), np.round(rng.random(150), 2) + 0.01
    for gamma in (1.0, 2.0):
        pairs = (r_x[:, None] / gamma > r_z[None, :]).mean(axis=1)
        np.testing.assert_allclose(rmia_count(r_x, r_z, gamma), pairs, atol=1e-12)


def test_rmia_count_ranks_as_the_ratio_does_but_for_ties():
    view, _ = simulate(effect=1.0)
    ratio, count = Rmia().run(view).values, Rmia(score="count").run(view).values
    order = np.argsort(ratio)
    assert (np.diff(count[order]) >= 0).all()
    assert len(np.unique(count)) < len(np.unique(ratio)) == RECORDS


def test_rmia_count_is_a_p_value_on_non_members():
    """A non-member's rank among the population is uniform: 5 % of them lie in the top 5 %."""
    view, member = simulate(effect=2.0, seed=4)
    score = Rmia(mode="offline", a=0.3, score="count").run(view).values[~member]
    assert stats.kstest(score, "uniform").pvalue > 0.001


def test_offline_a_is_chosen_without_the_audited_membership():
    view, _ = simulate(effect=1.0)
    scrambled = dataclasses.replace(view, logits=np.zeros_like(view.logits), _cache={})
    assert tune_offline_a(view) == tune_offline_a(scrambled)
    assert Rmia(mode="offline").run(view).notes["a"] == tune_offline_a(view)


def test_who_did_not_have_the_records_beforehand_cannot_practise_on_them():
    view, _ = simulate(effect=1.0)
    stranger = dataclasses.replace(view, knows_candidates=False, _cache={})
    assert tune_offline_a(stranger) is None
    assert Rmia(mode="offline").run(stranger).notes["a chosen on"].startswith("default")


def test_offline_a_falls_back_to_the_papers_value_with_two_references():
    view, _ = simulate(effect=1.0, models=2)
    assert tune_offline_a(view) is None
    assert Rmia(mode="offline").run(view).notes["a"] == 0.3


def test_reference_probability_does_not_cancel():
    p = np.array([[1.0], [1e-18]])
    inside = np.array([[True], [False]])
    assert reference_probability(p, inside, 1.0)[0] == pytest.approx(1e-18)


def test_records_without_a_model_on_one_side_are_nan_not_zero():
    s, inside = np.array([1.0, 2.0]), np.array([[True, True], [True, False]])
    refs = np.array([[1.0, 2.0], [1.1, 1.5]])
    for values in (lira_online(s, refs, inside), rmia_ratio(s, reference_probability(refs, inside))):
        assert np.isnan(values[0])
        assert np.isfinite(values[1])
    assert np.isnan(lira_offline(s, refs, inside)[0])
    assert np.isnan(rmia_count(np.array([np.nan]), np.array([1.0]))[0])


def test_shrunken_variance_lies_between_and_converges():
    rng = np.random.default_rng(0)
    for models, tolerance in ((8, None), (4000, 0.02)):
        sd = rng.uniform(0.5, 2.0, 30)
        refs = rng.normal(size=(models, 30)) * sd
        inside = np.arange(models)[:, None] % 2 == np.zeros(30)
        target = rng.normal(size=30)
        own, shared, mixed = (lira_offline(target, refs, inside, v) for v in ("per_record", "global", "shrunken"))
        assert (
            (np.minimum(abs(own), abs(shared)) <= abs(mixed) + 1e-9)
            & (abs(mixed) <= np.maximum(abs(own), abs(shared)) + 1e-9)
        ).all()
        if tolerance:
            np.testing.assert_allclose(mixed, own, rtol=tolerance)


def test_identical_reference_models_give_finite_scores():
    view, _ = simulate(effect=1.0, models=4)
    same = dataclasses.replace(view.references, logits=np.repeat(view.references.logits[:1], 4, axis=0))
    flat = dataclasses.replace(view, references=same, _cache={})
    for attack in (Lira(), Lira(variance="per_record"), Rmia(), Rmia(mode="offline")):
        assert np.isfinite(attack.run(flat).values).all()


@pytest.mark.parametrize("attack", [Lira(), Lira(mode="offline"), Rmia(), Rmia(mode="offline")], ids=repr)
def test_no_reference_models_is_one_clear_sentence(attack):
    view, _ = simulate(effect=1.0)
    with pytest.raises(NotApplicable, match="needs shadow models"):
        attack.run(dataclasses.replace(view, references=None, _cache={}))


def test_online_attack_needs_both_sides():
    view, _ = simulate(effect=1.0, models=1)
    only_out = dataclasses.replace(view.references, trained_on=np.zeros((1, RECORDS), dtype=bool))
    lonely = dataclasses.replace(view, references=only_out, _cache={})
    with pytest.raises(NotApplicable, match="at least 2 shadow models"):
        Lira().run(lonely)
    assert np.isfinite(Lira(mode="offline").run(lonely).values).all()


def test_count_without_population_says_so():
    view, _ = simulate(effect=1.0)
    bare = dataclasses.replace(view, population=None, population_labels=None, population_references=None, _cache={})
    for attack in (Rmia(score="count"), Population(score="rank")):
        with pytest.raises(NotApplicable, match="population"):
            attack.run(bare)


def test_label_only_view_gives_no_scores():
    view, _ = simulate(effect=2.0, access="labels")
    for attack in (Population(), Lira(), Rmia()):
        with pytest.raises(AccessDenied, match="access: labels"):
            attack.run(view)
    assert set(Gap().run(view).values) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("lyra", {}, "did you mean lira"),
        ("lira", {"varianse": "global"}, "its options are mode, variance"),
        ("lira", {"variance": "big"}, "use shrunken, global, fixed or per_record"),
        ("rmia", {"a": 2.0}, "from 0 to 1"),
        ("rmia", {"gamma": 0.0}, "positive"),
        ("population", {"score": "x"}, "signal or rank"),
    ],
)
def test_wrong_attack_or_option_names_field_and_remedy(name, options, words):
    with pytest.raises(InputError, match=words):
        create(name, options)


def test_lira_with_one_model_a_side_gives_scores_of_a_sane_size():
    rng = np.random.default_rng(0)
    s, refs = rng.normal(size=200), rng.normal(size=(2, 200))
    inside = np.stack([first := rng.random(200) < 0.5, ~first])
    for values in (lira_online(s, refs, inside), lira_offline(s, refs, inside)):
        assert np.abs(values).max() < 100
    assert np.array_equal(lira_offline(s, refs, inside), lira_offline(s, refs, inside, "fixed"))
