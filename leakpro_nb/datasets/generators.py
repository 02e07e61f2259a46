"""Generators of synthetic tables for tutorials and tests: any callable ``(frame, n, seed) -> frame`` is one.

Two that ship with the package. ``CartGenerator`` hands out real people's values leaf by leaf: its leaf size is a true
knob of memorisation, from copies to fair draws. ``ChowLiuGenerator`` knows pairs of columns only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from leakpro_nb.errors import InputError

__all__ = ["CartGenerator", "ChowLiuGenerator"]


def _check(frame: Any, n: int) -> None:
    if not hasattr(frame, "columns") or not len(frame) or not len(frame.columns):
        raise InputError("frame", type(frame).__name__, "give a table with at least one row and one column")
    if n < 1:
        raise InputError("n", n, "ask for at least one row")


@dataclass(frozen=True)
class CartGenerator:
    """Draw column after column from the leaf of a decision tree that the columns before lead to.

    Parameters
    ----------
    min_samples_leaf
        Fewest real people in a leaf. 1 copies whole records; 50 leaves little of any single person.

    Source: sequential regression trees with donors, Reiter 2005; synthpop, Nowok et al. 2016.
    """

    min_samples_leaf: int = 5

    def __post_init__(self) -> None:
        if isinstance(self.min_samples_leaf, bool) or self.min_samples_leaf < 1:
            raise InputError("min_samples_leaf", self.min_samples_leaf, "use an integer of at least 1, for example 5")

    def __call__(self, frame: Any, n: int, seed: int) -> Any:
        """Return ``n`` synthetic rows with the columns and types of ``frame``; the same seed gives the same rows."""
        from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

        _check(frame, n)
        rng = np.random.default_rng(seed)
        codes = _codes(frame)
        donor = np.empty((n, codes.shape[1]), dtype=np.int64)
        donor[:, 0] = rng.integers(len(frame), size=n)
        prefix = codes[donor[:, 0], :1]
        for j in range(1, codes.shape[1]):
            make = DecisionTreeRegressor if _is_number(frame.iloc[:, j]) else DecisionTreeClassifier
            model = make(min_samples_leaf=self.min_samples_leaf, random_state=int(rng.integers(2**31)))
            model.fit(codes[:, :j], codes[:, j])
            donor[:, j] = _donors(model.apply(codes[:, :j]), model.apply(prefix), rng)
            prefix = np.column_stack([prefix, codes[donor[:, j], j]])
        return _from_donors(frame, donor)


@dataclass(frozen=True)
class ChowLiuGenerator:
    """Draw from the best tree of pairwise dependencies between columns, numbers cut into bins.

    Parameters
    ----------
    bins
        Bins per number, of about as many records each; a value is drawn from the real values in its bin.

    Source: Chow and Liu 1968.
    """

    bins: int = 20

    def __post_init__(self) -> None:
        if isinstance(self.bins, bool) or self.bins < 2:
            raise InputError("bins", self.bins, "use an integer of at least 2, for example 20")

    def __call__(self, frame: Any, n: int, seed: int) -> Any:
        """Return ``n`` synthetic rows with the columns and types of ``frame``; the same seed gives the same rows."""
        _check(frame, n)
        rng = np.random.default_rng(seed)
        cells = np.column_stack([self._cells(frame.iloc[:, j]) for j in range(frame.shape[1])])
        order, parent = _tree(cells)
        drawn = np.empty((n, cells.shape[1]), dtype=np.int64)
        donor = np.empty_like(drawn)
        for j in order:
            if parent[j] < 0:
                chosen = rng.integers(len(cells), size=n)
            else:
                chosen = _donors(cells[:, parent[j]], drawn[:, parent[j]], rng)
            drawn[:, j] = cells[chosen, j]
            # the value itself comes from anybody in the cell, so that no two columns come from one person
            donor[:, j] = _donors(cells[:, j], drawn[:, j], rng)
        return _from_donors(frame, donor)

    def _cells(self, column: Any) -> np.ndarray:
        import pandas as pd

        if _is_number(column) and column.nunique() > self.bins:
            return pd.qcut(column, self.bins, labels=False, duplicates="drop").fillna(-1).to_numpy(dtype=np.int64)
        return pd.factorize(column.astype(object))[0]


def _is_number(column: Any) -> bool:
    import pandas as pd

    return bool(pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)) or bool(
        pd.api.types.is_datetime64_any_dtype(column)
    )


def _codes(frame: Any) -> np.ndarray:
    """Return the table as numbers for trees: a missing number lies below all others, categories are numbered."""
    import pandas as pd

    parts = []
    for j in range(frame.shape[1]):
        column = frame.iloc[:, j]
        if pd.api.types.is_datetime64_any_dtype(column):
            column = (column - column.min()).dt.total_seconds()
        if _is_number(column):
            values = pd.to_numeric(column).astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
            known = values[~np.isnan(values)]
            below = known.min() - np.ptp(known) - 1 if len(known) else 0.0
            parts.append(np.where(np.isnan(values), below, values))
        else:
            parts.append(pd.factorize(column.astype(object), sort=False)[0].astype(np.float64))
    return np.column_stack(parts)


def _donors(cells: np.ndarray, wanted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return for each wanted cell ``(n,)`` a random row among those in that cell ``(rows,)``."""
    order = np.argsort(cells, kind="stable")
    first = np.searchsorted(cells[order], wanted, "left")
    count = np.searchsorted(cells[order], wanted, "right") - first
    return order[first + (rng.random(len(wanted)) * count).astype(np.int64)]


def _from_donors(frame: Any, donor: np.ndarray) -> Any:
    import pandas as pd

    columns = [frame.iloc[donor[:, j], j].reset_index(drop=True) for j in range(frame.shape[1])]
    return pd.concat(columns, axis=1)


def _tree(cells: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Return an order in which parents come first, and each column's parent: the tree of largest mutual information."""
    from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree
    from sklearn.metrics import mutual_info_score

    p = cells.shape[1]
    weight = np.zeros((p, p))
    for i in range(p):
        for j in range(i + 1, p):
            # a spanning tree of least weight, over weights that must not be 0, which means no edge
            weight[i, j] = 1e-9 + np.log(len(cells) + 1.0) - mutual_info_score(cells[:, i], cells[:, j])
    order, parent = breadth_first_order(minimum_spanning_tree(weight), 0, directed=False)
    return order.tolist(), parent
