"""Logits to per-record signals, in float64.

Every signal takes logits ``(…, N, C)`` and labels ``(N,)`` and returns ``(…, N)``, higher = more member-like.
Signals never pass through float32 probabilities: those tie at exactly 1 and hide leakage at low false-positive
rates. A logit of ``-inf`` (a probability of exactly 0) is allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import factorial
from typing import Literal

import numpy as np

__all__ = [
    "Confidence",
    "Form",
    "LogConfidence",
    "confidence",
    "log_confidence",
    "log_odds",
    "log_probability",
    "margin",
    "max_probability",
    "negative_entropy",
    "negative_modified_entropy",
    "predicted_correctly",
    "probability",
]

Form = Literal["softmax", "taylor", "soft_margin", "soft_margin_taylor"]

TINY = 1e-300
"""Least probability that a signal returns, so that ratios stay finite."""

TAYLOR_FLOOR = 1e-6
"""Least value of the Taylor polynomial: with an odd top power it is negative for very negative logits."""


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
    return np.maximum(np.exp(log_probability(logits, labels)), TINY)


def predicted_correctly(classes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return 1.0 where the predicted class ``(…, N)`` is the true label, else 0.0."""
    return (np.asarray(classes) == np.asarray(labels)).astype(np.float64)


def margin(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return ``z_y - max(z_others)``; with two classes it is the log-odds.

    >>> margin(np.array([[1.0, 5.0, 2.0]]), np.array([1])).tolist()
    [3.0]
    """
    z = np.array(logits, dtype=np.float64)
    index = np.broadcast_to(np.asarray(labels)[:, None], (*z.shape[:-1], 1))
    own = np.take_along_axis(z, index, axis=-1)[..., 0]
    np.put_along_axis(z, index, -np.inf, axis=-1)
    return own - z.max(axis=-1)


def max_probability(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:  # noqa: ARG001  one shape for all signals
    """Return the largest softmax probability, whatever the label."""
    return np.exp(_log_softmax(logits).max(axis=-1))


def negative_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:  # noqa: ARG001  one shape for all signals
    """Return ``sum p log p``, in nats: 0 for a model that is certain, whatever the label."""
    log_p = _log_softmax(logits)
    p = np.exp(log_p)
    return np.where(p > 0, p * np.where(p > 0, log_p, 0.0), 0.0).sum(axis=-1)


def negative_modified_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return ``(1 - p_y) log p_y + sum over c != y of p_c log(1 - p_c)``: 0 for a model that is certain and right.

    Source: Song and Mittal, USENIX Security 2021 (2003.10595), negated.
    """
    log_p = _log_softmax(logits)
    p = np.exp(log_p)
    top = np.expand_dims(log_p.argmax(axis=-1), -1)
    # 1 - p cancels only for the most probable class, where the sum over the others is exact
    rest = np.array(p)
    np.put_along_axis(rest, top, 0.0, axis=-1)
    remainder = rest.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):
        complement = np.log1p(-p)
        np.put_along_axis(complement, top, np.log(remainder), axis=-1)
    terms = p * np.maximum(complement, np.log(TINY))
    index = np.broadcast_to(np.asarray(labels)[:, None], (*p.shape[:-1], 1))
    np.put_along_axis(terms, index, 0.0, axis=-1)
    phi = log_odds(logits, labels)
    return terms.sum(axis=-1) - np.exp(-np.logaddexp(0.0, phi)) * np.logaddexp(0.0, -phi)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    z = np.asarray(logits, dtype=np.float64)
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


@dataclass(frozen=True)
class Confidence:
    """The confidences of the RMIA research code, as a signal; equal ones are computed once per view.

    Source: Zarifzadeh et al., ICML 2024 (2312.03262), as in the authors' research code.

    Parameters
    ----------
    form
        ``"softmax"``; ``"taylor"``: ``T(z_y) / sum T(z_c)`` with ``T(u) = sum over i < terms of u^i / i!``;
        ``"soft_margin"``: ``margin`` is taken off the true class's logit first; or both. Taylor forms, unlike
        softmax, change when a constant is added to all logits: they are meant for a network's raw logits.
    temperature
        Divides the logits.
    margin, terms
        Of the soft margin and of the Taylor polynomial; the paper's 0.6 and 4.
    """

    form: Form = "softmax"
    temperature: float = 1.0
    margin: float = 0.6
    terms: int = 4

    def __call__(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the confidence in the true class, at least 1e-300."""
        z = np.asarray(logits, dtype=np.float64) / self.temperature
        shift = self.margin if self.form.startswith("soft_margin") else 0.0
        if not self.form.endswith("taylor"):
            return np.maximum(np.exp(-np.logaddexp(0.0, shift - log_odds(z, labels))), TINY)
        index = np.broadcast_to(np.asarray(labels)[:, None], (*z.shape[:-1], 1))
        own = _taylor(np.take_along_axis(z, index, axis=-1)[..., 0] - shift, self.terms)
        others = _taylor(z, self.terms)
        np.put_along_axis(others, index, 0.0, axis=-1)
        return np.maximum(own / (own + others.sum(axis=-1)), TINY)


def _taylor(u: np.ndarray, terms: int) -> np.ndarray:
    # finite bounds, as a power of -inf would give NaN; they hold for any logit of a real model
    u = np.clip(u, -1e6, 1e6)
    value = np.full_like(u, 1 / factorial(terms - 1))
    for power in range(terms - 2, -1, -1):
        value = value * u + 1 / factorial(power)
    return np.maximum(value, TAYLOR_FLOOR)


@dataclass(frozen=True)
class LogConfidence:
    """``log p_y`` with the logits divided by ``temperature``, as a signal."""

    temperature: float = 1.0

    def __call__(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the log of the softmax probability of the true label."""
        return log_probability(np.asarray(logits, dtype=np.float64) / self.temperature, labels)


def confidence(chosen: Confidence) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return the signal, as the plain function where it is the same, so that attacks share one computation."""
    return probability if chosen.form == "softmax" and chosen.temperature == 1 else chosen


def log_confidence(temperature: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return the signal ``log p_y`` at a temperature, the plain function where that is 1."""
    return log_probability if temperature == 1 else LogConfidence(temperature)
