"""Boundary attack: how far must a record be moved before the model changes its answer?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from leakpro_nb.attacks.base import NotApplicable, Scores
from leakpro_nb.attacks.membership.label_only import Space, as_numbers, canonical_order, mean_out, space_of
from leakpro_nb.errors import InputError
from leakpro_nb.game.threat import Knowledge
from leakpro_nb.game.views import Access, View

__all__ = ["Boundary", "hop_skip_jump"]

ROWS = 100_000
"""Most points asked about at once, so that memory stays small."""

TRIES = 10
"""Step lengths tried in one round, each half the one before."""

SOFT = 0.05
"""Distance, in units, below which differences count for little when distances are compared by their ratio."""

FINEST, COARSEST = 1e-3, 1e-2
"""Share of the distance to which the boundary is found, at best and at worst."""

TINY = 1e-12
"""Stands for a length of 0 where one divides by it."""

Wrong = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Whether the target's answer is not the record's label, for records ``rows (n,)`` moved to ``points (n, D)``."""


@dataclass(frozen=True)
class Boundary:
    """Distance (L2) to the nearest point at which the target's answer is wrong, found by asking for labels only.

    Source: Choquette-Choo et al., ICML 2021 (2007.14321), with HopSkipJump of Chen et al., S&P 2020 (1904.02144). All
    records take each step together, and the directions tried are the same for all of them.

    Distances are in units of the range of values for images and of each column's spread for tables; see
    ``label_only.Space``. A one-hot column is moved like any other, between its two values.

    Parameters
    ----------
    mode
        ``"plain"`` (default): the paper's. ``"calibrated"`` (ours): relative to the mean distance in shadow models that
        never saw the record, as some records are far from the boundary in every model; the score is
        ``log((distance + 0.05) / (mean + 0.05))``. Takes as much time again for every shadow model.
    queries
        Most queries per record; no round is begun that could exceed them.
    iterations
        Most rounds of HopSkipJump: estimate the direction of the boundary, step, return to the boundary.
    initial_evaluations, max_evaluations
        Queries for one estimate of the direction: the first number in the first round, growing with the square root of
        the round, at most the second.
    starts
        Random points, the same for all records, asked about once, from which a search may start; the population's
        records are further ones.
    gamma
        How precisely the boundary is found: to the share ``gamma / D^1.5`` of the distance, as in HopSkipJump for L2,
        within a thousandth and a hundredth.
    seed
        Of the random directions and points.
    """

    title: ClassVar[str] = "Boundary distance by labels"
    paper: ClassVar[str] = "Choquette-Choo et al., ICML 2021"
    idea: ClassVar[str] = (
        "The attacker changes a person's record bit by bit until the model answers differently. The model tends to hold "
        "on longest to its answers about people it was trained on."
    )
    access: ClassVar[Access] = "labels"
    asks: ClassVar[bool] = True

    mode: Literal["plain", "calibrated"] = "plain"
    queries: int = 1000
    iterations: int = 30
    initial_evaluations: int = 25
    max_evaluations: int = 10_000
    starts: int = 100
    gamma: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in ("plain", "calibrated"):
            raise InputError("boundary.mode", self.mode, "use plain or calibrated")
        for name, least in (("queries", 50), ("iterations", 1), ("initial_evaluations", 2), ("starts", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
                raise InputError(f"boundary.{name}", value, f"use an integer of at least {least}")
        if self.max_evaluations < self.initial_evaluations:
            raise InputError(
                "boundary.max_evaluations", self.max_evaluations, "use at least as many as initial_evaluations"
            )
        if not self.gamma > 0:
            raise InputError("boundary.gamma", self.gamma, "use a positive number")

    @property
    def knowledge(self) -> tuple[Knowledge, ...]:
        """True labels; calibrated also the recipe."""
        return ("labels", "recipe") if self.mode == "calibrated" else ("labels",)

    @property
    def references(self) -> int:
        """The fewest reference models."""
        return int(self.mode == "calibrated")

    def run(self, view: View) -> Scores:
        """Score every record of ``view`` with its distance, 0 where the target is wrong already.

        Records from which no start of a search is known get NaN; so do those that every shadow model saw, if calibrated.

        Raises
        ------
        NotApplicable
            Records that cannot be moved (see ``space_of``), a target that always gives one answer, or, calibrated, no
            suitable reference models.
        AccessDenied
            The target, or calibrated the reference models, cannot be asked.
        """
        if self.mode == "plain":
            return self._distances(view)
        plain = self._distances(view)
        usual = mean_out(view, lambda shadow: self._distances(shadow).values)
        return Scores(np.log(plain.values + SOFT) - np.log(usual + SOFT), plain.notes)

    def _distances(self, view: View) -> Scores:
        space = space_of(view)
        distance = np.zeros(len(view))
        right = np.flatnonzero(view.predicted_classes() == view.labels)
        right = right[canonical_order(space.numbers[right], view.labels[right])]
        if not len(right):
            return Scores(distance, {"queries per record": 1})

        def wrong(rows: np.ndarray, points: np.ndarray) -> np.ndarray:
            parts = np.array_split(np.arange(len(rows)), max(1, -(-len(rows) // ROWS)))
            answers = [view.ask(space.at(rows[part], points[part])).argmax(axis=1) for part in parts]
            return np.concatenate(answers) != view.labels[rows]

        begin = self._starts(view, space, right)
        reached = np.isfinite(begin).all(axis=1)
        if not reached.any():
            raise NotApplicable(
                "it needs to see the model change its answer, and the model gave everything the same one"
            )
        found, asked = hop_skip_jump(self, wrong, right[reached], begin[reached], space)
        distance[right] = np.nan
        distance[right[reached]] = found
        return Scores(distance, {"queries per record": 1 + asked, "random points asked once": self.starts})

    def _starts(self, view: View, space: Space, rows: np.ndarray) -> np.ndarray:
        """Return the nearest point known to be answered otherwise ``(n, D)``; NaN where there is none."""
        rng = np.random.default_rng(self.seed)
        points = rng.uniform(space.low, space.high, (self.starts, len(space.low)))
        # what a moved column leaves alone is the same for everyone, so any record will do to carry the points
        answers = view.ask(space.at(np.zeros(len(points), dtype=int), points)).argmax(axis=1)
        if view.population is not None and view.population_inputs is not None:
            around = as_numbers(view.population_inputs)[:, space.moved] / space.unit
            points = np.vstack([around, points])
            answers = np.concatenate([view.population.argmax(axis=1), answers])
        begin = np.full((len(rows), points.shape[1]), np.nan)
        own = space.points[rows]
        for label in np.unique(view.labels[rows]):
            other = points[answers != label]
            if len(other):
                mine = view.labels[rows] == label
                begin[mine] = other[_nearest(own[mine], other)]
        return begin


def _nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the index ``(n,)`` of the nearest of ``others (m, D)`` to each of ``points (n, D)``."""
    from sklearn.metrics import pairwise_distances_argmin

    return pairwise_distances_argmin(points, others)


def hop_skip_jump(
    options: Boundary, wrong: Wrong, rows: np.ndarray, begin: np.ndarray, space: Space
) -> tuple[np.ndarray, int]:
    """Return the distance ``(n,)`` from each record to the nearest wrongly answered point found, and the queries spent.

    Parameters
    ----------
    options
        See ``Boundary``.
    wrong
        The target: whether it errs at given points.
    rows
        (n,) which records.
    begin
        (n, D) for each a point at which the target errs.
    space
        Units and range.

    Source: Chen et al., S&P 2020, algorithm 2, for L2. Ours: the first estimate looks a tenth of the distance around,
    not a tenth of the range of the data.
    """
    rng = np.random.default_rng([options.seed, 1])
    own, dimensions = space.points[rows], begin.shape[1]
    theta = float(np.clip(options.gamma / dimensions**1.5, FINEST, COARSEST))
    halvings = int(np.ceil(np.log2(1 / theta)))
    point = _bisect(wrong, rows, own, begin, halvings)
    best = np.linalg.norm(point - own, axis=1)
    asked = halvings
    for round_ in range(1, options.iterations + 1):
        count = int(min(options.initial_evaluations * np.sqrt(round_), options.max_evaluations))
        if asked + count + TRIES + halvings > options.queries:
            break
        distance = np.linalg.norm(point - own, axis=1)
        size = 0.1 * distance if round_ == 1 else np.sqrt(dimensions) * theta * distance
        size = np.maximum(size, TINY)
        direction = _direction(wrong, rows, point, size, rng.normal(size=(count, dimensions)), space)
        # the longest step of these that stays on the wrong side
        step = distance / np.sqrt(round_)
        ahead, looking = point.copy(), np.arange(len(rows))
        for _ in range(TRIES):
            trial = np.clip(point[looking] + step[looking, None] * direction[looking], space.low, space.high)
            hit = wrong(rows[looking], trial)
            ahead[looking[hit]] = trial[hit]
            looking = looking[~hit]
            step[looking] /= 2
            if not len(looking):
                break
        point = _bisect(wrong, rows, own, ahead, halvings)
        best = np.minimum(best, np.linalg.norm(point - own, axis=1))
        asked += count + TRIES + halvings
    return best, asked


def _bisect(wrong: Wrong, rows: np.ndarray, own: np.ndarray, outside: np.ndarray, halvings: int) -> np.ndarray:
    """Return points ``(n, D)`` on the lines from ``own`` to ``outside``, just on the wrong side of the boundary."""
    low, high = np.zeros(len(rows)), np.ones(len(rows))
    for _ in range(halvings):
        middle = (low + high) / 2
        hit = wrong(rows, own + middle[:, None] * (outside - own))
        low, high = np.where(hit, low, middle), np.where(hit, middle, high)
    return own + high[:, None] * (outside - own)


def _direction(
    wrong: Wrong, rows: np.ndarray, point: np.ndarray, size: np.ndarray, noise: np.ndarray, space: Space
) -> np.ndarray:
    """Return the unit direction ``(n, D)`` in which the target errs more, from answers around ``point (n, D)``."""
    noise = noise / np.linalg.norm(noise, axis=1, keepdims=True)
    total, sums = np.zeros_like(point), np.zeros_like(point)
    answered = np.zeros(len(rows))
    together = max(1, ROWS // len(rows))
    for first in range(0, len(noise), together):
        some = noise[first : first + together]
        around = np.clip(point[:, None] + size[:, None, None] * some, space.low, space.high)
        sign = 2.0 * wrong(np.repeat(rows, len(some)), around.reshape(-1, point.shape[1])) - 1
        sign = sign.reshape(len(rows), len(some))
        moved = (around - point[:, None]) / size[:, None, None]
        total += np.einsum("nq,nqd->nd", sign, moved)
        sums += moved.sum(axis=1)
        answered += sign.sum(axis=1)
    mean = (answered / len(noise))[:, None]
    # where all answers agree, their mean tells nothing about the direction and is not taken off
    estimate = np.where(np.abs(mean) < 1, total - mean * sums, total)
    return estimate / np.maximum(np.linalg.norm(estimate, axis=1, keepdims=True), TINY)
