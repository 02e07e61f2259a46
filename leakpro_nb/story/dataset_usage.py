"""What the report of a usage audit says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leakpro_nb.results import Interval, Result
from leakpro_nb.story import base
from leakpro_nb.story.base import as_html, markdown, table, table_html
from leakpro_nb.words import plain, share

if TYPE_CHECKING:
    from leakpro_nb.audits.dataset_usage import Plan

__all__ = ["advice", "finish", "meaning", "part_table", "plan_of_attack", "share_table", "summary", "target_table"]


def summary(result: Result) -> Any:
    """Return the answer in one minute."""
    verdict = result.verdict
    lines = [f"**{verdict.headline}.** {verdict.sentence}", ""]
    lines.append(
        f"- **Based on** a collection of {result.extras['collection']:,} records and {result.parameters['num_shadows']} "
        "look-alike models (shadow models)."
    )
    true = result.extras.get("true_share", {})
    if true:
        lines.append(
            f"- **This is a rehearsal:** the true share is known, {share(true[''])}, and shown beside the estimate, which never "
            "looks at it."
        )
    failed = [check.title for check in result.checks if check.passed is False]
    total = sum(check.passed is not None for check in result.checks)
    doubts = f" Not passed: {' '.join(failed)} See *How sure we are*." if failed else ""
    lines.append(f"- **Validity:** {total - len(failed)} of {total} checks passed.{doubts}")
    return markdown("\n".join(lines))


def target_table(plan: Plan) -> Any:
    """Return what is audited."""
    target = plan.target
    rows = [
        ("Name", target.name),
        ("Kind of model", target.kind),
        ("Records of the collection", f"{plan.collection:,}"),
        ("Other records, known not to have been used (population)", f"{int((~target.records.audited).sum()):,}"),
        ("Parts of the collection", ", ".join(f"{p.name} ({int(p.rows.sum()):,})" for p in plan.parts) or "none"),
        (
            "Which records were used",
            "not known" if plan.truth is None else "known (a rehearsal), hidden from the estimate",
        ),
        ("Possible answers of the model", f"{target.classes}"),
    ]
    if target.recipe is not None:
        rows.append(("How it was trained", target.recipe.describe()))
    return table(["Item", "Value"], rows)


def plan_of_attack(plan: Plan) -> Any:
    """Return the way of counting, and what it takes for granted."""
    attack = plan.attack
    score = {"lira": "LiRA", "rmia": "RMIA", "base": "BASE"}[attack.score]
    half = len(plan.target.records) // 2
    taken_for_granted = [
        (
            "Same recipe",
            "The model was trained in the way that the recipe states: network, settings and number of passes over the data.",
        ),
        (
            "Similar training set",
            f"It was trained on about as many records as a shadow model ({half:,}, a random half of collection and population "
            "together), from the same kind of source. What else it was trained on need not be known.",
        ),
        (
            "Chosen without regard to the answer",
            "The records that were used, within the collection and within each part, were not picked for being easy or hard "
            "for a model.",
        ),
    ]
    return as_html(
        table_html(["Estimate", "Idea", "Source"], [(f"{attack.title}, by {score}", attack.idea, attack.paper)])
        + table_html(["Taken for granted", "In words"], taken_for_granted)
    )


def share_table(result: Result) -> Any:
    """Return the share used of the whole collection and of every part, or why there is none."""
    true, refused = result.extras.get("true_share", {}), result.extras.get("refused", {})
    whole = result.attacks[0].measure("usage")
    rows = [_row("whole collection", result.extras["collection"], whole, true.get(""), refused.get("", ""))]
    for part in result.exposures:
        name = f"{part.column} {part.group}"
        rows.append(_row(name, result.extras["parts"][name], part.usage, true.get(name), refused.get(name, "")))
    heads = ["Part", "Records", "Share used (range)", "At least", *(["True share"] if true else [])]
    note = f"The ranges of all rows hold together with {share(result.parameters['confidence'])} confidence."
    return as_html(f"{table_html(heads, [row if true else row[:-1] for row in rows])}<p>{note}</p>")


def _row(name: str, records: int, used: Interval | None, true: float | None, refused: str) -> tuple[str, ...]:
    truth = "" if true is None else share(true)
    if used is None:
        return name, f"{records:,}", f"not estimated: {refused}", "", truth
    least = f"{int(used.low * records):,} records"
    return name, f"{records:,}", f"{share(used.value)} ({share(used.low)} to {share(used.high)})", least, truth


def part_table(result: Result) -> Any:
    """Return one sentence on how the parts compare."""
    parts = [part for part in result.exposures if part.usage is not None]
    if len(parts) < 2:
        return markdown("There are no parts to compare: name a column with the parameter `subsets`.")
    ranked = sorted(parts, key=lambda part: part.usage.value if part.usage else 0.0)
    least, most = ranked[0], ranked[-1]
    assert least.usage is not None
    assert most.usage is not None
    apart = most.usage.low > least.usage.high
    return markdown(
        f"Used most: {plain(f'{most.column} {most.group}')} ({share(most.usage.value)}); used least: "
        f"{plain(f'{least.column} {least.group}')} ({share(least.usage.value)}). Their ranges "
        + ("do not overlap, so the difference is real." if apart else "overlap, so that they may not differ at all.")
    )


def meaning(result: Result) -> Any:
    """Return what the figures mean, and the rule behind the verdict."""
    verdict = result.verdict
    parts = [f"**{verdict.headline}.** {verdict.sentence}"]
    if verdict.level in ("demonstrated", "limited"):
        parts.append(
            "The estimate speaks about the collection, not about persons: it does not say which records were used. It says how "
            "many of them left their trace in the model's answers. Whoever owns the records can hold it against what was agreed: a "
            "licence, a consent, a withdrawal, a contract about a part of the data."
        )
    elif verdict.level == "not_found":
        parts.append(
            "A model that was trained in another way than the recipe states may have used records without such a trace."
        )
    else:
        parts.append("This is neither evidence that the records were used nor evidence that they were not.")
    parts.append(
        "**What it rests on.** The assumptions listed under *The attack*. If the model was trained with another recipe, or on "
        "far more or far fewer records, the estimate may be off by more than its range. Records that were used in copy, in part "
        "or in changed form count as far as the model recognises them."
    )
    parts.append(f"> **How the verdict is reached.** {verdict.rule}")
    return markdown("\n\n".join(parts))


def advice(result: Result) -> Any:
    """Return what to do next, from the figures at hand."""
    level = result.verdict.level
    steps = [f"**Mend first:** {check.sentence}" for check in result.checks if check.passed is False]
    if level in ("demonstrated", "limited"):
        steps += [
            "**Compare with what was agreed:** for each part, the lower end of the range against the share that was permitted.",
            "**Ask whoever trained the model** for the list of training records, and for the recipe; this report says how many "
            "records to look for.",
            "**Have the membership audit run** on the same model if it matters whose records can be recognised in it.",
        ]
    elif level == "not_found":
        steps += [
            "**Keep this report** with the correspondence about the model, and repeat it when the model changes.",
            "**Do not read it as a proof of absence:** it holds for the recipe stated here.",
        ]
    else:
        steps += [
            "**Train more shadow models** (parameter `num_shadows`): ranges become shorter, and weak attacks steadier.",
            "**Give records that are known not to have been used** (population), from the same source: the estimate is corrected "
            "by them, and the shadow models get nearer to the model's training size.",
            "**Do not read this as an all-clear,** nor as an accusation.",
        ]
    return markdown("\n".join(f"{i}. {step}" for i, step in enumerate(steps, 1)))


def finish(result: Result) -> None:
    """Put the answer at the top of the notebook, and the whole result where the report finds it."""
    base.finish(result, summary(result))
