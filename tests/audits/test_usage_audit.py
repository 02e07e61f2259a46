"""The usage audit from target to result, on small models."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import leakpro_nb as lp
from leakpro_nb.audits import dataset_usage
from leakpro_nb.errors import InputError
from leakpro_nb.game.views import References
from leakpro_nb.plots import dataset_usage as plots
from leakpro_nb.results import Interval, Result
from leakpro_nb.risk.usage import NEGLIGIBLE, UsageFinding, usage_verdict
from leakpro_nb.shadows import train_shadows
from leakpro_nb.story import dataset_usage as words

COLLECTION, POPULATION = 800, 400
HALF = (COLLECTION + POPULATION) // 2


def _net() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 4))


def make_target(used: dict[str, float], *, known: bool = True, seed: int = 0, population: bool = True) -> lp.Target:
    """Return a network trained on the given shares of three wards' records, and on others to the same size."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    n = COLLECTION + POPULATION
    X = rng.normal(size=(n + HALF, 12)).astype(np.float32)
    y = np.where(rng.random(len(X)) < 0.4, rng.integers(4, size=len(X)), (X[:, 0] > 0) * 2 + (X[:, 1] > 0))
    ward = np.array(["north", "south"])[np.arange(n) % 2]
    members = np.zeros(n, dtype=bool)
    for name, share in used.items():
        rows = np.flatnonzero((ward == name) & (np.arange(n) < COLLECTION))
        members[rows[: round(share * len(rows))]] = True
    fill = n + np.arange(HALF - members.sum())
    recipe = lp.Recipe(_net, lr=1e-2, epochs=50, batch_size=64)
    rows = np.r_[np.flatnonzero(members), fill]
    model = recipe.fit(X[rows], y[rows], seed=seed)
    records = lp.Records(
        X[:n], y[:n], members if known else None, np.arange(n) >= COLLECTION if population else None,
        pd.DataFrame({"ward": ward, "age": rng.integers(20, 90, n)}),
    )  # fmt: skip
    return lp.Target(model, records, recipe, sensitive=["ward"], name="toy")


def run(target, out, **options):
    plan = dataset_usage.prepare(target, out=out, **{"num_shadows": 8, "workers": 1, **options})
    shadows = dataset_usage.train(plan, progress=False)
    view = dataset_usage.observe(plan, shadows)
    estimates = dataset_usage.estimate(plan, view)
    result = dataset_usage.measure(plan, view, shadows, estimates)
    dataset_usage.save(plan, result)
    return plan, result


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Return an audit of a model that used nine tenths of one ward and nothing of the other."""
    out = tmp_path_factory.mktemp("mixed")
    return (out, *run(make_target({"north": 0.9}), out))


def used(result, group=None):
    if group is None:
        return result.attacks[0].measure("usage")
    return next(part.usage for part in result.exposures if part.group == group)


def test_shares_of_whole_and_parts_are_found(mixed):
    _, _, result = mixed
    for group, true in ((None, 0.45), ("north", 0.9), ("south", 0.0)):
        interval = used(result, group)
        assert interval.low <= true <= interval.high
        assert abs(interval.value - true) < 0.12
    assert used(result, "north").low > NEGLIGIBLE
    assert used(result, "north").value > used(result, "south").value + 0.5
    assert result.verdict.level == "demonstrated"
    assert used(result).level == pytest.approx(1 - 0.05 / 3)
    assert all(check.passed is not False for check in result.checks if check.name in dataset_usage.GATES)


def test_the_result_is_strict_json_and_is_read_back(mixed):
    out, _, result = mixed
    json.loads((out / "result.json").read_text(), parse_constant=pytest.fail)
    assert Result.load(out / "result.json") == result


def test_the_ladder_stands_on_known_shares(mixed):
    _, _, result = mixed
    rungs = result.extras["ladder"]
    assert [rung["true"] for rung in rungs] == list(dataset_usage.RUNGS)
    assert all(rung["plays"] == 8 and abs(rung["mean"] - rung["true"]) < 0.1 for rung in rungs)


def test_membership_is_never_used(mixed, tmp_path):
    """The same figures come out when nobody says who the members are, and the report says less."""
    _, _, told = mixed
    _, result = run(make_target({"north": 0.9}, known=False), tmp_path)
    assert used(result) == used(told)
    assert used(result, "north") == used(told, "north")
    assert result.target.members is None
    assert result.extras["true_share"] == {}
    assert result.exposures[0].members is None
    assert {check.name for check in told.checks} - {check.name for check in result.checks} == {"independence", "truth"}


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_none_and_all(share, tmp_path):
    target = make_target({"north": share * 0.75, "south": share * 0.75}, seed=3)
    if share:  # keep only records that were used, so that all of the collection was
        keep = target.records.members | target.records.population
        old = target.records
        records = lp.Records(old.X[keep], old.y[keep], old.members[keep], old.population[keep])
        target = dataclasses.replace(target, records=records, sensitive=())
    _, result = run(target, tmp_path)
    interval = used(result)
    assert interval.low <= share <= interval.high
    assert (result.verdict.level == "demonstrated") == bool(share)
    json.dumps(result.model_dump(mode="json"), allow_nan=False)


def test_predictions_only_with_those_of_shadow_models(mixed, tmp_path):
    _, plan, whole = mixed
    target = plan.target
    shadows = train_shadows(target, 8, seed=0, workers=1, progress=False)
    stored = lp.Target(
        target.logits,
        lp.Records(np.zeros((len(target.records), 0)), target.records.y, None, target.records.population, target.records.groups),
        shadows=References(shadows.logits, shadows.trained_on, shadows.pair),
        outputs="logits",
    )  # fmt: skip
    _, result = run(stored, tmp_path, subsets="ward")
    np.testing.assert_allclose(used(result).value, used(whole).value, atol=1e-6)
    one_pair = dataclasses.replace(stored, shadows=stored.shadows.select(np.arange(3), slice(None)))
    with pytest.raises(InputError, match="1 complementary pairs among 3"):
        dataset_usage.prepare(one_pair, out=tmp_path)
    with pytest.raises(InputError, match="four or more shadow models"):
        dataset_usage.prepare(dataclasses.replace(stored, shadows=None), out=tmp_path)


def test_a_model_that_hides_its_records_gives_no_figure(tmp_path):
    target = make_target({"north": 0.5}, seed=1)
    quiet = dataclasses.replace(target.recipe, epochs=1, lr=1e-4)
    rows = np.flatnonzero(target.records.members)
    model = quiet.fit(target.records.X[rows], target.records.y[rows], seed=0)
    _, result = run(dataclasses.replace(target, model=model, recipe=quiet), tmp_path)
    assert result.attacks[0].status == "skipped"
    assert result.verdict.level == "inconclusive"
    assert "too weak to count" in result.verdict.sentence
    assert plots.shares(result) is None
    assert plots.ladder(result) is None
    for part in (words.summary, words.share_table, words.part_table, words.meaning, words.advice):
        assert part(result) is not None


def test_a_population_that_was_used_after_all_is_noticed(tmp_path):
    target = make_target({"north": 0.0}, known=False, seed=2)
    rows = np.flatnonzero(target.records.population)
    model = target.recipe.fit(target.records.X[rows], target.records.y[rows], seed=0)
    _, result = run(dataclasses.replace(target, model=model), tmp_path)
    assert next(check for check in result.checks if check.name == "population").passed is False
    assert result.verdict.level == "inconclusive"
    assert "cannot be trusted" in result.verdict.headline


def test_without_population_the_report_says_what_is_missing(tmp_path):
    _, result = run(make_target({"north": 0.5}, population=False), tmp_path, num_shadows=4)
    outcome = {check.name: check.passed for check in result.checks}
    assert outcome["population"] is None
    assert outcome["ladder"] is None


def test_report_parts_name_every_part_and_carry_words(mixed):
    _, plan, result = mixed
    assert "ward north" in words.share_table(result).data
    assert "not known" not in words.target_table(plan).data
    for picture in (plots.shares(result), plots.ladder(result)):
        assert picture.alt.endswith(".")
        assert picture.reading.startswith("*How to read it")
        assert picture.svg() == picture.svg()


@pytest.mark.parametrize(
    ("options", "words_of_refusal"),
    [
        ({"subsets": "hospital"}, "not a column of the records"),
        ({"subsets": ["ward", "nothing"]}, "not a column of the records"),
        ({"num_shadows": 2}, "at least 4"),
        ({"num_shadows": 7}, "even number"),
        ({"score": "magic"}, "lira, rmia or base"),
        ({"confidence": 1.0}, "level from 0.5"),
        ({"threat": {"access": "labels"}}, "cannot ask this question"),
        ({"threat": {"knowledge": ["labels"]}}, "cannot ask this question"),
    ],
    ids=str,
)
def test_bad_input_is_refused_before_anything_is_written(mixed, tmp_path, options, words_of_refusal):
    _, plan, _ = mixed
    with pytest.raises(InputError, match=words_of_refusal):
        dataset_usage.prepare(plan.target, out=tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_numbers_are_cut_into_quarters_and_tiny_parts_left_out(mixed, tmp_path):
    _, plan, _ = mixed
    assert len(dataset_usage.prepare(plan.target, out=tmp_path, subsets="age").parts) == 4
    groups = plan.target.records.groups.assign(rare=np.where(np.arange(1200) < 20, "few", "many"))
    target = dataclasses.replace(plan.target, records=dataclasses.replace(plan.target.records, groups=groups))
    _, result = run(target, tmp_path, subsets="rare", num_shadows=6)
    assert used(result, "few") is None
    assert "20 records" in result.extras["refused"]["rare few"]


def finding(low, high, name=""):
    return UsageFinding(name, 100, Interval(value=(low + high) / 2, low=low, high=high))


@pytest.mark.parametrize(
    ("findings", "options", "level"),
    [
        ([finding(0.2, 0.4)], {}, "demonstrated"),
        ([finding(0.0, 0.3), finding(0.5, 0.9, "ward north")], {}, "demonstrated"),
        ([finding(0.01, 0.1)], {}, "limited"),
        ([finding(0.0, 0.04)], {}, "not_found"),
        ([finding(0.0, 0.04), finding(0.0, 0.3, "ward north")], {}, "inconclusive"),
        ([finding(0.0, 0.04)], {"failed_checks": ["x"]}, "inconclusive"),
        ([finding(0.2, 0.4)], {"failed_checks": ["x"]}, "demonstrated"),
        ([finding(0.2, 0.4)], {"failed_gates": ["x"]}, "inconclusive"),
        ([], {"refusal": "too weak"}, "inconclusive"),
        ([finding(NEGLIGIBLE, 0.4)], {}, "limited"),
    ],
)
def test_verdicts(findings, options, level):
    decision = usage_verdict(findings, **{"failed_gates": [], **options})
    assert decision.level == level
    assert decision.rule
    if findings and findings[-1].name and level == "demonstrated":
        assert decision.values["part"] == "ward north"


@pytest.mark.slow
def test_the_template_runs_to_a_report_on_records_whose_use_nobody_knows(tmp_path):
    from leakpro_nb.notebooks import audit

    source = (
        (Path(lp.__path__[0]) / "demo" / "dataset_usage.py")
        .read_text(encoding="utf-8")
        .replace("epochs=30", "epochs=8")
        .replace("PATIENTS = 2000", "PATIENTS = 600")
        .replace("members=used[known],", "")
    )
    (tmp_path / "target.py").write_text(source, encoding="utf-8")
    done = audit(tmp_path / "target.py", template="dataset_usage", out=tmp_path, num_shadows=6, progress=False)
    assert done.result.template == "dataset_usage"
    assert done.result.target.members is None
    assert all(path.stat().st_size > 10_000 for path in done.reports)
    assert not any("INCOMPLETE" in path.name for path in done.reports)
