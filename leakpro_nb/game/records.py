"""Records: the people in the data, and who of them trained the target."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from leakpro_nb.errors import InputError

__all__ = ["Records", "as_array", "as_features", "as_mask", "hash_array", "take"]


@dataclass(frozen=True)
class Records:
    """Records of the audit.

    Parameters
    ----------
    X
        What the model is fed, one entry per record along the first axis: array, tensor or DataFrame.
    y
        (N,) integer class labels 0 … C-1.
    members
        (N,) True for the records that trained the target; the others are the non-members. May be missing for
        records that are only used to train something.
    population
        (N,) True for records that an attacker holds anyway: not members, and not audited either.
    groups
        DataFrame with N rows: columns by which exposure is broken down (age band, ward, …). Defaults to ``X`` when
        that is a DataFrame.
    columns
        What the columns mean, for the report.
    class_names
        What the classes 0 … C-1 are called in the report.
    """

    X: Any
    y: np.ndarray
    members: np.ndarray | None = None
    population: np.ndarray | None = None
    groups: Any = None
    columns: dict[str, str] = field(default_factory=dict)
    class_names: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "X", _as_inputs(self.X))
        n = len(self.X)
        if n == 0:
            raise InputError("records.X", "0 rows", "give at least one record")
        object.__setattr__(self, "y", _as_labels(self.y, n))
        if len(set(self.class_names)) != len(self.class_names):
            raise InputError("records.class_names", list(self.class_names), "give every class a name of its own")
        for name in ("members", "population"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, as_mask(f"records.{name}", getattr(self, name), n))
        if self.groups is None and hasattr(self.X, "iloc"):
            object.__setattr__(self, "groups", self.X)
        if self.groups is not None and not hasattr(self.groups, "columns"):
            raise InputError("records.groups", type(self.groups).__name__, "give a DataFrame, one row per record")
        if self.groups is not None and len(self.groups) != n:
            raise InputError("records.groups", f"{len(self.groups)} rows", f"give one row per record, {n}")
        if self.members is not None and self.population is not None and (self.members & self.population).any():
            both = int((self.members & self.population).sum())
            raise InputError(
                "records.population",
                f"{both} records are members as well",
                "population records must not have trained the target",
            )

    def __len__(self) -> int:
        return len(self.y)

    @property
    def audited(self) -> np.ndarray:
        """(N,) True for the records whose membership is at stake: everyone but the population."""
        return np.ones(len(self), dtype=bool) if self.population is None else ~self.population

    def fingerprint(self) -> str:
        """Return a hash of features and labels."""
        digest = hashlib.sha256()
        digest.update(hash_array(self.X).encode())
        digest.update(hash_array(self.y).encode())
        return digest.hexdigest()


def take(X: Any, rows: np.ndarray) -> Any:
    """Return the given rows of an array, a tensor or a DataFrame."""
    if hasattr(X, "iloc"):
        return X.iloc[np.flatnonzero(rows) if rows.dtype == bool else rows]
    return X[rows]


def as_array(X: Any) -> Any:
    """Return a DataFrame as an array, for models that read numbers only; anything else as it is."""
    return X.to_numpy() if hasattr(X, "iloc") else X


def as_mask(name: str, mask: Any, n: int) -> np.ndarray:
    """Return ``mask`` as bool ``(n,)``; 0/1 numbers will do.

    Raises
    ------
    InputError
        Wrong length, or values other than yes and no.
    """
    array = np.asarray(mask)
    if array.shape != (n,):
        raise InputError(name, f"shape {array.shape}", f"give one True or False per record, {n} of them")
    if array.dtype != bool:
        if not np.isin(array, (0, 1)).all():
            raise InputError(name, f"values such as {array[:3].tolist()}", "give a mask of True and False (or 1 and 0)")
        array = array.astype(bool)
    return array


def _as_inputs(X: Any) -> Any:
    if hasattr(X, "toarray"):
        raise InputError("records.X", type(X).__name__, "sparse matrices are not supported; pass X.toarray()")
    if isinstance(X, (list, tuple)):
        try:
            return np.asarray(X)
        except ValueError as error:
            raise InputError("records.X", "a ragged list", "give every record the same shape") from error
    if not hasattr(X, "__len__") or getattr(X, "ndim", 1) == 0 or isinstance(X, (str, bytes, dict)):
        raise InputError("records.X", type(X).__name__, "give an array, a tensor or a DataFrame, one row per record")
    return X


def _as_labels(y: Any, n: int) -> np.ndarray:
    array = np.asarray(y)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.shape != (n,):
        raise InputError("records.y", f"shape {array.shape}", f"give one label per record, {n} of them")
    if array.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(array))
        if len(bad):
            raise InputError("records.y", f"{len(bad)} missing labels", f"fill or drop them; the first is row {bad[0]}")
        if (array != np.round(array)).any():
            raise InputError("records.y", f"values such as {array[:3].tolist()}", "give integer class labels 0, 1, …")
    elif array.dtype.kind not in "iub":
        raise InputError(
            "records.y",
            f"type {array.dtype}",
            "give integer class labels 0, 1, … (for text: pandas.factorize)",
        )
    array = array.astype(np.int64)
    if array.min() < 0:
        raise InputError("records.y", f"smallest label {array.min()}", "class labels count from 0")
    return array


def as_features(X: Any) -> np.ndarray:
    """Return ``X`` as numbers ``(N, …)`` for measures that need them; categories become codes."""
    if not hasattr(X, "iloc"):
        return np.asarray(X)
    import pandas as pd

    def numbers(column: Any) -> Any:
        if pd.api.types.is_numeric_dtype(column):
            return column.astype(float)
        codes = pd.Series(pd.factorize(column, sort=True)[0], index=column.index).astype(float)
        return codes.where(codes >= 0)

    return X.apply(numbers).to_numpy(dtype=float)


def hash_array(X: Any) -> str:
    """Return a content hash of an array, a tensor or a DataFrame."""
    digest = hashlib.sha256()
    if hasattr(X, "iloc"):
        import pandas as pd

        digest.update(repr([(str(c), str(t)) for c, t in X.dtypes.items()]).encode() if X.ndim == 2 else b"")
        digest.update(pd.util.hash_pandas_object(X, index=False).to_numpy().tobytes())
    elif hasattr(X, "detach"):
        # by bytes, as numpy has no bfloat16
        import torch

        tensor = X.detach().cpu().contiguous()
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    else:
        array = np.ascontiguousarray(np.asarray(X))
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes() if array.dtype != object else repr(array.tolist()).encode())
    return digest.hexdigest()
