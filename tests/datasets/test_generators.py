"""Generators: types and values of the real table, one seed one table, and leaf size as a knob of memorisation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from leakpro_nb.datasets.generators import CartGenerator, ChowLiuGenerator
from leakpro_nb.errors import InputError

EVERY = [CartGenerator(), CartGenerator(1), ChowLiuGenerator()]


def people(n: int = 800, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 90, n)
    frame = pd.DataFrame(
        {
            "age": age,
            "income": np.round(age * 300 + rng.normal(0, 4000, n), 2),
            "city": pd.Categorical(rng.choice(["Lund", "Malmö", "Ystad"], n)),
            "ill": rng.random(n) < age / 120,
            "seen": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), unit="D"),
            "code": pd.array(rng.integers(0, 9, n), dtype="Int64"),
        }
    )
    frame.loc[rng.random(n) < 0.1, "income"] = np.nan
    frame.loc[rng.random(n) < 0.1, "code"] = pd.NA
    return frame


@pytest.mark.parametrize("generator", EVERY, ids=repr)
def test_rows_look_like_the_real_table(generator):
    real = people()
    made = generator(real, 500, 0)
    assert len(made) == 500
    assert list(made.columns) == list(real.columns)
    assert (made.dtypes == real.dtypes).all()
    for column in real.columns:
        assert set(made[column].dropna().unique()) <= set(real[column].dropna().unique())
    assert abs(made["age"].mean() - real["age"].mean()) < 4
    assert abs(made["income"].isna().mean() - 0.1) < 0.06


@pytest.mark.parametrize("generator", EVERY, ids=repr)
def test_one_seed_one_table(generator):
    real = people()
    pd.testing.assert_frame_equal(generator(real, 200, 3), generator(real, 200, 3))
    assert not generator(real, 200, 3).equals(generator(real, 200, 4))


@pytest.mark.parametrize("generator", [CartGenerator(5), ChowLiuGenerator()], ids=repr)
def test_dependencies_survive(generator):
    made = generator(people(3000), 3000, 0)
    assert made[["age", "income"]].corr().iloc[0, 1] > 0.6
    assert made.groupby("ill")["age"].mean().diff().iloc[-1] > 5


def test_leaf_size_is_a_knob_of_memorisation():
    real = people(1500)
    rows = set(map(tuple, real.astype(str).to_numpy()))
    copies = [
        np.mean([row in rows for row in map(tuple, CartGenerator(leaf)(real, 1500, 0).astype(str).to_numpy())])
        for leaf in (1, 5, 50)
    ]
    assert copies[0] > 0.9
    assert copies[0] > copies[1] >= copies[2]
    assert copies[2] < 0.01


@pytest.mark.parametrize("generator", EVERY, ids=repr)
def test_odd_tables(generator):
    assert len(generator(pd.DataFrame({"x": [1.0]}), 5, 0)) == 5
    assert generator(pd.DataFrame({"x": [np.nan] * 4, "y": ["a"] * 4}), 3, 0)["x"].isna().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CartGenerator(0), "min_samples_leaf = 0"),
        (lambda: ChowLiuGenerator(1), "bins = 1"),
        (lambda: CartGenerator()(people().iloc[:0], 3, 0), "at least one row"),
        (lambda: CartGenerator()(people(), 0, 0), "n = 0"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(InputError, match=message):
        make()
