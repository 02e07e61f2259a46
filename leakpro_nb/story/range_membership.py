"""What the report of a range audit says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leakpro_nb.audits.range_membership import JUST_OUTSIDE, KINDS, alike
from leakpro_nb.plots.range_membership import DISTANCE, KIND
from leakpro_nb.results import Exposure, Result
from leakpro_nb.story import base
from leakpro_nb.story.base import as_html, count, interval, level, markdown, table, table_html
from leakpro_nb.story.membership import tpr_table
from leakpro_nb.words import plain, share

if TYPE_CHECKING:
    from leakpro_nb.audits.range_membership import Plan

__all__ = [
    "advice",
    "alike_table",
    "attack_table",
    "by_distance",
    "by_kind",
    "finish",
    "meaning",
    "plan_of_attack",
    "ranges_table",
    "summary",
    "target_table",
    "tpr_table",
]


def summary(result: Result) -> Any:
    """Return the answer in one minute."""
    verdict, target, subjects = result.verdict, result.target, plain(result.target.subjects)
    lines = [f"**{verdict.headline}.** {verdict.sentence}", ""]
    ran = [attack for attack in result.attacks if attack.status == "ok"]
    strongest = next((attack for attack in ran if attack.name == result.parameters.get("strongest")), None)
    auc = strongest.measure("auc") if strongest else None
    if strongest and auc:
        lines.append(
            f"- **{'Strongest of ' + count(len(ran), 'attack') if len(ran) > 1 else 'The attack'}:** {strongest.title}, AUC {interval(auc)} "
            "(0.5 is guessing, 1 is certainty)."
        )
    such = result.parameters.get("alike")
    example = f" Two {subjects} as near as that, typically: {plain(such)}." if such else ""
    lines.append(f"- **“Like this person” means:** {plain(result.parameters.get('range'))}{example}")
    near = next((each for each in result.exposures if each.group == KINDS["near_miss"] and each.tpr), None)
    if near is not None and near.tpr is not None:
        lines.append(
            f"- **Near misses:** where the nearest of the {subjects} from the training data is just outside the range, the "
            f"attacker says yes in {share(near.tpr.value)} ({share(near.tpr.low)} to {share(near.tpr.high)}) of the cases."
        )
    lines.append(
        f"- **Based on** {target.members:,} ranges with someone from the training data inside, and "
        f"{target.non_members:,} without."
    )
    failed = [check.title for check in result.checks if check.passed is False]
    total = sum(check.passed is not None for check in result.checks)
    doubts = f" Not passed: {' '.join(failed)} See *How sure we are*." if failed else ""
    lines.append(f"- **Validity:** {total - len(failed)} of {total} checks passed.{doubts}")
    return markdown("\n".join(lines))


def target_table(plan: Plan) -> Any:
    """Return what is audited."""
    target = plan.target
    train, test = target.accuracy()
    rows = [
        ("Name", target.name),
        ("Kind of model", target.kind),
        ("Records that trained it", f"{int(target.members.sum()):,}"),
        ("Records that did not", f"{int((target.records.audited & ~target.members).sum()):,}"),
        ("Records the attacker holds anyway (population)", f"{int((~target.records.audited).sum()):,}"),
        ("Right answers on the first two", f"{share(train)} / {share(test)}"),
    ]
    if target.recipe is not None:
        rows.append(("How it was trained", target.recipe.describe()))
    return table(["Item", "Value"], rows)


def ranges_table(plan: Plan) -> Any:
    """Return what a range is, and how many of which kind are audited."""
    rows = [
        (words, "yes" if kind in ("on_member", "beside_member") else "no", f"{int((plan.ranges.kind == kind).sum()):,}")
        for kind, words in KINDS.items()
        if (plan.ranges.kind == kind).any()
    ]
    heads = ["A range …", "Anyone from the training data inside?", "How many"]
    return as_html(f"<p>{plain(plan.range_in_words)}</p>{table_html(heads, rows)}")


def alike_table(plan: Plan) -> Any:
    """Return how alike two records within one range are, by examples; ``None`` where that cannot be said."""
    rows = alike(plan)
    subjects = plain(plan.target.subjects)
    heads = ["Column", f"Two {subjects} within one range (typically)", f"Any two {subjects}"]
    return table(heads, rows) if rows else None


def plan_of_attack(plan: Plan) -> Any:
    """Return each attack in one sentence, and those that the threat model leaves out, with the reason."""
    rows = [(attack.title, attack.idea, attack.paper) for attack in plan.game.attacks.values()]
    parts = [table_html(["Attack", "Idea", "Source"], rows)]
    if plan.game.refused:
        parts.append(table_html(["Left out", "Because"], plan.game.refused.items()))
    return as_html("".join(parts))


def attack_table(result: Result) -> Any:
    """Return the AUC of every attack, which is that of the ranges' scores, and of single points for comparison."""
    rows = []
    for attack in result.attacks:
        auc, found = attack.measure("auc"), attack.parameters
        if attack.status != "ok" or auc is None:
            rows.append((attack.title, f"{attack.status}: {attack.reason}", "", ""))
            continue
        compared = found.get("AUC for comparison", {})
        kept = f"{found['k']} {found['direction']} of {found['samples per range']}" if "k" in found else ""
        rows.append(
            (attack.title, interval(auc), kept, "; ".join(f"{name} {value:.3f}" for name, value in compared.items()))
        )
    heads = ["Attack", f"AUC ({level(result)} interval)", "Points kept", "For comparison: AUC of …"]
    return as_html(f"{table_html(heads, rows)}<p>{_centre_or_points(result)}</p>")


def _centre_or_points(result: Result) -> str:
    """Return whether the made-up points tell more than the centre."""
    best: dict[bool, float] = {}
    for attack in result.attacks:
        auc = attack.measure("auc")
        if attack.status == "ok" and auc is not None:
            alone = attack.name.endswith("_centre")
            best[alone] = max(best.get(alone, 0.0), auc.value)
    if len(best) < 2:
        return ""
    if best[True] >= best[False]:
        return (
            f"Here made-up points of the range tell the attacker no more than its centre alone (best AUC {best[False]:.3f} "
            f"against {best[True]:.3f}): knowing roughly who the person is, the attacker does best to ask about just that."
        )
    return (
        f"Here points of the range tell the attacker more than its centre alone (best AUC {best[False]:.3f} against "
        f"{best[True]:.3f})."
    )


def by_kind(result: Result) -> Any:
    """Return how often the strongest attack says yes, by kind of range."""
    rows = [
        (each.group, "yes" if each.members else "no", f"{_ranges(each):,}", _share(each))
        for each in result.exposures
        if each.column == KIND and _ranges(each)
    ]
    heads = ["A range …", "Anyone inside?", "How many", "The attacker says yes"]
    return table(heads, rows)


def by_distance(result: Result) -> Any:
    """Return AUC and share of yes by distance of the nearest training record; one sentence without distances."""
    rows = [
        (
            each.group,
            "yes" if each.members else "no",
            f"{_ranges(each):,}",
            interval(each.auc) if each.auc else "too few",
            _share(each),
        )
        for each in result.exposures
        if each.column == DISTANCE
    ]
    heads = [
        "Nearest training record",
        "Inside?",
        "Ranges",
        f"AUC against ranges with nobody within {JUST_OUTSIDE:g} radii",
        "The attacker says yes",
    ]
    return (
        table(heads, rows) if rows else markdown("*This kind of range has no distances, so there is nothing to show.*")
    )


def _ranges(each: Exposure) -> int:
    return (each.members or 0) + (each.non_members or 0)


def _share(each: Exposure) -> str:
    return f"{share(each.tpr.value)} ({share(each.tpr.low)} to {share(each.tpr.high)})" if each.tpr else "not known"


def meaning(result: Result) -> Any:
    """Return what the figures mean for the people in the data, and the rule behind the verdict."""
    verdict, subjects = result.verdict, plain(result.target.subjects)
    parts = [f"**{verdict.headline}.** {verdict.sentence}"]
    if verdict.level in ("demonstrated", "limited"):
        parts.append(
            f"An attacker therefore does not need the exact record of one of the {subjects} to learn that such a person was in "
            "the data: roughly right values will do. Records that were coarsened, rounded or are a little out of date do not "
            "protect against this."
        )
    elif verdict.level == "not_found":
        parts.append(
            "Other attacks, more shadow models, another range or the exact record could find more; the template *membership* asks about the exact record."
        )
    not_run = [attack.title for attack in result.attacks if attack.status != "ok"]
    left_out = f"Not run: {'; '.join(not_run)}. " if not_run else ""
    parts.append(
        f"{left_out}This report is evidence only about the attacks that ran, and only about ranges of this size."
    )
    parts.append(
        f"> **How the verdict is reached.** A *person in question* is here a range, a *member* a range with someone inside. {verdict.rule}"
    )
    return markdown("\n\n".join(parts))


def advice(result: Result) -> Any:
    """Return what to do next, from the figures at hand."""
    gap = (result.target.train_accuracy or 0) - (result.target.test_accuracy or 0)
    steps = []
    if result.verdict.level in ("demonstrated", "limited"):
        steps.append(
            "**Do not release the model in this form** to anyone who must not learn what sort of people were in the data, and "
            "do not count on attackers lacking the exact records."
        )
        if gap > 0.1:
            steps.append(
                f"**Reduce overfitting.** The model is right for {share(result.target.train_accuracy or 0)} of its training "
                f"records and {share(result.target.test_accuracy or 0)} of others; early stopping, regularisation, a smaller "
                "model or more data narrow this gap, and leakage falls with it."
            )
        steps.append(
            "**Train with differential privacy** if the model must be shared, and audit it again: it bounds what any attack "
            "can find, known or not."
        )
        steps.append(
            "**Try other ranges.** Run this audit with a larger `radius`, or with the columns in `missing` that an attacker "
            "would not know, to see how much they need to know."
        )
    elif result.verdict.level == "not_found":
        steps.append(
            "**Keep this report** with the model's documentation, and repeat the audit when model or data change."
        )
        steps.append("**Ask about exact records too:** the template *membership* does.")
    else:
        needed = result.verdict.values.get("records_needed")
        steps += [f"**Mend first:** {check.sentence}" for check in result.checks if check.passed is False]
        if needed:
            steps.append(f"**Audit more ranges:** about {needed:,} of each kind would settle it.")
        steps.append("**Do not read this as an all-clear.** Nothing was shown in either direction.")
    return markdown("\n".join(f"{i}. {step}" for i, step in enumerate(steps, 1)))


def finish(result: Result) -> None:
    """Put the answer at the top of the notebook, and the whole result where the report finds it."""
    base.finish(result, summary(result))
