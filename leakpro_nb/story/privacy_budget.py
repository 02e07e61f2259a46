"""What the report of the privacy-budget audit says, for a reader such as a data-protection officer."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING, Any

from leakpro_nb.results import Result
from leakpro_nb.risk.budget import nats, small
from leakpro_nb.story import base
from leakpro_nb.story.base import (
    as_html,
    checks,
    interval,
    markdown,
    placeholder,
    repeat,
    table,
    table_html,
    threat_table,
)
from leakpro_nb.words import plain, share

if TYPE_CHECKING:
    from leakpro_nb.audits.privacy_budget import Canaries, Plan

__all__ = [
    "advice",
    "bound_table",
    "canary_table",
    "checks",
    "exposed",
    "finish",
    "found",
    "meaning",
    "placeholder",
    "repeat",
    "summary",
    "target_table",
    "threat_table",
]


def target_table(plan: Plan, canaries: Canaries) -> Any:
    """Return which training is audited, and what it claims."""
    target, claim = plan.target, canaries.claim
    how = plan.mechanism.describe() if plan.mechanism is not None else target.recipe.describe() if target.recipe else ""
    rows = [
        ("Name", target.name),
        ("Kind of model", target.kind),
        ("How it is trained", how),
        ("Records that train it here", f"{len(canaries.base):,}, and those canaries that a coin lets in"),
        ("Epsilon it claims, with canaries", nats(claim.epsilon)),
        ("Delta of the claim", f"{small(plan.delta)}"),
        ("Who worked that out", claim.accountant),
    ]
    if canaries.accounted is not None and canaries.accounted.epsilon != claim.epsilon:
        rows.append(
            ("Epsilon by the accountant", f"{nats(canaries.accounted.epsilon)} ({canaries.accounted.accountant})")
        )
    members = target.records.members
    if plan.mechanism is not None and members is not None and plan.stated is None:
        own = plan.mechanism.claim(int(members.sum()), plan.delta).epsilon
        rows.append((f"Epsilon of the model in use ({int(members.sum()):,} records, no canaries)", nats(own)))
    if claim.assumptions:
        rows.append(("What the claim rests on", " ".join(claim.assumptions)))
    return as_html(f"{table_html(['Item', 'Value'], rows)}<p>{html.escape(_in_words(claim.epsilon, plan.delta))}</p>")


def _in_words(epsilon: float, delta: float) -> str:
    if math.isinf(epsilon):
        return "No epsilon is claimed: nothing limits what a model trained this way gives away about one record."
    believes = 1 / (1 + math.exp(-epsilon))
    return (
        f"In words: whoever holds it for equally likely that a certain record was used and that it was not, and then sees "
        f"everything that training released, is afterwards at most {share(believes)} sure. Delta ({small(delta)}) is the part of "
        "all cases in which this may fail."
    )


def canary_table(plan: Plan, canaries: Canaries) -> Any:
    """Return the kinds of canary, how many were let in, and those that cannot be used, with the reason."""
    rows = [
        (
            kind.title,
            kind.idea,
            f"{int(canaries.inserted[name].sum()):,} of {canaries.inserted[name].size:,}",
            kind.paper,
        )
        for name, kind in plan.kinds.items()
    ]
    parts = [table_html(["Canaries", "Idea", "Let in by their coin", "Source"], rows)]
    if plan.refused:
        from leakpro_nb.attacks.usage.canaries import KINDS

        left_out = [(KINDS[name]().title, reason) for name, reason in plan.refused.items()]
        parts.append(table_html(["Left out", "Because"], left_out))
    return as_html("".join(parts))


def bound_table(result: Result) -> Any:
    """Return each bound beside what it could have shown, then what each rests on."""
    bounds, claim = result.extras["bounds"], result.extras["claim"]
    several = len({each["canary"] for each in bounds}) > 1
    names = {attack.name: attack.title for attack in result.attacks}
    rows = [
        (
            (f"{names[each['canary']]}: " if several else "")
            + each["title"]
            + (" – decides" if _decides(result, each) else ""),
            f"{nats(each['eps'])}",
            f"{nats(each['plan_ceiling'])}",
            f"{each['correct']:,} of {each['guesses']:,}",
        )
        for each in bounds
    ]
    heads = ["Bound", "Epsilon shown, at least", "Had all guesses been right", "Right guesses"]
    level = share(bounds[0]["confidence"])
    note = (
        f"The training claims {_claimed(result)}. Each bound holds with {level} confidence (the Bayesian one: {level} "
        f"credible) at delta {small(bounds[0]['delta'])}. Only the bound marked “decides” was fixed as the answer before training; "
        "to pick the largest of several afterwards would overstate what was shown. 0 is “nothing shown”, not “private”. For "
        "bounds from hits and false alarms, “right guesses” are the hits among all who were accused."
    )
    if several:
        note += (
            f" The deciding bounds of all kinds of canary hold together with {share(result.parameters['confidence'])}."
        )
    seen = {each["title"]: each["assumption"] or "Fair coins, and nothing about the training." for each in bounds}
    rests = table_html(["Bound", "What it rests on"], seen.items())
    accountant = result.extras["accountant"]
    if accountant is not None and accountant["epsilon"] != claim["epsilon"]:
        counted = math.inf if accountant["epsilon"] is None else accountant["epsilon"]
        note += f" The accountant says {nats(counted)} for these settings, not {_claimed(result)}."
    return as_html(f"{table_html(heads, rows)}<p>{html.escape(note)}</p>{rests}")


def _decides(result: Result, each: dict[str, Any]) -> bool:
    return each["method"] == result.extras["headline"]


def _claimed(result: Result) -> str:
    claim = result.extras["claim"]["epsilon"]
    return "no epsilon" if claim is None else f"an epsilon of at most {nats(claim)}"


def summary(result: Result) -> Any:
    """Return the answer in one minute."""
    verdict = result.verdict
    lines = [f"**{verdict.headline}.** {verdict.sentence}", ""]
    deciding = [each for each in result.extras["bounds"] if _decides(result, each)]
    names = {attack.name: attack.title for attack in result.attacks}
    by_kind = "; ".join(
        f"{names[each['canary']]} {nats(each['eps'])} of {nats(each['plan_ceiling'])}" for each in deciding
    )
    lines.append(
        f"- **Epsilon shown, of what perfect guesses would have shown:** {by_kind}. Claimed: {_claimed(result)}."
    )
    m = sum(each["m"] for each in deciding)
    runs = result.parameters["runs"]
    lines.append(
        f"- **Based on** {m:,} canaries, about half of them let into training by a coin, and {runs} audited "
        f"training{'s' if runs > 1 else ''}. The model in use was not asked; the way it is trained was repeated."
    )
    failed = [check.title for check in result.checks if check.passed is False]
    total = sum(check.passed is not None for check in result.checks)
    doubts = f" Not passed: {' '.join(failed)} See *How sure we are*." if failed else ""
    lines.append(f"- **Validity:** {total - len(failed)} of {total} checks passed.{doubts}")
    return markdown("\n".join(lines))


def exposed(result: Result) -> Any:
    """Return how well each kind of canary was found."""
    rows = [
        (attack.title, interval(auc), f"{attack.records_scored:,}")
        if (auc := attack.measure("auc"))
        else (attack.title, f"not used: {attack.reason}", "")
        for attack in result.attacks
    ]
    return table(["Canaries", "AUC (0.5 is guessing, 1 is certainty)", "Number"], rows)


def found(result: Result) -> Any:
    """Return the mislabelled records that were found most surely; ``None`` where there were none."""
    if not result.most_exposed:
        return None
    others = next(group.non_members for group in result.exposures if group.group == "Mislabelled records")
    others = round(others / result.parameters["runs"])
    rows = [
        (
            f"{entry['record']}",
            f"{entry['label']}",
            f"{entry['score']:.3f}",
            f"{entry['others_as_high']:,} of about {others:,}",
            *([", ".join(f"{k}={v}" for k, v in entry["values"].items())] if "values" in entry else []),
        )
        for entry in result.most_exposed
    ]
    heads = ["Record (row number)", "Wrong label given", "Score", "Canaries left out that score as high"]
    return table(heads + (["Values"] if len(rows[0]) > len(heads) else []), rows)


def meaning(result: Result) -> Any:
    """Return what the figures mean, and the rule behind the verdict."""
    verdict, values = result.verdict, result.verdict.values
    parts = [f"**{verdict.headline}.** {verdict.sentence}"]
    bound = values.get("epsilon_shown", 0.0)
    if bound > 0:
        parts.append(
            f"An epsilon of {nats(bound)} means: someone who held it for a toss-up whether a record was used can come to be "
            f"{share(1 / (1 + math.exp(-bound)))} sure. The canaries are made to give themselves away; "
            f"the records of ordinary {plain(result.target.subjects)} may well give away less."
        )
    parts.append(
        "The audit bounds epsilon **from below**: it can refute a claim, never prove one. What the claim itself rests on is the "
        "mathematics of the training and a correct program; an audit such as this is a test of the program."
    )
    parts.append(
        "**What was audited is the way of training, not the model in use:** models were trained anew by the same recipe, on the "
        "same records and on canaries. If the model in use was trained in another way, nothing here applies to it."
    )
    gaussian = [
        each["title"]
        for each in result.extras["bounds"]
        if each["method"] != result.extras["headline"]
        and result.extras["claim"]["epsilon"] is not None
        and each["eps"] > result.extras["claim"]["epsilon"]
    ]
    if gaussian and verdict.level != "demonstrated":
        parts.append(
            f"A bound that was not fixed as the answer is above the claim ({', '.join(sorted(set(gaussian)))}). That is a reason "
            "to audit again, with that bound named first and another seed; by itself it refutes nothing."
        )
    parts.append(f"> **How the verdict is reached.** {verdict.rule}")
    return markdown("\n\n".join(parts))


def advice(result: Result) -> Any:
    """Return what to do next, from the figures at hand."""
    level, claim = result.verdict.level, result.extras["claim"]["epsilon"]
    power = next((check for check in result.checks if check.name == "power"), None)
    steps = []
    if level == "demonstrated":
        steps += [
            "**Withdraw the claim.** Do not state this epsilon in any document until the cause is found.",
            "**Look for the cause** in this order: is the noise added, and once per step; is each record's gradient clipped by "
            "itself; are records drawn at random as the accountant assumes; are all passes over the data counted?",
            "**Audit the mended training again**, with another seed.",
        ]
    elif level == "limited" and claim is None:
        steps.append("**Train with differential privacy** if a limit on what the model gives away is to be stated.")
    elif level in ("limited", "not_found"):
        if any(check.name == "mechanism" and check.passed is not True for check in result.checks):
            steps.append(
                "**Find out what the claim rests on.** The recipe names neither clipping nor noise that could be watched, and "
                "a claim that no mechanism keeps is worth nothing, whatever this audit failed to show."
            )
        steps.append(
            "**Keep the claim and this report together**: the claim says what may leak at most, "
            "the audit what was shown to leak at least."
        )
        steps.append("**Audit again** whenever the training code, its libraries or its settings change.")
    else:
        steps += [
            f"**Mend first:** {plain(check.sentence)}"
            for check in result.checks
            if check.passed is False and check.name != "power"
        ]
        steps.append("**Do not read this as an all-clear.** Nothing was shown in either direction.")
    if level != "demonstrated" and power is not None and power.passed is False:
        steps.append(
            "**Raise what this audit could show** if more certainty is needed: more canaries (`num_canaries`), more runs "
            "(`runs`), or more guesses (`guess_share`) where the attack is strong."
        )
    if claim is not None and claim > 3 and level != "demonstrated":
        steps.append(
            f"**Ask whether an epsilon of {nats(claim)} is small enough.** It allows an attacker to go from a toss-up to "
            f"{share(1 / (1 + math.exp(-claim)))} certainty. More noise or fewer steps make it smaller, at a price in accuracy."
        )
    if "gradient" not in [each["canary"] for each in result.extras["bounds"]] and level != "demonstrated":
        steps.append(
            "**Use a stronger attack** where training is DP-SGD: gradient canaries, with a threat model of `access: white_box`."
        )
    return markdown("\n".join(f"{i}. {step}" for i, step in enumerate(steps, 1)))


def finish(result: Result) -> None:
    """Put the answer at the top of the notebook, and the whole result where the report finds it."""
    base.finish(result, summary(result))
