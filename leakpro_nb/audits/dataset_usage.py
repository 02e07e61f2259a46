"""The usage audit: how much of a collection of records trained the model?

The notebook calls these functions in order; each hands its result to the next:
``prepare`` → ``train`` → ``observe`` → ``estimate`` → ``measure`` → ``save``.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import leakpro_nb
from leakpro_nb.attacks import NotApplicable
from leakpro_nb.attacks.usage import DatasetUsage
from leakpro_nb.attacks.usage.dataset_usage import (
    FEWEST_PAIRS,
    Play,
    Rates,
    Score,
    Share,
    complementary_pairs,
    rates,
    share_used,
)
from leakpro_nb.audits import common, exposure, validity
from leakpro_nb.errors import InputError
from leakpro_nb.game.models import kind_of
from leakpro_nb.game.target import Target
from leakpro_nb.game.threat import ThreatModel
from leakpro_nb.game.views import References, View
from leakpro_nb.results import AttackResult, Check, Exposure, Interval, Measure, Result, TargetCard
from leakpro_nb.risk.usage import UsageFinding, usage_verdict
from leakpro_nb.shadows.ensemble import Shadows, train_shadows
from leakpro_nb.words import share as percent

__all__ = [
    "GATES",
    "RUNGS",
    "Estimates",
    "Part",
    "Plan",
    "estimate",
    "measure",
    "observe",
    "preflight",
    "prepare",
    "save",
    "train",
]

QUESTION = "How much of this collection of records was used to train the model?"

NAME = "dataset_usage"

RUNGS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Known shares that the ladder tries."""

SMALLEST_PART = 50
"""Parts with fewer records are not estimated: no range about them would be of use."""

MOST_PARTS = 50
"""More parts than this would each be paid for in confidence, until no range said anything."""

GATES = ("ladder", "population", "possible", "independence")
"""Checks without which no figure counts."""

GATE_LEVEL = 0.99
"""Confidence with which a gate has to speak before it shuts."""

LARGEST_SHIFT = 0.1
"""How much of records known to be unused may seem used, before any correction; a rule of thumb of this project."""

USEFUL = 0.1
"""Half a range longer than this leaves the answer vague; a rule of thumb of this project."""


@dataclass(frozen=True)
class Part:
    """One part of the collection: ``rows`` (N,) bool marks its records."""

    column: str
    group: str
    rows: np.ndarray

    @property
    def name(self) -> str:
        """What the report calls it."""
        return f"{self.column} {self.group}"


@dataclass(frozen=True)
class Plan:
    """A checked audit: everything that was asked for, and nothing computed yet but the target's predictions."""

    target: Target
    threat: ThreatModel
    attack: DatasetUsage
    parts: tuple[Part, ...]
    num_shadows: int
    confidence: float
    seed: int
    workers: int | None
    device: str
    out: Path
    asked: dict[str, Any] = field(default_factory=dict)
    started: str = ""

    @property
    def joint(self) -> float:
        """Level of each interval, so that those of the collection and of all its parts hold together (Bonferroni)."""
        return 1 - (1 - self.confidence) / (1 + len(self.parts))

    @property
    def collection(self) -> int:
        """Number of records in question."""
        return int(self.target.records.audited.sum())

    @property
    def truth(self) -> np.ndarray | None:
        """(N,) bool: which records of the collection were used, in a rehearsal; ``None`` where nobody knows."""
        members = self.target.records.members
        return None if members is None else members[self.target.records.audited]


@dataclass(frozen=True)
class Estimates:
    """What counting gave: shares as estimated, or in ``refused`` why there is none; '' stands for the whole."""

    shares: dict[str, Share]
    refused: dict[str, str]
    counted: Rates | None
    population: Rates | None
    plays: tuple[Play, ...]
    cpu_seconds: float


def prepare(
    target: Target | str,
    threat: ThreatModel | str | None = None,
    *,
    out: str | Path = "audit",
    subsets: str | Sequence[str] | None = None,
    score: Score = "lira",
    a: float = 0.3,
    num_shadows: int = 16,
    confidence: float = 0.95,
    seed: int = 0,
    workers: int | None = None,
    device: str = "auto",
) -> Plan:
    """Check everything that can be wrong, before anything expensive starts and without writing a file.

    Parameters
    ----------
    target
        A target, or the path of a ``target.py`` or of a table of predictions. All its records but the population are
        the collection. Who the members are may be left open.
    threat
        A threat model, the path of its YAML file, or ``None`` for the default one.
    out
        Folder for everything that the audit writes.
    subsets
        Column of the records, or several, whose values cut the collection into parts; ``None``: the target's sensitive
        columns.
    score, a
        See ``DatasetUsage``.
    num_shadows
        Shadow models, an even number of at least 4; the check on known shares needs 6.
    confidence
        Level at which all intervals hold together.
    seed
        The one seed of all randomness.
    workers, device
        See ``train_shadows``.

    Raises
    ------
    InputError
        The first thing that is wrong: field, value, remedy.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    model = ThreatModel.load(threat).model_copy(update={"goal": NAME})
    attack = DatasetUsage(score, a)
    asked = {
        "target": Path(target).name if isinstance(target, (str, Path)) else target.name,
        "subsets": subsets if subsets is None or isinstance(subsets, str) else list(subsets),
        "score": score, "a": a if score == "rmia" else None, "num_shadows": num_shadows, "confidence": confidence,
        "seed": seed,
    }  # fmt: skip
    fewest = 2 * FEWEST_PAIRS
    common.check_count("num_shadows", num_shadows, smallest=fewest)
    if num_shadows % 2:
        raise InputError("num_shadows", num_shadows, f"use an even number of at least {fewest}: they come in pairs")
    common.check_confidence(confidence)
    common.check_seed(seed)
    common.check_workers(workers)
    refusal = model.refusal(attack)
    if refusal:
        raise InputError("threat", "the attacker", f"cannot ask this question: {refusal}")
    challenger = Target.load(target)
    size = int(challenger.records.audited.sum())
    if size < SMALLEST_PART:
        raise InputError("target.records", f"{size} records", f"a collection needs at least {SMALLEST_PART}")
    parts = _parts(challenger, subsets)
    if challenger.shadows is not None:
        pairs = len(complementary_pairs(challenger.shadows.pair))
        if pairs < FEWEST_PAIRS:
            raise InputError(
                "target.shadows",
                f"{pairs} complementary pairs among {len(challenger.shadows)} shadow models",
                f"at least {FEWEST_PAIRS} pairs are needed, the two of a pair trained on complementary halves of the records",
            )
    elif kind_of(challenger.model) == "predictions":
        raise InputError(
            "target.shadows", "missing", "with predictions only, give those of four or more shadow models too"
        )
    challenger.check(needs_recipe=True, needs_members=False)
    return Plan(
        challenger, model, attack, parts, num_shadows, confidence, seed, workers, device, Path(out), asked, started
    )


def preflight(**parameters: Any) -> None:
    """Check the parameters of the template, as ``prepare`` does, for callers that start a notebook."""
    prepare(**parameters)


def _parts(target: Target, subsets: str | Sequence[str] | None) -> tuple[Part, ...]:
    columns = list(target.sensitive) if subsets is None else [subsets] if isinstance(subsets, str) else list(subsets)
    groups = target.records.groups
    for column in columns:
        if groups is None:
            raise InputError("subsets", column, "give the columns too: Records(X, y, groups=frame)")
        if column not in groups.columns:
            known = ", ".join(str(c) for c in list(groups.columns)[:12])
            raise InputError("subsets", column, f"not a column of the records; they have {known}")
    tables = exposure.subgroups(dataclasses.replace(target, sensitive=tuple(dict.fromkeys(columns))))[1:]
    parts = tuple(Part(column, group, rows) for column, cut in tables for group, rows in cut)
    if len(parts) > MOST_PARTS:
        raise InputError(
            "subsets",
            ", ".join(columns),
            f"they make {len(parts)} parts; choose columns with at most {MOST_PARTS} values",
        )
    return parts


def train(plan: Plan, *, progress: bool = True) -> Shadows:
    """Train the attacker's shadow models on complementary halves of collection and population together."""
    records = dataclasses.replace(plan.target.records, members=None)
    return train_shadows(
        dataclasses.replace(plan.target, records=records),  # who was used is the question, and must not be needed
        plan.num_shadows,
        seed=plan.seed,
        folder=plan.out / "cache",
        workers=plan.workers,
        device=plan.device,
        progress=progress,
    )


def observe(plan: Plan, shadows: References) -> View:
    """Return what the attacker sees, and nothing more."""
    return plan.threat.reveal(plan.target, shadows, seed=plan.seed)


def estimate(plan: Plan, view: View) -> Estimates:
    """Estimate the share used of the collection and of each part, and of known shares on the shadow models."""
    start = time.process_time()
    shares: dict[str, Share] = {}
    refused: dict[str, str] = {}
    try:
        flags, around = plan.attack.flags(view)
    except NotApplicable as reason:
        return Estimates({}, {"": str(reason)}, None, None, (), time.process_time() - start)
    outside = None if around is None else rates(around)
    counted = rates(flags)
    whole = Part("", "", np.ones(len(view), dtype=bool))
    for part in (whole, *plan.parts):
        name = part.name if part.column else ""
        if part.rows.sum() < SMALLEST_PART:
            refused[name] = f"it has only {int(part.rows.sum())} records, and {SMALLEST_PART} are needed"
            continue
        try:
            shares[name] = share_used(rates(flags, part.rows), plan.joint, outside)
        except NotApplicable as reason:
            refused[name] = str(reason)
    plays = tuple(plan.attack.plays(view, RUNGS, plan.confidence))
    return Estimates(shares, refused, counted, outside, plays, time.process_time() - start)


def measure(plan: Plan, view: View, shadows: Shadows, estimates: Estimates) -> Result:
    """Say how sure we are, and join the truth where it is known."""
    truth = plan.truth
    used = {name: _interval(each, plan.joint) for name, each in estimates.shares.items()}
    checks = _checks(plan, view, estimates, used)
    failed = [check for check in checks if check.passed is False]
    decision = usage_verdict(
        [
            UsageFinding(name, plan.collection if not name else int(_part(plan, name).rows.sum()), interval)
            for name, interval in used.items()
        ],
        failed_gates=[check.sentence for check in failed if check.name in GATES],
        failed_checks=[check.sentence for check in failed],
        refusal=estimates.refused.get("", ""),
        confidence=plan.confidence,
    )
    return Result(
        package_version=leakpro_nb.__version__,
        template=NAME,
        question=QUESTION,
        target=_card(plan.target).model_copy(
            update={"tested": f"a collection of {int(plan.target.records.audited.sum()):,} records"}
        ),
        threat_model=plan.threat.model_dump(mode="json"),
        parameters={**plan.asked, "num_shadows": len(shadows), "shadows": shadows.how},
        attacks=[_attack_result(plan, estimates, used)],
        checks=checks,
        exposures=[
            Exposure(
                column=part.column,
                group=part.group,
                members=None if truth is None else int((part.rows & truth).sum()),
                non_members=None if truth is None else int((part.rows & ~truth).sum()),
                usage=used.get(part.name),
            )
            for part in plan.parts
        ],
        extras={
            "collection": plan.collection,
            "joint_level": plan.joint,
            "parts": {part.name: int(part.rows.sum()) for part in plan.parts},
            "true_share": _true_shares(plan),
            "refused": estimates.refused,
            "ladder": _ladder(estimates),
            "training_size": float(view.references.trained_on.sum(axis=1).mean()) if view.references else None,
        },
        verdict=decision,
        warnings=[check.sentence for check in failed],
        environment=common.environment(plan.seed),
        started=plan.started,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def save(plan: Plan, result: Result) -> Path:
    """Write ``result.json``, last of all, and return its path."""
    return result.save(plan.out / "result.json")


def _part(plan: Plan, name: str) -> Part:
    return next(part for part in plan.parts if part.name == name)


def _interval(estimated: Share, level: float) -> Interval:
    inside = estimated.clipped
    return Interval(
        value=inside.value,
        low=inside.low,
        high=inside.high,
        level=level,
        method="Fieller, with the spread over shadow models",
    )


def _card(target: Target) -> TargetCard:
    members = target.records.members
    if members is None or (members.any() and (target.records.audited & ~members).any()):
        return common.card(target)
    nobody = dataclasses.replace(target, records=dataclasses.replace(target.records, members=None))
    return common.card(nobody).model_copy(
        update={
            "members": int(members.sum()),
            "non_members": int((target.records.audited & ~members).sum()),
            "fingerprint": target.fingerprint()[:16],
        }
    )


def _true_shares(plan: Plan) -> dict[str, float]:
    if plan.truth is None:
        return {}
    shares = {"": float(plan.truth.mean())}
    return shares | {part.name: float(plan.truth[part.rows].mean()) for part in plan.parts if part.rows.any()}


def _attack_result(plan: Plan, estimates: Estimates, used: dict[str, Interval]) -> AttackResult:
    attack = plan.attack
    shared: dict[str, Any] = {
        "name": NAME, "title": attack.title, "paper": attack.paper, "family": "usage",
        "parameters": dataclasses.asdict(attack), "cpu_seconds": estimates.cpu_seconds,
        "records_scored": plan.collection if estimates.counted is not None else 0,
    }  # fmt: skip
    measures = []
    if estimates.counted is not None:
        gain = estimates.counted.tpr - estimates.counted.fpr
        half = stats.t.ppf((1 + plan.confidence) / 2, len(gain) - 1) * gain.std(ddof=1) / math.sqrt(len(gain))
        low, high = max(-1.0, gain.mean() - half), min(1.0, gain.mean() + half)
        interval = Interval(
            value=gain.mean(), low=low, high=high, level=plan.confidence, method="t, over shadow models"
        )
        measures.append(
            Measure(name="power", label="Used records flagged, less unused ones", interval=interval, baseline=0.0)
        )
    if "" not in used:
        return AttackResult(**shared, status="skipped", reason=estimates.refused[""], measures=measures)
    whole = Measure(name="usage", label="Share of the collection used", interval=used[""], baseline=None)
    return AttackResult(**shared, measures=[whole, *measures])


def _ladder(estimates: Estimates) -> list[dict[str, float]]:
    """Return for each known share what the plays on shadow models gave."""
    rows = []
    for rung in RUNGS:
        shares = [each.share for each in estimates.plays if each.true == rung]
        if shares:
            values = [each.clipped for each in shares]
            rows.append(
                {
                    "true": rung,
                    "mean": float(np.mean([each.value for each in values])),
                    "smallest": min(each.value for each in values),
                    "largest": max(each.value for each in values),
                    "half_width": float(np.median([(each.high - each.low) / 2 for each in shares])),
                    "plays": len(shares),
                    "held": sum(each.low <= rung <= each.high for each in shares),
                }
            )
    return rows


def _checks(plan: Plan, view: View, estimates: Estimates, used: dict[str, Interval]) -> list[Check]:
    checks = [_ladder_check(plan, estimates), _population_check(estimates), _possible(estimates)]
    if plan.truth is not None and plan.truth.any() and not plan.truth.all():
        checks.append(validity._independence(view, plan.truth))
    checks += [_likeness(view), _precision(used)]
    if plan.truth is not None:
        checks.append(_truth_check(plan, used))
    return checks


def _ladder_check(plan: Plan, estimates: Estimates) -> Check:
    title = "Does the estimate find the right share where we know it?"
    rows = _ladder(estimates)
    if not rows:
        return Check(
            name="ladder", title=title, passed=None,
            sentence="Not tested: it needs at least six shadow models, of which each plays the target in turn, and an attack "
            "strong enough to count by.",
        )  # fmt: skip
    # plays on one rung share their judges, so that misses come in company: a single model may miss wherever it plays
    level = 1 - (1 - GATE_LEVEL) / len(rows)
    allowed = [int(stats.binom.ppf(level, row["plays"], 1 - plan.confidence)) for row in rows]
    misses = [int(row["plays"] - row["held"]) for row in rows]
    passed = all(miss <= most for miss, most in zip(misses, allowed, strict=True))
    total, held = sum(int(row["plays"]) for row in rows), sum(int(row["held"]) for row in rows)
    furthest = max(max(abs(row["smallest"] - row["true"]), abs(row["largest"] - row["true"])) for row in rows)
    return Check(
        name="ladder",
        title=title,
        passed=passed,
        sentence=(
            f"Each shadow model in turn played the model under audit, for collections of which 0, 25, 50, 75 and 100 % had "
            f"trained it: in {held} of {total} trials the range held the right share, and no estimate was further off than "
            f"{100 * furthest:.1f} percentage points. "
            + (
                "That keeps what the ranges promise."
                if passed
                else "That is less often than promised, so the ranges in this report are too short: train more shadow models."
            )
        ),
        values={"held": held, "plays": total, "furthest": furthest},
    )


def _population_check(estimates: Estimates) -> Check:
    title = "Do records that were not used look unused?"
    if estimates.population is None or estimates.counted is None:
        return Check(
            name="population", title=title, passed=None,
            sentence="Not tested: no records are known not to have been used (population). The estimate assumes that unused "
            "records of the collection look to the model as they do to shadow models that did not train on them. Without "
            "such records it cannot be corrected where they do not, and the ranges may be too short.",
        )  # fmt: skip
    try:
        seeming = share_used(estimates.population, GATE_LEVEL)
    except NotApplicable as reason:
        return Check(name="population", title=title, passed=None, sentence=f"Not tested: {reason}.")
    passed = seeming.low <= 0 <= seeming.high or abs(seeming.value) <= LARGEST_SHIFT
    return Check(
        name="population",
        title=title,
        passed=passed,
        sentence=(
            f"Of {estimates.population.records:,} records known not to have been used, {100 * seeming.value:.1f} % would "
            f"seem used by the same count ({100 * seeming.low:.1f} to {100 * seeming.high:.1f} %; 0 % is right, and chance takes it above or below). "
            + (
                "That is close enough, and the estimates are corrected by it."
                if passed
                else "So the model differs from the shadow models too much for the count to be corrected: check the recipe, and "
                "that the shadow models are trained on about as many records as the model was."
            )
        ),
        values={"value": seeming.value, "low": seeming.low, "high": seeming.high},
    )


def _possible(estimates: Estimates) -> Check:
    wrong = [name or "the collection" for name, each in estimates.shares.items() if not each.possible]
    return Check(
        name="possible",
        title="Are the estimated shares possible?",
        passed=not wrong if estimates.shares else None,
        sentence=(
            f"The range lies below 0 % or above 100 % for {', '.join(wrong)}: the model is unlike the shadow models. Check the recipe "
            "and the number of records it was trained on."
            if wrong
            else "All ranges reach into 0 to 100 %."
            if estimates.shares
            else "No share could be estimated."
        ),
        values={"wrong": wrong},
    )


def _likeness(view: View) -> Check:
    title = "Do the shadow models resemble the model under audit?"
    around = view.population_references
    if around is None or view.population is None or view.population_labels is None:
        return Check(
            name="shadow_likeness", title=title, passed=None,
            sentence="Not tested: no records are known not to have been used (population).",
        )  # fmt: skip
    own = float((view.population.argmax(axis=-1) == view.population_labels).mean())
    right = around.logits.argmax(axis=-1) == view.population_labels
    theirs = float(right[~around.trained_on].mean())
    passed = abs(own - theirs) <= validity.LIKENESS
    return Check(
        name="shadow_likeness",
        title=title,
        passed=passed,
        sentence=(
            f"On records that they were not trained on, the model is right for {percent(own)} and the shadow models for "
            f"{percent(theirs)}. "
            + (
                f"They behave alike (within {percent(validity.LIKENESS)})."
                if passed
                else f"They differ by more than {percent(validity.LIKENESS)}: check the recipe, and that the shadow models are trained "
                "on about as many records as the model was."
            )
        ),
        values={"target": own, "shadows": theirs},
    )


def _precision(used: dict[str, Interval]) -> Check:
    title = "Is the estimate precise enough to be of use?"
    if "" not in used:
        return Check(name="precision", title=title, passed=None, sentence="No share of the collection was estimated.")
    width = used[""].high - used[""].low
    passed = width <= 2 * USEFUL
    return Check(
        name="precision",
        title=title,
        passed=passed,
        sentence=(
            f"The range of the whole collection is {100 * width:.1f} percentage points long. "
            + (
                "That tells a small use from a large one."
                if passed
                else f"More than {200 * USEFUL:.0f} leave the answer vague; more shadow models make it shorter."
            )
        ),
        values={"width": width},
    )


def _truth_check(plan: Plan, used: dict[str, Interval]) -> Check:
    true = _true_shares(plan)
    off = [name or "the collection" for name, each in used.items() if not each.low <= true[name] <= each.high]
    return Check(
        name="truth",
        title="Rehearsal: is the true share within the range?",
        passed=not off if used else None,
        sentence=(
            "This audit was told which records were used, which the estimate never looks at. "
            + (
                f"The truth lies outside the range for {', '.join(off)}."
                if off
                else f"All {len(used)} ranges hold the truth."
                if used
                else "There is no range to compare with."
            )
        ),
        values={"off": off},
    )
