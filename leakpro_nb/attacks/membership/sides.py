"""The reference models on either side of a record: those that trained on it (IN), and those that did not (OUT)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Side", "side_mean", "side_residuals", "side_stats"]


class Side(NamedTuple):
    """Of one side per record ``(N,)``: how many models, their mean (NaN if none) and sum of squares about it."""

    models: np.ndarray
    mean: np.ndarray
    squares: np.ndarray


def side_mean(values: np.ndarray, chosen: np.ndarray, trim: float = 0.0) -> np.ndarray:
    """Return the mean over the chosen models of finite ``values (K, N)`` per record, NaN where there is none.

    ``trim`` is the share of a record's chosen models that is left out at either end.

    >>> side_mean(np.array([[1.0, 1.0], [3.0, 9.0]]), np.array([[True, False], [True, False]])).tolist()
    [2.0, nan]
    """
    if trim:
        values, chosen = _trimmed(values, chosen, trim)
    with np.errstate(invalid="ignore"):
        return np.einsum("kn,kn->n", values, chosen.astype(np.float64)) / chosen.sum(axis=0)


def side_residuals(values: np.ndarray, chosen: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return ``values - mean`` for the chosen models ``(K, N)``, 0 for the others."""
    return np.where(chosen, values - mean, 0.0)


def side_stats(values: np.ndarray, chosen: np.ndarray) -> Side:
    """Return count, mean and sum of squares of the chosen models' values ``(K, N)`` per record."""
    mean = side_mean(values, chosen)
    residual = side_residuals(values, chosen, mean)
    return Side(chosen.sum(axis=0), mean, np.einsum("kn,kn->n", residual, residual))


def _trimmed(values: np.ndarray, chosen: np.ndarray, trim: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the values in ascending order per record, and which of them the trimmed mean keeps."""
    order = np.sort(np.where(chosen, values, np.inf), axis=0)
    count = chosen.sum(axis=0)
    cut = (trim * count).astype(int)
    rank = np.arange(len(values))[:, None]
    kept = (rank >= cut) & (rank < count - cut)
    return np.where(kept, order, 0.0), kept
