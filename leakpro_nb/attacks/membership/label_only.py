"""What the label-only attacks share: records as points that can be moved, and shadow models with gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from leakpro_nb.attacks.base import NotApplicable, need_references
from leakpro_nb.game.models import kind_of
from leakpro_nb.game.oracle import Oracle
from leakpro_nb.game.records import take
from leakpro_nb.game.views import References, View

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Space",
    "as_numbers",
    "as_tensor",
    "canonical_order",
    "log_probabilities",
    "mean_out",
    "sides_of",
    "space_of",
    "spread_of",
    "two_valued",
    "with_numbers",
]

LogProbabilities = Callable[["Tensor"], "Tensor"]
"""From inputs ``(n, …)`` to log-probabilities ``(n, C)``, with gradients."""

SMALLEST = 1e-30
"""Probability that stands for one of 0, so that its logarithm has a gradient in float32."""


@dataclass(frozen=True)
class Space:
    """The records as points ``(N, D)``, in units in which a step is as large in one direction as in another.

    Parameters
    ----------
    inputs
        The records as the models are fed them, ``(N, …)``.
    numbers
        (N, d) float64, the same as numbers.
    moved
        (d,) bool: the D columns that are moved. In tables a column that is the same for everyone is not.
    unit
        (D,) what a step of 1 means. Images: the distance from the darkest to the brightest value in the data. Tables:
        the column's standard deviation, but half its range where it has only two values, as in one-hot columns:
        measured by its spread, a step from no to yes would be the longer the rarer the yes.
    low, high
        (D,) the data's own range, in units, in which points are kept.
    is_image
        Whether records have more than one axis.
    """

    inputs: Any
    numbers: np.ndarray
    moved: np.ndarray
    unit: np.ndarray
    low: np.ndarray
    high: np.ndarray
    is_image: bool

    @property
    def points(self) -> np.ndarray:
        """(N, D) float64, the records in units."""
        return self.numbers[:, self.moved] / self.unit

    def at(self, rows: np.ndarray, points: np.ndarray) -> Any:
        """Return inputs ``(n, …)`` of the records' type: records ``rows (n,)`` moved to ``points (n, D)``."""
        numbers = self.numbers[rows]
        # what has not moved stays as it is, to the last digit
        numbers[:, self.moved] += (points - numbers[:, self.moved] / self.unit) * self.unit
        return with_numbers(take(self.inputs, rows), numbers)


def space_of(view: View) -> Space:
    """Return the records of ``view`` as points; spread and range are those of the records and of the population.

    Raises
    ------
    NotApplicable
        Records that are not numbers, lack values, or do not differ from each other.
    AccessDenied
        Only predictions are known.
    """
    X = view.features()
    numbers = as_numbers(X)
    if numbers.shape[1] != _width(X):
        raise NotApplicable(
            "it moves records by small steps, which columns of categories do not allow; encode them as numbers (one-hot)"
        )
    around = numbers if view.population_inputs is None else np.vstack([numbers, as_numbers(view.population_inputs)])
    low, high = around.min(axis=0), around.max(axis=0)
    is_image = np.ndim(X) > 2
    if is_image:
        low, high = np.full_like(low, low.min()), np.full_like(high, high.max())
        unit = high - low
    else:
        unit = spread_of(around)
    moved = unit > 0
    if not moved.any():
        raise NotApplicable("it moves records within the data's own range, and all of these records are the same")
    return Space(X, numbers, moved, unit[moved], low[moved] / unit[moved], high[moved] / unit[moved], is_image)


def spread_of(numbers: np.ndarray) -> np.ndarray:
    """Return what counts as a step of 1 in each column ``(d,)`` of a table ``(n, d)``; see ``Space.unit``."""
    low, high = numbers.min(axis=0), numbers.max(axis=0)
    # sorted, so that the order of the records cannot show in how sums are rounded
    deviation = np.sort(numbers, axis=0).std(axis=0)
    return np.where(two_valued(numbers), (high - low) / 2, np.where(high > low, deviation, 0.0))


def two_valued(numbers: np.ndarray) -> np.ndarray:
    """Return which columns ``(d,)`` of ``numbers (n, d)`` have exactly two values."""
    low, high = numbers.min(axis=0), numbers.max(axis=0)
    return ((numbers == low) | (numbers == high)).all(axis=0) & (high > low)


def as_numbers(X: Any) -> np.ndarray:
    """Return inputs ``(n, …)`` as float64 ``(n, d)``; of a DataFrame the columns of numbers only.

    Raises
    ------
    NotApplicable
        No numbers at all, or missing ones.
    """
    if hasattr(X, "iloc"):
        X = X[_number_columns(X)].to_numpy(dtype=np.float64, na_value=np.nan)
    try:
        numbers = np.asarray(X.detach().cpu() if hasattr(X, "detach") else X).astype(np.float64).reshape(len(X), -1)
    except (TypeError, ValueError) as error:
        raise NotApplicable("it moves records by small steps, and these are not made of numbers") from error
    if not numbers.shape[1]:
        raise NotApplicable("it moves records by small steps, and these have no column of numbers")
    if not np.isfinite(numbers).all():
        raise NotApplicable("it moves records by small steps, and some values are missing; fill or drop them")
    return numbers


def with_numbers(X: Any, numbers: np.ndarray) -> Any:
    """Return inputs of the type and shape of ``X (n, …)`` with other ``numbers (n, d)``; see ``as_numbers``.

    Decimals keep their precision; whole numbers become decimals.
    """
    if hasattr(X, "iloc"):
        moved = X.copy()
        for i, name in enumerate(_number_columns(X)):
            moved[name] = numbers[:, i].astype(X[name].dtype if X[name].dtype.kind == "f" else np.float64)
        return moved
    shaped = numbers.reshape(X.shape)
    if hasattr(X, "detach"):
        import torch

        return torch.as_tensor(shaped, dtype=X.dtype if X.dtype.is_floating_point else torch.float32)
    return shaped.astype(X.dtype if X.dtype.kind == "f" else np.float32)


def canonical_order(numbers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return an order ``(N,)`` of records that depends on what they are, not on where they stand.

    Matrix products are rounded differently at different places of a batch. An attack whose every step depends on the
    last would magnify that; in one order of the records it cannot show.
    """
    rows = np.ascontiguousarray(np.column_stack([numbers, labels]))
    return np.argsort(rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).ravel(), kind="stable")


def sides_of(references: References, *, online: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return IN and OUT models per record, ``(K, N)`` bool each; offline there are no IN models."""
    inside = references.trained_on
    return (inside if online else np.zeros_like(inside)), ~inside


def mean_out(view: View, score: Callable[[View], np.ndarray]) -> np.ndarray:
    """Return the mean of ``score`` over the reference models that never saw the record, each playing the target.

    Returns
    -------
    (N,) float64, NaN for records that all of them saw.

    Source: difficulty calibration, Watson et al., ICLR 2022 (2111.08440), here with label-only scores.

    Raises
    ------
    NotApplicable
        No suitable reference models.
    AccessDenied
        Only their predictions are known.
    """
    references = need_references(view, online=False)
    references.oracles()
    scores = np.stack([score(view.as_target(k)) for k in range(len(references))])
    outside = ~references.trained_on & ~np.isnan(scores)
    number = outside.sum(axis=0)
    total = np.where(outside, scores, 0.0).sum(axis=0)
    return np.divide(total, number, out=np.full(len(view), np.nan), where=number > 0)


@contextmanager
def log_probabilities(oracles: tuple[Oracle, ...], sample: Any) -> Iterator[list[LogProbabilities]]:
    """Yield the models as functions with gradients, in evaluation mode while the context lasts.

    Parameters
    ----------
    oracles
        The attacker's own models.
    sample
        (n, …) a few records, on which to see whether a model returns probabilities or logits.

    Raises
    ------
    NotApplicable
        A model that is not a torch network.
    """
    import torch

    if any(kind_of(oracle.model) != "torch" for oracle in oracles):
        raise NotApplicable("it follows the gradient of the shadow models, which only torch networks have")
    with ExitStack() as stack:
        for oracle in oracles:
            for module in oracle.model.modules():
                stack.callback(setattr, module, "training", module.training)
            oracle.model.eval()
        stack.enter_context(torch.enable_grad())
        yield [_differentiable(oracle, sample) for oracle in oracles]


def as_tensor(X: Any, model: Any) -> Tensor:
    """Return inputs as a tensor of the type of the weights of ``model``, where they are."""
    import torch

    weight = next(model.parameters(), torch.zeros(()))
    return torch.as_tensor(X.to_numpy() if hasattr(X, "iloc") else X).to(weight.device, weight.dtype)


def _differentiable(oracle: Oracle, sample: Any) -> LogProbabilities:
    import torch
    from torch.nn.functional import logsigmoid

    from leakpro_nb.game.models.outputs import as_columns, looks_like_probabilities

    model = oracle.model
    outputs = oracle.outputs.get("torch", "auto")
    with torch.no_grad():
        try:
            raw = as_columns(model(as_tensor(sample, model)))
        except (RuntimeError, TypeError, IndexError) as error:
            raise NotApplicable(
                "it moves records by small steps, and the shadow models take whole numbers only"
            ) from error
    probabilities = outputs == "probabilities" or (outputs == "auto" and looks_like_probabilities(raw))

    def ask(x: Tensor) -> Tensor:
        out = model(x)
        out = out[:, None] if out.ndim == 1 else out
        if probabilities:
            out = torch.cat([1 - out, out], dim=1) if out.shape[1] == 1 else out
            return out.clamp_min(SMALLEST).log()
        return torch.cat([logsigmoid(-out), logsigmoid(out)], dim=1) if out.shape[1] == 1 else out.log_softmax(dim=1)

    return ask


def _number_columns(X: Any) -> list[Any]:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return [name for name in X.columns if is_numeric_dtype(X[name].dtype) or is_bool_dtype(X[name].dtype)]


def _width(X: Any) -> int:
    return int(np.prod(np.shape(X)[1:]))
