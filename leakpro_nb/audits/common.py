"""What the audits of all templates share: checked numbers, measures of scores, and what stands in every result."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from leakpro_nb.errors import InputError
from leakpro_nb.game.target import Target
from leakpro_nb.measures import (
    auc_interval,
    best_threshold,
    clopper_pearson,
    roc,
    tpr_at_fpr,
)
from leakpro_nb.results import Curve, Interval, Measure, TargetCard, TprAtFpr
from leakpro_nb.words import share

__all__ = [
    "at_fpr",
    "card",
    "check_confidence",
    "check_count",
    "check_fprs",
    "check_seed",
    "check_workers",
    "curve",
    "environment",
    "figures",
]

BAND_POINTS = 300
"""Points to which a ROC curve is thinned for the result file; measures use the full curve."""


def check_count(field: str, value: int, *, smallest: int = 0, example: int = 16) -> None:
    """Raise ``InputError`` unless ``value`` is an integer of at least ``smallest``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < smallest:
        raise InputError(field, value, f"use an integer of at least {smallest}, for example {example}")


def check_seed(seed: int) -> None:
    """Raise ``InputError`` unless ``seed`` is an integer of at least 0."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InputError("seed", seed, "use an integer of at least 0")


def check_workers(workers: int | None) -> None:
    """Raise ``InputError`` unless ``workers`` is ``None`` or an integer of at least 1."""
    if workers is not None and (isinstance(workers, bool) or workers < 1):
        raise InputError("workers", workers, "use an integer of at least 1, or None for one per core")


def check_confidence(level: float) -> None:
    """Raise ``InputError`` unless ``level`` is a confidence level."""
    if not 0.5 <= level < 1:
        raise InputError("confidence", level, "use a level from 0.5 to below 1, for example 0.95")


def check_fprs(fprs: Sequence[float], headline: float) -> None:
    """Raise ``InputError`` unless all are false-positive rates."""
    for fpr in fprs:
        if not 0 <= fpr < 1:
            raise InputError("fprs", fpr, "false-positive rates lie between 0 and 1, for example 0.01")
    if not 0 < headline < 1:
        raise InputError("headline_fpr", headline, "use a rate between 0 and 1, for example 0.01")


def figures(scores: np.ndarray, member: np.ndarray, level: float) -> list[Measure]:
    """Return AUC, balanced accuracy and advantage of ``scores (N,)`` against ``member (N,)`` bool, with intervals."""
    auc, low, high = auc_interval(scores, member, level)
    best = best_threshold(scores, member)
    # balanced accuracy at the best threshold is an optimum over thresholds: its interval must cover that search
    width = _dkw(best.members, level) + _dkw(best.non_members, level)
    balanced = (1 + best.tpr - best.fpr) / 2
    return [
        Measure(
            name="auc",
            label="AUC",
            interval=Interval(value=auc, low=low, high=high, level=level, method="DeLong, logit scale"),
            baseline=0.5,
        ),
        Measure(
            name="balanced_accuracy",
            label="Balanced accuracy at the best threshold",
            interval=Interval(
                value=balanced,
                low=max(0.0, balanced - width / 2),
                high=min(1.0, balanced + width / 2),
                level=level,
                method="Dvoretzky-Kiefer-Wolfowitz band",
            ),
            baseline=0.5,
        ),
        Measure(
            name="advantage",
            label="Advantage (largest TPR - FPR)",
            interval=Interval(
                value=best.tpr - best.fpr,
                low=max(0.0, best.tpr - best.fpr - width),
                high=min(1.0, best.tpr - best.fpr + width),
                level=level,
                method="Dvoretzky-Kiefer-Wolfowitz band",
            ),
            baseline=0.0,
        ),
    ]


def _dkw(n: int, level: float) -> float:
    """Half-width of the band around an empirical distribution of ``n`` values; two bands share the error."""
    return float(np.sqrt(np.log(2 / ((1 - level) / 2)) / (2 * n)))


def at_fpr(scores: np.ndarray, member: np.ndarray, fpr: float, level: float) -> TprAtFpr:
    """Return the true-positive rate at one false-positive rate, or why this sample cannot resolve it."""
    non_members = int((~member).sum())
    if 0 < fpr * non_members < 1:
        return TprAtFpr(
            fpr=fpr,
            resolvable=False,
            reason=f"not resolvable with {non_members:,} non-members; the smallest rate above 0 is {share(1 / non_members)}",
        )
    point, tpr, realised = tpr_at_fpr(scores, member, fpr, level)
    coarse = 0 < fpr * non_members < 3
    decide = "decides" if point.false_alarms == 1 else "decide"
    return TprAtFpr(
        fpr=fpr,
        resolvable=True,
        tpr=Interval(value=point.tpr, low=tpr[0], high=tpr[1], level=level, method="Clopper-Pearson"),
        realised_fpr=Interval(
            value=point.fpr, low=realised[0], high=realised[1], level=level, method="Clopper-Pearson"
        ),
        threshold=point.threshold if np.isfinite(point.threshold) else None,
        reason=f"coarse: {point.false_alarms} of {non_members:,} non-members {decide} it" if coarse else "",
    )


def curve(scores: np.ndarray, member: np.ndarray, level: float) -> Curve:
    """Return the ROC curve, thinned, with its point-wise band."""
    full = roc(scores, member)
    steps = np.unique(
        np.r_[
            0,
            np.searchsorted(full.false_alarms, np.geomspace(1, max(2, full.false_alarms[-1]), BAND_POINTS)),
            np.flatnonzero(full.false_alarms == 0)[-1],
            len(full.fpr) - 1,
        ].clip(0, len(full.fpr) - 1)
    )
    low, high = clopper_pearson(full.hits[steps], full.hits[-1], level)
    return Curve(fpr=full.fpr[steps].tolist(), tpr=full.tpr[steps].tolist(), low=low.tolist(), high=high.tolist())


def card(target: Target) -> TargetCard:
    """Return what was audited; nothing is said of members where nobody said who they are."""
    records, members = target.records, target.records.members
    train_accuracy, test_accuracy = target.accuracy() if members is not None else (None, None)
    features = records.X.shape[1:] if hasattr(records.X, "shape") else ()
    return TargetCard(
        name=target.name,
        kind=target.kind,
        subjects=target.subjects,
        members=None if members is None else int(members.sum()),
        non_members=None if members is None else int((records.audited & ~members).sum()),
        population=int((~records.audited).sum()),
        classes=target.classes,
        features=int(np.prod(features)) if features else None,
        train_accuracy=train_accuracy,
        test_accuracy=test_accuracy,
        sensitive=list(target.sensitive),
        recipe=target.recipe.describe() if target.recipe else "",
        fingerprint=target.fingerprint()[:16],
    )


def environment(seed: int) -> dict[str, Any]:
    """Return what the figures depend on besides the parameters: versions, system, seed."""
    names = ("numpy", "scipy", "scikit-learn", "torch", "pandas")
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: version(name) for name in names},
        "seed": seed,
        "torch_used": "torch" in sys.modules,
    }
