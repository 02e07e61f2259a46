"""The checks that every privacy-budget audit makes of itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from leakpro_nb.measures import ties as count_ties
from leakpro_nb.measures.epsilon import EpsilonBound, epsilon_lower_bound
from leakpro_nb.results import Check
from leakpro_nb.risk.budget import nats
from leakpro_nb.words import share

if TYPE_CHECKING:
    from leakpro_nb.audits.canary_runs import Observed
    from leakpro_nb.audits.privacy_budget import Canaries, Plan, Scored

__all__ = ["GATES", "checks"]

GATES = ("null_audit", "coins")
"""Checks without which no figure can be put down to the training."""

RARELY = 0.001
"""How often a fair experiment fails one of the checks by chance."""

COST = 0.05
"""How much accuracy the canaries may cost before the audited training is another one; a rule of thumb of this project."""

ROUNDING = 1e-3
"""What single-precision numbers may add to a measurement of the training."""

TOSSES = 200
"""Fresh tosses of the coins in the null audit."""


def checks(
    plan: Plan,
    canaries: Canaries,
    observed: Sequence[Observed],
    scored: Mapping[str, Scored],
    bounds: Mapping[str, Mapping[str, EpsilonBound]],
) -> list[Check]:
    """Return all checks, gates first."""
    return [
        _null_audit(plan, scored),
        _coins(scored),
        _mechanism(plan, canaries, observed),
        _cost(plan, canaries, observed),
        _power(plan, canaries, bounds),
        _ties(plan, scored),
    ]


def _null_audit(plan: Plan, scored: Mapping[str, Scored]) -> Check:
    """Does the attack find canaries in a training that had none?"""
    method, rng = plan.bounds[0], np.random.default_rng(np.random.SeedSequence(plan.seed, spawn_key=(9,)))
    alarms, claims, tosses = [], 0, 0
    for name, each in scored.items():
        inserted = each.inserted[: len(each.null)]
        at_once = epsilon_lower_bound(
            each.null, inserted, method=method, plan=plan.rule, delta=plan.delta, confidence=1 - RARELY, seed=plan.seed
        )
        if at_once.eps > 0:
            alarms.append(f"{plan.kinds[name].title}: {nats(at_once.eps)}")
        for toss in range(TOSSES // len(scored)):
            coins = rng.random(len(each.null)) < 0.5
            claims += (
                epsilon_lower_bound(
                    each.null,
                    coins,
                    method=method,
                    plan=plan.rule,
                    delta=plan.delta,
                    confidence=plan.confidence,
                    seed=toss,
                ).eps
                > 0
            )
            tosses += 1
    expected = 1 - plan.confidence
    often = stats.binomtest(int(claims), tosses, expected, alternative="greater").pvalue < RARELY
    return Check(
        name="null_audit",
        title="Does the attack find canaries in a training that had none?",
        passed=not alarms and not often,
        sentence=(
            "The same attack was made on a model that was trained without any canary, where there is nothing to be found. "
            + (f"It found the coins all the same ({'; '.join(alarms)}). " if alarms else "It did not find the coins. ")
            + f"With fresh coins it claimed some leakage in {claims} of {tosses} tosses; up to about "
            f"{share(expected)} of them is what the stated confidence allows."
        ),
        values={"false_claims": int(claims), "tosses": tosses, "alarms": alarms},
    )


def _coins(scored: Mapping[str, Scored]) -> Check:
    """Did the coins fall like fair and independent ones?"""
    odd = []
    for each in scored.values():
        coins = each.inserted
        heads, m = int(coins.sum()), len(coins)
        changes = int((coins[1:] != coins[:-1]).sum())
        odd += [stats.binomtest(heads, m).pvalue, stats.binomtest(changes, m - 1).pvalue]
    smallest = min(1.0, min(odd) * len(odd))
    heads, m = (sum(int(f(each.inserted)) for each in scored.values()) for f in (np.sum, len))
    return Check(
        name="coins",
        title="Were the coins of the canaries fair?",
        passed=bool(smallest >= RARELY),
        sentence=(
            f"{heads:,} of {m:,} coins let their canary into training, each tossed by itself after all canaries were made. "
            f"Fair coins are as uneven as these, in number or in order, in {share(smallest)} of all experiments."
        ),
        values={"inserted": heads, "canaries": m, "p_value": smallest},
    )


def _mechanism(plan: Plan, canaries: Canaries, observed: Sequence[Observed]) -> Check:
    """Did the training do what its settings say?"""
    title = "Did the training clip and add noise as its settings say?"
    if plan.mechanism is None:
        return Check(
            name="mechanism",
            title=title,
            passed=None,
            sentence=(
                "Not tested: a training function of one's own cannot be watched. The canaries are the only test of it."
                if plan.target.recipe is not None and plan.target.recipe.train is not None
                else "Not tested: the recipe is ordinary training, whose settings name neither clipping nor noise. Nothing in "
                "it keeps any budget; what the claim rests on has to be shown elsewhere."
            ),
        )
    noise, problems = plan.mechanism.noise_multiplier, []
    traces = [each.trace for each in observed]
    measured, beyond = [trace["noise"] for trace in traces], stats.norm.isf(RARELY / len(traces))
    for trace in traces:
        # a standard deviation from so many draws is itself uncertain by one over the root of twice their number
        off = beyond / math.sqrt(2 * trace["steps"] * trace["parameters"]) + ROUNDING
        if abs(trace["noise"] - noise) > off * noise + ROUNDING:
            problems.append("the noise is not as configured")
            break
    for trace in traces:
        draws = trace["steps"] * len(canaries.base)
        spread = math.sqrt(trace["sample_rate"] * (1 - trace["sample_rate"]) / draws)
        if abs(trace["drawn"] - trace["sample_rate"]) > beyond * spread + 1e-9:
            problems.append("records were not drawn as often as configured")
            break
    pull = max(trace["pull"] for trace in traces)
    if pull > 1 + ROUNDING:
        problems.append("gradients were not clipped")
    return Check(
        name="mechanism",
        title=title,
        passed=not problems,
        sentence=(
            f"Measured at every step of {len(traces)} trainings: noise {min(measured):.3f} to {max(measured):.3f} times the "
            f"clipping norm (configured {noise:g}); records drawn per step {share(traces[0]['drawn'])} (configured "
            f"{share(traces[0]['sample_rate'])}); mean gradient of a batch at most {pull:.2f} times the clipping norm (allowed "
            f"1). " + (f"Problem: {'; '.join(problems)}." if problems else "All as configured.")
        ),
        values={"noise": measured, "pull": pull},
    )


def _cost(plan: Plan, canaries: Canaries, observed: Sequence[Observed]) -> Check:
    """Is the audited model as good as one without canaries?"""
    labels = plan.target.records.y[canaries.test]
    right = [float((each.test.argmax(axis=1) == labels).mean()) for each in observed]
    audited, clean = float(np.mean(right[: plan.runs])), right[plan.runs :]
    trained_on = np.isin(canaries.test, canaries.base).all()
    passed = min(clean) - audited <= COST  # two clean models differ too, by noise and chance
    return Check(
        name="cost",
        title="Is the audited training like the real one?",
        passed=passed,
        sentence=(
            f"Right answers on {'records that trained it' if trained_on else 'other records'}: {share(audited)} with canaries, "
            f"{share(clean[0])} and {share(clean[1])} without. "
            + (
                "The canaries hardly changed the model."
                if passed
                else "The canaries changed the model by more than 5 percentage points: use fewer of them, or the bound is one "
                "for a training that nobody would use. It is a valid bound on epsilon all the same."
            )
        ),
        values={"with_canaries": audited, "without": clean},
    )


def _power(plan: Plan, canaries: Canaries, bounds: Mapping[str, Mapping[str, EpsilonBound]]) -> Check:
    """Could this experiment have refuted the claim?"""
    reach = max(found[plan.bounds[0]].plan_ceiling for found in bounds.values())
    claim, m = canaries.claim.epsilon, plan.num_canaries * plan.runs
    return Check(
        name="power",
        title="Could this experiment have refuted the claim?",
        passed=None if math.isinf(claim) else reach > claim,
        sentence=(
            f"With {m:,} canaries of a kind, perfect guesses would have proved an epsilon of {nats(reach)} by the bound that "
            "decides. "
            + (
                "There is no claim to be refuted."
                if math.isinf(claim)
                else f"The claim of {nats(claim)} is below that, so a training that breaks it badly enough could have been caught."
                if reach > claim
                else f"The claim of {nats(claim)} is above that: no attack could have refuted it here. More canaries, more runs "
                "or a larger guess_share would raise the ceiling, by little each; a smaller claim can be tested better."
            )
        ),
        values={"ceiling": reach, "claim": None if math.isinf(claim) else claim},
    )


def _ties(plan: Plan, scored: Mapping[str, Scored]) -> Check:
    """Are there enough different scores to guess by?"""
    worst = {name: count_ties(each.values)[1] / len(each.values) for name, each in scored.items()}
    name, largest = max(worst.items(), key=lambda item: item[1])
    passed = largest < 0.5
    return Check(
        name="ties",
        title="Does the attack tell canaries apart at all?",
        passed=passed,
        sentence=(
            f"{plan.kinds[name].title}: {share(largest)} of the canaries share one score. "
            + (
                "Equal scores are put in a random order."
                if passed
                else "Most guesses are then made by lot: a bound of 0 means nothing. An attacker who sees confidence scores "
                "could do more."
            )
        ),
        values=worst,
    )
