"""Figures of the range audit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from leakpro_nb.plots.base import Picture, new_axes
from leakpro_nb.plots.membership import draw_roc
from leakpro_nb.plots.membership import exposures as _exposures
from leakpro_nb.results import Exposure, Result
from leakpro_nb.words import plain, share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["distances", "draw_distances", "exposures", "roc"]

DISTANCE, KIND = "nearest record in the training data", "kind of range"
"""Columns of the result's exposures that speak of ranges instead of groups of people."""


def roc(result: Result) -> Picture:
    """Return the ROC picture of a range audit."""
    name = result.parameters.get("strongest")
    headline = float(result.parameters.get("headline_fpr", 0.01))
    ran = [attack for attack in result.attacks if attack.curve is not None]
    lines = []
    for attack in ran:
        auc = attack.measure("auc")
        points = ", ".join(
            f"{share(p.tpr.value)} at {share(p.fpr)}" for p in attack.tpr_at_fpr if p.tpr is not None and p.fpr > 0
        )
        lines.append(f"{attack.title}: AUC {auc.value:.2f}, hits {points} false alarms" if auc else attack.title)
    alt = "Hits against false alarms, both on logarithmic scales, one curve per attack. " + "; ".join(lines) + "."
    strongest = next((attack for attack in ran if attack.name == name), None)
    point = next((p for p in strongest.tpr_at_fpr if p.fpr == headline and p.tpr), None) if strongest else None
    reading = "*How to read it: the further a curve runs above the dotted line, the more the attack finds out.*"
    if strongest is not None and point is not None and point.tpr is not None:
        ratio = point.tpr.value / headline
        against = f"{ratio:.1f} times as many as by guessing" if ratio > 1 else "no more than by guessing"
        reading = (
            f"*How to read it: an attacker who accepts one false alarm in {1 / headline:,.0f} is right to say “somebody "
            f"like this was in the data” for {share(point.tpr.value)} ({share(point.tpr.low)} to {share(point.tpr.high)}) "
            f"of the ranges that hold somebody, {against}. The shaded band is the uncertainty of the strongest attack; "
            "the dotted line is random guessing.*"
        )
        own = float(result.verdict.values.get("fpr_realised", 0.0))
        if own > headline and result.verdict.values.get("attack_name") == name:
            reading = (
                f"*How to read it: {strongest.title} cannot say yes to fewer than {share(own)} of the ranges that hold "
                f"nobody, and then says it for {share(float(result.verdict.values['tpr']))} of those that hold somebody. "
                "The dotted line is random guessing.*"
            )
    axes = draw_roc(result.attacks, name)
    axes.set_xlabel("False alarms (share of the ranges that hold nobody from the training data)")
    axes.set_ylabel("Hits (share of the ranges that hold somebody)")
    return Picture(axes, alt, reading)


def draw_distances(bins: Sequence[Exposure], inside: int, ax: Axes | None = None) -> Axes:
    """Draw the AUC by distance of the nearest training record; the first ``inside`` of the bins are inside the range."""
    ax = ax or new_axes(6.3, 3.4)
    for x, each in enumerate(bins):
        assert each.auc is not None
        colour, marker = ("#0072B2", "o") if x < inside else ("#D55E00", "s")
        ax.plot([x, x], [each.auc.low, each.auc.high], color=colour, linewidth=2.5, alpha=0.5)
        ax.plot(x, each.auc.value, marker, color=colour, markersize=6)
    ax.axhline(0.5, color="#666666", linewidth=1, linestyle=(0, (2, 2)))
    if 0 < inside < len(bins):
        ax.axvline(inside - 0.5, color="#333333", linewidth=1.2, linestyle="--")
        ax.text(inside - 0.46, 0.98, "edge of the range", transform=ax.get_xaxis_transform(), fontsize=8, va="top")
    ax.set_xticks(range(len(bins)), [_wrapped(each.group) for each in bins], fontsize=8)
    ax.set_xlim(-0.5, len(bins) - 0.5)
    ax.set_xlabel("Where the nearest record from the training data is")
    ax.set_ylabel("AUC (dotted line: guessing, 1: certainty)")
    return ax


def distances(result: Result) -> Picture | None:
    """Return the picture of how far a training record can be and still be noticed; ``None`` without distances."""
    bins = [each for each in result.exposures if each.column == DISTANCE and each.auc is not None]
    if not bins:
        return None
    inside = sum(bool(each.members) for each in bins)
    alt = "AUC of the strongest attack by the distance of the nearest training record. " + "; ".join(
        f"{each.group}: {each.auc.value:.2f} ({each.auc.low:.2f} to {each.auc.high:.2f})" for each in bins if each.auc
    )
    noticed = [each for each in bins if each.auc is not None and each.auc.low > 0.5]
    furthest = (
        f"the furthest at which that is more than guessing: {plain(noticed[-1].group)}"
        if noticed
        else "at none of these distances is it more than guessing"
    )
    reading = (
        "*How to read it: how well the strongest attack tells a range whose nearest training record is this far from its "
        f"centre from ranges with nobody near; {furthest}. Right of the dashed line nobody is inside the range, so that "
        "points above the dotted line are false alarms caused by someone just outside. The lines show the uncertainty, "
        "jointly for all distances.*"
    )
    return Picture(draw_distances(bins, inside), f"{alt}.", reading)


def exposures(result: Result) -> Picture | None:
    """Return the picture of exposure by subgroup of the people at the centres; ``None`` when all are too small."""
    people = [each for each in result.exposures if each.column not in (DISTANCE, KIND)]
    return _exposures(result.model_copy(update={"exposures": people}))


def _wrapped(text: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, 17))
