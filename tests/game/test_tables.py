"""Tables of mixed columns as comparable numbers, and the release of a synthetic table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import leakpro_nb as lp
from leakpro_nb.errors import InputError
from leakpro_nb.game.tables import encode


def frame(**columns):
    return pd.DataFrame(columns)


def test_equal_values_have_equal_codes_in_every_table():
    a, b = encode(
        frame(city=["Lund", None, "Umeå"], age=[30, 41, 52]), frame(city=["Umeå", "Kalmar", None], age=[1.5, np.nan, 9])
    )
    assert a.values("city")[2] == b.values("city")[0]
    assert a.values("city")[1] == b.values("city")[2] == -1
    assert len({*a.values("city"), *b.values("city")}) == 4
    np.testing.assert_array_equal(b.values("age"), [1.5, np.nan, 9])
    assert a.columns[1].width == b.columns[1].width == 52 - 1.5


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([True, False], "category"),
        (["a", "b"], "category"),
        (pd.Categorical([1, 2]), "category"),
        ([1, 2], "number"),
        (pd.array([1, None], dtype="Int64"), "number"),
        (pd.to_datetime(["2020-01-01", None]), "number"),
        ([None, None], "category"),
        ([np.nan, np.nan], "category"),
    ],
    ids=str,
)
def test_kinds_of_columns(values, kind):
    (coded,) = encode(frame(x=values))
    assert coded.columns[0].kind == kind


def test_dates_become_days_whatever_their_time_zone():
    (coded,) = encode(frame(born=pd.to_datetime(["1970-01-02", "1970-01-04"])))
    assert coded.values("born").tolist() == [1.0, 3.0]
    assert coded.columns[0].is_date


def test_select_and_take_keep_columns_and_rows_together():
    (coded,) = encode(frame(a=[1, 2, 3], b=["x", "y", "x"], c=[9.0, 8.0, 7.0]))
    part = coded.select(["c", "b"]).take(np.array([2, 0]))
    assert part.names == ("b", "c")
    assert part.values("c").tolist() == [7.0, 9.0]
    assert part.values("b")[0] == part.values("b")[1]
    with pytest.raises(InputError, match=r"columns = d: not a column"):
        coded.select(["d"])


def test_distinct_drops_repeated_rows_missing_values_included():
    (coded,) = encode(frame(a=[1, np.nan, 1, np.nan], b=["x", None, "x", None]))
    assert len(coded.distinct()) == 2


def test_columns_that_do_not_fit_are_named():
    with pytest.raises(InputError, match=r"age = types .*same type"):
        encode(frame(age=[1, 2]), frame(age=["a", "b"]))
    with pytest.raises(InputError, match=r"columns = age: every table must have it"):
        encode(frame(age=[1]), frame(year=[1]))


def test_release_leaves_out_identifiers_and_what_is_not_shared():
    table = frame(id=[1, 2], age=[30, 40], city=["a", "b"])
    release = lp.SyntheticRelease(table, table.drop(columns="city"), control=table, identifiers=["id"])
    assert release.columns == ("age",)
    assert release.not_shared == ("city",)
    assert set(release.coded) == {"original", "synthetic", "control"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: lp.SyntheticRelease(t, t.iloc[:0]), r"synthetic = 0 rows"),
        (lambda t: lp.SyntheticRelease(t, t, t.iloc[:0]), r"control = 0 rows"),
        (lambda t: lp.SyntheticRelease(t, [1]), r"synthetic = list: give a table"),
        (lambda t: lp.SyntheticRelease(t, frame(z=[1])), r"synthetic = z: no column in common"),
        (lambda t: lp.SyntheticRelease(t, t, secrets=["income"]), r"secrets = income: not a column"),
        (lambda t: lp.SyntheticRelease(t, t, links=(["age"], ["zip"])), r"links = zip: not a column"),
    ],
)
def test_bad_input_names_field_and_remedy(make, message):
    with pytest.raises(InputError, match=message):
        make(frame(age=[1, 2], city=["a", "b"]))
