"""Outliers: does the release give away the people who are unlike all others?

They are the ones whom a synthetic table can describe only by describing one person. Results name them by their row in
the original, never by their values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from leakpro_nb.attacks.synthetic.base import Attempts, Contest
from leakpro_nb.attacks.synthetic.distances import chance_closer
from leakpro_nb.attacks.synthetic.neighbours import nearest_distance
from leakpro_nb.errors import InputError
from leakpro_nb.game.tables import Coded

__all__ = ["Anomalies", "Outliers", "anomalies", "outlier_scores"]

TREES = 200
"""Trees of the isolation forest: scores hardly change beyond."""


class Outliers(NamedTuple):
    """Outliers of one table.

    ``row`` (m,) their rows, the oddest first; ``score`` (m,) how odd they are; ``distance`` (m,) to the nearest
    synthetic record, the mean over columns; ``exposed`` (m,) the chance that this record is nearer than any other real
    person, at equal size.
    """

    row: np.ndarray
    score: np.ndarray
    distance: np.ndarray
    exposed: np.ndarray

    @property
    def at_risk(self) -> np.ndarray:
        """Rows of the outliers to whom a synthetic record is likely nearer than any other person, the oddest first."""
        return self.row[self.exposed > 0.5]


@dataclass(frozen=True)
class Anomalies:
    """Outliers of the original and of the control (``None`` without one).

    Control outliers are near to synthetic records by chance; only what the original's are beyond that is a leak.
    """

    original: Outliers
    control: Outliers | None

    @property
    def contest(self) -> Contest:
        """How often outliers are exposed, in the form of the other attacks; one attempt per outlier."""
        sides = [None if side is None else Attempts(side.exposed, side.row) for side in (self.original, self.control)]
        return Contest(sides[0] or Attempts(np.zeros(0), np.zeros(0, dtype=int)), sides[1])


def anomalies(
    original: Coded, synthetic: Coded, control: Coded | None = None, *, share: float = 0.05, seed: int = 0
) -> Anomalies:
    """Find the outliers of the original and of the control by one rule, and how near the release comes to them.

    Parameters
    ----------
    original, synthetic, control
        Tables that were encoded together.
    share
        Which share of all people, in the original and the control together, counts as outliers. Fewer do where many
        are equally odd.
    seed
        Of the isolation forest.

    Raises
    ------
    InputError
        A share outside (0, 1), or fewer than two people.
    """
    if not 0 < share < 1:
        raise InputError("share", share, "use a number between 0 and 1, for example 0.05")
    people = original if control is None or not len(control) else _stacked(original, control)
    if len(people) < 2:
        raise InputError("original", f"{len(people)} records", "there must be at least two to tell an outlier")
    score = outlier_scores(people, seed)
    count = max(1, round(share * len(people)))
    edge = np.sort(score)[-count]
    odd = np.flatnonzero(score >= edge)
    if len(odd) > 2 * count:  # a crowd at the edge is not odd
        odd = np.flatnonzero(score > edge)
    odd = odd[np.argsort(-score[odd], kind="stable")]
    exposed = 1 - chance_closer(people, people, synthetic, without_self=True, asked=odd)
    distance = nearest_distance(people.take(odd), synthetic) / len(people.columns)

    def side(chosen: np.ndarray, offset: int) -> Outliers:
        return Outliers(odd[chosen] - offset, score[odd[chosen]], distance[chosen], exposed[chosen])

    inside = odd < len(original)
    return Anomalies(side(inside, 0), None if people is original else side(~inside, len(original)))


def outlier_scores(table: Coded, seed: int = 0) -> np.ndarray:
    """Return how odd each record is ``(n,)``, in (0, 1): how soon random cuts set it apart.

    Categories count by how common they are; a missing value is a category, and for numbers a column of its own.

    Source: isolation forest, Liu et al., ICDM 2008, in scikit-learn.
    """
    from sklearn.ensemble import IsolationForest

    parts = []
    for column in table.columns:
        values = table.values(column.name)
        if column.kind == "number":
            gap = np.isnan(values)
            parts.append(np.where(gap, np.nanmedian(values) if (~gap).any() else 0.0, values))
            if gap.any() and not gap.all():
                parts.append(gap.astype(np.float64))
        else:
            parts.append(np.log(np.bincount(values + 1)[values + 1] / len(values)))
    forest = IsolationForest(n_estimators=TREES, random_state=seed, n_jobs=1).fit(np.column_stack(parts))
    return -forest.score_samples(np.column_stack(parts))


def _stacked(one: Coded, two: Coded) -> Coded:
    return Coded(one.columns, np.concatenate([one.numbers, two.numbers]), np.concatenate([one.codes, two.codes]))
