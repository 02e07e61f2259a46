"""Figures of the privacy-budget audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leakpro_nb.plots.base import COLOURS, Picture, new_axes
from leakpro_nb.results import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["bounds", "draw_bounds", "draw_scores", "scores"]


def draw_bounds(rows: list[dict[str, Any]], claim: float | None, headline: str, ax: Axes | None = None) -> Axes:
    """Draw each bound as a bar from 0, what perfect guesses would have shown, and the claim as a line.

    ``rows`` have ``label``, ``method``, ``eps`` and ``plan_ceiling``; ceilings beyond the axis end in an arrow.
    """
    ax = ax or new_axes(6.3, 1.2 + 0.27 * len(rows))
    deciding = [row["plan_ceiling"] for row in rows if row["method"] == headline]
    right = 1.15 * max([*(row["eps"] for row in rows), *deciding, claim or 0.0, 0.5])
    for y, row in enumerate(rows):
        main = row["method"] == headline
        colour = COLOURS[0] if main else COLOURS[4]
        ax.barh(
            y, row["eps"], height=0.55, color=colour, label="shown, deciding bound" if main else "shown, for comparison"
        )
        beyond = row["plan_ceiling"] > right
        ax.plot(
            0.985 * right if beyond else row["plan_ceiling"], y, ">" if beyond else "|", color="#333333",
            markersize=6 if beyond else 11, markeredgewidth=2, linestyle="none",
            label="the same, beyond this axis" if beyond else "had all guesses been right",
        )  # fmt: skip
        ax.text(row["eps"] + 0.01 * right, y, f"{row['eps']:.2f}" if row["eps"] else "0", va="center", fontsize=8)
    if claim is not None:
        ax.axvline(claim, color=COLOURS[1], linewidth=1.6, linestyle="--", label=f"claimed: {claim:.2f}")
    ax.set_yticks(range(len(rows)), [row["label"] for row in rows], fontsize=8)
    ax.invert_yaxis()
    ax.set_xlim(0, right)
    ax.set_xlabel("Epsilon (further right: more leakage)")
    handles, labels = ax.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    ax.legend(
        once.values(), once.keys(), fontsize=8, frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.4, 1.0)
    )
    return ax


def bounds(result: Result) -> Picture:
    """Return the picture of all bounds beside the claim."""
    claim, headline = result.extras["claim"]["epsilon"], result.extras["headline"]
    names = {attack.name: attack.title for attack in result.attacks}
    rows = [{**each, "label": f"{names[each['canary']]}\n{_SHORT[each['method']]}"} for each in result.extras["bounds"]]
    ax = draw_bounds(rows, claim, headline, new_axes(6.3, 1.3 + 0.36 * len(rows)))
    shown = "; ".join(
        f"{row['label'].replace(chr(10), ', ')}: {row['eps']:.2f} (at most {row['plan_ceiling']:.2f})" for row in rows
    )
    claimed = "no epsilon is claimed" if claim is None else f"the training claims {claim:.2f}"
    best = max((row for row in rows if row["method"] == headline), key=lambda row: row["eps"])
    if claim is None:
        verdict = "there is no claim to compare it with"
    elif best["eps"] > claim:
        verdict = f"it ends to the right of the dashed line, so the claim of {claim:.2f} is refuted"
    elif best["eps"] > 0:
        verdict = f"it ends to the left of the dashed line, so it does not contradict the claim of {claim:.2f}"
    else:
        verdict = "it has no length: nothing was shown"
    reading = (
        "*How to read it: a bar is leakage that was proved; the truth lies at its end or anywhere to the right. The upright mark "
        "is as far as the bar could have come, had every guess been right. The longest dark bar "
        f"({best['label'].split(chr(10))[0]}) decides: {verdict}.*"
    )
    return Picture(ax, f"Lower bounds on epsilon as bars, {claimed}. {shown}.", reading)


_SHORT = {
    "one_run": "one run",
    "fdp": "one run, Gaussian noise (f-DP)",
    "clopper_pearson": "Clopper-Pearson",
    "gdp": "Clopper-Pearson, Gaussian noise (GDP)",
    "bayesian": "Bayesian",
}


def draw_scores(values: np.ndarray, inserted: np.ndarray, ax: Axes | None = None) -> Axes:
    """Draw histograms of the scores (m,) of canaries that were let in and of those that were not, (m,) bool."""
    ax = ax or new_axes(6.3, 3.0)
    low, high = np.quantile(values, [0.002, 0.998])
    bins = np.linspace(low, high if high > low else low + 1, 45).tolist()
    for side, colour, hatch, label in (
        (~inserted, "#E69F00", "//", "left out by their coin"),
        (inserted, "#0072B2", "", "let into training"),
    ):
        ax.hist(
            np.clip(values[side], bins[0], bins[-1]), bins=bins, color=colour, alpha=0.55, label=label, hatch=hatch,
            edgecolor="none",
        )  # fmt: skip
    ax.set_xlabel("Score of a canary (further right: more surely let in; extremes at the edges)")
    ax.set_ylabel("Canaries")
    ax.legend(fontsize=8, frameon=False)
    return ax


def scores(result: Result, scored: Any) -> Picture:
    """Return the picture of the scores of the kind of canary that was found best; ``scored`` is from the audit."""
    name = result.parameters["strongest"]
    attack, each = result.attack(name), scored[name]
    middle = [float(np.median(each.values[side])) for side in (each.inserted, ~each.inserted)]
    auc = attack.measure("auc")
    assert auc is not None
    alt = (
        f"Histograms of the scores of {attack.title}: {int(each.inserted.sum()):,} let into training (median {middle[0]:.2f}) and "
        f"{int((~each.inserted).sum()):,} left out (median {middle[1]:.2f})."
    )
    reading = (
        f"*How to read it: where the two hills lie on top of each other, the attacker cannot tell which canaries took part. Of one "
        f"that did and one that did not, {attack.title} ranks the right one higher in {100 * auc.value:.0f} % of such pairs (50 % "
        "would be guessing). Guesses are made at both ends only, where the attacker is surest.*"
    )
    return Picture(draw_scores(each.values, each.inserted), alt, reading)
