"""Shadow attacks: whoever has the generator can see what it does with, and without, each person.

Many tables are made, each from a random half of the people in question and other records; what differs between the
tables with a person and those without is then looked for in the release. The tables are shared by all targets. Which
targets are in the original is never used.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from leakpro_nb.attacks.base import NotApplicable
from leakpro_nb.attacks.membership.lira import lira_online
from leakpro_nb.attacks.synthetic.membership import bandwidth, dcr, log_density, vulnerability
from leakpro_nb.attacks.synthetic.predicates import Ranked, packed, popcount, rank
from leakpro_nb.errors import InputError
from leakpro_nb.game.code import fingerprint_of
from leakpro_nb.game.records import hash_array
from leakpro_nb.game.tables import Coded, Generator, SyntheticRelease, encode
from leakpro_nb.results import write_atomically

__all__ = [
    "SHADOW_SCORES",
    "ShadowAttack",
    "ShadowScore",
    "ShadowTables",
    "attack_generator",
    "groundhog",
    "query_counts",
    "shadow_scores",
    "shadow_tables",
    "table_features",
    "vulnerable_targets",
]

QUERIES = 200
"""Questions about each target: how many rows agree with it in these columns?"""

BINS = 10
"""Bins of the histograms among the features of a table."""

MOST_CATEGORIES = 50
"""Categories of a column whose frequencies are features of a table, the commonest first."""

TREES = 50
"""Trees of each target's forest, which learns from no more tables than there are shadows."""


class ShadowScore(NamedTuple):
    """One shadow attack: its title and source."""

    title: str
    paper: str


SHADOW_SCORES: dict[str, ShadowScore] = {
    "shadow_distance": ShadowScore(
        "Likelihood ratio of distances", "Carlini et al., S&P 2022, on GAN-Leaks, Chen et al., CCS 2020"
    ),
    "shadow_density": ShadowScore(
        "Likelihood ratio of densities", "Carlini et al., S&P 2022, on Hilprecht et al., PoPETs 2019"
    ),
    "queries": ShadowScore("Query-based attack", "Houssiau et al. 2022 (TAPAS); Meeus et al., ESORICS 2023"),
    "groundhog": ShadowScore("Groundhog features", "Stadler et al., USENIX Security 2022"),
}
"""Shadow attacks by name."""


@dataclass(frozen=True)
class ShadowTables:
    """Synthetic tables made with and without each target.

    Parameters
    ----------
    tables
        One DataFrame per shadow.
    trained_on
        (shadows, targets) bool: whether the table was made from the target; for every target in half of the tables.
    """

    tables: tuple[Any, ...] = field(repr=False)
    trained_on: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.tables)


@dataclass(frozen=True)
class ShadowAttack:
    """What the shadow attacks say of each target.

    Parameters
    ----------
    scores
        (targets,) per attack of ``SHADOW_SCORES``, higher = more likely in the original.
    member
        (targets,) bool: whether the target is in the original, for the judge alone.
    row
        (targets,) its row in the original or in the control.
    shadows
        How many tables were made, each from how many records.
    """

    scores: dict[str, np.ndarray]
    member: np.ndarray
    row: np.ndarray
    shadows: tuple[int, int]


def attack_generator(
    release: SyntheticRelease,
    *,
    targets: int = 200,
    shadows: int = 32,
    seed: int = 0,
    cache: str | Path | None = None,
    progress: bool = True,
) -> ShadowAttack:
    """Run all shadow attacks on the most vulnerable people in the original and the control.

    The generator runs ``shadows`` times, on as many records as the original has where there are enough. The attacker's
    other records are ``release.reference``, or the control without the targets.

    Parameters
    ----------
    release
        With a control and a generator.
    targets
        People to attack, about half of them in the original.
    shadows
        Tables to make; even.
    seed
        For the choice of records and the generator.
    cache
        Folder in which the tables are kept, so that an interrupted run goes on where it stopped.
    progress
        Whether to show a progress bar.

    Raises
    ------
    NotApplicable
        No generator, no control, or too few other records.
    """
    if release.generator is None:
        raise NotApplicable("Shadow attacks need the generator: give it as a function (frame, n, seed) -> frame.")
    if release.control is None or len(release.control) == 0:
        raise NotApplicable("Shadow attacks need control people to be judged on: give a control table.")
    coded, columns = release.coded, list(release.columns)
    inside, outside = vulnerable_targets(coded["original"], coded["control"], targets, seed)
    frames = release.original[columns], release.control[columns]
    people = _concat(frames[0].iloc[inside], frames[1].iloc[outside])
    reference = frames[1].drop(index=outside) if release.reference is None else release.reference[columns]
    size = len(release.original)
    made = shadow_tables(
        release.generator, people, reference, size=size, rows=len(release.synthetic), count=shadows, seed=seed,
        cache=cache, progress=progress,
    )  # fmt: skip
    scores = shadow_scores(people, release.synthetic[columns], made, seed=seed)
    member = np.r_[np.ones(len(inside), dtype=bool), np.zeros(len(outside), dtype=bool)]
    used = min(size, len(reference) + len(people) // 2)
    return ShadowAttack(scores, member, np.r_[inside, outside], (shadows, used))


def vulnerable_targets(original: Coded, control: Coded, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the most vulnerable people of the original and of the control, about half of ``count`` each.

    Both are compared with as many people of either table, so that members and others are chosen by one rule: a rule of
    its own for each would let an attack tell them apart by how odd they are.
    """
    if count < 4:
        raise InputError("targets", count, "use an integer of at least 4, for example 200")
    rng, size = np.random.default_rng(seed), min(len(original), len(control))
    rows = [np.sort(rng.permutation(len(table))[:size]) for table in (original, control)]
    tables = [table.take(chosen) for table, chosen in zip((original, control), rows, strict=True)]
    both = Coded(
        original.columns,
        np.concatenate([table.numbers for table in tables]),
        np.concatenate([table.codes for table in tables]),
    )
    first = np.argsort(-vulnerability(both), kind="stable")[:count]
    return rows[0][np.sort(first[first < size])], rows[1][np.sort(first[first >= size] - size)]


def shadow_tables(
    generator: Generator,
    targets: Any,
    reference: Any,
    *,
    size: int,
    rows: int,
    count: int = 32,
    seed: int = 0,
    cache: str | Path | None = None,
    progress: bool = True,
) -> ShadowTables:
    """Return synthetic tables, each made from a random half of the targets and of reference records.

    Shadows come in pairs: what one of them leaves out, the other has, so that each target is in half of all.

    Parameters
    ----------
    generator
        ``(frame, n, seed) -> frame``.
    targets, reference
        DataFrames with the same columns and no person in common.
    size
        Records that each table is made from, filled up from ``reference``; fewer where there are not enough.
    rows
        Synthetic rows of each table.
    count
        How many; even.
    seed
        For the halves, the reference records and the generator.
    cache
        Folder for the tables, under a name made of everything that they depend on.
    progress
        Whether to show a progress bar.

    Raises
    ------
    InputError
        An odd count, or a generator that returns something else than ``rows`` rows with these columns.
    NotApplicable
        No reference records.
    """
    from tqdm.auto import tqdm

    if count < 4 or count % 2:
        raise InputError("shadows", count, "use an even number of at least 4, for example 32")
    if not len(reference):
        raise NotApplicable("Shadow attacks need records of other people: give a reference table, or a larger control.")
    trained_on = np.stack([_half(len(targets), k, seed) for k in range(count)])
    home = None if cache is None else Path(cache) / _key(generator, targets, reference, size, rows, seed)
    tables = []
    for k in tqdm(range(count), desc="Shadow tables", disable=not progress):
        file = None if home is None else home / f"{k:04d}.parquet"
        table = None if file is None else _stored(file)
        if table is None:
            table = _made(generator, targets, reference, trained_on[k], size, rows, [seed, k])
            if file is not None:
                content = io.BytesIO()
                table.to_parquet(content, index=False)
                write_atomically(file, content.getvalue())
        tables.append(table)
    return ShadowTables(tuple(tables), trained_on)


def _half(n: int, k: int, seed: int) -> np.ndarray:
    coin = np.random.default_rng([seed, 1, k // 2]).random(n) < 0.5
    return coin if k % 2 == 0 else ~coin


def _made(
    generator: Generator, targets: Any, reference: Any, chosen: np.ndarray, size: int, rows: int, seed: list[int]
) -> Any:
    rng = np.random.default_rng([*seed, 2])
    fill = rng.permutation(len(reference))[: max(0, size - int(chosen.sum()))]
    frame = _concat(targets.iloc[np.flatnonzero(chosen)], reference.iloc[fill])
    # a generator must not be able to tell the targets by their place
    frame = frame.iloc[rng.permutation(len(frame))].reset_index(drop=True)
    table = generator(frame, rows, int(rng.integers(2**31)))
    missing = [c for c in frame.columns if c not in getattr(table, "columns", ())]
    if missing or len(table) == 0:
        found = f"no column {missing[0]}" if missing else "0 rows"
        raise InputError("generator", found, "it must return a table with the columns that it was given")
    return table[list(frame.columns)].reset_index(drop=True)


def _key(generator: Generator, targets: Any, reference: Any, size: int, rows: int, seed: int) -> str:
    digest = hashlib.sha256(fingerprint_of(generator).encode())
    digest.update(f"{hash_array(targets)} {hash_array(reference)} {size} {rows} {seed}".encode())
    return f"shadow_tables_{digest.hexdigest()[:24]}"


def _stored(file: Path) -> Any:
    import pandas as pd

    return pd.read_parquet(file) if file.exists() else None


def _concat(one: Any, two: Any) -> Any:
    import pandas as pd

    return pd.concat([one, two], ignore_index=True)


def shadow_scores(targets: Any, synthetic: Any, shadows: ShadowTables, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Return every score of ``SHADOW_SCORES`` for each target ``(n,)``.

    Parameters
    ----------
    targets, synthetic
        DataFrames with the same columns: the people, and the release.
    shadows
        From ``shadow_tables`` with these targets.
    seed
        For the questions and the forests.
    """
    people, release, *tables = encode(targets, synthetic, *shadows.tables)
    width = bandwidth(release)
    signals: dict[str, Callable[[Coded], np.ndarray]] = {
        "shadow_distance": lambda table: dcr(people, table),
        "shadow_density": lambda table: log_density(people, table, width),
    }
    seen = {name: (signal(release), np.stack([signal(t) for t in tables])) for name, signal in signals.items()}
    scores = {name: likelihood_ratio(*pair, shadows.trained_on) for name, pair in seen.items()}
    counts = query_counts(people, [release, *tables], seed=seed)
    scores["queries"] = pooled(counts[0], counts[1:], shadows.trained_on)
    features = table_features([release, *tables])
    scores["groundhog"] = groundhog(features[0], features[1:], shadows.trained_on, seed=seed)
    return scores


def likelihood_ratio(release: np.ndarray, shadows: np.ndarray, trained_on: np.ndarray) -> np.ndarray:
    """Return LiRA's score ``(n,)`` of a signal that is larger for members: ``(n,)`` and ``(shadows, n)``.

    Values below the median of the tables without the target count as that median: a table in which somebody is missed
    by more than usual speaks neither for nor against them, but would look unlikely to a narrow Gaussian.
    """
    floor = np.nanmedian(np.where(trained_on, np.nan, shadows), axis=0)
    return lira_online(np.maximum(release, floor), np.maximum(shadows, floor), trained_on)


def query_counts(targets: Coded, tables: list[Coded], *, queries: int = QUERIES, seed: int = 0) -> np.ndarray:
    """Return the share of each table's rows that agree with each target in random columns ``(tables, n, queries)``.

    A question is the same for all targets but for their values: "as many years or more, same city" of the target that
    it is about. Each is about a random number of columns. Categories agree if they are equal; numbers if they are
    equal, or lie on the same side and at least as far out, by the median of the tables.
    """
    rng = np.random.default_rng(seed)
    people, *ranked = rank(targets, *tables)
    p = people.ranks.shape[1]
    width = rng.integers(1, p + 1, queries)
    used = rng.random((queries, p)).argsort(axis=1) < width[:, None]
    equal = rng.random((queries, p)) < 0.5
    low, high = _interval(people, ranked, np.array([column.kind == "number" for column in targets.columns]))
    return np.stack([_agreeing(people.ranks, low, high, table.ranks, used, equal) / len(table) for table in ranked])


def _agreeing(
    ranks: np.ndarray, low: np.ndarray, high: np.ndarray, rows: np.ndarray, used: np.ndarray, equal: np.ndarray
) -> np.ndarray:
    """Return how many rows agree with each target in each question's columns ``(n, queries)``."""
    # every condition is asked again and again: its rows are kept as bits
    same = [packed(ranks[:, c, None] == rows[None, :, c]) for c in range(rows.shape[1])]
    near = [
        packed((low[:, c, None] <= rows[None, :, c]) & (rows[None, :, c] <= high[:, c, None]))
        for c in range(rows.shape[1])
    ]
    out = np.empty((len(ranks), len(used)), dtype=np.int64)
    for q, columns in enumerate(used):
        conditions = [same[c] if equal[q, c] else near[c] for c in np.flatnonzero(columns)]
        out[:, q] = popcount(np.bitwise_and.reduce(conditions))
    return out


def _interval(people: Ranked, tables: list[Ranked], number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest rank ``(n, columns)`` that agree with each target."""
    ranks = np.concatenate([table.ranks for table in tables])
    last = people.sizes - 1 - (number & (people.missing >= 0))
    known = np.where(number & (ranks == people.missing), -1, ranks)
    middle = np.array([np.median(c[c >= 0]) if (c >= 0).any() else 0 for c in known.T])
    tail = number & (people.ranks != people.missing)
    above = people.ranks > middle
    low = np.where(tail & ~above, 0, people.ranks)
    high = np.where(tail & above, last, people.ranks)
    return low, high


def pooled(release: np.ndarray, shadows: np.ndarray, trained_on: np.ndarray) -> np.ndarray:
    """Return the log-odds ``(n,)`` that each target is in, by a logistic regression over all targets and shadows.

    Parameters
    ----------
    release
        (n, features) about each target, seen in the release.
    shadows
        (shadows, n, features) the same in each shadow table.
    trained_on
        (shadows, n) bool.

    Every feature is standardised target by target, by the other shadow tables: what it means for one person, it then
    means for all, and few tables are enough to learn it.
    """
    from sklearn.linear_model import LogisticRegression

    count = len(shadows)
    total, squares = shadows.sum(axis=0), (shadows**2).sum(axis=0)
    # a table is compared with all others, as the release is
    mean = (total - shadows) / (count - 1)
    spread = np.sqrt(np.maximum((squares - shadows**2) / (count - 1) - mean**2, 0))
    floor = max(float(np.median(spread[spread > 0])), 1e-12) / 4 if (spread > 0).any() else 1.0
    known = ((shadows - mean) / (spread + floor)).reshape(-1, shadows.shape[2])
    asked = (release - total / count) / (np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0)) + floor)
    model = LogisticRegression(C=0.01, max_iter=500).fit(_squeezed(known), trained_on.ravel())
    return model.decision_function(_squeezed(asked))


def _squeezed(values: np.ndarray) -> np.ndarray:
    """Return values whose extremes count for little more than large ones."""
    return np.sign(values) * np.log1p(np.abs(values))


def table_features(tables: list[Coded]) -> np.ndarray:
    """Return features of whole tables, encoded together, ``(tables, features)``.

    Mean, median, variance and histogram of each number, frequencies of categories, and all correlations.

    Source: Groundhog, Stadler et al., USENIX Security 2022, section 5: naive, histogram and correlation features.
    """
    parts, tables = [], [_sorted(table) for table in tables]
    for column in tables[0].columns:
        values = [table.values(column.name) for table in tables]
        if column.kind == "number":
            known = [each[np.isfinite(each)] for each in values]
            ends = [f(each) for each in known if len(each) for f in (np.min, np.max)] or [0.0]
            parts.append(np.stack([_of_numbers(each, min(ends), max(ends)) for each in known]))
        else:
            size = len(column.categories) + 1
            shares = np.stack([np.bincount(each + 1, minlength=size) / max(1, len(each)) for each in values])
            commonest = np.argsort(-shares.sum(axis=0), kind="stable")[:MOST_CATEGORIES]
            parts.append(shares[:, commonest])
    parts.append(np.stack([_correlations(table) for table in tables]))
    return np.concatenate(parts, axis=1)


def _sorted(table: Coded) -> Coded:
    """Return the table with categories numbered in the order of their names, whichever came first."""
    codes = table.codes.copy()
    for c, column in enumerate(table.category_columns):
        place = np.argsort(np.argsort(np.array(column.categories, dtype=str), kind="stable"))
        codes[:, c] = np.append(place, -1)[codes[:, c]]
    return replace(table, codes=codes)


def _of_numbers(known: np.ndarray, low: float, high: float) -> np.ndarray:
    if not len(known):
        return np.zeros(3 + BINS)
    shares = np.histogram(known, BINS, (low, high))[0] / len(known)
    return np.r_[known.mean(), np.median(known), known.var(), shares]


def _correlations(table: Coded) -> np.ndarray:
    columns = np.column_stack([table.numbers, table.codes.astype(np.float64)])
    filled = np.isfinite(columns)
    middle = np.divide(np.where(filled, columns, 0).sum(axis=0), np.maximum(1, filled.sum(axis=0)))
    centred = np.where(filled, columns - middle, 0.0)
    length = np.linalg.norm(centred, axis=0)
    unit = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
    return (unit.T @ unit)[np.triu_indices(columns.shape[1], 1)]


def groundhog(release: np.ndarray, shadows: np.ndarray, trained_on: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Return the share of trees ``(n,)`` that take the release for a table made from each target.

    Parameters
    ----------
    release
        (features,) of the release.
    shadows
        (shadows, features) of each shadow table.
    trained_on
        (shadows, n) bool; one forest per target.
    """
    from sklearn.ensemble import RandomForestClassifier

    out = np.empty(trained_on.shape[1])
    for i, label in enumerate(trained_on.T):
        forest = RandomForestClassifier(TREES, random_state=seed, n_jobs=1).fit(shadows, label)
        out[i] = forest.predict_proba(release[None])[0, list(forest.classes_).index(True)]
    return out
