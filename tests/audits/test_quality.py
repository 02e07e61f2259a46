"""Quality beside risk: SDMetrics' scores, silent, for every kind of column; and a clear word where it is missing."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leakpro_nb.audits.quality import NOT_INSTALLED, quality
from leakpro_nb.game.tables import encode

CASES = Path(__file__).parents[3] / "shared" / "cases" / "synthetic"
reference = pytest.mark.skipif(not CASES.exists(), reason="the reference cases are not at hand")


def people(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 90, n).astype(float)
    frame = pd.DataFrame(
        {
            "age": age,
            "income": age * 1000 + rng.normal(0, 5000, n),
            "city": rng.choice(["Lund", "Malmö", "Ystad"], n),
            "street": rng.integers(0, 900, n).astype(str),
            "born": pd.Timestamp("1950-01-01") + pd.to_timedelta(rng.integers(0, 20000, n), unit="D"),
            "ill": rng.random(n) < 0.3,
        }
    )
    for column in ("age", "city", "born"):
        frame.loc[rng.random(n) < 0.1, column] = None
    return frame


@pytest.fixture(scope="module")
def sdmetrics():
    return pytest.importorskip("sdmetrics")


@pytest.mark.usefixtures("sdmetrics")
def test_every_kind_of_column_is_scored_in_silence(capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = quality(*encode(people(600, 0), people(500, 1)))
    assert capfd.readouterr() == ("", "")
    assert found.measured
    assert found.rows == (600, 500)
    assert found.columns["column"].tolist() == ["age", "income", "city", "street", "born", "ill"]
    assert found.columns[["shape", "validity"]].notna().all(axis=None)
    assert len(found.pairs) == 15
    assert found.score > 0.6
    assert found.validity > 0.9
    saved = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert saved["score"] == found.score
    assert len(saved["columns"]) == 6


@pytest.mark.usefixtures("sdmetrics")
def test_a_copy_is_perfect_and_noise_is_not():
    table = people(500, 0)
    copy = quality(*encode(table, table))
    assert copy.score == copy.validity == pytest.approx(1.0)
    shuffled = table.apply(lambda c: c.sample(frac=1, random_state=len(c.name)).to_numpy())
    shifted = shuffled.assign(age=shuffled["age"] + 40, city="Kiruna")
    poor = quality(*encode(table, shifted))
    by_name = poor.columns.set_index("column")
    assert by_name.loc["age", "shape"] < 0.6
    assert by_name.loc["city", "validity"] < 0.2
    assert poor.score < 0.8
    assert poor.validity < copy.validity


@pytest.mark.usefixtures("sdmetrics")
@pytest.mark.parametrize("rows", [1, 40])
def test_columns_without_content(rows):
    table = people(rows, 0).assign(empty=np.nan, nothing=None, constant=1.0)
    found = quality(*encode(table, table))
    assert found.measured or found.note
    assert found.score is None or found.score > 0.9
    if found.measured:
        assert found.columns.set_index("column").loc[["empty", "nothing"]].isna().all(axis=None)
    none = quality(*encode(table[["empty", "nothing"]], table[["empty", "nothing"]]))
    assert not none.measured
    assert "no column has content" in none.note


@pytest.mark.usefixtures("sdmetrics")
def test_large_tables_are_thinned_with_a_seed():
    o, s = encode(people(900, 0), people(900, 1))
    one, again, other = (quality(o, s, most=300, seed=seed) for seed in (0, 0, 1))
    assert one.rows == (300, 300)
    assert one.score == again.score != other.score


@pytest.mark.usefixtures("sdmetrics")
def test_a_failure_of_the_library_is_a_note(monkeypatch):
    from sdmetrics.reports.single_table import QualityReport

    def fail(*args, **kwargs):
        raise RuntimeError("boom")

    monkeypatch.setattr(QualityReport, "generate", fail)
    found = quality(*encode(people(30, 0), people(30, 1)))
    assert not found.measured
    assert found.note == "not measured: SDMetrics stopped with RuntimeError: boom"


def test_without_the_library_the_note_says_what_to_install(monkeypatch):
    for name in [each for each in sys.modules if each.split(".")[0] == "sdmetrics"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sdmetrics", None)
    found = quality(*encode(people(30, 0), people(30, 1)))
    assert found.as_dict() == {
        "score": None,
        "validity": None,
        "columns": [],
        "pairs": [],
        "rows": [0, 0],
        "note": NOT_INSTALLED,
    }


@reference
@pytest.mark.usefixtures("sdmetrics")
def test_reference_tables():
    o, s = encode(*(pd.read_parquet(CASES / "adults5k" / f"{n}.parquet") for n in ("train", "synthetic")))
    found = quality(o, s)
    assert found.score == pytest.approx(0.821, abs=0.01)
    assert found.validity == pytest.approx(0.9997, abs=1e-4)
