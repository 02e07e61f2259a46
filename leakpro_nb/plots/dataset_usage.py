"""Figures of the usage audit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from leakpro_nb.plots.base import COLOURS, Picture, new_axes
from leakpro_nb.results import Interval, Result
from leakpro_nb.words import plain, share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_ladder", "draw_shares", "ladder", "shares"]

MARGIN = 3
"""Percentage points beyond 0 and 100 that axes show, so that points on the border are whole."""


def draw_shares(
    rows: Sequence[tuple[str, Interval]], true: dict[str, float] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw each estimated share, in percent, with its interval and, where known, the true share.

    ``true``: share by name, for the names that ``rows`` give.
    """
    ax = ax or new_axes(6.3, 1.3 + 0.28 * len(rows))
    for y, (name, used) in enumerate(rows):
        first = y == 0
        ax.plot([100 * used.low, 100 * used.high], [y, y], color=COLOURS[0], linewidth=4, alpha=0.4, zorder=2,
                label="range" if first else None)  # fmt: skip
        ax.plot(100 * used.value, y, "o", color=COLOURS[0], markersize=6, zorder=3, label="estimate" if first else None)
        if true and name in true:
            ax.plot(100 * true[name], y, marker="D", markersize=7, color=COLOURS[1], fillstyle="none", linestyle="none",
                    zorder=4, label="true share" if first else None)  # fmt: skip
    ax.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlim(-MARGIN, 100 + MARGIN)
    ax.set_xlabel("Share of the records that trained the model, %")
    ax.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return ax


def shares(result: Result) -> Picture | None:
    """Return the picture of the estimated shares, or ``None`` when there is none."""
    attack = result.attacks[0]
    whole = attack.measure("usage")
    rows = [("whole collection", whole)] if whole else []
    rows += [(f"{part.column} {part.group}", part.usage) for part in result.exposures if part.usage is not None]
    if not rows:
        return None
    true = {name or "whole collection": value for name, value in result.extras.get("true_share", {}).items()}
    alt = "Estimated share of the records used, with its range. " + "; ".join(
        f"{name}: {share(used.value)} ({share(used.low)} to {share(used.high)})"
        + (f", true share {share(true[name])}" if name in true else "")
        for name, used in rows
    )
    name, used = rows[0]
    reading = (
        f"*How to read it: the dot is the best estimate, the bar the range in which the true share lies; for the "
        f"{plain(name)} that is {share(used.low)} to {share(used.high)}. A bar that stays clear of 0 shows that records were used"
        + ("; diamonds are the true shares, which the estimate never saw.*" if true else ".*")
    )
    return Picture(draw_shares(rows, true), f"{alt}.", reading)


def draw_ladder(rungs: Sequence[dict[str, Any]], ax: Axes | None = None) -> Axes:
    """Draw, for each known share, the estimates' mean and their spread over the shadow models that played."""
    ax = ax or new_axes(6.3, 3.4)
    ax.plot([0, 100], [0, 100], color="#666666", linewidth=1, linestyle=(0, (2, 2)), label="right answer")
    true = [100 * rung["true"] for rung in rungs]
    for x, rung in zip(true, rungs, strict=True):
        ax.plot([x, x], [100 * rung["smallest"], 100 * rung["largest"]], color=COLOURS[0], linewidth=5, alpha=0.4,
                label="smallest to largest estimate" if x == true[0] else None)  # fmt: skip
    ax.plot(true, [100 * rung["mean"] for rung in rungs], "o", color=COLOURS[0], markersize=6, label="mean estimate")
    ax.set(xlim=(-MARGIN, 100 + MARGIN), ylim=(-MARGIN, 100 + MARGIN))
    ax.set_xlabel("Share that was truly used, %")
    ax.set_ylabel("Share estimated, %")
    ax.legend(fontsize=8, frameon=False, loc="upper left")
    return ax


def ladder(result: Result) -> Picture | None:
    """Return the picture of the trials on known shares, or ``None`` when there were none."""
    rungs = result.extras.get("ladder", [])
    if not rungs:
        return None
    alt = "Estimated against true share where the truth is known. " + "; ".join(
        f"true {share(rung['true'])}: estimated {share(rung['smallest'])} to {share(rung['largest'])}, mean "
        f"{share(rung['mean'])}, range right in {rung['held']} of {rung['plays']} trials"
        for rung in rungs
    )
    held, plays = sum(rung["held"] for rung in rungs), sum(rung["plays"] for rung in rungs)
    reading = (
        "*How to read it: here shadow models, of which everything is known, took the place of the model under audit. The "
        f"closer to the dotted line, the better the count; in {held} of {plays} trials the stated range held the true share.*"
    )
    return Picture(draw_ladder(rungs), f"{alt}.", reading)
