"""Predicates counted exactly, and singling out: brute force, constructed cases, and the reference tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leakpro_nb.attacks.synthetic import predicates as module
from leakpro_nb.attacks.synthetic.predicates import Predicates, rank, written
from leakpro_nb.attacks.synthetic.singling_out import alone_in_sample, single_out
from leakpro_nb.errors import InputError
from leakpro_nb.game.tables import encode
from leakpro_nb.measures.residual import residual_risk

CASES = Path(__file__).parents[4] / "shared" / "cases" / "synthetic"
reference = pytest.mark.skipif(not CASES.exists(), reason="the reference cases are not at hand")
WAYS = ("univariate", "multivariate", "trees")


def people(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 90, n).astype(float),
            "income": np.round(rng.lognormal(10, 1, n)),
            "city": rng.choice(["Lund", "Malmö", "Ystad", 'O\'Hara "x"'], n),
            "seen": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 3000, n), unit="D"),
            "ill": rng.random(n) < 0.3,
        }
    )
    frame.loc[rng.random(n) < 0.1, "age"] = np.nan
    return frame


def risk(contest):
    a, c = contest.attack, contest.control
    return residual_risk(a.success, c.success, attack_record=a.record, control_record=c.record)


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 700])
@pytest.mark.parametrize("bytes_at_once", [64_000_000, 1])
def test_counts_are_those_of_brute_force(rows, bytes_at_once, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", bytes_at_once)
    rng = np.random.default_rng(rows)
    (table,) = rank(*encode(people(rows, 0)))
    p = table.ranks.shape[1]
    column = rng.integers(-1, p, (150, 3))
    low = rng.integers(0, 4, (150, 3))
    high = low + rng.integers(-1, 300, (150, 3))
    found = table.count(Predicates(column, low, high))
    inside = np.ones((150, rows), dtype=bool)
    for j in range(3):
        values = table.ranks[:, column[:, j]].T
        inside &= ((values >= low[:, [j]]) & (values <= high[:, [j]])) | (column[:, [j]] < 0)
    np.testing.assert_array_equal(found.rows, inside.sum(axis=1))
    single = found.rows == 1
    np.testing.assert_array_equal(found.only[single], inside[single].argmax(axis=1))
    assert (found.only[~single] == -1).all()


def test_counting_without_the_newer_numpy_is_the_same(monkeypatch):
    bits = np.random.default_rng(0).integers(0, 2**63, (20, 7), dtype=np.uint64)
    expected = module.popcount(bits)
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    np.testing.assert_array_equal(module.popcount(bits), expected)


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        (("age", ">=", 40), [2]),
        (("age", "<=", 30), [0, 3]),
        (("age", "==", 35), []),
        (("age", "isna", None), [1]),
        (("city", "==", 'O\'Hara "x"'), [1]),
        (("city", "==", "Atlantis"), []),
        (("city", "isna", None), [3]),
        (("ill", "==", True), [0, 2]),
        (("ill", "isna", None), []),
    ],
    ids=str,
)
def test_written_conditions_mean_what_they_say(condition, rows):
    frame = pd.DataFrame(
        {"age": [30, None, 41, 29], "city": ["Lund", 'O\'Hara "x"', "Lund", None], "ill": [True, False, True, False]}
    )
    tables = encode(frame, pd.DataFrame({"age": [35.5], "city": ["Malmö"], "ill": [True]}))
    counted = rank(*tables)[0].count(written([condition], *tables))
    assert counted.rows.tolist() == [len(rows)]
    assert counted.only.tolist() == (rows if len(rows) == 1 else [-1])


def test_chance_to_be_alone_in_a_sample_is_exact():
    rng = np.random.default_rng(0)
    for matches in (1, 3, 20):
        draws = [(rng.permutation(60)[:25] < matches).sum() == 1 for _ in range(4000)]
        assert alone_in_sample(np.array([matches]), 60, 25)[0] == pytest.approx(np.mean(draws), abs=0.03)
    assert alone_in_sample(np.array([0, 1, 2]), 10, 10).tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_singles_out_everyone_and_a_stranger_nobody_more(way):
    o, s, c = encode(people(600, 0), people(600, 0), people(600, 1))
    assert single_out(o, s, c, way=way, queries=300, columns=3).attack.rate == 1.0
    o, s, c = encode(people(600, 0), people(600, 2), people(600, 1))
    found = risk(single_out(o, s, c, way=way, queries=300, columns=3))
    assert found.low <= 0 <= found.high


@pytest.mark.parametrize("way", ["univariate", "multivariate"])
def test_leak_free_tables_read_nothing_in_most_cases(way):
    inside = []
    for seed in range(40):
        o, s, c = encode(people(300, 3 * seed), people(300, 3 * seed + 1), people(300, 3 * seed + 2))
        found = risk(single_out(o, s, c, way=way, queries=150, columns=3, max_attempts=2_000, seed=seed))
        inside.append(found.low <= 0 <= found.high)
    assert np.mean(inside) >= 0.85


def test_a_smaller_control_raises_no_false_alarm():
    """One peer scales the control's successes by its size: a table without leak reads up to .13 there."""
    found = []
    for seed in range(10):
        o, s, c = encode(people(1200, 3 * seed), people(1200, 3 * seed + 1), people(300, 3 * seed + 2))
        contest = single_out(o, s, c, columns=3, queries=400, seed=seed)
        assert contest.notes["compared at"] == 300
        found.append(risk(contest).value)
    assert abs(np.mean(found)) < 0.03


def test_the_rate_does_not_fall_when_more_is_asked_for():
    """One peer divides by the predicates asked for, not by those that exist."""
    table = people(60, 0)
    o, s, c = encode(table, table, people(60, 1))
    few, many = (single_out(o, s, c, way="univariate", queries=q) for q in (20, 5000))
    assert few.attack.rate == many.attack.rate == 1.0
    assert many.notes["found"] < many.notes["asked"] == 5000


@pytest.mark.parametrize("way", WAYS)
def test_the_same_seed_gives_the_same_predicates(way):
    o, s, c = encode(people(300, 0), people(300, 1), people(300, 2))
    one, again = (single_out(o, s, c, way=way, queries=100, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.attack.success, again.attack.success)
    np.testing.assert_array_equal(one.attack.columns, again.attack.columns)


def test_records_are_those_of_the_table_as_given():
    table = pd.DataFrame({"x": [5, 5, 7, 9], "y": ["a", "a", "b", "c"]})
    o, s = encode(table, table)
    contest = single_out(o, s, way="univariate", queries=50)
    assert set(contest.attack.record[contest.attack.success == 1].tolist()) == {0, 2, 3}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "table",
    [pd.DataFrame({"x": [1.0] * 9, "y": ["a"] * 9}), pd.DataFrame({"x": [np.nan] * 3}), pd.DataFrame({"x": [1]})],
)
def test_odd_tables_have_an_answer(table, way):
    o, s, c = encode(table, table, table)
    contest = single_out(o, s, c, way=way, columns=1, queries=10, max_attempts=100)
    assert len(contest.attack) == contest.notes["found"] <= 4


def test_bad_questions_are_one_clear_sentence():
    (a,) = encode(people(20, 0))
    with pytest.raises(InputError, match="use univariate, multivariate or trees"):
        single_out(a, a, way="forest")
    with pytest.raises(InputError, match="columns = 9: use a number from 1 to 5"):
        single_out(a, a, columns=9)


@reference
def test_reference_predicates_are_counted_exactly():
    cases = json.loads((CASES / "singling_out_predicates.json").read_text())["leak020"]["predicates"]
    frames = [pd.read_parquet(CASES / "ladder" / f"{n}.parquet") for n in ("train", "synthetic_leak020", "control")]
    tables = [table.distinct() for table in encode(*frames)]
    every = [written(case["predicate"], *tables) for case in cases]
    joined = Predicates(*(np.concatenate([getattr(e, f) for e in every]) for f in ("column", "low", "high")))
    for ranked, name in zip(rank(*tables), ("train", "synthetic", "control"), strict=True):
        np.testing.assert_array_equal(ranked.count(joined).rows, [case[f"count_{name}"] for case in cases])


@reference
@pytest.mark.parametrize(
    ("name", "train", "control"), [("leak000", 95, 118), ("leak020", 154, 107), ("leak100", 500, 104)]
)
def test_reference_ladder_is_within_its_band(name, train, control):
    frames = [pd.read_parquet(CASES / "ladder" / f"{n}.parquet") for n in ("train", f"synthetic_{name}", "control")]
    contest = single_out(*encode(*frames), queries=500)
    assert contest.attack.success.sum() == pytest.approx(train, abs=50 if train < 500 else 0)
    assert contest.control.success.sum() == pytest.approx(control, abs=35)
