"""Sanity distances: brute force, constructed cases where the peers are wrong, and the reference tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leakpro_nb.attacks.synthetic.distances import (
    CHECKS,
    WARNING,
    adversarial_accuracy,
    chance_closer,
    copies,
    dcr,
    distance_ratio,
    entropy_weights,
    hits,
    missed,
    new_rows,
    sanity_distances,
)
from leakpro_nb.attacks.synthetic.neighbours import column_distances, near_pairs
from leakpro_nb.errors import InputError
from leakpro_nb.game.tables import Coded, encode
from leakpro_nb.measures.residual import rate

CASES = Path(__file__).parents[4] / "shared" / "cases" / "synthetic"
reference = pytest.mark.skipif(not CASES.exists(), reason="the reference cases are not at hand")


def people(n: int, seed: int, gaps: float = 0.1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 90, n).astype(float),
            "income": np.round(rng.lognormal(10, 1, n)),
            "city": rng.choice(["Lund", "Malmö", "Ystad"], n),
            "street": rng.integers(0, 400, n).astype(str),
            "born": pd.Timestamp("1950-01-01") + pd.to_timedelta(rng.integers(0, 20000, n), unit="D"),
            "ill": rng.random(n) < 0.3,
        }
    )
    for column in ("age", "city"):
        frame.loc[rng.random(n) < gaps, column] = None
    return frame


def cells(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"a": rng.choice(list("xyz"), n), "b": rng.choice(list("xyz"), n)})


def brute(a: Coded, b: Coded) -> np.ndarray:
    query, row = np.divmod(np.arange(len(a) * len(b)), len(b))
    return column_distances(a, b, query, row).reshape(len(a), len(b), -1)


def half(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a < b - 1e-9) + 0.5 * (np.abs(a - b) <= 1e-9)


@pytest.mark.parametrize("frame", [people, cells], ids=["mixed", "cells"])
def test_weighted_neighbours_are_those_of_brute_force(frame):
    a, b = encode(frame(40, 0), frame(150, 1))
    weights = np.random.default_rng(0).random(len(a.columns)) * 3
    full = (brute(a, b) * weights).sum(axis=2)
    for pairs in near_pairs(a, b, k=3, weights=weights):
        for i in range(pairs.queries):
            expected = full[pairs.first + i]
            nearest = np.flatnonzero(expected <= np.sort(expected)[2] + 1e-9)
            np.testing.assert_array_equal(np.sort(pairs.row[pairs.query == i]), nearest)


@pytest.mark.parametrize(("n_one", "n_other"), [(30, 30), (12, 30), (30, 12)])
def test_chance_to_be_closer_is_the_mean_over_random_parts(n_one, n_other):
    rng = np.random.default_rng(0)
    q, one, other = encode(
        people(25, 0).drop(columns="street"),
        *(t.drop(columns=["street", "income"]).assign(income=1.0) for t in (people(n_one, 1), people(n_other, 2))),
    )
    far = brute(q, one).sum(axis=2), brute(q, other).sum(axis=2)
    size = min(n_one, n_other)
    draws = [
        half(*(f[:, rng.permutation(f.shape[1])[:size]].min(axis=1) for f in far))
        for _ in range(1 if n_one == n_other else 3000)
    ]
    np.testing.assert_allclose(chance_closer(q, one, other), np.mean(draws, axis=0), atol=0.04)


@pytest.mark.parametrize("n_other", [20, 40, 90])
def test_nobody_is_their_own_neighbour(n_other):
    rng = np.random.default_rng(0)
    a, b = encode(
        cells(40, 0).assign(x=rng.integers(0, 3, 40)), cells(n_other, 1).assign(x=rng.integers(0, 3, n_other))
    )
    far = brute(a, a).sum(axis=2), brute(a, b).sum(axis=2)
    size, expected = min(39, n_other), np.zeros((40, 800))
    for draw in range(expected.shape[1]):
        others = np.array([rng.permutation(np.delete(np.arange(40), i))[:size] for i in range(40)])
        part = rng.permutation(n_other)[:size]
        expected[:, draw] = half(np.take_along_axis(far[0], others, 1).min(axis=1), far[1][:, part].min(axis=1))
    found = chance_closer(a, a, b, without_self=True)
    np.testing.assert_allclose(found, expected.mean(axis=1), atol=0.08)
    some = np.array([3, 7, 30])
    np.testing.assert_array_equal(chance_closer(a, a, b, without_self=True, asked=some), found[some])


def test_missed_is_the_chance_to_draw_none_of_them():
    rng = np.random.default_rng(0)
    draws = [(rng.permutation(20)[:8] >= 3).all() for _ in range(4000)]
    assert missed(np.array([3]), 20, 8)[0] == pytest.approx(np.mean(draws), abs=0.02)
    np.testing.assert_allclose(missed(np.array([0, 1, 5]), 5, 5), [1, 0, 0])


def test_a_copy_of_a_small_domain_does_not_read_as_protected():
    """One peer scores 1.0, fully protected, where the release is the original: ties count as safe there."""
    original, control = cells(900, 0), cells(900, 1)
    found = sanity_distances(*encode(original, original, control))
    assert found["closer"].attack.rate == pytest.approx(0.5)
    assert found["closer"].notes["tied"] == 1.0  # nothing can be told from distances here
    assert found["copies"].attack.rate == found["copies"].control.rate == 1.0


@pytest.mark.parametrize("sizes", [(1200, 600), (600, 1200)])
def test_a_control_of_another_size_raises_no_false_alarm(sizes):
    """One peer reads .64 for half the size where nothing leaks: the larger table is nearer to everything."""
    n, m = sizes
    rates = []
    for seed in range(6):
        frames = people(n, 3 * seed), people(800, 3 * seed + 1), people(m, 3 * seed + 2)
        rates.append(sanity_distances(*encode(*frames), most=400, seed=seed))
    assert np.mean([c["closer"].attack.rate for c in rates]) == pytest.approx(0.5, abs=0.04)
    for name in set(CHECKS) - {"closer"}:
        apart = [c[name].attack.rate - c[name].control.rate for c in rates]
        assert abs(np.mean(apart)) < 0.04, name


def test_intervals_over_people_cover_one_half_where_nothing_leaks():
    inside = []
    for seed in range(40):
        found = sanity_distances(*encode(*(people(250, 3 * seed + i) for i in range(3))))["closer"].attack
        interval = rate(found.success, found.record)
        inside.append(interval.low <= 0.5 <= interval.high)
    assert np.mean(inside) >= 0.85


def test_a_copy_shows_in_every_check():
    original, control = people(500, 0), people(500, 1)
    found = sanity_distances(*encode(original, original.sample(frac=1, random_state=0), control))
    assert set(found) == set(CHECKS)
    assert found["closer"].attack.rate == 1.0
    assert found["closer"].notes["median distance to the original"] == 0.0
    for name in set(CHECKS) - {"closer"}:
        assert CHECKS[name].sign * (found[name].attack.rate - found[name].control.rate) > 0.2, name
    assert found["copies"].attack.rate == 1.0
    assert found["adversarial_accuracy"].attack.rate < 0.01
    assert found["hits"].attack.rate == 1.0


def test_strangers_show_in_none():
    found = sanity_distances(*encode(*(people(800, seed) for seed in range(3))))
    for name in set(CHECKS) - {"closer"}:
        assert abs(found[name].attack.rate - found[name].control.rate) < 0.06, name
    assert found["adversarial_accuracy"].attack.rate == pytest.approx(0.5, abs=0.05)


def test_resemblance_is_that_of_brute_force():
    one, two = people(200, 0).drop(columns="street"), people(200, 1).drop(columns="street")
    two.loc[:60, ["city", "ill", "born"]] = one.loc[:60, ["city", "ill", "born"]]
    two.loc[:60, "age"] = one.loc[:60, "age"] + np.tile([0, 0.2, 2, 3], 16)[:61]
    two.loc[:60, "income"] = one.loc[:60, "income"] * np.tile([1, 1.005, 1.02], 21)[:61]
    a, b = encode(one, two)
    widths = np.array([c.width for c in a.number_columns])

    def alike(q: Coded, r: Coded, reach: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            near = np.abs(q.numbers[:, None] - r.numbers[None]) <= reach[:, None] + 1e-6
        near |= np.isnan(q.numbers)[:, None] & np.isnan(r.numbers)[None]
        return near.all(axis=2) & (q.codes[:, None] == r.codes[None]).all(axis=2)

    expected = alike(a, b, np.broadcast_to(widths / 30, a.numbers.shape)).any(axis=1)
    assert 0.05 < expected.mean() < 0.9
    np.testing.assert_array_equal(hits(a, b), expected)
    dates = np.array([c.is_date for c in a.number_columns])
    same = alike(b, a, np.where(dates, 0, 0.01 * np.abs(b.numbers)))
    found = new_rows(b, a)
    np.testing.assert_array_equal(found.success, ~same.any(axis=1))
    assert 0.02 < 1 - found.rate < 0.9
    assert (same[found.record >= 0, found.record[found.record >= 0]]).all()


def test_copies_are_counted_at_equal_size():
    real = pd.DataFrame({"x": [1.0, 1.0, 2.0, np.nan], "c": ["a", "a", None, None]})
    made = pd.DataFrame({"x": [1.0, np.nan, 2.0, 2.0], "c": ["a", None, "b", None]})
    o, s = encode(real, made)
    assert copies(s, o).success.tolist() == [1.0, 1.0, 0.0, 1.0]
    assert copies(s, o).record.tolist() == [0, 3, -1, 2]
    np.testing.assert_allclose(copies(s, o, size=2).success, [1 - 1 / 6, 0.5, 0.0, 0.5])


def test_ratio_of_the_two_nearest():
    o, s = encode(pd.DataFrame({"x": [0.0, 5.0, 10.0]}), pd.DataFrame({"x": [0.0, 1.0, 4.0, 10.0, 10.0]}))
    assert distance_ratio(o, s).tolist() == [0.0, 0.25, 1.0]
    assert np.isnan(distance_ratio(o, s.take(np.arange(1)))).all()


def test_weights_favour_columns_of_few_values():
    (table,) = encode(pd.DataFrame({"many": np.arange(64.0), "two": ["a", "b"] * 32, "one": ["x"] * 64}))
    np.testing.assert_allclose(entropy_weights(table), np.array([1 / 6, 1, 0]) * 3 / (7 / 6))


@pytest.mark.parametrize(
    "frame",
    [pd.DataFrame({"x": [1.0] * 9}), pd.DataFrame({"x": [np.nan] * 9, "c": [None] * 9})],
    ids=["constant", "missing"],
)
def test_columns_without_content_tell_nothing(frame):
    for name, contest in sanity_distances(*encode(frame, frame, frame)).items():
        if contest.control is not None:
            assert contest.attack.rate == contest.control.rate, name
        else:
            assert contest.attack.rate == 0.5


def test_one_row_and_no_control():
    o, s = encode(people(1, 0), people(5, 1))
    found = sanity_distances(o, s)
    assert set(found) == {"distance_ratio", "hits", "copies", "new_rows"}
    assert all(contest.control is None for contest in found.values())
    with pytest.raises(InputError, match="needs a record"):
        adversarial_accuracy(o, s)
    assert set(sanity_distances(o, s.take(np.arange(1)), s)) == {
        "distance_ratio",
        "hits",
        "copies",
        "new_rows",
        "closer",
    }


def test_the_warning_names_its_source():
    assert "2505.01524" in WARNING


@reference
def test_reference_tables():
    expected = json.loads((CASES / "exact_expected.json").read_text())["adults5k"]["dcr"]
    o, s, c = encode(*(pd.read_parquet(CASES / "adults5k" / f"{n}.parquet") for n in ("train", "synthetic", "control")))
    for known, n in zip(expected, (1000, 5000), strict=True):
        original, release, control = (table.take(np.arange(n)) for table in (o, s, c))
        near, far = dcr(release, original, scale=original), dcr(release, control, scale=control)
        assert np.median(near) == pytest.approx(known["median_dcr_synthetic_to_train"], abs=1e-9)
        assert np.mean(near < far) == pytest.approx(known["share_closer_to_train"], abs=1e-9)
