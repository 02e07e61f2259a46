"""Empirical lower bounds on epsilon: how much privacy loss does an attack on canaries prove?

Canaries are records of which a fair coin decided, independently for each, whether they were trained on. An attack
scores them (higher = more likely trained on) and every bound here says: with the stated confidence the training is not
(eps, delta)-differentially private for any smaller eps. A bound of 0 means "nothing shown", never "private".

A bound holds for one way of guessing. Trying many ways and keeping the best is a claim about luck unless it is paid
for, so every rule that chooses a plan here pays: it is fixed beforehand, shares the error (Bonferroni), or chooses on
canaries that the bound does not use (split).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias, cast, get_args

import numpy as np
from scipy import optimize, special, stats

from leakpro_nb.errors import InputError

__all__ = [
    "Bonferroni",
    "CutPlan",
    "EpsilonBound",
    "GuessPlan",
    "MultiSplit",
    "Preregistered",
    "Split",
    "bayesian_epsilon",
    "ceiling",
    "clopper_pearson_epsilon",
    "epsilon_lower_bound",
    "fdp_epsilon",
    "fdp_mu",
    "gdp_delta",
    "gdp_epsilon",
    "gdp_mu",
    "gdp_mu_lower_bound",
    "one_run_epsilon",
    "one_run_p_value",
]

Method: TypeAlias = Literal["one_run", "fdp", "clopper_pearson", "gdp", "bayesian"]
Shares: TypeAlias = tuple[float | None, float | None]

GUESSING = ("one_run", "fdp")  # bounds from right and wrong guesses; the others compare rates at a threshold
GAUSSIAN = ("fdp", "gdp")  # bounds on mu, which become an epsilon at a stated delta
KINDS = {"bayesian": "credible"}

SYMMETRIC: tuple[Shares, ...] = tuple((share, share) for share in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5))
PAIRS: tuple[Shares, ...] = tuple(
    (low, high)
    for low in (None, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
    for high in (None, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
    if (low, high) != (None, None)
)


# --- one run -------------------------------------------------------------------------------------------------------


def one_run_p_value(m: int, guesses: int, correct: int, eps: float, delta: float = 0.0) -> float:
    """Return how likely an (eps, delta)-private training makes so many guesses right, at most.

    Parameters
    ----------
    m
        Canaries, guessed or not.
    guesses, correct
        Guesses made and how many of them were right.
    eps, delta
        The guarantee under test, eps >= 0 in nats.

    Returns
    -------
    float
        In [0, 1]; the guarantee is rejected at every level above it.

    Raises
    ------
    InputError
        Counts out of order, negative eps, or delta outside [0, 1).

    Source: Steinke, Nasr and Jagielski, NeurIPS 2023, Theorem 5.2; the maximum over i is one vectorised call.

    >>> print(f"{one_run_p_value(1000, 100, 95, 1.0, 1e-5):.6f}")
    0.000664
    """
    _check_counts(m, guesses, correct)
    _check_delta(delta)
    if not eps >= 0:
        raise InputError("eps", eps, "Give a number of at least 0.")
    return _one_run_p_value(m, guesses, correct, eps, delta)


def one_run_epsilon(m: int, guesses: int, correct: int, *, delta: float = 0.0, confidence: float = 0.95) -> float:
    """Return the lower bound on eps that one training run with m canaries shows.

    Parameters
    ----------
    m, guesses, correct
        Canaries, guesses made, guesses that were right; the guesses depend on the scores alone.
    delta
        Of the guarantee under test; the price of a delta above 0 grows with m.
    confidence
        One-sided, in [0.5, 1).

    Returns
    -------
    float
        Largest eps whose p-value stays below ``1 - confidence``, found to 1e-9; 0 where nothing is shown.

    Raises
    ------
    InputError
        Counts out of order, wrong delta or confidence.

    Source: Steinke, Nasr and Jagielski, NeurIPS 2023, Theorem 5.2.

    >>> print(f"{one_run_epsilon(1000, 100, 95):.4f} {one_run_epsilon(1000, 100, 95, delta=1e-5):.4f}")
    2.1724 2.1652
    """
    _check_counts(m, guesses, correct)
    _check_delta(delta)
    return _one_run_epsilon(m, guesses, correct, delta, _error(confidence))


def _one_run_p_value(m: int, guesses: int, correct: int, eps: float, delta: float) -> float:
    """Return the p-value without checks."""
    if not correct:
        return 1.0
    # P[X > k] for k = correct - 1, ..., -1: the first is beta, its successors give alpha
    tails = stats.binom.sf(np.arange(correct - 1, -2, -1), guesses, special.expit(eps))
    alpha = float(((tails[1:] - tails[0]) / np.arange(1, correct + 1)).max()) if delta else 0.0
    return min(1.0, float(tails[0]) + 2 * m * delta * alpha)


@lru_cache(maxsize=2**15)  # random splits meet the same counts again and again
def _one_run_epsilon(m: int, guesses: int, correct: int, delta: float, error: float) -> float:
    """Return the bound without checks."""
    top = float(_pure_epsilon(np.array(guesses), np.array(correct), error)) - 1e-9  # on the side that is rejected
    if top <= 0 or not delta:
        return max(0.0, top)

    def log_ratio(eps: float) -> float:
        return math.log(max(_one_run_p_value(m, guesses, correct, eps, delta), 1e-300) / error)

    if log_ratio(0.0) >= 0:
        return 0.0
    return top if log_ratio(top) < 0 else _last_below(log_ratio, top)


def _pure_epsilon(guesses: np.ndarray, correct: np.ndarray, error: float) -> np.ndarray:
    """Return the one-run bound at delta = 0 for many counts at once; negative where nothing is shown.

    ``P[Bin(r, q) >= v] = error`` is solved by the exact lower bound of a binomial rate, and ``eps = logit(q)``.
    """
    r, v = np.asarray(guesses, dtype=float), np.asarray(correct, dtype=float)
    rate = np.where(v > 0, special.betaincinv(np.maximum(v, 1), np.maximum(r - v, 0) + 1, error), 0.0)
    return special.logit(rate)


def _last_below(increasing: Callable[[float], float], top: float) -> float:
    """Return a point just below the root of an increasing function on [0, top], so that the bound stays a bound."""
    return max(0.0, float(optimize.brentq(increasing, 0.0, top, xtol=1e-10, rtol=1e-12)) - 1e-9)


# --- f-DP in one run -----------------------------------------------------------------------------------------------


def fdp_mu(m: int, guesses: int, correct: int, *, confidence: float = 0.95) -> float:
    """Return the lower bound on mu of Gaussian differential privacy that one run with m canaries shows.

    Assumes that the mechanism has a Gaussian trade-off curve (DP-SGD approximately): say so beside the figure.

    Parameters
    ----------
    m, guesses, correct
        Canaries, guesses made, guesses that were right.
    confidence
        One-sided, in [0.5, 1).

    Returns
    -------
    float
        Largest rejected mu, found to 1e-9; 0 where nothing is shown.

    Raises
    ------
    InputError
        Counts out of order or wrong confidence.

    Source: Mahloujifar, Melis and Chaudhuri, ICML 2025, recursion for the number of right guesses.

    >>> print(f"{fdp_mu(1000, 100, 95):.4f}")
    0.7868
    """
    _check_counts(m, guesses, correct)
    return _fdp_mu(m, guesses, correct, _error(confidence))


def fdp_epsilon(m: int, guesses: int, correct: int, *, delta: float, confidence: float = 0.95) -> float:
    """Return the eps at ``delta`` of the mu that :func:`fdp_mu` shows; same parameters, ``delta`` in (0, 1).

    >>> print(f"{fdp_epsilon(1000, 100, 95, delta=1e-5):.3f}")
    3.323
    """
    return gdp_epsilon(fdp_mu(m, guesses, correct, confidence=confidence), delta)


@lru_cache(maxsize=2**15)
def _fdp_mu(m: int, guesses: int, correct: int, error: float) -> float:
    """Return the bound without checks."""

    def slack(mu: float) -> float:
        return -_fdp_excess(m, guesses, correct, mu, error)

    if slack(0.0) >= 0:
        return 0.0
    top = 1.0
    while slack(top) < 0:
        top *= 2
    return _last_below(slack, top)


def _fdp_excess(m: int, guesses: int, correct: int, mu: float, error: float) -> float:
    """Return a number above 0 where mu is rejected: the recursion of the paper against the share of guesses."""
    right, wrong = error * correct / m, error * (guesses - correct) / m
    for i in range(correct - 1, -1, -1):
        bound = float(special.ndtr(special.ndtri(right) - mu))
        if bound <= wrong:
            break  # neither changes any more
        right = min(right + i / (guesses - i) * (bound - wrong), 1.0)
        wrong = bound
    return right + wrong - guesses / m


# --- Gaussian differential privacy -----------------------------------------------------------------------------------


def gdp_delta(eps: float, mu: float) -> float:
    """Return the delta at ``eps`` of a mu-GDP mechanism.

    Source: Dong, Roth and Su, Gaussian differential privacy, JRSS B 2022, Corollary 2.13.

    >>> print(f"{gdp_delta(1.0, 1.0):.6f}")
    0.126937
    """
    if mu <= 0:
        return 0.0
    return float(special.ndtr(mu / 2 - eps / mu) - math.exp(eps + special.log_ndtr(-eps / mu - mu / 2)))


def gdp_epsilon(mu: float, delta: float) -> float:
    """Return the eps at ``delta`` of a mu-GDP mechanism; 0 where delta alone covers it.

    Raises
    ------
    InputError
        delta outside (0, 1): no Gaussian mechanism is private at delta = 0; or mu below 0 or not finite.

    >>> print(f"{gdp_epsilon(1.0, 1e-5):.3f}")
    4.377
    """
    _check_gaussian_delta(delta)
    if not 0 <= mu < math.inf:
        raise InputError("mu", mu, "Give a finite number of at least 0.")
    if gdp_delta(0.0, mu) <= delta:
        return 0.0
    top = 1.0
    while gdp_delta(top, mu) > delta:
        top *= 2
    return _last_below(lambda eps: delta - gdp_delta(eps, mu), top)


def gdp_mu(eps: float, delta: float) -> float:
    """Return the mu of the Gaussian mechanism that is exactly (eps, delta)-private.

    Raises
    ------
    InputError
        delta outside (0, 1) or negative eps.

    >>> print(f"{gdp_mu(gdp_epsilon(1.0, 1e-5), 1e-5):.6f}")
    1.000000
    """
    _check_gaussian_delta(delta)
    if not 0 <= eps < math.inf:
        raise InputError("eps", eps, "Give a finite number of at least 0.")
    top = 1.0
    while gdp_delta(eps, top) < delta:
        top *= 2
    return _last_below(lambda mu: gdp_delta(eps, mu) - delta, top)


# --- rates at a threshold --------------------------------------------------------------------------------------------


def clopper_pearson_epsilon(
    hits: np.ndarray | int,
    members: np.ndarray | int,
    false_alarms: np.ndarray | int,
    non_members: np.ndarray | int,
    *,
    delta: float = 0.0,
    confidence: float = 0.95,
) -> np.ndarray:
    """Return the lower bound on eps from exact bounds of both rates at one threshold.

    ``max(log((TPR_lo - delta) / FPR_hi), log((TNR_lo - delta) / FNR_hi), 0)``, each rate at half of the error. Both
    logarithms rest on the same two bounds (TNR_lo is 1 - FPR_hi), so the second one costs nothing. A second
    *threshold* does: share the error between thresholds.

    Parameters
    ----------
    hits, members, false_alarms, non_members
        Counts, broadcast against each other. The threshold is fixed beforehand, or is the (k + 1)-th highest score
        of the non-members, with ``false_alarms = k`` (scores above it count as hits): both are exact.
    delta
        Of the guarantee under test, in [0, 1).
    confidence
        One-sided, in [0.5, 1).

    Returns
    -------
    ndarray
        Bounds of the broadcast shape. Canaries of one run depend on each other through the model: there
        :func:`one_run_epsilon` is the safe choice, this is for one canary a run.

    Raises
    ------
    InputError
        More hits than members or more alarms than non-members; wrong delta or confidence.

    Source: Jagielski et al., NeurIPS 2020, section 3; Nasr et al., IEEE S&P 2021.

    >>> print(f"{clopper_pearson_epsilon(50, 50, 0, 50):.3f}")
    2.570
    """
    _check_delta(delta)
    _check_rates(hits, members, false_alarms, non_members)
    tpr, fpr = _rate_bounds(hits, members, false_alarms, non_members, _error(confidence))
    with np.errstate(divide="ignore"):
        for_members = np.log(np.maximum(tpr - delta, 0)) - np.log(fpr)
        for_non_members = np.log(np.maximum(1 - fpr - delta, 0)) - np.log1p(-tpr)
    return np.maximum(np.maximum(for_members, for_non_members), 0.0)


def gdp_mu_lower_bound(
    hits: np.ndarray | int,
    members: np.ndarray | int,
    false_alarms: np.ndarray | int,
    non_members: np.ndarray | int,
    *,
    confidence: float = 0.95,
) -> np.ndarray:
    """Return the lower bound on mu of Gaussian differential privacy from rates at one threshold.

    ``Phi^-1(1 - FPR_hi) - Phi^-1(FNR_hi)``, at least 0; parameters as in :func:`clopper_pearson_epsilon`. Assumes a
    Gaussian trade-off curve. :func:`gdp_epsilon` turns it into an eps.

    Source: Nasr et al., USENIX Security 2023, section 5.

    >>> print(f"{gdp_mu_lower_bound(500, 500, 0, 500):.3f}")
    4.879
    """
    _check_rates(hits, members, false_alarms, non_members)
    tpr, fpr = _rate_bounds(hits, members, false_alarms, non_members, _error(confidence))
    return np.maximum(special.ndtri(tpr) - special.ndtri(fpr), 0.0)


def bayesian_epsilon(
    hits: np.ndarray | int,
    members: np.ndarray | int,
    false_alarms: np.ndarray | int,
    non_members: np.ndarray | int,
    *,
    delta: float = 0.0,
    level: float = 0.9,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the equal-tailed credible interval of eps at one threshold; credible, not confidence.

    The rates get Jeffreys' prior, so TPR ~ Beta(hits + 1/2, misses + 1/2) and FPR likewise, and eps is
    ``max(log((TPR - delta) / FPR), log((TNR - delta) / FNR), 0)``. Its distribution function is integrated over the
    quantiles of FPR: nothing is sampled. Other parameters as in :func:`clopper_pearson_epsilon`.

    Parameters
    ----------
    level
        Probability inside the interval, in (0, 1); the low end of a 0.9 interval is a 95 % one-sided bound.

    Returns
    -------
    low, high
        Arrays of the broadcast shape.

    Raises
    ------
    InputError
        More hits than members or more alarms than non-members; wrong delta or level.

    Source: Zanella-Béguelin et al., Bayesian estimation of differential privacy, ICML 2023.

    >>> low, high = bayesian_epsilon(50, 50, 0, 50)
    >>> print(f"{low:.1f} {high:.1f}")
    4.2 11.5
    """
    _check_delta(delta)
    if not 0 < level < 1:
        raise InputError("level", level, "Give a probability between 0 and 1, such as 0.9.")
    _check_rates(hits, members, false_alarms, non_members)
    tail = (1 - level) / 2
    counts = (hits, members, false_alarms, non_members)
    return _bayesian_quantile(counts, delta, tail), _bayesian_quantile(counts, delta, 1 - tail)


def _rate_bounds(
    hits: np.ndarray | int,
    members: np.ndarray | int,
    false_alarms: np.ndarray | int,
    non_members: np.ndarray | int,
    error: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return TPR_lo and FPR_hi, each at half of the error: the two ends of Clopper and Pearson that are needed."""
    k, n = np.asarray(hits, dtype=float), np.asarray(members, dtype=float)
    j, o = np.asarray(false_alarms, dtype=float), np.asarray(non_members, dtype=float)
    low = np.where(k > 0, special.betaincinv(np.maximum(k, 1), n - np.maximum(k, 1) + 1, error / 2), 0.0)
    high = np.where(j < o, special.betaincinv(j + 1, np.maximum(o - j, 1), 1 - error / 2), 1.0)
    return low, high


@lru_cache
def _quadrature() -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights on [0, 1]; 200 leave an error of at most 0.002 in eps, where no canary is missed."""
    nodes, weights = special.roots_legendre(200)
    return (nodes + 1) / 2, weights / 2


def _bayesian_quantile(counts: tuple[np.ndarray | int, ...], delta: float, quantile: float) -> np.ndarray:
    """Return a quantile of the posterior of eps by bisection, for all counts at once."""
    arrays = np.broadcast_arrays(*(np.asarray(count, dtype=float) for count in counts))
    hits, members, false_alarms, non_members = (array.reshape(-1, 1) for array in arrays)
    levels, weights = _quadrature()
    fpr = special.betaincinv(false_alarms + 0.5, non_members - false_alarms + 0.5, levels)

    def below(eps: np.ndarray, rows: np.ndarray) -> np.ndarray:
        growth = np.exp(eps)[:, None]
        # eps stays below when TPR is below both lines of the (eps, delta) region
        limit = np.minimum(delta + growth * fpr[rows], 1 - (1 - fpr[rows] - delta) / growth)
        tpr = (hits[rows] + 0.5, members[rows] - hits[rows] + 0.5)
        return special.betainc(*tpr, np.clip(limit, 0, 1)) @ weights

    result = np.zeros(len(hits))
    shown = np.flatnonzero(below(result, np.arange(len(hits))) < quantile)
    low, high = np.zeros(len(shown)), np.full(len(shown), 64.0)
    for _ in range(36 if len(shown) else 0):  # 64 / 2^36 is below 1e-9
        middle = (low + high) / 2
        under = below(middle, shown) < quantile
        low, high = np.where(under, middle, low), np.where(under, high, middle)
    result[shown] = low
    return result.reshape(arrays[0].shape)


# --- plans -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GuessPlan:
    """Guess the ``k_low`` lowest scores "not trained on", the ``k_high`` highest "trained on", and no other."""

    k_low: int
    k_high: int

    def __post_init__(self) -> None:
        if min(self.k_low, self.k_high) < 0:
            raise InputError("GuessPlan", self, "Counts of guesses are 0 or more.")

    @classmethod
    def of_shares(cls, m: int, shares: Shares) -> GuessPlan:
        """Return the plan that guesses these shares of m canaries, rounded down; None guesses nothing on that side."""
        k_low, k_high = (_count(share, m) or 0 for share in shares)
        return cls(k_low, k_high)


@dataclass(frozen=True)
class CutPlan:
    """Thresholds given by how many errors they make; None leaves a direction out.

    Accuse what scores above the ``(false_alarms + 1)``-th highest non-member, and clear what scores below the
    ``(misses + 1)``-th lowest member. Such thresholds are found from the other side's scores alone, which keeps the
    binomial bounds of both rates exact. Two directions are two thresholds and share the error.
    """

    misses: int | None
    false_alarms: int | None

    def __post_init__(self) -> None:
        given = [k for k in (self.misses, self.false_alarms) if k is not None]
        if not given or min(given) < 0:
            raise InputError("CutPlan", self, "Give at least one direction, with counts of 0 or more.")

    @classmethod
    def of_shares(cls, members: int, non_members: int, shares: Shares) -> CutPlan:
        """Return the plan with these shares of misses and false alarms (FNR, FPR), rounded down."""
        low, high = (
            None if k is None else min(k, n - 1)
            for k, n in ((_count(shares[0], members), members), (_count(shares[1], non_members), non_members))
        )
        return cls(low, high)


@dataclass(frozen=True)
class Preregistered:
    """One plan, written down before the run.

    ``fraction`` is the share of canaries guessed at each end; for rates at a threshold it is the FPR (and the FNR of
    the other direction). ``sides`` is "both", "high" (accuse only) or "low" (clear only).
    """

    fraction: float = 0.1
    sides: Literal["both", "high", "low"] = "both"

    def __post_init__(self) -> None:
        if self.sides not in {"both", "high", "low"}:
            raise InputError("sides", self.sides, 'Choose "both", "high" or "low".')
        _check_grid(self.grid)

    @property
    def grid(self) -> tuple[Shares, ...]:
        """The one pair of shares."""
        low = None if self.sides == "high" else self.fraction
        high = None if self.sides == "low" else self.fraction
        return ((low, high),)


@dataclass(frozen=True)
class Bonferroni:
    """The best of a grid of plans, each at its part of the error; ``grid`` holds (low, high) shares, None for none."""

    grid: tuple[Shares, ...] = SYMMETRIC

    def __post_init__(self) -> None:
        _check_grid(self.grid)


@dataclass(frozen=True)
class Split:
    """Choose the plan on a random half of the canaries, bound on the other half."""

    grid: tuple[Shares, ...] = PAIRS

    def __post_init__(self) -> None:
        _check_grid(self.grid)


@dataclass(frozen=True)
class MultiSplit:
    """Median over many random splits, each at half of the error: does not hang on one lucky split.

    Source: Meinshausen, Meier and Bühlmann, p-values for high-dimensional regression, JASA 2009, with gamma = 1/2.
    """

    splits: int = 21
    grid: tuple[Shares, ...] = PAIRS

    def __post_init__(self) -> None:
        if self.splits < 1:
            raise InputError("splits", self.splits, "Give at least 1 split.")
        _check_grid(self.grid)


Rule: TypeAlias = Preregistered | Bonferroni | Split | MultiSplit
RULES: dict[str, type[Rule]] = {
    "preregistered": Preregistered,
    "bonferroni": Bonferroni,
    "split": Split,
    "multisplit": MultiSplit,
}


# --- the convenience -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EpsilonBound:
    """A lower bound on eps with all that is needed to read it.

    ``plan`` is the plan used and ``rule`` how it was chosen; ``guesses`` and ``correct`` are its counts (for rates at
    a threshold, those of the direction that gave the bound; after a split, those of the half that was not used to
    choose). ``ceiling`` is what a perfect attack could show with this method and m canaries, ``plan_ceiling`` what it
    could show with this plan at its part of the error. ``kind`` is "confidence" or "credible"; ``confidence`` the
    stated level of that kind. ``mu`` is given by methods that assume a Gaussian trade-off curve.
    """

    eps: float
    method: str
    rule: str
    plan: GuessPlan | CutPlan
    m: int
    guesses: int
    correct: int
    delta: float
    confidence: float
    ceiling: float
    plan_ceiling: float
    kind: str
    mu: float | None = None


def epsilon_lower_bound(
    scores: np.ndarray,
    inserted: np.ndarray,
    *,
    method: Method = "one_run",
    plan: Rule | GuessPlan | CutPlan | str = "preregistered",
    delta: float = 0.0,
    confidence: float = 0.95,
    ties: Literal["random", "abstain"] = "random",
    seed: int = 0,
) -> EpsilonBound:
    """Return the lower bound on eps that an attack's scores of canaries show.

    Parameters
    ----------
    scores
        (m,) higher = more likely trained on; no NaN. The attack must not have been tuned on a model that saw these
        coins or their complement.
    inserted
        (m,) bool, the result of an independent fair coin for each canary.
    method
        "one_run" (Steinke et al.), "fdp" (Mahloujifar et al.), "clopper_pearson", "gdp" (Nasr et al.) or "bayesian"
        (Zanella-Béguelin et al.); "fdp" and "gdp" assume a Gaussian trade-off curve and need a delta above 0.
    plan
        A rule or its lower-case name, or one plan (a :class:`GuessPlan` for "one_run" and "fdp", a :class:`CutPlan`
        for the others), which then counts as pre-registered.
    delta
        Of the guarantee under test, in [0, 1).
    confidence
        One-sided, in [0.5, 1).
    ties
        What to do about equal scores at a cut: "random" breaks them by ``seed``, "abstain" guesses none of them.
    seed
        Seeds ties and splits. The order of the canaries never matters.

    Returns
    -------
    EpsilonBound

    Raises
    ------
    InputError
        Arrays of wrong shape, NaN, an empty side, wrong delta, confidence, method or plan.

    >>> rng = np.random.default_rng(0)
    >>> inserted = rng.random(1000) < 0.5
    >>> bound = epsilon_lower_bound(rng.normal(size=1000) + 2 * inserted, inserted)
    >>> print(f"{bound.eps:.2f} of {bound.ceiling:.2f}: {bound.correct} of {bound.guesses} right")
    4.19 of 5.81: 200 of 200 right
    """
    if method not in get_args(Method):
        raise InputError("method", method, f"Choose one of {', '.join(get_args(Method))}.")
    error = _error(confidence)
    (_check_gaussian_delta if method in GAUSSIAN else _check_delta)(delta)
    rng = np.random.default_rng(seed)
    sample = _sample(scores, inserted, ties, rng)
    audit = _Audit(method, delta)
    if isinstance(plan, GuessPlan | CutPlan):
        name, claim = "preregistered", _explicit(audit, sample, plan, error)
    else:
        rule = _rule(plan)
        name, claim = type(rule).__name__.lower(), _by_rule(audit, sample, rule, error, rng)
    gaussian = method in GAUSSIAN
    return EpsilonBound(
        eps=audit.eps(claim.strength),
        method=method,
        rule=name,
        plan=claim.plan,
        m=len(sample.member),
        guesses=claim.guesses,
        correct=claim.correct,
        delta=delta,
        confidence=confidence,
        ceiling=ceiling(len(sample.member), method, delta=delta, confidence=confidence),
        plan_ceiling=audit.eps(_limit(audit, claim)),
        kind=KINDS.get(method, "confidence"),
        mu=claim.strength if gaussian else None,
    )


def ceiling(m: int, method: Method = "one_run", *, delta: float = 0.0, confidence: float = 0.95) -> float:
    """Return the largest bound that a perfect attack can show with m canaries: print it beside every bound.

    "one_run" and "fdp" guess all m rightly; the others see m/2 members, all above m/2 non-members, at one threshold.

    Raises
    ------
    InputError
        m below 2, or wrong method, delta or confidence.

    >>> print(f"{ceiling(1000):.3f} {ceiling(1000, 'clopper_pearson'):.3f}")
    5.809 4.906
    """
    if method not in get_args(Method):
        raise InputError("method", method, f"Choose one of {', '.join(get_args(Method))}.")
    if m < 2:
        raise InputError("m", m, "Give at least 2 canaries.")
    (_check_gaussian_delta if method in GAUSSIAN else _check_delta)(delta)
    return _ceiling(m, method, delta, _error(confidence))


@lru_cache
def _ceiling(m: int, method: str, delta: float, error: float) -> float:
    """Return the ceiling without checks."""
    audit = _Audit(method, delta)
    if method in GUESSING:
        return audit.eps(audit.guessing(m, m, m, error))
    half = m // 2
    return audit.eps(float(audit.rates(np.array(half), half, np.array(0), m - half, error)))


# --- how a plan becomes a bound --------------------------------------------------------------------------------------


class _Sample(NamedTuple):
    """Canaries in ascending order of score; ``values`` are ranks without ties where ties were broken."""

    values: np.ndarray
    member: np.ndarray

    def part(self, rows: np.ndarray) -> _Sample:
        return _Sample(self.values[rows], self.member[rows])


class _Claim(NamedTuple):
    """What a plan shows: ``strength`` is eps, or mu for Gaussian methods; then the sizes and the error it was given."""

    strength: float
    plan: GuessPlan | CutPlan
    guesses: int
    correct: int
    members: int
    others: int
    error: float


@dataclass(frozen=True)
class _Audit:
    """A method at a delta."""

    method: str
    delta: float

    def eps(self, strength: float) -> float:
        return gdp_epsilon(strength, self.delta) if self.method in GAUSSIAN else strength

    def guessing(self, m: int, guesses: int, correct: int, error: float) -> float:
        """Return the strength that right guesses show."""
        if self.method == "fdp":
            return _fdp_mu(m, guesses, correct, error)
        return _one_run_epsilon(m, guesses, correct, self.delta, error)

    def rates(
        self, hits: np.ndarray, n_hits: np.ndarray | int, errors: np.ndarray, n_errors: np.ndarray | int, error: float
    ) -> np.ndarray:
        """Return the strengths that rates at thresholds show."""
        if self.method == "bayesian":
            # the rate at the (k + 1)-th highest of n is Beta(k + 1, n - k) by itself: half an error more than the prior
            # gives; without it, a threshold after few errors claims too often
            return _bayesian_quantile((hits, n_hits, errors + 0.5, n_errors), self.delta, error)
        if self.method == "gdp":
            return gdp_mu_lower_bound(hits, n_hits, errors, n_errors, confidence=1 - error)
        return clopper_pearson_epsilon(hits, n_hits, errors, n_errors, delta=self.delta, confidence=1 - error)


def _sample(scores: np.ndarray, inserted: np.ndarray, ties: str, rng: np.random.Generator) -> _Sample:
    """Check and sort the canaries."""
    values, truth = np.asarray(scores), np.asarray(inserted)
    if values.ndim != 1 or values.dtype.kind not in "fiub":
        raise InputError("scores", f"{values.dtype} of shape {values.shape}", "Give one number for each canary.")
    if truth.shape != values.shape:
        raise InputError("inserted", f"shape {truth.shape}", f"Give one truth for each of the {len(values)} scores.")
    if truth.dtype.kind not in "fiub" or not np.isin(truth, (0, 1)).all():
        raise InputError("inserted", truth.dtype.name, "Give True (trained on) or False for each canary.")
    if np.isnan(values).any():
        raise InputError(
            "scores",
            f"{int(np.isnan(values).sum())} NaN",
            "Score every canary; to leave one out would depend on the score.",
        )
    truth = truth.astype(bool)
    if truth.all() or not truth.any():
        raise InputError(
            "inserted", f"{int(truth.sum())} of {len(truth)}", "Toss a coin for each canary: both sides are needed."
        )
    if ties not in {"random", "abstain"}:
        raise InputError("ties", ties, 'Choose "random" or "abstain".')
    # sorted by truth within ties first, so that what the seed does cannot depend on the order of the records
    order = np.lexsort((truth, values))
    values, truth = values[order], truth[order]
    if ties == "random":
        truth = truth[np.lexsort((rng.random(len(values)), values))]
        values = np.arange(len(values))
    return _Sample(values, truth)


def _rule(plan: Rule | str) -> Rule:
    """Return the rule of that name."""
    if isinstance(plan, str) and plan in RULES:
        return RULES[plan]()
    if isinstance(plan, tuple(RULES.values())):
        return cast("Rule", plan)
    raise InputError("plan", plan, f"Give a plan, a rule, or one of {', '.join(RULES)}.")


def _explicit(audit: _Audit, sample: _Sample, plan: GuessPlan | CutPlan, error: float) -> _Claim:
    """Return the claim of one plan that the user gives."""
    if isinstance(plan, GuessPlan) != (audit.method in GUESSING):
        wanted = "GuessPlan" if audit.method in GUESSING else "CutPlan"
        raise InputError("plan", plan, f"The method {audit.method} needs a {wanted}.")
    members = int(sample.member.sum())
    others = len(sample.member) - members
    if isinstance(plan, GuessPlan):
        fits = plan.k_low + plan.k_high <= members + others
    else:
        fits = (plan.misses or 0) < members and (plan.false_alarms or 0) < others
    if not fits:
        raise InputError("plan", plan, f"There are {members} canaries in and {others} out: ask for fewer.")
    return _scan(audit, sample, [plan], error)[0]


def _by_rule(audit: _Audit, sample: _Sample, rule: Rule, error: float, rng: np.random.Generator) -> _Claim:
    """Return the claim after the plan was chosen and paid for."""
    if isinstance(rule, Split):
        return _split(audit, sample, rule.grid, error, rng)
    if isinstance(rule, MultiSplit):
        claims = [_split(audit, sample, rule.grid, error / 2, rng) for _ in range(rule.splits)]
        # the lower median: at least half of the splits claim as much
        return sorted(claims, key=lambda claim: claim.strength)[(rule.splits - 1) // 2]
    plans = _plans(audit, sample, rule.grid)
    return max(_scan(audit, sample, plans, error / len(plans)), key=lambda claim: claim.strength)


def _split(audit: _Audit, sample: _Sample, grid: tuple[Shares, ...], error: float, rng: np.random.Generator) -> _Claim:
    """Return the claim of the plan that is best on one random half, made on the other half."""
    m = len(sample.member)
    chosen = np.zeros(m, dtype=bool)
    chosen[rng.permutation(m)[: m // 2]] = True
    first, second = sample.part(np.flatnonzero(chosen)), sample.part(np.flatnonzero(~chosen))
    if min(first.member.sum(), second.member.sum()) == 0 or first.member.all() or second.member.all():
        return _Claim(0.0, _plans(audit, sample, grid[:1])[0], 0, 0, 0, 0, error)
    if audit.method not in GUESSING:
        # one direction at the whole error is never worse than both at half of it
        singles = [single for low, high in grid for single in ((low, None), (None, high)) if single != (None, None)]
        grid = tuple(dict.fromkeys(singles))
    best = int(_promise(audit, first, grid, error).argmax())
    return _scan(audit, second, _plans(audit, second, grid[best : best + 1]), error)[0]


def _promise(audit: _Audit, sample: _Sample, grid: tuple[Shares, ...], error: float) -> np.ndarray:
    """Return how well each plan does, by a quick stand-in: a poor choice loses power, never validity."""
    plans = _plans(audit, sample, grid)
    if audit.method in GUESSING:
        tallies = np.array([_guess(sample, cast("GuessPlan", plan)) for plan in plans])
        return _pure_epsilon(tallies[:, 0], tallies[:, 1], error)
    stand_in = _Audit("clopper_pearson", audit.delta) if audit.method == "bayesian" else audit
    return np.array([claim.strength for claim in _scan(stand_in, sample, plans, error)])


def _plans(audit: _Audit, sample: _Sample, grid: tuple[Shares, ...]) -> list[GuessPlan | CutPlan]:
    """Return the plans of a grid at the size of the sample."""
    m, members = len(sample.member), int(sample.member.sum())
    if audit.method in GUESSING:
        return [GuessPlan.of_shares(m, shares) for shares in grid]
    return [CutPlan.of_shares(members, m - members, shares) for shares in grid]


def _scan(audit: _Audit, sample: _Sample, plans: list[GuessPlan | CutPlan], error: float) -> list[_Claim]:
    """Return the claim of each plan, each at the error given."""
    if audit.method not in GUESSING:
        return _scan_cuts(audit, sample, cast("list[CutPlan]", plans), error)
    m, members = len(sample.member), int(sample.member.sum())
    claims = []
    for plan in cast("list[GuessPlan]", plans):
        guesses, correct = _guess(sample, plan)
        strength = audit.guessing(m, guesses, correct, error)
        claims.append(_Claim(strength, plan, guesses, correct, members, m - members, error))
    return claims


def _limit(audit: _Audit, claim: _Claim) -> float:
    """Return the strength that a perfect attack could show with the plan of a claim."""
    if not claim.members:
        return 0.0
    if isinstance(claim.plan, GuessPlan):
        guesses = claim.plan.k_low + claim.plan.k_high
        return audit.guessing(claim.members + claim.others, guesses, guesses, claim.error)
    perfect = _Sample(np.arange(claim.members + claim.others), np.arange(claim.members + claim.others) >= claim.others)
    return _scan_cuts(audit, perfect, [claim.plan], claim.error)[0].strength


def _guess(sample: _Sample, plan: GuessPlan) -> tuple[int, int]:
    """Return the guesses made and how many are right; canaries that tie with one outside the cut are not guessed."""
    values, member = sample
    m, k, j = len(values), plan.k_low, plan.k_high
    low = k if k in {0, m} else int(np.searchsorted(values, values[k], "left"))
    high = j if j in {0, m} else m - int(np.searchsorted(values, values[m - j - 1], "right"))
    correct = low - np.count_nonzero(member[:low]) + np.count_nonzero(member[m - high :])
    return low + high, int(correct)


def _scan_cuts(audit: _Audit, sample: _Sample, plans: list[CutPlan], error: float) -> list[_Claim]:
    """Return the claim of each plan of thresholds, all bounds at the same error in one call."""
    inside, outside = sample.values[sample.member], sample.values[~sample.member]
    n1, n0 = len(inside), len(outside)
    rows: list[tuple[int, int, int, int, int]] = []  # plan, hits, of, errors, of
    parts = []
    for index, plan in enumerate(plans):
        # errors are the planned number even where ties leave fewer: that keeps the bound of their rate valid
        if plan.false_alarms is not None:
            cut = outside[n0 - 1 - plan.false_alarms]
            rows.append((index, n1 - int(np.searchsorted(inside, cut, "right")), n1, plan.false_alarms, n0))
        if plan.misses is not None:
            cut = inside[plan.misses]
            rows.append((index, int(np.searchsorted(outside, cut, "left")), n0, plan.misses, n1))
        directions = 1 if None in {plan.misses, plan.false_alarms} else 2
        parts += [error / directions] * directions
    owner, hits, n_hits, errors, n_errors = np.array(rows).T
    strengths = np.zeros(len(rows))
    for part in set(parts):
        at = np.array(parts) == part
        strengths[at] = audit.rates(hits[at], n_hits[at], errors[at], n_errors[at], part)
    claims = []
    for index, plan in enumerate(plans):
        mine = np.flatnonzero(owner == index)
        best = mine[strengths[mine].argmax()]
        guesses, correct = int(hits[best] + errors[best]), int(hits[best])
        claims.append(_Claim(float(strengths[best]), plan, guesses, correct, n1, n0, error))
    return claims


# --- checks ----------------------------------------------------------------------------------------------------------


def _count(share: float | None, of: int) -> int | None:
    """Return the share of a number, rounded down; a share such as 0.29 of 100 is 29 whatever its binary digits."""
    return None if share is None else int(share * of + 1e-9)


def _error(confidence: float) -> float:
    """Return 1 - confidence."""
    if not 0.5 <= confidence < 1:
        raise InputError("confidence", confidence, "Give a level of at least 0.5 and below 1, such as 0.95.")
    return 1 - confidence


def _check_delta(delta: float) -> None:
    """Refuse a delta that is no probability."""
    if not 0 <= delta < 1:
        raise InputError("delta", delta, "Give a number of at least 0 and below 1, such as 1e-5.")


def _check_gaussian_delta(delta: float) -> None:
    """Refuse delta = 0 too, where a Gaussian curve has no finite eps."""
    if not 0 < delta < 1:
        raise InputError(
            "delta", delta, "A Gaussian trade-off curve has an eps only at a delta in (0, 1), such as 1e-5."
        )


def _check_counts(m: int, guesses: int, correct: int) -> None:
    """Refuse counts that cannot be."""
    if not 0 <= correct <= guesses <= m or m < 1:
        raise InputError("counts", f"m {m}, guesses {guesses}, correct {correct}", "Give 0 <= correct <= guesses <= m.")


def _check_rates(
    hits: np.ndarray | int, members: np.ndarray | int, false_alarms: np.ndarray | int, non_members: np.ndarray | int
) -> None:
    """Refuse counts that are no rates."""
    for name, part, of in (("hits", hits, members), ("false_alarms", false_alarms, non_members)):
        if not (np.less_equal(0, part) & np.less_equal(part, of)).all():
            raise InputError(name, f"{part} of {of}", "A count is at least 0 and at most the number of its side.")


def _check_grid(grid: tuple[Shares, ...]) -> None:
    """Refuse shares that overlap or guess nothing."""
    if not grid:
        raise InputError("grid", grid, "Give at least one pair of shares.")
    for shares in grid:
        given = [share for share in shares if share is not None]
        if not given or not all(0 <= share <= 1 for share in given) or sum(given) > 1:
            raise InputError("shares", shares, "Give one or two shares from 0 to 1 that add up to at most 1.")
