"""The verdict on a privacy budget: claim refuted, leakage within the claim, nothing shown, or too few canaries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leakpro_nb.results import Verdict
from leakpro_nb.words import share

__all__ = ["BudgetFinding", "budget_verdict", "nats", "small"]


@dataclass(frozen=True)
class BudgetFinding:
    """What one kind of canary shows by the bound that was fixed beforehand.

    ``bound`` is the lower bound on epsilon, ``ceiling`` the largest that this plan of guesses could have shown,
    ``guesses`` and ``correct`` its counts, ``assumption`` a sentence without which it does not hold (may be empty).
    """

    name: str
    title: str
    bound: float
    ceiling: float
    guesses: int
    correct: int
    assumption: str = ""


def nats(epsilon: float) -> str:
    """Return an epsilon as text.

    >>> nats(2.1724), nats(0.0), nats(float("inf"))
    ('2.17', '0', 'none (infinite)')
    """
    if math.isinf(epsilon):
        return "none (infinite)"
    return f"{epsilon:.2f}" if epsilon > 0 else "0"


def small(delta: float) -> str:
    """Return a delta as text that needs no knowledge of powers of ten.

    >>> small(1e-5), small(0.001), small(2.5e-7)
    ('0.00001', '0.001', '0.00000025')
    """
    return np.format_float_positional(delta, trim="-")


def budget_verdict(
    findings: Sequence[BudgetFinding],
    *,
    claim: float,
    delta: float,
    level: float,
    method: str,
    failed_gates: Sequence[str] = (),
    failed_checks: Sequence[str] = (),
) -> Verdict:
    """Return the verdict on all kinds of canary together.

    Parameters
    ----------
    findings
        One per kind; their bounds hold jointly at ``level``.
    claim
        Epsilon that the training claims at ``delta``; infinite where it claims none.
    level
        Confidence of all bounds together.
    method
        What the report calls the bound that was fixed beforehand.
    failed_gates
        Checks that failed and without which no figure can be believed.
    failed_checks
        Other checks that failed: they forbid "nothing shown" as an answer.
    """
    rule = (
        f"One bound decides, fixed before training: {method}, at delta {small(delta)}, jointly for all kinds of canary with "
        f"{share(level)} confidence. Inconclusive, whatever the figures: the coins of the canaries were not fair, or the "
        "attack finds canaries in a training that had none. Claim refuted: a bound is above the epsilon claimed. Leakage "
        "within the claim: a bound is above 0. Nothing shown: every bound is 0, perfect guesses could have refuted "
        "the claim, and no check failed. Otherwise inconclusive."
    )
    if failed_gates:
        return Verdict(
            level="inconclusive",
            headline="Inconclusive: the experiment is not fair",
            sentence=f"No figure in this report can be put down to the training, because a check failed: {failed_gates[0]}",
            rule=rule,
        )
    best = max(findings, key=lambda finding: (finding.bound, finding.ceiling))
    values = {
        "attack": best.title, "attack_name": best.name, "epsilon_shown": best.bound, "ceiling": best.ceiling,
        "epsilon_claimed": None if math.isinf(claim) else claim, "delta": delta,
    }  # fmt: skip
    shown = (
        f"{best.title}: {best.correct:,} of {best.guesses:,} guesses were right. With {share(level)} confidence this proves "
        f"that epsilon is at least {nats(best.bound)} (at delta {small(delta)})"
    )
    limits = f"Perfect guesses could have proved {nats(best.ceiling)} in this experiment."
    assumed = f" {best.assumption}" if best.assumption else ""
    if best.bound > claim:
        return Verdict(
            level="demonstrated",
            headline="The claimed privacy budget is refuted",
            sentence=f"{shown}, while the training claims at most {nats(claim)}.{assumed}",
            rule=rule,
            values=values,
        )
    if best.bound > 0 and math.isinf(claim):
        return Verdict(
            level="limited",
            headline="Leakage shown; the training claims no privacy budget",
            sentence=f"{shown}; the training itself promises nothing. {limits}{assumed}",
            rule=rule,
            values=values,
        )
    if best.bound > 0:
        return Verdict(
            level="limited",
            headline="Leakage shown, within the claimed privacy budget",
            sentence=(
                f"{shown}; the training claims at most {nats(claim)}, which this does not contradict. {limits} What lies "
                f"between the two, nobody has shown.{assumed}"
            ),
            rule=rule,
            values=values,
        )
    reach = max(finding.ceiling for finding in findings)
    nothing = "The attacks could not tell which canaries took part in training. That is “nothing shown”, not “private”."
    if reach > claim and not failed_checks:
        return Verdict(
            level="not_found",
            headline="Nothing shown against the claimed privacy budget, at this power",
            sentence=f"{nothing} Perfect guesses could have proved an epsilon of {nats(reach)}; the claim is {nats(claim)}.",
            rule=rule,
            values={**values, "ceiling": reach},
        )
    because = (
        f"Moreover a check failed: {failed_checks[0]}"
        if reach > claim
        else f"Nor could this experiment have refuted the claim of {nats(claim)}: with so few canaries, perfect guesses would "
        f"have proved {nats(reach)} at most."
    )
    return Verdict(
        level="inconclusive",
        headline=f"Inconclusive: nothing shown, and {'a check failed' if reach > claim else 'the claim could not be tested'}",
        sentence=f"{nothing} {because}",
        rule=rule,
        values={**values, "ceiling": reach},
    )
