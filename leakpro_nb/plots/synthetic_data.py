"""Figures of the audit of a synthetic table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from leakpro_nb.plots.base import COLOURS, Picture, new_axes
from leakpro_nb.plots.membership import draw_roc
from leakpro_nb.results import AttackResult, Interval, Result
from leakpro_nb.words import plain, share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_ladder", "draw_risks", "draw_secrets", "ladder", "risks", "roc", "secrets"]

FAMILIES = {"singling_out": "singling out", "linkability": "linkability", "inference": "inference"}

MOST_SECRETS = 20
"""Secrets that one figure shows; the result file has all."""


def draw_risks(rows: Sequence[tuple[str, str, Interval]], ax: Axes | None = None) -> Axes:
    """Draw residual risks, in percent, with their ranges; ``rows`` are (criterion, attack, risk)."""
    ax = ax or new_axes(6.3, 1.0 + 0.26 * len(rows))
    order = list(dict.fromkeys(family for family, _, _ in rows))
    seen = set()
    for y, (family, _, risk) in enumerate(rows):
        colour = COLOURS[order.index(family) % len(COLOURS)]
        low = max(-0.2, risk.low)
        ax.plot([100 * low, 100 * risk.high], [y, y], color=colour, linewidth=4, alpha=0.4)
        marker = ("o", "s", "D", "^")[order.index(family) % 4]
        ax.plot(max(-20.0, 100 * risk.value), y, marker, color=colour, markersize=6,
                label=None if family in seen else family)  # fmt: skip
        seen.add(family)
    ax.axvline(0, color="#666666", linewidth=1, linestyle=(0, (2, 2)))
    ax.set_yticks(range(len(rows)), [name for _, name, _ in rows], fontsize=8)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlabel("Residual risk, % (0: no better than about control people)")
    ax.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=4)
    return ax


def risks(result: Result) -> Picture | None:
    """Return the picture of the residual risks, or ``None`` without control people; of secrets, the five worst."""
    rows = []
    for family, words in FAMILIES.items():
        mine = [(a, r) for a in result.attacks if a.family == family and (r := a.measure("risk")) is not None]
        if family == "inference":
            mine = sorted(mine, key=lambda each: -each[1].low)[:5]
        rows += [(words, attack.title, risk) for attack, risk in mine]
    if not rows:
        return None
    alt = "Residual risk with its range, by attack. " + "; ".join(
        f"{name}: {_percent(risk.value)} ({_percent(risk.low)} to {_percent(risk.high)})" for _, name, risk in rows
    )
    above = sum(risk.low > 0 for _, _, risk in rows)
    reading = (
        f"*How to read it: the dot is the best estimate, the bar its range; {above} of the {len(rows)} bars lie wholly to the "
        f"right of the dotted line, where the attack does better on {plain(result.target.subjects)} in the original than on others. "
        "Of the inference attacks, the five that begin highest are shown.*"
    )
    return Picture(draw_risks(rows), f"{alt}.", reading)


def draw_ladder(rungs: Sequence[dict[str, Any]], ax: Axes | None = None) -> Axes:
    """Draw what the attacks read on tables with a known share of copies."""
    ax = ax or new_axes(6.3, 3.4)
    true = [100 * rung["true"] for rung in rungs]
    ax.plot([0, 100], [0, 100], color="#666666", linewidth=1, linestyle=(0, (2, 2)), label="share that was copied")
    for x, rung in zip(true, rungs, strict=True):
        ax.plot([x, x], [100 * max(-0.1, rung["low"]), 100 * rung["high"]], color=COLOURS[0], linewidth=5, alpha=0.35)
    ax.plot(true, [100 * rung["inference"] for rung in rungs], "o", color=COLOURS[0], label="inference, with its range")
    for name, colour, marker, style in (
        ("singling_out", COLOURS[1], "s", "--"), ("linkability", COLOURS[2], "^", "-."),
    ):  # fmt: skip
        known = [(x, 100 * rung[name]) for x, rung in zip(true, rungs, strict=True) if rung[name] is not None]
        if known:
            ax.plot(*zip(*known, strict=True), marker=marker, linestyle=style, linewidth=1, color=colour,
                    label=name.replace("_", " "))  # fmt: skip
    ax.set(xlim=(-3, 103), ylim=(-13, 106))
    ax.set_xlabel("Share of the table that is copied from the original, %")
    ax.set_ylabel("Residual risk that the attack reads, %")
    ax.legend(fontsize=8, frameon=False, loc="upper left")
    return ax


def ladder(result: Result) -> Picture | None:
    """Return the picture of the trials on known leaks, or ``None`` when there were none."""
    rungs = result.extras["ladder"].get("rungs", [])
    if not rungs:
        return None
    alt = "Residual risk against the share of copied rows. " + "; ".join(
        f"{share(rung['true'])} copied: inference {_percent(rung['inference'])} ({_percent(rung['low'])} to "
        f"{_percent(rung['high'])}), singling out {_percent(rung['singling_out'])}, linkability {_percent(rung['linkability'])}"
        for rung in rungs
    )
    held = sum(rung["low"] <= rung["true"] <= rung["high"] for rung in rungs)
    reading = (
        "*How to read it: here the release was replaced by tables of which a known share is copied. Inference should read that "
        f"share; {held} of {len(rungs)} ranges hold it. Singling out and linkability have to rise with it, but need not keep to the line.*"
    )
    return Picture(draw_ladder(rungs), f"{alt}.", reading)


def draw_secrets(rows: Sequence[tuple[str, Interval, Interval | None, float | None]], ax: Axes | None = None) -> Axes:
    """Draw, for each secret, the share of right guesses about people in the original, about control people, at random."""
    ax = ax or new_axes(6.3, 1.0 + 0.26 * len(rows))
    for y, (_, mine, theirs, guess) in enumerate(rows):
        first = y == 0
        if guess is not None:
            ax.plot(100 * guess, y, "|", color="#666666", markersize=9, label="at random" if first else None)
        for found, colour, marker, shift, label in (
            (theirs, COLOURS[1], "s", 0.15, "control people"), (mine, COLOURS[0], "o", -0.15, "people in the original"),
        ):  # fmt: skip
            if found is None:
                continue
            ax.plot([100 * found.low, 100 * found.high], [y + shift] * 2, color=colour, linewidth=3, alpha=0.4)
            ax.plot(100 * found.value, y + shift, marker, color=colour, markersize=4.5, label=label if first else None)
    ax.set_yticks(range(len(rows)), [name for name, *_ in rows], fontsize=8)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlim(-3, 103)
    ax.set_xlabel("Right guesses, %")
    ax.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=3)
    return ax


def secrets(result: Result) -> Picture | None:
    """Return the picture of inference by secret (nearest record), or ``None`` when nothing was inferred."""
    rows = [
        (
            str(a.parameters["secret"]),
            rate,
            a.measure("control_rate"),
            guess.value if (guess := a.measure("guess_rate")) else None,
        )
        for a in result.attacks
        if a.family == "inference" and a.name.endswith("_nearest") and (rate := a.measure("rate")) is not None
    ]
    if not rows:
        return None
    rows = sorted(rows, key=lambda row: -(row[1].value - (row[2].value if row[2] else 0.0)))
    shown = rows[:MOST_SECRETS]
    alt = "Right guesses by secret, from the nearest synthetic record. " + "; ".join(
        f"{name}: {share(mine.value)} about people in the original"
        + (f", {share(theirs.value)} about control people" if theirs else "")
        for name, mine, theirs, _ in shown
    )
    clear = [name for name, mine, theirs, _ in rows if theirs is not None and mine.low > theirs.high]
    left_out = f" The {len(shown)} largest differences of {len(rows)} are shown." if len(rows) > len(shown) else ""
    reading = (
        "*How to read it: what is guessed as often about control people is knowledge about everybody. "
        + (
            f"The bars do not overlap for {', '.join(plain(name) for name in clear[:8])}"
            + (f" and {len(clear) - 8} more" if len(clear) > 8 else "")
            + ": there the release betrays the people in the original."
            if clear
            else "The bars of no secret lie apart."
            if any(theirs is not None for _, _, theirs, _ in rows)
            else "There are no control people to compare with, so this is both together."
        )
        + f"{left_out}*"
    )
    return Picture(draw_secrets(shown), f"{alt}.", reading)


def roc(result: Result) -> Picture | None:
    """Return the ROC picture of the membership scores, or ``None`` when there were none; the four best are drawn."""
    ran = [a for a in result.attacks if a.family == "membership" and a.curve is not None]
    if not ran:
        return None
    best = sorted(ran, key=_surely, reverse=True)[:4]
    name = result.parameters["strongest"]
    chosen = result.attack(name)
    point = next((p for p in chosen.tpr_at_fpr if p.tpr is not None), None)
    alt = "Hits against false alarms, both on logarithmic scales, for the four best membership scores. " + "; ".join(
        f"{attack.title}: AUC {_auc(attack):.2f}" for attack in best
    )
    found = (
        f"at {share(point.fpr)} false alarms, {chosen.title} recognises {share(point.tpr.value)} ({share(point.tpr.low)} to "
        f"{share(point.tpr.high)}) of the {plain(result.target.subjects)} in the original; guessing recognises {share(point.fpr)}"
        if point and point.tpr
        else "the further a curve runs above the dotted line, the more people are recognised"
    )
    return Picture(draw_roc(best, name), f"{alt}.", f"*How to read it: {found}.*")


def _surely(attack: AttackResult) -> float:
    auc = attack.measure("auc")
    return auc.low if auc else 0.0


def _auc(attack: AttackResult) -> float:
    auc = attack.measure("auc")
    return auc.value if auc else 0.0


def _percent(value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"-{share(-value)}" if value < 0 else share(min(1.0, value))
