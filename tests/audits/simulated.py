"""Simulated games for tests of audits: records of differing difficulty, whose log-odds training raises."""

from __future__ import annotations

import dataclasses

import numpy as np

import leakpro_nb as lp
from leakpro_nb.game.views import References, View
from leakpro_nb.shadows import paired_splits

__all__ = ["permuted", "target_of", "world"]


def world(
    effect: float, *, records: int = 600, models: int = 8, classes: int = 3, seed: int = 0, pool: int | None = None
) -> tuple[View, np.ndarray]:
    """Return a view and its truth; worlds of one ``pool`` share their records, whatever their ``seed``."""
    rng = np.random.default_rng(seed)
    of_pool = np.random.default_rng(1000 + (seed if pool is None else pool))
    labels, difficulty = of_pool.integers(classes, size=records), of_pool.normal(0, 1.5, records)
    trained_on, pair = paired_splits(records, models, seed + 1)
    member = rng.random(records) < 0.5

    def logits(inside: np.ndarray) -> np.ndarray:
        out = rng.normal(0, 0.3, (records, classes))
        out[np.arange(records), labels] += difficulty + effect * inside + rng.normal(0, 0.6, records)
        return out

    target = logits(member)
    shadows = np.stack([logits(row) for row in trained_on])
    return View("scores", labels, target, References(shadows, trained_on, pair)), member


def target_of(view: View, member: np.ndarray) -> lp.Target:
    """Return the predictions as a target, for what an audit looks up there."""
    return lp.Target.from_predictions(view.logits, view.labels, member)


def permuted(view: View, order: np.ndarray) -> View:
    """Return the view with its records in another order."""
    references = None if view.references is None else view.references.select(slice(None), order)
    return dataclasses.replace(
        view, labels=view.labels[order], logits=view.logits[order], references=references, _cache={}
    )
