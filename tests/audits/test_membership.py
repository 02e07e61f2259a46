"""The membership audit from target to result, on small models."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier

import leakpro_nb as lp
from leakpro_nb.audits import exposure, membership, validity
from leakpro_nb.plots import membership as plots
from leakpro_nb.results import Result


def make_target(*, leak: bool = True, n: int = 700, seed: int = 0, shift: float = 0.0) -> lp.Target:
    """Return a random forest that memorises noise, or (leak=False) one that never saw the alleged members."""
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(2 * n, 6)), rng.integers(2, size=2 * n)
    members = np.zeros(2 * n, dtype=bool)
    members[rng.permutation(2 * n)[:n]] = True
    X[members, 0] += shift
    model = RandomForestClassifier(30, random_state=0)
    if leak:
        model.fit(X[members], y[members])
    else:
        model.fit(rng.normal(size=(n, 6)), rng.integers(2, size=n))
    frame = pd.DataFrame(X, columns=list("abcdef")).assign(ward=rng.choice(["north", "south"], 2 * n))
    return lp.Target(model, lp.Records(X, y, members, groups=frame), sensitive=["ward", "a"], name="toy forest")


QUICK = ["population", "lira_offline", "lira", "rmia_offline", "rmia"]


def play(target: lp.Target, out, **options) -> tuple[membership.Plan, Result]:
    plan = membership.prepare(target, out=out, **{"attacks": QUICK, "num_shadows": 8, "workers": 1, **options})
    shadows = membership.train(plan, progress=False)
    view = membership.observe(plan, shadows)
    outcomes = membership.attack(plan, view)
    result = membership.measure(plan, view, shadows, outcomes)
    membership.save(plan, result, outcomes)
    return plan, result


@pytest.fixture(scope="module")
def leaky(tmp_path_factory):
    out = tmp_path_factory.mktemp("leaky")
    plan, result = play(make_target(), out)
    return out, plan, result


def test_a_memorising_model_is_found_out(leaky):
    _, _, result = leaky
    assert result.verdict.level == "demonstrated"
    assert all(attack.status == "ok" for attack in result.attacks)
    assert result.attack("rmia").measure("auc").low > 0.8
    assert all(check.passed is not False for check in result.checks if check.name in validity.GATES)


def test_the_default_attacks_include_the_combined_one(tmp_path):
    _, result = play(make_target(n=150), tmp_path, num_shadows=6, attacks=None)
    assert [attack.name for attack in result.attacks] == list(membership.default_attacks(lp.ThreatModel()))
    assert result.attack("combined").measure("auc").low > 0.7


def test_result_file_is_strict_json_and_equals_the_result(leaky):
    out, _, result = leaky
    text = (out / "result.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in result.json"))
    assert Result.load(out / "result.json") == result


def test_scores_file_names_records_and_joins_truth(leaky):
    out, plan, result = leaky
    table = pd.read_parquet(out / "scores.parquet")
    assert list(table.columns) == ["record", "member", *[a.name for a in result.attacks]]
    assert (table["member"].to_numpy() == plan.target.records.members).all()


def test_every_attack_has_an_interval_and_every_rate_a_realised_one(leaky):
    _, _, result = leaky
    for attack in result.attacks:
        auc = attack.measure("auc")
        assert auc.low < auc.value < auc.high
        for point in attack.tpr_at_fpr:
            if point.resolvable:
                assert point.realised_fpr.value <= point.fpr
                assert point.tpr.low <= point.tpr.value <= point.tpr.high
        finest = next(p for p in attack.tpr_at_fpr if p.fpr == 0.001)
        assert not finest.resolvable  # 700 non-members
        assert "not resolvable with 700 non-members" in finest.reason
        assert finest.tpr is None


def test_subgroups_and_most_exposed_are_listed_without_values(leaky):
    _, plan, result = leaky
    assert {e.column for e in result.exposures} == {"class", "ward", "a"}
    assert sum(e.members for e in result.exposures if e.column == "ward") == 700
    members = np.flatnonzero(plan.target.records.members)
    assert all(entry["record"] in members and "values" not in entry for entry in result.most_exposed)
    scores = [entry["score"] for entry in result.most_exposed]
    assert scores == sorted(scores, reverse=True)


def test_values_are_shown_when_asked_for(tmp_path):
    _, result = play(make_target(n=100), tmp_path, reveal_records=True, num_shadows=4)
    assert set(result.most_exposed[0]["values"]) == {"a", "b", "c", "d", "e", "f", "ward"}


def test_same_seed_same_scores_and_a_resumed_run_equals_it(leaky, tmp_path):
    out, _, _ = leaky
    play(make_target(), tmp_path)
    assert (tmp_path / "scores.parquet").read_bytes() == (out / "scores.parquet").read_bytes()
    play(make_target(), tmp_path)
    assert (tmp_path / "scores.parquet").read_bytes() == (out / "scores.parquet").read_bytes()


def test_a_model_that_never_saw_them_is_not_accused(tmp_path):
    _, result = play(make_target(leak=False), tmp_path)
    assert result.verdict.level in ("inconclusive", "not_found")
    assert "not fair" not in result.verdict.headline


def test_members_from_another_source_make_the_audit_inconclusive(tmp_path):
    _, result = play(make_target(shift=1.5), tmp_path)
    assert result.verdict.level == "inconclusive"
    assert "not fair" in result.verdict.headline
    assert next(c for c in result.checks if c.name == "blind_baseline").passed is False


def test_shadow_splits_that_know_the_truth_are_noticed(tmp_path):
    target = make_target()
    logits = np.stack([target.logits] * 4)
    told = np.stack([target.records.members, ~target.records.members] * 2)
    known = lp.Target.from_predictions(
        target.logits, target.records.y, target.records.members, shadow_predictions=logits, shadow_members=told
    )
    _, result = play(known, tmp_path)
    assert next(c for c in result.checks if c.name == "independence").passed is False
    assert result.verdict.level == "inconclusive"


@pytest.mark.parametrize("workers", [1])
def test_null_audit_finds_members_that_are_harder_by_themselves(workers, tmp_path):
    """Labels of the members are noise, those of the others are not: easy records look like members to every model."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1200, 4))
    y = (X[:, 0] > 0).astype(int)
    members = np.arange(1200) % 2 == 0
    y[members] = rng.integers(2, size=600)
    model = RandomForestClassifier(20, random_state=0).fit(X[members], y[members])
    _, result = play(lp.Target(model, lp.Records(X, y, members)), tmp_path, workers=workers)
    assert next(c for c in result.checks if c.name == "null_audit").passed is False
    assert result.verdict.level == "inconclusive"


def test_predictions_alone_are_audited_without_shadow_models(tmp_path):
    target = make_target()
    known = lp.Target.from_predictions(np.exp(target.logits), target.records.y, target.records.members)
    _, result = play(known, tmp_path, num_shadows=16)
    assert result.attack("population").status == "ok"
    assert result.attack("rmia").status == "skipped"
    assert "needs shadow models" in result.attack("rmia").reason


def test_what_the_threat_model_does_not_admit_is_listed_with_the_reason(tmp_path):
    _, result = play(make_target(n=100), tmp_path, threat={"access": "labels"}, attacks=["gap", "lira"])
    assert result.attack("gap").status == "ok"
    assert "access: labels" in result.attack("lira").reason
    _, result = play(make_target(n=100), tmp_path, threat={"knowledge": ["labels", "recipe"]}, num_shadows=4)
    assert result.attack("lira_offline").status == "ok"
    assert "candidates" in result.attack("lira").reason


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"attacks": ["lyra"]}, "did you mean lira"),
        ({"attacks": "lira"}, "give a list"),
        ({"attacks": []}, "give a list"),
        ({"attacks": ["lira"], "threat": {"access": "labels"}}, "admits none"),
        ({"attack_options": {"lira": {"x": 1}}}, "its options are"),
        ({"attack_options": {"nix": {}}}, "not one of the attacks"),
        ({"num_shadows": -1}, "at least 0"),
        ({"num_shadows": 2.5}, "integer"),
        ({"fprs": [2.0]}, "between 0 and 1"),
        ({"headline_fpr": 0.0}, "between 0 and 1"),
        ({"confidence": 95}, "0.95"),
        ({"seed": -3}, "at least 0"),
        ({"workers": 0}, "at least 1"),
        ({"shadow_size": "big"}, "half or target"),
        ({"threat": {"acess": "labels"}}, "not a line of a threat model"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(options, words, tmp_path):
    out = tmp_path / "audit"
    with pytest.raises(lp.InputError, match=words):
        membership.prepare(make_target(n=50), out=out, **options)
    assert not out.exists()


def test_odd_populations_and_unequal_sides_work(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(201, 3)), rng.integers(3, size=201)
    members = np.arange(201) < 60
    model = RandomForestClassifier(10, random_state=0).fit(X[members], y[members])
    _, result = play(lp.Target(model, lp.Records(X, y, members)), tmp_path, num_shadows=5)
    assert all(attack.status == "ok" for attack in result.attacks)


def null_auc_covered(seed: int) -> bool:
    """Play a leak-free game on simulated models and return whether the interval of RMIA's AUC covers 0.5."""
    rng = np.random.default_rng(seed)
    n, k = 400, 8
    y = rng.integers(2, size=n)
    difficulty = rng.normal(size=n)
    members = rng.random(n) < 0.5
    inside = rng.random((k, n)) < 0.5

    def logits(raise_by):
        z = rng.normal(size=(n, 2))
        z[np.arange(n), y] += difficulty + raise_by
        return z

    target = lp.Target.from_predictions(
        logits(0), y, members, shadow_predictions=np.stack([logits(row) for row in inside]), shadow_members=inside
    )
    plan = membership.prepare(target, attacks=["rmia"])
    view = membership.observe(plan, membership.train(plan))
    scores = membership.attack(plan, view)["rmia"].scores.values
    _, low, high = lp.measures.auc_interval(scores[~np.isnan(scores)], members[~np.isnan(scores)])
    return low <= 0.5 <= high


def test_null_target_interval_covers_one_half():
    """Of 40 leak-free audits 95 % should cover; fewer than 34 happens once in 300 times."""
    assert sum(null_auc_covered(seed) for seed in range(40)) >= 34


@pytest.mark.slow
def test_null_target_interval_covers_one_half_full_count():
    """Of 1,000 leak-free audits 95 % should cover, give or take three standard errors."""
    covered = sum(null_auc_covered(seed) for seed in range(1000))
    assert abs(covered / 1000 - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 1000)


def test_a_group_that_every_model_finds_easy_is_not_called_exposed(tmp_path):
    """No leak, one easy and one hard ward: a threshold for all would find members in the easy one alone."""
    rng = np.random.default_rng(0)
    n = 2000
    easy = rng.random(n) < 0.5
    X = np.column_stack([rng.normal(size=n), easy])
    y = np.where(easy, X[:, 0] > 0, rng.random(n) < 0.5).astype(int)
    members = rng.random(n) < 0.5
    groups = pd.DataFrame({"ward": np.where(easy, "easy", "hard")})
    # fitted on everyone, it treats members and non-members alike
    model = RandomForestClassifier(30, min_samples_leaf=5, random_state=0).fit(X, y)
    target = lp.Target(model, lp.Records(X, y, members, groups=groups), sensitive=["ward"])
    _, result = play(target, tmp_path, attacks=["population"], num_shadows=0, headline_fpr=0.05)
    wards = {e.group: e for e in result.exposures if e.column == "ward"}
    assert set(wards) == {"easy", "hard"}
    for ward in wards.values():
        assert ward.tpr.low <= 0.05


def test_an_attack_that_says_yes_or_no_is_judged_at_its_own_rate(tmp_path):
    _, result = play(make_target(), tmp_path, threat={"access": "labels"}, attacks=["gap"])
    assert result.verdict.level == "demonstrated"
    assert "the least that this attack can do" in result.verdict.sentence
    assert result.verdict.values["fpr_realised"] == pytest.approx(result.target.test_accuracy)
    assert "cannot accuse fewer than" in plots.roc(result).reading
    assert next(c for c in result.checks if c.name == "ties").passed
    _, nothing = play(make_target(leak=False), tmp_path / "n", threat={"access": "labels"}, attacks=["gap"])
    assert nothing.verdict.level in ("inconclusive", "not_found")


@pytest.mark.parametrize(
    ("column", "names"),
    [
        (np.arange(1930, 1970), ["up to 1939", "1940 to 1949", "1950 to 1959", "1960 and over"]),
        (100_000 + np.arange(40), ["up to 100009", "100010 to 100019", "100020 to 100029", "100030 and over"]),
        (np.r_[np.zeros(31), np.arange(1, 10)], ["all values"]),
    ],
)
def test_quarters_have_names_of_their_own(column, names):
    rows = len(column)
    members = np.arange(rows) % 2 == 0
    frame = pd.DataFrame({"x": column})
    known = lp.Target.from_predictions(
        np.full((rows, 2), 0.5), np.zeros(rows, dtype=int), members, groups=frame, sensitive=["x"]
    )
    table = dict(exposure.subgroups(known))["x"]
    assert [name for name, _ in table] == names
    assert sum(rows.sum() for _, rows in table) == rows


def test_one_attack_that_breaks_does_not_lose_the_others(tmp_path, monkeypatch):
    from leakpro_nb.attacks.membership import Rmia

    monkeypatch.setattr(Rmia, "run", lambda self, view: 1 / 0)
    _, result = play(make_target(n=100), tmp_path, num_shadows=4)
    assert result.attack("rmia").status == "failed"
    assert "ZeroDivisionError" in result.attack("rmia").reason
    assert result.attack("lira").status == "ok"


def test_texts_as_records_are_audited_without_a_blind_baseline(tmp_path):
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    rng = np.random.default_rng(0)
    words = np.array(["fever", "cough", "rash", "pain", "rest"])
    X = np.array([" ".join(rng.choice(words, 4)) for _ in range(200)], dtype=object)
    y, members = rng.integers(2, size=200), np.arange(200) % 2 == 0
    model = make_pipeline(CountVectorizer(), MultinomialNB()).fit(X[members], y[members])
    _, result = play(lp.Target(model, lp.Records(X, y, members)), tmp_path, num_shadows=4)
    assert next(c for c in result.checks if c.name == "blind_baseline").passed is None


def test_the_rate_that_decides_is_always_reported(tmp_path):
    _, result = play(make_target(n=100), tmp_path, attacks=["population"], headline_fpr=0.05, fprs=[0.1])
    assert [point.fpr for point in result.attacks[0].tpr_at_fpr] == [0.1, 0.05]


def test_attacks_that_all_need_shadow_models_are_refused_where_there_are_none(tmp_path):
    target = make_target(n=100)
    known = lp.Target.from_predictions(target.logits, target.records.y, target.records.members)
    with pytest.raises(lp.InputError, match="all of them need shadow models"):
        membership.prepare(known, attacks=["lira", "rmia"], out=tmp_path)
