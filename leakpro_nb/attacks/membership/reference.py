"""Reference attack: is the target's loss on this record unusually low among models that never saw it?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from leakpro_nb.attacks.base import Scores
from leakpro_nb.attacks.membership import options
from leakpro_nb.attacks.signals import TINY, log_probability
from leakpro_nb.game.threat import Knowledge
from leakpro_nb.game.views import Access, View

__all__ = ["LARGEST_LOSS", "Reference", "reference_log_odds", "reference_tail"]

LARGEST_LOSS = 1000.0
"""Loss at which the interpolated distribution reaches 1; its other end is a loss of 0."""


@dataclass(frozen=True)
class Reference:
    """Attack-R: one loss threshold per record, read off models that did not train on it.

    Source: Ye et al., CCS 2022 (2111.09679), attack R, with the linear interpolation of the authors' code.

    Parameters
    ----------
    score
        ``"tail"``: the paper's ``1 - F(loss)``. ``"log_odds"`` (default): ``log((1 - F) / F)``, which ranks as the tail
        does, without the ties where that rounds to 1.
    """

    title: ClassVar[str] = "Reference (Attack-R)"
    paper: ClassVar[str] = "Ye et al., CCS 2022"
    idea: ClassVar[str] = (
        "Some people are easier to predict than others, so the attacker accuses those about whom the real model is "
        "surer than look-alike models that never saw them."
    )
    access: ClassVar[Access] = "scores"
    references: ClassVar[int] = 1

    score: Literal["log_odds", "tail"] = "log_odds"

    def __post_init__(self) -> None:
        options.check_choice("reference.score", self.score, ("log_odds", "tail"))

    @property
    def knowledge(self) -> tuple[Knowledge, ...]:
        """Labels and recipe."""
        return options.mode_knowledge("offline")

    def run(self, view: View) -> Scores:
        """Score every record of ``view``; records that every reference model trained on get NaN.

        Raises
        ------
        NotApplicable
            No suitable reference models.
        """
        options.mode_references(view, "offline")
        seen = view.signal(log_probability).audit
        score = reference_log_odds if self.score == "log_odds" else reference_tail
        return Scores(score(-seen.target, -seen.references, seen.trained_on))


def reference_tail(loss: np.ndarray, references: np.ndarray, trained_on: np.ndarray) -> np.ndarray:
    """Return ``1 - F(loss)``, ``F`` being each record's distribution of the losses of models that never saw it.

    ``F`` is 0 at a loss of 0, ``j / (n + 1)`` at the j-th smallest of n losses, 1 at ``LARGEST_LOSS``, and linear in
    between, so it ties no records although n is small.

    Parameters
    ----------
    loss, references, trained_on
        (N,), (K, N) and (K, N) bool.

    Returns
    -------
    (N,) float64, NaN for records without an OUT model.

    >>> reference_tail(np.array([1.0, 3.0]), np.array([[2.0, 2.0]]), np.array([[False, False]])).round(3).tolist()
    [0.75, 0.499]
    """
    below, above = _shares(loss, references, trained_on)
    return above / (below + above)


def reference_log_odds(loss: np.ndarray, references: np.ndarray, trained_on: np.ndarray) -> np.ndarray:
    """Return ``log((1 - F) / F)`` with the ``F`` of ``reference_tail``, without rounding near 0 and 1."""
    below, above = _shares(loss, references, trained_on)
    return np.log(np.maximum(above, TINY)) - np.log(np.maximum(below, TINY))


def _shares(loss: np.ndarray, references: np.ndarray, trained_on: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(n + 1) F`` and ``(n + 1) (1 - F)`` per record, each without cancellation."""
    count = (~trained_on).sum(axis=0)
    points = np.sort(np.where(trained_on, np.inf, references), axis=0)
    points = np.vstack([np.zeros_like(loss), points, np.full_like(loss, np.inf)])
    capped = np.clip(loss, 0.0, LARGEST_LOSS)
    rank = np.minimum((points[1:] <= capped).sum(axis=0), count)
    record = np.arange(len(loss))
    low = points[rank, record]
    high = np.where(rank == count, np.maximum(LARGEST_LOSS, low), points[rank + 1, record])
    width = high - low
    part = np.divide(capped - low, width, out=np.ones_like(width), where=width > 0)
    rest = np.divide(high - capped, width, out=np.zeros_like(width), where=width > 0)
    known = np.where(count > 0, 1.0, np.nan)
    return known * (rank + np.clip(part, 0.0, 1.0)), known * (count - rank + np.clip(rest, 0.0, 1.0))
