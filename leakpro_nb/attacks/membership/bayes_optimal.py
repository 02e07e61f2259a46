"""BASE: the Bayes-optimal comparison of the target's loss with what reference models would show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leakpro_nb.attacks.base import Scores
from leakpro_nb.attacks.membership import options
from leakpro_nb.attacks.membership.rehearsal import choose, settle
from leakpro_nb.attacks.signals import log_confidence
from leakpro_nb.game.threat import Knowledge
from leakpro_nb.game.views import Access, Observed, SignalFunction, View

__all__ = ["Base", "base_offline", "base_online", "log_mean_probability", "tune_offline_scale"]

DEFAULT_SCALE = 0.33
"""Offline scale when there are too few references to choose another; LeakPro's default."""

GRID = tuple(np.round(np.arange(0, 1.01, 0.1), 1).tolist())
"""Offline scales that are tried."""


@dataclass(frozen=True)
class Base:
    """Bayes-optimal membership score under a noisy-training model.

    Source: Lassila et al., NeurIPS 2025 (2505.24089).

    Parameters
    ----------
    mode
        ``"online"``: all reference models, scale 1. ``"offline"``: those that did not train on the record.
    scale
        Weight in [0, 1] of the references, offline. ``None`` (default): chosen by letting every reference model play
        the target against the others; the audited membership is never used.
    temperature
        Divides the logits. LeakPro's default is 2, ours 1.
    """

    title: ClassVar[str] = "BASE"
    paper: ClassVar[str] = "Lassila et al., NeurIPS 2025"
    idea: ClassVar[str] = (
        "The attacker averages how sure look-alike models are about a person, and accuses those about whom the real "
        "model is clearly surer than that."
    )
    access: ClassVar[Access] = "scores"
    references: ClassVar[int] = 1

    mode: options.Mode = "online"
    scale: float | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        options.check_mode("base.mode", self.mode)
        options.check_share("base.scale", self.scale)
        options.check_positive("base.temperature", self.temperature, 1)

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
        signal = log_confidence(self.temperature)
        seen = view.signal(signal).audit
        if self.mode == "online":
            return Scores(base_online(*seen))
        scale, notes = settle("scale", self.scale, lambda: tune_offline_scale(view, signal), DEFAULT_SCALE)
        return Scores(base_offline(*seen, scale), notes)


def base_online(target: np.ndarray, references: np.ndarray, trained_on: np.ndarray) -> np.ndarray:
    """Return ``log p(x | target) - log mean p(x | reference)`` over all references.

    Source: Lassila et al., NeurIPS 2025 (2505.24089).

    Parameters
    ----------
    target, references, trained_on
        ``log p_y`` (N,) and (K, N), and membership (K, N) bool.

    Returns
    -------
    (N,) float64, NaN for records that lack a model on one side: their mean would not compare with the others'.
    """
    both = trained_on.any(axis=0) & ~trained_on.all(axis=0)
    return np.where(both, target - log_mean_probability(references, np.ones_like(trained_on)), np.nan)


def base_offline(
    target: np.ndarray, references: np.ndarray, trained_on: np.ndarray, scale: float = DEFAULT_SCALE
) -> np.ndarray:
    """Return ``log p(x | target) - scale * log mean_out p(x | reference)``, NaN without an OUT model."""
    return target - scale * log_mean_probability(references, ~trained_on)


def log_mean_probability(log_probabilities: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the log of the mean probability ``(N,)`` over the chosen models ``(K, N)``, exact for tiny ones.

    >>> log_mean_probability(np.array([[-1000.0], [-1000.0]]), np.array([[True], [True]])).tolist()
    [-1000.0]
    """
    values = np.where(chosen, log_probabilities, -np.inf)
    top = values.max(axis=0, initial=-np.inf)
    finite = np.isfinite(top)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = np.exp(values - np.where(finite, top, 0.0)).sum(axis=0)
        return np.where(chosen.any(axis=0), np.where(finite, top, 0.0) + np.log(total / chosen.sum(axis=0)), np.nan)


def tune_offline_scale(
    view: View, signal: SignalFunction | None = None, grid: tuple[float, ...] = GRID
) -> float | None:
    """Choose the scale as RMIA chooses its ``a``: by the AUC when every reference model plays the target."""

    def scores(seen: Observed) -> np.ndarray:
        mean_out = log_mean_probability(seen.references, ~seen.trained_on)
        return seen.target - np.multiply.outer(np.array(grid), mean_out)

    return choose(view.rehearsal, view.signal(signal or log_confidence(1.0)).audit, grid, scores)
