"""The verdict on a synthetic table, and one sentence for each criterion by which the law tells anonymous data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leakpro_nb.results import Interval, Verdict
from leakpro_nb.words import plain, share

__all__ = [
    "CRITERIA",
    "EXCLUDED",
    "LIMITED",
    "UNTOLD",
    "RiskFinding",
    "criterion_sentence",
    "percent",
    "strongest",
    "synthetic_verdict",
]

CRITERIA = {
    "singling_out": "Singling out",
    "linkability": "Linkability",
    "inference": "Inference",
    "membership": "Membership",
}
"""Criteria by name: the three of WP29 Opinion 05/2014, and membership, which neither it nor the table asks for."""

LIMITED = 0.05
"""Residual risk that a range must stay above for a leak to count as more than limited: a proposal, not law."""

EXCLUDED = 0.1
"""Residual risk that every range must stay below for nothing to count as found: a proposal, not law."""

SMALLEST = 5e-5
"""Residual risks nearer to 0 are written as 0."""

UNTOLD = "without control people, it cannot tell what the release betrays from what is typical"


@dataclass(frozen=True)
class RiskFinding:
    """What one attack found.

    Parameters
    ----------
    name, title, criterion
        The attack, and the key of ``CRITERIA`` that it belongs to.
    risk
        Residual risk, each with the stated confidence; ``None`` without control people, or where it is not defined.
    joint
        The same with a range that holds together with those of all other attacks.
    p_value
        Adjusted for all attacks (Holm).
    rate, control
        Right guesses about people in the original and about control people.
    """

    name: str
    title: str
    criterion: str
    risk: Interval | None
    joint: Interval | None
    p_value: float
    rate: Interval
    control: Interval | None

    def found(self, confidence: float) -> bool:
        """Whether more was found than chance explains, all attacks taken together."""
        return self.p_value < 1 - confidence and self.joint is not None and self.joint.low > 0

    @property
    def resolved(self) -> bool:
        """Whether the range is short enough to exclude anything."""
        return self.risk is not None and (self.risk.high - self.risk.low) / 2 <= EXCLUDED


def strongest(findings: Sequence[RiskFinding]) -> RiskFinding | None:
    """Return the finding whose joint range begins highest; ``None`` when no risk is defined."""
    known = [finding for finding in findings if finding.joint is not None]
    return max(known, key=lambda f: (f.joint.low, f.joint.value) if f.joint else (0.0, 0.0)) if known else None


def criterion_sentence(criterion: str, findings: Sequence[RiskFinding], confidence: float, subjects: str) -> str:
    """Return what was found under one criterion, with its range, in one sentence."""
    name, mine = CRITERIA[criterion], [finding for finding in findings if finding.criterion == criterion]
    if not mine:
        return f"**{name}:** not tested."
    if all(finding.control is None for finding in mine):
        most = max(mine, key=lambda finding: finding.rate.value)
        return (
            f"**{name}:** {share(most.rate.value)} ({share(most.rate.low)} to {share(most.rate.high)}) of the guesses are right "
            f"({plain(most.title)}); {UNTOLD}."
        )
    best = strongest(mine)
    if best is None or best.joint is None or best.control is None:
        return f"**{name}:** there was nothing to find out: the same guesses are always right about control {subjects} too."
    rates, risk = _rates(best, subjects)
    if best.found(confidence):
        return f"**{name}: found.** {rates}: {risk}."
    best = max((f for f in mine if f.resolved), key=lambda f: f.joint.value if f.joint else -1.0, default=best)
    rates, risk = _rates(best, subjects)
    worst = max((finding.risk.high for finding in mine if finding.risk is not None), default=1.0)
    settled = all(finding.risk is None or finding.risk.high <= EXCLUDED or not finding.resolved for finding in mine)
    told = "not found" if settled and any(f.resolved for f in mine) else "neither shown nor excluded"
    unsettled = "" if worst <= EXCLUDED else f" Up to {percent(worst)} is not excluded for every attack."
    return f"**{name}: {told}.** At the most, {rates}: {risk}.{unsettled}"


def _rates(finding: RiskFinding, subjects: str) -> tuple[str, str]:
    assert finding.joint is not None
    assert finding.control is not None
    rates = (
        f"{share(finding.rate.value)} of the guesses are right about {subjects} in the original and "
        f"{share(finding.control.value)} about control {subjects} ({plain(finding.title)})"
    )
    joint = finding.joint
    return rates, f"residual risk {percent(joint.value)}, range {percent(joint.low)} to {percent(joint.high)}"


def percent(value: float) -> str:
    """Return a residual risk as text; below 0 the attack did better on control people, which is chance."""
    if abs(value) < SMALLEST:
        return share(0.0)
    return f"-{share(-value)}" if value < 0 else share(min(value, 1.0))


def synthetic_verdict(
    findings: Sequence[RiskFinding],
    *,
    failed_gates: Sequence[str],
    failed_checks: Sequence[str] = (),
    control: bool = True,
    confidence: float = 0.95,
    subjects: str = "people",
) -> Verdict:
    """Return the verdict on a release.

    Parameters
    ----------
    findings
        One for each attack that ran.
    failed_gates
        Checks that failed and without which no figure counts.
    failed_checks
        Other checks that failed: a leak can be shown all the same, but its absence cannot.
    control
        Whether there are control people.
    confidence
        Level of the ranges; 1 minus it is the chance of any false finding.
    subjects
        Whom the records are about.
    """
    rule = (
        "The residual risk of an attack is how much more often its guesses are right about the original's "
        f"{subjects} than about control {subjects}, as a share of the guesses that are wrong about the latter. Inconclusive, "
        "whatever the figures: there is no control table, or a check on whether it is comparable, or on whether the attacks "
        "read known leaks rightly, has failed. A leak is shown when an attack's p-value, adjusted for all attacks (Holm), is "
        f"below {share(1 - confidence)}: demonstrated if its range, which holds jointly for all attacks, lies above "
        f"{share(LIMITED)}, else limited. Not found: no leak is shown, no check has failed, every criterion has a "
        f"range at most {share(2 * EXCLUDED)} long, and none of these reaches above {share(EXCLUDED)}; otherwise inconclusive. The "
        "cut-offs are a proposal of this project, not law."
    )
    if not control:
        return _inconclusive(
            "there are no control people",
            "This audit has no records that the generator never saw. Without them it "
            f"{UNTOLD.partition('it ')[2]}. Its figures are those of the release and of the population together.",
            rule,
        )
    if failed_gates:
        return _inconclusive(
            "the comparison cannot be trusted here",
            f"No figure in this report can be relied upon, because a check failed: {failed_gates[0]}",
            rule,
        )
    shown = [finding for finding in findings if finding.found(confidence)]
    values = {"attacks": len(findings), "found": [finding.name for finding in shown]}
    if shown:
        return _shown(shown, findings, confidence, subjects, rule, values)
    resolved = [finding for finding in findings if finding.resolved and finding.risk is not None]
    covered = {finding.criterion for finding in resolved} >= {finding.criterion for finding in findings}
    reach = max((finding.risk.high for finding in resolved if finding.risk), default=1.0)
    values["largest_not_excluded"] = reach
    if not findings or not covered or reach > EXCLUDED:
        return _inconclusive(
            "a leak is neither shown nor excluded",
            f"None of {len(findings)} attacks found more than chance explains, but a residual risk of up to {percent(reach)} "
            "cannot be excluded; attacking more records makes the ranges shorter.",
            rule,
            values,
        )
    if failed_checks:
        return _inconclusive(
            "nothing found, but a check failed",
            f"No leak was found, which proves little, because a check failed: {failed_checks[0]}",
            rule,
            values,
        )
    vague = len(findings) - len(resolved)
    left_out = f" {vague} of the attacks are right about nearly everybody, and say nothing either way." if vague else ""
    return Verdict(
        level="not_found",
        headline="No leak found",
        sentence=(
            f"None of {len(findings)} attacks was right more often about the {subjects} in the original than about control {subjects}; "
            f"a residual risk above {percent(reach)} is excluded for {len(resolved)} of them, each with {share(confidence)} "
            f"confidence.{left_out}"
        ),
        rule=rule,
        values=values,
    )


def _shown(
    shown: Sequence[RiskFinding],
    findings: Sequence[RiskFinding],
    confidence: float,
    subjects: str,
    rule: str,
    values: dict[str, object],
) -> Verdict:
    best = strongest(shown)
    assert best is not None
    assert best.joint is not None
    assert best.control is not None
    kinds = list(dict.fromkeys(CRITERIA[finding.criterion].lower() for finding in shown))
    named = kinds[0] if len(kinds) == 1 else f"{', '.join(kinds[:-1])} and {kinds[-1]}"
    full = best.joint.low > LIMITED
    return Verdict(
        level="demonstrated" if full else "limited",
        headline=f"{'Leak' if full else 'Limited leak'} demonstrated: {named}",
        sentence=(
            f"{len(shown)} of {len(findings)} attacks are right more often about the {subjects} in the original than chance explains "
            f"(at most a {share(1 - confidence)} chance of even one false finding). The clearest, {plain(best.title)}, is right in "
            f"{share(best.rate.value)} of its guesses about them, and in {share(best.control.value)} about control {subjects}: "
            f"residual risk {percent(best.joint.value)}, range {percent(best.joint.low)} to {percent(best.joint.high)}."
        ),
        rule=rule,
        values={
            **values, "attack": best.name, "risk": best.joint.value, "risk_low": best.joint.low, "risk_high": best.joint.high,
        },
    )  # fmt: skip


def _inconclusive(why: str, sentence: str, rule: str, values: dict[str, object] | None = None) -> Verdict:
    return Verdict(
        level="inconclusive", headline=f"Inconclusive: {why}", sentence=sentence, rule=rule, values=values or {}
    )
