"""How useful a synthetic table is, by SDMetrics: shown beside the risk, so that the trade-off is on one page.

Only its reports on quality and validity are used. Its privacy scores are not: they count ties as safe and know no
control people.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from leakpro_nb.game.tables import Coded

__all__ = ["MOST_CATEGORIES", "NOT_INSTALLED", "Quality", "quality"]

NOT_INSTALLED = "not measured: install leakpro-nb[synthetic]"
"""What a result says where SDMetrics is missing."""

MOST_CATEGORIES = 250
"""Categories of a column that are compared one by one; rarer ones count together, since pairs of columns are crossed."""


_SDTYPE = {"number": "numerical", "category": "categorical"}  # dates are days: the same scores, without their limits


@dataclass(frozen=True)
class Quality:
    """Likeness of a synthetic table to its original, by SDMetrics; all scores in [0, 1], higher = better.

    Parameters
    ----------
    score
        Overall quality: mean of the scores of columns and of pairs; ``None`` where not measured.
    validity
        Overall validity: values within the original's ranges and categories, same columns.
    columns
        DataFrame, one row per column: ``column``, ``shape`` (likeness of the distributions) and ``validity``; NaN where
        a column has no content.
    pairs
        DataFrame, one row per pair: ``column_1``, ``column_2``, ``trend`` (likeness of their dependence); NaN where
        SDMetrics finds no dependence worth comparing.
    rows
        Rows of each table that were compared.
    note
        Why nothing was measured; empty otherwise.
    """

    score: float | None = None
    validity: float | None = None
    columns: Any = field(default=None, repr=False)
    pairs: Any = field(default=None, repr=False)
    rows: tuple[int, int] = (0, 0)
    note: str = ""

    @property
    def measured(self) -> bool:
        """Whether there are scores."""
        return self.score is not None

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers, text and lists, ``None`` for NaN: for a result file."""

        def records(frame: Any) -> list[dict[str, Any]]:
            if frame is None:
                return []
            return [
                {key: None if isinstance(v, float) and np.isnan(v) else v for key, v in row.items()}
                for row in frame.to_dict("records")
            ]

        return {
            "score": self.score,
            "validity": self.validity,
            "columns": records(self.columns),
            "pairs": records(self.pairs),
            "rows": list(self.rows),
            "note": self.note,
        }


def quality(original: Coded, synthetic: Coded, *, most: int = 20_000, seed: int = 0) -> Quality:
    """Return what SDMetrics' quality and diagnostic reports say of a synthetic table; silent, and never an error.

    Parameters
    ----------
    original, synthetic
        Tables that were encoded together. Columns are read as the attacks read them: numbers, dates, categories.
    most
        Rows of each table that are compared, drawn with ``seed`` from larger ones.
    seed
        For these draws.
    """
    try:
        with _silent():
            from sdmetrics.reports.single_table import DiagnosticReport, QualityReport
    except ImportError:
        return Quality(note=NOT_INSTALLED)
    rng = np.random.default_rng(seed)
    tables = [t.take(np.sort(rng.permutation(len(t))[:most])) for t in (original, synthetic)]
    rows = len(tables[0]), len(tables[1])
    filled = [name for name in original.names if all(_has_content(table.values(name)) for table in tables)]
    if not filled or min(rows) == 0:
        return Quality(rows=rows, note="not measured: no column has content in both tables")
    real, made = (table.select(filled) for table in tables)
    metadata = {"columns": {column.name: {"sdtype": _SDTYPE[column.kind]} for column in real.columns}}
    common = {column.name: _commonest(real, column.name) for column in real.category_columns}
    try:
        with _silent():
            report, diagnosis = QualityReport(), DiagnosticReport()
            diagnosis.generate(*(_frame(table, {}) for table in (real, made)), metadata, verbose=False)
            report.generate(*(_frame(table, common) for table in (real, made)), metadata, verbose=False)
            shapes, trends = (report.get_details(part) for part in ("Column Shapes", "Column Pair Trends"))
            valid = diagnosis.get_details("Data Validity")
            scores = float(report.get_score()), float(diagnosis.get_score())
    except Exception as error:  # noqa: BLE001 - another library's failure must not cost the audit its attacks
        return Quality(rows=rows, note=f"not measured: SDMetrics stopped with {type(error).__name__}: {error}")
    return Quality(*scores, _by_column(original.names, shapes, valid), _by_pair(trends), rows)


def _by_column(names: tuple[str, ...], shapes: Any, valid: Any) -> Any:
    import pandas as pd

    parts = {"shape": shapes, "validity": valid}
    table = pd.DataFrame({key: part.set_index("Column")["Score"].astype(float) for key, part in parts.items()})
    return table.reindex(list(names)).rename_axis("column").reset_index()


def _by_pair(trends: Any) -> Any:
    columns = {"Column 1": "column_1", "Column 2": "column_2", "Score": "trend"}
    return trends.reindex(columns=list(columns)).rename(columns=columns).astype({"trend": float})


def _has_content(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).any()) if values.dtype.kind == "f" else bool((values >= 0).any())


def _commonest(table: Coded, name: str) -> np.ndarray:
    """Return the codes of the categories that are compared one by one."""
    codes, rows = np.unique(table.values(name), return_counts=True)
    return codes[np.argsort(-rows, kind="stable")[:MOST_CATEGORIES]]


def _frame(table: Coded, common: dict[str, np.ndarray]) -> Any:
    """Return a DataFrame; categories other than the ``common`` ones of a column are one category."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for column in table.columns:
        values = table.values(column.name)
        if column.kind == "number":
            columns[column.name] = values
            continue
        text = np.array([*column.categories, None], dtype=object)[values]  # code -1, missing, is the last
        kept = np.isin(values, common.get(column.name, values)) | (values < 0)
        columns[column.name] = np.where(kept, text, "(all others)")
    return pd.DataFrame(columns)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep another library's warnings, progress and log from the reader."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
