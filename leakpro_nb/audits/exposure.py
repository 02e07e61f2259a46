"""Who is exposed: subgroups and single records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from leakpro_nb.game.target import Target
from leakpro_nb.measures import auc_interval, threshold_at_fpr, tpr_at_fpr
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
    cuts = [(column, label, rows & known) for column, labels in subgroups(target) for label, rows in labels]
    # whoever looks for the worst of many groups must pay for looking
    joint = 1 - (1 - level) / max(1, len(cuts))
    groups = [_exposure(column, label, rows, scores, member, fpr, joint) for column, label, rows in cuts]
    return [group for group in groups if group is not None], _most_exposed(target, outcomes, member, scores, fpr)


def subgroups(target: Target) -> list[tuple[str, list[tuple[str, np.ndarray]]]]:
    """Return (column, [(group, mask over the audited records)]) for the label and each sensitive column.

    Numbers with more than eight values are cut into quarters.
    """
    import pandas as pd

    audited = target.records.audited
    columns: dict[str, Any] = {"class": _classes(target.records.y[audited], target.records.class_names)}
    for name in target.sensitive:
        key = "column class" if name == "class" else name
        columns[key] = target.records.groups[name][audited].reset_index(drop=True)
    tables = []
    for name, column in columns.items():
        values = column
        if pd.api.types.is_numeric_dtype(values) and values.nunique() > 8:
            values = _quarters(values)
        text = values.astype(object).where(values.notna(), "not known").astype(str)
        order = list(values.cat.categories) if hasattr(values, "cat") else sorted(set(text))
        order = [str(label) for label in order if (text == str(label)).any()]
        order += ["not known"] if "not known" in set(text) and "not known" not in order else []
        tables.append((name, [(label, (text == label).to_numpy()) for label in order]))
    return tables


def _quarters(values: Any) -> Any:
    """Cut numbers into quarters, named after their ends; open at both sides, since an extreme is somebody's own value."""
    import pandas as pd

    codes = pd.qcut(values, 4, duplicates="drop", labels=False)
    ends = values.groupby(codes).agg(["min", "max"])
    edges = np.unique(ends.to_numpy())
    digits = next((d for d in range(3, 17) if len({f"{edge:.{d}g}" for edge in edges}) == len(edges)), 17)
    shown = [(_number(low, digits), _number(high, digits)) for low, high in ends.itertuples(index=False)]
    names = [f"{low} to {high}" for low, high in shown]
    if len(shown) == 1:
        names = ["all values"]
    else:
        names[0], names[-1] = f"up to {shown[0][1]}", f"{shown[-1][0]} and over"
    return pd.Series(pd.Categorical.from_codes(codes.fillna(-1).astype(int), pd.Index(names)), index=values.index)


def _number(value: float, digits: int) -> str:
    return np.format_float_positional(float(f"{value:.{digits}g}"), trim="-")


def _classes(y: np.ndarray, names: Sequence[str]) -> Any:
    import pandas as pd

    labels = [names[k] if k < len(names) else str(k) for k in range(int(y.max()) + 1)]
    return pd.Series(pd.Categorical.from_codes(y.tolist(), pd.Index(labels)))


def _exposure(
    column: str, group: str, rows: np.ndarray, scores: np.ndarray, member: np.ndarray, fpr: float, level: float
) -> Exposure | None:
    """Return how exposed a group is to an attacker who knows it, and sets the threshold on its own non-members.

    One threshold for all would mistake a group that every model finds easy for one that leaks.
    """
    members, non_members = int((rows & member).sum()), int((rows & ~member).sum())
    if min(members, non_members) < SMALLEST_GROUP:
        return None
    auc, auc_low, auc_high = auc_interval(scores[rows], member[rows], level)
    tpr = None
    if fpr * non_members >= 1:
        point, (low, high), _ = tpr_at_fpr(scores[rows], member[rows], fpr, level)
        tpr = Interval(value=point.tpr, low=low, high=high, level=level, method="Clopper-Pearson")
    return Exposure(
        column=column,
        group=group,
        members=members,
        non_members=non_members,
        auc=Interval(value=auc, low=auc_low, high=auc_high, level=level, method="DeLong, logit scale"),
        tpr=tpr,
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
            flagged += np.where(known, values, -np.inf) >= threshold_at_fpr(values[known], member[known], fpr).threshold
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
