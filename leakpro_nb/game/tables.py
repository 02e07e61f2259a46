"""Tables: the release of a synthetic table, and mixed columns as numbers that attacks can compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from leakpro_nb.errors import InputError

__all__ = ["Coded", "Column", "Generator", "SyntheticRelease", "encode", "kind_of_column"]

Generator = Callable[[Any, int, int], Any]
"""``(frame, n, seed) -> frame``: learn from a table, return ``n`` synthetic rows; the same seed gives the same rows."""

MISSING = -1
"""Code of a missing category; two missing values count as equal."""


@dataclass(frozen=True)
class Column:
    """One column of the tables under comparison.

    Parameters
    ----------
    name
        As in the tables.
    kind
        ``"number"`` (also dates, in days) or ``"category"`` (text, booleans, categories).
    categories
        What the codes 0, 1, … stand for; empty for numbers.
    width
        Largest minus smallest value over all tables, by which distances are scaled; 0 for categories.
    is_date
        Whether the numbers are days since 1970.
    """

    name: str
    kind: Literal["number", "category"]
    categories: tuple[Any, ...] = field(default=(), repr=False)
    width: float = 0.0
    is_date: bool = False


@dataclass(frozen=True)
class Coded:
    """A table as numbers: what the attacks on synthetic tables compute with.

    Parameters
    ----------
    columns
        In the order of the table.
    numbers
        (n, number columns) float64, NaN where missing.
    codes
        (n, category columns) int32, ``MISSING`` where missing; equal codes mean equal values in every table that was
        encoded together.
    """

    columns: tuple[Column, ...]
    numbers: np.ndarray = field(repr=False)
    codes: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.numbers)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all columns."""
        return tuple(column.name for column in self.columns)

    @property
    def number_columns(self) -> tuple[Column, ...]:
        """The columns of ``numbers``."""
        return tuple(column for column in self.columns if column.kind == "number")

    @property
    def category_columns(self) -> tuple[Column, ...]:
        """The columns of ``codes``."""
        return tuple(column for column in self.columns if column.kind == "category")

    def values(self, name: str) -> np.ndarray:
        """Return one column ``(n,)``: float64 with NaN, or int32 codes."""
        column = self.columns[self.names.index(name)]
        if column.kind == "number":
            return self.numbers[:, [each.name for each in self.number_columns].index(name)]
        return self.codes[:, [each.name for each in self.category_columns].index(name)]

    def take(self, rows: np.ndarray) -> Coded:
        """Return the given rows."""
        return replace(self, numbers=self.numbers[rows], codes=self.codes[rows])

    def select(self, names: Sequence[str]) -> Coded:
        """Return the given columns, in the order of the table.

        Raises
        ------
        InputError
            No such column.
        """
        for name in names:
            if name not in self.names:
                raise InputError("columns", name, f"not a column of the tables; they have {', '.join(self.names[:12])}")
        wanted = set(names)
        return Coded(
            tuple(column for column in self.columns if column.name in wanted),
            self.numbers[:, [column.name in wanted for column in self.number_columns]],
            self.codes[:, [column.name in wanted for column in self.category_columns]],
        )

    def distinct(self) -> Coded:
        """Return the table without repeated rows, in its order."""
        import pandas as pd

        whole = pd.concat([pd.DataFrame(self.numbers), pd.DataFrame(self.codes)], axis=1)
        return self.take(np.flatnonzero(~whole.duplicated().to_numpy()))


def kind_of_column(name: str, parts: Sequence[Any]) -> tuple[Literal["number", "category"], bool]:
    """Return how one column is read, from its parts in all tables, and whether it holds dates.

    Numbers stay numbers; booleans, text and categories are compared for equality; dates become days.

    Raises
    ------
    InputError
        A number in one table and text in another.
    """
    import pandas as pd

    filled = [part.dropna() for part in parts]
    filled = [part for part in filled if len(part)]
    if not filled:
        return "category", False
    dates = [pd.api.types.is_datetime64_any_dtype(part) for part in filled]
    if any(dates):
        if not all(dates):
            raise InputError(name, "dates in one table, not in another", "give the column the same type in all tables")
        return "number", True
    numbers = [pd.api.types.is_numeric_dtype(part) and not pd.api.types.is_bool_dtype(part) for part in filled]
    if any(numbers) and not all(numbers):
        kinds = ", ".join(sorted({str(part.dtype) for part in filled}))
        raise InputError(name, f"types {kinds}", "give the column the same type in all tables")
    return ("number" if all(numbers) else "category"), False


def encode(*frames: Any) -> list[Coded]:
    """Return tables with the same columns as comparable numbers; a missing value equals another missing value.

    Parameters
    ----------
    frames
        DataFrames; the columns of the first one, which all must have, decide their order.

    Raises
    ------
    InputError
        A column that a table lacks, or one whose types do not fit together.
    """
    import pandas as pd

    first = frames[0]
    numbers: list[list[np.ndarray]] = [[] for _ in frames]
    codes: list[list[np.ndarray]] = [[] for _ in frames]
    columns = []
    for name in first.columns:
        for frame in frames:
            if name not in frame.columns:
                raise InputError("columns", name, "every table must have it; one of them does not")
        parts = [frame[name] for frame in frames]
        kind, is_date = kind_of_column(str(name), parts)
        if kind == "number":
            values = [_days(part) if is_date else _floats(part) for part in parts]
            finite = np.concatenate([each[np.isfinite(each)] for each in values])
            width = float(np.ptp(finite)) if len(finite) else 0.0
            columns.append(Column(str(name), kind, (), width, is_date))
            for store, each in zip(numbers, values, strict=True):
                store.append(each)
        else:
            text = [part.astype(object).where(part.notna(), None) for part in parts]
            flat, categories = pd.factorize(
                pd.concat(text, ignore_index=True).map(_key), sort=True, use_na_sentinel=True
            )
            columns.append(Column(str(name), kind, tuple(categories)))
            ends = np.cumsum([len(part) for part in parts])[:-1]
            for store, each in zip(codes, np.split(flat.astype(np.int32), ends), strict=True):
                store.append(each)

    def block(parts: list[np.ndarray], n: int, dtype: type) -> np.ndarray:
        return np.stack(parts, axis=1) if parts else np.zeros((n, 0), dtype=dtype)

    return [
        Coded(tuple(columns), block(numbers[i], len(frame), np.float64), block(codes[i], len(frame), np.int32))
        for i, frame in enumerate(frames)
    ]


def _floats(part: Any) -> np.ndarray:
    import pandas as pd

    return pd.to_numeric(part).astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)


def _days(part: Any) -> np.ndarray:
    import pandas as pd

    stamps = pd.to_datetime(part, utc=True)
    return ((stamps - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)).to_numpy(dtype=np.float64, na_value=np.nan)


def _key(value: Any) -> Any:
    """Return the value by which categories are equal: True and "True" are the same, 1 and "1" too."""
    return None if value is None else str(value)


@dataclass(frozen=True)
class SyntheticRelease:
    """A synthetic table that is to be released, and the real tables that it is judged against.

    Parameters
    ----------
    original
        DataFrame: the records from which the generator learnt.
    synthetic
        DataFrame: the release.
    control
        DataFrame: records of the same population that the generator never saw. Without it, what is merely typical of
        the population cannot be told from what the release betrays about the people in the original.
    reference
        DataFrame: similar records that the attacker holds; by default part of the control is set apart for that.
    generator
        ``(frame, n, seed) -> frame``, for attacks that make synthetic tables of their own.
    secrets
        Columns that nobody should be able to infer; all by default.
    known
        Columns that an attacker may know of a person; all but the secret by default.
    links
        Two lists of columns, as two attackers or two sources may hold them; by default each half of the columns.
    identifiers
        Columns that are left out of everything: row numbers, names.
    name
        What the report calls the release.
    subjects
        What one record is about, in the plural.
    """

    original: Any
    synthetic: Any
    control: Any = None
    reference: Any = None
    generator: Generator | None = None
    secrets: Sequence[str] = ()
    known: Sequence[str] = ()
    links: tuple[Sequence[str], Sequence[str]] | None = None
    identifiers: Sequence[str] = ()
    name: str = "synthetic table"
    subjects: str = "people"

    def __post_init__(self) -> None:
        for name in ("original", "synthetic", "control", "reference"):
            frame = getattr(self, name)
            if frame is None and name in ("control", "reference"):
                continue
            if not hasattr(frame, "columns"):
                raise InputError(name, type(frame).__name__, "give a table (DataFrame), one row per record")
            if len(frame) == 0:
                raise InputError(name, "0 rows", "give at least one record")
            if len(set(frame.columns)) != len(frame.columns):
                raise InputError(name, "two columns of one name", "give every column a name of its own")
            kept = frame.drop(columns=[c for c in self.identifiers if c in frame.columns])
            kept.columns = [str(c) for c in kept.columns]
            object.__setattr__(self, name, kept.reset_index(drop=True))
        shared = [c for c in self.original.columns if all(c in frame.columns for frame in self._frames)]
        if not shared:
            raise InputError(
                "synthetic", ", ".join(self.synthetic.columns[:5]), "no column in common with the original"
            )
        for name in ("secrets", "known"):
            for column in getattr(self, name):
                if column not in shared:
                    raise InputError(name, column, f"not a column of all tables; they share {', '.join(shared[:12])}")
        for column in [c for side in self.links or () for c in side]:
            if column not in shared:
                raise InputError("links", column, f"not a column of all tables; they share {', '.join(shared[:12])}")

    @property
    def _frames(self) -> list[Any]:
        return [frame for frame in (self.original, self.synthetic, self.control, self.reference) if frame is not None]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Columns that all tables share, in the original's order."""
        return tuple(c for c in self.original.columns if all(c in frame.columns for frame in self._frames))

    @cached_property
    def not_shared(self) -> tuple[str, ...]:
        """Columns that some tables have and others lack; they are left out, and the report says so."""
        every = dict.fromkeys(c for frame in self._frames for c in frame.columns)
        return tuple(c for c in every if c not in self.columns)

    @cached_property
    def coded(self) -> dict[str, Coded]:
        """The tables by name (``original``, ``synthetic``, ``control``, ``reference``), encoded together."""
        names = [n for n in ("original", "synthetic", "control", "reference") if getattr(self, n) is not None]
        frames = [getattr(self, name)[list(self.columns)] for name in names]
        return dict(zip(names, encode(*frames), strict=True))
