"""Shadow attacks: find who was copied, are blind where nothing is learnt, and go on where they stopped."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from leakpro_nb.attacks.base import NotApplicable
from leakpro_nb.attacks.synthetic import shadow
from leakpro_nb.attacks.synthetic.distances import copies
from leakpro_nb.attacks.synthetic.shadow import (
    SHADOW_SCORES,
    attack_generator,
    groundhog,
    likelihood_ratio,
    pooled,
    query_counts,
    shadow_scores,
    shadow_tables,
    table_features,
    vulnerable_targets,
)
from leakpro_nb.datasets.generators import ChowLiuGenerator
from leakpro_nb.errors import InputError
from leakpro_nb.game.tables import SyntheticRelease, encode
from leakpro_nb.measures import auc_interval as limits


def auc_interval(scores: np.ndarray, member: np.ndarray) -> tuple[float, float]:
    return limits(scores, member)[1:]


def people(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 90, n).astype(float),
            "income": np.round(rng.lognormal(10, 1, n)),
            "city": rng.choice(["Lund", "Malmö", "Ystad"], n),
            "job": rng.choice(list("abcdefgh"), n),
            "ill": rng.random(n) < 0.3,
        }
    )
    for column in ("age", "job"):
        frame.loc[rng.random(n) < 0.1, column] = None
    return frame


def bootstrap(frame: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """Copy real rows: the worst of generators."""
    return frame.sample(n, replace=True, random_state=seed % 2**31)


def deaf(frame: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """Learn nothing from anybody."""
    return people(n, seed)[list(frame.columns)]


class Counting:
    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, frame: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
        self.calls.append(len(frame))
        return bootstrap(frame, n, seed)


def release(generator, n: int = 200, seed: int = 0) -> SyntheticRelease:
    original = people(n, 3 * seed)
    return SyntheticRelease(
        original, generator(original, n, 7 + seed), people(n, 3 * seed + 1), people(n, 3 * seed + 2), generator
    )


def test_every_target_is_in_half_of_the_tables():
    generator = Counting()
    made = shadow_tables(generator, people(40, 0), people(100, 1), size=80, rows=30, count=6, progress=False)
    assert generator.calls == [80] * 6
    assert {len(table) for table in made.tables} == {30}
    assert (made.trained_on.sum(axis=0) == 3).all()
    np.testing.assert_array_equal(made.trained_on[0], ~made.trained_on[1])
    coins = made.trained_on[::2].mean()
    assert 0.35 < coins < 0.65


def test_tables_come_from_the_targets_that_they_are_said_to():
    targets = people(30, 0).assign(job="target")
    keep = shadow_tables(lambda f, n, s: f, targets, people(50, 1), size=40, rows=40, count=4, progress=False)
    for table, chosen in zip(keep.tables, keep.trained_on, strict=True):
        assert (table["job"] == "target").sum() == chosen.sum()
        assert set(table.loc[table["job"] == "target", "income"]) == set(targets.loc[chosen, "income"])


def test_a_run_goes_on_where_it_stopped(tmp_path):
    targets, others, log = people(20, 0), people(60, 1), tmp_path / "calls"

    def writes_down(frame, n, seed):
        with log.open("a") as file:
            file.write(f"{seed}\n")
        return bootstrap(frame, n, seed)

    def made(**changed):
        options = {"size": 40, "rows": 20, "count": 4, "seed": 0} | changed
        tables = shadow_tables(writes_down, targets, others, cache=tmp_path / "cache", progress=False, **options)
        return tables, log.read_text().split()

    first, calls = made()
    assert len(calls) == 4
    (home,) = (tmp_path / "cache").iterdir()
    (home / "0002.parquet").unlink()
    again, calls = made()
    assert len(calls) == 5
    assert calls[4] == calls[2]
    for one, two in zip(first.tables, again.tables, strict=True):
        pd.testing.assert_frame_equal(one.reset_index(drop=True), two)
    assert len(made(seed=1)[1]) == 9
    assert len(made(count=6)[1]) == 11
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_counts_are_those_of_brute_force():
    targets, one, two = people(15, 0), people(120, 1), people(80, 2)
    coded = encode(targets, one, two)
    counts = query_counts(coded[0], coded[1:], queries=400, seed=3)
    assert counts.shape == (2, 15, 400)
    for i, (_, row) in enumerate(targets.iterrows()):
        whole = [
            all((pd.isna(a) and pd.isna(b)) or a == b for a, b in zip(row, r, strict=True)) for r in one.to_numpy()
        ]
        assert counts[0, i].min() >= np.mean(whole)
        city = (one["city"] == row["city"]).mean()
        assert (np.abs(counts[0, i] - city) < 1e-12).any()
        if not pd.isna(row["age"]):
            both = pd.concat([one, two])
            above = row["age"] > both["age"].median()
            tail = (one["age"] >= row["age"]) if above else (one["age"] <= row["age"])
            assert (np.abs(counts[0, i] - tail.mean()) < 1e-12).any()
    np.testing.assert_array_equal(
        query_counts(coded[0].take(np.array([4, 1])), coded[1:], queries=400, seed=3)[:, 0].shape, (2, 400)
    )


def test_features_of_tables_that_lack_content():
    tables = encode(*(people(n, n).assign(empty=np.nan, constant=1.0, nothing=None) for n in (1, 30, 50)))
    found = table_features(tables)
    assert found.shape[0] == 3
    assert np.isfinite(found).all()
    copies = table_features([tables[1], tables[1]])
    np.testing.assert_array_equal(copies[0], copies[1])


def signals(effect: float, shadows: int = 32, n: int = 300, seed: int = 0):
    rng = np.random.default_rng(seed)
    trained_on = rng.random((shadows, n)) < 0.5
    member = np.arange(n) % 2 == 0
    base, scale = rng.normal(size=n) * 5, np.exp(rng.normal(size=n))
    seen = base + scale * (rng.normal(size=(shadows, n)) + effect * trained_on)
    return base + scale * (rng.normal(size=n) + effect * member), seen, trained_on, member


@pytest.mark.parametrize("score", [likelihood_ratio, lambda a, b, c: pooled(a[:, None], b[..., None], c)])
def test_scores_find_an_effect_that_differs_in_size_from_person_to_person(score):
    target, seen, trained_on, member = signals(2.0)
    assert auc_interval(target, member)[0] < 0.6  # across people the signal says little
    assert auc_interval(score(target, seen, trained_on), member)[0] > 0.75
    target, seen, trained_on, member = signals(0.0)
    found = auc_interval(score(target, seen, trained_on), member)
    assert found[0] <= 0.5 <= found[1]


def test_groundhog_reads_its_own_table():
    rng = np.random.default_rng(0)
    trained_on = rng.random((40, 12)) < 0.5
    features = trained_on @ rng.normal(size=(12, 12)) + 0.05 * rng.normal(size=(40, 12))
    member = trained_on[0]
    scores = groundhog(features[0], features[1:], trained_on[1:])
    assert scores[member].mean() > scores[~member].mean() + 0.1


def test_targets_are_the_loneliest_by_one_rule():
    original, control = people(300, 0), people(150, 1)
    original.loc[5] = [17.0, 10.0**8, "Abisko", "z", True]
    o, c = encode(original, control)
    found = [vulnerable_targets(o, c, 40, seed) for seed in range(8)]
    assert {len(a) + len(b) for a, b in found} == {40}
    assert 10 < np.mean([len(a) for a, _ in found]) < 30
    assert 1 <= sum(5 in a for a, _ in found) <= 8


def test_people_who_were_copied_are_found(monkeypatch):
    monkeypatch.setattr(shadow, "TREES", 10)
    found = attack_generator(release(bootstrap), targets=80, shadows=8, progress=False)
    assert set(found.scores) == set(SHADOW_SCORES)
    assert found.shadows == (8, 200)
    assert len(found.member) == 80
    for name in ("shadow_distance", "shadow_density", "queries"):
        assert auc_interval(found.scores[name], found.member)[0] > 0.6, name


def test_questions_find_what_distances_miss(monkeypatch):
    """A generator of pairs of columns copies nobody, but hands out rare values that one person has."""
    monkeypatch.setattr(shadow, "TREES", 1)
    made = release(ChowLiuGenerator(), 200, 4)
    found = attack_generator(made, targets=100, shadows=16, progress=False)
    assert copies(made.coded["synthetic"], made.coded["original"]).rate < 0.02
    assert auc_interval(found.scores["queries"], found.member)[0] > 0.55
    assert auc_interval(found.scores["shadow_distance"], found.member)[0] < 0.6


def test_a_generator_that_ignores_its_input_tells_nothing(monkeypatch):
    monkeypatch.setattr(shadow, "TREES", 10)
    covered = {name: [] for name in SHADOW_SCORES}
    for seed in range(6):
        found = attack_generator(release(deaf, 120, seed), targets=60, shadows=6, seed=seed, progress=False)
        for name, scores in found.scores.items():
            interval = auc_interval(scores, found.member)
            covered[name].append(interval[0] <= 0.5 <= interval[1])
    assert all(np.mean(each) >= 4 / 6 for each in covered.values())
    assert np.mean(list(covered.values())) >= 0.8


def test_the_order_of_the_targets_does_not_matter(monkeypatch):
    monkeypatch.setattr(shadow, "TREES", 10)
    targets, others = people(30, 0), people(60, 1)
    made = shadow_tables(bootstrap, targets, others, size=50, rows=50, count=6, progress=False)
    order = np.random.default_rng(0).permutation(30)
    turned = type(made)(made.tables, made.trained_on[:, order])
    one = shadow_scores(targets, made.tables[0], made)
    two = shadow_scores(targets.iloc[order], made.tables[0], turned)
    for name in SHADOW_SCORES:
        np.testing.assert_allclose(two[name], one[name][order], atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda o: attack_generator(SyntheticRelease(o, o, o)), NotApplicable, "need the generator"),
        (lambda o: attack_generator(SyntheticRelease(o, o, generator=bootstrap)), NotApplicable, "give a control"),
        (lambda o: shadow_tables(bootstrap, o, o, size=9, rows=9, count=5), InputError, "shadows = 5: "),
        (lambda o: shadow_tables(bootstrap, o, o[:0], size=9, rows=9), NotApplicable, "records of other people"),
        (
            lambda o: shadow_tables(lambda f, n, s: f[["age"]], o, o, size=9, rows=9, progress=False),
            InputError,
            "generator = no column income",
        ),
        (lambda o: vulnerable_targets(*encode(o, o), 2), InputError, "targets = 2: "),
    ],
)
def test_bad_questions_are_one_clear_sentence(ask, error, message):
    with pytest.raises(error, match=message):
        ask(people(20, 0))
