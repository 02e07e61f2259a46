"""What the report of a membership audit says."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from leakpro_nb.results import AttackResult, Result, TprAtFpr
from leakpro_nb.story import base
from leakpro_nb.story.base import as_html, count, interval, level, markdown, table, table_html
from leakpro_nb.words import plain, share

if TYPE_CHECKING:
    from leakpro_nb.audits.membership import Plan

__all__ = [
    "advice",
    "another_model",
    "attack_table",
    "finish",
    "meaning",
    "most_exposed",
    "not_examined",
    "plan_of_attack",
    "summary",
    "target_table",
    "tpr_table",
    "tuning_table",
]

LISTED = 10
"""Most exposed records that the report shows; the result file has more, the scores file all."""


def summary(result: Result) -> Any:
    """Return the answer in one minute."""
    verdict, target = result.verdict, result.target
    lines = [f"**{verdict.headline}.** {verdict.sentence}", ""]
    ran = [attack for attack in result.attacks if attack.status == "ok"]
    strongest = next((attack for attack in ran if attack.name == result.parameters.get("strongest")), None)
    auc = strongest.measure("auc") if strongest else None
    if strongest and auc:
        lines.append(
            f"- **{'Strongest of ' + count(len(ran), 'attack') if len(ran) > 1 else 'The attack'}:** {strongest.title}, AUC {interval(auc)} "
            "(0.5 is guessing, 1 is certainty)."
        )
    lines.append(
        f"- **Based on** {target.members:,} {plain(target.subjects)} whose records trained the model and {target.non_members:,} "
        "whose records did not."
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
    records = target.records
    members = records.members
    assert members is not None
    rows = [
        ("Name", target.name),
        ("Kind of model", target.kind),
        ("Records that trained it (members)", f"{int(members.sum()):,}"),
        ("Records that did not (non-members)", f"{int((records.audited & ~members).sum()):,}"),
        ("Records the attacker holds anyway (population)", f"{int((~records.audited).sum()):,}"),
        ("Possible answers of the model", f"{target.classes}"),
        ("Right answers on members / non-members", f"{share(train)} / {share(test)}"),
    ]
    if target.recipe is not None:
        rows.append(("How it was trained", target.recipe.describe()))
    return table(["Item", "Value"], rows)


def plan_of_attack(plan: Plan) -> Any:
    """Return each attack in one sentence, and those that the threat model leaves out, with the reason."""
    from leakpro_nb.attacks import create, title_of

    rows = [(title_of(attack), attack.idea, attack.paper) for attack in plan.attacks.values()]
    parts = [table_html(["Attack", "Idea", "Source"], rows)]
    if plan.refused:
        left_out = [(title_of(create(name)), reason) for name, reason in plan.refused.items()]
        parts.append(table_html(["Left out", "Because"], left_out))
    return as_html("".join(parts))


def attack_table(result: Result) -> Any:
    """Return one row per attack: AUC and balanced accuracy, or why it has none."""
    rows = []
    for attack in result.attacks:
        auc, balanced = attack.measure("auc"), attack.measure("balanced_accuracy")
        if attack.status == "ok" and auc and balanced:
            rows.append((attack.title, interval(auc), interval(balanced)))
        else:
            rows.append((attack.title, f"{attack.status}: {attack.reason}", ""))
    stated = level(result)
    return table(["Attack", f"AUC ({stated} interval)", f"Balanced accuracy ({stated} interval)"], rows)


def tpr_table(result: Result) -> Any:
    """Return the true-positive rates at the false-positive rates fixed beforehand."""
    ran = [attack for attack in result.attacks if attack.status == "ok"]
    points = ran[0].tpr_at_fpr if ran else []
    rows = [(attack.title, *[_tpr_cell(point) for point in attack.tpr_at_fpr]) for attack in ran]
    heads = [
        "Hits in %, at …",
        *[f"{share(point.fpr)} false alarms" if point.fpr else "no false alarm" for point in points],
    ]
    notes = [f"In brackets: {level(result)} intervals."]
    zero = next((p.realised_fpr for p in points if p.fpr == 0 and p.realised_fpr), None)
    if zero is not None:
        notes.append(
            f"*No false alarm* means none among the {result.target.non_members:,} non-members of this audit; the true rate "
            f"may still be up to {share(zero.high)}."
        )
    notes += sorted({f"A rate of {share(p.fpr)} is {p.reason}." for a in ran for p in a.tpr_at_fpr if p.reason})
    note = html.escape(" ".join(notes)).replace("*No false alarm*", "<em>No false alarm</em>")
    return as_html(f"{table_html(heads, rows)}<p>{note}</p>")


def _tpr_cell(point: TprAtFpr) -> str:
    if point.tpr is None:
        return "not resolvable"
    return f"{_bare(point.tpr.value)} ({_bare(point.tpr.low)}–{_bare(point.tpr.high)})"


def _bare(value: float) -> str:
    return share(value).removesuffix(" %").replace("under ", "<").replace("over ", ">")


def tuning_table(result: Result) -> Any:
    """Return each attack with its defaults and with the options that practice has chosen; ``None`` without tuning."""
    tuned: dict[str, Any] = result.extras.get("tuning", {})
    if not tuned:
        return None
    rows = [_tuning_row(result, name, each) for name, each in tuned.items()]
    heads = ["Attack", "Chosen options", "Gain in practice", "This model, default", "This model, tuned"]
    headline = share(float(result.parameters.get("headline_fpr", 0.01)))
    measured = {each["measure"] for each in tuned.values() if each["measure"]}
    what = f"hits at {headline} false alarms" if measured != {"auc"} else "AUC"
    note = (
        "Options were tried on shadow models in the place of the audited model, and never on the audited model itself. "
        f"The figures are {what}. <em>Gain in practice</em> is measured on shadow models other than those on which the options "
        f"were chosen; in brackets {level(result)} intervals. The tuned attacks count in the verdict as attacks of their own."
    )
    return as_html(f"{table_html(heads, rows)}<p>{note}</p>")


def _tuning_row(result: Result, name: str, each: dict[str, Any]) -> tuple[str, ...]:
    attacks = {attack.name: attack for attack in result.attacks}
    if each["reason"]:
        return attacks[name].title, f"not tuned: {each['reason']}", "", "", ""
    unit, digits, points = (1, 3, "") if each["measure"] == "auc" else (100, 1, " points")
    # adding 0 turns -0.0 into 0.0
    value, low, high = (round(unit * each["held_out"][key], digits) + 0.0 for key in ("gain", "low", "high"))
    found = [_reached(attacks.get(key), each["measure"], result) for key in (name, f"{name}_tuned")]
    options = ", ".join(f"{key} {_short(value)}".replace("_", " ") for key, value in each["options"].items())
    return (
        attacks[name].title,
        options or "the defaults; nothing tried was better",
        f"{value:+.{digits}f}{points} ({low:+.{digits}f} to {high:+.{digits}f})" if options else "none",
        found[0],
        found[1] if options else "the same",
    )


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _reached(attack: AttackResult | None, measure: str, result: Result) -> str:
    if attack is None or attack.status != "ok":
        return "did not run"
    if measure == "auc":
        auc = attack.measure("auc")
        return interval(auc) if auc else ""
    headline = result.parameters.get("headline_fpr")
    point = next((p for p in attack.tpr_at_fpr if p.fpr == headline), None)
    return _tpr_cell(point) + " %" if point is not None and point.tpr is not None else "not resolvable"


def another_model(result: Result) -> Any:
    """Return whether another model trained the same way would leak as much, and how repeatable single accusations are."""
    data: dict[str, Any] = result.extras.get("algorithm", {})
    if "reason" in data or not data:
        return not_examined(result, "algorithm")
    subjects = plain(result.target.subjects)
    figure, shown = (data["tpr"], share) if data["tpr"] else (data["auc"], "{:.3f}".format)
    what = f"the hits at {share(data['fpr'])} false alarms" if data["tpr"] else "the AUC"
    audited = figure["audited"]
    inside = figure["expected_low"] <= audited <= figure["expected_high"]
    place = "within it" if inside else "above it" if audited > figure["expected_high"] else "below it"
    lines = [
        f"- **Other models.** With each of {data['models']} shadow models in the place of the audited one, {plain(data['title'])} was "
        f"run again. On average {what} are {shown(figure['mean'])} ({shown(figure['low'])} to {shown(figure['high'])}); for one "
        f"more model trained the same way, expect {shown(figure['expected_low'])} to {shown(figure['expected_high'])}. The audited "
        f"model, judged by as many shadow models, has {shown(audited)}, {place}."
        + ("" if inside else " Its leak is its own: look for what was different in its training.")
    ]
    again = data["not_repeated"]
    if again is not None:
        lines.append(
            f"- **Single accusations.** Of 100 {subjects} whom the attack rightly accuses, about {_of_100(again['value'])} "
            f"({_of_100(again['low'])} to {_of_100(again['high'])}) would not be accused by a second audit, of an equally trained "
            "model that has their record in its training data too."
            + (
                f" For {_of_100(data['coin_flips'])} of the 100 it could not be shown that such models give them away more often "
                "than not."
                if data["coin_flips"] is not None
                else ""
            )
        )
    lines.append(
        f"- **The same {subjects} again and again?** {share(data['mostly_accused'])} of {data['records']:,} records were given away by "
        f"more than half of the models that trained on them, {share(data['never_accused'])} by none."
    )
    lines.append(_groups_line(data))
    return markdown("\n".join(lines))


def not_examined(result: Result, what: str) -> Any:
    """Return why ``extras[what]`` is empty, for the place where its figure would stand."""
    return markdown(f"Not tested: {result.extras.get(what, {}).get('reason', 'this audit did not look')}.")


def _groups_line(data: dict[str, Any]) -> str:
    groups = data["groups"]
    shares = [each["accused"] for each in groups]
    if not groups:
        return "- **Groups.** No group is large enough to be told from the rest."
    middle = sum(each["accused"] * each["records"] for each in groups) / sum(each["records"] for each in groups)
    differ = [each for each in groups if each["low"] > middle or each["high"] < middle]
    if not differ:
        return (
            f"- **Groups.** At one threshold for all, {share(min(shares))} to {share(max(shares))} are given away when in the training "
            "data, depending on the group; no group surely differs from the average."
        )
    named = "; ".join(
        f"{plain(each['column'])}: {plain(each['group'])}, {share(each['accused'])} ({share(each['low'])} to {share(each['high'])}) of "
        f"{each['records']:,} records, and {share(each['wrongly_accused'])} wrongly when not in the data"
        for each in differ
    )
    return (
        f"- **Groups.** At one threshold for all, {share(middle)} are given away when in the training data. Groups that surely "
        f"differ: {named}."
    )


def _of_100(value: float) -> str:
    return f"{100 * value:.0f}"


def most_exposed(result: Result) -> Any:
    """Return the most exposed members, by index."""
    rows = [
        (
            f"{entry['record']}",
            f"{entry['score']:.3f}",
            f"{entry['non_members_as_high']:,} of {result.target.non_members:,}",
            f"{entry['attacks_that_accuse']} of {sum(a.status == 'ok' for a in result.attacks)}",
            *([", ".join(f"{k}={v}" for k, v in entry["values"].items())] if "values" in entry else []),
        )
        for entry in result.most_exposed[:LISTED]
    ]
    heads = ["Record (row number)", "Score", "Non-members scored as high", "Attacks that accuse"]
    return table(heads + (["Values"] if rows and len(rows[0]) > len(heads) else []), rows)


def meaning(result: Result) -> Any:
    """Return what the figures mean for the people in the data, and the rule behind the verdict."""
    verdict = result.verdict
    values, subjects = verdict.values, plain(result.target.subjects)
    parts = [f"**{verdict.headline}.** {verdict.sentence}"]
    if "tpr" in values and verdict.level in ("demonstrated", "limited"):
        expected, low, high = (round(values[key] * result.target.members) for key in ("tpr", "tpr_low", "tpr_high"))
        parts.append(
            f"On this data set that is about {expected:,} ({low:,} to {high:,}) of {result.target.members:,} {subjects}. To be found in the training "
            "data says something about a person whenever the data set itself does: membership in a hospital's data reveals "
            "that someone was treated there."
        )
    if result.verdict.level == "not_found":
        parts.append("Other attacks, more shadow models or other knowledge could find more.")
    not_run = [attack.title for attack in result.attacks if attack.status != "ok"]
    if not_run:
        parts.append(f"Not run: {', '.join(not_run)}. This report is evidence only about the attacks that ran.")
    else:
        parts.append("This report is evidence only about the attacks that ran.")
    parts.append(f"> **How the verdict is reached.** {verdict.rule}")
    return markdown("\n\n".join(parts))


def advice(result: Result) -> Any:
    """Return what to do next, from the figures at hand."""
    gap = (result.target.train_accuracy or 0) - (result.target.test_accuracy or 0)
    steps = []
    if result.verdict.level in ("demonstrated", "limited"):
        steps.append("**Do not release the model in this form** to anyone who must not learn who was in the data.")
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
        if result.threat_model.get("access") != "labels":
            steps.append(
                "**Show less.** Answering with the class alone instead of confidence scores makes attacks harder; run this "
                "audit again with `access: labels` to see by how much."
            )
        strongest = next((a for a in result.attacks if a.name == result.parameters.get("strongest")), None)
        overall = strongest.measure("auc") if strongest else None
        worse = [
            plain(f"{group.column}: {group.group}")
            for group in result.exposures
            if group.auc is not None and overall is not None and group.auc.low > overall.value
        ]
        if worse:
            steps.append(f"**Look at the groups that are more exposed than the rest first:** {', '.join(worse)}.")
    elif result.verdict.level == "not_found":
        steps.append(
            "**Keep this report** with the model's documentation, and repeat the audit when model or data change."
        )
        steps.append("**Audit with a stronger attacker** (more shadow models, open weights) if more is at stake.")
    else:
        needed = result.verdict.values.get("records_needed")
        steps += [f"**Mend first:** {check.sentence}" for check in result.checks if check.passed is False]
        if needed:
            steps.append(f"**Audit with more records:** about {needed:,} on each side would settle it.")
        steps.append("**Do not read this as an all-clear.** Nothing was shown in either direction.")
    return markdown("\n".join(f"{i}. {step}" for i, step in enumerate(steps, 1)))


def finish(result: Result) -> None:
    """Put the answer at the top of the notebook, and the whole result where the report finds it."""
    base.finish(result, summary(result))
