"""Membership inference on a synthetic table alone: is it closer to this person than it should be?

Every score is a pure function of tables that were encoded together; higher = more like someone in the original.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.special import logsumexp
from scipy.stats import norm, rankdata

from leakpro_nb.attacks.synthetic.inference import MOST_CODES, features, filled
from leakpro_nb.attacks.synthetic.neighbours import (
    distance_blocks,
    near_pairs,
    nearest_distance,
    nearest_euclidean,
)
from leakpro_nb.errors import InputError
from leakpro_nb.game.tables import Coded, Column

__all__ = [
    "SCORES",
    "Score",
    "bandwidth",
    "classifier",
    "combined",
    "dcr",
    "dcr_difference",
    "dcr_ratio",
    "density",
    "density_ratio",
    "dpi",
    "gen_lra",
    "log_density",
    "neighbourhood",
    "vulnerability",
]

Metric = Literal["euclidean", "gower"]

NEIGHBOURS = 20
"""Nearest records among which DPI counts, as in the authors' code."""

LOCAL = 5
"""Nearest synthetic records that Gen-LRA looks at, and neighbours that make somebody an outlier."""


class Score(NamedTuple):
    """One membership score: its title and source, whether it needs a reference table, and the function."""

    title: str
    paper: str
    needs_reference: bool
    run: Callable[[Coded, Coded, Coded | None], np.ndarray]


def dcr(targets: Coded, synthetic: Coded, metric: Metric = "euclidean") -> np.ndarray:
    """Return minus the distance ``(n,)`` to the nearest synthetic record (GAN-Leaks, Chen et al., CCS 2020).

    ``metric``: ``"euclidean"`` on indicators and numbers standardised by the synthetic table, as in the published code
    (default, and the stronger one on the tables tried), or ``"gower"``.
    """
    return -_nearest(targets, synthetic, synthetic, metric)


def dcr_difference(targets: Coded, synthetic: Coded, reference: Coded, metric: Metric = "euclidean") -> np.ndarray:
    """Return how much nearer the synthetic table is than reference records are ``(n,)``; ``metric`` as in ``dcr``.

    Source: calibrated attack of GAN-Leaks, Chen et al., CCS 2020, section 4.4.
    """
    return _nearest(targets, reference, synthetic, metric) - _nearest(targets, synthetic, synthetic, metric)


def dcr_ratio(targets: Coded, synthetic: Coded, reference: Coded, metric: Metric = "euclidean") -> np.ndarray:
    """Return the log-ratio ``(n,)`` of the distances to the nearest reference and the nearest synthetic record.

    Unlike the difference it tells a copy from a near miss at any scale. ``metric`` as in ``dcr``. Our own variant.
    """
    near, far = (_nearest(targets, table, synthetic, metric) for table in (synthetic, reference))
    smallest = near[near > 0].min(initial=1.0) / 2  # copies first, and among them those that are nobody else's
    return np.log(np.maximum(far, smallest)) - np.log(np.maximum(near, smallest))


def _nearest(targets: Coded, table: Coded, synthetic: Coded, metric: Metric) -> np.ndarray:
    if metric == "gower":
        return nearest_distance(targets, table)
    if metric != "euclidean":
        raise InputError("metric", metric, "use euclidean or gower")
    return nearest_euclidean(targets, table, np.nan_to_num(np.nanstd(synthetic.numbers, axis=0)))


def neighbourhood(targets: Coded, synthetic: Coded, radius: float | None = None) -> np.ndarray:
    """Return the share ``(n,)`` of synthetic records within ``radius``.

    ``None``: the median distance of the targets to their nearest synthetic record (Hilprecht et al., PoPETs 2019).
    """
    reach = float(np.median(nearest_distance(targets, synthetic))) if radius is None else radius
    parts = [(block <= reach + 1e-6).mean(axis=1) for _, block in distance_blocks(targets, synthetic)]
    return np.concatenate(parts) if parts else np.zeros(0)


def bandwidth(table: Coded, most: int = 1000) -> float:
    """Return the width of the kernel: a tenth of the median distance of records to their fifth neighbour.

    At that width a copy outweighs e^10 records as near as neighbours usually are; wider kernels see the crowd and not
    the copy. The table is thinned evenly to ``most`` queries; constant tables get a width of 1.
    """
    rows = np.linspace(0, len(table) - 1, min(most, len(table))).astype(int)
    reach = [
        np.partition(block, min(LOCAL, block.shape[1] - 1), axis=1)[:, min(LOCAL, block.shape[1] - 1)]
        for _, block in distance_blocks(table.take(rows), table)  # each finds itself at 0, so one more is asked for
    ]
    width = float(np.median(np.concatenate(reach))) / 10
    return width if width > 0 else 1.0


def log_density(targets: Coded, table: Coded, width: float) -> np.ndarray:
    """Return the logarithm ``(n,)`` of a kernel density, up to a constant: mean of ``exp(-distance / width)``.

    The distance is a sum over columns, so the kernel is a product over columns; it needs no covariance, which mixed
    columns do not have.
    """
    parts = [
        logsumexp(-block.astype(np.float64) / width, axis=1) - np.log(len(table))
        for _, block in distance_blocks(targets, table)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def density(targets: Coded, synthetic: Coded) -> np.ndarray:
    """Return the log-density ``(n,)`` of the synthetic table at each target."""
    return log_density(targets, synthetic, bandwidth(synthetic))


def density_ratio(targets: Coded, synthetic: Coded, reference: Coded) -> np.ndarray:
    """Return the log-ratio ``(n,)`` of the synthetic table's density to the reference's.

    Source: DOMIAS, van Breugel et al., AISTATS 2023 (2302.12580); with a kernel that mixed columns admit.
    """
    width = bandwidth(reference)
    return log_density(targets, synthetic, width) - log_density(targets, reference, width)


def classifier(targets: Coded, synthetic: Coded, reference: Coded) -> np.ndarray:
    """Return the log-odds ``(n,)`` that a boosted tree takes each target for synthetic rather than for reference.

    Source: Houssiau et al. 2022 (TAPAS); boosted trees read missing values and categories as they are.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    few = [False] * len(synthetic.number_columns)
    few += [len(column.categories) < MOST_CODES for column in synthetic.category_columns]
    rows = filled(np.concatenate([features(synthetic), features(reference)]))
    label = np.r_[np.ones(len(synthetic)), np.zeros(len(reference))]
    # a larger synthetic table must not make everybody look synthetic
    weight = np.r_[np.full(len(synthetic), 1 / len(synthetic)), np.full(len(reference), 1 / len(reference))]
    model = HistGradientBoostingClassifier(
        categorical_features=few, max_iter=100, early_stopping=False, random_state=0
    ).fit(rows, label, sample_weight=weight * len(label) / 2)
    return np.asarray(model.decision_function(features(targets)))


def dpi(targets: Coded, synthetic: Coded, reference: Coded, k: int = NEIGHBOURS) -> np.ndarray:
    """Return the share ``(n,)`` of synthetic records among the ``k`` nearest of both tables, at equal size.

    Ties at the edge count by their share. Source: data plagiarism index, Ward et al. 2024 (2406.13012).
    """
    size = min(len(synthetic), len(reference))
    tables = [table.take(np.linspace(0, len(table) - 1, size).astype(int)) for table in (synthetic, reference)]
    both = Coded(
        synthetic.columns,
        np.concatenate([table.numbers for table in tables]),
        np.concatenate([table.codes for table in tables]),
    )
    parts = []
    for pairs in near_pairs(targets, both, k=k):
        distance = pairs.parts.sum(axis=1)
        order = np.lexsort([distance, pairs.query])
        edge = distance[order][pairs.starts + min(k, len(both)) - 1][pairs.query]
        inside = distance < edge - 1e-9
        certain = np.bincount(pairs.query, weights=inside, minlength=pairs.queries)
        tied = np.bincount(pairs.query, weights=~inside, minlength=pairs.queries)
        weight = np.where(inside, 1.0, ((k - certain) / np.maximum(tied, 1))[pairs.query])
        mine = np.bincount(pairs.query, weights=weight * (pairs.row < size), minlength=pairs.queries)
        parts.append(mine / k)
    return np.concatenate(parts) if parts else np.zeros(0)


def gen_lra(targets: Coded, synthetic: Coded, reference: Coded, k: int = LOCAL) -> np.ndarray:
    """Return the log-likelihood ``(n,)`` that the target's nearest synthetic records gain if it joins the reference.

    The kernel density with one more record is ``p' = p n / (n + 1) + K / (n + 1)``, so nothing is fitted twice.

    Source: Gen-LRA, Ward et al. 2025 (2508.21146), in closed form.
    """
    width, n = bandwidth(reference), len(reference)
    rows, near = [], []
    for pairs in near_pairs(targets, synthetic, k=k):
        rows.append(pairs.row)
        near.append((pairs.first + pairs.query, pairs.parts.sum(axis=1)))
    if not rows:
        return np.zeros(0)
    used, place = np.unique(np.concatenate(rows), return_inverse=True)
    query, distance = (np.concatenate(part) for part in zip(*near, strict=True))
    log_p = log_density(synthetic.take(used), reference, width)[place]
    gain = np.logaddexp(np.log(n / (n + 1)), -distance / width - log_p - np.log(n + 1))
    total = np.bincount(query, weights=gain, minlength=len(targets))
    return total * k / np.bincount(query, minlength=len(targets))  # ties beyond the k-th count by their share


def combined(scores: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean ``(n,)`` of the scores' normal quantiles; nothing is learnt from anybody's membership."""
    return np.mean([norm.ppf((rankdata(values) - 0.5) / len(values)) for values in scores], axis=0)


def vulnerability(original: Coded, k: int = LOCAL) -> np.ndarray:
    """Return how alone each record of the original is ``(n,)``: its mean distance to its ``k`` nearest others.

    Records with large values are the first that an attack should try, and that an owner should protect.

    Source: Achilles' heels, Meeus et al., ESORICS 2023 (2306.10308): the share of differing categories and the cosine
    distance of standardised numbers, each weighted by its share of the columns.
    """
    if len(original) < 2:
        raise InputError("original", f"{len(original)} records", "there must be at least two to compare")
    numbers = np.nan_to_num((original.numbers - np.nanmean(original.numbers, axis=0)) / _spread(original.numbers))
    length = np.linalg.norm(numbers, axis=1, keepdims=True)
    unit = np.divide(numbers, length, out=np.zeros_like(numbers), where=length > 0).astype(np.float32)
    p, others = len(original.columns), min(k, len(original) - 1)
    apart = np.float32((p - original.codes.shape[1]) / p)
    out = np.empty(len(original))
    # numbers aside, distances count differing categories
    for first, differing in distance_blocks(*2 * [_categories_alone(original)], without_self=True):
        part = slice(first, first + len(differing))
        distance = differing / p + apart * (1 - unit[part] @ unit.T)
        out[part] = np.partition(distance, others - 1, axis=1)[:, :others].mean(axis=1)
    return out


def _categories_alone(table: Coded) -> Coded:
    if not table.category_columns:  # one category that all have in common
        alike = np.zeros((len(table), 1), dtype=np.int32)
        return Coded((Column("", "category", ("",)),), np.zeros((len(table), 0)), alike)
    return Coded(table.category_columns, np.zeros((len(table), 0)), table.codes)


def _spread(numbers: np.ndarray) -> np.ndarray:
    spread = np.nanstd(numbers, axis=0)
    return np.where(spread > 0, spread, 1.0)


def _with(function: Callable[[Coded, Coded, Coded], np.ndarray]) -> Callable[[Coded, Coded, Coded | None], np.ndarray]:
    def run(targets: Coded, synthetic: Coded, reference: Coded | None) -> np.ndarray:
        if reference is None or not len(reference):
            raise InputError("reference", "missing", "give reference records, or a control table to take some from")
        return function(targets, synthetic, reference)

    return run


def _alone(function: Callable[[Coded, Coded], np.ndarray]) -> Callable[[Coded, Coded, Any], np.ndarray]:
    return lambda targets, synthetic, _: function(targets, synthetic)


SCORES: dict[str, Score] = {
    "dcr": Score("Distance to the closest synthetic record", "Chen et al., CCS 2020", False, _alone(dcr)),
    "dcr_difference": Score("Calibrated distance", "Chen et al., CCS 2020", True, _with(dcr_difference)),
    "dcr_ratio": Score("Ratio of distances", "our own, after Chen et al., CCS 2020", True, _with(dcr_ratio)),
    "neighbourhood": Score("Local neighbourhood", "Hilprecht et al., PoPETs 2019", False, _alone(neighbourhood)),
    "density": Score("Density", "Hilprecht et al., PoPETs 2019", False, _alone(density)),
    "density_ratio": Score("Density ratio (DOMIAS)", "van Breugel et al., AISTATS 2023", True, _with(density_ratio)),
    "classifier": Score("Classifier", "Houssiau et al. 2022", True, _with(classifier)),
    "dpi": Score("Plagiarism index (DPI)", "Ward et al. 2024", True, _with(dpi)),
    "gen_lra": Score("Local likelihood (Gen-LRA)", "Ward et al. 2025", True, _with(gen_lra)),
}
"""Scores by name."""
