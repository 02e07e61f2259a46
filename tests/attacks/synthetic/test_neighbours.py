"""Nearest neighbours, inference and linkability: against brute force, constructed cases, and the reference tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import KNeighborsClassifier

from leakpro_nb.attacks.synthetic import neighbours
from leakpro_nb.attacks.synthetic.inference import infer, infer_by_neighbour, infer_by_predictor, right, right_by_chance
from leakpro_nb.attacks.synthetic.linkability import link, linked_by_chance
from leakpro_nb.attacks.synthetic.neighbours import column_distances, near_pairs, nearest_distance
from leakpro_nb.errors import InputError
from leakpro_nb.game.tables import encode
from leakpro_nb.measures.residual import residual_risk

CASES = Path(__file__).parents[4] / "shared" / "cases" / "synthetic"
reference = pytest.mark.skipif(not CASES.exists(), reason="the reference cases are not at hand")


def mixed(n: int, seed: int, gaps: float = 0.1) -> pd.DataFrame:
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
    for column in ("age", "city", "born"):
        frame.loc[rng.random(n) < gaps, column] = None
    return frame


def brute(a, b) -> np.ndarray:
    query, row = np.divmod(np.arange(len(a) * len(b)), len(b))
    return column_distances(a, b, query, row).reshape(len(a), len(b), -1)


def test_distance_of_each_kind_of_column():
    a, b = encode(
        pd.DataFrame({"x": [0.0, np.nan, 4.0], "c": ["u", None, "v"]}),
        pd.DataFrame({"x": [2.0, np.nan], "c": ["u", None]}),
    )
    expected = [[[0.5, 0], [1, 1]], [[1, 1], [0, 0]], [[0.5, 1], [1, 1]]]
    np.testing.assert_array_equal(brute(a, b), expected)


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("pairs_at_once", [4_000_000, 1000])
def test_near_pairs_are_those_of_brute_force(k, pairs_at_once, monkeypatch):
    monkeypatch.setattr(neighbours, "MOST_PAIRS", pairs_at_once)
    a, b = encode(mixed(60, 0), mixed(170, 1))
    full = brute(a, b).sum(axis=2)
    seen = 0
    for pairs in near_pairs(a, b, k=k):
        for i in range(pairs.queries):
            expected = full[pairs.first + i]
            nearest = np.flatnonzero(expected <= np.sort(expected)[k - 1] + neighbours.TIE)
            np.testing.assert_array_equal(np.sort(pairs.row[pairs.query == i]), nearest)
            seen += 1
    assert seen == len(a)


def test_slack_keeps_what_is_nearest_without_any_one_column():
    a, b = encode(mixed(40, 2), mixed(200, 3))
    parts = brute(a, b)
    for pairs in near_pairs(a, b, slack=1.0):
        for i in range(pairs.queries):
            kept = set(pairs.row[pairs.query == i].tolist())
            for c in range(parts.shape[2]):
                without = parts[pairs.first + i].sum(axis=1) - parts[pairs.first + i, :, c]
                assert set(np.flatnonzero(without <= without.min() + neighbours.TIE).tolist()) <= kept


def test_no_row_is_its_own_neighbour():
    (a,) = encode(mixed(80, 4))
    full = brute(a, a).sum(axis=2)
    np.fill_diagonal(full, np.inf)
    np.testing.assert_allclose(nearest_distance(a, a, without_self=True), full.min(axis=1), atol=1e-12)
    assert nearest_distance(a, a).max() == 0


def test_large_numbers_lose_nothing_to_rounding():
    big = pd.DataFrame({"id": 10**9 + np.arange(500.0), "x": 1e12 + np.arange(500.0)[::-1]})
    a, b = encode(big, big.sample(frac=1, random_state=0))
    np.testing.assert_allclose(nearest_distance(a, b), 0, atol=1e-12)


@pytest.mark.parametrize("frame", [pd.DataFrame({"x": [1.0] * 5}), pd.DataFrame({"x": [np.nan] * 5, "c": [None] * 5})])
def test_constant_and_empty_columns_tie_everything(frame):
    a, b = encode(frame, frame)
    (pairs,) = near_pairs(a, b)
    assert len(pairs.row) == 25
    assert (pairs.parts == 0).all()


def test_one_row_is_enough():
    a, b = encode(mixed(5, 0), mixed(1, 1))
    assert nearest_distance(a, b).shape == (5,)
    assert {len(v) for v in infer_by_neighbour(a, b, ["age"]).values()} == {5}


def test_missing_equals_missing_in_a_copy():
    """The peers put two missing values at distance 1, and so miss a third of the copies."""
    table = mixed(400, 5, gaps=0.4)
    a, b = encode(table, table)
    for success in infer_by_neighbour(a, b, list(table.columns)).values():
        assert success.mean() > 0.98


def test_all_secrets_in_one_pass_equal_one_pass_each():
    a, b = encode(mixed(50, 6), mixed(300, 7))
    together = infer_by_neighbour(a, b, list(a.names))
    for each in a.names:
        others = [name for name in a.names if name != each]
        np.testing.assert_array_equal(together[each], infer_by_neighbour(a, b, [each], others)[each])


def test_guesses_of_numbers_are_judged_by_the_truth():
    """The peers divide by the guess: any negative guess is right for them."""
    a, b = encode(pd.DataFrame({"x": [999.0, -100.0, 100.0]}), pd.DataFrame({"x": [-1000.0, -104.0, 106.0]}))
    assert right(a.columns[0], b.values("x"), a.values("x")).tolist() == [0.0, 1.0, 0.0]


def test_dates_are_judged_in_days_and_categories_by_equality():
    table = pd.DataFrame({"born": pd.to_datetime(["1980-01-01", "1980-01-01", None]), "c": ["a", "b", None]})
    other = pd.DataFrame({"born": pd.to_datetime(["1980-01-20", "1981-01-01", None]), "c": ["a", "a", None]})
    a, b = encode(table, other)
    assert right(a.columns[0], b.values("born"), a.values("born")).tolist() == [1.0, 0.0, 1.0]
    assert right(a.columns[1], b.values("c"), a.values("c")).tolist() == [1.0, 0.0, 1.0]


def test_chance_is_what_random_rows_give():
    a, b = encode(mixed(30, 8), mixed(500, 9))
    for each in a.names:
        column = a.columns[a.names.index(each)]
        every = np.stack([right(column, np.full(len(a), v), a.values(each)) for v in b.values(each)])
        np.testing.assert_allclose(right_by_chance(a, b, each), every.mean(axis=0), atol=1e-12)


def test_a_copied_share_is_the_risk():
    """The law of the known leak: a fraction f of copies reads f, for every secret that is hard to guess."""
    real, others = mixed(1500, 10, gaps=0.0), mixed(1500, 11, gaps=0.0)
    release = pd.concat([real[:500], others[500:]])
    o, s, c = encode(real, release, mixed(1500, 12, gaps=0.0))
    for secret in ("age", "income", "street"):
        contest = infer(o, s, c, secrets=[secret])[secret]
        risk = residual_risk(contest.attack.success, contest.control.success)
        assert risk.low <= 1 / 3 <= risk.high
        assert risk.high - risk.low < 0.07


def test_no_copy_no_risk():
    inside = []
    for seed in range(40):
        o, s, c = encode(*(mixed(200, 100 * seed + i) for i in range(3)))
        contest = infer(o, s, c, secrets=["city"])["city"]
        risk = residual_risk(contest.attack.success, contest.control.success)
        inside.append(risk.low <= 0 <= risk.high)
    assert np.mean(inside) >= 0.85


@pytest.mark.parametrize("predictor", ["boosting", KNeighborsClassifier(3)])
def test_a_predictor_learns_the_secret_from_the_release(predictor):
    rng = np.random.default_rng(0)
    frame = mixed(1200, 13)
    frame["rich"] = np.where(frame["income"] > frame["income"].median(), "yes", "no")
    o, s = encode(frame[:600], frame[600:])
    success = infer_by_predictor(o, s, "rich", ["income"], predictor)
    assert success.mean() > 0.95
    order = rng.permutation(600)
    np.testing.assert_array_equal(infer_by_predictor(o.take(order), s, "rich", ["income"], predictor), success[order])


def test_predictor_with_one_answer_or_missing_numbers():
    frame = mixed(300, 14)
    o, s = encode(frame[:100], frame[100:].assign(city="Lund", age=np.nan))
    assert infer_by_predictor(o, s, "city").mean() == (frame["city"][:100] == "Lund").mean()
    assert infer_by_predictor(o, s, "age").mean() == frame["age"][:100].isna().mean()


def test_links_of_a_copy_and_of_strangers():
    table = mixed(300, 15, gaps=0.0)
    o, s, c = encode(table, table, mixed(300, 16, gaps=0.0))
    found = link(o, s, c, links=(["age", "street", "city"], ["income", "born", "ill"]), ks=(1, 5))
    assert found[1].attack.rate > 0.9
    assert found[5].control.rate < 0.1
    assert found[5].attack.rate >= found[1].attack.rate


def test_ties_alone_link_nobody():
    """One peer reads .99 where all synthetic records are equal: ties were broken alike on both sides."""
    flat = pd.DataFrame({"a": [1.0] * 200, "b": [2.0] * 200})
    o, s = encode(flat[:50], flat)
    found = link(o, s, links=(["a"], ["b"]), ks=(1, 10))
    assert found[1].attack.rate == pytest.approx(1 / 200)
    assert found[10].attack.rate == pytest.approx(linked_by_chance(10, 200), abs=0.2)
    assert found[1].notes["tied"]["attack"] == 1.0


def test_chance_of_a_link_is_that_of_random_sets():
    rng = np.random.default_rng(0)
    hits = [bool(set(rng.choice(60, 5, False)) & set(rng.choice(60, 5, False))) for _ in range(4000)]
    assert linked_by_chance(5, 60) == pytest.approx(np.mean(hits), abs=0.025)
    assert linked_by_chance(40, 60) == 1.0


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda a: infer_by_neighbour(a, a, ["height"]), r"secrets = height: not a column"),
        (lambda a: infer_by_neighbour(a.select(["age"]), a.select(["age"]), ["age"]), r"secrets = age: .*other column"),
        (lambda a: link(a, a, links=([], ["age"])), r"links = .*neither of them empty"),
        (lambda a: link(a, a, links=(["age"], ["age"])), r"links = age: no column may stand in both"),
        (lambda a: list(near_pairs(a, a.take(np.arange(0)))), r"rows = 0"),
        (lambda a: list(near_pairs(a, a.select(["age"]))), r"encoded together"),
    ],
)
def test_bad_questions_are_one_clear_sentence(ask, message):
    (a,) = encode(mixed(20, 0))
    with pytest.raises(InputError, match=message):
        ask(a)


def ladder(name: str):
    frames = [
        pd.read_parquet(CASES / "ladder" / f"{each}.parquet") for each in ("train", "control", f"synthetic_{name}")
    ]
    o, c, s = encode(*frames)
    return o.take(np.arange(1000)), c.take(np.arange(1000)), s


@reference
@pytest.mark.parametrize("name", ["leak000", "leak020", "leak100", "cart1", "cart5", "cart50"])
def test_reference_tables_inference_and_links(name):
    expected = json.loads((CASES / "exact_expected.json").read_text())
    o, c, s = ladder(name)
    for secret, contest in infer(o, s, c).items():
        known = expected["cases"][name]["inference"][secret]
        assert contest.attack.rate == pytest.approx(known["attack"], abs=2e-6), secret
        assert contest.control.rate == pytest.approx(known["control"], abs=2e-6), secret
    found = link(o, s, c, links=tuple(expected["aux"]), ks=(1,))[1]
    known = expected["cases"][name]["linkability_k1"]
    assert found.attack.rate == pytest.approx(known["attack"], abs=1e-7)
    assert found.control.rate == pytest.approx(known["control"], abs=1e-7)
    exact = expected["cases"][name]["dcr_mia"]
    assert np.median(nearest_distance(o, s)) / 1 == pytest.approx(exact["median_min_distance_members"], abs=1e-8)
    assert np.median(nearest_distance(c, s)) == pytest.approx(exact["median_min_distance_nonmembers"], abs=1e-8)
