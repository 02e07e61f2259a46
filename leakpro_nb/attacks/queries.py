"""Several questions about one record: the same record, changed a little in ways that keep its meaning.

Every change treats all records alike, whatever their order and whoever they are, so that target, shadow models and
population answer the same question.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from leakpro_nb.attacks.base import NotApplicable
from leakpro_nb.game.views import Transform, View

__all__ = ["Flip", "Identity", "Jitter", "Rotate", "Shift", "is_image", "queried", "queries_for"]

MOST_IMAGE_QUERIES = 18
"""The record and its mirror image, each at nine positions, as in the research code of RMIA and LiRA."""

JITTER = 0.05
"""Default size of the noise for tables, in spreads of each column."""

MARGIN = 8
"""An image is moved by one part in so many: 4 pixels of 32, as in the training of the papers' models."""


@dataclass(frozen=True)
class Identity:
    """The record as it is."""

    def __call__(self, X: Any) -> Any:
        """Return ``X`` itself."""
        return X


@dataclass(frozen=True)
class Flip:
    """Mirror images ``(n, …, H, W)``, left to right."""

    def __call__(self, X: Any) -> Any:
        """Return as many images of the same type; ``NotApplicable`` if they are none."""
        return _need_images(X)[..., np.arange(X.shape[-1])[::-1].copy()]


@dataclass(frozen=True)
class Shift:
    """Move images ``(n, …, H, W)`` by ``dx`` pixels to the right and ``dy`` down; what enters mirrors the border."""

    dx: int
    dy: int

    def __call__(self, X: Any) -> Any:
        """Return as many images of the same type; ``NotApplicable`` if they are none, or smaller than the move."""
        height, width = _need_images(X).shape[-2:]
        if abs(self.dx) >= width or abs(self.dy) >= height:
            raise NotApplicable(f"images of {height} by {width} pixels cannot be moved by {self.dx} and {self.dy}")
        return X[..., _mirrored(height, self.dy), :][..., _mirrored(width, self.dx)]


@dataclass(frozen=True)
class Rotate:
    """Turn images ``(n, …, H, W)`` by ``degrees`` anticlockwise; the corners repeat the border."""

    degrees: float

    def __call__(self, X: Any) -> Any:
        """Return as many images of the same type; ``NotApplicable`` if they are none."""
        from scipy.ndimage import rotate

        pixels = np.asarray(_need_images(X))
        turned = rotate(pixels, self.degrees, axes=(-1, -2), reshape=False, order=1, mode="nearest")
        return turned if isinstance(X, np.ndarray) else X.new_tensor(turned)


@dataclass(frozen=True)
class Jitter:
    """Add one and the same noise to all rows of a table ``(n, D)``.

    Parameters
    ----------
    scale
        Standard deviation of the noise, in spreads of each column.
    seed
        Decides the noise.
    spread
        Spread of each column; 0 leaves it as it is. It is fixed here rather than taken from what is asked about, so that
        a record's question does not depend on the other records. See ``spread_of``.
    """

    scale: float
    seed: int
    spread: tuple[float, ...]

    def __call__(self, X: Any) -> Any:
        """Return a table of the same type and columns; columns of whole numbers are rounded."""
        noise = self.scale * np.random.default_rng(self.seed).standard_normal(len(self.spread)) * np.array(self.spread)
        if hasattr(X, "iloc"):
            moved = {
                name: np.rint(column + by).astype(column.dtype) if column.dtype.kind in "iu" else column + by
                for (name, column), by in zip(X.items(), noise, strict=True)
                if by
            }
            return X.assign(**moved)
        return X + (noise.astype(X.dtype) if isinstance(X, np.ndarray) else X.new_tensor(noise))


def queries_for(X: Any, count: int) -> tuple[Transform, ...]:
    """Return ``count`` ways to ask about records ``X (n, …)``, each with the earlier ones of a shorter list.

    First comes the record as it is. Images are then mirrored, and moved by an eighth of their size in eight
    directions, 18 questions at most; the rows of a table are moved by noise of 0.05 spreads of each column.

    Source: Zarifzadeh et al., ICML 2024 (2312.03262), research code: 18 questions for images, 2 for tables.

    Raises
    ------
    NotApplicable
        More questions than images allow, or a table without a column that can be changed a little.
    """
    if count == 1:
        return (Identity(),)
    if not is_image(X):
        spread = spread_of(X)
        return (Identity(), *(Jitter(JITTER, seed, spread) for seed in range(1, count)))
    if count > MOST_IMAGE_QUERIES:
        raise NotApplicable(f"there are {MOST_IMAGE_QUERIES} ways to ask about an image, not {count}")
    height, width = X.shape[-2:]
    down, right = max(1, height // MARGIN), max(1, width // MARGIN)
    moves = sorted(product((0, -right, right), (0, -down, down)), key=lambda move: (move[0] != 0) + (move[1] != 0))
    shifts = [Shift(dx, dy) for dx, dy in moves if dx or dy]
    return (Identity(), Flip(), *(query for shift in shifts for query in (shift, _Then(shift, Flip()))))[:count]


def queried(view: View, count: int) -> list[View]:
    """Return the view through each of ``queries_for(view.features(), count)``; for one, the view itself."""
    if count == 1:
        return [view]
    return [view if query == Identity() else view.through(query) for query in queries_for(view.features(), count)]


def is_image(X: Any) -> bool:
    """Return whether ``X (n, …)`` are images ``(n, …, H, W)`` rather than the rows of a table."""
    return len(np.shape(X)) in (3, 4)


def spread_of(X: Any) -> tuple[float, ...]:
    """Return the standard deviation per column of a table, the same to the last bit in any order of its rows.

    It is 0, for "not to be changed", where a column holds categories, or two values such as yes and no.

    Raises
    ------
    NotApplicable
        No column can be changed a little.
    """
    if hasattr(X, "iloc"):
        columns = [X[name].to_numpy() for name in X]
    else:
        array = np.asarray(X)
        columns = list(array.T) if array.ndim == 2 and array.dtype.kind == "f" else []
    spread = tuple(_spread(column) for column in columns)
    if not any(spread):
        raise NotApplicable("several queries need images, or a table with numbers that can be changed a little")
    return spread


def _spread(column: np.ndarray) -> float:
    if column.dtype.kind not in "iuf":
        return 0.0
    known = np.sort(column[~np.isnan(column)])
    return float(known.std(dtype=np.float64)) if len(np.unique(known)) > 2 else 0.0


@dataclass(frozen=True)
class _Then:
    first: Transform
    second: Transform

    def __call__(self, X: Any) -> Any:
        return self.second(self.first(X))


def _mirrored(size: int, by: int) -> np.ndarray:
    source = np.abs(np.arange(size) - by)
    return np.where(source >= size, 2 * (size - 1) - source, source)


def _need_images(X: Any) -> Any:
    if not is_image(X):
        raise NotApplicable("it needs images (records, …, height, width), and these records are rows of a table")
    return X
