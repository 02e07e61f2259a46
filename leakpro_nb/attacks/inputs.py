"""Inputs of records as numbers, and one order of them, for attacks that learn from the records themselves."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from leakpro_nb.game.records import as_features

__all__ = ["as_numbers", "canonical_order"]


def as_numbers(*inputs: Any) -> list[np.ndarray]:
    """Return every set of inputs ``(n, …)`` as float64 ``(n, D)``, encoded together; missing values are NaN.

    A category gets the same code in all sets, whichever of its neighbours a set lacks.
    """
    import pandas as pd

    if all(hasattr(X, "iloc") for X in inputs):
        flat = as_features(pd.concat(inputs, ignore_index=True))
    else:
        flat = np.concatenate([np.asarray(as_features(X)).reshape(len(X), -1) for X in inputs])
        if flat.dtype.kind not in "biuf":  # an array of texts, or of texts and numbers
            flat = as_features(pd.DataFrame(flat).infer_objects())
    ends = np.cumsum([len(X) for X in inputs])[:-1]
    return np.split(flat.astype(np.float64), ends)


def canonical_order(numbers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the order ``(n,)`` of records that their content ``(n, D)`` and labels ``(n,)`` decide, not their place.

    Sums over batches then come out the same to the last bit however the records were handed over.
    """
    rows = np.ascontiguousarray(np.column_stack([numbers, labels]), dtype=np.float64)
    return np.argsort([hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows], kind="stable")
