"""The verdict on the use of a collection: shown, shown for a small part only, not found, or open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leakpro_nb.results import Interval, Verdict
from leakpro_nb.words import plain, share

__all__ = ["NEGLIGIBLE", "UsageFinding", "usage_verdict"]

NEGLIGIBLE = 0.05
"""Share of a collection below which its use counts as small: a proposal of this project, not law."""


@dataclass(frozen=True)
class UsageFinding:
    """Which share of ``records`` records was used; ``name`` is empty for the whole collection."""

    name: str
    records: int
    used: Interval


def usage_verdict(  # noqa: PLR0911 - one return for each verdict
    findings: Sequence[UsageFinding],
    *,
    failed_gates: Sequence[str],
    failed_checks: Sequence[str] = (),
    refusal: str = "",
    confidence: float = 0.95,
) -> Verdict:
    """Return the verdict on a collection and its parts.

    Parameters
    ----------
    findings
        One for the whole collection, one for each part that could be estimated; their intervals must hold jointly.
    failed_gates
        Checks that failed and without which no figure counts.
    failed_checks
        Other checks that failed: use can be shown all the same, but its absence cannot.
    refusal
        Why there is no finding, where there is none.
    confidence
        With which all intervals hold together.
    """
    rule = (
        f"The share of records used is estimated with a range; the ranges of the collection and of all its parts hold together "
        f"with {share(confidence)} confidence. Inconclusive, whatever the figures: a check on known shares, on records known "
        "not to have been used, on the look-alike models' independence, or on whether the share is possible at all has failed. "
        f"Use demonstrated: the lower end of a range is above {share(NEGLIGIBLE)}; limited use demonstrated: above 0 %; not "
        f"found: no range reaches above {share(NEGLIGIBLE)} and no check has failed; otherwise inconclusive. The cut-off of "
        f"{share(NEGLIGIBLE)} is a proposal of this project, not law."
    )
    if failed_gates:
        return Verdict(
            level="inconclusive",
            headline="Inconclusive: the estimate cannot be trusted here",
            sentence=f"No figure in this report can be relied upon, because a check failed: {failed_gates[0]}",
            rule=rule,
        )
    if not findings:
        return Verdict(
            level="inconclusive",
            headline="Inconclusive: the share could not be estimated",
            sentence=f"No share could be estimated: {refusal}.",
            rule=rule,
        )
    best = max(findings, key=lambda finding: (_above(finding.used.low), not finding.name, finding.used.low))
    reach = max(finding.used.high for finding in findings)
    values = {
        "part": best.name, "records": best.records, "used": best.used.value, "used_low": best.used.low,
        "used_high": best.used.high, "largest_not_excluded": reach,
    }  # fmt: skip
    whom = "the collection" if not best.name else plain(best.name)
    figures = (
        f"At least {share(best.used.low)} of the {best.records:,} records of {whom} were used to train the model; the best "
        f"estimate is {share(best.used.value)}, the range {share(best.used.low)} to {share(best.used.high)}."
    )
    others = [finding for finding in findings if finding.name and finding is not best]
    if others:
        parts = "; ".join(
            f"{plain(other.name)}: {share(other.used.value)} ({share(other.used.low)} to {share(other.used.high)})"
            for other in others[:8]
        )
        more = "" if len(others) <= 8 else f"; and {len(others) - 8} more"
        figures += f" By part: {parts}{more}."
    figures += f" All ranges together hold with {share(confidence)} confidence."
    if best.used.low > NEGLIGIBLE:
        return Verdict(level="demonstrated", headline="Use demonstrated", sentence=figures, rule=rule, values=values)
    if best.used.low > 0:
        return Verdict(level="limited", headline="Limited use demonstrated", sentence=figures, rule=rule, values=values)
    if reach <= NEGLIGIBLE and not failed_checks:
        return Verdict(
            level="not_found",
            headline="No use found",
            sentence=(
                f"There is no sign that any of these records trained the model, and a use of more than {share(reach)} is "
                f"excluded with {share(confidence)} confidence. A use of single records, or of fewer, would not show."
            ),
            rule=rule,
            values=values,
        )
    if reach <= NEGLIGIBLE:
        return Verdict(
            level="inconclusive",
            headline="Inconclusive: no use found, but a check failed",
            sentence=f"No use was found, which proves little, because a check failed: {failed_checks[0]}",
            rule=rule,
            values=values,
        )
    return Verdict(
        level="inconclusive",
        headline="Inconclusive: use neither shown nor excluded",
        sentence=(
            f"The estimate does not show that any of the records were used, but a use of up to {share(reach)} cannot be "
            "excluded. More shadow models make the range shorter."
        ),
        rule=rule,
        values=values,
    )


def _above(low: float) -> int:
    """Return 2, 1 or 0 for demonstrated, limited or neither."""
    return 2 if low > NEGLIGIBLE else int(low > 0)
