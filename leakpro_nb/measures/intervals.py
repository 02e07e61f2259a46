"""Confidence intervals for rates and for the area under the ROC curve."""

from __future__ import annotations

import math

import numpy as np
from scipy import special, stats

__all__ = ["auc_interval", "clopper_pearson"]


def clopper_pearson(
    successes: np.ndarray | int, trials: np.ndarray | int, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact two-sided interval of a binomial rate.

    Parameters
    ----------
    successes, trials
        Counts, broadcast against each other.
    level
        Confidence level; each tail gets half of the rest.

    Returns
    -------
    low, high
        Arrays of the broadcast shape, in [0, 1]; 0 trials give [0, 1].

    Source: Clopper and Pearson, Biometrika 1934.

    >>> low, high = clopper_pearson(5, 1000)
    >>> print(f"{low:.6f} {high:.6f}")
    0.001625 0.011629
    """
    k, n = np.broadcast_arrays(np.asarray(successes, dtype=float), np.asarray(trials, dtype=float))
    tail = (1 - level) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(k > 0, stats.beta.ppf(tail, k, n - k + 1), 0.0)
        high = np.where(k < n, stats.beta.ppf(1 - tail, k + 1, n - k), 1.0)
    return low, high


def auc_interval(scores: np.ndarray, member: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """Return the AUC with its interval: ties count one half, DeLong variance on the logit scale.

    Parameters
    ----------
    scores
        (N,) higher = more member-like, no NaN.
    member
        (N,) bool.
    level
        Confidence level.

    Returns
    -------
    auc, low, high
        All NaN when one side is empty. A perfect (or perfectly wrong) AUC has no DeLong variance: its open end
        is the exact bound for the smaller side's count. Equal scores everywhere are exactly 0.5, known surely.

    Source: DeLong et al., Biometrics 1988; Sun and Xu, IEEE Signal Processing Letters 2014 (mid-ranks).

    >>> auc, low, high = auc_interval(np.array([0.0, 1.0, 2.0, 3.0]), np.array([False, False, True, True]))
    >>> print(auc, round(low, 3), high)
    1.0 0.158 1.0
    """
    member = np.asarray(member, dtype=bool)
    n1, n0 = int(member.sum()), int((~member).sum())
    if not n1 or not n0:
        return math.nan, math.nan, math.nan
    pooled = stats.rankdata(scores)
    wins = (pooled[member] - stats.rankdata(scores[member])) / n0
    losses = 1 - (pooled[~member] - stats.rankdata(scores[~member])) / n1
    auc = float(wins.mean())
    if auc in (0.0, 1.0):
        open_end = float(clopper_pearson(min(n1, n0), min(n1, n0), level)[0])
        return (1.0, open_end, 1.0) if auc == 1.0 else (0.0, 0.0, 1 - open_end)
    variance = (wins.var(ddof=1) / n1 if n1 > 1 else 0.25) + (losses.var(ddof=1) / n0 if n0 > 1 else 0.25)
    z = stats.norm.ppf((1 + level) / 2)
    centre, half = math.log(auc / (1 - auc)), z * math.sqrt(variance) / (auc * (1 - auc))
    low, high = (float(special.expit(centre + side)) for side in (-half, half))
    return auc, low, high
