"""Predicates over tables: how many rows of each table satisfy "age >= 81 and city = Lund", counted exactly and fast.

Every value becomes its rank among the values of all tables, so that each condition is an interval of ranks. The rows
that satisfy a condition are a string of bits, put together from stored beginnings; a conjunction is their bitwise and.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from leakpro_nb.errors import InputError
from leakpro_nb.game.tables import Coded

__all__ = ["Counts", "Predicates", "Ranked", "packed", "popcount", "rank", "written"]

BLOCK_BYTES = 64_000_000
"""Size of the bit strings that are held at once."""


@dataclass(frozen=True)
class Predicates:
    """Conjunctions of conditions ``low <= rank <= high``.

    Parameters
    ----------
    column
        (Q, c) which column each condition is about; -1 for none, where a predicate has fewer conditions.
    low, high
        (Q, c) ranks, both included.
    """

    column: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def __len__(self) -> int:
        return len(self.column)

    def take(self, which: np.ndarray) -> Predicates:
        """Return the given predicates."""
        return Predicates(self.column[which], self.low[which], self.high[which])

    def uses(self, columns: int) -> np.ndarray:
        """Return which of the table's columns each predicate is about, ``(Q, columns)`` bool."""
        used = np.zeros((len(self), columns + 1), dtype=bool)
        np.put_along_axis(used, self.column, values=True, axis=1)  # -1 lands in the last column, which is dropped
        return used[:, :columns]

    def distinct(self) -> np.ndarray:
        """Return the indices of predicates that differ from all earlier ones, in order."""
        whole = np.concatenate([self.column, self.low, self.high], axis=1)
        return np.sort(np.unique(whole, axis=0, return_index=True)[1])

    def joined(self, more: Predicates) -> Predicates:
        """Return these predicates and ``more``, which have as many conditions."""
        parts = zip((self.column, self.low, self.high), (more.column, more.low, more.high), strict=True)
        return Predicates(*(np.concatenate(pair) for pair in parts))


class Counts(NamedTuple):
    """How many rows satisfy each predicate ``(Q,)``, and which row, where it is exactly one (else -1)."""

    rows: np.ndarray
    only: np.ndarray


@dataclass(frozen=True)
class Ranked:
    """One table as ranks ``(n, columns)``, and for each column how many ranks there are and which one means missing.

    ``missing`` is -1 for a column that lacks nothing in any table.
    """

    ranks: np.ndarray
    sizes: np.ndarray
    missing: np.ndarray

    def __len__(self) -> int:
        return len(self.ranks)

    def take(self, rows: np.ndarray) -> Ranked:
        """Return the given rows."""
        return Ranked(self.ranks[rows], self.sizes, self.missing)

    def count(self, predicates: Predicates) -> Counts:
        """Return how many rows satisfy each predicate."""
        total, only = np.zeros(len(predicates), dtype=np.int64), np.full(len(predicates), -1)
        if not len(self) or not len(predicates):
            return Counts(total, only)
        indexes = [_Index(self.ranks[:, c], int(self.sizes[c])) for c in range(self.ranks.shape[1])]
        words = indexes[0].words
        step = max(1, BLOCK_BYTES // (8 * words * predicates.column.shape[1] * 2))
        for first in range(0, len(predicates), step):
            part = slice(first, first + step)
            bits = self._satisfy(indexes, predicates.column[part], predicates.low[part], predicates.high[part])
            total[part] = popcount(bits)
            single = np.flatnonzero(total[part] == 1)
            word = (bits[single] != 0).argmax(axis=1)
            only[first + single] = 64 * word + np.log2(bits[single, word].astype(np.float64)).astype(int)
        return Counts(total, only)

    def _satisfy(self, indexes: list[_Index], column: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Return the rows that satisfy each predicate, as bits ``(Q, words)``."""
        flat = np.stack([column.ravel(), low.ravel(), high.ravel()], axis=1)
        conditions, where = np.unique(flat, axis=0, return_inverse=True)
        bits = np.empty((len(conditions), indexes[0].words), dtype=np.uint64)
        for c in np.unique(conditions[:, 0]):
            mine = conditions[:, 0] == c
            bits[mine] = (
                indexes[0].everything if c < 0 else indexes[c].between(conditions[mine, 1], conditions[mine, 2])
            )
        where = where.reshape(column.shape)
        out = bits[where[:, 0]]
        for each in where.T[1:]:
            out &= bits[each]
        return out


class _Index:
    """The rows of one column in the order of their ranks, and bit strings of the first 1/256, 2/256, … of them."""

    def __init__(self, ranks: np.ndarray, size: int) -> None:
        n = len(ranks)
        self.words = -(-n // 64)
        self.order = np.argsort(ranks, kind="stable")
        self.starts = np.searchsorted(ranks[self.order], np.arange(size + 1))
        self.step = max(256, -(-n // 256))
        chunks = np.zeros((-(-n // self.step) + 1, self.words), dtype=np.uint64)
        _set_bits(chunks, 1 + np.arange(n) // self.step, self.order)
        self.beginnings = np.bitwise_or.accumulate(chunks, axis=0)
        self.everything = self.beginnings[-1]

    def between(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Return the rows with ``low <= rank <= high``, as bits ``(conditions, words)``."""
        first = self.starts[np.clip(low, 0, len(self.starts) - 1)]
        end = np.maximum(first, self.starts[np.clip(high + 1, 0, len(self.starts) - 1)])
        return self._first(end) ^ self._first(first)

    def _first(self, count: np.ndarray) -> np.ndarray:
        """Return the first ``count`` rows in order, as bits; the last few are added one by one."""
        whole = count // self.step
        bits = self.beginnings[whole]
        rest = count - whole * self.step
        which = np.repeat(np.arange(len(count)), rest)
        within = np.arange(int(rest.sum())) - np.repeat(np.cumsum(rest) - rest, rest)
        _set_bits(bits, which, self.order[np.repeat(whole * self.step, rest) + within])
        return bits


def _set_bits(bits: np.ndarray, which: np.ndarray, row: np.ndarray) -> None:
    place = which.astype(np.int64) * bits.shape[1] + row // 64
    np.bitwise_or.at(bits.reshape(-1), place, np.uint64(1) << (row % 64).astype(np.uint64))


_BITS_OF_BYTE = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1).astype(np.uint8)


def packed(chosen: np.ndarray) -> np.ndarray:
    """Return ``chosen (m, n)`` bool as bits ``(m, words)``."""
    padded = np.zeros((len(chosen), -(-chosen.shape[1] // 64) * 64), dtype=bool)
    padded[:, : chosen.shape[1]] = chosen
    return np.packbits(padded, axis=1).view(np.uint64)


def popcount(bits: np.ndarray) -> np.ndarray:
    """Return the number of ones in each row of ``bits (Q, words)``."""
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(bits).sum(axis=1, dtype=np.int64)
    return _BITS_OF_BYTE[bits.view(np.uint8)].sum(axis=1, dtype=np.int64)


def rank(*tables: Coded) -> list[Ranked]:
    """Return tables, encoded together, as ranks; a missing number or category has a rank of its own.

    Raises
    ------
    InputError
        Tables that were not encoded together.
    """
    if any(table.columns != tables[0].columns for table in tables):
        raise InputError("columns", tables[0].names, "all tables must have been encoded together")
    ends = np.cumsum([len(table) for table in tables])[:-1]
    ranks, sizes, missing = [], [], []
    for column in tables[0].columns:
        values = np.concatenate([table.values(column.name) for table in tables])
        distinct, inverse = np.unique(values, return_inverse=True)
        ranks.append(inverse)
        sizes.append(len(distinct))
        if column.kind == "number":  # numpy sorts what is not a number to the end
            missing.append(len(distinct) - 1 if len(distinct) and np.isnan(distinct[-1]) else -1)
        else:
            missing.append(0 if len(distinct) and distinct[0] < 0 else -1)
    whole = np.stack(ranks, axis=1) if ranks else np.zeros((sum(map(len, tables)), 0), dtype=int)
    return [Ranked(part, np.array(sizes), np.array(missing)) for part in np.split(whole, ends)]


def written(conditions: Sequence[tuple[str, str, Any]], *tables: Coded) -> Predicates:
    """Return one predicate from conditions such as ``("age", ">=", 81)``, for tables that are ranked in this order.

    Operators are ``==``, ``<=``, ``>=``, and ``isna`` (whose value is not looked at). What no table has matches no row.
    """
    found = [_condition(name, operator, value, tables) for name, operator, value in conditions]
    column, low, high = (np.array([part]) for part in zip(*found, strict=True))
    return Predicates(column, low, high)


def _condition(name: str, operator: str, value: Any, tables: Sequence[Coded]) -> tuple[int, int, int]:
    """Return column, lowest and highest rank; an empty interval where nothing can match."""
    c = tables[0].names.index(name)
    column = tables[0].columns[c]
    known = np.unique(np.concatenate([table.values(name) for table in tables]))
    number = column.kind == "number"
    gap = bool(np.isnan(known[-1])) if number else bool(known[0] < 0)
    if operator == "isna":
        place = len(known) - 1 if number else 0
        return (c, place, place) if gap else (c, 0, -1)
    text = str(value)
    sought = float(value) if number else column.categories.index(text) if text in column.categories else -2
    left, right = (int(np.searchsorted(known, sought, side)) for side in ("left", "right"))
    top = len(known) - 1 - (gap and number)
    low, high = {"==": (left, right - 1), "<=": (0, right - 1), ">=": (left, top)}[operator]
    return c, low, high
