"""ROC curves with exact ties, and the true-positive rate at a low false-positive rate."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from leakpro_nb.measures.intervals import clopper_pearson

__all__ = ["Operating", "Roc", "best_threshold", "roc", "threshold_at_fpr", "ties", "tpr_at_fpr"]


class Roc(NamedTuple):
    """ROC steps over distinct scores, from (0, 0) to (1, 1)."""

    fpr: np.ndarray
    tpr: np.ndarray
    thresholds: np.ndarray
    false_alarms: np.ndarray
    hits: np.ndarray


class Operating(NamedTuple):
    """One operating point: an attacker who accuses every record with ``score >= threshold``."""

    threshold: float
    hits: int
    members: int
    false_alarms: int
    non_members: int

    @property
    def tpr(self) -> float:
        """Fraction of the members who are accused."""
        return self.hits / self.members

    @property
    def fpr(self) -> float:
        """Fraction of the non-members who are accused."""
        return self.false_alarms / self.non_members


def roc(scores: np.ndarray, member: np.ndarray) -> Roc:
    """Return the ROC curve of ``scores (N,)`` (higher = more member-like) against ``member (N,)`` bool.

    Tied records enter together, so that no order of the records can change the curve.

    >>> roc(np.array([1.0, 1.0, 0.0]), np.array([True, False, False])).tpr.tolist()
    [0.0, 1.0, 1.0]
    """
    order = np.argsort(-scores, kind="stable")
    ranked, truth = scores[order], np.asarray(member, dtype=bool)[order]
    last = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True]) if len(ranked) else np.zeros(0, dtype=int)
    hits = np.r_[0, np.cumsum(truth)[last]]
    false_alarms = np.r_[0, np.cumsum(~truth)[last]]
    with np.errstate(invalid="ignore"):
        return Roc(
            false_alarms / false_alarms[-1],
            hits / hits[-1],
            np.r_[np.inf, ranked[last]],
            false_alarms,
            hits,
        )


def threshold_at_fpr(scores: np.ndarray, member: np.ndarray, fpr: float) -> Operating:
    """Return the operating point with the largest TPR among those whose FPR is at most ``fpr``.

    No interpolation: between two steps of the curve there is no threshold that an attacker could use.
    """
    curve = roc(scores, member)
    # the tolerance lets 0.1 * 30 = 3.0000000000000004 mean three false alarms
    step = int(np.searchsorted(curve.false_alarms, fpr * curve.false_alarms[-1] + 1e-9, side="right")) - 1
    return Operating(
        float(curve.thresholds[step]),
        int(curve.hits[step]),
        int(curve.hits[-1]),
        int(curve.false_alarms[step]),
        int(curve.false_alarms[-1]),
    )


def best_threshold(scores: np.ndarray, member: np.ndarray) -> Operating:
    """Return the operating point with the largest advantage, TPR - FPR (balanced accuracy is (1 + advantage) / 2)."""
    curve = roc(scores, member)
    step = int(np.argmax(curve.tpr - curve.fpr))
    return Operating(
        float(curve.thresholds[step]),
        int(curve.hits[step]),
        int(curve.hits[-1]),
        int(curve.false_alarms[step]),
        int(curve.false_alarms[-1]),
    )


def tpr_at_fpr(
    scores: np.ndarray, member: np.ndarray, fpr: float, level: float = 0.95
) -> tuple[Operating, tuple[float, float], tuple[float, float]]:
    """Return the operating point at ``fpr`` with Clopper-Pearson intervals of its TPR and of its realised FPR.

    The intervals hold at the threshold found; read both: the threshold itself was set by the non-members.

    >>> scores = np.array([3.0, 2.0, 1.0, 0.0])
    >>> point, _, _ = tpr_at_fpr(scores, np.array([True, True, False, False]), fpr=0.0)
    >>> point.tpr
    1.0
    """
    point = threshold_at_fpr(scores, member, fpr)
    tpr = clopper_pearson(point.hits, point.members, level)
    false = clopper_pearson(point.false_alarms, point.non_members, level)
    return point, (float(tpr[0]), float(tpr[1])), (float(false[0]), float(false[1]))


def ties(scores: np.ndarray) -> tuple[int, int]:
    """Return how many distinct scores there are, and how many records share the most frequent one."""
    if not len(scores):
        return 0, 0
    counts = np.unique(scores, return_counts=True)[1]
    return len(counts), int(counts.max())
