"""Which columns carry a leak, and who is exposed: by column, by pair of columns, by group, by record."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from leakpro_nb.attacks.synthetic.base import Attempts, Contest
from leakpro_nb.attacks.synthetic.inference import infer_by_neighbour
from leakpro_nb.attacks.synthetic.membership import dcr, vulnerability
from leakpro_nb.attacks.synthetic.singling_out import Way, single_out
from leakpro_nb.audits import exposure
from leakpro_nb.measures.residual import Residual, holm, residual_risk

if TYPE_CHECKING:
    from leakpro_nb.audits.synthetic_data import Line, Plan

__all__ = ["columns", "groups", "records"]

SWEEP_QUERIES, SWEEP_COLUMNS = 10_000, 3
"""Predicates, and conditions of each, by which columns and pairs of columns are compared."""

FEWEST_VALUES = 10
"""Values of a column that isolate a synthetic record, with which a rate says something."""

FEWEST_QUERIES = 30
"""Predicates on a pair of columns with which a rate says something."""

WAYS: tuple[Way, Way] = ("univariate", "multivariate")

LEFT_OUT_PAIRS = 400_000_000
"""Pairs of records that are compared when one column after the other is left out: tens of seconds."""

SMALLEST_GROUP = 20
"""Groups with fewer people on either side are not shown: no figure about them would mean anything."""

MOST_VALUES = 12
"""Categories of a column up to which they make groups; numbers are cut into quarters."""

MOST_COMPARED = 10_000
"""Rows of the original among which the most vulnerable are sought."""

LISTED = 20
"""Most vulnerable records, and worst groups and pairs, that the result lists."""


def columns(plan: Plan) -> dict[str, Any]:
    """Return how much each column, and each pair of them, has to do with successful attacks.

    ``columns``: residual risk of predicates on one value of the column. ``pairs``: residual risk of predicates that use
    both columns. ``without``: by how much inference falls where the column is not known. P-values are adjusted (Holm).
    """
    tables, names = plan.tables, list(plan.release.columns)
    if tables.control is None:
        return {"reason": "there are no control people to compare with"}
    one, several = (
        single_out(
            tables.original, tables.synthetic, tables.control, way=way, queries=SWEEP_QUERIES,
            columns=min(SWEEP_COLUMNS, len(names)), seed=plan.seed + 1,
        )
        for way in WAYS
    )  # fmt: skip
    falls = _without_each(plan)
    single = [{"column": name, **_about(one, [c])} for c, name in enumerate(names)]
    single = [each for each in single if each["queries"] >= FEWEST_VALUES]
    pairs = [
        {"first": names[a], "second": names[b], **_about(several, [a, b])}
        for a, b in combinations(range(len(names)), 2)
    ]
    pairs = [each for each in pairs if each["queries"] >= FEWEST_QUERIES]
    for rows in (single, pairs):
        for row, adjusted in zip(rows, holm([row["p_value"] for row in rows]) if rows else [], strict=True):
            row["p_value"] = adjusted
    single.sort(key=lambda row: (row["p_value"], -(row["risk"] or -1.0)))
    pairs.sort(key=lambda row: (row["p_value"], -(row["risk"] or -1.0)))
    return {"columns": single, "pairs": pairs[:LISTED], "tried": len(pairs), "without": falls}


def _about(contest: Contest, chosen: Sequence[int]) -> dict[str, Any]:
    """Return the residual risk of the predicates that use all the chosen columns."""
    mine, theirs = contest.attack, contest.control
    assert theirs is not None
    if mine.columns is None or not len(mine):
        return {"queries": 0, "risk": None, "p_value": 1.0}
    rows = np.flatnonzero(mine.columns[:, list(chosen)].all(axis=1))
    risk = _residual(_rows(mine, rows), _rows(theirs, rows)) if len(rows) else None
    return {"queries": len(rows), **_told(risk)}


def _rows(attempts: Attempts, rows: np.ndarray) -> Attempts:
    return Attempts(attempts.success[rows], attempts.record[rows])


def _residual(mine: Attempts, theirs: Attempts, level: float = 0.95) -> Residual:
    return residual_risk(
        mine.success, theirs.success, attack_record=mine.record, control_record=theirs.record, level=level
    )


def _told(risk: Residual | None) -> dict[str, Any]:
    if risk is None or not np.isfinite(risk.value):
        return {"risk": None, "p_value": 1.0}
    return {
        "risk": risk.value, "low": max(-1.0, risk.low), "high": risk.high, "p_value": risk.p_value,
        "rate": risk.attack.value, "control": risk.control.value,
    }  # fmt: skip


def _without_each(plan: Plan) -> dict[str, dict[str, float]]:
    """Return by how much leaving out a column lowers the lead of inference in the original, in shares of guesses.

    Ranges hold jointly for all columns (Bonferroni).
    """
    tables, names = plan.tables, list(plan.release.columns)
    if plan.known or len(names) < 3 or tables.control is None:
        return {}
    most = max(100, LEFT_OUT_PAIRS // (2 * len(tables.synthetic) * len(names)))
    people = tables.original.take(_spread(tables.people, most))
    others = tables.control.take(_spread(tables.others, most))
    with_all = [
        infer_by_neighbour(side, tables.synthetic, plan.secrets, tolerance=plan.tolerance) for side in (people, others)
    ]
    z = stats.norm.ppf(1 - (1 - plan.confidence) / 2 / len(names))
    falls = {}
    for name in names:
        rest = [each for each in names if each != name]
        secrets = [each for each in plan.secrets if each != name]
        if not secrets:
            continue
        lost = []
        for side, full in zip((people, others), with_all, strict=True):
            less = infer_by_neighbour(side, tables.synthetic, secrets, rest, plan.tolerance)
            lost.append(np.mean([full[each] - less[each] for each in secrets], axis=0))
        fall = float(lost[0].mean() - lost[1].mean())
        half = float(z * np.sqrt(sum(each.var(ddof=1) / len(each) for each in lost)))
        falls[name] = {"fall": fall, "fall_low": fall - half, "fall_high": fall + half}
    return falls


def _spread(rows: np.ndarray, most: int) -> np.ndarray:
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]


def groups(plan: Plan, lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Return the inference risk of people with each value of each secret, and within each subgroup.

    Attack: the nearest record. For a value of a secret, the guesses of that secret; for a subgroup, the guesses of all
    secrets. Ranges hold jointly for all groups (Bonferroni), and groups of few people are left out.
    """
    tables = plan.tables
    if tables.control is None:
        return []
    nearest = {line.secret: line.contest for line in lines if line.name.endswith("_nearest") and line.contest}
    everyone = [np.mean([_successes(c)[side] for c in nearest.values()], axis=0) for side in (0, 1)]
    found = []
    for name in plan.release.columns:
        labels = _labels(plan, name)
        for label in dict.fromkeys(labels[0]):
            mine, theirs = (np.flatnonzero(side == label) for side in labels)
            if min(len(mine), len(theirs)) < SMALLEST_GROUP:
                continue
            kinds = {"all secrets": everyone, **({name: _successes(nearest[name])} if name in nearest else {})}
            for secret, (hits, misses) in kinds.items():
                found.append((name, str(label), secret, hits[mine], misses[theirs]))
    level = 1 - (1 - plan.confidence) / max(1, len(found))
    told = [
        {
            "column": name, "group": label, "secret": secret, "people": len(mine), "control_people": len(theirs),
            **_told(residual_risk(mine, theirs, level=level)),
        }
        for name, label, secret, mine, theirs in found
    ]  # fmt: skip
    told = [each for each in told if each["risk"] is not None]
    for each, adjusted in zip(told, holm([each["p_value"] for each in told]) if told else [], strict=True):
        each["p_value"] = adjusted
    return sorted(told, key=lambda each: -each["low"])


def _successes(contest: Contest) -> tuple[np.ndarray, np.ndarray]:
    assert contest.control is not None
    return contest.attack.success, contest.control.success


def _labels(plan: Plan, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the group of each person attacked and of each control person; empty for columns that make no groups."""
    import pandas as pd

    tables = plan.tables
    assert tables.control is not None
    people, others = tables.original.take(tables.people), tables.control.take(tables.others)
    column = people.columns[people.names.index(name)]
    values = np.concatenate([people.values(name), others.values(name)])
    nobody = np.zeros(0, dtype=object)
    if column.is_date:
        return nobody, nobody
    if column.kind == "category":
        if len(column.categories) > MOST_VALUES:
            return nobody, nobody
        words = np.array(["not known", *map(str, column.categories)], dtype=object)
        labels = words[values + 1]
    else:
        series = pd.Series(values)
        cut = exposure._quarters(series) if series.nunique() > MOST_VALUES else series
        labels = cut.astype(object).where(series.notna(), "not known").astype(str).to_numpy()
    return labels[: len(people)], labels[len(people) :]


def records(plan: Plan) -> list[dict[str, Any]]:
    """Return the records that stand most alone in the original, and what the release says about them."""
    tables = plan.tables
    rng = np.random.default_rng(np.random.SeedSequence(plan.seed, spawn_key=(3,)))
    size = min(MOST_COMPARED, len(tables.original))
    rows = np.sort(rng.choice(len(tables.original), size, replace=False))
    alone = vulnerability(tables.original.take(rows))
    order = np.argsort(-alone, kind="stable")[:LISTED]
    chosen = tables.original.take(rows[order])
    hits = infer_by_neighbour(chosen, tables.synthetic, plan.secrets, plan.known, plan.tolerance)
    nearest = -dcr(chosen, tables.synthetic, "gower") / len(plan.release.columns)
    right = np.sum([hits[each] for each in plan.secrets], axis=0)
    listed: list[dict[str, Any]] = [
        {
            "record": int(rows[i]), "alone": float(alone[i]), "distance": float(nearest[place]),
            "secrets_inferred": float(right[place]), "secrets": len(plan.secrets),
        }
        for place, i in enumerate(order)
    ]  # fmt: skip
    if plan.reveal_records:
        frame = plan.release.original
        for each in listed:
            each["values"] = {str(k): str(v) for k, v in frame.iloc[each["record"]].items()}
    return listed
