"""What a model returns, made into logits."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from leakpro_nb.errors import InputError

__all__ = ["Outputs", "as_columns", "looks_like_probabilities", "settle", "to_logits"]

Outputs = Literal["auto", "logits", "probabilities"]


def looks_like_probabilities(raw: np.ndarray) -> bool:
    """Return whether rows ``(N, C)`` are non-negative and sum to 1 (a single column: all within [0, 1])."""
    if raw.size == 0 or not np.isfinite(raw).all() or raw.min() < 0 or raw.max() > 1 + 1e-6:
        return False
    return raw.shape[1] == 1 or bool(np.allclose(raw.sum(axis=1), 1, atol=1e-3))


def as_columns(raw: Any) -> np.ndarray:
    """Return what a model returned, array, tensor or table, as float64 ``(N, C)``; one number per record is C = 1.

    Raises
    ------
    InputError
        Not numbers, or not one row per record.
    """
    if hasattr(raw, "detach"):
        raw = raw.detach().cpu().double().numpy()
    try:
        array = np.asarray(raw, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError("model outputs", type(raw).__name__, "an array of numbers is needed, (N, C)") from error
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] == 0:
        raise InputError("model outputs", f"shape {array.shape}", "one row per record, one column per class is needed")
    return array


def settle(raw: Any, outputs: Outputs) -> Outputs:
    """Return how the outputs of other models like the one that returned ``raw`` are to be read.

    Rows of several classes show what they are. A single column does not: the logits of a cautious model may happen to
    lie in [0, 1], so there the audited model decides for all.
    """
    array = as_columns(raw)
    if outputs != "auto" or array.shape[1] > 1:
        return outputs
    return "probabilities" if looks_like_probabilities(array) else "logits"


def to_logits(raw: Any, outputs: Outputs = "auto") -> np.ndarray:
    """Return float64 logits ``(N, C)`` from logits or probabilities ``(N,)``, ``(N, 1)`` or ``(N, C)``.

    One column is a binary model's: the logit, or the probability, of class 1. It becomes two columns.

    Raises
    ------
    InputError
        Not one row per record, NaN, or not probabilities although declared so.

    >>> to_logits(np.array([2.0, -1.0])).tolist()
    [[0.0, 2.0], [0.0, -1.0]]
    """
    array = as_columns(raw)
    bad = np.flatnonzero(np.isnan(array).any(axis=1))
    if len(bad):
        raise InputError(
            "model outputs",
            f"NaN for {len(bad)} of {len(array)} records",
            f"the model cannot judge them (missing values in X?); the first is row {bad[0]}",
        )
    if np.isposinf(array).any():
        row = int(np.isposinf(array).any(axis=1).argmax())
        raise InputError("model outputs", f"infinity in row {row}", "the model must return finite numbers")
    as_probabilities = outputs == "probabilities" or (outputs == "auto" and looks_like_probabilities(array))
    if as_probabilities:
        if not looks_like_probabilities(array):
            raise InputError(
                "model outputs",
                f"values from {array.min():.3g} to {array.max():.3g}",
                "rows of probabilities must lie in [0, 1] and sum to 1; say outputs='logits' if they are logits",
            )
        if array.shape[1] == 1:
            array = np.hstack([1 - array, array])
        with np.errstate(divide="ignore"):
            return np.log(np.clip(array, 0, 1))
    if array.shape[1] == 1:
        return np.hstack([np.zeros_like(array), array])
    return array
