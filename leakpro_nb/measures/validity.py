"""Gates: can the figures of an audit be believed at all?"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

__all__ = ["blind_baseline_scores", "detectable_auc"]


def blind_baseline_scores(
    features: np.ndarray,
    member: np.ndarray,
    *,
    seed: int = 0,
    max_records: int = 20_000,
    max_features: int = 512,
) -> tuple[np.ndarray, np.ndarray]:
    """Return out-of-fold membership scores of a classifier that sees the records but never the model.

    If these tell members from non-members, the two groups differ by themselves (collected at another time, say),
    and an attack's success is no proof that the model leaks.

    Parameters
    ----------
    features
        (N, …) numbers; flattened, NaN allowed; columns beyond ``max_features`` are drawn at random.
    member
        (N,) bool.
    seed
        Seeds folds, subsampling and the classifier.
    max_records
        Larger samples are subsampled; the test has ample power at this size.

    Returns
    -------
    scores, rows
        (M,) scores of the records ``rows (M,)``.

    Source: blind baselines, Das, Zhang and Tramèr, 2024; gradient boosting by scikit-learn, five folds.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    rng = np.random.default_rng(seed)
    rows = np.arange(len(member))
    if len(rows) > max_records:
        rows = np.sort(rng.choice(rows, max_records, replace=False))
    table = np.asarray(features, dtype=np.float64).reshape(len(features), -1)[rows]
    if table.shape[1] > max_features:
        table = table[:, np.sort(rng.choice(table.shape[1], max_features, replace=False))]
    truth = np.asarray(member, dtype=bool)[rows]
    folds = min(5, int(truth.sum()), int((~truth).sum()))
    if folds < 2:
        return np.zeros(len(rows)), rows
    model = HistGradientBoostingClassifier(max_iter=60, learning_rate=0.1, max_leaf_nodes=15, random_state=seed)
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return cross_val_predict(model, table, truth, cv=split, method="predict_proba")[:, 1], rows


def detectable_auc(members: int, non_members: int, *, level: float = 0.95, power: float = 0.8) -> float:
    """Return the smallest AUC that an audit of this size shows to be above 0.5 with probability ``power``.

    Uses the exact null variance of the Mann-Whitney statistic, ``(n1 + n0 + 1) / (12 n1 n0)``.

    >>> round(detectable_auc(1000, 1000), 3)
    0.536
    """
    sigma = math.sqrt((members + non_members + 1) / (12 * members * non_members))
    return min(1.0, 0.5 + (stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(power)) * sigma)
