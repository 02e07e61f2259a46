"""Which records train which shadow model."""

from __future__ import annotations

import numpy as np

from leakpro_nb.errors import InputError

__all__ = ["paired_splits", "sized_splits"]


def paired_splits(records: int, models: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random halves and their complements.

    Models 2i and 2i+1 share a permutation: one trains on its first half, the other on the rest, so every record is in
    exactly one of the two. The splits of the first models do not depend on how many follow. Odd record counts give
    halves that differ by one record; an odd number of models leaves the last one without its complement.

    Returns
    -------
    trained_on, pair
        (models, records) bool, and (models,) index of the complementary model or -1.

    >>> mask, pair = paired_splits(5, 2, seed=0)
    >>> mask.sum(axis=0).tolist(), pair.tolist()
    ([1, 1, 1, 1, 1], [1, 0])
    """
    trained_on = np.zeros((models, records), dtype=bool)
    pair = np.full(models, -1)
    for k in range(0, models, 2):
        order = _rng(seed, 0, k // 2).permutation(records)
        trained_on[k, order[: records // 2]] = True
        if k + 1 < models:
            trained_on[k + 1] = ~trained_on[k]
            pair[k], pair[k + 1] = k + 1, k
    return trained_on, pair


def sized_splits(records: int, models: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return independent random subsets of ``size`` records each; no model has a complement.

    Raises
    ------
    InputError
        More records are asked for than there are.
    """
    if not 0 <= size <= records:
        raise InputError("size", size, f"there are {records} records to choose from")
    trained_on = np.zeros((models, records), dtype=bool)
    for k in range(models):
        rows = _rng(seed, 1, k).choice(records, size, replace=False)
        trained_on[k, rows] = True
    return trained_on, np.full(models, -1)


def _rng(seed: int, kind: int, k: int) -> np.random.Generator:
    """Return a stream of its own.

    A spawn key keeps it apart from ``default_rng(seed)``, with which users draw their members: ``default_rng([0, 0, 0])``
    is that very stream, and would have handed the attacker the truth.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(kind, k)))
