"""The checks that every membership audit makes of itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import rankdata

from leakpro_nb.attacks import Attack, NotApplicable
from leakpro_nb.errors import AccessDenied
from leakpro_nb.game.records import as_features
from leakpro_nb.game.target import Target
from leakpro_nb.game.views import View
from leakpro_nb.measures import auc_interval, blind_baseline_scores, detectable_auc, threshold_at_fpr
from leakpro_nb.results import Check
from leakpro_nb.words import share

if TYPE_CHECKING:
    from leakpro_nb.audits.membership import Outcome

__all__ = ["GATES", "blind_baseline", "checks", "least_fpr", "null_audit", "null_scores"]

GATES = ("blind_baseline", "null_audit", "independence")
"""Checks without which no figure can be put down to the model."""

GATE_LEVEL = 0.99
"""Confidence of the gates' intervals: a fair audit fails each of them about once in a hundred times."""

LIKENESS = 0.1
"""How far the accuracies of target and shadow models may differ; a rule of thumb of this project."""

SHOWN, LISTED = 5, 100
"""Rows without a score that the report names, and that the result file lists; the scores file has all."""

NULL_MODELS = 8
"""Shadow models that play the target in the null audit; more would only cost time."""

NULL_MODELS_ASKED = 2
"""The same for attacks that ask models about other records, which is slow: one pair leaves every record out once."""


def checks(
    target: Target,
    view: View,
    attacks: Mapping[str, Attack],
    outcomes: Mapping[str, Outcome],
    member: np.ndarray,
    fpr: float,
    level: float,
    seed: int,
) -> list[Check]:
    """Return all checks, gates first."""
    return [
        blind_baseline(target, member, seed),
        null_audit(view, attacks, outcomes, member),
        _independence(view, member),
        _shadow_likeness(target, view),
        _power(member, fpr, level),
        _ties(outcomes, member, fpr),
        _overlap(target, member),
        _unscored(target, view, outcomes),
    ]


def blind_baseline(target: Target, member: np.ndarray, seed: int) -> Check:
    """Can members be told from non-members without the model?"""
    audited = target.records.audited
    title = "Could anyone tell the two groups apart without the model?"
    features = _numbers(target)
    if features is None:
        return Check(name="blind_baseline", title=title, passed=None, sentence=_NO_NUMBERS)
    table = np.column_stack([features.reshape(len(features), -1), target.records.y[audited]])
    scores, rows = blind_baseline_scores(table, member, seed=seed)
    auc, low, high = auc_interval(scores, member[rows], GATE_LEVEL)
    passed = low <= 0.5
    return Check(
        name="blind_baseline",
        title=title,
        passed=passed,
        sentence=(
            f"A classifier that sees the records but not the model reaches AUC {auc:.3f} ({share(GATE_LEVEL)} interval "
            f"{low:.3f} to {high:.3f}; 0.5 is guessing). "
            + (
                "It does not do better than guessing, so what the attacks find comes from the model."
                if passed
                else "The two groups differ by themselves, so an attack's success proves nothing about the model: "
                "draw members and non-members at random from the same source."
            )
        ),
        values={"auc": auc, "low": low, "high": high, "records": len(rows)},
    )


_NO_NUMBERS = "Not tested: the records were not given as numbers or categories."


def _numbers(target: Target) -> np.ndarray | None:
    """Return the audited records as numbers ``(N, …)``, or ``None`` for texts, or when only predictions are known."""
    try:
        features = as_features(target.records.X)[target.records.audited]
    except (ValueError, TypeError):
        return None
    return features if features.size and features.dtype.kind in "fiub" else None


def null_scores(view: View, attack: Attack) -> np.ndarray:
    """Return how member-like each record looks to models that never saw it, as mean rank in [0, 1].

    Shadow models play the target in turn, each on the records that it did not train on, with the others as
    references. (N,), NaN for records that no model left out.
    """
    references = view.references
    n = len(view)
    total, count = np.zeros(n), np.zeros(n)
    most = NULL_MODELS_ASKED if getattr(attack, "asks", False) else NULL_MODELS
    for k in range(min(most, len(references) if references is not None else 0)):
        assert references is not None
        rows = np.flatnonzero(~references.trained_on[k])
        values = attack.run(view.as_target(k, rows)).values
        known = ~np.isnan(values)
        total[rows[known]] += rankdata(values[known]) / max(1, known.sum())
        count[rows[known]] += 1
    with np.errstate(invalid="ignore"):
        return total / count


def null_audit(view: View, attacks: Mapping[str, Attack], outcomes: Mapping[str, Outcome], member: np.ndarray) -> Check:
    """Do the same attacks find anything in models that never saw the records?"""
    title = "Do the attacks stay silent where there is nothing to find?"
    if view.references is None or len(view.references) < 4:
        return Check(
            name="null_audit",
            title=title,
            passed=None,
            sentence="Not tested: it needs at least four shadow models to play the target.",
        )
    intervals: dict[str, list[float]] = {}
    level = 1 - (1 - GATE_LEVEL) / max(1, len(outcomes))
    for name, outcome in outcomes.items():
        try:
            scores = null_scores(view, _as_run(attacks[name], outcome))
        except (NotApplicable, AccessDenied):
            continue
        known = ~np.isnan(scores)
        auc, low, high = auc_interval(scores[known], member[known], level)
        if np.isfinite(auc):
            intervals[name] = [auc, low, high]
    if not intervals:
        return Check(
            name="null_audit",
            title=title,
            passed=None,
            sentence="Not tested: no attack could play against a shadow model.",
        )
    wrong = {name: values for name, values in intervals.items() if not values[1] <= 0.5 <= values[2]}
    if wrong:
        worst = max(wrong, key=lambda each: abs(wrong[each][0] - 0.5))
        auc, low, high = wrong[worst]
        verdict = (
            f"{outcomes[worst].title} reaches AUC {auc:.3f} ({low:.3f} to {high:.3f}) although there is nothing to find: "
            "members and non-members differ in how hard they are, so draw them at random from the same source. (One fair "
            "audit in a hundred fails this check by chance: if they were drawn so, repeat it with another seed.)"
        )
    else:
        low = min(values[0] for values in intervals.values())
        high = max(values[0] for values in intervals.values())
        verdict = f"all of them stay at guessing (AUC {low:.3f} to {high:.3f}; 0.5 is guessing)."
    return Check(
        name="null_audit",
        title=title,
        passed=not wrong,
        sentence=f"Run against shadow models that never saw the records, {verdict}",
        values={"auc": intervals},
    )


def _as_run(attack: Attack, outcome: Outcome) -> Attack:
    """Return the attack with what it chose for itself in the audit, so that it is the same attack."""
    assert outcome.scores is not None
    names = {field.name for field in dataclasses.fields(attack)}  # type: ignore[arg-type]
    chosen: dict[str, Any] = {name: value for name, value in outcome.scores.notes.items() if name in names}
    return dataclasses.replace(attack, **chosen) if chosen else attack  # type: ignore[type-var]


def _independence(view: View, member: np.ndarray) -> Check:
    """Do the attacker's own splits of the records carry the truth?"""
    title = "Are the shadow models' training sets independent of the target's?"
    if view.references is None or not len(view.references):
        return Check(name="independence", title=title, passed=None, sentence="No shadow models were used.")
    inside = view.references.trained_on.astype(float)
    spread = inside.std(axis=1) * member.std()
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = ((inside - inside.mean(axis=1, keepdims=True)) @ (member - member.mean())) / (
            len(member) * spread
        )
    worst = float(np.nanmax(np.abs(correlation), initial=0.0))
    # 5 standard errors: by chance once in 1.7 million models
    passed = worst <= 5 / np.sqrt(len(member))
    return Check(
        name="independence",
        title=title,
        passed=passed,
        sentence=(
            f"The largest correlation of a shadow model's training set with the target's is {worst:.3f}. "
            + (
                "That is what chance gives."
                if passed
                else "That is far more than chance gives: the attacker was handed part of the truth. Draw the shadow "
                "models' training sets with another seed than the target's."
            )
        ),
        values={"correlation": worst},
    )


def _shadow_likeness(target: Target, view: View) -> Check:
    title = "Do the shadow models resemble the model under audit?"
    if view.references is None or not len(view.references):
        return Check(name="shadow_likeness", title=title, passed=None, sentence="No shadow models were used.")
    right = view.references.logits.argmax(axis=-1) == view.labels
    inside = view.references.trained_on
    shadow_train, shadow_test = float(right[inside].mean()), float(right[~inside].mean())
    own_train, own_test = target.accuracy()
    passed = max(abs(own_train - shadow_train), abs(own_test - shadow_test)) <= LIKENESS
    return Check(
        name="shadow_likeness",
        title=title,
        passed=passed,
        sentence=(
            f"The model is right for {share(own_train)} of its training records and {share(own_test)} of the others; the shadow "
            f"models for {share(shadow_train)} and {share(shadow_test)}. "
            + (
                f"They behave alike (neither differs by more than {share(LIKENESS)})."
                if passed
                else f"They differ by more than {share(LIKENESS)}, so the attacks with shadow models are weaker than a real attacker's may "
                "be: check the recipe."
            )
        ),
        values={"target": [own_train, own_test], "shadows": [shadow_train, shadow_test]},
    )


def _power(member: np.ndarray, fpr: float, level: float) -> Check:
    members, non_members = int(member.sum()), int((~member).sum())
    smallest = detectable_auc(members, non_members, level=level)
    enough = non_members >= 3 / fpr
    return Check(
        name="power",
        title="Could this audit have seen a small leak?",
        passed=enough,
        sentence=(
            f"With {members:,} members and {non_members:,} non-members, an AUC of {smallest:.3f} or more would be told "
            f"from guessing in four out of five audits; the smallest false-positive rate above 0 that the sample "
            f"resolves is {share(1 / non_members)}. "
            + (
                f"The rate of {share(fpr)} that decides the verdict is resolved."
                if enough
                else f"The rate of {share(fpr)} that decides the verdict needs at least {int(np.ceil(3 / fpr)):,} non-members."
            )
        ),
        values={
            "members": members,
            "non_members": non_members,
            "detectable_auc": smallest,
            "smallest_fpr": 1 / non_members,
        },
    )


def least_fpr(scores: np.ndarray, member: np.ndarray) -> float:
    """Return the false-positive rate of accusing only the records with the highest score, all that share it.

    An attack that only says yes or no, or sorts records into a few classes, cannot accuse anybody at a lower one.
    """
    return float((scores == scores.max())[~member].mean()) if len(scores) and not member.all() else 0.0


def _ties(outcomes: Mapping[str, Outcome], member: np.ndarray, fpr: float) -> Check:
    """Is the rate that decides within reach of every attack, or do records that share a score straddle it?"""
    tied = {}
    for name, outcome in outcomes.items():
        assert outcome.scores is not None
        known = ~np.isnan(outcome.scores.values)
        scores, truth = outcome.scores.values[known], member[known]
        if not truth.any() or truth.all() or least_fpr(scores, truth) > fpr:
            continue  # such an attack is judged at its own rate
        point = threshold_at_fpr(scores, truth, fpr)
        below = scores[scores < point.threshold]
        block = int((below == below.max()).sum()) if len(below) else 0
        if block > max(1, fpr * len(scores)) and point.fpr < fpr / 2:
            tied[name] = block
    names = ", ".join(f"{outcomes[name].title} ({count:,} records)" for name, count in tied.items())
    return Check(
        name="ties",
        title="Do many records share one score?",
        passed=not tied,
        sentence=(
            f"Records share a score in {names}: such an attack cannot be read at a false-positive rate of {share(fpr)}."
            if tied
            else f"No attack gives the same score to so many records that a false-positive rate of {share(fpr)} is out of reach."
        ),
        values={"largest": tied},
    )


def _overlap(target: Target, member: np.ndarray) -> Check:
    import pandas as pd

    title = "Are some records on both sides?"
    features = as_features(target.records.X)[target.records.audited]
    if features.size == 0:
        return Check(
            name="overlap",
            title=title,
            passed=None,
            sentence="Not tested: the records themselves were not given.",
        )
    table = pd.DataFrame(features.reshape(len(features), -1))
    table["label"] = target.records.y[target.records.audited]
    codes = pd.util.hash_pandas_object(table, index=False).to_numpy()
    shared = int(np.isin(codes[~member], codes[member]).sum())
    twins = shared / max(1, int((~member).sum()))
    return Check(
        name="overlap",
        title=title,
        passed=twins <= 0.01,
        sentence=(
            f"{shared:,} of the non-members ({share(twins)}) have exactly the features and label of a member"
            + ("; they hide leakage, since no attack can tell such twins apart." if twins > 0.01 else ".")
        ),
        values={"shared": shared, "share": twins},
    )


def _unscored(target: Target, view: View, outcomes: Mapping[str, Outcome]) -> Check:
    """Tell the records that an attack could not score from those that served it as practice."""
    practice = np.zeros(len(view), dtype=bool) if view.known is None else view.known
    index = np.flatnonzero(target.records.audited)
    lacking: dict[str, np.ndarray] = {}
    learnt_from: dict[str, int] = {}
    for name, outcome in outcomes.items():
        assert outcome.scores is not None
        missing = np.isnan(outcome.scores.values)
        if missing.any() and missing[practice].all() and practice.any():
            learnt_from[name] = int(practice.sum())
            missing = missing & ~practice
        if missing.any():
            lacking[name] = index[missing]
    sentences = []
    if lacking:
        names = "; ".join(
            f"{outcomes[name].title}: {len(rows):,} (rows {', '.join(map(str, rows[:SHOWN]))}{', …' if len(rows) > SHOWN else ''})"
            for name, rows in lacking.items()
        )
        sentences.append(
            f"Left out for lack of a shadow model that did, or of one that did not, train on them: {names}."
        )
    if learnt_from:
        names = ", ".join(outcomes[name].title for name in learnt_from)
        sentences.append(
            f"{next(iter(learnt_from.values())):,} records whose membership this attacker knows anyway served as practice "
            f"and are not part of the question for {names}."
        )
    return Check(
        name="unscored",
        title="Was every record scored?",
        passed=not lacking,
        sentence=" ".join(sentences) or "Yes, by every attack.",
        values={
            "unscored": {name: len(rows) for name, rows in lacking.items()},
            "rows": {name: rows[:LISTED].tolist() for name, rows in lacking.items()},
            "practice": learnt_from,
        },
    )
