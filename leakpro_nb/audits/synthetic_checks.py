"""The checks that the audit of a synthetic table makes of itself, first of all on leaks of known size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from leakpro_nb.attacks.synthetic.inference import features, filled, infer, right_by_chance
from leakpro_nb.attacks.synthetic.linkability import link
from leakpro_nb.attacks.synthetic.singling_out import single_out
from leakpro_nb.game.tables import Coded
from leakpro_nb.measures import auc_interval, blind_baseline_scores
from leakpro_nb.measures.residual import residual_risk
from leakpro_nb.results import Check
from leakpro_nb.risk.synthetic import EXCLUDED, RiskFinding
from leakpro_nb.words import share

if TYPE_CHECKING:
    from leakpro_nb.audits.synthetic_data import Found, Plan

__all__ = ["GATES", "RUNGS", "checks", "ladder"]

GATES = ("comparable", "ladder")
"""Checks without which no figure counts."""

GATE_LEVEL = 0.99
"""Confidence with which a gate has to speak before it shuts."""

RUNGS = (0.0, 0.2, 0.5, 1.0)
"""Shares of copied people that the ladder tries."""

FEWEST_FILLERS = 200
"""Other people's records below which the ladder is filled with values shuffled column by column."""

FEWEST_TRIED = 50
"""People with which a rung of the ladder says something."""

FEW = 0.01
"""Share of control rows that may be left out for being in the original, before something is wrong with the split."""

ALIKE = 0.9
"""Share of tied nearest records above which linking is a matter of luck; a rule of thumb of this project."""


def ladder(plan: Plan) -> dict[str, Any]:
    """Return what the attacks read on tables of which a known share is copied from the original.

    The rest of each table are records that nobody is attacked by: the reference's. Inference is tried on one secret,
    and on people whom the other columns tell apart.
    """
    tables = plan.tables
    if tables.control is None:
        return {"reason": "there are no control records to build such tables from"}
    if tables.reference is None:
        return {"reason": "there are no records left to fill such tables with"}
    rng = np.random.default_rng(np.random.SeedSequence(plan.seed, spawn_key=(2,)))
    people, others = tables.original.take(tables.people), tables.control.take(tables.outsiders)
    fillers, how = tables.reference, "records of the attacker's reference, about whom nothing is asked"
    if len(fillers) < min(FEWEST_FILLERS, len(people), len(others)):
        fillers = _shuffled(fillers, min(len(people), len(others)), rng)
        how = "values of the reference shuffled column by column, since it has few records"
    size = min(len(people), len(fillers), len(others))
    people, others = (side.take(np.sort(rng.permutation(len(side))[:size])) for side in (people, others))
    secret, apart, outside = _secret(plan, people, others)
    if min(apart.sum(), outside.sum()) < FEWEST_TRIED:
        return {"reason": f"fewer than {FEWEST_TRIED} people differ from all others in every set of columns but one"}
    order, fill = rng.permutation(size), rng.permutation(len(fillers))[:size]
    level = 1 - (1 - GATE_LEVEL) / len(RUNGS)
    rungs = []
    for true in RUNGS:
        copied = round(true * size)
        table = _below(people.take(order[:copied]), fillers.take(fill[copied:]))
        contest = infer(people.take(apart), table, others.take(outside), secrets=[secret], tolerance=plan.tolerance)[
            secret
        ]
        assert contest.control is not None
        read = residual_risk(contest.attack.success, contest.control.success, level=level)
        rungs.append(
            {
                "true": copied / size, "inference": read.value, "low": max(-1.0, read.low), "high": read.high,
                "linkability": _linked(plan, people, table, others), "singling_out": _singled(plan, people, table, others),
            }
        )  # fmt: skip
    return {"rungs": rungs, "secret": secret, "rows": size, "filled": how, "level": level}


def _shuffled(table: Coded, size: int, rng: np.random.Generator) -> Coded:
    def drawn(block: np.ndarray) -> np.ndarray:
        rows = rng.integers(len(block), size=(size, block.shape[1]))
        return np.take_along_axis(block, rows, axis=0)

    return Coded(table.columns, drawn(table.numbers), drawn(table.codes))


def _below(first: Coded, second: Coded) -> Coded:
    return Coded(
        first.columns, np.concatenate([first.numbers, second.numbers]), np.concatenate([first.codes, second.codes])
    )


def _secret(plan: Plan, people: Coded, others: Coded) -> tuple[str, np.ndarray, np.ndarray]:
    """Return the secret to try, and who among people and others differs from all in the columns beside it.

    It is the one that is hardest to guess at random, weighed with the number of people whom the other columns tell apart.
    """
    import pandas as pd

    everyone = _below(people, others)
    best, most = ("", np.zeros(len(everyone), dtype=bool)), 0.0
    for name in plan.secrets:
        rest = everyone.select([each for each in everyone.names if each != name])
        whole = pd.concat([pd.DataFrame(rest.numbers), pd.DataFrame(rest.codes)], axis=1)
        alone = ~whole.duplicated(keep=False).to_numpy()
        told = float(alone.sum() * (1 - right_by_chance(everyone, everyone, name, plan.tolerance).mean()))
        if not best[0] or told > most:
            best, most = (name, alone), told
    return best[0], np.flatnonzero(best[1][: len(people)]), np.flatnonzero(best[1][len(people) :])


def _linked(plan: Plan, people: Coded, table: Coded, others: Coded) -> float | None:
    assert plan.links is not None
    contest = link(people, table, others, links=plan.links, ks=(10,), seed=plan.seed)[10]
    assert contest.control is not None
    return _finite(residual_risk(contest.attack.success, contest.control.success).value)


def _singled(plan: Plan, people: Coded, table: Coded, others: Coded) -> float | None:
    contest = single_out(
        people, table, others, queries=min(plan.queries, 1000), columns=plan.columns, seed=plan.seed,
        max_attempts=100_000,
    )  # fmt: skip
    if contest.control is None or not len(contest.attack):
        return None
    return _finite(residual_risk(contest.attack.success, contest.control.success).value)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def checks(plan: Plan, found: Found, findings: Sequence[RiskFinding]) -> list[Check]:
    """Return all checks, gates first."""
    return [
        _comparable(plan),
        _ladder(found.ladder),
        _overlap(plan),
        _power(findings, plan.confidence),
        _ties(found),
        _columns(plan),
    ]


def _comparable(plan: Plan) -> Check:
    title = "Are the control people like those in the original?"
    tables = plan.tables
    if tables.control is None:
        return Check(
            name="comparable", title=title, passed=None,
            sentence="Not tested: there is no control table. Nothing in this report can be put down to the release without one.",
        )  # fmt: skip
    # a column of fewer values could be empty in a part of the table that the classifier learns from
    real = filled(np.concatenate([features(tables.original), features(tables.control)]), fewest=10)
    member = np.r_[np.ones(len(tables.original), dtype=bool), np.zeros(len(tables.control), dtype=bool)]
    scores, rows = blind_baseline_scores(real, member, seed=plan.seed)
    auc, low, high = auc_interval(scores, member[rows], GATE_LEVEL)
    passed = low <= 0.5
    return Check(
        name="comparable",
        title=title,
        passed=passed,
        sentence=(
            f"A classifier that tries to tell the original from the control table reaches AUC {auc:.3f} ({share(GATE_LEVEL)} "
            f"interval {low:.3f} to {high:.3f}; 0.5 is guessing). "
            + (
                "It does no better than guessing, so what the attacks find comes from the release."
                if passed
                else "The two tables differ by themselves, so that what seems a leak may be that difference: split the records "
                "into original and control at random, before the generator learns."
            )
        ),
        values={"auc": auc, "low": low, "high": high},
    )


def _ladder(found: dict[str, Any]) -> Check:
    title = "Do the attacks read leaks of known size rightly?"
    if "rungs" not in found:
        return Check(name="ladder", title=title, passed=None, sentence=f"Not tested: {found['reason']}.")
    rungs = found["rungs"]
    off = [rung for rung in rungs if not rung["low"] <= rung["true"] <= rung["high"]]
    read = ", ".join(f"{share(max(0.0, rung['inference']))} at {share(rung['true'])}" for rung in rungs)
    return Check(
        name="ladder",
        title=title,
        passed=not off,
        sentence=(
            f"Tables of {found['rows']:,} rows were built of which 0, 20, 50 and 100 % are copies of people in the original. "
            f"Inference of {found['secret']} read {read}. "
            + (
                "All ranges hold the truth."
                if not off
                else "A range misses the truth: the reference's records differ from the control's, or too few people differ."
            )
        ),
        values={"off": [rung["true"] for rung in off]},
    )


def _overlap(plan: Plan) -> Check:
    title = "Are people of the original among the control people?"
    note = plan.notes.get("overlap")
    if note is None:
        return Check(name="overlap", title=title, passed=None, sentence="Not tested: there is no control table.")
    if not note["rows"]:
        said = "No row of the control table is in the original."
    elif note["dropped"]:
        said = (
            f"{note['rows']:,} of {note['of']:,} rows of the control table are in the original too, where {share(note['natural'])} of "
            "the rows are repeated. They were left out: if they are the same people, the generator saw them."
        )
    else:
        said = (
            f"{note['rows']:,} of {note['of']:,} rows of the control table equal one in the original. As many rows repeat within "
            f"the original ({share(note['natural'])}), so these are different people who are alike, and they were kept."
        )
    return Check(
        name="overlap",
        title=title,
        passed=not (note["dropped"] and note["rows"] > FEW * note["of"]),
        sentence=said,
        values=dict(note),
    )


def _power(findings: Sequence[RiskFinding], level: float) -> Check:
    title = "Could this audit have seen a small leak?"
    smallest: dict[str, float] = {}
    seen = {finding.criterion for finding in findings if finding.found(level)}
    for criterion in dict.fromkeys(finding.criterion for finding in findings if finding.criterion not in seen):
        mine = [finding for finding in findings if finding.criterion == criterion and finding.risk is not None]
        # what is excluded rests on every attack with a short range: the longest of these decides
        deciding = [_seen(finding, len(findings), level) for finding in mine if finding.resolved]
        if mine:
            smallest[criterion] = max(deciding) if deciding else min(_seen(f, len(findings), level) for f in mine)
    if seen and not smallest:
        sentence = (
            "It saw leaks under every criterion that it could measure, so that nothing rests on what it could not see."
        )
        return Check(name="power", title=title, passed=True, sentence=sentence)
    if not smallest:
        return Check(name="power", title=title, passed=None, sentence="Not tested: no residual risk could be measured.")
    named = "; ".join(f"{name.replace('_', ' ')}: {share(value)}" for name, value in smallest.items())
    enough = max(smallest.values()) <= EXCLUDED
    return Check(
        name="power",
        title=title,
        passed=enough,
        sentence=(
            f"{'Where no leak was found, the smallest' if seen else 'The smallest'} residual risk that would be told from chance in four out of five audits, by the least precise attack that the verdict rests on: "
            f"{named}. " + ("That is small enough." if enough else f"Above {share(EXCLUDED)}, more records are needed.")
        ),
        values=smallest,
    )


def _seen(finding: RiskFinding, many: int, level: float) -> float:
    """Return the residual risk that four audits in five would find, among ``many`` attacks."""
    assert finding.risk is not None
    spread = (finding.risk.high - finding.risk.low) / 2 / stats.norm.ppf((1 + level) / 2)
    return min(1.0, float(spread * (stats.norm.ppf(1 - (1 - level) / many) + stats.norm.ppf(0.8))))


def _ties(found: Found) -> Check:
    title = "Do many records have several nearest synthetic records?"
    notes = next((line.contest.notes for line in found.lines if line.criterion == "linkability" and line.contest), {})
    tied = float(notes.get("tied", {}).get("attack", 0.0))
    passed = tied <= ALIKE
    return Check(
        name="ties",
        title=title,
        passed=passed,
        sentence=(
            f"{share(tied)} of the people have several nearest synthetic records on one side of the link; they count by their "
            "chance. "
            + ("" if passed else "Linking these columns is largely a matter of luck: see whether others tell more.")
        ).strip(),
        values={"tied": tied},
    )


def _columns(plan: Plan) -> Check:
    notes, parts = plan.notes, []
    if notes["left_out_columns"]:
        parts.append(f"Left out, since not all tables have them: {', '.join(notes['left_out_columns'])}.")
    if notes["constant"]:
        parts.append(f"The same for everybody, so that there is nothing to infer: {', '.join(notes['constant'])}.")
    if notes["look_like_identifiers"]:
        named = ", ".join(notes["look_like_identifiers"])
        parts.append(
            f"Nearly every value differs, as in a name or a number of a file: {named}. Leave them out with `identifiers`."
        )
    return Check(
        name="columns",
        title="Were all columns of use?",
        passed=not notes["look_like_identifiers"],
        sentence=" ".join(parts) or f"Yes, all {len(plan.release.columns)} of them.",
        values={k: notes[k] for k in ("left_out_columns", "constant", "look_like_identifiers")},
    )
