"""The range audit from target to result, on small models."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from torch import nn

import leakpro_nb as lp
from leakpro_nb.audits import range_membership, validity
from leakpro_nb.errors import InputError
from leakpro_nb.measures import belief_gain
from leakpro_nb.plots import range_membership as figures
from leakpro_nb.plots.range_membership import DISTANCE, KIND
from leakpro_nb.results import Result
from leakpro_nb.risk import Finding, verdict
from leakpro_nb.story import range_membership as words


def make_target(*, leak: bool = True, n: int = 700, seed: int = 0) -> lp.Target:
    """Return a forest that memorises noise, or (leak=False) one that never saw the alleged members."""
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(2 * n, 4)), rng.integers(2, size=2 * n)
    members = np.zeros(2 * n, dtype=bool)
    members[rng.permutation(2 * n)[:n]] = True
    model = RandomForestClassifier(30, random_state=0)
    if leak:
        model.fit(X[members], y[members])
    else:
        model.fit(rng.normal(size=(n, 4)), rng.integers(2, size=n))
    frame = pd.DataFrame(X, columns=list("abcd")).assign(ward=rng.choice(["north", "south"], 2 * n))
    return lp.Target(
        model, lp.Records(X, y, members, groups=frame), sensitive=["ward", "a"], name="toy", subjects="patients"
    )


def play(target, out, **options):
    given = {"num_shadows": 8, "workers": 1, "num_ranges": 600, "num_samples": 6, **options}
    plan = range_membership.prepare(target, out=out, **given)
    shadows = range_membership.train(plan, progress=False)
    view = range_membership.observe(plan, shadows)
    outcomes = range_membership.attack(plan, view)
    result = range_membership.measure(plan, view, shadows, outcomes)
    range_membership.save(plan, result, outcomes)
    return plan, result, view


@pytest.fixture(scope="module")
def leaky(tmp_path_factory):
    out = tmp_path_factory.mktemp("leaky")
    return (out, *play(make_target(), out))


def test_a_memorising_model_is_found_out(leaky):
    _, plan, result, _ = leaky
    assert result.verdict.level == "demonstrated"
    assert [attack.name for attack in result.attacks] == ["base_offline", "base_offline_centre", "base", "base_centre"]
    assert all(attack.status == "ok" for attack in result.attacks)
    assert result.attack("base").measure("auc").low > 0.6
    assert all(check.passed is not False for check in result.checks if check.name in validity.GATES)
    assert result.target.members == result.target.non_members == plan.truth.sum()


def test_range_scores_are_what_is_reported(leaky):
    out, plan, result, view = leaky
    scores = pd.read_parquet(out / "scores.parquet")
    attack = plan.game.attacks["base_offline"]
    k, direction = (result.attack("base_offline").parameters[name] for name in ("k", "direction"))
    points = attack.points(view)
    ordered = np.sort(points, axis=1)
    ours = ordered[:, -k:].mean(axis=1) if direction == "largest" else ordered[:, :k].mean(axis=1)
    np.testing.assert_allclose(scores["base_offline"], ours)
    compared = result.attack("base_offline").parameters["AUC for comparison"]
    assert compared["the centre alone"] == pytest.approx(
        result.attack("base_offline_centre").measure("auc").value, abs=1e-4
    )
    assert compared["single points"] < result.attack("base_offline").measure("auc").value


def test_truth_is_whether_any_training_record_is_in_the_range(leaky):
    """Recomputed from the centres by hand."""
    _, plan, _, view = leaky
    ranges, records = plan.ranges, plan.target.records
    scale, radius = records.X.std(axis=0), ranges.sampler.radius
    distance = np.linalg.norm((ranges.centres[:, None] - records.X[None]) / scale, axis=2)
    near = distance <= radius * (1 + 1e-9)
    assert np.array_equal(plan.truth, near[:, records.members].any(axis=1))
    assert not (near[:, records.members].any(axis=1) & near[:, ~records.members].any(axis=1)).any()
    np.testing.assert_allclose(ranges.distance, distance[:, records.members].min(axis=1) / radius, atol=1e-6)
    shadows = range_membership.train(plan, progress=False)
    for k in (0, 3):
        assert np.array_equal(view.references.trained_on[k], near[:, shadows.trained_on[k]].any(axis=1))


def test_every_kind_of_range_is_what_it_is_called(leaky):
    _, plan, _, _ = leaky
    kind, distance, members = plan.ranges.kind, plan.ranges.distance, plan.target.records.members[plan.ranges.anchors]
    assert (distance[kind == "on_member"] == 0).all()
    assert ((distance[kind == "beside_member"] > 0) & (distance[kind == "beside_member"] <= 1)).all()
    assert ((distance[kind == "near_miss"] > 1) & (distance[kind == "near_miss"] <= 1.5)).all()
    assert (distance[kind == "on_other"] > 1).all()
    assert members[np.isin(kind, ["on_member", "beside_member"])].all()
    assert not members[np.isin(kind, ["near_miss", "on_other"])].any()
    assert len(set(plan.ranges.anchors)) == len(plan.ranges)
    for each in range_membership.KINDS:
        assert (kind == each).sum() >= 50
    assert (kind == "beside_member").sum() == (kind == "near_miss").sum()


def test_exposures_tell_ranges_by_distance_and_kind(leaky):
    _, _, result, _ = leaky
    by_kind = {each.group: each for each in result.exposures if each.column == KIND}
    assert sum(each.members + each.non_members for each in by_kind.values()) == result.attack("base").records_scored
    assert by_kind[range_membership.KINDS["near_miss"]].members == 0
    bins = [each for each in result.exposures if each.column == DISTANCE]
    assert len(bins) == len(range_membership.BINS)
    assert bins[0].auc is None or bins[0].auc.value > 0.6
    assert {each.column for each in result.exposures} == {KIND, DISTANCE, "class", "ward", "a"}


def test_result_file_is_strict_json_and_equals_the_result(leaky):
    out, _, result, _ = leaky
    json.loads((out / "result.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} in result.json"))
    assert Result.load(out / "result.json") == result
    assert result.template == "range_membership"


def test_every_table_and_figure_can_be_shown(leaky):
    _, plan, result, _ = leaky
    shown = [
        words.target_table(plan), words.ranges_table(plan), words.alike_table(plan), words.plan_of_attack(plan),
        words.attack_table(result), words.tpr_table(result), words.by_kind(result), words.by_distance(result),
        words.summary(result), words.meaning(result), words.advice(result),
    ]  # fmt: skip
    assert all(len(each.data) > 50 for each in shown)
    for picture in (figures.roc(result), figures.distances(result), figures.exposures(result)):
        assert picture.alt
        assert picture.reading.startswith("*How to read it")
        assert picture.svg().startswith("<?xml")


def test_same_seed_same_scores(leaky, tmp_path):
    out, *_ = leaky
    play(make_target(), tmp_path)
    assert (tmp_path / "scores.parquet").read_bytes() == (out / "scores.parquet").read_bytes()


def test_a_model_that_never_saw_them_is_not_accused(tmp_path):
    _, result, _ = play(make_target(leak=False), tmp_path)
    assert result.verdict.level in ("inconclusive", "not_found")
    assert "not fair" not in result.verdict.headline
    for attack in result.attacks:
        auc = attack.measure("auc")
        assert auc.low - 0.03 < 0.5 < auc.high + 0.03  # 99 %, roughly, from a 95 % interval


def test_columns_that_the_attacker_does_not_know(tmp_path):
    rng = np.random.default_rng(0)
    n = 600
    frame = pd.DataFrame(
        {"id": rng.normal(size=n), "sex": rng.choice(["f", "m"], n), "ward": rng.choice(list("abc"), n)}
    )
    y, members = rng.integers(2, size=n), np.arange(n) % 2 == 0
    encode = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["sex", "ward"]), remainder="passthrough")
    model = make_pipeline(encode, RandomForestClassifier(30, random_state=0)).fit(frame[members], y[members])
    target = lp.Target(model, lp.Records(frame, y, members), name="toy")
    plan, result, _ = play(target, tmp_path, sampler="missing", missing=["sex", "ward"], num_ranges=300, num_samples=20)
    assert result.attack("base").parameters["samples per range"] == 6
    assert result.attack("base").measure("auc").low > 0.5
    assert figures.distances(result) is None
    assert "no distances" in words.by_distance(result).data
    assert set(plan.ranges.kind) == {"on_member", "on_other"}
    assert "sex, ward" in plan.range_in_words


def _tiny_image_net() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2))


def test_pictures_are_ranged_by_alterations(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 1, 8, 8)).astype(np.float32), rng.integers(2, size=300)
    members = np.arange(300) % 2 == 0
    recipe = lp.Recipe(_tiny_image_net, epochs=40, lr=5e-3, batch_size=32)
    target = lp.Target(recipe.fit(X[members], y[members], 0), lp.Records(X, y, members), recipe)
    _, result, _ = play(target, tmp_path, num_ranges=200, num_samples=4, num_shadows=4, attacks=["population", "base"])
    assert result.attack("base").measure("auc").low > 0.6
    assert "picture" in result.parameters["range"]
    assert "no distances" in words.by_distance(result).data


def test_an_inconclusive_verdict_speaks_of_ranges():
    finding = Finding("a", "a", 0.01, 0.01, 0.0, 1.0, belief_gain(1, 100, 1, 100))
    decision = verdict([finding], failed_gates=[], fpr=0.01, prior=0.5, level=0.95)
    said = range_membership._about_ranges(decision, None).sentence
    assert "so few ranges" in said
    assert "ranges with somebody from the training data inside" in said
    assert "record" not in said


def test_an_attack_that_says_yes_or_no_is_quoted_at_its_own_false_alarms():
    finding = Finding("gap", "Gap", 0.5, 0.9, 0.85, 0.94, belief_gain(900, 1000, 500, 1000))
    decision = verdict([finding], failed_gates=[], fpr=0.01, prior=0.5, level=0.95)
    assert decision.level in ("demonstrated", "limited")
    plan = SimpleNamespace(game=SimpleNamespace(headline_fpr=0.01, confidence=0.95), threat=SimpleNamespace(prior=0.5))
    said = range_membership._about_ranges(decision, plan).sentence
    assert "wrong about 50 % of the ranges with nobody inside" in said
    assert "one false alarm in 100" not in said


def refuse(act, match):
    with pytest.raises(InputError, match=match):
        act()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"radius": 0}, "use a positive number"),
        ({"radius": -2.0}, "use a positive number"),
        ({"radius": 50.0}, "nearly every range holds members and non-members alike"),
        ({"sampler": "circle"}, "use auto, ball, missing or images"),
        ({"sampler": "missing"}, "name at least one column"),
        ({"sampler": "missing", "missing": ["age"]}, "the columns have no names"),
        ({"sampler": "missing", "missing": [2], "radius": 1.0}, "has no radius"),
        ({"sampler": "ball", "missing": [2]}, "use it with sampler missing"),
        ({"sampler": "images"}, "no picture"),
        ({"num_ranges": 3}, "at least 20"),
        ({"num_samples": 0}, "at least 1"),
        ({"aggregate": "median"}, "use one of trimmed"),
        ({"attacks": ["bass"]}, "did you mean base"),
        ({"attacks": []}, "give a list of names"),
        ({"headline_fpr": 0.0}, "between 0 and 1"),
    ],
)
def test_bad_input_is_named_before_anything_starts(options, match, tmp_path):
    target = make_target(n=60)
    refuse(lambda: range_membership.prepare(target, out=tmp_path / "out", **options), match)
    assert not (tmp_path / "out").exists()


def test_a_table_of_predictions_is_refused(tmp_path):
    target = make_target(n=60)
    table = lp.Target.from_predictions(target.logits, target.records.y, target.records.members)
    refuse(lambda: range_membership.prepare(table, out=tmp_path), "asking the model about points")


def test_unknown_column_of_a_frame(tmp_path):
    rng = np.random.default_rng(0)
    frame, y = pd.DataFrame(rng.normal(size=(100, 3)), columns=list("abc")), rng.integers(2, size=100)
    members = np.arange(100) % 2 == 0
    model = RandomForestClassifier(5).fit(frame[members], y[members])
    target = lp.Target(model, lp.Records(frame, y, members))
    refuse(
        lambda: range_membership.prepare(target, out=tmp_path, sampler="missing", missing=["age"]),
        "not a column of the records; they have a, b, c",
    )


TARGET = """\
import numpy as np
from sklearn.ensemble import RandomForestClassifier
import leakpro_nb as lp

def target():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(800, 4)), rng.integers(2, size=800)
    members = np.arange(800) % 2 == 0
    model = RandomForestClassifier(20, random_state=0).fit(X[members], y[members])
    return lp.Target(model, lp.Records(X, y, members), name="toy")
"""


@pytest.mark.slow
def test_the_template_runs_from_its_input_to_its_report(tmp_path):
    (tmp_path / "target.py").write_text(TARGET)
    audit = lp.audit(
        str(tmp_path / "target.py"), template="range_membership", out=tmp_path / "out", num_shadows=4, num_ranges=300,
        num_samples=4, workers=1, progress=False,
    )  # fmt: skip
    assert audit.result.template == "range_membership"
    assert audit.result.verdict.level == "demonstrated"
    assert (tmp_path / "out" / "report.pdf").stat().st_size > 10_000
