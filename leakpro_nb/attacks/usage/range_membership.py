"""Range membership: was any record of a whole range in the training set?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from scipy.special import logsumexp

from leakpro_nb.attacks.base import Attack, Scores
from leakpro_nb.attacks.membership.rehearsal import FEWEST_REFERENCES, auc
from leakpro_nb.attacks.usage.samplers import Ball, Sample, Sampler
from leakpro_nb.errors import InputError
from leakpro_nb.game.threat import Knowledge
from leakpro_nb.game.views import Access, View

__all__ = [
    "Aggregate",
    "Direction",
    "RangeMembership",
    "aggregate",
    "choose_trim",
    "log_mean_exp",
    "range_view",
    "trim_table",
    "trimmed_mean",
]

Direction = Literal["largest", "smallest"]
Aggregate = Literal["trimmed", "mean", "max", "log_mean_exp", "centre"]


def trimmed_mean(A: np.ndarray, k: int, direction: Direction) -> np.ndarray:
    """Return the mean of the ``k`` largest or smallest of each range's scores ``A (R, n)`` as ``(R,)``.

    Source: Tao and Shokri, SaTML 2025 (2408.05131).

    Raises
    ------
    InputError
        ``k`` is not one of 1 … n, or the direction is neither.

    >>> trimmed_mean(np.array([[1.0, 5.0, 3.0]]), 2, "largest").tolist()
    [4.0]
    """
    n = A.shape[1]
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= n:
        raise InputError("k", k, f"keep from 1 to {n} of the {n} samples")
    if direction not in get_args(Direction):
        raise InputError("direction", direction, "use largest or smallest")
    ordered = np.sort(A, axis=1)
    return (ordered[:, n - k :] if direction == "largest" else ordered[:, :k]).mean(axis=1)


def log_mean_exp(A: np.ndarray) -> np.ndarray:
    """Return ``log mean exp`` of each range's scores ``A (R, n)`` as ``(R,)``.

    If a score is the log of a likelihood ratio, this is the log of the ratio for "any of the points, equally likely".
    """
    return np.asarray(logsumexp(A, axis=1) - np.log(A.shape[1]))


_AGGREGATES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": lambda A: A.mean(axis=1),
    "max": lambda A: A.max(axis=1),
    "log_mean_exp": log_mean_exp,
    "centre": lambda A: A[:, 0],
}


def aggregate(A: np.ndarray, how: Aggregate, k: int | None = None, direction: Direction = "largest") -> np.ndarray:
    """Return one score per range ``(R,)`` from those of its points ``A (R, n)``; NaN where any of them is."""
    if how == "trimmed":
        combined = trimmed_mean(A, A.shape[1] if k is None else k, direction)
    else:
        combined = _AGGREGATES[how](A)
    return np.where(np.isnan(A).any(axis=1), np.nan, combined)


def trim_table(A: np.ndarray, member: np.ndarray) -> dict[tuple[int, Direction], float]:
    """Return the AUC of every trimmed mean of ``A (R, n)`` against ``member (R,)`` bool, by (k, direction).

    Ranges with a NaN are left out; the table is empty where only one kind of range is left.
    """
    known = ~np.isnan(A).any(axis=1)
    member = member[known]
    if member.all() or not member.any():
        return {}
    n = A.shape[1]
    return {
        (k, direction): auc(trimmed_mean(A[known], k, direction), member)
        for k in range(n, 0, -1)
        for direction in get_args(Direction)
    }


def choose_trim(games: list[tuple[np.ndarray, np.ndarray]]) -> tuple[int, Direction] | None:
    """Return the (k, direction) with the largest mean AUC over practice games; ties go to the larger k.

    Parameters
    ----------
    games
        Scores ``(R, n)`` and truth ``(R,)`` of games whose truth the attacker knows.

    Returns
    -------
    The best pair, or ``None`` where no game could be played.
    """
    tables = [table for A, member in games if (table := trim_table(A, member))]
    if not tables:
        return None
    return max(tables[0], key=lambda each: np.mean([table[each] for table in tables]))


@dataclass(frozen=True)
class RangeMembership:
    """Range membership inference: score points of a range one by one, and combine them.

    The view's records are the centres of the ranges, and its references' ``trained_on`` says whether the range holds
    any record that they trained on (see ``range_view``).

    Source: RaMIA, Tao and Shokri, SaTML 2025 (2408.05131).

    Parameters
    ----------
    point
        The membership attack that scores each point.
    sampler
        What a range is; one that was fitted to records.
    samples
        Points per range (n), the first of which is its centre.
    how
        ``"trimmed"``: mean of k scores. ``"mean"``, ``"max"``, ``"log_mean_exp"``; ``"centre"``: the first alone.
    k, direction
        How many of the sorted scores a trimmed mean keeps, and from which end. ``k=None`` (default): both are chosen
        by letting every reference model play the target; nothing is ever chosen on the target's answers.
    """

    asks: ClassVar[bool] = True
    source: ClassVar[str] = "Tao and Shokri, SaTML 2025"

    point: Attack
    sampler: Sampler = field(default_factory=Ball)
    samples: int = 10
    how: Aggregate = "trimmed"
    k: int | None = None
    direction: Direction = "largest"

    def __post_init__(self) -> None:
        if isinstance(self.samples, bool) or not isinstance(self.samples, (int, np.integer)) or self.samples < 1:
            raise InputError("num_samples", self.samples, "use an integer of at least 1, for example 10")
        if self.how not in get_args(Aggregate):
            raise InputError("aggregate", self.how, f"use one of {', '.join(get_args(Aggregate))}")
        if self.k is not None and not 1 <= self.k <= self.samples:
            raise InputError("k", self.k, f"keep from 1 to {self.samples} of the samples, or None to choose")
        if self.direction not in get_args(Direction):
            raise InputError("direction", self.direction, "use largest or smallest")

    @property
    def title(self) -> str:
        """What the report calls it."""
        mode = getattr(self.point, "mode", "")
        name = f"{self.point.title} ({mode})" if mode else self.point.title
        return f"{name}, {'the centre alone' if self.how == 'centre' else 'points of the range'}"

    @property
    def idea(self) -> str:
        """What it does, in words."""
        if self.how == "centre":
            return "The attacker asks about the centre of the range, and about nothing else."
        return (
            "The attacker asks about made-up records from all over the range, judges each answer, and combines the "
            f"judgements of those that tell most. How one answer is judged: {self.point.idea}"
        )

    @property
    def paper(self) -> str:
        """Where it comes from."""
        return self.point.paper if self.how == "centre" else f"{self.source}; {self.point.paper}"

    @property
    def access(self) -> Access:
        """What the attack on single points needs."""
        return self.point.access

    @property
    def knowledge(self) -> tuple[Knowledge, ...]:
        """What the attack on single points needs."""
        return self.point.knowledge

    @property
    def references(self) -> int:
        """What the attack on single points needs."""
        return self.point.references

    @property
    def transforms(self) -> list[Sample]:
        """The samples as transforms of all records at once."""
        wanted = 1 if self.how == "centre" else self.samples
        return [Sample(self.sampler, j) for j in range(self.sampler.count(wanted))]

    def points(self, view: View) -> np.ndarray:
        """Return the scores of the points of every range ``(R, n)``, the centre's first.

        Raises
        ------
        AccessDenied, NotApplicable
            See the attack on single points, ``View.ask`` and ``View.features``.
        """
        return np.stack([self.point.run(view.through(each)).values for each in self.transforms], axis=1)

    def practice(self, view: View) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return scores ``(R, n)`` and truth ``(R,)`` of the games in which a reference model plays the target."""
        references = view.rehearsal
        if references is None or len(references) < FEWEST_REFERENCES:
            return []
        games = []
        for target in range(len(references)):
            if len(references.without(target)):
                # asked first, then another target: every model is asked about every sample once only
                views = [view.through(each).as_target(target) for each in self.transforms]
                A = np.stack([self.point.run(each).values for each in views], axis=1)
                games.append((A, references.trained_on[target]))
        return games

    def run(self, view: View) -> Scores:
        """Score every range of ``view``; NaN where a point could not be scored.

        Raises
        ------
        AccessDenied, NotApplicable
            See ``points``.
        """
        return self.combine(self.points(view), view)

    def combine(self, A: np.ndarray, view: View) -> Scores:
        """Return the scores of the ranges from those of their points ``A (R, n)``, tuned on the view's references."""
        if self.how != "trimmed":
            return Scores(aggregate(A, self.how), {"samples per range": A.shape[1]})
        k, direction, how = self.k, self.direction, "fixed beforehand"
        if k is None:
            chosen = choose_trim(self.practice(view))
            how = "shadow models" if chosen else "default: no shadow models to practise on"
            k, direction = chosen or (A.shape[1], "largest")
        k = min(k, A.shape[1])
        notes: dict[str, Any] = {"k": k, "direction": direction, "k chosen on": how, "samples per range": A.shape[1]}
        return Scores(aggregate(A, "trimmed", k, direction), notes)


def range_view(view: View, centres: Any, labels: np.ndarray, trained_on: np.ndarray | None) -> View:
    """Return the view in which ranges stand for records.

    Parameters
    ----------
    view
        What the attacker sees of the model.
    centres, labels
        Inputs ``(R, …)`` at the centres, and the labels ``(R,)`` that the attacker gives to all points of a range.
    trained_on
        (K, R) bool: whether a range holds any record that the reference model trained on.

    Raises
    ------
    AccessDenied
        The model, or a reference model, cannot be asked.
    """
    references = view.references
    if references is not None and trained_on is not None:
        references = replace(references, logits=view.ask_references(centres), trained_on=trained_on)
    return replace(
        view, labels=labels, inputs=centres, logits=view.ask(centres), references=references,
        known=None, known_members=None, _cache={},
    )  # fmt: skip
