from __future__ import annotations

import hashlib
import subprocess
import sys
from importlib.resources import files

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from leakpro_nb import datasets
from leakpro_nb.datasets import tabular
from leakpro_nb.errors import InputError

KNOWN_LATER = {
    *("charges", "totcst", "totmcst", "avtisst", "surv2m", "surv6m", "prg2m", "prg6m", "dnr", "dnrday"),
    *("death", "hospdead", "d.time", "d_time", "sfdm2", "sno"),
}


@pytest.fixture(scope="module", params=["support2", "adult"])
def data(request):
    return getattr(datasets, request.param)()


@pytest.fixture(scope="module")
def stays():
    return datasets.support2()


def test_shapes_and_missing_values():
    support2, adult = datasets.support2(), datasets.adult()
    assert support2.frame.shape == (9105, 32)
    assert adult.frame.shape == (48842, 14)
    assert support2.frame.isna().sum().sum() == 37_749
    assert adult.frame.isna().sum().sum() == 6_465
    assert support2.frame["adlp"].isna().sum() == 5_641
    assert support2.frame["income"].isna().sum() == 2_982


def test_every_column_is_described_and_no_outcome_is_among_them(data):
    assert list(data.columns) == list(data.frame.columns)
    assert all(len(text) > 10 for text in data.columns.values())
    assert len(set(data.columns.values())) == len(data.columns)
    outcome = {"SUPPORT2": "slos", "Adult": "income"}[data.name]
    assert outcome not in data.frame
    assert outcome in data.outcome


def test_nothing_known_only_later_is_shipped_at_all():
    stored = files("leakpro_nb.datasets").joinpath("data", "support2.parquet")
    with stored.open("rb") as file:
        names = pq.read_schema(file).names
    assert not set(names) & KNOWN_LATER
    assert set(names) == {*datasets.support2().columns, "slos"}


@pytest.mark.parametrize("name", ["support2", "adult"])
def test_the_note_beside_the_file_states_its_sha256(name):
    folder = files("leakpro_nb.datasets").joinpath("data")
    digest = hashlib.sha256(folder.joinpath(f"{name}.parquet").read_bytes()).hexdigest()
    assert digest in folder.joinpath(f"{name}.md").read_text(encoding="utf-8")
    assert getattr(datasets, name)().sha256 == digest


def test_types_do_not_depend_on_the_platform_or_on_pandas(data):
    for column, values in data.frame.items():
        if values.dtype == object:
            assert all(type(value) is str or value is None for value in values), column
        else:
            assert str(values.dtype) in ("float64", "int64"), column
    assert data.y.dtype == np.int64
    assert data.frame.index.equals(pd.RangeIndex(len(data.y)))


def test_categories_come_as_objects_when_pandas_infers_strings():
    with pd.option_context("future.infer_string", True):
        frame = datasets.support2().frame
    assert frame["sex"].dtype == object
    assert frame["income"].dtype == object


def test_every_call_returns_its_own_copy(data):
    loader = {"SUPPORT2": datasets.support2, "Adult": datasets.adult}[data.name]
    first, second = loader(), loader()
    pd.testing.assert_frame_equal(first.frame, second.frame, check_exact=True)
    first.frame.loc[0, "age"] = -1
    first.y[0] = 99
    first.columns["age"] = "changed"
    assert second.frame.loc[0, "age"] != -1
    assert second.y[0] != 99
    assert loader().columns["age"] != "changed"


def test_labels_have_the_known_base_rates(stays):
    assert len(stays.classes) == 4
    shares = np.bincount(stays.y) / len(stays.y)
    np.testing.assert_allclose(shares, 0.25, atol=0.025)
    week = datasets.support2(label="over_7_days")
    assert week.y.mean() == pytest.approx(0.674, abs=0.001)
    assert set(week.y) == {0, 1}
    # The two labels say the same about the same patients: class 0 ends at 6 days, class 2 starts at 12.
    assert week.y[stays.y == 0].max() == 0
    assert week.y[stays.y >= 2].min() == 1
    assert datasets.adult().y.mean() == pytest.approx(0.2393, abs=0.0001)


def test_first_rows_are_those_of_the_source(stays):
    first = stays.frame.iloc[0]
    assert (first["age"], first["sex"], first["dzgroup"]) == (62.84998, "male", "Lung Cancer")
    assert stays.y[0] == 0  # 5 days
    assert datasets.adult().frame.iloc[0]["occupation"] == "Adm-clerical"
    assert datasets.adult().frame.iloc[32561]["age"] == 25  # the first row of UCI's test file


def test_unknown_label_is_refused():
    with pytest.raises(InputError, match="quartile"):
        datasets.support2(label="median")


def test_encoding_is_complete_finite_and_repeatable(data):
    X = data.encode()
    assert X.dtype == np.float32
    assert X.shape == (len(data.y), {"SUPPORT2": 52, "Adult": 105}[data.name])
    assert np.isfinite(X).all()
    np.testing.assert_array_equal(X, data.encode())
    np.testing.assert_array_equal(X, data.encode(np.arange(len(X))))
    np.testing.assert_array_equal(X, data.encode(np.ones(len(X), dtype=bool)))
    names = data.encoder().fit(data.frame).get_feature_names_out()
    assert len(names) == len(set(names)) == X.shape[1]


def test_numbers_are_standardised_on_the_given_rows(stays):
    rows = np.random.default_rng(0).random(len(stays.y)) < 0.5
    age = stays.frame["age"].to_numpy()
    expected = (age - age[rows].mean()) / age[rows].std()
    np.testing.assert_allclose(stays.encode(rows)[:, 0], expected, rtol=1e-5, atol=1e-6)
    albumin = list(stays.encoder().fit(stays.frame).get_feature_names_out()).index("alb")
    missing = stays.frame["alb"].isna().to_numpy()
    assert np.unique(stays.encode(rows)[missing, albumin]).size == 1


def test_people_outside_fit_on_leave_no_trace_in_the_encoding_of_the_others():
    data = datasets.support2()
    rows = np.random.default_rng(1).permutation(len(data.y))[:4552]
    before = data.encode(rows)[rows]
    outside = np.setdiff1d(np.arange(len(data.y)), rows)
    numbers = list(data.frame.select_dtypes("number"))
    data.frame[numbers] = data.frame[numbers].astype(float)
    data.frame.loc[outside, numbers] = 1e6
    np.testing.assert_array_equal(before, data.encode(rows)[rows])
    assert not np.array_equal(before, data.encode()[rows])


def test_width_is_the_same_for_few_rows_with_gaps(stays):
    # Patients without albumin, glucose, urea nitrogen, urine and adlp: medians of nothing.
    gaps = stays.frame[["alb", "glucose", "bun", "urine", "adlp"]].isna().all(axis=1).to_numpy()
    few = np.flatnonzero(gaps)[:5]
    assert len(few) == 5
    X = stays.encode(few)
    assert X.shape == (9105, 52)
    assert np.isfinite(X).all()


def test_a_category_seen_in_one_row_does_not_give_that_row_away():
    data = datasets.adult()
    (only,) = np.flatnonzero(data.frame["native_country"] == "Holand-Netherlands")
    others = np.delete(np.arange(1000), only) if only < 1000 else np.arange(1000)
    assert data.encode(others).shape == data.encode(np.append(others, only)).shape == (48842, 105)


def test_a_missing_category_is_zero_in_all_its_columns(stays):
    names = list(stays.encoder().fit(stays.frame).get_feature_names_out())
    income = [i for i, name in enumerate(names) if name.startswith("income_")]
    sums = stays.encode()[:, income].sum(axis=1)
    np.testing.assert_array_equal(sums, (~stays.frame["income"].isna()).astype(np.float32))


@pytest.mark.parametrize(
    "fit_on",
    [
        np.zeros(9105, dtype=bool),
        np.ones(10, dtype=bool),
        np.array([], dtype=int),
        np.array([0, 9105]),
        np.array([-1]),
        np.array([0.0, 1.0]),
        np.tile([0, 1, 1], 3035),  # a 0/1 mask of the right length, but of integers
        np.ones((9105, 1), dtype=bool),
    ],
)
def test_a_wrong_fit_on_is_refused(stays, fit_on):
    with pytest.raises(InputError, match="fit_on"):
        stays.encode(fit_on)


def test_a_damaged_file_is_refused():
    with pytest.raises(InputError, match="reinstall"):
        tabular._load("adult.parquet", "0" * 64)


def test_representations_are_brief_and_name_the_source(data):
    assert repr(data).startswith(data.name)
    assert len(repr(data)) < 140
    shown = data._repr_html_()
    assert "href" not in shown
    assert "verify" in shown
    assert "https://doi.org/" in shown


def test_importing_datasets_is_cheap():
    code = (
        "import sys, leakpro_nb.datasets; "
        "sys.exit(bool({'numpy', 'pandas', 'pyarrow', 'sklearn', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
