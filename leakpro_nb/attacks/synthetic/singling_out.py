"""Singling out: do predicates that isolate one synthetic record isolate one real person?"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from scipy.special import gammaln

from leakpro_nb.attacks.synthetic.base import Attempts, Contest
from leakpro_nb.attacks.synthetic.predicates import Predicates, Ranked, rank
from leakpro_nb.errors import InputError
from leakpro_nb.game.tables import Coded

__all__ = ["Way", "alone_in_sample", "multivariate", "random_predicates", "single_out", "trees", "univariate"]

Way = Literal["univariate", "multivariate", "trees"]

BLOCK = 20_000
"""Predicates that are drawn and counted at once."""


def single_out(
    original: Coded,
    synthetic: Coded,
    control: Coded | None = None,
    *,
    way: Way = "multivariate",
    queries: int = 2000,
    columns: int = 4,
    max_attempts: int = 200_000,
    seed: int = 0,
) -> Contest:
    """Return how often predicates that match one synthetic record match exactly one person in the original.

    Exact duplicates are dropped from every table first. Original and control are compared at equal size: for the larger
    table the success of a predicate is its exact chance to match one row of a random part as large as the smaller one.
    The rate is taken over the predicates that were found, however many were asked for.

    Parameters
    ----------
    original, synthetic, control
        Tables that were encoded together.
    way
        ``"univariate"``, ``"multivariate"`` or ``"trees"``; see the functions of these names.
    queries
        Predicates wanted; ``notes`` says how many there are.
    columns
        Conditions per multivariate predicate.
    max_attempts
        Predicates that are tried at most.
    seed
        Decides which are tried.

    Source: Giomi et al., PoPETs 2023 (2211.10459), section 4.1; equal size instead of their extrapolation.
    """
    if way not in ("univariate", "multivariate", "trees"):
        raise InputError("way", way, "use univariate, multivariate or trees")
    tables = [original.distinct(), synthetic.distinct(), *([control.distinct()] if control is not None else [])]
    if way == "multivariate" and not 1 <= columns <= len(original.columns):
        raise InputError("columns", columns, f"use a number from 1 to {len(original.columns)}, the columns there are")
    ranked = rank(*tables)
    real, release = ranked[0], ranked[1]
    others = ranked[2] if control is not None and len(control) else None
    rng = np.random.default_rng(seed)
    if way == "univariate":
        found, tried = univariate(tables[1], release, queries, rng)
    elif way == "trees":
        found, tried = trees(release, queries, rng)
    else:
        found, tried = multivariate(tables[1], release, queries, columns, max_attempts, rng)
    size = len(real) if others is None else min(len(real), len(others))
    whole = real.count(found)
    guesses = random_predicates(tables[1], release, len(found), columns if way == "multivariate" else 1, rng)
    rows = _rows_of(original)
    return Contest(
        _attempts(real, found, size, rows),
        None if others is None else _attempts(others, found, size, _rows_of(control)),
        _attempts(real, guesses, size, rows),
        {
            "asked": queries, "found": len(found), "tried": tried, "compared at": size,
            "rate in the whole original": float((whole.rows == 1).mean()) if len(found) else None,
        },
    )  # fmt: skip


def _rows_of(table: Coded | None) -> np.ndarray:
    """Return which rows of a table are left when repeated ones are dropped."""
    import pandas as pd

    assert table is not None
    whole = pd.concat([pd.DataFrame(table.numbers), pd.DataFrame(table.codes)], axis=1)
    return np.flatnonzero(~whole.duplicated().to_numpy())


def _attempts(table: Ranked, predicates: Predicates, size: int, rows: np.ndarray) -> Attempts:
    counts = table.count(predicates)
    return Attempts(
        alone_in_sample(counts.rows, len(table), size),
        np.where(counts.only >= 0, rows[counts.only], -1),
        predicates.uses(table.ranks.shape[1]),
    )


def alone_in_sample(matches: np.ndarray, rows: int, size: int) -> np.ndarray:
    """Return the chance that exactly one of ``matches (Q,)`` rows lies in a random sample of ``size`` of ``rows``.

    >>> alone_in_sample(np.array([0, 1, 2]), 10, 5).round(3).tolist()
    [0.0, 0.5, 0.556]
    """
    if size == rows:
        return (matches == 1).astype(np.float64)

    def choose(n: np.ndarray, k: int) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(n >= k, gammaln(n + 1) - gammaln(k + 1) - gammaln(np.maximum(n - k, 0) + 1), -np.inf)

    log = choose(rows - matches, size - 1) - choose(np.array(rows), size)
    return np.where(matches > 0, matches * np.exp(log), 0.0)


def univariate(table: Coded, release: Ranked, queries: int, rng: np.random.Generator) -> tuple[Predicates, int]:
    """Return predicates on one column that match one synthetic record, and how many there were to choose from.

    A value that occurs once, the smallest or largest number, or the one missing value.
    """
    found = []
    for c, column in enumerate(table.columns):
        ranks, missing = release.ranks[:, c], release.missing[c]
        counts = np.bincount(ranks, minlength=int(release.sizes[c]))
        once = np.flatnonzero(counts == 1)
        found += [(c, int(r), int(r)) for r in once]
        known = ranks[ranks != missing]
        if column.kind == "number" and len(known):
            low, high, top = int(known.min()), int(known.max()), int(release.sizes[c]) - 1 - (missing >= 0)
            found += [(c, 0, low)] if counts[low] == 1 else []
            found += [(c, high, top)] if counts[high] == 1 else []
    every = np.array(found, dtype=int).reshape(-1, 3)
    chosen = every[rng.permutation(len(every))[:queries]]
    return Predicates(chosen[:, :1], chosen[:, 1:2], chosen[:, 2:]), len(every)


def multivariate(
    table: Coded, release: Ranked, queries: int, columns: int, max_attempts: int, rng: np.random.Generator
) -> tuple[Predicates, int]:
    """Return predicates on ``columns`` columns that match one synthetic record, and how many were tried.

    Around a random synthetic record: numbers above the median "at least as large", others "at most as large",
    categories equal (the median trick).
    """
    found = _none(columns)
    tried = 0
    while len(found) < queries and tried < max_attempts:
        block = min(BLOCK, max_attempts - tried)
        drawn = _around(table, release, rng.integers(len(release), size=block), columns, rng)
        alone = drawn.take(np.flatnonzero(release.count(drawn).rows == 1))
        both = found.joined(alone)
        found = both.take(both.distinct())
        tried += block
    return found.take(np.arange(min(queries, len(found)))), tried


def _none(columns: int) -> Predicates:
    return Predicates(*(np.zeros((0, columns), dtype=int) for _ in range(3)))


def _around(table: Coded, release: Ranked, rows: np.ndarray, columns: int, rng: np.random.Generator) -> Predicates:
    """Return one predicate around each of the given synthetic records, on random columns in the table's order."""
    p = len(table.columns)
    chosen = np.sort(rng.random((len(rows), p)).argpartition(columns - 1, axis=1)[:, :columns], axis=1)
    values = np.take_along_axis(release.ranks[rows], chosen, axis=1)
    number = np.array([column.kind == "number" for column in table.columns])
    middle = np.array([_median_rank(table, release, c) if number[c] else 0.0 for c in range(p)])
    known = values != release.missing[chosen]
    top = (release.sizes - 1 - ((release.missing >= 0) & number))[chosen]
    upward = number[chosen] & known & (values > middle[chosen])
    downward = number[chosen] & known & ~upward
    return Predicates(chosen, np.where(downward, 0, values), np.where(upward, top, values))


def _median_rank(table: Coded, release: Ranked, c: int) -> float:
    """Return a rank that divides values above the column's median from the rest."""
    values = table.values(table.names[c])
    if np.isnan(values).all():
        return 0.0
    above = release.ranks[:, c][values > np.nanmedian(values)]
    return float(above.min()) - 0.5 if len(above) else float(release.sizes[c])


def trees(release: Ranked, queries: int, rng: np.random.Generator, *, most: int = 200) -> tuple[Predicates, int]:
    """Return predicates that are the paths to single synthetic records in fully grown decision trees.

    Each tree predicts one random column from the others, and so cuts the table where the generator's records differ;
    categories are cut between groups of neighbouring values.

    Source: decision trees as predicate finders, Giomi et al., PoPETs 2023, section 4.1 (named, not tested, there).
    """
    from sklearn.tree import DecisionTreeRegressor

    p = release.ranks.shape[1]
    if p < 2 or len(release) < 2:
        return _none(p), 0
    found, tried = _none(p), 0
    for _ in range(most):
        if len(found) >= queries:
            break
        secret = int(rng.integers(p))
        others = np.delete(np.arange(p), secret)
        model = DecisionTreeRegressor(max_features=0.5, splitter="random", random_state=int(rng.integers(2**31)))
        model.fit(release.ranks[:, others], release.ranks[:, secret])
        paths = _leaves(model.tree_, others, release)
        alone = paths.take(np.flatnonzero(release.count(paths).rows == 1))
        tried += len(paths)
        both = found.joined(alone)
        found = both.take(both.distinct())
    return found.take(rng.permutation(len(found))[:queries]), tried


def _leaves(tree: Any, columns: np.ndarray, release: Ranked) -> Predicates:
    """Return the conditions on the way to every leaf that holds one record: one interval per column."""
    p = release.ranks.shape[1]
    low = np.zeros((tree.node_count, p), dtype=int)
    high = np.tile(release.sizes - 1, (tree.node_count, 1))
    for node in range(tree.node_count):  # parents come before their children
        left, right = tree.children_left[node], tree.children_right[node]
        if left < 0:
            continue
        c, cut = columns[tree.feature[node]], int(np.floor(tree.threshold[node]))
        low[[left, right]], high[[left, right]] = low[node], high[node]
        high[left, c], low[right, c] = cut, cut + 1
    leaf = np.flatnonzero((tree.children_left < 0) & (tree.n_node_samples == 1))
    low, high = low[leaf], high[leaf]
    asked = (low > 0) | (high < release.sizes - 1)
    return Predicates(np.where(asked, np.arange(p), -1), np.where(asked, low, 0), np.where(asked, high, 0))


def random_predicates(
    table: Coded, release: Ranked, queries: int, columns: int, rng: np.random.Generator
) -> Predicates:
    """Return predicates on random columns with random values of the release and random directions, for comparison."""
    p = len(table.columns)
    columns = min(columns, p)
    chosen = (
        rng.random((queries, p)).argpartition(columns - 1, axis=1)[:, :columns]
        if queries
        else np.zeros((0, columns), int)
    )
    values = release.ranks[rng.integers(len(release), size=(queries, columns)), chosen]
    number = np.array([column.kind == "number" for column in table.columns])
    known = (values != release.missing[chosen]) & number[chosen]
    top = (release.sizes - 1 - ((release.missing >= 0) & number))[chosen]
    way = rng.integers(3, size=values.shape)
    return Predicates(chosen, np.where(known & (way == 1), 0, values), np.where(known & (way == 2), top, values))
