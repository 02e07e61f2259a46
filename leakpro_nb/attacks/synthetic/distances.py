"""Sanity checks by distance: is the synthetic table closer to the original than to control people?

They can find a release that copies. They cannot show that a release is safe, and ``WARNING`` says so; it belongs beside
every figure that comes from here. All comparisons are made at equal size, and ties count half: a table of few distinct
rows is near to everybody, and that is neither a leak nor a protection.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln

from leakpro_nb.attacks.synthetic.base import Attempts, Contest
from leakpro_nb.attacks.synthetic.neighbours import (
    TIE,
    column_distances,
    distance_blocks,
    near_pairs,
    nearest_distance,
    nearest_two,
    rounding,
)
from leakpro_nb.errors import InputError
from leakpro_nb.game.tables import Coded

__all__ = [
    "CHECKS",
    "WARNING",
    "Check",
    "adversarial_accuracy",
    "chance_closer",
    "copies",
    "dcr",
    "distance_ratio",
    "entropy_weights",
    "hits",
    "new_rows",
    "sanity_distances",
]

WARNING = (
    "Distances cannot show privacy: synthetic tables that pass such checks have been attacked as successfully as tables "
    "that fail them (The DCR Delusion, ESORICS 2025, arXiv 2505.01524)."
)
"""Stands beside every figure of this module."""


class Check(NamedTuple):
    """One sanity check: title, source, what its rate is the share of, and what a leak does to it.

    ``sign`` is 1 where the original's rate exceeds the control's (or one half, for ``closer``) if something leaks, and
    -1 where it falls below.
    """

    title: str
    paper: str
    share: str
    sign: int


CHECKS: dict[str, Check] = {
    "closer": Check(
        "Closer to the original",
        "Platzer and Reutterer 2021",
        "synthetic records closer to the original; half is fair",
        1,
    ),
    "distance_ratio": Check(
        "Nearest neighbour distance ratio",
        "Lautrup et al. 2024 (SynthEval)",
        "nearest distance over second nearest, mean",
        -1,
    ),
    "adversarial_accuracy": Check(
        "Adversarial accuracy",
        "Yale et al. 2020",
        "records closer to their own table than to the other; half is ideal",
        -1,
    ),
    "identifiability": Check(
        "Identifiability", "Yoon et al. 2020 (ADS-GAN)", "people closer to a synthetic record than to another person", 1
    ),
    "hits": Check("Hitting rate", "Lautrup et al. 2024 (SynthEval)", "people whom a synthetic record resembles", 1),
    "copies": Check("Exact copies", "", "synthetic records that equal somebody's", 1),
    "new_rows": Check("New records", "SDMetrics (NewRowSynthesis)", "synthetic records that resemble nobody's", -1),
}
"""Checks by name."""


def sanity_distances(
    original: Coded, synthetic: Coded, control: Coded | None = None, *, most: int = 2000, seed: int = 0
) -> dict[str, Contest]:
    """Return every check of ``CHECKS`` on the original and on control people.

    The success of each attempt is a share in [0, 1]; its record is the person that it was about, so that intervals can
    be taken over people. Without a control there is no ``closer``, and the others have only their attack.

    Parameters
    ----------
    original, synthetic, control
        Tables that were encoded together.
    most
        Records of each table for which distances are computed (they are compared with whole tables), drawn with
        ``seed``.
    seed
        For these draws, and for the random parts of larger tables where sizes must be equal.
    """
    rng = np.random.default_rng(seed)
    sides = {"attack": original, **({"control": control} if control is not None and len(control) else {})}
    smallest = min(map(len, sides.values()))
    whole = {side: _part(table, smallest, rng) for side, table in sides.items()}  # as many people on both sides
    asked = {side: _part(table, most, rng) for side, table in whole.items()}
    release = _part(synthetic, most, rng)
    weights = entropy_weights(original)

    def contest(attempts: dict[str, Attempts]) -> Contest:
        return Contest(attempts["attack"], attempts.get("control"))

    def about_people(values: dict[str, np.ndarray]) -> Contest:
        return contest({side: Attempts(each, np.arange(len(each))) for side, each in values.items()})

    found = {
        "distance_ratio": about_people({side: distance_ratio(table, synthetic) for side, table in asked.items()}),
        "hits": about_people({side: hits(table, synthetic) for side, table in asked.items()}),
        "copies": contest({side: copies(synthetic, table, smallest) for side, table in sides.items()}),
        "new_rows": contest({side: new_rows(release, table) for side, table in whole.items()}),
    }
    if smallest > 1 and len(synthetic) > 1:
        found["adversarial_accuracy"] = contest(
            {side: adversarial_accuracy(table, synthetic, most=most, seed=seed) for side, table in whole.items()}
        )
        found["identifiability"] = about_people(
            {
                side: 1
                - chance_closer(
                    table, table, synthetic, without_self=True, weights=weights, asked=_some(table, most, rng)
                )
                for side, table in whole.items()
            }
        )
    if control is not None and len(control):
        near, record = _nearest_of(release, original, control)
        chance = chance_closer(release, original, control)
        notes = {
            "median distance to the original": float(np.median(near[0])),
            "median distance to the control": float(np.median(near[1])),
            "tied": float(np.mean(np.abs(near[0] - near[1]) * len(original.columns) <= TIE)),
        }
        found["closer"] = Contest(Attempts(chance, record), notes=notes)
    return {name: found[name] for name in CHECKS if name in found}


def dcr(queries: Coded, rows: Coded, *, scale: Coded | None = None) -> np.ndarray:
    """Return the distance ``(n,)`` in [0, 1] to the closest record: Gower's, as the mean over columns.

    ``scale``: the table whose ranges scale the numbers (then a distance can exceed 1); by default all tables together,
    so that distances to different tables can be compared.
    """
    if scale is not None:
        queries, rows = _rescaled(queries, scale), _rescaled(rows, scale)
    return nearest_distance(queries, rows) / len(rows.columns)


def _rescaled(table: Coded, scale: Coded) -> Coded:
    spans = []
    for column in table.columns:
        values = scale.values(column.name)
        known = values[np.isfinite(values)] if column.kind == "number" else values[:0]
        spans.append(float(np.ptp(known)) if len(known) and np.ptp(known) > 0 else column.width)
    columns = tuple(replace(column, width=span) for column, span in zip(table.columns, spans, strict=True))
    return replace(table, columns=columns)


def chance_closer(
    queries: Coded,
    one: Coded,
    other: Coded,
    *,
    without_self: bool = False,
    weights: np.ndarray | None = None,
    asked: np.ndarray | None = None,
) -> np.ndarray:
    """Return the chance ``(n,)`` that the nearest record of ``one`` is nearer than that of ``other``, at equal size.

    The chance is that over random parts of the larger table, as large as the smaller one: exact, nothing is drawn.
    Ties count half.

    Parameters
    ----------
    queries, one, other
        Tables that were encoded together.
    without_self
        ``queries`` is ``one``, and nobody is their own neighbour.
    weights
        See ``near_pairs``.
    asked
        Rows of the queries to answer for; all by default.
    """
    chosen = np.arange(len(queries)) if asked is None else asked
    targets, skip = queries.take(chosen), chosen if without_self else None
    sizes = len(one) - without_self, len(other)
    if min(sizes) < 1:
        raise InputError("one", f"{sizes} records", "each table needs a record to be near to")
    one_is_larger = sizes[0] >= sizes[1]
    small, large = (other, one) if one_is_larger else (one, other)
    near = _nearest(targets, small, weights, None if one_is_larger else skip)
    below, tied = _within(targets, large, near, weights, skip if one_is_larger else None)
    spared = [missed(count, max(sizes), min(sizes)) for count in (below, below + tied)]
    larger_wins = 1 - (spared[0] + spared[1]) / 2
    return larger_wins if one_is_larger else 1 - larger_wins


def missed(count: np.ndarray, rows: int, drawn: int) -> np.ndarray:
    """Return the chance ``(n,)`` that ``drawn`` random rows of ``rows`` contain none of given ``count (n,)`` rows.

    >>> missed(np.array([0, 1, 3]), 4, 2).round(3).tolist()
    [1.0, 0.5, 0.0]
    """
    left = rows - np.asarray(count)
    possible = left >= drawn
    left = np.where(possible, left, drawn)

    def log_ways(n: np.ndarray) -> np.ndarray:
        return gammaln(n + 1.0) - gammaln(n - drawn + 1.0)

    return np.where(possible, np.exp(log_ways(left) - log_ways(np.array(rows))), 0.0)


def _blocks(
    queries: Coded, rows: Coded, weights: np.ndarray | None, skip: np.ndarray | None
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield blocks of distances; infinite to the row that ``skip`` names for each query."""
    for first, distance in distance_blocks(queries, rows, weights=weights):
        if skip is not None:
            distance[np.arange(len(distance)), skip[first : first + len(distance)]] = np.inf
        yield first, distance


def _exact(queries: Coded, rows: Coded, weights: np.ndarray | None, query: np.ndarray, row: np.ndarray) -> np.ndarray:
    parts = column_distances(queries, rows, query, row)
    return parts.sum(axis=1) if weights is None else parts @ weights


def _nearest(queries: Coded, rows: Coded, weights: np.ndarray | None, skip: np.ndarray | None) -> np.ndarray:
    """Return the distance ``(n,)`` to the nearest row other than the one to skip, in double precision."""
    margin, out = np.float32(2 * rounding(rows, weights)), np.empty(len(queries))
    for first, distance in _blocks(queries, rows, weights, skip):
        query, row = np.nonzero(distance <= (distance.min(axis=1) + margin)[:, None])
        exact = _exact(queries, rows, weights, first + query, row)
        starts = np.searchsorted(query, np.arange(len(distance)))
        out[first : first + len(distance)] = np.minimum.reduceat(exact, starts)
    return out


def _within(
    queries: Coded, rows: Coded, reach: np.ndarray, weights: np.ndarray | None, skip: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return how many rows are nearer than ``reach (n,)``, and how many just as near, in double precision."""
    margin = np.float32(2 * rounding(rows, weights))
    below, tied = np.zeros(len(queries), dtype=np.int64), np.zeros(len(queries), dtype=np.int64)
    for first, distance in _blocks(queries, rows, weights, skip):
        part = slice(first, first + len(distance))
        edge = reach[part].astype(np.float32)[:, None]
        below[part] = (distance < edge - margin).sum(axis=1)
        query, row = np.nonzero(np.abs(distance - edge) <= margin)
        apart = _exact(queries, rows, weights, first + query, row) - reach[part][query]
        below[part] += np.bincount(query[apart < -TIE], minlength=len(distance))
        tied[part] = np.bincount(query[np.abs(apart) <= TIE], minlength=len(distance))
    return below, tied


def _nearest_of(release: Coded, original: Coded, control: Coded) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the distances ``(n,)`` to either table, and which person of both is nearest ``(n,)``."""
    near, row = [], []
    for table in (original, control):
        found = [
            (np.minimum.reduceat(p.parts.sum(axis=1), p.starts), p.row[p.starts]) for p in near_pairs(release, table)
        ]
        distance, who = (np.concatenate(part) for part in zip(*found, strict=True))
        near.append(distance / len(original.columns))
        row.append(who)
    return near, np.where(near[0] <= near[1], row[0], len(original) + row[1])


def distance_ratio(queries: Coded, rows: Coded) -> np.ndarray:
    """Return nearest distance over second nearest ``(n,)``, in [0, 1]; 1 if both are 0, NaN if there is no second.

    Source: NNDR of SynthEval, Lautrup et al. 2024.
    """
    near = nearest_two(queries, rows)
    ratio = np.divide(near[:, 0], near[:, 1], out=np.ones(len(near)), where=near[:, 1] > 0)
    return np.where(np.isnan(near[:, 1]), np.nan, ratio)


def adversarial_accuracy(real: Coded, synthetic: Coded, *, most: int | None = None, seed: int = 0) -> Attempts:
    """Return how often a record's nearest neighbour belongs to its own table: .5 for two samples of one population.

    Half of the attempts are about records of ``real``, half about synthetic ones (with records ``len(real)`` + row);
    tables are compared at equal size. Below .5 the synthetic table lies too close to the real one. The privacy loss is
    the value for control people minus that for the original. ``most`` and ``seed`` as in ``sanity_distances``.

    Source: Yale et al., Neurocomputing 2020.
    """
    rng = np.random.default_rng(seed)
    size = min(len(real), len(synthetic), most or len(real))
    success, record = [], []
    for own, other, offset in ((real, synthetic, 0), (synthetic, real, len(real))):
        chosen = _some(own, size, rng)
        success.append(chance_closer(own, own, other, without_self=True, asked=chosen))
        record.append(offset + chosen)
    return Attempts(np.concatenate(success), np.concatenate(record))


def entropy_weights(table: Coded) -> np.ndarray:
    """Return one over the entropy of each column ``(columns,)``, scaled to a mean of 1; 0 for constant columns.

    Source: ADS-GAN, Yoon et al., IEEE JBHI 2020, section III.
    """
    weights = []
    for column in table.columns:
        shares = np.unique(table.values(column.name), return_counts=True)[1] / len(table)
        entropy = float(-(shares * np.log(shares)).sum())
        weights.append(1 / entropy if entropy > 1e-12 else 0.0)
    total = sum(weights)
    return np.array(weights) * (len(weights) / total) if total > 0 else np.ones(len(weights))


def hits(queries: Coded, synthetic: Coded) -> np.ndarray:
    """Return whether a synthetic record resembles each person ``(n,)``, as 0 and 1: equal categories, close numbers.

    Numbers are close within a thirtieth of their range. Source: hitting rate of SynthEval, Lautrup et al. 2024.
    """
    widths = np.array([column.width for column in queries.number_columns])
    return (resembling(queries, synthetic, np.broadcast_to(widths / 30, queries.numbers.shape))[0] > 0).astype(float)


def new_rows(synthetic: Coded, real: Coded) -> Attempts:
    """Return which synthetic records resemble nobody in ``real``: equal categories and numbers within 1 %.

    Dates must be equal. Source: NewRowSynthesis of SDMetrics, by the percentage of the synthetic value.
    """
    dates = np.array([column.is_date for column in synthetic.number_columns], dtype=bool)
    count, row = resembling(synthetic, real, np.where(dates, 0.0, 0.01 * np.abs(synthetic.numbers)))
    return Attempts((count == 0).astype(np.float64), row)


def resembling(queries: Coded, rows: Coded, reach: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many rows have each query's categories, and numbers within ``reach (n, numbers)``, and the first such.

    Missing values resemble missing values alone. The first row is -1 where there is none.
    """
    widths = np.array([column.width or 1.0 for column in rows.number_columns])
    reach = np.minimum(np.nan_to_num(reach) / widths, 1.0)
    number = np.array([column.kind == "number" for column in rows.columns], dtype=bool)
    margin = 2 * rounding(rows)
    count, found = np.zeros(len(queries), dtype=np.int64), np.full(len(queries), -1)
    for first, distance in distance_blocks(queries, rows):
        part = slice(first, first + len(distance))
        query, row = np.nonzero(distance <= (reach[part].sum(axis=1) + margin).astype(np.float32)[:, None])
        parts = column_distances(queries, rows, first + query, row)
        gaps = np.isnan(queries.numbers[first + query]) != np.isnan(rows.numbers[row])
        alike = (parts[:, number] <= reach[first + query] + TIE).all(axis=1) & ~gaps.any(axis=1)
        alike &= (parts[:, ~number] == 0).all(axis=1)
        count[part] = np.bincount(query[alike], minlength=len(distance))
        found[first + query[alike][::-1]] = row[alike][::-1]
    return count, found


def copies(synthetic: Coded, real: Coded, size: int | None = None) -> Attempts:
    """Return which synthetic records equal a record of ``real``; missing values equal missing values.

    ``size``: the chance that they equal one of so many random records, so that tables of different size can be
    compared; all by default. Attempts about copies of one person have that person's row.
    """
    import pandas as pd

    both = [pd.DataFrame(np.column_stack([t.numbers, t.codes.astype(np.float64)])) for t in (synthetic, real)]
    whole = pd.concat(both, ignore_index=True)
    if not whole.shape[1]:
        raise InputError("columns", "none", "copies need at least one column")
    number = whole.groupby(list(whole.columns), dropna=False, sort=False).ngroup().to_numpy()
    ours, theirs = number[: len(synthetic)], number[len(synthetic) :]
    first = np.full(int(number.max()) + 1, -1)
    first[theirs[::-1]] = np.arange(len(theirs))[::-1]
    count = np.bincount(theirs, minlength=len(first))[ours]
    drawn = len(real) if size is None else min(size, len(real))
    return Attempts(1 - missed(count, len(real), drawn), first[ours])


def _some(table: Coded, size: int, rng: np.random.Generator) -> np.ndarray:
    return np.sort(rng.permutation(len(table))[:size])


def _part(table: Coded, size: int, rng: np.random.Generator) -> Coded:
    return table if len(table) <= size else table.take(_some(table, size, rng))
