"""Rehearsal: the attacker lets every reference model play the target, whose membership they know.

Whatever an attack chooses, it chooses here. The audited membership is not part of any view, so nothing can be tuned
on it by mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from leakpro_nb.attacks.queries import queried
from leakpro_nb.game.views import Observed, References, SignalFunction, View

__all__ = ["Game", "auc", "choose", "choose_queries", "games", "settle"]

FEWEST_REFERENCES = 3
"""Below this, no reference model has another one, beside its complement, to be compared with."""

COUNTS = (1, 2, 8, 18)
"""Numbers of queries per record that are tried."""


class Game(NamedTuple):
    """One reference model as the target: what is seen of it and of its judges, and its membership ``(N,)`` bool."""

    seen: Observed
    member: np.ndarray


def games(references: References, seen: Observed) -> Iterator[Game]:
    """Yield one game per reference model that has judges (see ``References.without``) and two kinds of records.

    Source: Zarifzadeh et al., ICML 2024, appendix B.2.2; Jebreel et al., PoPETs 2026 (2603.07567).

    Parameters
    ----------
    references
        Who trained on what, and who is whose complement.
    seen
        One signal of the references ``(K, N)``; the target's is not looked at.
    """
    for k in range(len(references)):
        judges, member = references.without(k), references.trained_on[k]
        if len(judges) and member.any() and not member.all():
            yield Game(Observed(seen.references[k], seen.references[judges], references.trained_on[judges]), member)


def choose(
    references: References | None,
    seen: Observed,
    grid: Sequence[float],
    scores: Callable[[Observed], np.ndarray],
) -> float | None:
    """Return the value of ``grid`` with the largest mean AUC over the games; ties go to the one listed first.

    Parameters
    ----------
    references, seen
        See ``games``.
    grid
        (G,) values of the one parameter that is to be chosen.
    scores
        From what one game shows to scores ``(G, N)``, one row per value; NaN where a record cannot be scored.

    Returns
    -------
    The best value, or ``None`` when no reference model has another one to be compared with.
    """
    if references is None or len(references) < FEWEST_REFERENCES:
        return None
    total = np.zeros(len(grid))
    for game in games(references, seen):
        rows = scores(game.seen)
        known = ~np.isnan(rows).any(axis=0)
        member = game.member[known]
        if member.any() and not member.all():
            total += [auc(row[known], member) for row in rows]
    return float(grid[int(np.argmax(total))]) if total.any() else None


def choose_queries(view: View, signal: SignalFunction, score: Callable[[Observed], np.ndarray]) -> int:
    """Return how many queries per record tell most when every reference model plays the target; 1 if none can.

    More help where the model learnt from changed copies of its records, and harm where it did not.

    Parameters
    ----------
    view
        Of records that can be asked about (see ``queries_for``).
    signal, score
        What is seen of one query, and the score ``(N,)`` that is averaged over queries.
    """
    each = [query.signal(signal).audit for query in queried(view, COUNTS[-1])]
    target, references = (np.stack(parts, axis=-1) for parts in list(zip(*each, strict=True))[:2])

    def scores(game: Observed) -> np.ndarray:
        rows = np.stack(
            [score(Observed(game.target[:, q], game.references[..., q], game.trained_on)) for q in range(len(each))]
        )
        return np.stack([rows[:count].mean(axis=0) for count in COUNTS])

    chosen = choose(view.rehearsal, Observed(target, references, each[0].trained_on), COUNTS, scores)
    return 1 if chosen is None else int(chosen)


def settle(
    name: str, given: float | None, tune: Callable[[], float | None], default: float
) -> tuple[float, dict[str, object]]:
    """Return the value of a parameter, and notes on where it comes from unless it was ``given``.

    ``tune`` returns what was chosen on reference models, or ``None`` when they do not suffice: then ``default`` holds.
    """
    if given is not None:
        return given, {}
    tuned = tune()
    source = "default: no shadow models to practise on" if tuned is None else "shadow models"
    value = default if tuned is None else tuned
    return value, {name: value, f"{name} chosen on": source}


def auc(scores: np.ndarray, member: np.ndarray) -> float:
    """Return the area under the ROC curve of ``scores (N,)`` against ``member (N,)`` bool, ties counted as half."""
    inside = int(member.sum())
    return float((rankdata(scores)[member].sum() - inside * (inside + 1) / 2) / (inside * (len(member) - inside)))
