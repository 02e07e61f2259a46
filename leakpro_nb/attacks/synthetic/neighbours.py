"""Exact nearest neighbours among mixed columns, with ties known.

Gower distance: the sum over columns of ``|a - b| / width`` for numbers and of 0 or 1 for categories; two missing values
are equal, a missing and a known one differ by 1. A fast pass in single precision finds the few rows that could be
nearest; only for those are the columns' distances computed in double precision, so that ties are ties and not roundoff.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from leakpro_nb.errors import InputError
from leakpro_nb.game.tables import Coded

__all__ = [
    "TIE",
    "Pairs",
    "column_distances",
    "distance_blocks",
    "near_pairs",
    "nearest_distance",
    "nearest_euclidean",
    "nearest_two",
    "rounding",
]

TIE = 1e-9
"""Distances that differ by no more than this are tied."""

ROUNDING = 2e-6
"""Largest error of the single-precision pass, per column."""

MOST_PAIRS = 4_000_000
"""Pairs of one pass: 16 MB for each matrix of distances."""

WIDEST_ONE_HOT = 256
"""Categories of a column up to which equality is counted by a product of indicator matrices."""


@dataclass(frozen=True)
class Pairs:
    """Queries ``first`` … ``first + queries - 1`` with all rows that are, or could be, among their nearest.

    Parameters
    ----------
    first, queries
        Which queries; every one of them has at least one pair.
    query, row
        (P,) the query, counted from ``first``, and the row of each pair; in ascending order.
    parts
        (P, columns) float64 distance in each column, in the order of the table.
    """

    first: int
    queries: int
    query: np.ndarray
    row: np.ndarray
    parts: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """(queries,) where each query's pairs begin."""
        return np.searchsorted(self.query, np.arange(self.queries))

    def tied(self, distance: np.ndarray) -> np.ndarray:
        """Return which pairs ``(P,)`` are at their query's smallest ``distance (P,)``, ties included."""
        smallest = np.minimum.reduceat(distance, self.starts)
        return distance <= smallest[self.query] + TIE

    def mean_over(self, chosen: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return per query ``(queries,)`` the mean of ``values (P,)`` over the chosen pairs ``(P,)`` bool."""
        total = np.bincount(self.query, weights=np.where(chosen, values, 0.0), minlength=self.queries)
        return total / np.bincount(self.query, weights=chosen, minlength=self.queries)


def near_pairs(
    queries: Coded,
    rows: Coded,
    *,
    k: int = 1,
    slack: float = 0.0,
    without_self: bool = False,
    weights: np.ndarray | None = None,
) -> Iterator[Pairs]:
    """Yield, for one block of queries after the other, every row that is at most ``slack`` farther than the k-th nearest.

    Parameters
    ----------
    queries, rows
        Tables that were encoded together.
    k
        How many neighbours; all rows if there are fewer.
    slack
        0: the nearest and those tied with them. 1: also all rows that would be among the nearest if any one column
        were left out, since a column adds at most 1.
    without_self
        ``queries`` and ``rows`` are the same table, and no row counts as its own neighbour.
    weights
        (columns,) by which the columns' distances are multiplied; 1 each by default.

    Raises
    ------
    InputError
        No columns, no rows, or tables that were not encoded together.
    """
    margin = slack + 2 * rounding(rows, weights)
    kth = min(k, len(rows) - without_self) - 1
    for first, distance in distance_blocks(queries, rows, without_self=without_self, weights=weights):
        block = queries.take(np.arange(first, first + len(distance)))
        reach = distance.min(axis=1) if kth == 0 else np.partition(distance, kth, axis=1)[:, kth]
        query, row = np.nonzero(distance <= (reach + np.float32(margin))[:, None])
        parts = column_distances(block, rows, query, row)
        if weights is not None:
            parts *= weights
        if slack == 0:
            kept = _within(parts.sum(axis=1), query, len(block), kth)
            query, row, parts = query[kept], row[kept], parts[kept]
        yield Pairs(first, len(block), query, row, parts)


def rounding(table: Coded, weights: np.ndarray | None = None) -> float:
    """Return the largest error of a distance in single precision."""
    return ROUNDING * (len(table.columns) if weights is None else max(len(table.columns), float(np.sum(weights))))


def distance_blocks(
    queries: Coded, rows: Coded, *, without_self: bool = False, weights: np.ndarray | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first query of a block and its distances ``(queries, rows)`` in float32; infinite to a query itself.

    Raises
    ------
    InputError
        See ``near_pairs``.
    """
    if queries.columns != rows.columns:
        raise InputError("columns", queries.names, "queries and rows must have been encoded together")
    if not rows.columns:
        raise InputError("columns", "none", "distances need at least one column")
    if len(rows) <= without_self:
        raise InputError("rows", len(rows), "there must be at least one row to be near to")
    matrix = _Matrix(rows, weights)
    step = max(1, MOST_PAIRS // len(rows))
    for first in range(0, len(queries), step):
        block = queries.take(np.arange(first, min(first + step, len(queries))))
        distance = matrix.to(block)
        if without_self:
            distance[np.arange(len(block)), first + np.arange(len(block))] = np.inf
        yield first, distance


def _within(distance: np.ndarray, query: np.ndarray, queries: int, kth: int) -> np.ndarray:
    """Return which pairs are no farther than their query's k-th nearest in double precision."""
    order = np.lexsort([distance, query])
    reach = distance[order][np.searchsorted(query, np.arange(queries)) + kth]
    return distance <= reach[query] + TIE


def nearest_distance(queries: Coded, rows: Coded, *, without_self: bool = False) -> np.ndarray:
    """Return the distance ``(n,)`` of each query to its nearest row, a sum over columns."""
    found = [
        np.minimum.reduceat(pairs.parts.sum(axis=1), pairs.starts)
        for pairs in near_pairs(queries, rows, without_self=without_self)
    ]
    return np.concatenate(found) if found else np.zeros(0)


def nearest_two(queries: Coded, rows: Coded, *, without_self: bool = False) -> np.ndarray:
    """Return the distances ``(n, 2)`` of each query to its nearest and second nearest row; NaN if there is no second."""
    found = [np.full((0, 2), np.nan)]
    for pairs in near_pairs(queries, rows, k=2, without_self=without_self):
        distance = pairs.parts.sum(axis=1)
        ordered = distance[np.lexsort([distance, pairs.query])]
        second = pairs.starts + 1 if len(rows) - without_self > 1 else pairs.starts
        found.append(np.stack([ordered[pairs.starts], ordered[second]], axis=1))
    out = np.concatenate(found)
    if len(rows) - without_self < 2:
        out[:, 1] = np.nan
    return out


def nearest_euclidean(queries: Coded, rows: Coded, spread: np.ndarray) -> np.ndarray:
    """Return the distance ``(n,)`` to the nearest row among indicators of categories and standardised numbers.

    Parameters
    ----------
    queries, rows
        Tables that were encoded together.
    spread
        (number columns,) what counts as one unit of each number: its standard deviation, say. A missing number is one
        unit away from a known one.
    """
    matrix, unit = _Matrix(rows), np.where(spread > 0, spread, 1.0)
    theirs = ((rows.numbers - matrix.middle) / unit).astype(np.float32)
    out = np.empty(len(queries))
    for first in range(0, len(queries), max(1, MOST_PAIRS // len(rows))):
        block = queries.take(np.arange(first, min(first + max(1, MOST_PAIRS // len(rows)), len(queries))))
        ours = ((block.numbers - matrix.middle) / unit).astype(np.float32)
        squares = 2 * matrix.mismatches(block)
        for c in range(ours.shape[1]):
            squares += _number_distance(ours[:, c, None], theirs[None, :, c], 1.0) ** 2
        nearest = squares.argmin(axis=1)
        parts = [
            _number_distance(block.numbers[:, c], rows.numbers[nearest, c], unit[c]) ** 2 for c in range(ours.shape[1])
        ]
        differing = (block.codes != rows.codes[nearest]).sum(axis=1)
        out[first : first + len(block)] = np.sqrt(2 * differing + np.sum(parts, axis=0))
    return out


def column_distances(queries: Coded, rows: Coded, query: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Return the distance in each column ``(P, columns)`` of the given pairs ``(P,)``, in float64."""
    parts = np.empty((len(query), len(queries.columns)))
    number = category = 0
    for c, column in enumerate(queries.columns):
        if column.kind == "number":
            a, b = queries.numbers[query, number], rows.numbers[row, number]
            parts[:, c] = _number_distance(a, b, column.width)
            number += 1
        else:
            parts[:, c] = queries.codes[query, category] != rows.codes[row, category]
            category += 1
    return parts


def _number_distance(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        distance = np.abs(a - b) / (width or 1.0)
    distance[np.isnan(a) & np.isnan(b)] = 0.0
    distance[np.isnan(a) ^ np.isnan(b)] = 1.0
    return distance


class _Matrix:
    """Distances to one table in single precision, block by block of queries."""

    def __init__(self, rows: Coded, weights: np.ndarray | None = None) -> None:
        self.rows = rows
        number = np.array([column.kind == "number" for column in rows.columns], dtype=bool)
        weights = np.ones(len(number)) if weights is None else np.asarray(weights, dtype=np.float64)
        self.number_weights = weights[number].astype(np.float32)
        self.category_weights = weights[~number].astype(np.float32)
        widths = np.array([column.width or 1.0 for column in rows.number_columns])
        self.widths = widths
        self.gaps = np.isnan(rows.numbers).any(axis=0)
        sizes = np.array([len(column.categories) + 1 for column in rows.category_columns], dtype=int)
        self.narrow = sizes <= WIDEST_ONE_HOT
        self.offsets = np.concatenate([[0], np.cumsum(sizes[self.narrow])]).astype(int)
        # every column is moved to its middle: small numbers lose less to rounding
        self.middle = np.array([np.nanmean(v) if np.isfinite(v).any() else 0.0 for v in rows.numbers.T])
        self.scaled = self._scaled(rows)
        self.indicator_weights = np.repeat(self.category_weights[self.narrow], sizes[self.narrow])
        self.indicators = self._indicators(rows)

    def _scaled(self, table: Coded) -> np.ndarray:
        return ((table.numbers - self.middle) / self.widths).astype(np.float32)

    def _indicators(self, table: Coded) -> Any:
        import torch

        codes = table.codes[:, self.narrow] + 1 + self.offsets[:-1]
        return torch.zeros((len(table), int(self.offsets[-1]))).scatter_(
            1, torch.from_numpy(codes.astype(np.int64)), 1.0
        )

    def to(self, block: Coded) -> np.ndarray:
        """Return distances ``(queries, rows)`` in float32."""
        import torch

        out = self.mismatches(block)
        scaled = self._scaled(block)
        gaps = self.gaps | np.isnan(block.numbers).any(axis=0)
        if (~gaps).any():
            weights = self.number_weights[~gaps]
            one, two = (torch.from_numpy(part[:, ~gaps] * weights) for part in (scaled, self.scaled))
            out += torch.cdist(one, two, p=1.0).numpy()
        for c in np.flatnonzero(gaps):
            out += self.number_weights[c] * _number_distance(scaled[:, c, None], self.scaled[None, :, c], 1.0)
        return out

    def mismatches(self, block: Coded) -> np.ndarray:
        """Return how many categories differ ``(queries, rows)``, by weight, in float32."""
        import torch

        differing = torch.full((len(block), len(self.rows)), float(self.category_weights[self.narrow].sum()))
        if self.narrow.any():
            weighted = self._indicators(block) * torch.from_numpy(self.indicator_weights)
            differing -= weighted @ self.indicators.T
        out = differing.numpy()
        for c in np.flatnonzero(~self.narrow):
            out += self.category_weights[c] * (block.codes[:, c, None] != self.rows.codes[None, :, c])
        return out
