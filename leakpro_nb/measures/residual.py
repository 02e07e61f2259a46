"""Residual risk: how much more often an attack succeeds on the people in the data than on others.

Guesses that hit one record stand or fall together. So rates are judged by the number of guesses that they are worth,
which a design effect over records tells, and intervals stay honest at rates of 0 and 1, where a bootstrap collapses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

__all__ = ["Rate", "Residual", "cluster_bootstrap", "holm", "rate", "residual_risk"]


class Rate(NamedTuple):
    """A success rate with its interval, and the number of independent guesses that it is worth."""

    value: float
    low: float
    high: float
    worth: float


class Residual(NamedTuple):
    """Residual risk with its interval and one-sided p-value, and the two rates that it compares."""

    value: float
    low: float
    high: float
    p_value: float
    attack: Rate
    control: Rate


def rate(success: np.ndarray, record: np.ndarray | None = None, level: float = 0.95) -> Rate:
    """Return the share of right guesses with its Wilson interval, taken over records.

    Parameters
    ----------
    success
        (n,) in [0, 1].
    record
        (n,) the record that each guess was about; -1 stands for no record, and such guesses for themselves. ``None``:
        all guesses are independent.
    level
        Confidence level.

    Source: Wilson 1927; design effect of clusters, Kish 1965, section 5.4.

    >>> [round(float(x), 4) for x in rate(np.r_[np.ones(10), np.zeros(90)])[:3]]
    [0.1, 0.0552, 0.1744]
    """
    success = np.asarray(success, dtype=np.float64)
    n = len(success)
    if n == 0:
        return Rate(float("nan"), 0.0, 1.0, 0.0)
    p = float(success.mean())
    worth = n / _design_effect(success, record)
    z2 = float(stats.norm.ppf((1 + level) / 2) ** 2)
    middle = (p + z2 / (2 * worth)) / (1 + z2 / worth)
    half = np.sqrt(z2 * (p * (1 - p) / worth + z2 / (4 * worth**2))) / (1 + z2 / worth)
    return Rate(p, max(0.0, float(middle - half)), min(1.0, float(middle + half)), float(worth))


def _design_effect(success: np.ndarray, record: np.ndarray | None) -> float:
    """Return how much larger the variance of the mean is than that of as many independent guesses; at least 1."""
    p, n = success.mean(), len(success)
    spread = p * (1 - p)
    if record is None or spread == 0:
        # without spread nothing can be told from the outcomes: the largest records could decide all their guesses
        return 1.0 if record is None else n / _kish(_clusters(record))
    labels = _clusters(record)
    sums = np.bincount(labels, weights=success - p)
    clusters = len(sums)
    variance = (sums**2).sum() * clusters / max(1, clusters - 1) / n**2
    return max(1.0, float(variance * n / spread))


def _clusters(record: np.ndarray) -> np.ndarray:
    """Return cluster labels 0 … c-1; every guess without a record is a cluster of its own."""
    alone = record < 0
    labels = np.empty(len(record), dtype=np.int64)
    _, labels[~alone] = np.unique(record[~alone], return_inverse=True)
    first = int(labels[~alone].max()) + 1 if (~alone).any() else 0
    labels[alone] = first + np.arange(int(alone.sum()))
    return labels


def _kish(labels: np.ndarray) -> float:
    sizes = np.bincount(labels).astype(np.float64)
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def residual_risk(
    attack: np.ndarray,
    control: np.ndarray,
    *,
    attack_record: np.ndarray | None = None,
    control_record: np.ndarray | None = None,
    level: float = 0.95,
) -> Residual:
    """Return ``(p_attack - p_control) / (1 - p_control)``: of what control people are spared, the share that is lost.

    Not clipped: a negative value means that the attack did better on the control people. NaN where the attack always
    succeeds on control people, so that there is nothing left to lose.

    Parameters
    ----------
    attack, control
        (n,) and (m,) success of guesses about people in the data and about control people.
    attack_record, control_record
        See ``rate``.
    level
        Confidence level.

    Source: residual risk, Giomi et al., PoPETs 2023, section 3; its interval as one minus a ratio of two rates, by the
    method of variance estimates recovery, Donner and Zou, Statistical Methods in Medical Research 2012.
    """
    one, two = rate(attack, attack_record, level), rate(control, control_record, level)
    safe, spared = 1 - one.value, 1 - two.value
    if not spared > 0 or not np.isfinite(safe):
        return Residual(float("nan"), float("-inf"), 1.0, 1.0, one, two)
    low, high = _ratio_interval(safe, 1 - one.high, 1 - one.low, spared, 1 - two.high, 1 - two.low)
    return Residual(1 - safe / spared, 1 - high, 1 - low, _p_value(one, two), one, two)


def _ratio_interval(
    a: float, a_low: float, a_high: float, b: float, b_low: float, b_high: float
) -> tuple[float, float]:
    """Return the limits of ``a / b`` from those of either."""
    product = a * b
    below, above = b_high * (2 * b - b_high), b_low * (2 * b - b_low)
    inside = max(0.0, product**2 - a_low * (2 * a - a_low) * below)
    low = (product - np.sqrt(inside)) / below if below > 0 else 0.0
    inside = max(0.0, product**2 - a_high * (2 * a - a_high) * above)
    high = (product + np.sqrt(inside)) / above if above > 0 else float("inf")
    return max(0.0, float(low)), float(high)


def _p_value(attack: Rate, control: Rate) -> float:
    """Return the one-sided p-value of the score test that the attack's rate is no higher than the control's."""
    if not attack.worth or not control.worth:
        return 1.0
    pooled = (attack.value * attack.worth + control.value * control.worth) / (attack.worth + control.worth)
    spread = np.sqrt(pooled * (1 - pooled) * (1 / attack.worth + 1 / control.worth))
    if spread == 0:
        return 1.0
    return float(stats.norm.sf((attack.value - control.value) / spread))


def cluster_bootstrap(
    success: np.ndarray, record: np.ndarray, *, level: float = 0.95, repeats: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile interval of the mean when whole records are drawn anew, for comparison with ``rate``.

    It has no width where all guesses are right, or none is, and is therefore not what the audits report.
    """
    labels = _clusters(np.asarray(record))
    sums, sizes = np.bincount(labels, weights=success), np.bincount(labels)
    draws = np.random.default_rng(seed).integers(len(sums), size=(repeats, len(sums)))
    low, high = np.quantile(sums[draws].sum(axis=1) / sizes[draws].sum(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for all of them being looked at (Holm 1979): at most 5 % false findings in all at .05.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, stepped)
    return adjusted.tolist()
