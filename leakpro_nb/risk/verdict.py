"""The verdict: leakage demonstrated, limited, not found at this power, or inconclusive.

Two-sided by construction: what the lower bound demonstrates, and what the upper bound cannot exclude.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import yaml

from leakpro_nb.measures import BeliefGain, records_needed
from leakpro_nb.results import Verdict
from leakpro_nb.words import plain, share

__all__ = ["Finding", "Levels", "load_levels", "verdict"]


@dataclass(frozen=True)
class Levels:
    """Cut-offs on the belief gain, and where they come from."""

    version: str
    negligible: float
    limited: float
    provenance: str


@dataclass(frozen=True)
class Finding:
    """What one attack reached at the false-positive rate fixed beforehand: its TPR with an interval, and its gain.

    ``fpr`` is the rate realised: above the one fixed for an attack that only says yes or no.
    """

    name: str
    title: str
    fpr: float
    tpr: float
    tpr_low: float
    tpr_high: float
    gain: BeliefGain


@lru_cache
def load_levels() -> Levels:
    """Read the cut-offs that ship with the package."""
    return Levels(**yaml.safe_load(files(__package__).joinpath("levels.yaml").read_text(encoding="utf-8")))


def verdict(  # noqa: PLR0911 - one return for each verdict
    findings: Sequence[Finding],
    *,
    failed_gates: Sequence[str],
    fpr: float,
    prior: float,
    level: float,
    failed_checks: Sequence[str] = (),
    non_members: int | None = None,
    subjects: str = "people",
    levels: Levels | None = None,
) -> Verdict:
    """Return the verdict on all attacks together.

    Parameters
    ----------
    findings
        One per attack that ran; their bounds must hold jointly (Bonferroni over the attacks).
    failed_gates
        Validity checks that failed: with any of them, no figure can be put down to the model.
    failed_checks
        Other checks that failed: leakage can be demonstrated all the same, but its absence cannot.
    non_members
        How many there are, to tell too small a sample from attacks that did not run.
    fpr
        The false-positive rate fixed beforehand.
    prior
        Share of members among the people whom the attacker considers.
    level
        Confidence level of each finding's bounds, for the number of records needed.
    subjects
        Whom the records are about.
    levels
        Cut-offs; the package's own by default.
    """
    levels = levels or load_levels()
    rule = (
        f"At a false-positive rate of at most {share(fpr)} (for an attack whose scores are too coarse for that, such as yes or no: at its own) and a prior of {share(prior)}, an accusation raises the attacker's "
        f"belief by the gain G = (precision - prior) / (1 - prior). Inconclusive, whatever the figures: one of the checks on "
        f"whether the groups differ by themselves, whether the attacks invent leakage, and whether the shadow models know the "
        f"truth has failed. Demonstrated: the lower confidence bound of G is above {levels.limited}; limited: above "
        f"{levels.negligible}; not found: the upper bound of every attack is at most {levels.negligible} and no check has "
        f"failed; otherwise inconclusive. The bounds hold jointly for all attacks, each at {level:.2%}. Cut-offs: version "
        f"{levels.version}, a proposal of this project, not law."
    )
    if failed_gates:
        return Verdict(
            level="inconclusive",
            headline="Inconclusive: the comparison is not fair",
            sentence=f"No figure in this report can be put down to the model, because a check failed: {failed_gates[0]}",
            rule=rule,
        )
    small = non_members is not None and non_members * fpr < 1
    if not findings:
        return Verdict(
            level="inconclusive",
            headline=f"Inconclusive: {'too few records' if small else 'no attack gave a figure'}",
            sentence=(
                f"No attack could be measured at the false-positive rate fixed beforehand, {share(fpr)}: that takes at least "
                f"{math.ceil(1 / fpr):,} records that did not train the model, and {math.ceil(3 / fpr):,} for a firm figure."
                if small
                else "None of the attacks that were asked for could run; the report says why for each of them."
            ),
            rule=rule,
        )
    best = max(findings, key=lambda finding: (finding.gain.low, finding.gain.gain))
    reach = max(finding.gain.high for finding in findings)
    values = {
        "attack": best.title,
        "attack_name": best.name,
        "fpr": fpr,
        "fpr_realised": best.fpr,
        "tpr": best.tpr,
        "tpr_low": best.tpr_low,
        "tpr_high": best.tpr_high,
        "precision": best.gain.precision,
        "precision_low": best.gain.precision_low,
        "precision_high": best.gain.precision_high,
        "gain": best.gain.gain,
        "gain_low": best.gain.low,
        "gain_high": best.gain.high,
        "gain_not_excluded": reach,
        "levels_version": levels.version,
    }
    accuse = (
        f"{_price(best.fpr, fpr)} picks out {share(best.tpr)} ({share(best.tpr_low)} to "
        f"{share(best.tpr_high)}) of the {plain(subjects)} whose records trained the model. Someone accused this way was "
        f"truly in the training data with a probability of {share(best.gain.precision)} ({share(best.gain.precision_low)} to "
        f"{share(best.gain.precision_high)}); before the attack it was {share(prior)}. The ranges hold with "
        f"{share(1 - (1 - level) * len(findings))} confidence for all attacks together."
    )
    if best.gain.low > levels.limited:
        return Verdict(level="demonstrated", headline="Leakage demonstrated", sentence=accuse, rule=rule, values=values)
    if best.gain.low > levels.negligible:
        return Verdict(
            level="limited",
            headline="Limited leakage demonstrated",
            sentence=accuse,
            rule=rule,
            values=values,
        )
    if reach <= levels.negligible and not failed_checks:
        return Verdict(
            level="not_found",
            headline="No leakage found by the attacks run, at this power",
            sentence=(
                f"None of the attacks raises the belief about an accused person by more than {share(reach)} of what is "
                "possible. This is evidence only against the attacks that were run."
            ),
            rule=rule,
            values=values,
        )
    if reach <= levels.negligible:
        return Verdict(
            level="inconclusive",
            headline="Inconclusive: nothing found, but a check failed",
            sentence=f"The attacks found nothing, which proves little, because a check failed: {failed_checks[0]}",
            rule=rule,
            values=values,
        )
    needed = records_needed(fpr, levels.negligible, prior=prior, level=level)
    return Verdict(
        level="inconclusive",
        headline="Inconclusive: leakage neither shown nor excluded",
        sentence=(
            f"The attacks did not demonstrate leakage, but with so few records {_excluded(reach)} cannot "
            f"be excluded. To exclude it at this false-positive rate, about {needed:,} records that trained the model and "
            "as many that did not are needed."
        ),
        rule=rule,
        values={**values, "records_needed": needed},
    )


def _excluded(reach: float) -> str:
    """Return how much surer the attacker may still become, in words."""
    return "a gain of any size" if reach > 0.9995 else f"a gain of up to {share(reach)}"


def _price(realised: float, fixed: float) -> str:
    if realised > fixed:
        return f"An attacker who wrongly accuses {share(realised)} of the others, the least that this attack can do,"
    return f"An attacker who accepts one false alarm in {1 / fixed:,.0f}"
