"""Which columns together give a secret away, or tie two sources together: sought on half of the people, judged on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from leakpro_nb.attacks.synthetic.base import Attempts, Contest
from leakpro_nb.attacks.synthetic.inference import infer_by_neighbour
from leakpro_nb.attacks.synthetic.linkability import link
from leakpro_nb.game.tables import Coded
from leakpro_nb.measures.residual import Residual, holm, residual_risk

if TYPE_CHECKING:
    from leakpro_nb.audits.synthetic_data import Plan

__all__ = ["sweep"]

MOST_KNOWN = 4
"""Columns of a set at most: with more, it is nearly the whole record, which the attacks on whole records try."""

SETS = 24
"""Sets of each size that are tried; drawn at random where there are more."""

GROWN = 2
"""Best sets of a size that grow by one column."""

JUDGED = 2
"""Best secrets of each size of set, with their sets, that are judged."""

SPLITS, JUDGED_SPLITS = 8, 2
"""Divisions of the columns between two sources that are tried, and those that are judged."""

SEARCH_PAIRS, JUDGE_PAIRS = 2_000_000, 6_000_000
"""Pairs of records that are compared for each set: with larger tables, fewer people are attacked."""

FEWEST, MOST = 100, 1000
"""People on either side in each half; with fewer there is nothing to search with."""


@dataclass(frozen=True)
class _Half:
    """People of the original and control people on whom sets of columns are sought, or judged."""

    people: Coded
    others: Coded


def sweep(plan: Plan) -> dict[str, Any]:
    """Return by which few columns each secret, and each link, is given away; p-values are adjusted (Holm).

    Sets of columns are sought on one half of the people: every column alone, then the best sets with one more column.
    The best of each size are judged on the other half, so that the choice costs nothing. Attack: the nearest record.
    """
    tables = plan.tables
    if tables.control is None:
        return {"reason": "there are no control people to compare with"}
    rng = np.random.default_rng(np.random.SeedSequence(plan.seed, spawn_key=(5,)))
    people, others = rng.permutation(tables.people), rng.permutation(tables.others)
    if min(len(people), len(others)) < 2 * FEWEST:
        return {"reason": f"{2 * FEWEST} people on either side are needed, half to search with and half to judge"}
    search, judge = (
        _Half(
            tables.original.take(np.sort(people[half::2][: _people(plan, pairs)])),
            tables.control.take(np.sort(others[half::2][: _people(plan, pairs)])),
        )
        for half, pairs in ((0, SEARCH_PAIRS), (1, JUDGE_PAIRS))
    )
    chosen, tried = _sought(plan, search, rng)
    links, splits = _sought_links(plan, search, rng)
    named: list[dict[str, Any]] = [{"secret": secret, "known": list(known)} for secret, known in chosen]
    named += [{"link": [list(side) for side in each]} for each in links]
    contests = [_inferred(plan, judge, known, [secret])[secret] for secret, known in chosen]
    contests += [_linked(plan, judge, each) for each in links]
    level = 1 - (1 - plan.confidence) / max(1, len(named))
    risks = [_risk(contest, level) for contest in contests]
    adjusted = holm([risk.p_value for risk in risks]) if risks else []
    told = [
        {
            **row, "risk": risk.value, "low": max(-1.0, risk.low), "high": risk.high, "p_value": p_value,
            "rate": risk.attack.value, "control": risk.control.value,
        }
        for row, risk, p_value in zip(named, risks, adjusted, strict=True)
        if np.isfinite(risk.value)
    ]  # fmt: skip
    told.sort(key=lambda row: (row["p_value"], -row["low"]))
    return {
        "rows": told, "tried": tried, "splits": splits, "searched": len(search.people), "judged": len(judge.people),
    }  # fmt: skip


def _people(plan: Plan, pairs: int) -> int:
    return int(np.clip(pairs // (2 * len(plan.tables.synthetic)), FEWEST, MOST))


def _sought(plan: Plan, search: _Half, rng: np.random.Generator) -> tuple[list[tuple[str, tuple[str, ...]]], int]:
    """Return the secrets with the columns that tell most of them, the best of each size, and how many sets were tried."""
    columns = [name for name in plan.release.columns if not plan.known or name in plan.known]
    sets, tried = _some([(name,) for name in columns], rng), 0
    chosen: list[tuple[str, tuple[str, ...]]] = []
    for _ in range(min(MOST_KNOWN, len(plan.release.columns) - 1)):
        leads = [
            (lead, secret, known)
            for known in sets
            for secret, lead in _leads(plan, search, known).items()
        ]  # fmt: skip
        tried += len(sets)
        leads.sort(key=lambda each: (-each[0], each[1:]))
        best = {secret: known for _, secret, known in reversed(leads)}  # of each secret, the first
        ranked = list(dict.fromkeys(secret for _, secret, _ in leads))
        chosen += [(secret, best[secret]) for secret in ranked[:JUDGED]]
        grown = list(dict.fromkeys(known for _, _, known in leads))[:GROWN]
        larger = {
            tuple(c for c in columns if c in {*known, new}) for known in grown for new in columns if new not in known
        }
        sets = _some(sorted(larger), rng)
    return chosen, tried


def _some(sets: list[tuple[str, ...]], rng: np.random.Generator) -> list[tuple[str, ...]]:
    return sets if len(sets) <= SETS else [sets[i] for i in np.sort(rng.permutation(len(sets))[:SETS])]


def _leads(plan: Plan, half: _Half, known: tuple[str, ...]) -> dict[str, float]:
    """Return by how many standard errors each secret is inferred more often in the original than among others."""
    secrets = [each for each in plan.secrets if each not in known]
    return {each: _lead(contest) for each, contest in _inferred(plan, half, known, secrets).items()}


def _inferred(plan: Plan, half: _Half, known: Sequence[str], secrets: Sequence[str]) -> dict[str, Contest]:
    if not secrets:
        return {}
    people, others = (
        infer_by_neighbour(side, plan.tables.synthetic, secrets, known, plan.tolerance)
        for side in (half.people, half.others)
    )
    return {
        each: Contest(_each_once(people[each]), _each_once(others[each])) for each in secrets
    }  # fmt: skip


def _each_once(success: np.ndarray) -> Attempts:
    return Attempts(success, np.arange(len(success)))


def _sought_links(
    plan: Plan, search: _Half, rng: np.random.Generator
) -> tuple[list[tuple[tuple[str, ...], tuple[str, ...]]], int]:
    """Return the divisions of the columns by which most records are linked, and how many were tried."""
    names = plan.release.columns
    if len(names) < 4:
        return [], 0
    drawn = []
    for _ in range(SPLITS):
        first = rng.random(len(names)).argsort()[: len(names) // 2]
        drawn.append(tuple(tuple(n for i, n in enumerate(names) if (i in first) == side) for side in (True, False)))
    splits = [(first, second) for first, second in dict.fromkeys(drawn)]
    leads = [_lead(_linked(plan, search, each)) for each in splits]
    return [splits[i] for i in np.argsort(leads, kind="stable")[::-1][:JUDGED_SPLITS]], len(splits)


def _linked(plan: Plan, half: _Half, split: tuple[tuple[str, ...], tuple[str, ...]]) -> Contest:
    return link(half.people, plan.tables.synthetic, half.others, links=split, ks=(1,), seed=plan.seed)[1]


def _lead(contest: Contest) -> float:
    mine, theirs = contest.attack, contest.control
    assert theirs is not None
    spread = np.sqrt(mine.success.var() / len(mine) + theirs.success.var() / len(theirs))
    return float((mine.rate - theirs.rate) / spread) if spread else float(mine.rate - theirs.rate)


def _risk(contest: Contest, level: float) -> Residual:
    assert contest.control is not None
    return residual_risk(contest.attack.success, contest.control.success, level=level)
