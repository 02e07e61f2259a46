"""RMIA's direct form: the likelihood ratio of each pair of records, from the models that trained on one of the two."""

from __future__ import annotations

import numpy as np

from leakpro_nb.attacks.base import NotApplicable
from leakpro_nb.attacks.membership.sides import side_stats
from leakpro_nb.game.views import Observed

__all__ = ["LARGEST", "rmia_direct"]

LARGEST = 4_000_000
"""Pairs of records beyond which it is refused, as 2,000 against 2,000: its time grows with pairs times models."""

FEWEST = 2
"""Models that must have trained on the one record of a pair and not on the other, for a spread to be estimated."""

FLOOR = 1e-12
"""Added to every standard deviation, so that models that agree exactly still give finite scores."""


def rmia_direct(audit: Observed, z: Observed, gamma: float = 1.0) -> np.ndarray:
    """Return the share of records z with ``LR(x, z) > gamma``, the ratio taken from Gaussians fitted to each pair.

    With A the models that trained on x and not on z, and B the other way round,
    ``log LR = log N(phi_x; A) + log N(phi_z; A) - log N(phi_x; B) - log N(phi_z; B)`` at the target's log-odds;
    the Gaussians have the median and the standard deviation of the models.

    Source: Zarifzadeh et al., ICML 2024 (2312.03262), in the form of the authors' research code.

    Parameters
    ----------
    audit, z
        Log-odds of the same models for N and for Z records.
    gamma
        Threshold of the ratio.

    Returns
    -------
    (N,) float64 over the pairs with two models in A and in B, NaN where there is no such pair.

    Raises
    ------
    NotApplicable
        More than 4,000,000 pairs, or none with enough models.
    """
    pairs = len(audit.target) * len(z.target)
    if pairs > LARGEST:
        raise NotApplicable(
            f"score=direct looks at {pairs:,} pairs of records one by one, and {LARGEST:,} is the most it takes; "
            "use score=count, or audit fewer records"
        )
    share = np.full(len(audit.target), np.nan)
    for i, inside in enumerate(audit.trained_on.T):
        one, other = inside[:, None] & ~z.trained_on, ~inside[:, None] & z.trained_on
        enough = (one.sum(axis=0) >= FEWEST) & (other.sum(axis=0) >= FEWEST)
        if not enough.any():
            continue
        one, other, values, target = one[:, enough], other[:, enough], z.references[:, enough], z.target[enough]
        own = np.broadcast_to(audit.references[:, [i]], values.shape)
        log_ratio = (
            _log_density(audit.target[i], own, one) + _log_density(target, values, one)
            - _log_density(audit.target[i], own, other) - _log_density(target, values, other)
        )  # fmt: skip
        share[i] = (log_ratio > np.log(gamma)).mean()
    if np.isnan(share).all():
        raise NotApplicable(f"score=direct needs pairs of records that {FEWEST} shadow models tell apart either way")
    return share


def _log_density(target: np.ndarray | float, values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    models, _, squares = side_stats(values, chosen)
    ordered = np.sort(np.where(chosen, values, np.inf), axis=0)
    column = np.arange(values.shape[1])
    median = (ordered[(models - 1) // 2, column] + ordered[models // 2, column]) / 2
    sd = np.sqrt(squares / models) + FLOOR
    return -0.5 * ((target - median) / sd) ** 2 - np.log(sd)
