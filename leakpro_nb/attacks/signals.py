"""Logits to per-record signals, in float64.

Every signal takes logits ``(…, N, C)`` and labels ``(N,)`` and returns ``(…, N)``, higher = more member-like.
Signals never pass through float32 probabilities: those tie at exactly 1 and hide leakage at low false-positive
rates. A logit of ``-inf`` (a probability of exactly 0) is allowed.
"""

from __future__ import annotations

import numpy as np

__all__ = ["log_odds", "log_probability", "predicted_correctly", "probability"]


def log_odds(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the rescaled logit ``log p_y - log(1 - p_y) = z_y - logsumexp(z_others)``, exact and unsaturated.

    Source: Carlini et al., S&P 2022 (2112.03570), section V-A, in the stable form.

    >>> log_odds(np.array([[0.0, 40.0]]), np.array([1])).tolist()
    [40.0]
    """
    if logits.shape[-1] == 2:
        columns = np.asarray(logits, dtype=np.float64)
        sign = np.where(np.asarray(labels) == 1, 1.0, -1.0)
        return sign * (columns[..., 1] - columns[..., 0])
    z = np.array(logits, dtype=np.float64)
    index = np.broadcast_to(np.asarray(labels)[:, None], (*z.shape[:-1], 1))
    own = np.take_along_axis(z, index, axis=-1)[..., 0]
    np.put_along_axis(z, index, -np.inf, axis=-1)
    top = z.max(axis=-1)
    np.exp(np.subtract(z, top[..., None], out=z), out=z)
    return own - (top + np.log(z.sum(axis=-1)))


def log_probability(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return ``log p_y``, the negated cross-entropy loss, as ``-softplus(-log_odds)``."""
    return -np.logaddexp(0.0, -log_odds(logits, labels))


def probability(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return ``p_y``, the softmax probability of the true label, at least 1e-300 so that ratios stay finite."""
    return np.maximum(np.exp(log_probability(logits, labels)), 1e-300)


def predicted_correctly(classes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return 1.0 where the predicted class ``(…, N)`` is the true label, else 0.0."""
    return (np.asarray(classes) == np.asarray(labels)).astype(np.float64)
