"""The membership audit: can an attacker tell whose records trained the model?

The notebook calls these functions in order; each hands its result to the next:
``prepare`` → ``train`` → ``observe`` → ``attack`` → ``measure`` → ``save``.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

import leakpro_nb
from leakpro_nb.attacks import Attack, NotApplicable, Scores, available, create, title_of
from leakpro_nb.audits import algorithm, common, exposure, power, tuning, validity
from leakpro_nb.errors import AccessDenied, InputError
from leakpro_nb.game.models import kind_of
from leakpro_nb.game.target import Target
from leakpro_nb.game.threat import ThreatModel
from leakpro_nb.game.views import View
from leakpro_nb.measures import (
    belief_gain,
    ties,
    tpr_at_fpr,
)
from leakpro_nb.results import (
    AttackResult,
    Result,
    write_atomically,
)
from leakpro_nb.risk import Finding, verdict
from leakpro_nb.shadows.ensemble import Shadows, train_shadows
from leakpro_nb.shadows.processes import single_thread

__all__ = [
    "Examination",
    "Outcome",
    "Plan",
    "attack",
    "default_attacks",
    "examine",
    "measure",
    "observe",
    "preflight",
    "prepare",
    "save",
    "train",
    "values",
]

QUESTION = "Can an attacker tell whose records were used to train this model?"

SCORE_ATTACKS = ("population", "lira_offline", "lira", "rmia_offline", "rmia", "combined", "trajectory")
"""By default with confidence scores: one without shadow models, two with few assumptions in both modes, the two strongest.

Few, since the bounds of the verdict hold jointly: every attack that repeats another widens them.
"""

LABEL_ATTACKS = ("gap", "augmentation", "boundary")
"""By default where only the answer is shown, for an attacker without shadow models."""

LABEL_ATTACKS_WITH_SHADOWS = ("gap", "augmentation_calibrated", "trajectory")
"""The same with shadow models. On the demonstration YOQO and OSLO take longer and find less."""

WHITE_BOX_ATTACKS = ("gradient_norm", "activation_gradient")
"""On top of the others where the model itself is in the attacker's hands."""

DEFAULT_FPRS = (0.1, 0.01, 0.001, 0.0)

log = logging.getLogger(__name__)

TUNED = "_tuned"
"""What is added to the name of an attack that runs once more with the options that practice has chosen."""

YES_OR_NO = 2
"""Distinct scores of an attack that accuses or does not, without saying how surely."""


@dataclass(frozen=True)
class Plan:
    """A checked audit: everything that was asked for, and nothing computed yet but the target's predictions."""

    target: Target
    threat: ThreatModel
    attacks: dict[str, Attack]
    refused: dict[str, str]
    num_shadows: int
    shadow_size: Literal["half", "target"]
    fprs: tuple[float, ...]
    headline_fpr: float
    confidence: float
    seed: int
    workers: int | None
    device: str
    out: Path
    reveal_records: bool
    tune: int = 0
    asked: dict[str, Any] = field(default_factory=dict)
    started: str = ""


@dataclass(frozen=True)
class Outcome:
    """What one attack returned, or why it returned nothing."""

    title: str
    status: Literal["ok", "skipped", "failed"]
    scores: Scores | None = None
    reason: str = ""
    cpu_seconds: float = 0.0
    attack: Attack | None = None
    tuned: tuning.Tuned | None = None


@dataclass(frozen=True)
class Examination:
    """What goes beyond the audited model's own figures.

    Parameters
    ----------
    algorithm
        Every shadow model as the target.
    power
        What the attacks reach with fewer shadow models, as plain JSON.
    """

    algorithm: algorithm.Algorithm
    power: dict[str, Any]


def default_attacks(threat: ThreatModel) -> tuple[str, ...]:
    """Return the attacks that pay under ``threat``, of those that there are.

    One that needs knowledge which the threat model lacks is left in, so that the report says what was not tried, with
    two exceptions: attacks by scores where only labels are shown, and attacks that learn from known members where
    nobody is known, are none of this attacker's.
    """
    names: tuple[str, ...] = SCORE_ATTACKS
    if threat.access == "labels":
        names = LABEL_ATTACKS_WITH_SHADOWS if "recipe" in threat.knowledge else LABEL_ATTACKS
    if threat.access == "white_box":
        names += WHITE_BOX_ATTACKS
    made = {name: create(name) for name in names if name in available()}
    return tuple(
        name
        for name, each in made.items()
        if "known_members" in threat.knowledge or "known_members" not in each.knowledge
    )


def prepare(
    target: Target | str,
    threat: ThreatModel | str | None = None,
    *,
    out: str | Path = "audit",
    attacks: Sequence[str] | None = None,
    attack_options: Mapping[str, Mapping[str, Any]] | None = None,
    num_shadows: int = 16,
    shadow_size: Literal["half", "target"] = "half",
    fprs: Sequence[float] = DEFAULT_FPRS,
    headline_fpr: float = 0.01,
    confidence: float = 0.95,
    seed: int = 0,
    workers: int | None = None,
    device: str = "auto",
    reveal_records: bool = False,
    tune: int = 0,
) -> Plan:
    """Check everything that can be wrong, before anything expensive starts and without writing a file.

    Parameters
    ----------
    target
        A target, or the path of a ``target.py`` or of a table of predictions.
    threat
        A threat model, the path of its YAML file, or ``None`` for the default one.
    out
        Folder for everything that the audit writes.
    attacks
        Names of attacks; those that the threat model does not admit are listed as skipped. ``None``: all that pay under
        this access.
    attack_options
        ``{attack: {option: value}}``.
    num_shadows
        Shadow models; 0 for attacks that need none.
    shadow_size
        See ``train_shadows``.
    fprs
        False-positive rates at which the true-positive rate is reported.
    headline_fpr
        The one that decides the verdict: fixed beforehand, never chosen after seeing results.
    confidence
        Level of all intervals.
    seed
        The one seed of all randomness.
    workers, device
        See ``train_shadows``.
    reveal_records
        Show the raw values of the most exposed records.
    tune
        Sets of options to try per attack, on shadow models that play the target; 0: every attack as it is. The tuned
        attacks run beside the others. Needs the extra ``tuning``.

    Raises
    ------
    InputError
        The first thing that is wrong: field, value, remedy.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    model = ThreatModel.load(threat)
    if attacks is None:
        attacks = default_attacks(model)
    asked = {
        "target": Path(target).name if isinstance(target, (str, Path)) else target.name,
        "attacks": list(attacks), "attack_options": {k: dict(v) for k, v in (attack_options or {}).items()},
        "num_shadows": num_shadows, "shadow_size": shadow_size, "fprs": list(fprs), "headline_fpr": headline_fpr,
        "confidence": confidence, "seed": seed, "reveal_records": reveal_records,
        "tune": tune,
    }  # fmt: skip
    common.check_count("num_shadows", num_shadows)
    common.check_count("tune", tune, example=20)
    if tune:
        tuning.require_optuna(tune)
    if shadow_size not in ("half", "target"):
        raise InputError("shadow_size", shadow_size, "use half or target")
    common.check_fprs(fprs, headline_fpr)
    common.check_confidence(confidence)
    common.check_seed(seed)
    common.check_workers(workers)
    chosen, refused = _choose(attacks, attack_options or {}, model)
    challenger = Target.load(target)
    needs_shadows = [name for name, each in chosen.items() if each.references > 0]
    if kind_of(challenger.model) == "predictions" and challenger.shadows is None:
        num_shadows = 0
    if not needs_shadows:
        num_shadows = 0
    if num_shadows == 0 and challenger.shadows is None and len(needs_shadows) == len(chosen):
        raise InputError(
            "attacks",
            ", ".join(chosen),
            "all of them need shadow models and there are none; add population, or a recipe",
        )
    challenger.check(needs_recipe=num_shadows > 0)
    return Plan(
        challenger, model, chosen, refused, num_shadows, shadow_size, tuple(sorted({*fprs, headline_fpr}, reverse=True)),
        headline_fpr, confidence, seed, workers, device, Path(out), reveal_records, tune, asked, started,
    )  # fmt: skip


def preflight(**parameters: Any) -> None:
    """Check the parameters of the template, as ``prepare`` does, for callers that start a notebook."""
    prepare(**parameters)


def _choose(
    names: Sequence[str], options: Mapping[str, Mapping[str, Any]], threat: ThreatModel
) -> tuple[dict[str, Attack], dict[str, str]]:
    if isinstance(names, str) or not names:
        raise InputError("attacks", names, f"give a list of names, for example {list(SCORE_ATTACKS[:3])}")
    for name in options:
        if name not in names:
            raise InputError("attack_options", name, f"not one of the attacks asked for: {', '.join(names)}")
    every = {name: create(name, dict(options.get(name, {}))) for name in names}
    refused = {name: reason for name, each in every.items() if (reason := threat.refusal(each))}
    admitted = {name: each for name, each in every.items() if name not in refused}
    if not admitted:
        first = next(iter(refused))
        raise InputError(
            "attacks", ", ".join(names), f"the threat model admits none of them; {first}: {refused[first]}"
        )
    return admitted, refused


def train(plan: Plan, *, progress: bool = True) -> Shadows:
    """Train the attacker's shadow models, or load those that an earlier run has finished."""
    return train_shadows(
        plan.target,
        plan.num_shadows,
        seed=plan.seed,
        folder=plan.out / "cache",
        size=plan.shadow_size,
        workers=plan.workers,
        device=plan.device,
        progress=progress,
    )


def observe(plan: Plan, shadows: Shadows) -> View:
    """Return what the attacker sees, and nothing more."""
    return plan.threat.reveal(plan.target, shadows, seed=plan.seed)


def attack(plan: Plan, view: View) -> dict[str, Outcome]:
    """Run every attack on the view; one that cannot run is listed with the reason, and the others go on.

    With ``tune``, each attack that has something to tune is practised on the shadow models, and runs once more under
    the name ``…_tuned`` where that found better options.
    """
    outcomes = {}
    for name, each in plan.attacks.items():
        outcomes[name] = outcome = _run(title_of(each), each, view)
        if plan.tune and outcome.status == "ok" and (found := _tune(plan, view, name, each)) is not None:
            outcomes[name] = dataclasses.replace(outcome, tuned=found)
            if found.options:
                changed = dataclasses.replace(each, **found.options)  # type: ignore[type-var]
                outcomes[f"{name}{TUNED}"] = _run(f"{title_of(each)}, tuned", changed, view)
    for name, reason_text in plan.refused.items():
        each = create(name, dict(plan.asked["attack_options"].get(name, {})))
        outcomes[name] = Outcome(title_of(each), "skipped", reason=reason_text, attack=each)
    return outcomes


def one_thread(attacks: Iterable[Attack]) -> AbstractContextManager[None]:
    """Return a context that pins numerical libraries to one thread: the same seed gives the same digits on any cores."""
    return single_thread(torch=any(getattr(each, "asks", False) for each in attacks))


def _run(title: str, each: Attack, view: View) -> Outcome:
    start = time.process_time()
    try:
        with one_thread([each]):
            scores = each.run(view)
    except (NotApplicable, AccessDenied) as reason:
        return Outcome(title, "skipped", reason=str(reason), attack=each)
    except Exception as error:
        log.warning("%s failed", title, exc_info=error)
        reason_text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Outcome(title, "failed", reason=reason_text, attack=each)
    return Outcome(title, "ok", scores, cpu_seconds=time.process_time() - start, attack=each)


def _tune(plan: Plan, view: View, name: str, each: Attack) -> tuning.Tuned | None:
    try:
        return tuning.tune(
            view, name, each, trials=plan.tune, fpr=plan.headline_fpr, seed=plan.seed, level=plan.confidence,
            fixed=plan.asked.get("attack_options", {}).get(name),
        )  # fmt: skip
    except Exception as error:
        log.warning("tuning %s failed", title_of(each), exc_info=error)
        return tuning.Tuned(reason=f"it failed: {type(error).__name__}: {' '.join(str(error).split())}")


def values(outcomes: Mapping[str, Outcome]) -> dict[str, np.ndarray]:
    """Return the scores ``(N,)`` of the attacks that gave any, by name."""
    return {name: outcome.scores.values for name, outcome in outcomes.items() if outcome.scores is not None}


def examine(plan: Plan, view: View, outcomes: Mapping[str, Outcome]) -> Examination:
    """Let every shadow model play the target, and the attacks play with fewer of them; nothing is trained."""
    member = _truth(plan)
    fixed = {"fpr": plan.headline_fpr, "level": plan.confidence}
    return Examination(
        algorithm.audit(view, plan.threat, plan.target, member, **fixed),
        power.curve(view, plan.attacks, values(outcomes), plan.threat, member, **fixed),
    )


def measure(
    plan: Plan,
    view: View,
    shadows: Shadows,
    outcomes: Mapping[str, Outcome],
    examination: Examination | None = None,
) -> Result:
    """Join the truth to the scores, and say how sure we are; ``examination`` adds what goes beyond this model."""
    member = _truth(plan)
    ran = {name: outcome for name, outcome in outcomes.items() if outcome.scores is not None}
    results = [_measure_one(plan, name, outcome, member) for name, outcome in outcomes.items()]
    attacks = {name: outcome.attack for name, outcome in ran.items() if outcome.attack is not None}
    with one_thread(plan.attacks.values()):
        checks = validity.checks(plan.target, view, attacks, ran, member, plan.headline_fpr, plan.confidence, plan.seed)
    failed = [check for check in checks if check.passed is False]
    joint = 1 - (1 - plan.confidence) / max(1, len(ran))
    decision = verdict(
        _findings(plan, ran, member, joint),
        failed_gates=[check.sentence for check in failed if check.name in validity.GATES],
        failed_checks=[check.sentence for check in failed],
        non_members=int((~member).sum()),
        fpr=plan.headline_fpr,
        prior=plan.threat.prior,
        level=joint,
        subjects=plan.target.subjects,
    )
    strongest = _strongest(results, decision.values.get("attack_name"))
    exposures, most_exposed = exposure.of(plan.target, ran, member, strongest, plan.headline_fpr, plan.confidence)
    return Result(
        package_version=leakpro_nb.__version__,
        template="membership",
        question=QUESTION,
        target=common.card(plan.target),
        threat_model=plan.threat.model_dump(mode="json"),
        parameters={
            **plan.asked,
            "num_shadows": len(shadows),
            "shadows": shadows.how,
            "strongest": strongest,
        },
        attacks=results,
        checks=checks,
        exposures=exposures,
        most_exposed=exposure.with_values(plan.target, most_exposed) if plan.reveal_records else most_exposed,
        extras=_extras(outcomes, examination),
        verdict=decision,
        warnings=[check.sentence for check in failed],
        environment=common.environment(plan.seed),
        started=plan.started,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def save(plan: Plan, result: Result, outcomes: Mapping[str, Outcome], examination: Examination | None = None) -> Path:
    """Write ``scores.parquet``, ``vulnerability.parquet`` and, last of all, ``result.json``; return the latter's path."""
    rows = np.flatnonzero(plan.target.records.audited)
    _write_table(plan.out / "scores.parquet", {"record": rows, "member": _truth(plan), **values(outcomes)})
    if examination is not None and examination.algorithm.records is not None:
        each = {
            f.name: getattr(examination.algorithm.records, f.name) for f in dataclasses.fields(algorithm.Vulnerability)
        }
        _write_table(plan.out / "vulnerability.parquet", {"record": rows, **each})
    return result.save(plan.out / "result.json")


def _write_table(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    import io

    import pandas as pd

    buffer = io.BytesIO()
    pd.DataFrame(columns).to_parquet(buffer, index=False)
    write_atomically(path, buffer.getvalue())


def _extras(outcomes: Mapping[str, Outcome], examination: Examination | None) -> dict[str, Any]:
    """Return what only this template has, as plain JSON."""
    tuned = {name: dataclasses.asdict(each.tuned) for name, each in outcomes.items() if each.tuned is not None}
    extras: dict[str, Any] = {"tuning": tuned} if tuned else {}
    if examination is not None:
        extras |= {"algorithm": examination.algorithm.summary, "power": examination.power}
    return extras


def _truth(plan: Plan) -> np.ndarray:
    return plan.target.members[plan.target.records.audited]


def _measure_one(plan: Plan, name: str, outcome: Outcome, member: np.ndarray) -> AttackResult:
    attack_object = outcome.attack
    parameters: dict[str, Any] = dataclasses.asdict(attack_object) if dataclasses.is_dataclass(attack_object) else {}  # type: ignore[arg-type]
    paper = attack_object.paper if attack_object is not None else ""
    if outcome.scores is None:
        return AttackResult(
            name=name,
            title=outcome.title,
            paper=paper,
            status=outcome.status,
            reason=outcome.reason,
            parameters=parameters,
        )
    scores = outcome.scores.values
    known = ~np.isnan(scores)
    scored, truth = scores[known], member[known]
    distinct, largest = ties(scored)
    known_so_far: dict[str, Any] = {
        "name": name, "title": outcome.title, "paper": paper, "parameters": {**parameters, **outcome.scores.notes},
        "records_scored": int(known.sum()), "records_unscored": int((~known).sum()), "distinct_scores": distinct,
        "largest_tie": largest, "cpu_seconds": outcome.cpu_seconds,
    }  # fmt: skip
    if truth.all() or not truth.any():
        return AttackResult(
            **known_so_far, status="failed", reason="it could score only one side, members or non-members"
        )
    return AttackResult(
        **known_so_far,
        measures=common.figures(scored, truth, plan.confidence),
        tpr_at_fpr=[common.at_fpr(scored, truth, fpr, plan.confidence) for fpr in plan.fprs],
        curve=common.curve(scored, truth, plan.confidence),
    )


def _findings(plan: Plan, ran: Mapping[str, Outcome], member: np.ndarray, level: float) -> list[Finding]:
    findings = []
    for name, outcome in ran.items():
        assert outcome.scores is not None
        known = ~np.isnan(outcome.scores.values)
        scores, truth = outcome.scores.values[known], member[known]
        if truth.all() or not truth.any():
            continue
        if plan.headline_fpr * (~truth).sum() < 1 and ties(scores)[0] != YES_OR_NO:
            continue
        fpr = max(plan.headline_fpr, validity.least_fpr(scores, truth))
        point, (low, high), _ = tpr_at_fpr(scores, truth, fpr, level)
        gain = belief_gain(
            point.hits,
            point.members,
            point.false_alarms,
            point.non_members,
            prior=plan.threat.prior,
            level=level,
        )
        findings.append(Finding(name, outcome.title, point.fpr, point.tpr, low, high, gain))
    return findings


def _strongest(results: Sequence[AttackResult], decisive: str | None) -> str | None:
    """Return the name of the attack behind the verdict, else of the one with the largest AUC."""
    ran = [result for result in results if result.status == "ok"]
    if decisive is not None:
        return decisive
    by_auc = sorted(ran, key=lambda result: result.measures[0].interval.value if result.measures else 0.0)
    return by_auc[-1].name if by_auc else None
