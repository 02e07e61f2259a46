"""Data-set usage: which share of a collection of records did the target train on?

Single records are never accused. A membership score flags some of the records of the collection; shadow models, whose
training sets are known, tell how often it flags a record that was used, and one that was not; the share follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from leakpro_nb.attacks.base import NotApplicable
from leakpro_nb.attacks.membership.bayes_optimal import base_online
from leakpro_nb.attacks.membership.lira import lira_online
from leakpro_nb.attacks.membership.rmia import reference_probability, rmia_ratio
from leakpro_nb.attacks.signals import log_odds, log_probability, probability
from leakpro_nb.errors import InputError
from leakpro_nb.game.threat import Knowledge
from leakpro_nb.game.views import Access, Observed, References, SignalFunction, View

__all__ = [
    "FEWEST_PAIRS",
    "LEAST_POWER",
    "DatasetUsage",
    "Flags",
    "Play",
    "Rates",
    "Score",
    "Share",
    "complementary_pairs",
    "flag",
    "play",
    "rates",
    "share_by_delta_method",
    "share_used",
]

Score = Literal["lira", "rmia", "base"]
ScoreFunction = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""From signals (T, N) of models to be judged, signals (K, N) of references and their membership to scores (T, N)."""

LEAST_POWER = 0.05
"""Below this difference of true- and false-positive rate, the flags carry too little to count by."""

FEWEST_PAIRS = 2
"""Each pair of complementary shadow models is judged by the others, so there must be another one."""


class Flags(NamedTuple):
    """Which records are flagged as used.

    ``target`` (P, N) bool: about the target, once per pair of shadow models. ``references`` (R, N) bool: about each
    shadow model, R = 2 P. ``trained_on`` (R, N) bool: the truth about the shadow models.
    """

    target: np.ndarray
    references: np.ndarray
    trained_on: np.ndarray


class Rates(NamedTuple):
    """Flags, counted over ``records`` records.

    ``flagged``: share of them flagged as used by the target. ``tpr``, ``fpr`` (R,): for each shadow model, the share
    flagged among those that it trained on, and among the others.
    """

    flagged: float
    tpr: np.ndarray
    fpr: np.ndarray
    records: int

    @property
    def power(self) -> float:
        """Mean difference of true- and false-positive rate: 0 for a score that knows nothing, 1 for a perfect one."""
        return float((self.tpr - self.fpr).mean())


class Share(NamedTuple):
    """Share of a collection that was used, with its interval, as estimated; see ``clipped``."""

    value: float
    low: float
    high: float

    @property
    def clipped(self) -> Share:
        """The same within 0 and 1."""
        return Share(*(min(1.0, max(0.0, each)) for each in self))

    @property
    def possible(self) -> bool:
        """Whether the interval touches [0, 1]; if not, the target is unlike the shadow models."""
        return self.low <= 1 and self.high >= 0


class Play(NamedTuple):
    """What the estimator says of shadow model ``model``, of whose records a known share ``true`` was used."""

    model: int
    true: float
    share: Share


@dataclass(frozen=True)
class DatasetUsage:
    """Share of a collection that trained the target, by debiased counting of membership flags.

    Source: Tong, Ye, Zarifzadeh and Shokri, ICLR 2025; corrected in that target and shadow models are judged by one
    and the same score with equally many references on either side.

    Parameters
    ----------
    score
        ``"lira"`` (default), ``"rmia"`` or ``"base"``: the membership score.
    a
        For ``"rmia"``: slope of the offline line, in [0, 1].
    """

    title: ClassVar[str] = "Data-set usage inference"
    paper: ClassVar[str] = "Tong et al., ICLR 2025"
    idea: ClassVar[str] = (
        "A membership attack flags records that look used. On look-alike models, of which everything is known, one counts "
        "how often it flags a used record and how often, wrongly, an unused one. From the share of flagged records follows "
        "the share of used ones, though nobody can say for sure which ones they are."
    )
    access: ClassVar[Access] = "scores"
    references: ClassVar[int] = 2 * FEWEST_PAIRS

    score: Score = "lira"
    a: float = 0.3

    def __post_init__(self) -> None:
        if self.score not in ("lira", "rmia", "base"):
            raise InputError("score", self.score, "use lira, rmia or base")
        if not 0 <= self.a <= 1:
            raise InputError("a", self.a, "use a number from 0 to 1")

    @property
    def knowledge(self) -> tuple[Knowledge, ...]:
        """Labels, recipe and the collection itself, beforehand."""
        return ("labels", "recipe", "candidates")

    def flags(self, view: View) -> tuple[Flags, Flags | None]:
        """Flag every record of ``view``, and its population if it has one; see ``flag``.

        Raises
        ------
        NotApplicable
            Fewer than two pairs of complementary shadow models.
        """
        references, seen = _references(view), view.signal(self.signal)
        return flag(seen.audit, references.pair, self.compare, seen.population)

    def plays(self, view: View, shares: tuple[float, ...], level: float) -> Iterator[Play]:
        """Let every shadow model play the target; see ``play``."""
        references, seen = _references(view), view.signal(self.signal)
        return play(seen.audit, references.pair, self.compare, shares, level, seen.population)

    @property
    def signal(self) -> SignalFunction:
        """What the score looks at."""
        signals: dict[Score, SignalFunction] = {"lira": log_odds, "rmia": probability, "base": log_probability}
        return signals[self.score]

    def compare(self, models: np.ndarray, references: np.ndarray, trained_on: np.ndarray) -> np.ndarray:
        """Return scores (T, N) of models with signals (T, N), higher = more member-like."""
        if self.score == "lira":
            return lira_online(models, references, trained_on)
        if self.score == "base":
            return base_online(models, references, trained_on)
        return rmia_ratio(models, reference_probability(references, trained_on, self.a))


def _references(view: View) -> References:
    """Return the view's shadow models.

    Raises
    ------
    NotApplicable
        There are fewer than two complementary pairs, or the attacker may not rehearse.
    """
    references = view.rehearsal
    pairs = 0 if references is None else len(complementary_pairs(references.pair))
    if references is None or pairs < FEWEST_PAIRS:
        raise NotApplicable(
            f"counting needs at least {FEWEST_PAIRS} pairs of shadow models, the two of a pair trained on complementary "
            f"halves of the records, and there are {pairs}; train {2 * FEWEST_PAIRS} or more"
        )
    return references


def complementary_pairs(pair: np.ndarray) -> list[tuple[int, int]]:
    """Return the pairs of complementary models; a model without its complement is in none.

    >>> complementary_pairs(np.array([1, 0, -1]))
    [(0, 1)]
    """
    return [(u, int(v)) for u, v in enumerate(pair) if v > u and pair[v] == u]


def flag(
    seen: Observed, pair: np.ndarray, compare: ScoreFunction, population: Observed | None = None
) -> tuple[Flags, Flags | None]:
    """Flag records as used, once per pair of shadow models, with the other pairs as references for all three models.

    The threshold is the one at which the true- exceeds the false-positive rate most on all shadow models. As every
    record has as many references that trained on it as others that did not, and equally many for the target as for the
    shadow models, one threshold fits all.

    Parameters
    ----------
    seen
        One signal of target (N,) and shadow models (K, N), and who trained on what.
    pair
        (K,) complement of each shadow model, -1 for none: such a model is not used.
    compare
        The score.
    population
        The same for records that the target is known not to have seen; flagged with the threshold of the others.

    Returns
    -------
    Flags of the records, and of the population.
    """
    couples = complementary_pairs(pair)
    scores = _scores(seen, couples, compare)
    inside = np.stack([seen.trained_on[list(couple)] for couple in couples])
    threshold = _best_threshold(scores[:, 1:], inside)
    flags = _flags(scores, inside, threshold)
    if population is None:
        return flags, None
    inside = np.stack([population.trained_on[list(couple)] for couple in couples])
    return flags, _flags(_scores(population, couples, compare), inside, threshold)


def _scores(seen: Observed, couples: list[tuple[int, int]], compare: ScoreFunction) -> np.ndarray:
    """Return scores (P, 3, N): of the target and of the two models of each pair, judged by the other pairs."""
    scores = []
    for couple in couples:
        judges = [k for each in couples for k in each if each != couple]
        models = np.vstack([seen.target[None], seen.references[list(couple)]])
        scores.append(compare(models, seen.references[judges], seen.trained_on[judges]))
    return np.stack(scores)


def _flags(scores: np.ndarray, inside: np.ndarray, threshold: float) -> Flags:
    n = scores.shape[-1]
    flagged = scores >= threshold
    return Flags(flagged[:, 0], flagged[:, 1:].reshape(-1, n), inside.reshape(-1, n))


def _best_threshold(scores: np.ndarray, member: np.ndarray) -> float:
    """Return the largest score at which TPR - FPR is largest, with ``score >= threshold`` as the flag."""
    order = np.argsort(-scores, axis=None, kind="stable")
    ranked, inside = scores.ravel()[order], member.ravel()[order]
    gain = np.cumsum(inside) / inside.sum() - np.cumsum(~inside) / (~inside).sum()
    gain[:-1][ranked[:-1] == ranked[1:]] = -np.inf  # tied records are flagged together or not at all
    return float(ranked[np.argmax(gain)])


def rates(flags: Flags, rows: np.ndarray | slice = slice(None)) -> Rates:
    """Count the flags among the records ``rows``: a collection, or a part of it by whose own rates it is judged.

    Raises
    ------
    NotApplicable
        Some shadow model trained on all of them, or on none.
    """
    flagged, inside = flags.references[:, rows], flags.trained_on[:, rows]
    used, unused = inside.sum(axis=1), (~inside).sum(axis=1)
    if not (used.all() and unused.all()):
        raise NotApplicable("there are so few records that a shadow model trained on all of them, or on none")
    target = flags.target[:, rows]
    return Rates(
        float(target.mean()),
        (flagged & inside).sum(axis=1) / used,
        (flagged & ~inside).sum(axis=1) / unused,
        target.shape[1],
    )


def share_used(counted: Rates, level: float = 0.95, population: Rates | None = None) -> Share:
    """Return the share used, ``(flagged - FPR) / (TPR - FPR)``, with its interval.

    The interval holds all shares p for which the observed ``flagged`` lies within ``t`` standard errors of
    ``p TPR + (1 - p) FPR``. The standard error is made of the sampling of the records and of the spread of the rates
    over the R shadow models, for one more model like them (factor ``1 + 1 / R``); t has R - 1 degrees of freedom. As
    every p is tested with its own standard error, the interval stays valid where the attack is weak (Fieller).

    A target that shares fewer training records with the shadow models than they do among themselves gets more false
    flags than they do. Where there is a population that the target has not seen, its false flags there show how many
    more, and FPR is raised or lowered by that.

    Parameters
    ----------
    counted
        Flags of the collection; see ``rates``.
    level
        Confidence level.
    population
        Flags of records that the target has not seen.

    Returns
    -------
    Not clipped to [0, 1]; see ``Share.clipped``.

    Raises
    ------
    NotApplicable
        The flags tell used from unused records too little, or not reliably.
    """
    from scipy import stats

    power, models = counted.power, len(counted.tpr)
    if power < LEAST_POWER:
        raise NotApplicable(_too_weak(power))
    own, fpr, own_sampling = 0.0, counted.fpr, 0.0
    if population is not None:
        own, fpr, own_sampling = population.flagged, fpr - population.fpr, _binomial(population)
    excess = counted.flagged - own - fpr.mean()
    gain = (counted.tpr - fpr).mean() - own
    (s_ff, s_fd), (_, s_dd) = np.cov(fpr, counted.tpr - fpr) * (1 + 1 / models)
    t2 = stats.t.ppf((1 + level) / 2, models - 1) ** 2
    # (excess - p gain)^2 <= t2 (sampling + (1 - p)^2 own_sampling + s_ff + 2 p s_fd + p^2 s_dd): a p^2 - 2 b p + c <= 0
    a = gain**2 - t2 * (s_dd + own_sampling)
    b = excess * gain + t2 * (s_fd - own_sampling)
    c = excess**2 - t2 * (_binomial(counted) + own_sampling + s_ff)
    if gain <= 0 or a <= 0:
        raise NotApplicable(_too_weak(power))
    root = np.sqrt(max(0.0, b * b - a * c))
    return Share(float(excess / gain), float((b - root) / a), float((b + root) / a))


def _binomial(counted: Rates) -> float:
    return counted.flagged * (1 - counted.flagged) / counted.records


def share_by_delta_method(counted: Rates, level: float = 0.95) -> Share:
    """Return the share used with the interval of the delta method, for comparison: it is too short.

    It takes all records of all shadow models as independent and the target's rates for the shadow models' mean, however
    much models differ: of 63 networks with known shares, 8 or 16 shadow models each, it held in 52 to 91 % where 95 % were
    promised.
    """
    from scipy import stats

    q, fpr, tpr = counted.flagged, float(counted.fpr.mean()), float(counted.tpr.mean())
    value = (q - fpr) / counted.power
    rows = len(counted.tpr) * counted.records / 2
    rates_noise = ((1 - value) ** 2 * fpr * (1 - fpr) + value**2 * tpr * (1 - tpr)) / rows
    half = stats.norm.ppf((1 + level) / 2) * np.sqrt(_binomial(counted) + rates_noise) / counted.power
    return Share(value, float(value - half), float(value + half))


def _too_weak(power: float) -> str:
    points = f"{100 * power:.1f} percentage points"
    if power < LEAST_POWER:
        seen = f"of the records that a shadow model trained on, it flags only {points} more than of the others"
    else:
        seen = f"the {points} by which it flags used records more often than others vary too much from model to model"
    return (
        f"the attack is too weak to count: {seen}. A model that hides its records this well does not show how many of them it "
        "used; more shadow models may help"
    )


def play(
    seen: Observed,
    pair: np.ndarray,
    compare: ScoreFunction,
    shares: tuple[float, ...],
    level: float = 0.95,
    population: Observed | None = None,
) -> Iterator[Play]:
    """Let every shadow model play the target, judged without itself and its complement, for known shares.

    A collection of which the share p was used is put together from the records by weights, p for all that the model
    trained on and 1 - p for all others; every record takes part, so nothing is drawn at random. Its size is that of the
    largest collection with that share. Only the part of the population that the model has not seen is its population.

    Parameters
    ----------
    seen, pair, compare, population
        See ``flag``; the target's own signals are not looked at. Needs three pairs, else nothing is yielded.
    shares
        Known shares p to try.
    level
        See ``share_used``; a play in which the attack is too weak to count is left out.
    """
    couples = complementary_pairs(pair)
    if len(couples) <= FEWEST_PAIRS:
        return
    for couple in couples:
        others = [k for each in couples for k in each if each != couple]
        partners = np.arange(len(others)) ^ 1  # pairs stand side by side in others
        for k in couple:
            flags, around = flag(
                _as_target(seen, k, others), partners, compare,
                None if population is None else _as_target(population, k, others),
            )  # fmt: skip
            counted, member = rates(flags), seen.trained_on[k]
            outside = None
            if around is not None and population is not None:
                unseen = around.target[:, ~population.trained_on[k]]
                outside = rates(around)._replace(flagged=float(unseen.mean()), records=unseen.shape[1])
            used, unused = float(flags.target[:, member].mean()), float(flags.target[:, ~member].mean())
            for p in shares:
                size = min(member.sum() / p if p else np.inf, (~member).sum() / (1 - p) if p < 1 else np.inf)
                mixed = counted._replace(flagged=p * used + (1 - p) * unused, records=int(size))
                try:
                    yield Play(k, p, share_used(mixed, level, outside))
                except NotApplicable:
                    continue


def _as_target(seen: Observed, k: int, others: list[int]) -> Observed:
    return Observed(seen.references[k], seen.references[others], seen.trained_on[others])
