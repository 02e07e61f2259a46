"""Disclosure by look-up: what the synthetic records that share somebody's known columns say about the secret one.

Both measures say by themselves how well a secret can be guessed, which a useful table allows for everybody. Only the
difference between the original's people and control people tells of a leak.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from leakpro_nb.attacks.synthetic.inference import features
from leakpro_nb.attacks.synthetic.neighbours import TIE, near_pairs
from leakpro_nb.errors import InputError
from leakpro_nb.game.tables import Coded, Column

__all__ = ["BINS", "Cap", "Disclosure", "Loss", "anonymity_loss", "attribution", "disclosure", "loss_coefficient"]

BINS = 10
"""Equal-width bins into which numbers are cut, over the range of the original."""

SMALLEST_RECALL = 1e-4
"""Share of people below which a precise guess counts for nothing (Francis 2024)."""

FEWEST_GUESSES = 50
"""A precision is looked at only where so many guesses stand behind it: the best of few is luck."""

TREES = 100
"""Trees of the forest that guesses without the synthetic table; each record is judged by the third that never saw it."""


@dataclass(frozen=True)
class Cap:
    """Correct attribution probability of each target.

    Parameters
    ----------
    exact
        (n,) share of the synthetic records with the target's known values that also have its secret (CAP); NaN where
        no synthetic record has these known values.
    nearest
        (n,) the same among the synthetic records that differ in the fewest known columns (GCAP); NaN
        only where it was not asked for.
    """

    exact: np.ndarray
    nearest: np.ndarray

    @property
    def matched(self) -> np.ndarray:
        """(n,) bool: whether some synthetic record has the target's known values."""
        return ~np.isnan(self.exact)

    @property
    def zero(self) -> np.ndarray:
        """(n,) as ``exact``, with 0 where nothing matches (0CAP): an attacker who stays silent then."""
        return np.nan_to_num(self.exact)


class Disclosure(NamedTuple):
    """Attribution of one secret for people in the original and for control people (``None`` without a control)."""

    original: Cap
    control: Cap | None


def disclosure(
    original: Coded,
    synthetic: Coded,
    control: Coded | None = None,
    *,
    secrets: Sequence[str] = (),
    known: Sequence[str] = (),
    generalised: bool = True,
) -> dict[str, Disclosure]:
    """Return, for each secret, how surely the matching synthetic records give it away.

    Report the mean of ``original`` minus the mean of ``control`` (of ``exact``, ``zero`` or ``nearest``): the values
    alone mix what is typical of the population with what is betrayed.

    Parameters
    ----------
    original, synthetic, control
        Tables that were encoded together.
    secrets
        Columns to give away; all by default.
    known
        Columns that the attacker knows of a person; by default all but the secret.
    generalised
        Whether to look for the nearest records where none matches, which costs a pass over all distances.
    """
    has_control = control is not None and len(control) > 0
    return {
        each: Disclosure(
            attribution(original, synthetic, each, known, bins_of=original, generalised=generalised),
            attribution(control, synthetic, each, known, bins_of=original, generalised=generalised)
            if has_control and control
            else None,
        )
        for each in list(secrets) or list(original.names)
    }


def attribution(
    targets: Coded,
    synthetic: Coded,
    secret: str,
    known: Sequence[str] = (),
    *,
    bins_of: Coded | None = None,
    generalised: bool = True,
) -> Cap:
    """Return the correct attribution probability of every target.

    Numbers, among the known columns and as secret, are cut into ``BINS`` equal parts of their range in ``bins_of``
    (default: the targets); the outer bins are open. A missing value is a value of its own. ``generalised`` as in
    ``disclosure``.

    Raises
    ------
    InputError
        No such column, or no known column.

    Source: Taub et al., PSD 2018 (CAP and 0CAP); generalised CAP as in SDMetrics.
    """
    columns = _known(targets, secret, known)
    edges = targets if bins_of is None else bins_of
    theirs, ours = ([_cells(table, name, edges) for name in columns] for table in (synthetic, targets))
    keys = _numbered(np.concatenate([np.stack(theirs, axis=1), np.stack(ours, axis=1)]))
    their_key, our_key = keys[: len(synthetic)], keys[len(synthetic) :]
    their_secret, our_secret = (_cells(table, secret, edges) for table in (synthetic, targets))
    table = _Counts(their_key, their_secret)
    rows, right = table.rows(our_key), table.both(our_key, our_secret)
    exact = np.divide(right, rows, out=np.full(len(targets), np.nan), where=rows > 0)
    nearest = exact.copy()
    lost = np.flatnonzero(rows == 0)
    if len(lost) and generalised:
        nearest[lost] = _among_nearest(
            np.stack(ours, axis=1)[lost], our_secret[lost], np.stack(theirs, axis=1), their_key, table
        )
    return Cap(exact, nearest)


def _among_nearest(
    cells: np.ndarray, secret: np.ndarray, their_cells: np.ndarray, their_key: np.ndarray, table: _Counts
) -> np.ndarray:
    """Return the share with the right secret among the records that differ in the fewest columns ``(n,)``."""
    keys, first = np.unique(their_key, return_index=True)
    columns = tuple(Column(str(c), "category", tuple(range(int(m) + 2))) for c, m in enumerate(their_cells.max(axis=0)))
    # a value that no synthetic record has differs from all, as one value beyond theirs does
    most = their_cells.max(axis=0) + 1
    queries = Coded(columns, np.zeros((len(cells), 0)), np.minimum(cells, most).astype(np.int32))
    rows = Coded(columns, np.zeros((len(first), 0)), their_cells[first].astype(np.int32))
    out = []
    for pairs in near_pairs(queries, rows):
        key = keys[pairs.row]
        hits = np.bincount(pairs.query, table.both(key, secret[pairs.first + pairs.query]), pairs.queries)
        out.append(hits / np.bincount(pairs.query, table.rows(key), pairs.queries))
    return np.concatenate(out)


class _Counts:
    """How many synthetic records have each key, and each key together with each secret."""

    def __init__(self, key: np.ndarray, secret: np.ndarray) -> None:
        self.size = int(secret.max(initial=0)) + 2
        self.keys, self.key_rows = np.unique(key, return_counts=True)
        self.pairs, self.pair_rows = np.unique(key * self.size + secret, return_counts=True)

    def rows(self, key: np.ndarray) -> np.ndarray:
        return _looked_up(key, self.keys, self.key_rows)

    def both(self, key: np.ndarray, secret: np.ndarray) -> np.ndarray:
        return _looked_up(key * self.size + np.minimum(secret, self.size - 1), self.pairs, self.pair_rows)


def _looked_up(wanted: np.ndarray, known: np.ndarray, rows: np.ndarray) -> np.ndarray:
    place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[place] == wanted, rows[place], 0)


def _known(table: Coded, secret: str, known: Sequence[str]) -> list[str]:
    for name in [secret, *known]:
        if name not in table.names:
            raise InputError("columns", name, f"not a column of the tables; they have {', '.join(table.names[:12])}")
    columns = [name for name in table.names if name != secret and (not known or name in known)]
    if not columns:
        raise InputError("known", secret, "name at least one column other than the secret")
    return columns


def _cells(table: Coded, name: str, bins_of: Coded) -> np.ndarray:
    """Return one column as cells ``(n,)`` from 0: 0 for missing, then the category or the bin."""
    values = table.values(name)
    if table.columns[table.names.index(name)].kind == "category":
        return values.astype(np.int64) + 1
    span = bins_of.values(name)
    span = span[np.isfinite(span)]
    edges = np.linspace(span.min(), span.max(), BINS + 1)[1:-1] if len(span) else np.zeros(0)
    return np.where(np.isnan(values), 0, 1 + np.searchsorted(edges, values, "left"))


def _numbered(cells: np.ndarray) -> np.ndarray:
    """Return a number per row ``(n,)``, equal for equal rows."""
    number = np.zeros(len(cells), dtype=np.int64)
    for column in cells.T:  # column by column, so that the numbers never outgrow an integer
        number = np.unique(number * (int(column.max(initial=0)) + 1) + column, return_inverse=True)[1]
    return number


class Loss(NamedTuple):
    """Anonymity loss of one secret, with the two quality figures that it compares.

    ``coefficient`` is at most 1 (every secret given away); 0 and below: the synthetic table tells no more than the
    rest of the original does. The author takes values below .5 to be safe.
    """

    coefficient: float
    attack: float
    base: float


def anonymity_loss(
    original: Coded,
    synthetic: Coded,
    control: Coded | None = None,
    *,
    secret: str,
    known: Sequence[str] = (),
    most: int = 2000,
    seed: int = 0,
) -> tuple[Loss, Loss | None]:
    """Return the anonymity loss coefficient for people in the original, and for control people.

    The attack guesses the value of the nearest synthetic record, surest where that is nearest. It is compared with a
    forest that learns from the original itself, each record judged only by trees that were grown without it: what can
    be learnt so is knowledge about the population. Numbers are cut into ``BINS`` parts of their range.

    Parameters
    ----------
    original, synthetic, control
        Tables that were encoded together.
    secret, known
        As in ``disclosure``.
    most
        Records of each table that are attacked, drawn with ``seed``.

    Source: Francis and Wagner 2024 (anonymity loss coefficient); the confidence of either guess, and the smallest
    number of guesses behind a precision, are ours.
    """
    from sklearn.ensemble import RandomForestClassifier

    columns = _known(original, secret, known)
    if len(original) < 2:
        raise InputError("original", f"{len(original)} records", "there must be at least two to learn one from another")
    answers = _cells(original, secret, original)
    forest = RandomForestClassifier(
        TREES, min_samples_leaf=2, max_features="sqrt", oob_score=True, random_state=seed, n_jobs=1
    ).fit(_filled(original.select(columns)), answers)
    unseen = np.nan_to_num(forest.oob_decision_function_)
    rng = np.random.default_rng(seed)

    def judge(table: Coded, odds: np.ndarray | None) -> Loss:
        chosen = np.sort(rng.permutation(len(table))[:most])
        targets = table.take(chosen)
        chance = forest.predict_proba(_filled(targets.select(columns))) if odds is None else odds[chosen]
        truth = _cells(targets, secret, original)
        base = loss_coefficient(forest.classes_[chance.argmax(axis=1)] == truth, chance.max(axis=1))
        guess, confidence = _nearest_guess(
            targets.select(columns), synthetic.select(columns), synthetic, secret, original
        )
        attack = loss_coefficient(guess == truth, confidence)
        return Loss((attack - base) / (1 - base) if base < 1 else float("nan"), attack, base)

    return judge(original, unseen), judge(control, None) if control is not None and len(control) else None


def loss_coefficient(right: np.ndarray, confidence: np.ndarray) -> float:
    """Return the best mix of precision and recall over all cut-offs of the confidence: 1 if all guesses are right.

    At recall ``R`` and precision ``P`` it is ``(1 - (log10 R / log10 R_min)^3) P``, and ``R`` itself at and below
    ``R_min``.

    >>> loss_coefficient(np.ones(100, dtype=bool), np.zeros(100))
    1.0
    """
    order = np.argsort(-confidence, kind="stable")
    guesses = np.arange(1, len(right) + 1)
    last = np.r_[np.diff(confidence[order]) != 0, True]  # equally sure guesses are made together
    usable = last & (guesses >= min(FEWEST_GUESSES, len(right)))
    precision = (np.cumsum(right[order]) / guesses)[usable]
    recall = guesses[usable] / len(right)
    mix = (1 - (np.log10(recall) / np.log10(SMALLEST_RECALL)) ** 3) * precision
    return float(np.where(recall <= SMALLEST_RECALL, recall, mix).max())


def _nearest_guess(
    queries: Coded, rows: Coded, synthetic: Coded, secret: str, bins_of: Coded
) -> tuple[np.ndarray, np.ndarray]:
    """Return the commonest secret among the nearest synthetic records ``(n,)``, and how sure that is ``(n,)``."""
    values = _cells(synthetic, secret, bins_of)
    size = int(values.max()) + 1
    guess, distance, share = [], [], []
    for pairs in near_pairs(queries, rows):
        votes, count = np.unique(pairs.query * size + values[pairs.row], return_counts=True)
        order = np.lexsort([-count, votes // size])
        first = order[np.searchsorted(votes[order] // size, np.arange(pairs.queries))]
        guess.append(votes[first] % size)
        share.append(count[first] / np.bincount(pairs.query, minlength=pairs.queries))
        distance.append(np.minimum.reduceat(pairs.parts.sum(axis=1), pairs.starts))
    far, agreed = np.round(np.concatenate(distance) / TIE), np.concatenate(share)
    sure = np.unique(np.stack([-far, agreed], axis=1), axis=0, return_inverse=True)[1]
    return np.concatenate(guess), sure.reshape(-1).astype(np.float64)


def _filled(table: Coded) -> np.ndarray:
    return np.nan_to_num(features(table), nan=-1.0)
