"""RMIA: is the target surer of the record than reference models are, relative to a population?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from scipy.stats import rankdata

from leakpro_nb.attacks.base import NotApplicable, Scores, need_references
from leakpro_nb.attacks.signals import probability
from leakpro_nb.errors import InputError
from leakpro_nb.game.threat import Knowledge
from leakpro_nb.game.views import Access, Observed, View

__all__ = ["Rmia", "reference_probability", "rmia_count", "rmia_ratio", "tune_offline_a"]

DEFAULT_A = 0.3
"""The paper's value for CIFAR-10 and CINIC-10; used when there are too few references to choose another."""

GRID = tuple(np.round(np.arange(0, 1.01, 0.1), 1).tolist())
"""Values of ``a`` that are tried, as in the authors' code."""


@dataclass(frozen=True)
class Rmia:
    """Robust membership inference attack.

    Source: Zarifzadeh, Liu and Shokri, ICML 2024 (2312.03262).

    Parameters
    ----------
    mode
        ``"online"``: ``p(x)`` is the mean of the IN and the OUT average. ``"offline"``: OUT models only, with the
        paper's line ``p_in = a p_out + (1 - a)``.
    a
        Slope of that line in [0, 1]. ``None`` (default): chosen as in the paper, by letting every reference model
        play the target against the others; the audited membership is never used.
    score
        ``"ratio"`` (default): ``log(p(x | target) / p(x))``, which ranks records exactly as the paper's score does,
        without its ties. ``"count"``: the paper's score, the share of population records z whose likelihood ratio
        ``LR(x, z)`` exceeds ``gamma``; exact over all of them by sorting.
    gamma
        Threshold of the count; the paper uses 2, the authors' later code 1. It changes no ranking.
    """

    title: ClassVar[str] = "RMIA"
    paper: ClassVar[str] = "Zarifzadeh et al., ICML 2024"
    idea: ClassVar[str] = (
        "The attacker compares how sure the real model is about a person with how sure look-alike models are, and "
        "accuses those about whom the real model is surer than it should be."
    )
    access: ClassVar[Access] = "scores"
    references: ClassVar[int] = 1

    mode: Literal["online", "offline"] = "online"
    a: float | None = None
    score: Literal["ratio", "count"] = "ratio"
    gamma: float = 1.0

    def __post_init__(self) -> None:
        if self.mode not in ("online", "offline"):
            raise InputError("rmia.mode", self.mode, "use online or offline")
        if self.score not in ("ratio", "count"):
            raise InputError("rmia.score", self.score, "use ratio or count")
        if self.a is not None and not 0 <= self.a <= 1:
            raise InputError("rmia.a", self.a, "use a number from 0 to 1, or None to choose it on shadow models")
        if self.gamma <= 0:
            raise InputError("rmia.gamma", self.gamma, "use a positive number")

    @property
    def knowledge(self) -> tuple[Knowledge, ...]:
        """Labels and recipe; online also the candidates' records; for the count a population."""
        needs: tuple[Knowledge, ...] = ("labels", "recipe")
        if self.mode == "online":
            needs += ("candidates",)
        return (*needs, "population") if self.score == "count" else needs

    def run(self, view: View) -> Scores:
        """Score every record of ``view``; records without a model on a needed side get NaN.

        Raises
        ------
        NotApplicable
            No suitable reference models, or ``score="count"`` without population records.
        """
        need_references(view, online=self.mode == "online")
        signal = view.signal(probability)
        a = self.a
        notes: dict[str, object] = {}
        if self.mode == "offline" and a is None:
            a = tune_offline_a(view)
            notes["a"] = DEFAULT_A if a is None else a
            notes["a chosen on"] = "default: too few shadow models" if a is None else "shadow models"
            a = DEFAULT_A if a is None else a
        ratio = self._ratio(signal.audit, a, population=False)
        if self.score == "ratio":
            return Scores(np.log(ratio), notes)
        if signal.population is None:
            raise NotApplicable("its count needs population records; there are none (use score=ratio)")
        return Scores(rmia_count(ratio, self._ratio(signal.population, a, population=True), self.gamma), notes)

    def _ratio(self, seen: Observed, a: float | None, *, population: bool) -> np.ndarray:
        prior = reference_probability(
            seen.references, seen.trained_on, a if self.mode == "offline" else None, population=population
        )
        return rmia_ratio(seen.target, prior)


def rmia_ratio(target: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Return ``p(x | target) / p(x)`` per record ``(N,)``."""
    return target / prior


def reference_probability(
    references: np.ndarray, trained_on: np.ndarray, a: float | None = None, *, population: bool = False
) -> np.ndarray:
    """Return ``p(x)``, the probability of the true class under models that may or may not have seen the record.

    Parameters
    ----------
    references, trained_on
        (K, N) probabilities, and membership (K, N) bool.
    a
        ``None``: online, ``(mean_in + mean_out) / 2``. A number: offline, ``((1 + a) mean_out + (1 - a)) / 2``.
    population
        Records that no model saw have no IN average; online, their ``p(z)`` is the mean over all models.

    Returns
    -------
    (N,) float64, NaN for records that lack a model on a needed side.
    """
    mean_out = _mean(references, ~trained_on)
    if a is not None:
        return _offline(mean_out, a)
    mean_in = _mean(references, trained_on)
    if population:
        mean_in = np.where(np.isnan(mean_in), mean_out, mean_in)
    return (mean_in + mean_out) / 2


def _offline(mean_out: np.ndarray, a: float) -> np.ndarray:
    return ((1 + a) * mean_out + (1 - a)) / 2


def _mean(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the mean over the chosen models per record, NaN where there is none."""
    with np.errstate(invalid="ignore"):
        return np.einsum("kn,kn->n", values, chosen.astype(np.float64)) / chosen.sum(axis=0)


def rmia_count(ratio: np.ndarray, population_ratio: np.ndarray, gamma: float = 1.0) -> np.ndarray:
    """Return the share of population records with ``ratio_x / ratio_z > gamma``, exact, by sorting.

    Sorting replaces the (N, Z) matrix of pairs: O((N + Z) log Z) time, O(N + Z) memory, the same numbers.

    >>> rmia_count(np.array([1.0, 3.0]), np.array([1.0, 2.0])).tolist()
    [0.0, 1.0]
    """
    share = np.searchsorted(np.sort(population_ratio), ratio / gamma, side="left") / len(population_ratio)
    return np.where(np.isnan(ratio), np.nan, share)


def tune_offline_a(view: View, grid: tuple[float, ...] = GRID) -> float | None:
    """Choose ``a`` by the AUC that it reaches when every reference model plays the target against the others.

    Ties go to the smaller value, as in the authors' code. The truth used is that of the attacker's own models.

    Returns
    -------
    The best value of ``grid``, or ``None`` when no reference model has another one to be compared with.
    """
    references = view.references
    if references is None or len(references) < 3:
        return None
    seen = view.signal(probability).audit
    total = np.zeros(len(grid))
    for k in range(len(references)):
        others = references.without(k)
        mean_out = reference_probability(seen.references[others], references.trained_on[others], 1.0)
        known = ~np.isnan(mean_out)
        member, played, mean_out = references.trained_on[k][known], seen.references[k][known], mean_out[known]
        if not member.any() or member.all():
            continue
        for i, a in enumerate(grid):
            total[i] += _auc(rmia_ratio(played, _offline(mean_out, a)), member)
    return float(grid[int(np.argmax(total))]) if total.any() else None


def _auc(scores: np.ndarray, member: np.ndarray) -> float:
    inside = int(member.sum())
    return float((rankdata(scores)[member].sum() - inside * (inside + 1) / 2) / (inside * (len(member) - inside)))
