"""Tuning on shadow models: the truth is never touched, and the estimate of the gain is honest."""

from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np
import pytest
from simulated import permuted, world

import leakpro_nb as lp
from leakpro_nb.attacks import available, create
from leakpro_nb.audits import membership, tuning

optuna = pytest.importorskip("optuna")


def tune(view, name="base_offline", **options):
    asked = {"trials": 6, "fpr": 0.05, **options}
    return tuning.tune(view, name, create(name), **asked)


@pytest.mark.parametrize("name", sorted(tuning.SPACES))
def test_every_value_of_the_search_spaces_is_one_that_the_attack_accepts(name):
    attack = available()[name]()
    for option, values in tuning.SPACES[name].items():
        ends = (values.low, values.high) if isinstance(values, tuning.Span) else values
        for value in ends:
            assert getattr(dataclasses.replace(attack, **{option: value}), option) == value


def test_the_audited_model_is_not_looked_at():
    view, _ = world(1.5)
    scrambled = dataclasses.replace(view, logits=np.random.default_rng(9).normal(size=view.logits.shape), _cache={})
    assert tune(scrambled) == tune(view)


def test_same_seed_same_choice_and_order_of_records_changes_nothing():
    view, member = world(1.5)
    one = tune(view, seed=3)
    assert tune(view, seed=3) == one
    other = tune(permuted(view, np.random.default_rng(3).permutation(len(member))), seed=3)
    assert other.options == one.options
    assert other.held_out == pytest.approx(one.held_out)


def test_tuning_mends_a_bad_start_and_says_by_how_much():
    view, _ = world(1.5, records=1000)
    bad = dataclasses.replace(create("base_offline"), scale=0.0)
    found = tuning.tune(view, "base_offline", bad, trials=8, fpr=0.05)
    assert found.options["scale"] > 0.3
    assert found.held_out["low"] > 0
    assert found.practice["tuned"] > found.practice["default"]
    assert (found.games, found.trials, found.measure) == (8, 8, "tpr")


def test_the_estimate_is_not_optimistic_where_there_is_nothing_to_find():
    """Twelve leak-free worlds: hits on held-out models stay at the false-alarm rate, and the gain at none."""
    held_out, gains, practice = [], [], []
    for seed in range(12):
        view, _ = world(0.0, seed=seed, records=500, models=6)
        found = tune(view, "bavaria", fpr=0.05)
        held_out.append(found.held_out["tuned"])
        gains.append(found.held_out["gain"])
        practice.append(found.practice["tuned"] - found.practice["default"])
    error = np.std(held_out, ddof=1) / np.sqrt(12)
    assert abs(np.mean(held_out) - 0.05) < 4 * error + 0.004  # thresholds leave at most 5 %, not exactly
    assert abs(np.mean(gains)) < 4 * np.std(gains, ddof=1) / np.sqrt(12) + 1e-9
    # the search itself is optimistic, which is why its own figures are not the estimate
    assert np.mean(practice) > np.mean(gains)


def test_few_non_members_are_tuned_by_the_auc():
    view, _ = world(1.5, records=200)
    assert tune(view, fpr=0.01).measure == "auc"


@pytest.mark.parametrize("models", [1, 2])
def test_too_few_shadow_models_are_said_to_be(models):
    view, _ = world(1.5, models=models)
    assert "at least three shadow models" in tune(view).reason


def test_attackers_who_cannot_practise_do_not_tune():
    view, _ = world(1.5)
    assert "cannot practise" in tune(dataclasses.replace(view, knows_candidates=False, _cache={})).reason


def test_attacks_with_nothing_to_tune_are_left_alone():
    view, _ = world(1.5)
    assert tune(view, "population") is None
    assert tuning.tune(view, "bavaria", create("bavaria"), trials=3, fpr=0.05, fixed={"alpha0": 1.0}) is None


def known_target(effect, seed=0, **options):
    """Return predictions with those of shadow models, as a target."""
    view, member = world(effect, seed=seed, **options)
    references = view.references
    return lp.Target.from_predictions(
        view.logits, view.labels, member, shadow_predictions=references.logits, shadow_members=references.trained_on
    )


def test_tuned_attacks_stand_beside_the_others_and_count_in_the_verdict(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "_search", lambda space, *rest: dict.fromkeys(space, 0.5))
    options = {"attacks": ["base_offline"], "attack_options": {"base_offline": {"temperature": 5.0}}}
    plan = membership.prepare(known_target(1.5, records=1000), out=tmp_path, headline_fpr=0.05, tune=1, **options)
    assert not list(tmp_path.iterdir())
    shadows = membership.train(plan)
    view = membership.observe(plan, shadows)
    outcomes = membership.attack(plan, view)
    examination = membership.examine(plan, view, outcomes)
    result = membership.measure(plan, view, shadows, outcomes, examination)
    membership.save(plan, result, outcomes, examination)
    found = result.extras["tuning"]["base_offline"]
    assert set(found["options"]) == {"scale"}  # the temperature was the user's choice
    assert [attack.name for attack in result.attacks] == ["base_offline", "base_offline_tuned"]
    tuned = result.attack("base_offline_tuned")
    assert tuned.title.endswith("tuned")
    assert tuned.parameters["temperature"] == 5.0
    assert tuned.parameters["scale"] == found["options"]["scale"]
    assert "each at 97.50%" in result.verdict.rule
    assert lp.Result.load(tmp_path / "result.json") == result
    from leakpro_nb import plots, story

    text = story.tuning_table(result).data
    assert "scale 0.5" in text
    assert story.another_model(result).data.count("\n- ") == 3
    for picture in (plots.power(result), plots.another_model(result)):
        assert picture.svg().startswith("<?xml")
        assert picture.alt.endswith(".")
        assert "How to read it" in picture.reading


def test_the_missing_extra_is_one_sentence_with_the_command(monkeypatch, tmp_path):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "optuna" else found(name, *rest)
    )
    with pytest.raises(lp.InputError, match=r"pip install 'leakpro-nb\[tuning\]'"):
        membership.prepare(known_target(1.0, records=100), out=tmp_path / "a", tune=5)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("trials", [-1, 2.5, True])
def test_bad_numbers_of_trials(trials, tmp_path):
    with pytest.raises(lp.InputError, match="tune"):
        membership.prepare(known_target(1.0, records=100), out=tmp_path / "a", tune=trials)


def test_a_search_that_breaks_does_not_lose_the_attack(monkeypatch):
    monkeypatch.setattr(tuning, "_search", lambda *arguments: 1 / 0)
    plan = membership.prepare(known_target(1.0), attacks=["base_offline", "population"], tune=3)
    outcomes = membership.attack(plan, membership.observe(plan, membership.train(plan)))
    assert outcomes["base_offline"].status == "ok"
    assert "ZeroDivisionError" in outcomes["base_offline"].tuned.reason
    assert outcomes["population"].tuned is None
