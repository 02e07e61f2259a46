"""What cannot run says so in one sentence, and the other attacks go on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from simulated import world

import leakpro_nb as lp
from leakpro_nb import plots, story
from leakpro_nb.attacks import NotApplicable, Scores, available
from leakpro_nb.audits import membership
from leakpro_nb.game.threat import ThreatModel
from leakpro_nb.results import Result

EVERYONE = ("labels", "candidates", "population", "recipe")


def predictions(models: int = 4, *, records: int = 400, effect: float = 2.0, inside=None, seed: int = 0) -> lp.Target:
    view, member = world(effect, records=records, models=max(models, 1), seed=seed)
    references = view.references
    trained_on = references.trained_on if inside is None else inside(references.trained_on.copy())
    shadows = {"shadow_predictions": references.logits, "shadow_members": trained_on} if models else {}
    return lp.Target.from_predictions(view.logits, view.labels, member, **shadows)


def play(target: lp.Target, out, **options) -> Result:
    plan = membership.prepare(target, out=out, **options)
    shadows = membership.train(plan)
    view = membership.observe(plan, shadows)
    outcomes = membership.attack(plan, view)
    examination = membership.examine(plan, view, outcomes)
    result = membership.measure(plan, view, shadows, outcomes, examination)
    membership.save(plan, result, outcomes, examination)
    listed = story.skipped(outcomes)
    for attack in result.attacks:
        if attack.status != "ok":
            assert one_sentence(attack.reason)
            assert attack.title in listed.data
            assert attack.title in story.meaning(result).data
    return Result.load(out / "result.json")


def one_sentence(text: str) -> bool:
    return bool(text) and "\n" not in text and "Traceback" not in text and len(text) < 300


def test_an_attack_that_the_threat_model_does_not_admit_is_listed_and_the_others_run(tmp_path):
    threat = ThreatModel(knowledge=("labels", "recipe"))
    result = play(predictions(), tmp_path, threat=threat, attacks=["rmia", "rmia_offline"])
    assert result.attack("rmia").status == "skipped"
    assert "candidates" in result.attack("rmia").reason
    assert result.attack("rmia_offline").status == "ok"


def test_online_attacks_need_models_on_both_sides_and_offline_ones_do_not(tmp_path):
    asked = [
        "lira",
        "rmia",
        "base",
        "bavaria",
        "combined",
        "lira_offline",
        "rmia_offline",
        "base_offline",
        "population",
    ]
    result = play(predictions(1), tmp_path, attacks=asked)
    for name in ("lira", "rmia", "base", "bavaria", "combined"):
        assert result.attack(name).status == "skipped"
        assert "train at least 2 shadow models" in result.attack(name).reason
    for name in ("lira_offline", "rmia_offline", "base_offline", "population"):
        assert result.attack(name).status == "ok"
    assert result.attack("rmia_offline").records_unscored == 200
    assert result.extras["algorithm"]["reason"]


def test_two_models_on_the_same_records_are_no_two_sides(tmp_path):
    """Every record is in both, or in neither."""
    target = predictions(2, inside=lambda mask: np.stack([mask[0], mask[0]]))
    result = play(target, tmp_path, attacks=["lira", "lira_offline"])
    assert "that saw it and others that did not" in result.attack("lira").reason
    assert result.attack("lira_offline").status == "ok"


def test_without_any_shadow_model_population_still_runs(tmp_path):
    result = play(predictions(0), tmp_path)
    assert [attack.name for attack in result.attacks if attack.status == "ok"] == ["population"]
    for attack in result.attacks[1:]:
        assert "needs shadow models and there are none" in attack.reason or "only predictions" in attack.reason
    assert plots.power(result) is None
    assert plots.another_model(result) is None
    assert story.not_examined(result, "power").data == "Not tested: no shadow models were used."
    assert story.another_model(result).data.startswith("Not tested: there are no shadow models")


def test_records_that_are_in_everywhere_are_left_out_counted_and_named(tmp_path):
    def everywhere(mask):
        mask[:, [3, 17, 42]] = True
        return mask

    result = play(predictions(inside=everywhere), tmp_path, attacks=["rmia", "population"])
    attack = result.attack("rmia")
    assert (attack.status, attack.records_unscored, attack.records_scored) == ("ok", 3, 397)
    assert result.attack("population").records_unscored == 0
    check = next(check for check in result.checks if check.name == "unscored")
    assert check.passed is False
    assert "RMIA (online): 3 (rows 3, 17, 42)" in check.sentence
    assert check.values["rows"] == {"rmia": [3, 17, 42]}
    import pandas as pd

    assert np.flatnonzero(pd.read_parquet(tmp_path / "scores.parquet")["rmia"].isna()).tolist() == [3, 17, 42]


@dataclasses.dataclass(frozen=True)
class Pictures:
    """An attack that reads images only, as one from outside might be."""

    title = "Pictures"
    paper = "none"
    idea = "It turns pictures."
    access = "scores"
    references = 0
    knowledge = ("labels",)
    asks = True

    def run(self, view) -> Scores:
        if np.ndim(view.features()) != 4:
            raise NotApplicable("it turns and shifts images, and these records are a table; leave it out")
        return Scores(np.zeros(len(view)))


def test_an_attack_that_asks_for_images_is_skipped_on_a_table(tmp_path, monkeypatch):
    from sklearn.linear_model import LogisticRegression

    from leakpro_nb import attacks

    monkeypatch.setitem(attacks._BUILT_IN, "pictures", Pictures)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 4)), rng.integers(2, size=200)
    members = np.arange(200) < 100
    target = lp.Target(LogisticRegression().fit(X[members], y[members]), lp.Records(X, y, members))
    result = play(target, tmp_path, attacks=["pictures", "population"], num_shadows=0)
    assert "these records are a table" in result.attack("pictures").reason
    assert result.attack("population").status == "ok"


@dataclasses.dataclass(frozen=True)
class Learner:
    """An attack that learns from the people whom the attacker knows."""

    title = "Learner"
    paper = "none"
    idea = "It learns from known people."
    access = "scores"
    references = 0
    knowledge = ("labels", "known_members")

    def run(self, view) -> Scores:
        scores = view.logits[np.arange(len(view)), view.labels].copy()
        scores[view.known] = np.nan
        return Scores(scores)


def test_practice_material_is_not_counted_as_missing(tmp_path, monkeypatch):
    from leakpro_nb import attacks

    monkeypatch.setitem(attacks._BUILT_IN, "learner", Learner)
    threat = ThreatModel(knowledge=(*EVERYONE, "known_members"))
    result = play(predictions(), tmp_path, threat=threat, attacks=["learner", "population"])
    check = next(check for check in result.checks if check.name == "unscored")
    assert check.passed
    assert "200 records whose membership this attacker knows anyway served as practice" in check.sentence
    assert check.values["practice"] == {"learner": 200}
    assert result.attack("learner").records_scored == 200


def test_practice_material_and_missing_models_are_told_apart(tmp_path, monkeypatch):
    from leakpro_nb import attacks

    class Both(Learner):
        def run(self, view) -> Scores:
            scores = super().run(view).values
            scores[np.flatnonzero(~view.known)[:2]] = np.nan
            return Scores(scores)

    monkeypatch.setitem(attacks._BUILT_IN, "both", Both)
    threat = ThreatModel(knowledge=(*EVERYONE, "known_members"))
    result = play(predictions(), tmp_path, threat=threat, attacks=["both"])
    check = next(check for check in result.checks if check.name == "unscored")
    assert check.passed is False
    assert check.values["unscored"] == {"both": 2}
    assert check.values["practice"] == {"both": 200}


@pytest.mark.parametrize(
    ("threat", "has", "lacks"),
    [
        ({}, {"population", "lira", "combined"}, {"gap", "gradient_norm", "activation_gradient", "boundary"}),
        ({"access": "labels"}, {"gap"}, {"population", "lira", "combined", "gradient_norm"}),
        ({"access": "white_box"}, {"population", "combined"}, {"gap", "activation_gradient"}),
        ({"access": "white_box", "knowledge": [*EVERYONE, "known_members"]}, {"population", "combined"}, {"gap"}),
    ],
)
def test_default_attacks_follow_the_threat_model(threat, has, lacks):
    names = membership.default_attacks(ThreatModel.load(threat))
    assert has <= set(names)
    assert not lacks & set(names)
    assert set(names) <= set(available())
    assert len(names) == len(set(names))


def test_white_box_attacks_are_on_the_list_once_there_are_any():
    wanted = {"gradient_norm", "activation_gradient"} & set(available())
    threat = ThreatModel(access="white_box", knowledge=(*EVERYONE, "known_members"))
    assert wanted <= set(membership.default_attacks(threat))


@pytest.mark.parametrize(
    ("scores", "passed"),
    [
        (np.arange(1000.0), True),  # all distinct
        (np.r_[np.zeros(500), np.arange(1.0, 501)], True),  # tied at the bottom, where nobody is accused
        (np.arange(1000) // 500, True),  # yes or no: judged at its own rate
        (np.arange(1000) // 200, True),  # a few classes: likewise
        (np.r_[np.arange(600.0), np.full(395, 700.0), np.arange(800.0, 805)], False),  # a block across the rate
    ],
)
def test_ties_matter_where_they_straddle_the_rate_that_decides(scores, passed):
    from leakpro_nb.audits import validity

    member = np.arange(1000) % 2 == 0
    outcome = membership.Outcome("toy", "ok", Scores(np.asarray(scores, dtype=float)))
    check = validity._ties({"toy": outcome}, member, 0.05)
    assert check.passed is passed


def test_the_least_rate_is_that_of_the_highest_score():
    from leakpro_nb.audits import validity

    member = np.array([True, False, True, False, False, False])
    assert validity.least_fpr(np.array([3.0, 3.0, 2.0, 1.0, 1.0, 0.0]), member) == 0.25
    assert validity.least_fpr(np.array([3.0, 2.0, 2.0, 1.0, 1.0, 0.0]), member) == 0.0
