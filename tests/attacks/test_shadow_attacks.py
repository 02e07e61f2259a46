"""Attacks with shadow models: answers worked out by hand, edges, and what an attack may tune on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from leakpro_nb.attacks import NotApplicable, create
from leakpro_nb.attacks.membership import Base, Bavaria, Combined, InforMia, Lira, MultiSignal, Reference, Rmia
from leakpro_nb.attacks.membership.bavaria import student_offline, student_online
from leakpro_nb.attacks.membership.bayes_optimal import (
    base_offline,
    base_online,
    log_mean_probability,
    tune_offline_scale,
)
from leakpro_nb.attacks.membership.calibration import calibrated_loss
from leakpro_nb.attacks.membership.combined import SCORES, fit, normal_scores, rank_average
from leakpro_nb.attacks.membership.infor_mia import population_divergence
from leakpro_nb.attacks.membership.lira import lira_offline, lira_online
from leakpro_nb.attacks.membership.multi_signal import multi_signal_offline, multi_signal_online, whiten
from leakpro_nb.attacks.membership.reference import reference_log_odds, reference_tail
from leakpro_nb.attacks.membership.rehearsal import Game, auc, choose, games
from leakpro_nb.attacks.membership.rmia import reference_probability, rmia_ratio
from leakpro_nb.attacks.signals import Confidence, log_odds, log_probability
from leakpro_nb.errors import InputError
from leakpro_nb.game.views import Observed, References, View
from leakpro_nb.measures import auc_interval
from leakpro_nb.shadows import paired_splits

NAMES = [
    "base", "base_offline", "infor_mia", "infor_mia_offline", "bavaria", "bavaria_offline", "multi_signal",
    "multi_signal_offline", "reference", "calibration", "combined",
]  # fmt: skip
OFFLINE = {"base_offline", "infor_mia_offline", "bavaria_offline", "multi_signal_offline", "reference", "calibration"}


def simulate(models: int = 8, records: int = 400, classes: int = 3, effect: float = 2.0, seed: int = 0):
    """Return a view and its truth."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=records)
    difficulty = rng.normal(0, 1.5, records)
    trained_on, pair = paired_splits(records, models, seed + 1)
    member = rng.random(records) < 0.5

    def logits(inside):
        out = rng.normal(0, 0.3, (records, classes))
        out[np.arange(records), labels] += difficulty + effect * inside + rng.normal(0, 0.6, records)
        return out

    references = References(np.stack([logits(row) for row in trained_on]), trained_on, pair)
    return View("scores", labels, logits(member), references), member


def scrambled(view):
    return dataclasses.replace(view, logits=np.random.default_rng(9).permutation(view.logits), _cache={})


# --- answers worked out by hand


def test_reference_inverts_the_interpolated_quantile():
    """The authors set the threshold at a quantile of the losses with 0 and 1000 added; we return that quantile."""
    losses = np.array([[0.5], [2.0], [1.0]])
    for level in (0.05, 0.25, 0.4, 0.5, 0.9):
        threshold = np.quantile(np.r_[0.0, losses[:, 0], 1000.0], level)
        tail = reference_tail(np.array([threshold]), losses, np.zeros((3, 1), dtype=bool))
        assert tail[0] == pytest.approx(1 - level)


def test_reference_ignores_models_that_saw_the_record():
    losses, inside = np.array([[0.5], [0.001], [2.0]]), np.array([[False], [True], [False]])
    one = reference_tail(np.array([1.0]), losses, inside)
    assert one == pytest.approx(reference_tail(np.array([1.0]), losses[[0, 2]], inside[[0, 2]]))


def test_reference_log_odds_rank_what_the_tail_ties():
    losses = np.ones((4, 3))
    loss, none = np.array([1e-30, 1e-20, 1e-25]), np.zeros((4, 3), dtype=bool)
    assert len(np.unique(reference_tail(loss, losses, none))) == 1
    assert np.argsort(reference_log_odds(loss, losses, none)).tolist() == [1, 2, 0]
    far = np.array([0.0, 999.0, 5000.0])
    assert np.isfinite(reference_log_odds(far, losses, none)).all()
    assert reference_tail(far, losses, none) == pytest.approx([1.0, 0.0, 0.0], abs=1e-3)
    assert reference_tail(far, np.full((4, 3), 2000.0), none) == pytest.approx([1.0, 0.9001, 0.9], abs=1e-6)


def test_base_known_answers():
    p, refs = np.log([0.8]), np.log([[0.5], [0.25]])
    inside = np.array([[True], [False]])
    assert base_online(p, refs, inside) == pytest.approx(np.log(0.8 / 0.375))
    assert base_offline(p, refs, inside, 0.5) == pytest.approx(np.log(0.8 / np.sqrt(0.25)))
    assert base_offline(p, refs, inside, 0.0) == pytest.approx(p)


def test_base_averages_probabilities_too_small_for_floats():
    inside = np.array([[False], [False]])
    mean = log_mean_probability(np.array([[-2000.0], [-2000.0 + np.log(3)]]), ~inside)
    assert mean == pytest.approx(-2000 + np.log(2))


def test_base_online_ranks_as_rmia_does():
    view, _ = simulate()
    np.testing.assert_allclose(Base().run(view).values, Rmia().run(view).values, atol=1e-9)


def test_infor_mia_is_the_log_ratio_plus_one_number_for_the_target():
    view, _ = simulate()
    rest, _ = simulate(records=100, seed=5)
    outside = dataclasses.replace(rest.references, trained_on=np.zeros_like(rest.references.trained_on))
    wide = dataclasses.replace(
        view, population=rest.logits, population_labels=rest.labels, population_references=outside, _cache={}
    )
    for mode in ("online", "offline"):
        bare, full = InforMia(mode).run(view), InforMia(mode).run(wide)
        shift = full.values - bare.values
        np.testing.assert_allclose(bare.values, Rmia(mode).run(view).values, atol=1e-12)
        np.testing.assert_allclose(shift, shift[0], atol=1e-12)
        assert shift[0] == pytest.approx(full.notes["population term"])
        assert "no population" in bare.notes["population term"]


def test_population_divergence_known_answer():
    assert population_divergence(np.array([0.5, 0.25]), np.array([1.0, 1.0])) == pytest.approx(1.5 * np.log(2))
    assert population_divergence(np.array([0.5, 0.25]), np.array([1.0, np.nan])) == pytest.approx(np.log(2))
    assert np.isnan(population_divergence(np.zeros(0), np.zeros(0)))


def test_student_is_the_predictive_t_of_the_prior():
    rng = np.random.default_rng(0)
    refs, inside = rng.normal(size=(8, 20)), np.arange(8)[:, None] % 2 == np.zeros(20)
    target, alpha0 = rng.normal(size=20), 3.0

    def density(chosen):
        values = refs[chosen]
        n, mean, squares = len(values), values.mean(axis=0), values.var(axis=0) * len(values)
        alpha = alpha0 + n / 2
        beta = alpha0 * squares.sum() / ((n - 1) * 20) + squares / 2
        return stats.t(2 * alpha, mean, np.sqrt(beta * (1 + 1 / n) / alpha))

    one, zero = density(inside[:, 0]), density(~inside[:, 0])
    wanted = one.logpdf(target) - zero.logpdf(target)
    np.testing.assert_allclose(student_online(target, refs, inside, alpha0), wanted, rtol=1e-9)
    # Wallace's transformation is good to about a hundredth
    np.testing.assert_allclose(
        student_offline(target, refs, inside, alpha0), stats.norm.ppf(zero.cdf(target)), atol=0.02
    )


def test_student_becomes_lira_as_the_prior_outweighs_or_vanishes():
    rng = np.random.default_rng(0)
    refs, inside = rng.normal(size=(2000, 5)), np.arange(2000)[:, None] % 2 == np.zeros(5)
    target = rng.normal(size=5)
    np.testing.assert_allclose(
        student_online(target, refs, inside, 4.0), lira_online(target, refs, inside, "per_record"), atol=0.02
    )
    np.testing.assert_allclose(
        student_online(target, refs, inside, 1e9), lira_online(target, refs, inside, "global"), atol=0.01
    )


def test_student_tail_does_not_saturate():
    refs, inside = np.random.default_rng(0).normal(size=(4, 3)), np.zeros((4, 3), dtype=bool)
    refs[:] = refs[:, :1]
    z = student_offline(np.array([1e3, 1e5, 1e7]), refs, inside)
    assert (np.diff(z) > 0).all()


def test_calibration_known_answer():
    inside = np.array([[True], [False], [False]])
    score = calibrated_loss(np.array([-0.1]), np.array([[-9.0], [-1.0], [-3.0]]), inside)
    assert score == pytest.approx(1.9)


def test_independent_signals_add_up():
    view, _ = simulate()
    seen = [view.signal(f).audit for f in (log_odds, log_probability)]
    np.testing.assert_allclose(multi_signal_online(seen), sum(lira_online(*each) for each in seen))
    np.testing.assert_allclose(multi_signal_offline(seen), sum(lira_offline(*each) for each in seen) / 2)
    assert MultiSignal(signals=("log_odds",), covariance="independent").run(view).values == pytest.approx(
        Lira().run(view).values
    )


def test_a_signal_given_twice_counts_once_when_whitened():
    view, _ = simulate(classes=2)
    once = MultiSignal(signals=("log_odds",), covariance="pooled").run(view)
    twice = MultiSignal(signals=("log_odds", "margin"), covariance="pooled").run(
        view
    )  # the same thing with two classes
    assert twice.notes["distinct directions"] == 1
    # equal up to the shrinkage of the covariance, which moves all records' scores alike
    assert stats.spearmanr(once.values, twice.values).statistic > 0.999


def test_whitened_signals_are_uncorrelated_within_records():
    view, _ = simulate(records=2000)
    seen = whiten([view.signal(f).audit for f in (log_odds, log_probability)])
    inside = seen[0].trained_on
    residual = [
        each.references
        - np.where(inside, *[(each.references * s).sum(axis=0) / s.sum(axis=0) for s in (inside, ~inside)])
        for each in seen
    ]
    covariance = np.cov(np.stack([r.ravel() for r in residual]))
    np.testing.assert_allclose(covariance, np.eye(2), atol=0.01)


@pytest.mark.parametrize("kind", ["softmax", "taylor", "soft_margin", "soft_margin_taylor"])
def test_rmia_on_other_confidences(kind):
    view, member = simulate()
    attack = Rmia(signal=kind, temperature=2.0)
    function = Confidence(kind, 2.0)
    s, r = function(view.logits, view.labels), function(view.references.logits, view.labels)
    wanted = np.log(rmia_ratio(s, reference_probability(r, view.references.trained_on)))
    np.testing.assert_allclose(attack.run(view).values, wanted, rtol=1e-12)
    assert auc_interval(wanted, member)[1] > 0.8


def test_trimmed_reference_mean_equals_scipys():
    rng = np.random.default_rng(0)
    p, inside = rng.random((21, 30)), np.arange(21)[:, None] % 2 == np.zeros(30)
    trimmed = reference_probability(p, inside, trim=0.2)
    wanted = [
        (stats.trim_mean(p[inside[:, i], i], 0.2) + stats.trim_mean(p[~inside[:, i], i], 0.2)) / 2 for i in range(30)
    ]
    np.testing.assert_allclose(trimmed, wanted)
    few = reference_probability(p[:8], inside[:8], trim=0.2)  # a fifth of four models is none
    np.testing.assert_allclose(few, reference_probability(p[:8], inside[:8]))
    assert np.isnan(reference_probability(p, np.ones_like(inside), trim=0.2)).all()


# --- rehearsal


def test_games_leave_out_the_model_and_its_complement():
    view, _ = simulate(models=6)
    seen = view.signal(log_odds).audit
    every = list(games(view.references, seen))
    assert [game.seen.references.shape[0] for game in every] == [4] * 6
    np.testing.assert_array_equal(every[2].seen.target, seen.references[2])
    np.testing.assert_array_equal(every[2].seen.references, seen.references[[0, 1, 4, 5]])
    np.testing.assert_array_equal(every[2].member, view.references.trained_on[2])


def test_choice_is_the_best_on_reference_models_and_none_with_two():
    view, _ = simulate()
    seen = view.signal(log_odds).audit

    def scores(game: Observed) -> np.ndarray:
        return np.multiply.outer(np.array([-1.0, 0.0, 1.0, 2.0]), game.target)

    assert choose(view.references, seen, (-1.0, 0.0, 1.0, 2.0), scores) == 1.0  # 2.0 ranks alike and comes later
    few, _ = simulate(models=2)
    assert choose(few.references, few.signal(log_odds).audit, (0.0, 1.0), scores) is None
    assert choose(None, seen, (0.0,), scores) is None


def test_auc_counts_ties_as_half():
    assert auc(np.array([1.0, 1.0, 0.0]), np.array([True, False, False])) == 0.75


def test_scale_is_chosen_without_the_audited_membership():
    view, _ = simulate()
    assert tune_offline_scale(view) == tune_offline_scale(scrambled(view))
    assert Base(mode="offline").run(view).notes["scale"] == tune_offline_scale(view)
    few, _ = simulate(models=2)
    assert Base(mode="offline").run(few).notes["scale"] == 0.33


# --- the combination


def test_combination_learns_from_the_references_only():
    """Another target changes nothing that was learnt."""
    view, _ = simulate()
    seen = view.signal(log_odds).audit
    one = fit(list(games(view.references, seen)))
    two = fit(list(games(view.references, scrambled(view).signal(log_odds).audit)))
    np.testing.assert_array_equal(one(seen), two(seen))


def test_combination_is_reproducible():
    view, _ = simulate()
    again = dataclasses.replace(view, _cache={})
    np.testing.assert_array_equal(Combined().run(view).values, Combined().run(again).values)


def test_combination_judges_the_target_with_as_many_references_as_it_practised_with():
    view, _ = simulate(models=10)
    notes = Combined().run(view).notes
    assert notes["practised on"] == 10
    assert notes["references per game"] == 8


def test_combination_follows_the_attack_that_works():
    """No attack by itself is clearly better than the mixture."""
    view, member = simulate(records=2000, effect=1.0)
    mixture = auc_interval(Combined().run(view).values, member)[0]
    seen = view.signal(log_odds).audit
    best = max(auc_interval(score(seen), member)[0] for score in SCORES.values())
    assert mixture > best - 0.01


def test_combination_without_references_enough_averages_ranks():
    view, _ = simulate(models=2)
    scores = Combined().run(view)
    assert scores.notes["learner"] == "ranks"
    np.testing.assert_array_equal(scores.values, rank_average(view.signal(log_odds).audit))


def test_combination_takes_unpaired_references_of_any_balance():
    view, member = simulate(models=8)
    rng = np.random.default_rng(0)
    inside = view.references.trained_on.copy()
    inside[:, 0], inside[:, 1] = True, False
    lone = References(view.references.logits, inside, np.full(8, -1))
    values = Combined().run(dataclasses.replace(view, references=lone, _cache={})).values
    assert np.isnan(values[:2]).all()
    assert np.isfinite(values[2:]).all()
    assert auc_interval(values[2:], member[2:])[1] > 0.8
    inside[:] = rng.random(inside.shape[1]) < 0.5  # all models trained on the same records
    with pytest.raises(NotApplicable, match="no record"):
        Combined().run(dataclasses.replace(view, references=dataclasses.replace(lone, trained_on=inside), _cache={}))


def test_combination_thins_large_practice(monkeypatch):
    from leakpro_nb.attacks.membership import combined

    monkeypatch.setattr(combined, "MOST_ROWS", 1000)
    monkeypatch.setattr(combined, "MOST_PANELS", 2)
    view, member = simulate(models=12)
    scores = Combined().run(view)
    assert scores.notes["practised on"] == 4
    assert auc_interval(scores.values, member)[1] > 0.8


def test_normal_scores_share_ranks_between_ties():
    values = normal_scores(np.array([1.0, 1.0, 1.0, np.nan]))
    assert values[:3].tolist() == [0.0, 0.0, 0.0]
    assert np.isnan(values[3])
    assert np.isnan(normal_scores(np.full(3, np.nan))).all()


def test_fit_takes_games_from_elsewhere():
    view, member = simulate()
    seen = view.signal(log_odds).audit
    score = fit([Game(seen, member)], "logistic")
    assert auc_interval(score(seen), member)[1] > 0.8


# --- edges that all of them share


@pytest.mark.parametrize("name", NAMES)
def test_no_reference_models_is_one_clear_sentence(name):
    view, _ = simulate()
    with pytest.raises(NotApplicable, match="needs shadow models"):
        create(name).run(dataclasses.replace(view, references=None, _cache={}))


@pytest.mark.parametrize("name", NAMES)
def test_one_reference_model(name):
    """A single model leaves every record with one side only: enough offline for half of them, never online."""
    view, _ = simulate(models=2)
    lone = dataclasses.replace(view, references=view.references.select(np.array([0]), slice(None)), _cache={})
    if name not in OFFLINE:
        with pytest.raises(NotApplicable, match="at least 2 shadow models"):
            create(name).run(lone)
        return
    values = create(name).run(lone).values
    np.testing.assert_array_equal(np.isnan(values), view.references.trained_on[0])


@pytest.mark.parametrize("models", [2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_few_reference_models_are_scored_and_useful(name, models):
    view, member = simulate(models=models, records=1000)
    values = create(name).run(view).values
    assert np.isfinite(values).all()
    assert auc_interval(values, member)[1] > 0.7


@pytest.mark.parametrize("name", NAMES)
def test_records_without_a_needed_side_are_nan_and_spoil_no_other(name):
    view, _ = simulate()
    inside = view.references.trained_on.copy()
    inside[:, 3], inside[:, 7] = True, False  # record 3 has no OUT model, record 7 no IN model
    odd = dataclasses.replace(view, references=dataclasses.replace(view.references, trained_on=inside), _cache={})
    values = create(name).run(odd).values
    lacking = [3] if name in OFFLINE else [3, 7]
    assert np.flatnonzero(np.isnan(values)).tolist() == lacking


@pytest.mark.parametrize("name", NAMES)
def test_identical_reference_models_give_finite_scores(name):
    view, _ = simulate()
    same = dataclasses.replace(view.references, logits=np.repeat(view.references.logits[:1], 8, axis=0))
    assert np.isfinite(create(name).run(dataclasses.replace(view, references=same, _cache={})).values).all()


@pytest.mark.parametrize("name", NAMES)
def test_records_of_one_class_and_saturated_logits_give_finite_scores(name):
    view, _ = simulate(classes=2)
    sure = dataclasses.replace(
        view, labels=np.zeros_like(view.labels), logits=view.logits * 300,
        references=dataclasses.replace(view.references, logits=view.references.logits * 300), _cache={},
    )  # fmt: skip
    assert np.isfinite(create(name).run(sure).values).all()


@pytest.mark.parametrize(
    ("attack", "options", "words"),
    [
        (Base, {"mode": "x"}, "online or offline"),
        (Base, {"scale": 2.0}, "from 0 to 1"),
        (Base, {"temperature": 0.0}, "positive"),
        (InforMia, {"mode": "x"}, "online or offline"),
        (InforMia, {"a": -1.0}, "from 0 to 1"),
        (InforMia, {"temperature": 0.0}, "positive"),
        (Bavaria, {"mode": "x"}, "online or offline"),
        (Bavaria, {"alpha0": 0.0}, "positive"),
        (MultiSignal, {"mode": "x"}, "online or offline"),
        (MultiSignal, {"signals": ("loss",)}, "list of any of log_odds"),
        (MultiSignal, {"signals": "log_odds"}, "list of any of"),
        (MultiSignal, {"signals": ()}, "list of any of"),
        (MultiSignal, {"covariance": "x"}, "pooled or independent"),
        (MultiSignal, {"variance": "x"}, "shrunken"),
        (Reference, {"score": "x"}, "log_odds or tail"),
        (Combined, {"learner": "x"}, "blend, boosting"),
        (Rmia, {"signal": "x"}, "soft_margin_taylor"),
        (Rmia, {"temperature": -1.0}, "positive"),
        (Rmia, {"terms": 1}, "at least 2"),
        (Rmia, {"reference_mean": "median"}, "mean or trimmed"),
    ],
)
def test_wrong_option_names_field_and_remedy(attack, options, words):
    with pytest.raises(InputError, match=words):
        attack(**options)


def test_signals_may_come_as_a_list_from_a_file():
    assert create("multi_signal", {"signals": ["log_odds"]}) == MultiSignal(signals=("log_odds",))
    hash(create("multi_signal", {"signals": ["log_odds"]}))
