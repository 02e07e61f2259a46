"""RMIA: is the target surer of the record than reference models are, relative to a population?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, get_args

import numpy as np

from leakpro_nb.attacks.base import NotApplicable, Scores
from leakpro_nb.attacks.membership import options
from leakpro_nb.attacks.membership.rehearsal import choose, choose_queries, settle
from leakpro_nb.attacks.membership.rmia_direct import rmia_direct
from leakpro_nb.attacks.membership.sides import side_mean
from leakpro_nb.attacks.queries import queried
from leakpro_nb.attacks.signals import Confidence, Form, confidence, log_odds, probability
from leakpro_nb.errors import InputError
from leakpro_nb.game.threat import Knowledge
from leakpro_nb.game.views import Access, Observed, Signal, SignalFunction, View

__all__ = [
    "Bins",
    "Rmia",
    "fit_bins",
    "reference_probability",
    "rmia_count",
    "rmia_ratio",
    "rmia_vote",
    "rmia_vote_among",
    "tune_offline_a",
]

DEFAULT_A = 0.3
"""The paper's value for CIFAR-10 and CINIC-10; used when there are too few references to choose another."""

GRID = tuple(np.round(np.arange(0, 1.01, 0.1), 1).tolist())
"""Values of ``a`` that are tried, as in the authors' code."""

TRIMMED = 0.2
"""Share of the models that the trimmed mean leaves out at either end, as in the authors' research code."""


BINS = 20
"""Bins of the monotone curve from the OUT average to ``p(x)``."""

PAIRS_AT_ONCE = 2**21
"""Pairs of records that are held in memory together when several queries vote."""


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
        ``LR(x, z)`` exceeds ``gamma``; exact over all of them by sorting. ``"direct"``: that share with Gaussians
        fitted to each pair of records (see ``rmia_direct``); online, for small audits, and for many models.
    gamma
        Threshold of the count; the paper uses 2, the authors' later code 1. It changes no ranking.
    signal, temperature, margin, terms
        What "how sure a model is" means; see ``signals.Confidence``. The authors use ``soft_margin_taylor`` with
        temperature 2 for CIFAR-10, and plain softmax for tables.
    reference_mean
        ``"mean"``, or ``"trimmed"``: without the largest and the smallest fifth of the models of each side.
    offline_map
        From the OUT average to ``p(x)``. ``"line"`` (default): the paper's, with ``a``. ``"bins"``: a monotone curve
        through bin medians, read off records of the attacker's own that some of their models trained on, as in the
        authors' research code.
    z
        With whom the count compares: the ``"population"`` (default), or the other records of the ``"audit"``.
    queries
        How often each model is asked about a record, every time changed a little (see ``queries_for``). The ratio
        averages the logarithm over queries; the count takes the majority for each pair of records. ``None``: as many
        as tell most on shadow models, by the ratio.
    """

    title: ClassVar[str] = "RMIA"
    paper: ClassVar[str] = "Zarifzadeh et al., ICML 2024"
    idea: ClassVar[str] = (
        "The attacker compares how sure the real model is about a person with how sure look-alike models are, and "
        "accuses those about whom the real model is surer than it should be."
    )
    access: ClassVar[Access] = "scores"
    references: ClassVar[int] = 1

    mode: options.Mode = "online"
    a: float | None = None
    score: Literal["ratio", "count", "direct"] = "ratio"
    gamma: float = 1.0
    signal: Form = "softmax"
    temperature: float = 1.0
    margin: float = 0.6
    terms: int = 4
    reference_mean: Literal["mean", "trimmed"] = "mean"
    offline_map: Literal["line", "bins"] = "line"
    z: Literal["population", "audit"] = "population"
    queries: int | None = 1

    def __post_init__(self) -> None:
        options.check_mode("rmia.mode", self.mode)
        options.check_choice("rmia.score", self.score, ("ratio", "count", "direct"))
        options.check_share("rmia.a", self.a)
        options.check_positive("rmia.gamma", self.gamma, 1)
        options.check_choice("rmia.signal", self.signal, get_args(Form))
        options.check_positive("rmia.temperature", self.temperature, 1)
        options.check_count("rmia.terms", self.terms, 2, 4)
        options.check_choice("rmia.reference_mean", self.reference_mean, ("mean", "trimmed"))
        options.check_choice("rmia.offline_map", self.offline_map, ("line", "bins"))
        options.check_choice("rmia.z", self.z, ("population", "audit"))
        options.check_queries("rmia.queries", self.queries)
        if self.score == "direct" and (self.mode == "offline" or self.queries != 1):
            raise InputError("rmia.score", self.score, "use it with mode=online and queries=1, or choose score=count")

    @property
    def asks(self) -> bool:
        """Whether stored predictions are not enough: with more than one query per record."""
        return self.queries != 1

    @property
    def variant(self) -> str:
        """What the report adds to the title."""
        return "several queries" if self.asks else ""

    @property
    def knowledge(self) -> tuple[Knowledge, ...]:
        """Labels and recipe; online also the candidates' records; for the count a population."""
        needs = options.mode_knowledge(self.mode)
        return (*needs, "population") if self.score != "ratio" and self.z == "population" else needs

    def run(self, view: View) -> Scores:
        """Score every record of ``view``; records without a model on a needed side get NaN.

        Raises
        ------
        NotApplicable
            No suitable reference models; no population records where they are needed; too many pairs for ``direct``;
            or records about which no such number of queries can be asked.
        AccessDenied
            Several queries, and only predictions are known.
        """
        options.mode_references(view, self.mode)
        if self.score != "ratio" and self.z == "population" and view.population is None:
            raise NotApplicable("its count needs population records; there are none (use score=ratio or z=audit)")
        if self.score == "direct":
            signal = view.signal(log_odds)
            z = signal.audit if self.z == "audit" or signal.population is None else signal.population
            return Scores(rmia_direct(signal.audit, z, self.gamma))
        function = confidence(Confidence(self.signal, self.temperature, self.margin, self.terms))
        a: float | None = None
        notes: dict[str, object] = {}
        if self.mode == "offline" and self.offline_map == "line":
            a, notes = settle("a", self.a, lambda: tune_offline_a(view, signal=function, trim=self._trim), DEFAULT_A)
        queries = self.queries or self._choose_queries(view, function, a)
        if self.asks:
            notes["queries per record"] = queries
        pairs = [self._ratios(each, function, a) for each in queried(view, queries)]
        ratio = np.stack([audited for audited, _ in pairs])
        if self.score == "ratio":
            return Scores(np.log(ratio).mean(axis=0), notes)
        if self.z == "population":
            return Scores(rmia_vote(ratio, np.stack([others for _, others in pairs]), self.gamma), notes)
        return Scores(rmia_vote_among(ratio, self.gamma), notes)

    @property
    def _trim(self) -> float:
        return TRIMMED if self.reference_mean == "trimmed" else 0.0

    def _choose_queries(self, view: View, function: SignalFunction, a: float | None) -> int:
        line = DEFAULT_A if self.mode == "offline" and a is None else a  # the bins of each game would change little

        def score(seen: Observed) -> np.ndarray:
            prior = reference_probability(seen.references, seen.trained_on, line, trim=self._trim)
            return np.log(rmia_ratio(seen.target, prior))

        return choose_queries(view, function, score)

    def _ratios(self, view: View, function: SignalFunction, a: float | None) -> tuple[np.ndarray, np.ndarray]:
        """Return ``p(. | target) / p(.)`` of the audited records ``(N,)`` and of the population ``(Z,)``."""
        signal = view.signal(function)
        bins = None
        if self.mode == "offline" and self.offline_map == "bins":
            bins = fit_bins(_practice(view, signal), trim=self._trim)

        def ratio(seen: Observed | None, *, population: bool) -> np.ndarray:
            if seen is None:
                return np.zeros(0)
            if bins is not None:
                prior = bins(side_mean(seen.references, ~seen.trained_on, self._trim))
            else:
                prior = reference_probability(
                    seen.references, seen.trained_on, a, population=population, trim=self._trim
                )
            return rmia_ratio(seen.target, prior)

        return ratio(signal.audit, population=False), ratio(signal.population, population=True)


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
    mean_out = side_mean(references, ~trained_on, trim)
    if a is not None:
        return _offline(mean_out, a)
    mean_in = side_mean(references, trained_on, trim)
    if population:
        mean_in = np.where(np.isnan(mean_in), mean_out, mean_in)
    return (mean_in + mean_out) / 2


def _offline(mean_out: np.ndarray, a: float) -> np.ndarray:
    return ((1 + a) * mean_out + (1 - a)) / 2


def rmia_count(ratio: np.ndarray, population_ratio: np.ndarray, gamma: float = 1.0) -> np.ndarray:
    """Return the share of population records with ``ratio_x / ratio_z > gamma``, exact, by sorting.

    Sorting replaces the (N, Z) matrix of pairs: O((N + Z) log Z) time, O(N + Z) memory, the same numbers.

    >>> rmia_count(np.array([1.0, 3.0]), np.array([1.0, 2.0])).tolist()
    [0.0, 1.0]
    """
    share = np.searchsorted(np.sort(population_ratio), ratio / gamma, side="left") / len(population_ratio)
    return np.where(np.isnan(ratio), np.nan, share)


def rmia_vote(ratio: np.ndarray, population_ratio: np.ndarray, gamma: float = 1.0) -> np.ndarray:
    """Return the share of population records for which more than half of the queries say ``LR(x, z) > gamma``.

    One query is counted by sorting. With several the pairs have to be looked at, O(N Z Q) time, in blocks of records
    that keep memory at O(N + Z) plus a few megabytes; the numbers are exact either way.

    Parameters
    ----------
    ratio, population_ratio
        (Q, N) and (Q, Z), each ``p(. | target) / p(.)``.

    Returns
    -------
    (N,) float64, NaN where the ratio is.
    """
    queries, records = ratio.shape
    if queries == 1:
        return rmia_count(ratio[0], population_ratio[0], gamma)
    share = np.empty(records)
    block = max(1, PAIRS_AT_ONCE // population_ratio.shape[1])
    for first in range(0, records, block):
        rows = slice(first, first + block)
        votes = np.zeros((len(share[rows]), population_ratio.shape[1]), dtype=np.uint16)
        for x, z in zip(ratio[:, rows] / gamma, population_ratio, strict=True):
            votes += x[:, None] > z
        share[rows] = (2 * votes > queries).mean(axis=1)
    return np.where(np.isnan(ratio).any(axis=0), np.nan, share)


def rmia_vote_among(ratio: np.ndarray, gamma: float = 1.0) -> np.ndarray:
    """Return ``rmia_vote`` of ratios ``(Q, N)`` against those of all other records, without the one in question.

    A record's ratio to itself is 1, which was counted if that exceeds ``gamma``: ``(share N - 1[1 > gamma]) / (N - 1)``.
    Records that cannot be scored are compared with nobody.
    """
    others = ratio[:, ~np.isnan(ratio).any(axis=0)]
    count = others.shape[1]
    if count < 2:
        raise NotApplicable("z=audit compares each record with the others, and fewer than two can be scored")
    return (rmia_vote(ratio, others, gamma) * count - (gamma < 1)) / (count - 1)


class Bins(NamedTuple):
    """A monotone curve from the mean of the OUT models to ``p(x)``: medians per bin, joined by straight lines."""

    mean_out: np.ndarray
    prior: np.ndarray

    def __call__(self, mean_out: np.ndarray) -> np.ndarray:
        """Return ``p(x) (N,)``, constant beyond the outermost bins; NaN stays NaN."""
        return np.interp(mean_out, self.mean_out, self.prior)


def fit_bins(seen: Observed, bins: int = BINS, trim: float = 0.0) -> Bins:
    """Fit the curve to the records of ``seen`` that have models on both sides, equally many per bin.

    Raises
    ------
    NotApplicable
        No record has both.
    """
    mean_out = side_mean(seen.references, ~seen.trained_on, trim)
    prior = reference_probability(seen.references, seen.trained_on, trim=trim)
    both = np.flatnonzero(~np.isnan(prior))
    if not len(both):
        raise NotApplicable("offline_map=bins needs records that some shadow models trained on and others did not")
    ordered = both[np.lexsort((prior[both], mean_out[both]))]
    groups = np.array_split(ordered, min(bins, len(ordered)))
    medians = np.array([[np.median(values[group]) for group in groups] for values in (mean_out, prior)])
    return Bins(medians[0], np.maximum.accumulate(medians[1]))


def _practice(view: View, signal: Signal) -> Observed:
    """Return what is seen of records whose use in training the reference models the attacker decided on."""
    if view.rehearsal is not None:
        return signal.audit
    if signal.population is None:
        raise NotApplicable("offline_map=bins needs population records, or an attacker who had the records beforehand")
    return signal.population


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
