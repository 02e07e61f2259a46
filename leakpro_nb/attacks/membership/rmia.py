"""RMIA: is the target surer of the record than reference models are, relative to a population?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from leakpro_nb.attacks.base import NotApplicable, Scores, need_references
from leakpro_nb.attacks.membership.rehearsal import choose
from leakpro_nb.attacks.signals import Confidence, Form, confidence, probability
from leakpro_nb.errors import InputError
from leakpro_nb.game.threat import Knowledge
from leakpro_nb.game.views import Access, Observed, SignalFunction, View

__all__ = ["Rmia", "reference_probability", "rmia_count", "rmia_ratio", "tune_offline_a"]

DEFAULT_A = 0.3
"""The paper's value for CIFAR-10 and CINIC-10; used when there are too few references to choose another."""

GRID = tuple(np.round(np.arange(0, 1.01, 0.1), 1).tolist())
"""Values of ``a`` that are tried, as in the authors' code."""

TRIMMED = 0.2
"""Share of the models that the trimmed mean leaves out at either end, as in the authors' research code."""


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
    signal, temperature, margin, terms
        What "how sure a model is" means; see ``signals.Confidence``. The authors use ``soft_margin_taylor`` with
        temperature 2 for CIFAR-10, and plain softmax for tables.
    reference_mean
        ``"mean"``, or ``"trimmed"``: without the largest and the smallest fifth of the models of each side.
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
    signal: Form = "softmax"
    temperature: float = 1.0
    margin: float = 0.6
    terms: int = 4
    reference_mean: Literal["mean", "trimmed"] = "mean"

    def __post_init__(self) -> None:
        if self.mode not in ("online", "offline"):
            raise InputError("rmia.mode", self.mode, "use online or offline")
        if self.score not in ("ratio", "count"):
            raise InputError("rmia.score", self.score, "use ratio or count")
        if self.a is not None and not 0 <= self.a <= 1:
            raise InputError("rmia.a", self.a, "use a number from 0 to 1, or None to choose it on shadow models")
        if self.gamma <= 0:
            raise InputError("rmia.gamma", self.gamma, "use a positive number")
        if self.signal not in ("softmax", "taylor", "soft_margin", "soft_margin_taylor"):
            raise InputError("rmia.signal", self.signal, "use softmax, taylor, soft_margin or soft_margin_taylor")
        if self.temperature <= 0:
            raise InputError("rmia.temperature", self.temperature, "use a positive number, for example 1")
        if not isinstance(self.terms, int) or self.terms < 2:
            raise InputError("rmia.terms", self.terms, "use an integer of at least 2, for example 4")
        if self.reference_mean not in ("mean", "trimmed"):
            raise InputError("rmia.reference_mean", self.reference_mean, "use mean or trimmed")

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
        function = confidence(Confidence(self.signal, self.temperature, self.margin, self.terms))
        signal = view.signal(function)
        a = self.a
        notes: dict[str, object] = {}
        if self.mode == "offline" and a is None:
            a = tune_offline_a(view, signal=function, trim=self._trim)
            notes["a"] = DEFAULT_A if a is None else a
            notes["a chosen on"] = "default: no shadow models to practise on" if a is None else "shadow models"
            a = DEFAULT_A if a is None else a
        ratio = self._ratio(signal.audit, a, population=False)
        if self.score == "ratio":
            return Scores(np.log(ratio), notes)
        if signal.population is None:
            raise NotApplicable("its count needs population records; there are none (use score=ratio)")
        return Scores(rmia_count(ratio, self._ratio(signal.population, a, population=True), self.gamma), notes)

    @property
    def _trim(self) -> float:
        return TRIMMED if self.reference_mean == "trimmed" else 0.0

    def _ratio(self, seen: Observed, a: float | None, *, population: bool) -> np.ndarray:
        prior = reference_probability(
            seen.references,
            seen.trained_on,
            a if self.mode == "offline" else None,
            population=population,
            trim=self._trim,
        )
        return rmia_ratio(seen.target, prior)


def rmia_ratio(target: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Return ``p(x | target) / p(x)`` per record ``(N,)``."""
    return target / prior


def reference_probability(
    references: np.ndarray,
    trained_on: np.ndarray,
    a: float | None = None,
    *,
    population: bool = False,
    trim: float = 0.0,
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
    trim
        Share of each side's models that every mean leaves out at either end.

    Returns
    -------
    (N,) float64, NaN for records that lack a model on a needed side.
    """
    mean_out = _mean(references, ~trained_on, trim)
    if a is not None:
        return _offline(mean_out, a)
    mean_in = _mean(references, trained_on, trim)
    if population:
        mean_in = np.where(np.isnan(mean_in), mean_out, mean_in)
    return (mean_in + mean_out) / 2


def _offline(mean_out: np.ndarray, a: float) -> np.ndarray:
    return ((1 + a) * mean_out + (1 - a)) / 2


def _mean(values: np.ndarray, chosen: np.ndarray, trim: float = 0.0) -> np.ndarray:
    """Return the mean over the chosen models per record, NaN where there is none."""
    if trim:
        values, chosen = _trimmed(values, chosen, trim)
    with np.errstate(invalid="ignore"):
        return np.einsum("kn,kn->n", values, chosen.astype(np.float64)) / chosen.sum(axis=0)


def _trimmed(values: np.ndarray, chosen: np.ndarray, trim: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the values in ascending order per record, and which of them the trimmed mean keeps."""
    order = np.sort(np.where(chosen, values, np.inf), axis=0)
    count = chosen.sum(axis=0)
    cut = (trim * count).astype(int)
    rank = np.arange(len(values))[:, None]
    kept = (rank >= cut) & (rank < count - cut)
    return np.where(kept, order, 0.0), kept


def rmia_count(ratio: np.ndarray, population_ratio: np.ndarray, gamma: float = 1.0) -> np.ndarray:
    """Return the share of population records with ``ratio_x / ratio_z > gamma``, exact, by sorting.

    Sorting replaces the (N, Z) matrix of pairs: O((N + Z) log Z) time, O(N + Z) memory, the same numbers.

    >>> rmia_count(np.array([1.0, 3.0]), np.array([1.0, 2.0])).tolist()
    [0.0, 1.0]
    """
    share = np.searchsorted(np.sort(population_ratio), ratio / gamma, side="left") / len(population_ratio)
    return np.where(np.isnan(ratio), np.nan, share)


def tune_offline_a(
    view: View,
    grid: tuple[float, ...] = GRID,
    *,
    signal: SignalFunction = probability,
    trim: float = 0.0,
) -> float | None:
    """Choose ``a`` by the AUC that it reaches when every reference model plays the target against the others.

    Ties go to the smaller value, as in the authors' code. The truth used is that of the attacker's own models.

    Returns
    -------
    The best value of ``grid``, or ``None`` when no reference model has another one to be compared with.
    """

    def scores(seen: Observed) -> np.ndarray:
        mean_out = reference_probability(seen.references, seen.trained_on, 1.0, trim=trim)
        return np.stack([rmia_ratio(seen.target, _offline(mean_out, a)) for a in grid])

    return choose(view.rehearsal, view.signal(signal).audit, grid, scores)
