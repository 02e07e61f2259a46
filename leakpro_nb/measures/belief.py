"""How much an attack changes what a reasonable attacker believes about one accused person."""

from __future__ import annotations

from typing import NamedTuple

from leakpro_nb.measures.intervals import clopper_pearson

__all__ = ["BeliefGain", "belief_gain", "precision", "records_needed"]


class BeliefGain(NamedTuple):
    """Precision of an accusation and the belief gain ``(precision - prior) / (1 - prior)``, with bounds."""

    precision: float
    precision_low: float
    precision_high: float
    gain: float
    low: float
    high: float


def precision(tpr: float, fpr: float, prior: float) -> float:
    """Return the probability that an accused record is a member.

    ``prior tpr / (prior tpr + (1 - prior) fpr)``; the prior itself when nobody is accused.
    Source: Jayaraman et al., PoPETs 2021.

    >>> precision(0.3, 0.1, 0.5)
    0.75
    """
    accused = prior * tpr + (1 - prior) * fpr
    return prior * tpr / accused if accused > 0 else prior


def belief_gain(
    hits: int, members: int, false_alarms: int, non_members: int, *, prior: float = 0.5, level: float = 0.95
) -> BeliefGain:
    """Return precision and belief gain of an accusation with joint bounds.

    Parameters
    ----------
    hits, members, false_alarms, non_members
        Counts at one operating point.
    prior
        Share of members among the people whom the attacker considers.
    level
        Joint confidence level; TPR and FPR get a Clopper-Pearson interval each, at half of the error.

    Returns
    -------
    BeliefGain
        Gains below 0 count as 0. With no hit and no false alarm the bounds are as wide as they can be.
    """
    each = 1 - (1 - level) / 2
    tpr_low, tpr_high = (float(x) for x in clopper_pearson(hits, members, each))
    fpr_low, fpr_high = (float(x) for x in clopper_pearson(false_alarms, non_members, each))
    point = precision(hits / members, false_alarms / non_members, prior)
    low = precision(tpr_low, fpr_high, prior)
    high = precision(tpr_high, fpr_low, prior) if tpr_high > 0 else 0.0

    def gain(value: float) -> float:
        return max(0.0, (value - prior) / (1 - prior))

    return BeliefGain(point, low, high, gain(point), gain(low), gain(high))


def records_needed(fpr: float, gain: float, *, prior: float = 0.5, level: float = 0.95) -> int:
    """Return how many members, and as many non-members, a leak-free audit needs to exclude ``gain`` at ``fpr``.

    Found by bisection on the case without any leak, where hits and false alarms are both ``fpr`` times the count.
    """
    low, high = 1, 2
    while belief_gain(round(fpr * high), high, round(fpr * high), high, prior=prior, level=level).high > gain:
        low, high = high, high * 2
        if high > 10**12:
            return high
    while high - low > max(1, low // 200):
        middle = (low + high) // 2
        k = round(fpr * middle)
        if belief_gain(k, middle, k, middle, prior=prior, level=level).high > gain:
            low = middle
        else:
            high = middle
    return high
