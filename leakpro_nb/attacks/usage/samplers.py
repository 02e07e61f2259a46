"""Ranges around a record: how to draw points of one, and which records lie in it.

A range belongs to a centre. Its samples depend on what is known of the centre, the seed and their number, and on
nothing else: neither on the order of the records nor on which others are asked about. Sample 0 is the centre itself
where the centre is known.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from scipy import ndimage, sparse

from leakpro_nb.errors import InputError

__all__ = ["Altered", "Ball", "MissingValues", "Sample", "Sampler", "WordReplacement", "default_radius", "scales"]

Incidence: TypeAlias = sparse.csr_matrix
"""(R, N) bool: which of N records lie in which of R ranges."""

FEW_VALUES = 20
"""Numbers with at most so many distinct values are treated as categories."""

DEFAULT_QUANTILE = 0.1
"""Share of the records that have another record within the default radius."""


class Sampler(Protocol):
    """What a range is."""

    def in_words(self, subjects: str) -> str:
        """Return what a range around one of the ``subjects`` holds, as sentences."""
        ...

    def fitted(self, X: Any) -> Sampler:
        """Return the same sampler with what it still lacks taken from records ``X (N, …)``."""
        ...

    def count(self, wanted: int) -> int:
        """Return how many of ``wanted`` samples are worth drawing: fewer where a range has fewer points."""
        ...

    def draw(self, X: Any, j: int) -> Any:
        """Return sample ``j`` of the ranges around ``X (n, …)``, of the same shape and type."""
        ...

    def inside(self, centres: Any, X: Any, anchors: np.ndarray) -> Incidence:
        """Return which records ``X (N, …)`` lie in the ranges around ``centres (R, …)``, made from rows ``anchors``."""
        ...

    def nearest(self, centres: Any, X: Any) -> tuple[np.ndarray, np.ndarray] | None:
        """Return distance ``(R,)`` and row ``(R,)`` of the nearest record, in radii; ``None`` if there are no distances."""
        ...


@dataclass(frozen=True)
class Sample:
    """Sample ``j`` of every range, as a transform for ``View.through``."""

    sampler: Sampler
    j: int

    def __call__(self, X: Any) -> Any:
        """Return sample ``j`` of the ranges around ``X (n, …)``."""
        return self.sampler.draw(X, self.j)


@dataclass(frozen=True)
class Ball:
    """All points within a distance of the centre.

    Distance is Euclidean in the inputs divided by ``scale``: standard deviations for numbers, 1 for a yes turned no.

    Source: Tao and Shokri, SaTML 2025 (2408.05131), for ``"gaussian"``; the uniform form is ours.

    Parameters
    ----------
    radius
        Largest distance, on the scale above. ``None``: chosen by ``fitted``, see ``default_radius``.
    shape
        ``"uniform"``: every part of the ball is as likely as any other. ``"gaussian"``: the paper's normal noise with
        standard deviation ``radius / sqrt(D)`` per value, drawn again when outside; about half is, for large D.
    scale
        (D,) one unit of each input, 0 for one that never changes; ``None``: chosen by ``fitted``, see ``scales``.
    seed
        Decides the points.
    """

    radius: float | None = None
    shape: Literal["uniform", "gaussian"] = "uniform"
    scale: tuple[float, ...] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        bad = isinstance(self.radius, (bool, str)) or (
            self.radius is not None and not (math.isfinite(self.radius) and self.radius > 0)
        )
        if bad:
            raise InputError("radius", self.radius, "use a positive number, or None to take it from the records")
        if self.shape not in ("uniform", "gaussian"):
            raise InputError("shape", self.shape, "use uniform or gaussian")

    def in_words(self, subjects: str) -> str:
        """Return what a range holds."""
        return (
            f"Everyone within a distance of {self.radius:.3g}. For every value that one of the {subjects} differs in, the "
            "difference is counted in standard deviations (the usual spread of that value; a yes turned into a no counts "
            "1), and the differences are added up as in the theorem of Pythagoras."
        )

    def fitted(self, X: Any) -> Ball:
        """Return the ball with scale and radius from records ``X (N, …)``."""
        scale = np.array(self.scale) if self.scale is not None else scales(_numbers(X))
        ball = replace(self, scale=tuple(scale.tolist()))
        return ball if self.radius is not None else replace(ball, radius=default_radius(ball._points(X)))

    def count(self, wanted: int) -> int:
        """Return ``wanted``: a ball has points without end."""
        return wanted

    def draw(self, X: Any, j: int) -> Any:
        """Return one point of the ball around every record of ``X (n, …)``; number 0 is the record itself."""
        assert self.radius is not None
        if j == 0:
            return X
        table = _numbers(X)
        scale = np.ones(table.shape[1]) if self.scale is None else np.array(self.scale)
        moving = np.flatnonzero(scale)
        offsets = np.array([self._offset(rng, len(moving)) for rng in _generators(_row_hashes(X), self.seed, j)])
        moved = table.copy()
        moved[:, moving] += offsets * scale[moving]
        return _like(moved, X)

    def _offset(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Return a random point ``(size,)`` of the ball around 0."""
        assert self.radius is not None
        if self.shape == "uniform":
            direction = rng.normal(size=size)
            return direction / np.linalg.norm(direction) * self.radius * rng.random() ** (1 / size)
        while True:  # at least half of the draws are inside, whatever the dimension
            offset = rng.normal(scale=self.radius / math.sqrt(size), size=size)
            if np.linalg.norm(offset) <= self.radius:
                return offset

    def _points(self, X: Any) -> np.ndarray:
        """Return ``X`` as points ``(N, d)`` between which distance is measured."""
        table = _numbers(X)
        scale = np.ones(table.shape[1]) if self.scale is None else np.array(self.scale)
        return table[:, scale > 0] / scale[scale > 0]

    def inside(self, centres: Any, X: Any, anchors: np.ndarray) -> Incidence:  # noqa: ARG002 - distances decide
        """Return which records lie within the radius, whatever their label."""
        from sklearn.neighbors import NearestNeighbors

        assert self.radius is not None
        reach = self.radius * (1 + 1e-9)  # a record at the very edge is in, however its distance was rounded
        return (
            NearestNeighbors(radius=reach)
            .fit(self._points(X))
            .radius_neighbors_graph(self._points(centres))
            .astype(bool)
        )

    def nearest(self, centres: Any, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return distance in radii, and row, of the record of ``X`` nearest to each centre."""
        from sklearn.neighbors import NearestNeighbors

        assert self.radius is not None
        found = NearestNeighbors(n_neighbors=1).fit(self._points(X)).kneighbors(self._points(centres))
        return found[0][:, 0] / self.radius, found[1][:, 0]


def scales(table: np.ndarray) -> np.ndarray:
    """Return one unit of distance per column ``(D,)`` of ``table (N, D)``.

    The standard deviation for numbers, the difference between the two values for a column with two (a yes turned no
    counts 1, however rare), 0 for a column without differences.
    """
    spread, unit = np.ptp(table, axis=0), table.std(axis=0)
    two = ((table == table.min(axis=0)) | (table == table.max(axis=0))).all(axis=0)
    return np.where(two, spread, unit)


def default_radius(points: np.ndarray, quantile: float = DEFAULT_QUANTILE) -> float:
    """Return the distance within which a tenth of the ``points (N, d)`` has another one.

    Exact twins are left out: they would make the radius 0 where a table repeats itself.
    """
    from sklearn.neighbors import NearestNeighbors

    unique = np.unique(points, axis=0)
    if len(unique) < 2 or unique.shape[1] == 0:
        raise InputError("records.X", f"{len(unique)} different records", "ranges need records that differ")
    return float(np.quantile(NearestNeighbors(n_neighbors=1).fit(unique).kneighbors()[0][:, 0], quantile))


@dataclass(frozen=True)
class MissingValues:
    """All records that agree with the centre in every column but some, which the attacker does not know.

    Source: Tao and Shokri, SaTML 2025 (2408.05131). Theirs draws until the samples differ, without end where there are
    too few different ones; ours counts the combinations, and where there are few, goes through them.

    Parameters
    ----------
    columns
        Names of columns for a DataFrame, numbers of columns for an array.
    values
        One entry per column: a pair ``(low, high)`` of floats for a range of numbers, a list for anything else.
        Empty (default): ``fitted`` takes them from the records.
    seed
        Decides the values.
    """

    columns: tuple[str | int, ...]
    values: tuple[Any, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.columns, str) or not self.columns:
            raise InputError("missing", self.columns, "name at least one column, as a list")
        if len(set(self.columns)) != len(self.columns):
            raise InputError("missing", self.columns, "name every column once")
        object.__setattr__(self, "columns", tuple(self.columns))
        if self.values and len(self.values) != len(self.columns):
            raise InputError("values", f"{len(self.values)} entries", f"give one per column, {len(self.columns)}")
        # hashable, since a sample is looked up in the view's cache
        frozen = tuple(v if isinstance(v, tuple) else tuple(v) for v in self.values)
        for column, each in zip(self.columns, frozen, strict=False):
            if not each or (_is_range(each) and each[0] > each[1]):
                raise InputError(f"values of {column}", each, "give values to choose from, or a pair (low, high)")
        object.__setattr__(self, "values", frozen)

    def in_words(self, subjects: str) -> str:
        """Return what a range holds."""
        names = ", ".join(str(column) for column in self.columns)
        return f"All {subjects} who agree in everything but these columns, which the attacker does not know: {names}."

    def fitted(self, X: Any) -> MissingValues:
        """Return the sampler with, per column, the values that occur in ``X``, or their range if they are many."""
        columns = [self._column(X, name) for name in self.columns]
        if len(self.columns) >= _width(X):
            raise InputError("missing", self.columns, "leave at least one column by which to know the person")
        return self if self.values else replace(self, values=tuple(_domain(column) for column in columns))

    def _column(self, X: Any, name: str | int) -> np.ndarray:
        if hasattr(X, "iloc"):
            if name not in X.columns:
                known = ", ".join(str(column) for column in list(X.columns)[:12])
                raise InputError("missing", name, f"not a column of the records; they have {known}")
            return X[name].to_numpy()
        if len(np.shape(X)) != 2:
            raise InputError("missing", name, "the records are no table; missing values need columns")
        if not isinstance(name, (int, np.integer)) or not 0 <= name < np.shape(X)[1]:
            raise InputError(
                "missing", name, f"the columns have no names; give a number from 0 to {np.shape(X)[1] - 1}"
            )
        return np.asarray(X[:, name])

    def combinations(self) -> float:
        """Return how many different records a range has; infinite where a number may be anything in an interval."""
        return math.prod(math.inf if _is_range(each) else len(each) for each in self.values)

    def count(self, wanted: int) -> int:
        """Return ``wanted``, or as many different records as a range has."""
        return int(min(wanted, self.combinations()))

    def draw(self, X: Any, j: int) -> Any:
        """Return ``X`` with other values in the missing columns; different ones for different ``j`` while there are any.

        What ``X`` holds in these columns does not matter.
        """
        generators = _generators(self._known(X), self.seed, 0)
        columns = list(zip(*(self._pick(rng, j) for rng in generators), strict=True))
        if hasattr(X, "iloc"):
            frame = X.copy()
            for name, column in zip(self.columns, columns, strict=True):
                frame[name] = _typed(column, X[name])
            return frame
        table = np.array(_array(X), dtype=np.float64)
        table[:, self._numbers()] = np.array(columns, dtype=np.float64).T
        return _like(table, X)

    def _pick(self, rng: np.random.Generator, j: int) -> list[Any]:
        """Return value ``j`` of each missing column; ``rng`` comes in the same state for every ``j``."""
        total = math.prod(len(each) for each in self.values if not _is_range(each))
        # a stride without common factor visits every combination once before it comes back to the first
        first, stride = (int(number) for number in rng.integers(1, min(total, 2**62) + 1, 2))
        while math.gcd(stride, total) != 1:
            stride += 1
        index = (first + j * stride) % total
        free, values = np.random.default_rng([*rng.integers(2**62, size=2).tolist(), j]), []
        for each in self.values:
            if _is_range(each):
                values.append(free.uniform(*each))
            else:
                index, digit = divmod(index, len(each))
                values.append(each[digit])
        return values

    def inside(self, centres: Any, X: Any, anchors: np.ndarray) -> Incidence:  # noqa: ARG002 - columns decide
        """Return which records agree in all other columns."""
        keys, ours = self._known(X), self._known(centres)
        distinct, codes = np.unique(np.r_[keys, ours], return_inverse=True)
        records, ranges = codes[: len(keys)], codes[len(keys) :]
        ones = np.ones(len(records), dtype=bool)
        by_key = sparse.csr_matrix((ones, (records, np.arange(len(records)))), shape=(len(distinct), len(records)))
        return by_key[ranges]

    def _numbers(self) -> list[int]:
        """Return the columns of an array."""
        return [int(column) for column in self.columns]

    def _known(self, X: Any) -> np.ndarray:
        """Return a hash ``(N,)`` of the columns that the attacker knows."""
        if hasattr(X, "iloc"):
            return _row_hashes(X.drop(columns=list(self.columns)))
        return _row_hashes(np.delete(np.asarray(X), self._numbers(), axis=1))

    def nearest(self, centres: Any, X: Any) -> None:  # noqa: ARG002
        """Return ``None``: a record agrees or it does not."""
        return


def _is_range(values: Sequence[Any]) -> bool:
    return len(values) == 2 and all(isinstance(value, float) for value in values)


def _domain(column: np.ndarray) -> tuple[Any, ...]:
    """Return the values of a column, or its range if they are many numbers."""
    import pandas as pd

    values = np.asarray(pd.Series(column).dropna().unique())
    if len(values) == 0:
        raise InputError("missing", "a column without values", "name columns that have some")
    if values.dtype.kind in "fiu" and len(values) > FEW_VALUES:
        if np.equal(np.mod(values, 1), 0).all():
            return tuple(int(v) for v in np.sort(values))
        return (float(values.min()), float(values.max()))
    # sorted, so that the order of the records does not decide which is drawn; integers, as two floats are a range
    ordered = sorted(values.tolist(), key=lambda value: (str(type(value)), value))
    return (*ordered, ordered[-1]) if len(ordered) == 2 and _is_range(ordered) else tuple(ordered)


def _typed(values: Sequence[Any], like: Any) -> Any:
    """Return values as a column of the type of ``like``; whole numbers become fractions where an interval gives them."""
    import pandas as pd

    if isinstance(like.dtype, pd.CategoricalDtype):
        return pd.Categorical(values, dtype=like.dtype)
    return pd.Series(values, index=like.index, dtype=None if like.dtype.kind in "iu" else like.dtype)


@dataclass(frozen=True)
class Altered:
    """A picture and what becomes of it when it is mirrored, slightly turned or slightly shifted.

    The alterations are the same for every picture: sample 1 is the mirror image, then turns and shifts take turns.
    Which records lie in a range is not a matter of distance: it is the picture that the range was made from.

    Source: the geometric range of Tao and Shokri, SaTML 2025 (2408.05131); shifts are ours.

    Parameters
    ----------
    degrees
        Largest turn, either way.
    pixels
        Largest shift, up, down or sideways.
    mirror
        Whether sample 1 is the mirror image.
    seed
        Decides turns and shifts.
    """

    degrees: float = 15.0
    pixels: float = 2.0
    mirror: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.degrees <= 180:
            raise InputError("degrees", self.degrees, "use an angle from 0 to 180")
        if not 0 <= self.pixels < math.inf:
            raise InputError("pixels", self.pixels, "use a number of at least 0")

    def in_words(self, subjects: str) -> str:  # noqa: ARG002 - pictures are pictures
        """Return what a range holds."""
        mirrored = "mirrored, " if self.mirror else ""
        return (
            f"A picture and what becomes of it when it is {mirrored}turned by up to {self.degrees:g} degrees or shifted by "
            f"up to {self.pixels:g} pixels."
        )

    def fitted(self, X: Any) -> Altered:
        """Return the sampler itself, once ``X`` is known to hold pictures ``(N, H, W)`` or ``(N, C, H, W)``."""
        if np.ndim(X) not in (3, 4):
            raise InputError(
                "sampler",
                "images",
                f"the records have shape {np.shape(X)[1:]}, which is no picture: use ball or missing",
            )
        return self

    def count(self, wanted: int) -> int:
        """Return ``wanted``."""
        return wanted

    def draw(self, X: Any, j: int) -> Any:
        """Return alteration ``j`` of the pictures ``X (n, …, H, W)``; number 0 is the picture itself."""
        if j == 0:
            return X
        pictures = _array(X)
        if self.mirror and j == 1:
            return _like(pictures[..., ::-1], X)
        rng = np.random.default_rng([self.seed, j])
        if j % 2:
            turned = ndimage.rotate(
                pictures,
                rng.uniform(-self.degrees, self.degrees),
                axes=(-2, -1),
                reshape=False,
                order=1,
                mode="nearest",
            )
            return _like(turned, X)
        shift = [0.0] * (pictures.ndim - 2) + rng.uniform(-self.pixels, self.pixels, 2).tolist()
        return _like(ndimage.shift(pictures, shift, order=1, mode="nearest"), X)

    def inside(self, centres: Any, X: Any, anchors: np.ndarray) -> Incidence:  # noqa: ARG002 - made from one record
        """Return the picture that each range was made from."""
        return _own(anchors, len(X))

    def nearest(self, centres: Any, X: Any) -> None:  # noqa: ARG002
        """Return ``None``: alterations have no distance."""
        return


Fill = Callable[[list[str]], Sequence[Sequence[Sequence[str]]]]
"""Masked texts to candidates: per text and mask the words that fit there, the likeliest first."""


@dataclass(frozen=True)
class WordReplacement:
    """A text and what becomes of it when a few words are replaced by others that fit.

    Source: Tao and Shokri, SaTML 2025 (2408.05131). Two samples of a short text may coincide.

    Parameters
    ----------
    fill
        Masked language model: from n texts with ``mask`` in place of words to, per text and mask, candidate words.
        None comes with this package.
    words
        Most words that are replaced at once.
    top
        Candidates from which a replacement is drawn; the original word is not among them.
    mask
        What stands for a word to be filled in.
    seed
        Decides words and replacements.
    """

    fill: Fill
    words: int = 2
    top: int = 6
    mask: str = "[MASK]"
    seed: int = 0

    def __post_init__(self) -> None:
        if not callable(self.fill):
            raise InputError("fill", self.fill, "pass a function from masked texts to candidate words")
        for name in ("words", "top"):
            if getattr(self, name) < 1:
                raise InputError(name, getattr(self, name), "use an integer of at least 1")

    def in_words(self, subjects: str) -> str:  # noqa: ARG002 - texts are texts
        """Return what a range holds."""
        return f"A text and what becomes of it when up to {self.words} of its words are replaced by others that fit."

    def fitted(self, X: Any) -> WordReplacement:
        """Return the sampler itself, once ``X`` is known to hold texts."""
        if np.ndim(X) != 1 or not all(isinstance(text, str) for text in np.asarray(X, dtype=object)[:10]):
            raise InputError("sampler", "words", "the records are no texts: use ball, missing or images")
        return self

    def count(self, wanted: int) -> int:
        """Return ``wanted``."""
        return wanted

    def draw(self, X: Any, j: int) -> Any:
        """Return the texts ``X (n,)`` with some words replaced, unless ``j`` is 0; ``fill`` is asked once for all."""
        if j == 0:
            return X
        texts = [text.split() for text in np.asarray(X, dtype=object)]
        generators = list(_generators(_row_hashes(X), self.seed, j))
        places = [self._places(rng, len(words)) for rng, words in zip(generators, texts, strict=True)]
        masked = [
            " ".join(self.mask if i in chosen else word for i, word in enumerate(words))
            for words, chosen in zip(texts, places, strict=True)
        ]
        answers = self.fill(masked)
        new = []
        for rng, words, chosen, candidates in zip(generators, texts, places, answers, strict=True):
            changed = list(words)
            for place, fitting in zip(chosen, candidates, strict=True):
                others = [word for word in fitting if word != words[place]][: self.top]
                if others:
                    changed[place] = others[int(rng.integers(len(others)))]
            new.append(" ".join(changed))
        return np.array(new, dtype=np.asarray(X).dtype if np.asarray(X).dtype == object else None)

    def _places(self, rng: np.random.Generator, words: int) -> list[int]:
        if words == 0:
            return []
        wanted = int(rng.integers(1, self.words + 1))
        return sorted(rng.choice(words, min(wanted, words), replace=False).tolist())

    def inside(self, centres: Any, X: Any, anchors: np.ndarray) -> Incidence:  # noqa: ARG002 - made from one record
        """Return the text that each range was made from."""
        return _own(anchors, len(X))

    def nearest(self, centres: Any, X: Any) -> None:  # noqa: ARG002
        """Return ``None``: there is no distance between texts here."""
        return


def _own(anchors: np.ndarray, n: int) -> Incidence:
    return sparse.csr_matrix(
        (np.ones(len(anchors), dtype=bool), (np.arange(len(anchors)), anchors)), shape=(len(anchors), n)
    )


def _array(X: Any) -> np.ndarray:
    return X.detach().cpu().numpy() if hasattr(X, "detach") else np.asarray(X)


def _width(X: Any) -> int:
    return int(np.prod(np.shape(X)[1:]))


def _numbers(X: Any) -> np.ndarray:
    """Return ``X`` as float64 ``(n, D)``.

    Raises
    ------
    InputError
        Texts, or columns of categories.
    """
    remedy = (
        "a distance needs numbers: name the columns the attacker does not know (missing=[…]), or encode the records"
    )
    if hasattr(X, "iloc"):
        words = [str(column) for column, kind in X.dtypes.items() if kind.kind not in "fiub"]
        if words:
            raise InputError("sampler", f"ball around columns {', '.join(words[:5])}", remedy)
        return X.to_numpy(dtype=np.float64)
    array = _array(X)
    if array.dtype.kind not in "fiub":
        raise InputError("sampler", f"ball around {array.dtype}", remedy)
    return array.reshape(len(array), -1).astype(np.float64)


def _like(table: np.ndarray, X: Any) -> Any:
    """Return ``table`` with shape and type of ``X``; whole numbers become fractions where a range needs them."""
    if hasattr(X, "iloc"):
        import pandas as pd

        frame = pd.DataFrame(table, columns=X.columns, index=X.index)
        return frame.astype({name: kind for name, kind in X.dtypes.items() if kind.kind == "f"})
    shaped = table.reshape(np.shape(X))
    if hasattr(X, "detach"):
        import torch

        return torch.as_tensor(np.ascontiguousarray(shaped), dtype=X.dtype if X.is_floating_point() else torch.float32)
    dtype = np.asarray(X).dtype
    return np.ascontiguousarray(shaped, dtype=dtype if dtype.kind == "f" else np.float64)


def _row_hashes(X: Any) -> np.ndarray:
    """Return a hash of every record's content ``(N,)`` uint64."""
    if hasattr(X, "iloc"):
        import pandas as pd

        return pd.util.hash_pandas_object(X, index=False).to_numpy()
    array = _array(X)
    rows = [str(text).encode() for text in array] if array.ndim == 1 else [row.tobytes() for row in array]
    return np.array(
        [int.from_bytes(hashlib.blake2b(row, digest_size=8).digest(), "big") for row in rows], dtype=np.uint64
    )


def _generators(keys: np.ndarray, seed: int, j: int) -> Iterator[np.random.Generator]:
    """Yield one generator per record, seeded with the hash of its content, the seed and ``j``."""
    for key in keys.tolist():
        yield np.random.default_rng([key, seed, j])
