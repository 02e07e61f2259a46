"""LiRA with unknown variances integrated out: Student-t instead of Gaussians."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import gammaln

from leakpro_nb.attacks.base import Scores
from leakpro_nb.attacks.membership import options
from leakpro_nb.attacks.membership.sides import Side, side_stats
from leakpro_nb.attacks.signals import log_odds
from leakpro_nb.game.threat import Knowledge
from leakpro_nb.game.views import Access, View

__all__ = ["ALPHA0", "Bavaria", "student_offline", "student_online"]

ALPHA0 = 4.0
"""Weight of the prior, in pairs of reference models."""

FLOOR = 1e-12
"""Least standard deviation, so that models that agree exactly still give finite scores."""


@dataclass(frozen=True)
class Bavaria:
    """Bayesian LiRA: a normal-inverse-gamma prior on each record's variance.

    Source: BaVarIA (2603.11799); the prior, centred on the pooled within-record variance, is ours.

    Parameters
    ----------
    mode
        ``"online"``: ratio of the IN and OUT predictive densities. ``"offline"``: OUT models only, the one-sided tail.
    alpha0
        Shape of the prior. Near 0 every record keeps its own variance, a large value gives all records the pooled one.
    """

    title: ClassVar[str] = "BaVarIA (Student-t LiRA)"
    paper: ClassVar[str] = "BaVarIA, 2026 (2603.11799)"
    idea: ClassVar[str] = (
        "As in LiRA the attacker asks whether the real model behaves like look-alikes with or without a person's "
        "record, and allows for having only a few look-alikes to judge by."
    )
    access: ClassVar[Access] = "scores"
    references: ClassVar[int] = 1

    mode: options.Mode = "online"
    alpha0: float = ALPHA0

    def __post_init__(self) -> None:
        options.check_mode("bavaria.mode", self.mode)
        options.check_positive("bavaria.alpha0", self.alpha0, 4)

    @property
    def knowledge(self) -> tuple[Knowledge, ...]:
        """Labels and recipe; online also the candidates' records beforehand."""
        return options.mode_knowledge(self.mode)

    def run(self, view: View) -> Scores:
        """Score every record of ``view``; records without a model on a needed side get NaN.

        Raises
        ------
        NotApplicable
            No suitable reference models.
        """
        options.mode_references(view, self.mode)
        score = student_online if self.mode == "online" else student_offline
        return Scores(score(*view.signal(log_odds).audit, self.alpha0))


def student_online(
    target: np.ndarray, references: np.ndarray, trained_on: np.ndarray, alpha0: float = ALPHA0
) -> np.ndarray:
    """Return ``log t(phi; IN) - log t(phi; OUT)``, Student-t predictive densities.

    Parameters
    ----------
    target, references, trained_on
        Log-odds (N,) of the target and (K, N) of the references, and the references' membership (K, N) bool.
    alpha0
        See ``Bavaria``.

    Returns
    -------
    (N,) float64, NaN for records that lack a model on one side.
    """
    inside, outside = side_stats(references, trained_on), side_stats(references, ~trained_on)
    return _log_density(target, inside, _pooled(target, inside, outside), alpha0) - _log_density(
        target, outside, _pooled(target, outside, inside), alpha0
    )


def student_offline(
    target: np.ndarray, references: np.ndarray, trained_on: np.ndarray, alpha0: float = ALPHA0
) -> np.ndarray:
    """Return how far in the upper tail of its OUT predictive distribution the target lies, in standard normal units.

    The t statistic is mapped to normal units by Wallace's transformation (1959), which is monotone and, unlike the
    distribution function, does not saturate; records with more OUT models thus compare with those with fewer.

    Returns
    -------
    (N,) float64, NaN for records without an OUT model.
    """
    outside = side_stats(references, ~trained_on)
    pooled = _pooled(target, outside, side_stats(references, trained_on))
    scale, freedom = _predictive(outside, pooled, alpha0)
    t = (target - outside.mean) / scale
    return np.sign(t) * (8 * freedom + 1) / (8 * freedom + 3) * np.sqrt(freedom * np.log1p(t**2 / freedom))


def _pooled(target: np.ndarray, side: Side, other: Side) -> float:
    """Return the within-record variance of a side, pooled over records.

    With one model per record a side says nothing about it; then the other side does, and at last the target, whose
    distance from a reference model varies as two models do.
    """
    for each in (side, other):
        freedom = np.maximum(each.models - 1, 0).sum()
        if freedom > 0:
            return max(float(each.squares.sum() / freedom), FLOOR**2)
    known = side.models > 0
    distance = (target[known] - side.mean[known]) ** 2 / (1 + 1 / side.models[known])
    return max(float(distance.mean()), FLOOR**2) if known.any() else 1.0


def _predictive(side: Side, pooled: float, alpha0: float) -> tuple[np.ndarray, np.ndarray]:
    """Return scale and degrees of freedom ``(N,)`` of the predictive distribution."""
    alpha = alpha0 + side.models / 2
    beta = alpha0 * pooled + side.squares / 2
    return np.sqrt(beta * (1 + 1 / np.maximum(side.models, 1)) / alpha), 2 * alpha


def _log_density(target: np.ndarray, side: Side, pooled: float, alpha0: float) -> np.ndarray:
    scale, freedom = _predictive(side, pooled, alpha0)
    t = (target - side.mean) / scale
    return (
        gammaln((freedom + 1) / 2)
        - gammaln(freedom / 2)
        - np.log(freedom * np.pi) / 2
        - np.log(scale)
        - (freedom + 1) / 2 * np.log1p(t**2 / freedom)
    )
