"""LiRA on several signals at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np

from leakpro_nb.attacks.base import Scores
from leakpro_nb.attacks.membership import options
from leakpro_nb.attacks.membership.lira import Variance, lira_offline, lira_online
from leakpro_nb.attacks.membership.sides import side_mean, side_residuals
from leakpro_nb.attacks.signals import (
    log_odds,
    log_probability,
    margin,
    max_probability,
    negative_entropy,
    negative_modified_entropy,
)
from leakpro_nb.errors import InputError
from leakpro_nb.game.threat import Knowledge
from leakpro_nb.game.views import Access, Observed, View

__all__ = ["SIGNALS", "MultiSignal", "multi_signal_offline", "multi_signal_online", "whiten"]

SIGNALS = {
    "log_odds": log_odds,
    "log_probability": log_probability,
    "margin": margin,
    "max_probability": max_probability,
    "entropy": negative_entropy,
    "modified_entropy": negative_modified_entropy,
}
"""Signals by name, every one oriented so that higher is more member-like."""

REDUNDANT = 1e-8
"""A direction with less than this share of the residual variance repeats other signals, and is left out."""


@dataclass(frozen=True)
class MultiSignal:
    """LiRA with one Gaussian per signal instead of on the log-odds alone.

    Source: Johansson and Olsson 2025; the whitening is ours.

    Parameters
    ----------
    mode
        See ``Lira``. Offline the one-sided z of the signals is averaged.
    signals
        Names from ``log_odds``, ``log_probability``, ``margin``, ``max_probability``, ``entropy`` and
        ``modified_entropy``.
    covariance
        ``"independent"`` (default): the paper's, which counts what signals share once per signal. ``"pooled"``: signals
        are first whitened by the covariance within records, shrunken as by Ledoit and Wolf, so that it counts once; it
        found less at few false alarms wherever it was tried. Only online.
    variance
        See ``Lira``.
    """

    title: ClassVar[str] = "Multi-signal LiRA"
    paper: ClassVar[str] = "Johansson and Olsson, 2025"
    idea: ClassVar[str] = (
        "The attacker compares the real model with look-alikes not by one number but by several: how sure it is, how "
        "clearly it prefers its answer, how undecided it is."
    )
    access: ClassVar[Access] = "scores"
    references: ClassVar[int] = 1

    mode: options.Mode = "online"
    signals: tuple[str, ...] = ("log_odds", "log_probability", "modified_entropy")
    covariance: Literal["pooled", "independent"] = "independent"
    variance: Variance = "shrunken"

    def __post_init__(self) -> None:
        options.check_mode("multi_signal.mode", self.mode)
        if isinstance(self.signals, str) or not self.signals or any(name not in SIGNALS for name in self.signals):
            raise InputError("multi_signal.signals", self.signals, f"use a list of any of {', '.join(SIGNALS)}")
        options.check_choice("multi_signal.covariance", self.covariance, ("pooled", "independent"))
        options.check_choice("multi_signal.variance", self.variance, get_args(Variance))
        object.__setattr__(self, "signals", tuple(self.signals))  # a list from a YAML file is as good

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
        seen = [view.signal(SIGNALS[name]).audit for name in self.signals]
        if self.mode == "offline":
            return Scores(multi_signal_offline(seen, self.variance))
        notes = {}
        if self.covariance == "pooled":
            seen = whiten(seen)
            notes["distinct directions"] = len(seen)
        return Scores(multi_signal_online(seen, self.variance), notes)


def multi_signal_online(seen: Sequence[Observed], variance: Variance = "shrunken") -> np.ndarray:
    """Return the sum over signals of ``log N(s; IN) - log N(s; OUT)``.

    Parameters
    ----------
    seen
        D signals, each of the target (N,), the references (K, N) and their membership.
    variance
        See ``Lira``.

    Returns
    -------
    (N,) float64, NaN for records that lack a model on one side.
    """
    return np.sum([lira_online(*each, variance) for each in seen], axis=0)


def multi_signal_offline(seen: Sequence[Observed], variance: Variance = "shrunken") -> np.ndarray:
    """Return the mean over signals of ``(s - mean_out) / sd_out`` per record ``(N,)``.

    One-sided: minus the OUT density, the form in the authors' code, also accuses records that became worse.
    """
    return np.mean([lira_offline(*each, variance) for each in seen], axis=0)


def whiten(seen: Sequence[Observed]) -> list[Observed]:
    """Return uncorrelated combinations of the signals, each with unit variance within records.

    The covariance is that of the references about their record's IN or OUT mean, pooled over records, models and
    sides. Directions in which the references do not vary are left out: a signal given twice counts once.

    Returns
    -------
    At most D signals; those given, where the references do not vary within records at all.
    """
    from sklearn.covariance import ledoit_wolf

    trained_on = seen[0].trained_on
    residual = np.stack([_residual(each.references, trained_on).ravel() for each in seen], axis=1)
    # one order of rows, whatever that of the records: small eigenvalues would magnify how sums are rounded
    residual = residual[np.lexsort(residual.T)]
    spread = np.sqrt(np.mean(residual**2, axis=0))
    if not (spread > 0).all():
        return list(seen)
    residual /= spread
    shrunken, _ = ledoit_wolf(residual, assume_centered=True)
    values, vectors = np.linalg.eigh(shrunken)
    own = np.mean((residual @ vectors) ** 2, axis=0)  # before shrinkage, which lifts what is redundant above 0
    kept = own > REDUNDANT * own.sum()
    rotation = vectors[:, kept] / np.sqrt(values[kept]) / spread[:, None]
    target = np.stack([each.target for each in seen], axis=-1) @ rotation
    references = np.stack([each.references for each in seen], axis=-1) @ rotation
    return [Observed(target[:, d], references[:, :, d], trained_on) for d in range(rotation.shape[1])]


def _residual(values: np.ndarray, trained_on: np.ndarray) -> np.ndarray:
    one, other = (side_residuals(values, side, side_mean(values, side)) for side in (trained_on, ~trained_on))
    return one + other
