"""What the report on a synthetic table says."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from leakpro_nb.results import AttackResult, Interval, Result
from leakpro_nb.risk.synthetic import UNTOLD, percent
from leakpro_nb.story import base
from leakpro_nb.story.base import as_html, count, markdown, table, table_html
from leakpro_nb.words import plain, share

if TYPE_CHECKING:
    from leakpro_nb.audits.synthetic_data import Plan

__all__ = [
    "advice",
    "beside_table",
    "column_table",
    "finish",
    "group_table",
    "meaning",
    "membership_table",
    "plan_of_attack",
    "quality_table",
    "record_table",
    "risk_table",
    "summary",
    "sweep_table",
    "target_table",
    "text_section",
    "threat_table",
]

LISTED = 10
"""Rows that a table shows; the result file has more."""

SHOWN_SETS = 5
"""Sets of columns that a table shows where fewer give something away; the result file has all."""

KINDS = [
    (
        "Singling out",
        "Conditions that hold for exactly one synthetic record (age at least 81 and city Lund) are tried on the real people: "
        "do they isolate exactly one of them?",
        "Giomi et al., PoPETs 2023",
    ),
    (
        "Linkability",
        "Two sources hold half of a record each. Does the nearest synthetic record of either half show that they belong together?",
        "Giomi et al., PoPETs 2023",
    ),
    (
        "Inference",
        "All of a record is known but one secret. The nearest synthetic record, or a model that learnt from the synthetic table, "
        "fills it in.",
        "Giomi et al., PoPETs 2023",
    ),
    (
        "Membership",
        "How near is the synthetic table to a person, compared with how near other people are? Ten scores from the table alone, "
        "and four from tables that an attacker makes who has the generator, tried on the 200 people who stand most alone.",
        "Chen et al., CCS 2020, to Ward et al. 2025; Stadler et al., USENIX Security 2022",
    ),
]


def summary(result: Result) -> Any:
    """Return the answer in one minute: one sentence for each criterion, then what it rests on."""
    verdict, any_finding = result.verdict, result.extras["any_finding"]
    lines = [f"**{verdict.headline}.**", ""]
    lines += [f"- {sentence}" for sentence in result.extras["criteria"].values()]
    if verdict.level == "inconclusive":
        lines.append(f"- **Why inconclusive:** {verdict.sentence}")
    if result.target.non_members is not None:
        lines.append(
            f"- **All together:** {any_finding['found']} of {any_finding['of']} attacks found more than chance explains; the chance "
            f"of even one false finding among them is at most {share(1 - result.parameters['confidence'])}."
        )
    subjects = plain(result.target.subjects)
    others = (
        f"{result.target.non_members:,} control {subjects} whom the generator never saw"
        if result.target.non_members is not None
        else f"no control {subjects}"
    )
    lines.append(
        f"- **Based on** {result.target.members:,} {subjects} in the original, {result.extras['tables']['synthetic']:,} synthetic "
        f"records and {others}."
    )
    failed = [check.title for check in result.checks if check.passed is False]
    total = sum(check.passed is not None for check in result.checks)
    doubts = f" Not passed: {' '.join(failed)} See *How sure we are*." if failed else ""
    lines.append(f"- **Validity:** {total - len(failed)} of {total} checks passed.{doubts}")
    return markdown("\n".join(lines))


def threat_table(plan: Plan) -> Any:
    """Return who attacks, as questions and answers."""
    knows = ["of each person they ask about: " + (", ".join(plan.known) or "every column but the secret in question")]
    if "population" in plan.threat.knowledge:
        knows.append("records of other people of the kind")
    if "recipe" in plan.threat.knowledge:
        knows.append("the generator, so that they can make such tables of their own")
    rows = [
        (
            question,
            "; ".join(knows)
            if question.startswith("What does the attacker know")
            else answer.partition(", and nothing of")[0],
        )
        for question, answer in plan.threat.in_words()
        if not question.startswith("What do they believe")
    ]
    return table(["Question", "Answer"], rows)


def target_table(plan: Plan) -> Any:
    """Return what is audited."""
    release, tables, notes = plan.release, plan.tables, plan.notes
    first, second = plan.links or ((), ())
    rows = [
        ("Name", release.name),
        ("Original: the generator learnt from it", f"{len(tables.original):,} records"),
        ("Synthetic: to be released", f"{len(tables.synthetic):,} records"),
        ("Control: the generator never saw it", f"{len(tables.control):,} records" if tables.control else "none"),
        (
            "Reference: what the attacker holds",
            f"{len(tables.reference):,} records, from {notes['reference']}"
            if tables.reference and "reference" in notes
            else "none",
        ),
        ("Columns", ", ".join(release.columns)),
        ("Secrets", ", ".join(plan.secrets) if release.secrets else "every column, since none was named"),
        ("Two sources, for linking", f"{', '.join(first)} / {', '.join(second)}"),
        ("Synthetic records that equal a real one", share(notes["copies"])),
    ]
    if notes["left_out_columns"]:
        rows.append(("Left out, not in all tables", ", ".join(notes["left_out_columns"])))
    return table(["Item", "Value"], rows)


def plan_of_attack(plan: Plan) -> Any:
    """Return each kind of attack in one sentence, and who is attacked."""
    attacked = f"{len(plan.tables.people):,} {plan.release.subjects} of the original"
    if plan.tables.control is not None:
        attacked += f" and {len(plan.tables.others):,} of the control table"
    note = f"Linkability and inference were tried on {attacked}; singling out by up to {plan.queries:,} conditions of each kind on all."
    return as_html(table_html(["Attack", "Idea", "Source"], KINDS) + f"<p>{note}</p>")


def risk_table(result: Result) -> Any:
    """Return right guesses about the original's people, about control people and at random, with the residual risk."""
    rows, left_out = [], 0
    for family in ("singling_out", "linkability", "inference"):
        mine = [attack for attack in result.attacks if attack.family == family]
        ran = sorted([a for a in mine if a.status == "ok"], key=_order) if family == "inference" else mine
        left_out += max(0, len(ran) - LISTED)
        rows += [_risk_row(attack, result.extras["tables"]["original"]) for attack in ran[:LISTED]]
    heads = ["Attack", "Right: original / control", "At random", "Residual risk, %", "p, adjusted"]
    note = f"Right: right guesses about {result.target.subjects} in the original and in the control table. In brackets: {base.level(result)} ranges. The p-values are adjusted for all {result.extras['any_finding']['of']} attacks."
    note += _at_size(result)
    if left_out:
        note += (
            f" Of the inference attacks, the {LISTED} whose range begins highest are shown; the result file has all."
        )
    if result.target.non_members is None:
        note = (
            f"No residual risk is shown: {UNTOLD}. Right: right guesses about {result.target.subjects} in the original; of the "
            f"inference attacks, up to {LISTED} are shown."
        )
    return as_html(f"{table_html(heads, rows)}<p>{note}</p>")


def _at_size(result: Result) -> str:
    """Return how singling out reads where the control table is smaller than the original; nothing where it is not."""
    attack = next((a for a in result.attacks if a.family == "singling_out" and a.status == "ok"), None)
    original, control = result.extras["tables"]["original"], result.target.non_members
    if attack is None or not control or control >= original:
        return ""
    said = (
        f" Singling out is compared at {attack.parameters['compared at']:,} records, the size of the smaller table; behind "
        "*whole* stands how many of the conditions isolate somebody in the whole original."
    )
    if 2 * control < original:
        said += (
            f" The control table has {share(control / original)} of the original's size, and a condition that isolates one person "
            f"of the original meets that person in a part of this size only {share(control / original)} of the time: a leak reads "
            f"about {original / control:.1f} times smaller here than it is."
        )
    return said.replace("*whole*", "<em>whole</em>")


def _order(attack: AttackResult) -> float:
    risk, rate = attack.measure("risk"), attack.measure("rate")
    return -risk.low if risk else 1.0 - (rate.value if rate else 0.0)


def _risk_row(attack: AttackResult, original: int) -> tuple[str, ...]:
    if attack.status != "ok":
        return attack.title, f"{attack.status}: {attack.reason}", "", "", ""
    rate, control, guess, risk = (attack.measure(name) for name in ("rate", "control_rate", "guess_rate", "risk"))
    p = attack.parameters.get("p_value")
    found = attack.parameters.get("found")
    tried = f" of {found:,}" if found is not None else ""
    whole, size = attack.parameters.get("rate in the whole original"), attack.parameters.get("compared at")
    if whole is not None and control and size and size < original:
        tried += f"; whole: {share(whole)}"
    return (
        attack.title,
        f"{share(rate.value) if rate else ''} / {share(control.value) if control else 'not known'}{tried}",
        share(guess.value) if guess else "",
        _bare(risk) if risk else ("none to be had" if control else "not known"),
        _p(p),
    )


def _bare(risk: Interval) -> str:
    return f"{100 * risk.value:.1f} ({100 * risk.low:.1f} to {100 * risk.high:.1f})"


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "under 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.995 else "1"


def membership_table(result: Result) -> Any:
    """Return the membership scores: AUC, and hits at few false alarms."""
    scores = [attack for attack in result.attacks if attack.family == "membership"]
    if not any(attack.status == "ok" for attack in scores):
        return markdown(f"Not tested: {scores[0].reason}.")
    rows: list[tuple[str, ...]] = []
    for attack in sorted(scores, key=_by_auc):
        auc = attack.measure("auc")
        if attack.status != "ok" or auc is None:
            rows.append((attack.title, f"{attack.status}: {attack.reason}", "", ""))
            continue
        hits = [
            f"{share(p.tpr.value)} ({share(p.tpr.low)} to {share(p.tpr.high)})" if p.tpr else "not resolvable"
            for p in attack.tpr_at_fpr
        ]
        rows.append((attack.title, base.interval(auc), *hits))
    heads = ["Score", f"AUC ({base.level(result)} range)", "Hits at 1 % false alarms", "Hits at 10 % false alarms"]
    return table(heads, rows)


def _by_auc(attack: AttackResult) -> float:
    auc = attack.measure("auc")
    return -auc.value if auc else 0.0


def column_table(result: Result) -> Any:
    """Return which columns, and which pairs of columns, carry successful attacks."""
    data = result.extras["columns"]
    if "reason" in data:
        return markdown(f"Not tested: {data['reason']}.")
    limit = 1 - result.parameters["confidence"]
    pairs = [
        (f"{row['first']} with {row['second']}", _rates(row), _range(row), _p(row["p_value"]), _act(row, limit))
        for row in data["pairs"][: LISTED if any(row["p_value"] < limit for row in data["pairs"]) else 5]
    ]
    single = [
        (row["column"], _rates(row), _range(row), _p(row["p_value"]), _coarser(row, limit))
        for row in data["columns"][:LISTED]
    ]
    shown = sum(row["p_value"] < limit for row in data["pairs"])
    lead = (
        f"<p>{shown} of the {data['tried']} pairs of columns that were compared help to single out real people more often than "
        "chance explains.</p>"
        if shown
        else f"<p>None of the {data['tried']} pairs of columns that were compared helps to single out real people more often than "
        "chance explains.</p>"
    )
    heads = ["Right, original / control", "Residual risk, %", "p, adjusted"]
    return as_html(
        lead
        + table_html(["Conditions on", *heads, "What to do"], pairs)
        + ("<p>Single values that isolate a synthetic record:</p>" if single else "")
        + (table_html(["One value of", *heads, "What to do"], single) if single else "")
        + f"<p>{html.escape(_without(data['without']))}</p>"
    )


def _rates(row: dict[str, Any]) -> str:
    if row["risk"] is None:
        return f"{row['queries']} tried" if row["queries"] else "no such value"
    return f"{share(row['rate'])} / {share(row['control'])} of {row['queries']:,}"


def _range(row: dict[str, Any]) -> str:
    return "" if row["risk"] is None else f"{100 * row['risk']:.1f} ({100 * row['low']:.1f} to {100 * row['high']:.1f})"


def _act(row: dict[str, Any], limit: float) -> str:
    return "do not publish together as they are" if row["p_value"] < limit else "nothing found"


def _coarser(row: dict[str, Any], limit: float) -> str:
    return "make it coarser, or drop it" if row["p_value"] < limit else "nothing found"


def _without(falls: dict[str, dict[str, float]]) -> str:
    """Return which columns an attacker needs for inference, in a sentence."""
    if not falls:
        return ""
    sure = sorted((name for name in falls if falls[name]["fall_low"] > 0), key=lambda name: -falls[name]["fall"])
    if not sure:
        return "No single column makes the inference of secrets surely harder when the attacker does not know it."
    named = "; ".join(f"{name}, by {100 * falls[name]['fall']:.1f} points" for name in sure[:5])
    return f"The lead of inference in the original falls when the attacker does not know a column: {named}."


def sweep_table(result: Result) -> Any:
    """Return which few columns together give a secret away or tie two sources together, and what to do about it."""
    data = result.extras["sweep"]
    if "reason" in data:
        return markdown(f"Not tested: {data['reason']}.")
    limit = 1 - result.parameters["confidence"]
    above = [row for row in data["rows"] if given_away(row, limit)]
    lead = (
        f"{data['tried']} sets of up to four columns and {data['splits']} ways to divide the columns between two sources were tried on "
        f"{data['searched']:,} {result.target.subjects}. The best {len(data['rows'])} were judged on {data['judged']:,} others: "
        + (f"{len(above)} of them give something away." if above else "none of them surely gives something away.")
    )
    rows = [
        (
            _advised(row) if row in above else _together(row), f"{share(row['rate'])} / {share(row['control'])}", _range(row),
            _p(row["p_value"]),
        )
        for row in [*above, *(row for row in data["rows"] if row not in above)][: max(SHOWN_SETS, min(LISTED, len(above)))]
    ]  # fmt: skip
    heads = ["Columns", "Right, original / control", "Residual risk, %", "p, adjusted"]
    note = (
        "Right: the last-named column, guessed from those before it, or two halves of a record brought together. Ranges and p-values "
        f"hold jointly for all that were judged. Something counts as given away where p is below {limit:.2g} and "
        "the range lies above 0."
    )
    return as_html(f"<p>{html.escape(lead)}</p>{table_html(heads, rows) if rows else ''}<p>{note}</p>")


def given_away(row: dict[str, Any], limit: float) -> bool:
    """Return whether a set of columns gives more away than chance explains."""
    return bool(row["p_value"] < limit and row["low"] > 0)


def _together(row: dict[str, Any]) -> str:
    if "link" in row:
        return f"Two sources: {' / '.join(', '.join(side) for side in row['link'])}"
    return f"{_listed(row['known'])} together with {row['secret']}"


def _advised(row: dict[str, Any]) -> str:
    if "link" in row:
        return f"Do not publish in one table, for two sources could link it: {' / '.join(', '.join(side) for side in row['link'])}"
    return f"Do not publish {_together(row)}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def text_section(result: Result) -> Any:
    """Return what the texts of the release hold, under a heading of its own; nothing where it has none."""
    found = result.extras["texts"]
    if found is None:
        return None
    from leakpro_nb.audits import synthetic_text

    columns = plain(", ".join(found["columns"]))
    return markdown(f"### Texts\n\nPersonal data of the original in {columns}.\n\n{synthetic_text.in_words(found)}")


def group_table(result: Result) -> Any:
    """Return the groups about whom most is inferred."""
    found = result.extras["groups"]
    if not found:
        return markdown("Not tested: there are no control people, or no group has enough people.")
    limit = 1 - result.parameters["confidence"]
    above = [each for each in found if each["p_value"] < limit and each["low"] > 0]
    rows = [
        (
            f"{each['column']}: {each['group']}", each["secret"], f"{each['people']:,} / {each['control_people']:,}",
            f"{share(each['rate'])} / {share(each['control'])}", _range(each),
        )
        for each in (above or found)[:LISTED]
    ]  # fmt: skip
    lead = (
        f"More is inferred about {len(above)} of {len(found)} groups than chance explains; the ranges hold jointly for all groups."
        if above
        else f"More than chance explains is inferred about none of {len(found)} groups; the ranges hold jointly for all groups."
    )
    heads = ["Group", "Secret", "People, original / control", "Right, original / control", "Residual risk, %"]
    return as_html(f"<p>{lead}</p>{table_html(heads, rows)}")


def record_table(result: Result) -> Any:
    """Return the records that stand most alone, by row number."""
    rows = [
        (
            f"{each['record']}", f"{each['alone']:.3f}", "an exact copy" if each["distance"] < 1e-9 else f"{each['distance']:.3f}",
            f"{each['secrets_inferred']:.1f} of {each['secrets']}",
            *([", ".join(f"{k}={v}" for k, v in each["values"].items())] if "values" in each else []),
        )
        for each in result.most_exposed[:LISTED]
    ]  # fmt: skip
    heads = [
        "Record (row number, from 0)",
        "Distance to its five nearest",
        "Distance to the release",
        "Secrets inferred rightly",
    ]
    return table(heads + (["Values"] if rows and len(rows[0]) > len(heads) else []), rows)


def beside_table(result: Result) -> Any:
    """Return the sanity checks and the quality, where they were computed."""
    data = result.extras["beside"]
    rows = [(row["title"], row["share"], _side(row["original"]), _fair(row)) for row in data["distances"]]
    parts = [f"<p>{html.escape(data['warning'])}</p>", table_html(["Check", "Share of", "Original", "Control"], rows)]
    if data["outliers"]:
        row = data["outliers"]
        told = [
            (
                f"{row['count']} outliers",
                "closer to the release than other people are",
                _side(row["original"]),
                _side(row["control"]),
            )
        ]
        parts.append(table_html(["Outliers", "Share that is", "Original", "Control"], told))
    told = [
        (row["secret"], share(row["original"]), "not known" if row["control"] is None else share(row["control"]), _loss(row["loss"]))
        for row in data["disclosure"]
    ]  # fmt: skip
    heads = ["Secret", "Given away, original", "Given away, control", "Anonymity loss"]
    parts.append(table_html(heads, told))
    parts.append(
        "<p>Given away: the share of the synthetic records most alike to a person that have the person's secret (CAP). Anonymity loss "
        "compares that with what the rest of the original tells: 0 and below is nothing, 1 everything; its author takes values below "
        "0.5 to be acceptable.</p>"
    )
    return as_html("".join(parts))


def _loss(value: float) -> str:
    return f"{value:.2f}" if value > 0 else "0 or below"


def _fair(row: dict[str, Any]) -> str:
    return "50 % is fair" if row["name"] == "closer" else _side(row["control"])


def _side(found: dict[str, float] | None) -> str:
    return (
        "not known" if found is None else f"{share(found['value'])} ({share(found['low'])} to {share(found['high'])})"
    )


def quality_table(result: Result) -> Any:
    """Return how well the table serves, beside what it betrays."""
    measured = result.extras["beside"]["quality"]
    if measured is None:
        return markdown("Quality was not asked for (parameter `quality`).")
    if measured["score"] is None:
        return markdown(f"Quality: {measured['note']}.")
    rows = [
        ("Quality: columns and pairs of columns alike to the original's (0 to 1)", f"{measured['score']:.3f}"),
        ("Validity: values that could stand in the original (0 to 1)", f"{measured['validity']:.3f}"),
    ]
    risk = result.verdict.values.get("risk")
    if risk is not None:
        rows.append(("Residual risk of the clearest attack", percent(risk)))
    known = [row for row in measured["columns"] if row["shape"] is not None]
    worst = sorted(known, key=lambda row: row["shape"])[:3]
    rows.append(("Columns least alike", ", ".join(f"{row['column']} ({row['shape']:.2f})" for row in worst)))
    return table(["Quality by SDMetrics, and risk", "Value"], rows)


def meaning(result: Result) -> Any:
    """Return what the figures mean for the people in the original, and the rule behind the verdict."""
    verdict, subjects = result.verdict, plain(result.target.subjects)
    parts = [f"**{verdict.headline}.** {verdict.sentence}"]
    parts.append(
        "The three criteria are those by which the data protection authorities of the European Union tell anonymous from personal "
        "data (Article 29 Working Party, Opinion 05/2014): singling out, linkability, inference. Whether data are personal is a "
        "question of law, which this report helps to answer and does not decide."
    )
    if verdict.level in ("demonstrated", "limited") and "risk" in verdict.values:
        parts.append(
            f"A residual risk of {percent(verdict.values['risk'])} means: of 100 such guesses that would be wrong about other {subjects}, "
            f"about {100 * verdict.values['risk']:.0f} are right about those whose records were in the original."
        )
    elif verdict.level == "not_found":
        parts.append("Other attacks, other knowledge or more records could find more.")
    not_run = [attack.title for attack in result.attacks if attack.status != "ok"]
    if not_run:
        parts.append(
            f"Not run: {plain(', '.join(not_run[:6]))}{f' and {len(not_run) - 6} more' if len(not_run) > 6 else ''}."
        )
    parts.append(f"> **How the verdict is reached.** {verdict.rule}")
    return markdown("\n\n".join(parts))


def advice(result: Result) -> Any:
    """Return what to do next, from the figures at hand."""
    level, limit = result.verdict.level, 1 - result.parameters["confidence"]
    steps = [f"**Mend first:** {check.sentence}" for check in result.checks if check.passed is False]
    if result.target.non_members is None:
        steps.append(
            "**Set records apart before the generator learns,** at random, a tenth to a half of them, and audit again with them as "
            "the control table."
        )
    if level in ("demonstrated", "limited"):
        steps.append("**Do not release this table** to anyone who must not learn about the people in the original.")
        single = [row for row in result.extras["columns"].get("columns", []) if row["p_value"] < limit][:3]
        sets = [row for row in result.extras["sweep"].get("rows", []) if given_away(row, limit) and "known" in row]
        steps += [
            f"**Do not publish {plain(_listed(row['known']))} together with {plain(row['secret'])}:** who knows the former guesses the "
            f"latter rightly of {share(row['rate'])} of the {plain(result.target.subjects)} in the original and of "
            f"{share(row['control'])} of others. Drop one, or make it coarser."
            for row in _smallest(sets)[:3]
        ]
        steps += [
            f"**Make {plain(row['column'])} coarser,** or drop it: {share(row['rate'])} of its rare or extreme values in the release "
            f"isolate a real person ({share(row['control'])} by chance)."
            for row in single
        ]
        pairs = [row for row in result.extras["columns"].get("pairs", []) if row["p_value"] < limit][:3]
        steps += [
            f"**Do not publish {plain(row['first'])} together with {plain(row['second'])}** as they are: {share(row['rate'])} of the "
            f"conditions on both isolate a real person ({share(row['control'])} by chance). Drop one, or make it coarser."
            for row in pairs
        ]
        steps += [
            f"**Make the generator learn less of single {plain(result.target.subjects)}:** larger leaves or stronger regularisation, "
            "fewer columns, fewer training rounds, more records; best, a generator with differential privacy. Then audit again.",
        ]
    elif level == "not_found":
        steps += [
            "**Keep this report** with the release, and repeat the audit for every new release: a second table from the same "
            "original tells more than one.",
            "**Do not read it as a proof of absence:** it holds for these attacks and this knowledge.",
        ]
    else:
        steps.append(
            "**Do not read this as an all-clear,** nor as an accusation. Nothing was shown in either direction."
        )
        if result.target.non_members is not None:
            steps.append(
                f"**Audit with more:** more control records, and more than {count(result.parameters['targets'], 'target')}."
            )
    return markdown("\n".join(f"{i}. {step}" for i, step in enumerate(steps, 1)))


def _smallest(sets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the sets of which no part gives the same secret away: whoever parts those has parted the larger ones."""
    return [
        row
        for row in sets
        if not any(each["secret"] == row["secret"] and set(each["known"]) < set(row["known"]) for each in sets)
    ]


def finish(result: Result) -> None:
    """Put the answer at the top of the notebook, and the whole result where the report finds it."""
    base.finish(result, summary(result))
