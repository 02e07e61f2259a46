"""The audit of a synthetic table: what does it say about the real people behind it?

The notebook calls these functions in order; each hands its result to the next:
``prepare`` → ``attack`` → ``measure`` → ``save``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import stats

import leakpro_nb
from leakpro_nb.attacks.base import NotApplicable
from leakpro_nb.attacks.synthetic.base import Attempts, Contest
from leakpro_nb.attacks.synthetic.inference import TOLERANCE, infer, infer_by_predictor, right_by_chance
from leakpro_nb.attacks.synthetic.linkability import link
from leakpro_nb.attacks.synthetic.membership import SCORES, combined
from leakpro_nb.attacks.synthetic.shadow import SHADOW_SCORES, ShadowAttack, ShadowScore, attack_generator
from leakpro_nb.attacks.synthetic.singling_out import single_out
from leakpro_nb.audits import common, synthetic_checks, synthetic_exposure, synthetic_text
from leakpro_nb.audits.synthetic_beside import beside as synthetic_beside
from leakpro_nb.audits.synthetic_sweep import sweep
from leakpro_nb.errors import InputError
from leakpro_nb.game.releases import load_release
from leakpro_nb.game.tables import Coded, SyntheticRelease
from leakpro_nb.game.threat import ThreatModel
from leakpro_nb.measures import auc_interval
from leakpro_nb.measures.residual import Rate, holm, rate, residual_risk
from leakpro_nb.results import AttackResult, Interval, Measure, Result, TargetCard
from leakpro_nb.risk.synthetic import CRITERIA, RiskFinding, criterion_sentence, synthetic_verdict

__all__ = ["Found", "Line", "Plan", "attack", "joined", "measure", "preflight", "prepare", "save"]

QUESTION = "What does a synthetic table say about the real people behind it?"

NAME = "synthetic_data"

KS = (1, 5, 10)
"""Nearest records that the linking attacker looks at on either side."""

FPRS = (0.01, 0.1)
"""False-positive rates at which membership is read."""

FEWEST = 10
"""Fewest rows of a table with which an audit is worth starting."""

MOST_CLASSES = 20
"""Values up to which a model learns to infer a category; with more, training takes longer than it is worth."""

MOST_TRAINING = 10_000
"""Synthetic rows from which a model learns, and reference rows that the attacker uses; more change little."""

FEW_TWINS = 0.01
"""Share of repeated rows below which taking them out of the control table changes nothing that matters."""

TWINS_LEVEL = 0.999
"""Confidence with which control rows must repeat the original's more often than its own rows do to be taken out."""

ATTACKER = ThreatModel(
    release="synthetic_table", access="table", knowledge=("candidates", "population"), goal="synthetic_data"
)
"""Whoever downloads the table: knows the rest of a person's record, and other people of the kind."""


@dataclass(frozen=True)
class Tables:
    """All tables as comparable numbers, and who is attacked.

    Parameters
    ----------
    original, synthetic, control, reference
        The tables; ``control`` without rows that belong to the original, ``reference`` what the attacker holds.
    people, others
        Rows of ``original`` and of ``control`` that are attacked.
    outsiders
        Rows of ``control`` that are in no reference: the non-members.
    """

    original: Coded
    synthetic: Coded
    control: Coded | None
    reference: Coded | None
    people: np.ndarray
    others: np.ndarray
    outsiders: np.ndarray


@dataclass(frozen=True)
class Texts:
    """The release with its columns of text, which no other attack uses, and the columns whose values are sought in them."""

    release: SyntheticRelease
    columns: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """A checked audit: everything that was asked for, and nothing computed yet."""

    release: SyntheticRelease
    texts: Texts | None
    threat: ThreatModel
    tables: Tables
    secrets: tuple[str, ...]
    known: tuple[str, ...]
    links: tuple[tuple[str, ...], tuple[str, ...]] | None
    queries: int
    columns: int
    shadows: int
    tolerance: float
    confidence: float
    quality: bool
    reveal_records: bool
    seed: int
    out: Path
    notes: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, Any] = field(default_factory=dict)
    started: str = ""


@dataclass(frozen=True)
class Line:
    """One attack: what it got, or in ``reason`` why it did not run."""

    name: str
    title: str
    criterion: str
    contest: Contest | None = None
    reason: str = ""
    secret: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Found:
    """What the attacks got; ``scores`` (N,) by name, for members (``member`` True) and non-members.

    ``shadow``: what an attacker with the generator got, or why there is none.
    """

    lines: tuple[Line, ...]
    scores: dict[str, np.ndarray]
    member: np.ndarray
    silent: dict[str, str]
    seconds: dict[str, float]
    shadow: ShadowAttack | str
    ladder: dict[str, Any]
    columns: dict[str, Any]
    groups: list[dict[str, Any]]
    records: list[dict[str, Any]]
    beside: dict[str, Any]
    sweep: dict[str, Any]
    texts: dict[str, Any] | None


def prepare(
    target: SyntheticRelease | str,
    threat: ThreatModel | str | None = None,
    *,
    out: str | Path = "audit",
    original: str | None = None,
    control: str | None = None,
    reference: str | None = None,
    secrets: str | Sequence[str] | None = None,
    known: str | Sequence[str] | None = None,
    links: Sequence[Sequence[str]] | None = None,
    identifiers: str | Sequence[str] | None = None,
    names: str | Sequence[str] = (),
    queries: int = 2000,
    columns: int = 4,
    targets: int = 2000,
    shadows: int = 32,
    tolerance: float = TOLERANCE,
    confidence: float = 0.95,
    quality: bool = True,
    reveal_records: bool = False,
    seed: int = 0,
) -> Plan:
    """Check everything that can be wrong, before anything expensive starts and without writing a file.

    Parameters
    ----------
    target
        A release, the path of a ``target.py`` that makes one, or the synthetic table (.csv, .parquet).
    threat
        A threat model, the path of its YAML file, or ``None`` for whoever downloads the table.
    out
        Folder for everything that the audit writes.
    original, control, reference
        Paths of the other tables, where ``target`` is the synthetic table; see ``SyntheticRelease``.
    secrets, known, links, identifiers
        Columns, see ``SyntheticRelease``; ``None``: what the release says.
    names
        Columns of the original (and the control) whose values are sought in the release's texts, such as the name.
    queries
        Predicates of each kind by which people are singled out.
    columns
        Conditions of a multivariate predicate; all columns where there are fewer.
    targets
        Records attacked of each table, drawn at random where there are more.
    shadows
        Synthetic tables that an attacker with the generator makes, where the release has one; even, 0 for none.
    tolerance
        A guess of a number is right within this share of the true value.
    confidence
        Level of all ranges; 1 minus it is the chance of any false finding.
    quality
        Whether to measure how well the table serves, with sdmetrics, if that is installed.
    reveal_records
        Whether the report shows the values of the most vulnerable records. By default it gives row numbers only.
    seed
        The one seed of all randomness.

    Raises
    ------
    InputError
        The first thing that is wrong: field, value, remedy.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    for name, value in (("queries", queries), ("columns", columns), ("targets", targets)):
        common.check_count(name, value, smallest=1, example=4 if name == "columns" else 2000)
    if not 0 <= tolerance < 1:
        raise InputError("tolerance", tolerance, "use a share from 0 to below 1, for example 0.05")
    common.check_confidence(confidence)
    common.check_seed(seed)
    if isinstance(shadows, bool) or shadows < 0 or shadows % 2 or shadows == 2:
        raise InputError("shadows", shadows, "use an even number of at least 4, or 0 for none")
    release = load_release(
        target, original=original, control=control, reference=reference,
        secrets=secrets, known=known, links=links, identifiers=identifiers,
    )  # fmt: skip
    texts, release = _texts(release, names)
    for name in ("original", "synthetic", "control"):
        frame = getattr(release, name)
        if frame is not None and len(frame) < FEWEST:
            raise InputError(name, f"{len(frame)} rows", f"an audit needs at least {FEWEST} (hundreds to say anything)")
    if len(release.columns) < 2:
        raise InputError("columns", release.columns[0], "one column says nothing about others; share at least two")
    kept, overlap = _without_shared(release)
    if overlap is not None and overlap["dropped"]:
        release = _control_rows(release, kept)
        texts = texts and dataclasses.replace(texts, release=_control_rows(texts.release, kept))
    tables, notes = _tables(release, targets, seed)
    notes["overlap"] = overlap
    attacker = _attacker(threat, release)
    asked = {
        "target": Path(target).name if isinstance(target, (str, Path)) else release.name,
        "secrets": list(release.secrets) or "all columns", "known": list(release.known) or "all other columns",
        "queries": queries, "columns": min(columns, len(release.columns)), "targets": targets, "shadow_tables": shadows if release.generator else 0, "tolerance": tolerance,
        "confidence": confidence, "quality": quality, "reveal_records": reveal_records, "seed": seed,
    }  # fmt: skip
    return Plan(
        release, texts, attacker, tables, tuple(release.secrets) or release.columns, tuple(release.known), _links(release),
        queries, min(columns, len(release.columns)), shadows, tolerance, confidence, quality, reveal_records, seed, Path(out),
        notes, asked, started,
    )  # fmt: skip


def preflight(**parameters: Any) -> None:
    """Check the parameters of the template, as ``prepare`` does, for callers that start a notebook."""
    prepare(**parameters)


def _attacker(threat: ThreatModel | str | None, release: SyntheticRelease) -> ThreatModel:
    if threat is None:
        knows = (*ATTACKER.knowledge, "recipe") if release.generator else ATTACKER.knowledge
        return ATTACKER.model_copy(update={"knowledge": knows})
    model = ThreatModel.load(threat).model_copy(update={"goal": NAME})
    if model.release != "synthetic_table" or model.access != "table":
        raise InputError(
            "threat.release",
            model.release,
            "here a table is released: write release: synthetic_table and access: table",
        )
    return model


def _links(release: SyntheticRelease) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    if release.links is not None:
        first, second = (tuple(side) for side in release.links)
        if not first or not second:
            raise InputError("links", release.links, "give two lists of columns, neither of them empty")
        both = [name for name in first if name in second]
        if both:
            raise InputError("links", ", ".join(both), "no column may stand in both lists")
        return first, second
    half = (len(release.columns) + 1) // 2
    return release.columns[:half], release.columns[half:]


def _tables(release: SyntheticRelease, targets: int, seed: int) -> tuple[Tables, dict[str, Any]]:
    """Return the tables with who is attacked, and what was found to be wrong or worth saying about them."""
    coded = release.coded
    real, control, reference = coded["original"], coded.get("control"), coded.get("reference")
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    notes: dict[str, Any] = {
        "left_out_columns": list(release.not_shared),
        "constant": [c.name for c in real.columns if len(np.unique(real.values(c.name)[~_missing(real, c.name)])) < 2],
        "copies": float(_in(coded["synthetic"], real).mean()),
    }
    notes["look_like_identifiers"] = [
        c.name for c in real.category_columns if len(np.unique(real.values(c.name))) > 0.9 * len(real)
    ]
    people = _some(np.arange(len(real)), targets, rng)
    nobody = np.zeros(0, dtype=int)
    if control is None:
        return Tables(real, coded["synthetic"], None, reference, people, nobody, nobody), notes
    others = _some(np.arange(len(control)), targets, rng)
    order = rng.permutation(len(control))
    outside = order
    if reference is None:
        reference, outside = control.take(np.sort(order[: len(control) // 2])), order[len(control) // 2 :]
        notes["reference"] = "half of the control table"
    else:
        reference = reference.take(_apart(control, reference)[0])
        notes["reference"] = "the reference table"
    reference = reference.take(_some(np.arange(len(reference)), MOST_TRAINING, rng)) if len(reference) else None
    return Tables(real, coded["synthetic"], control, reference, people, others, _some(outside, targets, rng)), notes


def _missing(table: Coded, name: str) -> np.ndarray:
    values = table.values(name)
    return np.isnan(values) if values.dtype.kind == "f" else values < 0


def _some(rows: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    return np.sort(rows if len(rows) <= most else rng.choice(rows, most, replace=False))


def _keys(table: Coded) -> np.ndarray:
    import pandas as pd

    whole = pd.concat([pd.DataFrame(table.numbers), pd.DataFrame(table.codes)], axis=1)
    return pd.util.hash_pandas_object(whole, index=False).to_numpy()


def _in(rows: Coded, table: Coded) -> np.ndarray:
    """Return which rows ``(n,)`` are exactly repeated in a table."""
    return np.isin(_keys(rows), _keys(table))


def _texts(release: SyntheticRelease, names: str | Sequence[str]) -> tuple[Texts | None, SyntheticRelease]:
    """Return the texts, if there are any, and the release without them: as categories, they would tell nothing."""
    said = {*release.secrets, *release.known, *(c for side in release.links or () for c in side)}
    columns = tuple(c for c in synthetic_text.text_columns(release) if c not in said)
    sought = (names,) if isinstance(names, str) else tuple(names)
    for name in sought:
        if name not in release.original.columns:
            raise InputError("names", name, f"not a column of the original: {', '.join(release.original.columns[:12])}")
        if name in said:
            raise InputError("names", name, "a column is either a name or one of secrets, known and links")
    if not columns:
        if sought:
            raise InputError("names", ", ".join(sought), "the synthetic table has no column of text to seek them in")
        return None, release
    left_out = {*columns, *sought}
    if left_out >= set(release.columns):
        raise InputError(
            "columns", ", ".join(columns), "nothing but text is shared: use leakpro_nb.audits.synthetic_text.scan"
        )
    return Texts(release, columns, sought), dataclasses.replace(
        release, identifiers=(*release.identifiers, *columns, *sought)
    )


def _control_rows(release: SyntheticRelease, rows: np.ndarray) -> SyntheticRelease:
    assert release.control is not None
    return dataclasses.replace(release, control=release.control.iloc[rows])


def _without_shared(release: SyntheticRelease) -> tuple[np.ndarray, dict[str, Any] | None]:
    """Return the control rows that do not belong to the original, and how many do."""
    if release.control is None:
        return np.zeros(0, dtype=int), None
    kept, note = _apart(release.coded["original"], release.coded["control"])
    if len(kept) < FEWEST:
        raise InputError(
            "control", f"{len(kept)} rows that are not in the original", f"give at least {FEWEST} other records"
        )
    return kept, note


def _apart(real: Coded, other: Coded) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the rows of ``other`` that are not in ``real``; all, if these are as common as repeated rows within ``real``.

    In a table of few columns different people have equal records. Taking out those would leave the others with the
    unusual people only, on whom every attack does worse.
    """
    keys = _keys(real)
    repeated = np.isin(_keys(other), keys)
    _, place, counts = np.unique(keys, return_inverse=True, return_counts=True)
    natural = rate((counts[place] > 1).astype(float), place, level=2 * TWINS_LEVEL - 1)
    found = float(repeated.mean()) if len(other) else 0.0
    drop = found > 0 and (found > natural.high + 1e-9 or natural.value < FEW_TWINS)
    note = {"rows": int(repeated.sum()), "of": len(other), "natural": natural.value, "dropped": drop}
    return np.flatnonzero(~repeated | (not drop)), note


def joined(*tables: Coded) -> Coded:
    """Return tables that were encoded together, one below the other."""
    return Coded(
        tables[0].columns, np.concatenate([t.numbers for t in tables]), np.concatenate([t.codes for t in tables])
    )


def attack(plan: Plan) -> Found:
    """Play every attack on people in the original and on control people."""
    lines = [*_singling_out(plan), *_linking(plan), *_inferring(plan)]
    scores, silent, seconds = _membership(plan)
    members, outsiders = len(plan.tables.people), len(plan.tables.outsiders)
    member = np.r_[np.ones(members, dtype=bool), np.zeros(outsiders, dtype=bool)]
    return Found(
        tuple(lines), scores, member, silent, seconds, _with_generator(plan),
        ladder=synthetic_checks.ladder(plan),
        columns=synthetic_exposure.columns(plan),
        groups=synthetic_exposure.groups(plan, lines),
        records=synthetic_exposure.records(plan),
        beside=synthetic_beside(plan),
        sweep=sweep(plan),
        texts=_scanned(plan),
    )  # fmt: skip


def _singling_out(plan: Plan) -> list[Line]:
    tables, lines = plan.tables, []
    conditions = "one condition" if plan.columns == 1 else f"conditions on {plan.columns} columns"
    ways: tuple[tuple[Literal["univariate", "multivariate", "trees"], str], ...] = (
        ("univariate", "Singling out by one value"),
        ("multivariate", f"Singling out by {conditions}"),
        ("trees", "Singling out by paths in decision trees"),
    )
    for way, title in ways:
        start = time.process_time()
        contest = single_out(
            tables.original, tables.synthetic, tables.control, way=way, queries=plan.queries, columns=plan.columns,
            seed=plan.seed,
        )  # fmt: skip
        none = "" if len(contest.attack) else "no such condition isolates a synthetic record"
        spent = time.process_time() - start
        lines.append(Line(f"singling_out_{way}", title, "singling_out", contest, none, seconds=spent))
    return lines


def _linking(plan: Plan) -> list[Line]:
    tables, start = plan.tables, time.process_time()
    assert plan.links is not None
    found = link(
        tables.original.take(tables.people), tables.synthetic, _others(tables), links=plan.links, ks=KS, seed=plan.seed
    )
    spent = (time.process_time() - start) / len(KS)
    return [
        Line(
            f"linkability_k{k}",
            f"Linking two halves of a record, {'nearest record' if k == 1 else f'{k} nearest records'}",
            "linkability", contest, seconds=spent,
        )
        for k, contest in found.items()
    ]  # fmt: skip


def _scanned(plan: Plan) -> dict[str, Any] | None:
    """Return what the texts hold, ``None`` without any; numbers and addresses only where the extra is installed."""
    if plan.texts is None:
        return None

    def scanned(patterns: bool) -> dict[str, Any] | None:
        assert plan.texts is not None
        return synthetic_text.scan_release(
            plan.texts.release, plan.texts.columns, known_columns=plan.texts.names, patterns=patterns,
            reveal_records=plan.reveal_records, seed=plan.seed,
        )  # fmt: skip

    try:
        return scanned(patterns=True)
    except InputError as missing:
        if missing.field != "patterns":
            raise
        found = scanned(patterns=False)
        return found and {**found, "notes": [*found["notes"], f"For those, {missing.remedy}"]}


def _others(tables: Tables) -> Coded | None:
    return None if tables.control is None else tables.control.take(tables.others)


def _inferring(plan: Plan) -> list[Line]:
    tables, start = plan.tables, time.process_time()
    people, others = tables.original.take(tables.people), _others(tables)
    found = infer(people, tables.synthetic, others, secrets=plan.secrets, known=plan.known, tolerance=plan.tolerance)
    spent = (time.process_time() - start) / len(found)
    lines = [
        Line(
            f"inference_{each}_nearest",
            f"Inferring {each} from the nearest record",
            "inference",
            contest,
            "",
            each,
            spent,
        )
        for each, contest in found.items()
    ]
    everyone = people if others is None else joined(people, others)
    rows = np.linspace(0, len(tables.synthetic) - 1, min(MOST_TRAINING, len(tables.synthetic))).astype(int)
    training = tables.synthetic.take(rows)
    for each in plan.secrets:
        name, title, start = f"inference_{each}_learnt", f"Inferring {each} by a learnt model", time.process_time()
        values = len(people.columns[people.names.index(each)].categories)
        if values > MOST_CLASSES:
            reason = f"{each} has {values} different values; a model is trained for up to {MOST_CLASSES}"
            lines.append(Line(name, title, "inference", None, reason, each))
            continue
        known = [c for c in plan.known if c != each]
        hits = infer_by_predictor(everyone, training, each, known, tolerance=plan.tolerance)
        contest = Contest(
            Attempts(hits[: len(people)], np.arange(len(people))),
            None if others is None else Attempts(hits[len(people) :], np.arange(len(others))),
            Attempts(right_by_chance(people, tables.synthetic, each, plan.tolerance), np.arange(len(people))),
        )
        lines.append(Line(name, title, "inference", contest, "", each, time.process_time() - start))
    return lines


def _membership(plan: Plan) -> tuple[dict[str, np.ndarray], dict[str, str], dict[str, float]]:
    """Return scores of members and non-members by name, why others did not run, and CPU seconds."""
    tables = plan.tables
    if tables.control is None:
        return {}, dict.fromkeys(SCORES, "there are no control records to serve as non-members"), {}
    everyone = joined(tables.original.take(tables.people), tables.control.take(tables.outsiders))
    reference = tables.reference if "population" in plan.threat.knowledge else None
    scores, silent, seconds = {}, {}, {}
    for name, score in SCORES.items():
        if score.needs_reference and reference is None:
            silent[name] = "it needs an attacker who knows other people of the kind (knowledge: population)"
            continue
        start = time.process_time()
        scores[name] = score.run(everyone, tables.synthetic, reference)
        seconds[name] = time.process_time() - start
    scores["combined"] = combined(list(scores.values()))
    seconds["combined"] = 0.0
    return scores, silent, seconds


def _with_generator(plan: Plan) -> ShadowAttack | str:
    """Return what an attacker gets who makes synthetic tables of their own, or why there is no such attack."""
    if plan.release.generator is None:
        return "the generator was not given as a function (frame, n, seed) -> frame"
    if "recipe" not in plan.threat.knowledge:
        return "it needs an attacker who has the generator (knowledge: recipe)"
    if not plan.shadows:
        return "it was not asked for (parameter shadows)"
    try:
        return attack_generator(
            plan.release, shadows=plan.shadows, seed=plan.seed, cache=plan.out / "cache", progress=False
        )
    except NotApplicable as reason:
        return str(reason)


def measure(plan: Plan, found: Found) -> Result:
    """Say how large the risks are and how sure that is, with a verdict."""
    weighed = _weighed(plan, found)
    findings = [each.finding for each in weighed if each.finding is not None]
    checks = synthetic_checks.checks(plan, found, findings)
    failed = [check for check in checks if check.passed is False]
    subjects = plan.release.subjects
    decision = synthetic_verdict(
        findings,
        failed_gates=[check.sentence for check in failed if check.name in synthetic_checks.GATES],
        failed_checks=[check.sentence for check in failed],
        control=plan.tables.control is not None,
        confidence=plan.confidence,
        subjects=subjects,
    )
    shown = [each for each in findings if each.found(plan.confidence)]
    return Result(
        package_version=leakpro_nb.__version__,
        template=NAME,
        question=QUESTION,
        target=_card(plan),
        threat_model=plan.threat.model_dump(mode="json"),
        parameters={**plan.asked, "strongest": _strongest_score(weighed)},
        attacks=[each.result for each in weighed],
        checks=checks,
        most_exposed=found.records,
        extras={
            "criteria": {name: criterion_sentence(name, findings, plan.confidence, subjects) for name in CRITERIA},
            "any_finding": {
                "found": len(shown),
                "of": len(findings),
                "p_value": min((each.p_value for each in findings), default=None),
            },
            "tables": {
                "original": len(plan.tables.original),
                "synthetic": len(plan.tables.synthetic),
                "control": 0 if plan.tables.control is None else len(plan.tables.control),
                "reference": 0 if plan.tables.reference is None else len(plan.tables.reference),
                "people": len(plan.tables.people),
                "others": len(plan.tables.others),
            },
            "notes": plan.notes,
            "links": [list(side) for side in plan.links or ()],
            "ladder": found.ladder,
            "columns": found.columns,
            "groups": found.groups,
            "beside": found.beside,
            "sweep": found.sweep,
            "texts": found.texts,
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


def _card(plan: Plan) -> TargetCard:
    tables, digest = plan.tables, hashlib.sha256()
    for table in (tables.original, tables.synthetic, *([tables.control] if tables.control is not None else [])):
        digest.update(_keys(table).tobytes())
    return TargetCard(
        tested=_tested(plan),
        name=plan.release.name,
        kind="synthetic table",
        subjects=plan.release.subjects,
        members=len(tables.original),
        non_members=None if tables.control is None else len(tables.control),
        features=len(plan.release.columns),
        sensitive=list(plan.secrets),
        fingerprint=digest.hexdigest()[:16],
    )


def _tested(plan: Plan) -> str:
    subjects, control = plan.release.subjects, plan.tables.control
    others = "no" if control is None else f"{len(control):,}"
    return f"{len(plan.tables.original):,} {subjects} in the original, {others} control {subjects}"


@dataclass(frozen=True)
class _Weighed:
    """One attack in the result, and what it counts for in the verdict; ``finding`` is None where it did not run."""

    result: AttackResult
    finding: RiskFinding | None


def _weighed(plan: Plan, found: Found) -> list[_Weighed]:
    """Return every attack with its p-value and range adjusted for all of them."""
    tested = [line for line in found.lines if line.contest is not None and not line.reason]
    ranked = [
        (name, _score_of(name), values, found.member, found.seconds[name]) for name, values in found.scores.items()
    ]
    if isinstance(found.shadow, ShadowAttack):
        ranked += [
            (name, SHADOW_SCORES[name], each, found.shadow.member, 0.0) for name, each in found.shadow.scores.items()
        ]
    many = len(tested) + len(ranked)
    joint = 1 - (1 - plan.confidence) / max(1, many)
    p_values = [_risk(line.contest, plan.confidence)[2] for line in tested if line.contest is not None]
    p_values += [_rank_p(values, member) for _, _, values, member, _ in ranked]
    adjusted = iter(holm(p_values)) if p_values else iter(())
    weighed = [
        _weighed_line(line, plan.confidence, joint, next(adjusted)) if line in tested else _skipped(line)
        for line in found.lines
    ]
    weighed += [_weighed_score(*each, plan.confidence, joint, next(adjusted)) for each in ranked]
    if isinstance(found.shadow, str):
        title = "Shadow tables made with the generator"
        result = AttackResult(name="shadow", title=title, family="membership", status="skipped", reason=found.shadow)
        weighed.append(_Weighed(result, None))
    for name, reason in found.silent.items():
        result = AttackResult(
            name=name, title=SCORES[name].title, paper=SCORES[name].paper, status="skipped", reason=reason
        )
        weighed.append(_Weighed(result, None))
    return weighed


def _risk(contest: Contest, level: float) -> tuple[Interval | None, tuple[Rate, Rate | None], float]:
    """Return residual risk, the two rates, and the p-value; no risk without control, or where all of those are hit."""
    mine, theirs = contest.attack, contest.control
    if theirs is None:
        return None, (rate(mine.success, mine.record, level), None), 1.0
    risk = residual_risk(
        mine.success, theirs.success, attack_record=mine.record, control_record=theirs.record, level=level
    )
    interval = None
    if np.isfinite(risk.value):
        method = "Wilson with design effect over records, MOVER ratio"
        interval = Interval(value=risk.value, low=max(-1.0, risk.low), high=risk.high, level=level, method=method)
    return interval, (risk.attack, risk.control), risk.p_value


def _interval(found: Rate, level: float) -> Interval:
    return Interval(value=found.value, low=found.low, high=found.high, level=level, method="Wilson, over records")


def _weighed_line(line: Line, level: float, joint: float, p_value: float) -> _Weighed:
    assert line.contest is not None
    contest = line.contest
    risk, (mine, theirs), _ = _risk(contest, level)
    together = _risk(contest, joint)[0]
    rates = _interval(mine, level), None if theirs is None else _interval(theirs, level)
    measures = [Measure(name="rate", label="Right guesses about people in the original", interval=rates[0])]
    for name, label, value in (
        ("control_rate", "Right guesses about control people", rates[1]),
        ("risk", "Residual risk", risk),
        ("joint_risk", "Residual risk, range for all attacks together", together),
    ):
        if value is not None:
            measures.append(Measure(name=name, label=label, interval=value))
    if contest.baseline is not None and len(contest.baseline):
        guess = _interval(rate(contest.baseline.success, contest.baseline.record, level), level)
        measures.append(Measure(name="guess_rate", label="Right guesses at random", interval=guess))
    result = AttackResult(
        name=line.name, title=line.title, paper="Giomi et al., PoPETs 2023", family=line.criterion,
        parameters={**contest.notes, "secret": line.secret, "p_value": p_value if theirs is not None else None},
        measures=measures, records_scored=len(contest.attack), cpu_seconds=line.seconds,
    )  # fmt: skip
    return _Weighed(result, RiskFinding(line.name, line.title, line.criterion, risk, together, p_value, *rates))


def _skipped(line: Line) -> _Weighed:
    return _Weighed(
        AttackResult(
            name=line.name, title=line.title, family=line.criterion, status="skipped", reason=line.reason,
            parameters={"secret": line.secret},
        ),
        None,
    )  # fmt: skip


def _rank_p(scores: np.ndarray, member: np.ndarray) -> float:
    """Return the one-sided p-value that members score higher (Mann-Whitney, ties allowed for)."""
    if len(np.unique(scores)) < 2:
        return 1.0
    return float(stats.mannwhitneyu(scores[member], scores[~member], alternative="greater", method="asymptotic").pvalue)


def _score_of(name: str) -> ShadowScore:
    return (
        ShadowScore(SCORES[name].title, SCORES[name].paper)
        if name in SCORES
        else ShadowScore("All scores combined", "our own")
    )


def _weighed_score(
    name: str, score: ShadowScore, scores: np.ndarray, member: np.ndarray, seconds: float,
    level: float, joint: float, p_value: float,
) -> _Weighed:  # fmt: skip
    title, paper = score
    result = AttackResult(
        name=name, title=title, paper=paper, family="membership",
        parameters={"p_value": p_value},
        measures=common.figures(scores, member, level),
        tpr_at_fpr=[common.at_fpr(scores, member, fpr, level) for fpr in FPRS],
        curve=common.curve(scores, member, level),
        records_scored=len(scores), distinct_scores=len(np.unique(scores)),
        largest_tie=int(np.unique(scores, return_counts=True)[1].max()), cpu_seconds=seconds,
    )  # fmt: skip
    auc = [_pairs(scores, member, each) for each in (level, joint)]
    guess = Interval(value=0.5, low=0.5, high=0.5, level=level, method="known")
    risks = [each.model_copy(update={k: 2 * getattr(each, k) - 1 for k in ("value", "low", "high")}) for each in auc]
    words = f"{title}: which of two records was in the original?"
    return _Weighed(result, RiskFinding(name, words, "membership", risks[0], risks[1], p_value, auc[0], guess))


def _pairs(scores: np.ndarray, member: np.ndarray, level: float) -> Interval:
    """Return the AUC: how often, of a member and a non-member, the member is told right; guessing is half."""
    value, low, high = auc_interval(scores, member, level)
    return Interval(value=value, low=low, high=high, level=level, method="DeLong, logit scale")


def _strongest_score(weighed: Sequence[_Weighed]) -> str | None:
    scores = [each.result for each in weighed if each.result.family == "membership" and each.result.status == "ok"]
    lows = {each.name: auc.low for each in scores if (auc := each.measure("auc")) is not None}
    return max(lows, key=lambda name: lows[name]) if lows else None
