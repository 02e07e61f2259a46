"""Who is exposed: subgroups and single records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from leakpro_nb.game.target import Target
from leakpro_nb.measures import auc_interval, clopper_pearson, threshold_at_fpr
from leakpro_nb.results import Exposure, Interval

if TYPE_CHECKING:
    from leakpro_nb.audits.membership import Outcome

__all__ = ["of", "subgroups", "with_values"]

SMALLEST_GROUP = 20
"""Groups with fewer members or non-members are not shown: no figure about them would mean anything."""

LISTED = 20
"""Most exposed records that the report lists."""


def of(
    target: Target,
    outcomes: Mapping[str, Outcome],
    member: np.ndarray,
    strongest: str | None,
    fpr: float,
    level: float,
) -> tuple[list[Exposure], list[dict[str, Any]]]:
    """Return exposure by subgroup and the most exposed members, by the strongest attack."""
    if strongest is None or outcomes[strongest].scores is None:
        return [], []
    chosen = outcomes[strongest].scores
    assert chosen is not None
    scores = chosen.values
    known = ~np.isnan(scores)
    if member[known].all() or not member[known].any():
        return [], []
    threshold = threshold_at_fpr(scores[known], member[known], fpr).threshold
    groups = [
        _exposure(column, label, rows & known, scores, member, threshold, level)
        for column, labels in subgroups(target)
        for label, rows in labels
    ]
    return [group for group in groups if group is not None], _most_exposed(target, outcomes, member, scores, fpr)


def subgroups(target: Target) -> list[tuple[str, list[tuple[str, np.ndarray]]]]:
    """Return (column, [(group, mask over the audited records)]) for the label and each sensitive column.

    Numbers with more than eight values are cut into quarters.
    """
    import pandas as pd

    audited = target.records.audited
    names = target.records.class_names
    columns: dict[str, Any] = {"class": _classes(target.records.y[audited], names)}
    for name in target.sensitive:
        columns[name] = target.records.groups[name][audited].reset_index(drop=True)
    tables = []
    for name, column in columns.items():
        values = column
        if pd.api.types.is_numeric_dtype(values) and values.nunique() > 8:
            values = pd.qcut(values, 4, duplicates="drop").map(lambda part: f"{part.left:.3g} to {part.right:.3g}")
        text = values.astype(object).where(values.notna(), "not known").astype(str)
        order = list(values.cat.categories) if hasattr(values, "cat") else sorted(set(text))
        order = [str(label) for label in order if (text == str(label)).any()]
        order += ["not known"] if "not known" in set(text) and "not known" not in order else []
        tables.append((name, [(label, (text == label).to_numpy()) for label in order]))
    return tables


def _classes(y: np.ndarray, names: Sequence[str]) -> Any:
    import pandas as pd

    labels = [names[k] if k < len(names) else str(k) for k in range(int(y.max()) + 1)]
    return pd.Series(pd.Categorical.from_codes(y.tolist(), pd.Index(labels)))


def _exposure(
    column: str,
    group: str,
    rows: np.ndarray,
    scores: np.ndarray,
    member: np.ndarray,
    threshold: float,
    level: float,
) -> Exposure | None:
    members, non_members = int((rows & member).sum()), int((rows & ~member).sum())
    if min(members, non_members) < SMALLEST_GROUP:
        return None
    auc, auc_low, auc_high = auc_interval(scores[rows], member[rows], level)
    hits = int((scores[rows & member] >= threshold).sum())
    low, high = clopper_pearson(hits, members, level)
    return Exposure(
        column=column,
        group=group,
        members=members,
        non_members=non_members,
        auc=Interval(value=auc, low=auc_low, high=auc_high, level=level, method="DeLong, logit scale"),
        tpr=Interval(value=hits / members, low=float(low), high=float(high), level=level, method="Clopper-Pearson"),
    )


def _most_exposed(
    target: Target, outcomes: Mapping[str, Outcome], member: np.ndarray, scores: np.ndarray, fpr: float
) -> list[dict[str, Any]]:
    flagged = np.zeros(len(member), dtype=int)
    for outcome in outcomes.values():
        assert outcome.scores is not None
        values = outcome.scores.values
        known = ~np.isnan(values)
        if member[known].any() and not member[known].all():
            flagged += (
                np.nan_to_num(values, nan=-np.inf) >= threshold_at_fpr(values[known], member[known], fpr).threshold
            )
    ranked = np.where(member & ~np.isnan(scores), scores, -np.inf)
    order = np.argsort(-ranked, kind="stable")[:LISTED]
    outside = np.sort(scores[~member & ~np.isnan(scores)])
    index = np.flatnonzero(target.records.audited)
    return [
        {
            "record": int(index[i]),
            "score": float(scores[i]),
            "non_members_as_high": int(len(outside) - np.searchsorted(outside, scores[i], side="left")),
            "attacks_that_accuse": int(flagged[i]),
        }
        for i in order
        if np.isfinite(ranked[i])
    ]


def with_values(target: Target, listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add the raw values of each listed record; only for reports that were asked to show them."""
    groups = target.records.groups
    if groups is None:
        return listed
    rows = [groups.iloc[entry["record"]] for entry in listed]
    return [
        {**entry, "values": {str(k): str(v) for k, v in row.items()}} for entry, row in zip(listed, rows, strict=True)
    ]
