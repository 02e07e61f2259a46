"""Attribute inference: does the synthetic table fill in what somebody's record leaves out?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from leakpro_nb.attacks.synthetic.base import Attempts, Contest
from leakpro_nb.attacks.synthetic.neighbours import near_pairs
from leakpro_nb.errors import InputError
from leakpro_nb.game.tables import Coded, Column

__all__ = [
    "TOLERANCE",
    "features",
    "filled",
    "infer",
    "infer_by_neighbour",
    "infer_by_predictor",
    "right",
    "right_by_chance",
]

TOLERANCE = 0.05
"""A guess of a number counts as right within this share of the true value, as in the published attack."""

DAYS = 30.0
"""A guess of a date counts as right within so many days; a share of a date means nothing."""

MOST_CODES = 250
"""Categories that a boosted tree can keep apart; columns with more are read as numbers, by their codes."""


def infer(
    original: Coded,
    synthetic: Coded,
    control: Coded | None = None,
    *,
    secrets: Sequence[str] = (),
    known: Sequence[str] = (),
    predictor: Any = None,
    tolerance: float = TOLERANCE,
) -> dict[str, Contest]:
    """Return, for each secret, how often it is inferred for people in the original and for control people.

    Parameters
    ----------
    original, synthetic, control
        Tables that were encoded together; every record of ``original`` and ``control`` is attacked.
    secrets
        Columns to infer; all by default.
    known
        Columns that the attacker knows of a person; by default all but the secret, which is the worst case.
    predictor
        ``None``: the nearest synthetic record's value. ``"boosting"``, or any scikit-learn classifier or regressor: a
        model that learns the secret from the known columns of the synthetic table.
    tolerance
        A guess of a number counts as right within this share of the true value.

    Source: Giomi et al., PoPETs 2023 (2211.10459), section 4.3.
    """
    secrets = list(secrets) or list(original.names)
    tables = {"attack": original, **({"control": control} if control is not None and len(control) else {})}
    found = {
        side: infer_by_neighbour(table, synthetic, secrets, known, tolerance)
        if predictor is None
        else {each: infer_by_predictor(table, synthetic, each, known, predictor, tolerance) for each in secrets}
        for side, table in tables.items()
    }
    everyone = {side: np.arange(len(table)) for side, table in tables.items()}
    return {
        each: Contest(
            Attempts(found["attack"][each], everyone["attack"]),
            Attempts(found["control"][each], everyone["control"]) if "control" in found else None,
            Attempts(right_by_chance(original, synthetic, each, tolerance), everyone["attack"]),
        )
        for each in secrets
    }


def infer_by_neighbour(
    targets: Coded,
    synthetic: Coded,
    secrets: Sequence[str],
    known: Sequence[str] = (),
    tolerance: float = TOLERANCE,
) -> dict[str, np.ndarray]:
    """Return per secret the success ``(n,)`` of guessing the nearest synthetic record's value.

    Ties are averaged: with three nearest records of which two have the right value, the success is 2/3. Where each
    secret is sought from all other columns, one pass over the distances serves all secrets: leaving one column out
    brings a row nearer by at most 1.
    """
    columns = [name for name in targets.names if not known or name in known or name in secrets]
    for name in [*secrets, *known]:
        if name not in targets.names:
            raise InputError("secrets", name, f"not a column of the tables; they have {', '.join(targets.names[:12])}")
    if known and not set(secrets) <= set(known):
        apart = [each for each in secrets if each not in known]  # these are sought from the same columns, in one pass
        found: dict[str, np.ndarray] = {}
        for together in [apart, *([each] for each in secrets if each in known)]:
            rest = [c for c in columns if c in known and c not in together]
            found |= _from_columns(targets, synthetic, together, rest, tolerance)
        return {each: found[each] for each in secrets}
    if len(columns) < 2:
        raise InputError("secrets", ", ".join(secrets), "inference needs at least one other column to go by")
    queries, rows = targets.select(columns), synthetic.select(columns)
    success: dict[str, list[np.ndarray]] = {each: [] for each in secrets}
    for pairs in near_pairs(queries, rows, slack=1.0):
        total = pairs.parts.sum(axis=1)
        for each in secrets:
            c = queries.names.index(each)
            tied = pairs.tied(total - pairs.parts[:, c])
            chosen = np.flatnonzero(tied)
            hit = np.zeros(len(total))
            hit[chosen] = right(
                targets.columns[targets.names.index(each)],
                synthetic.values(each)[pairs.row[chosen]],
                targets.values(each)[pairs.first + pairs.query[chosen]],
                tolerance,
            )
            success[each].append(pairs.mean_over(tied, hit))
    return {each: np.concatenate(parts) if parts else np.zeros(0) for each, parts in success.items()}


def _from_columns(
    targets: Coded, synthetic: Coded, secrets: Sequence[str], known: Sequence[str], tolerance: float
) -> dict[str, np.ndarray]:
    if not known:
        raise InputError("known", ", ".join(secrets), "name at least one column other than the secret")
    success: dict[str, list[np.ndarray]] = {each: [] for each in secrets}
    for pairs in near_pairs(targets.select(known), synthetic.select(known)):
        for each in secrets:
            column = targets.columns[targets.names.index(each)]
            guess, truth = synthetic.values(each)[pairs.row], targets.values(each)[pairs.first + pairs.query]
            hit = right(column, guess, truth, tolerance)
            success[each].append(pairs.mean_over(np.ones(len(hit), dtype=bool), hit))
    return {each: np.concatenate(parts) if parts else np.zeros(0) for each, parts in success.items()}


def infer_by_predictor(
    targets: Coded,
    synthetic: Coded,
    secret: str,
    known: Sequence[str] = (),
    predictor: Any = "boosting",
    tolerance: float = TOLERANCE,
) -> np.ndarray:
    """Return the success ``(n,)`` of a model that learns the secret from the synthetic table.

    ``predictor`` is an unfitted scikit-learn classifier (for a category) or regressor (for a number), or
    ``"boosting"``, which reads missing values and categories as they are.
    """
    columns = [name for name in (known or targets.names) if name != secret]
    if not columns:
        raise InputError("known", secret, "name at least one column other than the secret")
    column = targets.columns[targets.names.index(secret)]
    answers = synthetic.values(secret)
    usable = ~np.isnan(answers) if column.kind == "number" else np.ones(len(answers), dtype=bool)
    if len(np.unique(answers[usable])) < 2:
        guesses = np.full(len(targets), answers[usable][0] if usable.any() else np.nan)
        return right(column, guesses, targets.values(secret), tolerance)
    X, Z = filled(features(synthetic.select(columns))), features(targets.select(columns))
    if predictor == "boosting":
        model = _boosting(column, synthetic.select(columns))
    else:
        from sklearn.base import clone

        model, X, Z = clone(predictor), np.nan_to_num(X), np.nan_to_num(Z)
    return right(column, model.fit(X[usable], answers[usable]).predict(Z), targets.values(secret), tolerance)


def _boosting(column: Column, known: Coded) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    few = [False] * len(known.number_columns) + [len(c.categories) < MOST_CODES for c in known.category_columns]
    make = HistGradientBoostingRegressor if column.kind == "number" else HistGradientBoostingClassifier
    options = {"loss": "absolute_error"} if column.kind == "number" else {}
    return make(categorical_features=few, max_iter=100, early_stopping=False, random_state=0, **options)


def features(table: Coded) -> np.ndarray:
    """Return numbers and codes as one matrix ``(n, columns)`` float64 for scikit-learn, NaN where missing."""
    return np.column_stack([table.numbers, np.where(table.codes < 0, np.nan, table.codes)])


def filled(matrix: np.ndarray, fewest: int = 1) -> np.ndarray:
    """Return a matrix ``(n, columns)`` in which columns with fewer than ``fewest`` values are 0: trees cannot cut nothing."""
    return np.where((~np.isnan(matrix)).sum(axis=0) < fewest, 0.0, matrix)


def right(column: Column, guess: np.ndarray, truth: np.ndarray, tolerance: float = TOLERANCE) -> np.ndarray:
    """Return whether guesses ``(n,)`` are right, as 0 and 1: equal categories, numbers within ``tolerance`` of the truth.

    A missing value is right where the truth is missing too.
    """
    if column.kind == "category":
        return (guess == truth).astype(np.float64)
    reach = DAYS if column.is_date else tolerance * np.abs(truth)
    with np.errstate(invalid="ignore"):
        near = np.abs(guess - truth) <= reach
    return np.where(np.isnan(truth), np.isnan(guess), near).astype(np.float64)


def right_by_chance(targets: Coded, synthetic: Coded, secret: str, tolerance: float = TOLERANCE) -> np.ndarray:
    """Return the chance ``(n,)`` that a random synthetic record's value is right: exact, not drawn."""
    column = targets.columns[targets.names.index(secret)]
    truth, values = targets.values(secret), synthetic.values(secret)
    if column.kind == "category":
        counts = np.bincount(values + 1, minlength=len(column.categories) + 1)
        return counts[truth + 1] / len(values)
    reach = DAYS if column.is_date else tolerance * np.abs(truth)
    ordered = np.sort(values[~np.isnan(values)])
    inside = np.searchsorted(ordered, truth + reach, "right") - np.searchsorted(ordered, truth - reach, "left")
    return np.where(np.isnan(truth), np.isnan(values).mean(), inside / len(values))
