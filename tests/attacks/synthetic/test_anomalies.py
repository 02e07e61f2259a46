"""Outliers: found, given away by a copy, and spared by strangers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from leakpro_nb.attacks.synthetic.anomalies import anomalies, outlier_scores
from leakpro_nb.errors import InputError
from leakpro_nb.game.tables import encode
from leakpro_nb.measures.residual import residual_risk


def people(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": rng.normal(50, 12, n).round(),
            "income": rng.lognormal(10, 0.7, n).round(),
            "city": rng.choice(["Lund", "Malmö", "Ystad", "Tomelilla"], n, p=[0.5, 0.4, 0.09, 0.01]),
            "ill": rng.random(n) < 0.1,
        }
    )


def risk(found):
    return residual_risk(found.contest.attack.success, found.contest.control.success)


def test_the_oddest_are_found():
    table = people(400, 0)
    table.loc[7] = [50.0, 10.0**7, "Abisko", True]
    table.loc[9] = [-300.0, 20000.0, "Lund", False]
    (coded,) = encode(table)
    assert set(np.argsort(-outlier_scores(coded))[:5]) >= {7, 9}
    assert set(anomalies(coded, coded.take(np.arange(50, 300)), share=0.01).original.row) >= {7, 9}


def test_a_copy_gives_outliers_away():
    original = people(1500, 0)
    found = anomalies(*encode(original, original, people(1500, 1)))
    assert len(found.original.row) + len(found.control.row) == pytest.approx(150, abs=15)
    assert set(found.original.at_risk) == set(found.original.row[found.original.exposed > 0.5])
    assert len(found.original.at_risk) > 0.95 * len(found.original.row)
    assert found.original.distance.max() == 0 < np.median(found.control.distance)
    assert risk(found).low > 0.5


def test_a_table_of_the_outliers_alone_gives_away_only_them():
    original, others = people(1000, 2), people(1000, 3)
    o, _ = encode(original, others)
    odd = np.argsort(-outlier_scores(o))[:25]
    release = pd.concat([others[:975], original.iloc[odd]])
    found = anomalies(*encode(original, release, people(1000, 4)))
    assert len(set(odd) & set(found.original.at_risk)) >= 22
    assert risk(found).low > 0


def test_strangers_spare_them():
    inside = []
    for seed in range(20):
        sizes = (300, 300, 150) if seed % 2 else (300, 200, 400)
        frames = (people(n, 3 * seed + i) for i, n in enumerate(sizes))
        found = risk(anomalies(*encode(*frames), share=0.2, seed=seed))
        inside.append(found.low <= 0 <= found.high)
    assert np.mean(inside) >= 0.85


def test_missing_values_and_one_synthetic_row():
    table = people(60, 0)
    table.loc[3, "age"] = np.nan
    table.loc[4, "city"] = None
    found = anomalies(*encode(table.assign(empty=np.nan), table[:1].assign(empty=np.nan)))
    assert found.control is None
    assert found.contest.control is None
    assert np.isfinite(found.original.score).all()
    assert 3 in found.original.row or 4 in found.original.row


def test_where_all_are_alike_nobody_is_odd():
    flat = pd.DataFrame({"x": [1.0] * 40, "c": ["a"] * 40})
    found = anomalies(*encode(flat, flat, flat))
    assert len(found.original.row) == len(found.control.row) == 0
    assert len(found.original.at_risk) == 0
    assert np.isnan(found.contest.attack.rate)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda o: anomalies(o, o, share=0), "share = 0: "),
        (lambda o: anomalies(o.take(np.arange(1)), o), "original = 1 records"),
    ],
)
def test_bad_questions_are_one_clear_sentence(ask, message):
    with pytest.raises(InputError, match=message):
        ask(encode(people(20, 0))[0])
