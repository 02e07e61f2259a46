"""Figures of the membership audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from leakpro_nb.plots.base import COLOURS, STYLES, Picture, cycle, new_axes
from leakpro_nb.results import AttackResult, Exposure, Result
from leakpro_nb.words import plain, share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "another_model",
    "draw_exposures",
    "draw_models",
    "draw_power",
    "draw_roc",
    "draw_scores",
    "exposures",
    "power",
    "roc",
    "scores",
]


def draw_roc(attacks: Sequence[AttackResult], strongest: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw log-log ROC curves of the attacks that ran, the strongest with its band, and the line of guessing."""
    ax = ax or new_axes(6.3, 4.0)
    ran = [attack for attack in attacks if attack.curve is not None]
    floor = 1.0
    for attack, colour, style in zip(ran, cycle(COLOURS, len(ran)), cycle(STYLES, len(ran)), strict=True):
        assert attack.curve is not None
        fpr, tpr = np.array(attack.curve.fpr), np.array(attack.curve.tpr)
        floor = min(floor, fpr[fpr > 0].min(initial=1.0))
        main = attack.name == strongest
        ax.plot(
            fpr, tpr, color=colour, linestyle="-" if main else style, linewidth=2.2 if main else 1.3,
            label=attack.title + (" (strongest)" if main else ""), zorder=3 if main else 2, drawstyle="steps-post",
        )  # fmt: skip
        if main:
            ax.fill_between(
                fpr, attack.curve.low, attack.curve.high, color=colour, alpha=0.15, step="post", linewidth=0
            )
    line = np.geomspace(floor, 1, 50)
    ax.plot(line, line, color="#666666", linewidth=1, linestyle=(0, (2, 2)), label="random guess")
    ax.set(xscale="log", yscale="log", xlim=(floor, 1), ylim=(floor, 1.05))
    ax.set_xlabel("False alarms (share of the non-members who are accused)")
    ax.set_ylabel("Hits (share of the members who are accused)")
    ax.legend(fontsize=8, frameon=False, loc="lower right")
    return ax


def roc(result: Result) -> Picture:
    """Return the ROC picture of an audit."""
    strongest = result.parameters.get("strongest")
    ran = [attack for attack in result.attacks if attack.curve is not None]
    lines = []
    for attack in ran:
        auc = attack.measure("auc")
        points = [
            f"{share(p.tpr.value)} at {share(p.fpr)}" for p in attack.tpr_at_fpr if p.tpr is not None and p.fpr > 0
        ]
        lines.append(
            f"{attack.title}: AUC {auc.value:.2f}, hits {', '.join(points)} false alarms" if auc else attack.title
        )
    alt = "Hits against false alarms, both on logarithmic scales, one curve per attack. " + "; ".join(lines) + "."
    return Picture(draw_roc(result.attacks, strongest), alt, _roc_reading(result, strongest))


def _roc_reading(result: Result, strongest: str | None) -> str:
    headline = float(result.parameters.get("headline_fpr", 0.01))
    attack = next((a for a in result.attacks if a.name == strongest), None)
    point = next((p for p in attack.tpr_at_fpr if p.fpr == headline and p.tpr), None) if attack else None
    if attack is None or point is None or point.tpr is None:
        return "*How to read it: the further a curve runs above the dotted line, the more the attack finds out.*"
    own = float(result.verdict.values.get("fpr_realised", 0.0))
    if own > headline and result.verdict.values.get("attack_name") == strongest:
        return (
            f"*How to read it: {attack.title} cannot accuse fewer than {share(own)} of those who were not in the training "
            f"data, and then identifies {share(float(result.verdict.values['tpr']))} of those who were. The dotted line "
            "is random guessing.*"
        )
    ratio = point.tpr.value / headline
    against = f"{ratio:.1f} times as many as by guessing" if ratio > 1 else "no more than by guessing"
    return (
        f"*How to read it: an attacker who accepts one false alarm in {1 / headline:,.0f} identifies "
        f"{share(point.tpr.value)} ({share(point.tpr.low)} to {share(point.tpr.high)}) of the {plain(result.target.subjects)} in the training data with {attack.title}, {against}. "
        "The shaded band is the uncertainty of the strongest attack; the dotted line is random guessing.*"
    )


def draw_scores(
    values: np.ndarray, member: np.ndarray, ax: Axes | None = None, *, threshold: float | None = None
) -> Axes:
    """Draw histograms of one attack's scores ``(N,)`` for members and non-members ``(N,)`` bool."""
    ax = ax or new_axes(6.3, 3.2)
    known = np.isfinite(values)
    low, high = np.quantile(values[known], [0.1, 0.998])
    bins = np.linspace(low, high if high > low else low + 1, 60).tolist()
    for side, colour, hatch, label in (
        (~member, "#E69F00", "", "not in the training data"),
        (member, "#0072B2", "", "in the training data"),
    ):
        inside = np.clip(values[known & side], bins[0], bins[-1])
        ax.hist(inside, bins=bins, density=True, color=colour, alpha=0.55, label=label, hatch=hatch, edgecolor="none")
    if threshold is not None and bins[0] <= threshold <= bins[-1]:
        ax.axvline(threshold, color="#333333", linewidth=1.2, linestyle="--", label="accused to the right of this line")
    ax.set_xlabel("Score of the attack (further right: more like someone in the training data; extremes at the edges)")
    ax.set_ylabel("Density of records")
    ax.legend(fontsize=8, frameon=False)
    return ax


def scores(result: Result, values: Mapping[str, np.ndarray], member: np.ndarray) -> Picture | None:
    """Return the picture of the strongest attack's scores, or ``None`` when no attack gave any.

    ``values`` are the scores ``(N,)`` by attack, ``member (N,)`` is bool.
    """
    name = result.parameters.get("strongest")
    if name is None:
        return None
    attack, chosen = result.attack(name), values[name]
    headline = float(result.parameters.get("headline_fpr", 0.01))
    point = next((p for p in attack.tpr_at_fpr if p.fpr == headline), None)
    known = np.isfinite(chosen)
    middle = [float(np.median(chosen[known & side])) for side in (member, ~member)]
    alt = (
        f"Histograms of the scores of {attack.title}: {int(member.sum()):,} records in the training data (median "
        f"{middle[0]:.2f}) and {int((~member).sum()):,} others (median {middle[1]:.2f})."
    )
    auc = attack.measure("auc")
    reading = (
        f"*How to read it: where the two hills lie on top of each other, the attacker cannot tell. Take one person from each "
        f"group at random: {attack.title} ranks the one in the training data higher in {share(auc.value)} of such pairs "
        f"({share(auc.low)} to {share(auc.high)}; 50 % would be guessing).*"
        if auc
        else ""
    )
    return Picture(draw_scores(chosen, member, threshold=point.threshold if point else None), alt, reading)


def draw_exposures(groups: Sequence[Exposure], ax: Axes | None = None) -> Axes:
    """Draw the AUC within each subgroup with its interval."""
    ax = ax or new_axes(6.3, 0.8 + 0.2 * len(groups))
    for y, group in enumerate(groups):
        if group.auc is None:
            continue
        ax.plot([group.auc.low, group.auc.high], [y, y], color="#0072B2", linewidth=2.5, alpha=0.5)
        ax.plot(group.auc.value, y, "o", color="#0072B2", markersize=5)
    ax.axvline(0.5, color="#666666", linewidth=1, linestyle=(0, (2, 2)))
    ax.set_yticks(range(len(groups)), [_name(group) for group in groups], fontsize=8)
    ax.invert_yaxis()
    ax.set_xlabel("AUC within the group (dotted line: guessing, 1: certainty)")
    return ax


def exposures(result: Result) -> Picture | None:
    """Return the picture of exposure by subgroup, or ``None`` when no group was large enough.

    It compares AUCs: their intervals hold in small groups too, where a threshold for few false alarms would itself be
    decided by a handful of people.
    """
    shown = [group for group in result.exposures if group.auc is not None]
    if not shown:
        return None
    ranked = sorted(((group.auc, group) for group in shown if group.auc is not None), key=lambda pair: pair[0].value)
    (least, bottom), (most, top) = ranked[0], ranked[-1]
    alt = "AUC of the strongest attack within each group. " + "; ".join(
        f"{_name(group)}: {auc.value:.2f} ({auc.low:.2f} to {auc.high:.2f})" for auc, group in ranked
    )
    between = (
        f"most exposed: {plain(_name(top))} (AUC {most.value:.2f}); least exposed: {plain(_name(bottom))} (AUC "
        f"{least.value:.2f}); their intervals do not overlap.*"
        if most.low > least.high
        else "those of the most and the least exposed group overlap, so the groups may not differ at all.*"
    )
    reading = (
        "*How to read it: the attack is judged within each group, so that a group which is merely easier does not count as "
        f"exposed. The lines show the uncertainty, jointly for all groups; {between}"
    )
    return Picture(draw_exposures(shown), f"{alt}.", reading)


def _name(group: Exposure) -> str:
    return f"{group.column}: {group.group}"


READINGS = {
    "pays": "Training more shadow models would probably find more.",
    "stopped": "Training more shadow models has stopped paying.",
    "unsettled": "Whether more shadow models would find more, these figures do not settle.",
}


def draw_power(data: Mapping[str, Any], measure: str, ax: Axes | None = None) -> Axes:
    """Draw what the attacks reach against the number of shadow models.

    ``data`` is ``Result.extras["power"]``, ``measure`` ``"auc"`` or ``"tpr"``; thick, with its interval, the attack
    recommended for each number.
    """
    ax = ax or new_axes(6.3, 3.2)
    place = {models: i for i, models in enumerate(sorted({row["models"] for row in data["points"] + data["best"]}))}
    names = list(dict.fromkeys(row["attack"] for row in data["points"]))
    for name, colour, style in zip(names, cycle(COLOURS, len(names)), cycle(STYLES, len(names)), strict=True):
        rows = [row for row in data["points"] if row["attack"] == name and row[measure] is not None]
        if not rows:
            continue
        if len({row["models"] for row in data["points"] if row["attack"] == name}) == 1 and len(place) > 1:
            ax.axhline(rows[0][measure], color=colour, linestyle=style, linewidth=1.1, label=rows[0]["title"])
            continue
        x, y = [place[row["models"]] for row in rows], [row[measure] for row in rows]
        ax.plot(x, y, color=colour, linestyle=style, linewidth=1.1, marker=".", label=rows[0]["title"])
    best = [row for row in data["best"] if row[measure] is not None]
    x, y = [place[row["models"]] for row in best], [row[measure] for row in best]
    ax.plot(x, y, color="#000000", linewidth=2.4, alpha=0.75, label="recommended for this number", zorder=1)
    low, high = [row[f"{measure}_low"] for row in best], [row[f"{measure}_high"] for row in best]
    ax.fill_between(x, low, high, color="#000000", alpha=0.12, linewidth=0)
    ax.set_xticks(list(place.values()), [str(models) for models in place])
    if measure == "tpr":
        ax.yaxis.set_major_formatter(lambda value, _: share(round(value, 6)))
    ax.set_xlabel("Number of shadow models")
    ax.set_ylabel("AUC" if measure == "auc" else f"Hits at {share(data['fpr'])} false alarms")
    return ax


def power(result: Result) -> Picture | None:
    """Return the picture of power against the number of shadow models, or ``None`` without any to vary."""
    from matplotlib.figure import Figure

    data = result.extras.get("power", {})
    if not data.get("best"):
        return None
    shown = ["auc", "tpr"] if any(row["tpr"] is not None for row in data["best"]) else ["auc"]
    figure = Figure(figsize=(6.3, 3.5), layout="constrained")
    panels = [figure.add_subplot(1, len(shown), i + 1) for i in range(len(shown))]
    for ax, measure in zip(panels, shown, strict=True):
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        ax.grid(visible=True, color="#e5e5e5", linewidth=0.6)
        draw_power(data, measure, ax)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, frameon=False, loc="outside lower center", ncols=3)
    alt = "What the attacks reach against the number of shadow models. Recommended attack: " + "; ".join(
        f"{row['models']}: {row['title']}, AUC {row['auc']:.3f}"
        + (f", hits {share(row['tpr'])}" if row["tpr"] is not None else "")
        for row in data["best"]
    )
    return Picture(panels[0], f"{alt}.", _power_reading(data))


def _power_reading(data: Mapping[str, Any]) -> str:
    start = (
        "*How to read it: the thick line is the attack recommended beforehand for each number of shadow models, with its "
        "uncertainty; the others are the attacks of this audit. "
    )
    gain = data.get("gain")
    if gain is None:
        return start + "There are too few shadow models to see whether more would find more.*"
    rose = [f"the AUC by {_change(gain['auc'], 1)}"]
    if gain["tpr"] is not None:
        rose.insert(
            0, f"the hits at {share(data['fpr'])} false alarms by {_change(gain['tpr'], 100)} percentage points"
        )
    both = "both" if len(rose) > 1 else "it"
    return (
        f"{start}Going from {gain['from']} to {gain['to']} shadow models changed {' and '.join(rose)}. {READINGS[data['reading']]} "
        f"The rule: more training pays if one of them surely rose, has stopped paying if {both} surely rose by less than "
        "0.01 (one percentage point), and is otherwise unsettled. These figures do not enter the verdict.*"
    )


def _change(gain: Sequence[float], unit: float) -> str:
    digits = 3 if unit == 1 else 1
    # a range that starts at 0 is written without a minus
    value, low, high = (round(unit * number, digits) + 0.0 for number in gain)
    return f"{value:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def draw_models(figure: Mapping[str, Any], ax: Axes | None = None) -> Axes:
    """Draw one figure of merit of every shadow model as the target, the audited model, and the range to be expected."""
    ax = ax or new_axes(6.3, 1.5)
    ax.axvspan(
        figure["expected_low"],
        figure["expected_high"],
        color="#0072B2",
        alpha=0.12,
        linewidth=0,
        label="to be expected",
    )
    values = np.array(figure["values"])
    ax.plot(values, np.linspace(-0.25, 0.25, len(values)), "o", color="#0072B2", markersize=4, label="shadow models")
    ax.plot(figure["audited"], 0, "D", color="#D55E00", markersize=8, label="the audited model")
    ax.set(ylim=(-0.6, 0.6), yticks=[])
    ax.spines["left"].set_visible(False)
    ax.legend(fontsize=8, frameon=False, loc="upper center", ncols=3, bbox_to_anchor=(0.5, 1.35))
    return ax


def another_model(result: Result) -> Picture | None:
    """Return the picture of the shadow models as targets, or ``None`` when there were too few."""
    data = result.extras.get("algorithm", {})
    figure = data.get("tpr") or data.get("auc")
    if figure is None:
        return None
    what = f"Hits at {share(data['fpr'])} false alarms" if data.get("tpr") else "AUC"
    shown = share if data.get("tpr") else "{:.3f}".format
    ax = draw_models(figure)
    if data.get("tpr"):
        ax.xaxis.set_major_formatter(lambda value, _: share(round(value, 6)))
    ax.set_xlabel(f"{what}, {data['title']}, one dot per model")
    ordered = sorted(figure["values"])
    alt = (
        f"{what} of {data['title']} with each of {data['models']} shadow models as the target: {shown(ordered[0])} to "
        f"{shown(ordered[-1])}; the audited model: {shown(figure['audited'])}."
    )
    reading = (
        "*How to read it: every dot is a model trained like the audited one on other records. A diamond inside the shaded range "
        f"leaks as much as the training procedure makes one expect ({shown(figure['expected_low'])} to "
        f"{shown(figure['expected_high'])}).*"
    )
    return Picture(ax, alt, reading)
