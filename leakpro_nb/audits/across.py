"""Intervals across models, some of which belong together."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

__all__ = ["Across", "across", "jackknife", "mean_of_groups"]


class Across(NamedTuple):
    """One figure across models: the mean with its interval, and where another model's figure is to be expected."""

    mean: float
    low: float
    high: float
    expected_low: float
    expected_high: float


def mean_of_groups(values: np.ndarray, group: np.ndarray, level: float) -> tuple[float, float]:
    """Return the mean of ``values (K,)`` over models and the half-width of its interval.

    Models that are not independent of each other share a number in ``group (K,)``: Student's t counts groups. With one
    group nothing is known, and the half-width is infinite.
    """
    names, index = np.unique(group, return_inverse=True)
    means = np.bincount(index, values) / np.bincount(index)
    if len(names) < 2:
        return float(means.mean()), np.inf
    t = stats.t.ppf((1 + level) / 2, len(names) - 1)
    return float(means.mean()), float(t * means.std(ddof=1) / np.sqrt(len(names)))


def across(values: np.ndarray, group: np.ndarray, level: float) -> Across:
    """Return mean, interval of the mean, and range in which another model's value lies with probability ``level``.

    Values are rates, so everything is clipped to [0, 1]; ``values`` and ``group`` as in ``mean_of_groups``.
    """
    mean, half = mean_of_groups(values, group, level)
    groups = len(np.unique(group))
    if groups < 2:
        return Across(mean, 0.0, 1.0, 0.0, 1.0)
    # one model varies more than the mean of a pair does
    single = float(np.hypot(stats.t.ppf((1 + level) / 2, groups - 1) * values.std(ddof=1), half))
    return Across(mean, *(min(1.0, max(0.0, mean + side)) for side in (-half, half, -single, single)))


def jackknife(statistic: Callable[[np.ndarray], float], group: np.ndarray, level: float) -> dict[str, float] | None:
    """Return a statistic of all models with its jackknife interval over groups of models; ``None`` if undefined.

    Parameters
    ----------
    statistic
        From the indices of models to a number.
    group
        (K,) models that are left out together.
    """
    value = statistic(np.arange(len(group)))
    names = np.unique(group)
    left_out = np.array([statistic(np.flatnonzero(group != name)) for name in names])
    if not np.isfinite([value, *left_out]).all() or len(names) < 2:
        return None
    error = np.sqrt((len(names) - 1) / len(names) * ((left_out - left_out.mean()) ** 2).sum())
    half = float(stats.t.ppf((1 + level) / 2, len(names) - 1) * error)
    return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half)}
