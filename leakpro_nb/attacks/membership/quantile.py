"""Quantile regression attack (QMIA): how sure would the model be of a stranger who looks like this?"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from scipy.special import ndtri

from leakpro_nb.attacks.base import NotApplicable, Scores
from leakpro_nb.attacks.inputs import as_numbers, canonical_order
from leakpro_nb.attacks.signals import log_odds
from leakpro_nb.errors import InputError
from leakpro_nb.game.threat import Knowledge
from leakpro_nb.game.views import Access, View

__all__ = ["LEVELS", "Quantile", "gaussian_level", "other_classes", "pinball_loss", "quantile_level"]

FEWEST = 50
"""Population records below which nothing can be learnt about non-members."""

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Quantiles that the head ``quantiles`` predicts."""

FOLDS = 5
SHARES = np.linspace(0.0, 1.0, 11)
"""How far to trust a prediction rather than what holds for the whole population."""

Loss = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Quantile:
    """How far a record's log-odds lie above those predicted for a non-member like it; no shadow models.

    The distribution of the log-odds of non-members given the record is learnt on the population, all of whose records
    are outside the training set. Population and audited records must not overlap.

    Source: Bertran et al., NeurIPS 2023 (2307.03694); boosted trees stand in for the paper's networks.

    Parameters
    ----------
    features
        What the prediction is made from, beside the label. ``"records"`` (default): the record itself, columns or
        pixels. ``"representation"``: what the target makes of it, without what determines the log-odds: the
        probabilities of the wrong classes relative to one another, and, under ``access: white_box`` to a torch model,
        the inputs of its last linear layer, less their part in the directions that the layer reads.
    head
        ``"gaussian"`` (default): mean and standard deviation; the score is the standardised residual.
        ``"quantiles"``: five quantiles by pinball loss, sorted against crossing; the score is the interpolated level,
        as a normal score.
    """

    title: ClassVar[str] = "Quantile regression (QMIA)"
    paper: ClassVar[str] = "Bertran et al., NeurIPS 2023"
    idea: ClassVar[str] = (
        "The attacker learns from people who were not used how sure the model is of strangers of each kind, and "
        "accuses everyone about whom it is surer than that."
    )
    access: ClassVar[Access] = "scores"
    references: ClassVar[int] = 0
    asks: ClassVar[bool] = True

    features: Literal["records", "representation"] = "records"
    head: Literal["gaussian", "quantiles"] = "gaussian"

    def __post_init__(self) -> None:
        if self.features not in ("records", "representation"):
            raise InputError("quantile.features", self.features, "use records or representation")
        if self.head not in ("gaussian", "quantiles"):
            raise InputError("quantile.head", self.head, "use gaussian or quantiles")

    @property
    def knowledge(self) -> tuple[Knowledge, ...]:
        """True labels, and a population."""
        return ("labels", "population")

    def run(self, view: View) -> Scores:
        """Score every record of ``view`` with a normal score: 0 at the median predicted for a non-member, 1.64 at 95 %.

        Raises
        ------
        AccessDenied
            Only predictions are known, or labels only are revealed.
        NotApplicable
            No population, fewer than 50 records in it, or nothing left of a representation.
        """
        signal = view.signal(log_odds)
        X, Z = view.features(), view.population_inputs
        if signal.population is None or view.population_labels is None or view.population is None or Z is None:
            raise NotApplicable("it learns from people who were not used: give it records of a population")
        phi, labels = signal.population.target, view.population_labels
        if len(phi) < FEWEST:
            raise NotApplicable(f"its population has {len(phi)} records; give at least {FEWEST}")
        if self.features == "records":
            audited, population = as_numbers(X, Z)
        else:
            model = view.white_box() if view.access == "white_box" else None
            audited = _representation(model, X, view.logits, view.labels)
            population = _representation(model, Z, view.population, labels)
        classes = view.logits.shape[1]
        audited, population = with_labels(audited, view.labels, classes), with_labels(population, labels, classes)
        order = canonical_order(population, phi)
        fit = _gaussian if self.head == "gaussian" else _quantiles
        score, notes = fit(population[order], phi[order])
        return Scores(score(audited, signal.audit.target), {"learnt on": len(phi), **notes})


def gaussian_level(phi: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Return the standardised residual ``(phi - mean) / sd`` per record ``(N,)``: the normal score of its level."""
    return (phi - mean) / sd


def quantile_level(phi: np.ndarray, quantiles: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return the normal score of the level at which ``phi (N,)`` lies among predicted quantiles.

    Normal scores are interpolated linearly between quantiles, and extrapolated outside them with the slope between the
    outermost two, so that records beyond the last quantile do not tie. Exact for Gaussian quantiles.

    Parameters
    ----------
    phi
        (N,) observed.
    quantiles
        (N, L) predicted; sorted here, since separate fits may cross.
    levels
        (L,) their levels, increasing, in (0, 1).

    >>> quantile_level(np.array([0.0, 3.0]), np.array([[-1.0, 1.0]] * 2), np.array([0.1587, 0.8413])).round(2).tolist()
    [0.0, 3.0]
    """
    q, z = np.sort(quantiles, axis=1), ndtri(np.asarray(levels, dtype=np.float64))
    slope = (z[-1] - z[0]) / np.maximum(q[:, -1] - q[:, 0], 1e-9)
    out = np.where(phi < q[:, 0], z[0] + (phi - q[:, 0]) * slope, z[-1] + (phi - q[:, -1]) * slope)
    for j in range(len(z) - 1):
        inside = (q[:, j] <= phi) & (phi < q[:, j + 1])
        low, high = q[inside, j], q[inside, j + 1]
        out[inside] = z[j] + (phi[inside] - low) / (high - low) * (z[j + 1] - z[j])
    return out


def pinball_loss(observed: np.ndarray, predicted: np.ndarray, level: float) -> np.ndarray:
    """Return ``max(level * e, (level - 1) * e)``, ``e = observed - predicted``; least at the quantile of ``level``."""
    error = observed - predicted
    return np.maximum(level * error, (level - 1) * error)


def with_labels(numbers: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return ``numbers (n, D)`` with a 0/1 column per class, one column if there are two classes."""
    return np.column_stack([numbers, labels if classes == 2 else np.eye(classes)[labels]])


def other_classes(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return log-probabilities given that the class is not the true one ``(n, C)``, 0 for the true one.

    They hold nothing of the log-odds of the true class, which depend on its logit and on the others' sum alone.
    """
    z = np.array(logits, dtype=np.float64)
    own = np.arange(len(z)), np.asarray(labels)
    z[own] = -np.inf
    z -= z.max(axis=1, keepdims=True)
    z -= np.log(np.exp(z).sum(axis=1, keepdims=True))
    z[own] = 0.0
    return z


def _representation(model: Any, X: Any, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    parts = [other_classes(logits, labels)] if logits.shape[1] > 2 else []
    parts += _activations(model, X) if model is not None else []
    if not parts:
        raise NotApplicable(
            "with two classes the model's answer holds nothing but the log-odds themselves; use features=records"
        )
    return np.column_stack(parts)


def _activations(model: Any, X: Any) -> list[np.ndarray]:
    """Return the inputs of the last linear layer, less what it reads of them; an empty list if there is no such layer.

    The log-odds are a function of what the layer reads: a regression on that would predict them for anyone.
    """
    from leakpro_nb.game.models import kind_of, predictor

    if kind_of(model) != "torch":
        return []
    import torch

    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    if not layers:
        return []
    seen: list[np.ndarray] = []
    hook = layers[-1].register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().cpu().double().numpy()))
    try:
        predictor(model, None, "logits")(X)
    finally:
        hook.remove()
    h = np.concatenate(seen).reshape(len(X), -1)
    weight = layers[-1].weight.detach().cpu().double().numpy()
    read = weight - weight.mean(axis=0) if len(weight) > 1 else weight
    return [h - h @ np.linalg.pinv(read) @ read] if h.shape[1] == weight.shape[1] else []


def _boosted(loss: str, *, trees: int = 100, leaf: int = 10, **options: Any) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(
        loss=loss, max_iter=trees, min_samples_leaf=leaf, learning_rate=0.06, max_leaf_nodes=15,
        early_stopping=False, random_state=0, **options,
    )  # fmt: skip


def _out_of_fold(model: Any, features: np.ndarray, target: np.ndarray) -> np.ndarray:
    from sklearn.model_selection import KFold, cross_val_predict

    return cross_val_predict(model, features, target, cv=KFold(FOLDS, shuffle=True, random_state=0))


def _shrunken(
    model: Any, features: np.ndarray, target: np.ndarray, centre: float, loss: Loss
) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray, float]:
    """Fit ``model``, trusted against the constant ``centre`` as far as it lowers ``loss`` out of fold.

    Trees on a small population learn noise, which a constant does not. Returns the prediction, the predictions out of
    fold ``(n,)`` and the share of trust.
    """
    held_out = _out_of_fold(model, features, target)
    share = float(min(SHARES, key=lambda s: loss(target, centre + s * (held_out - centre)).mean()))
    fitted = model.fit(features, target)
    return (lambda X: centre + share * (fitted.predict(X) - centre)), centre + share * (held_out - centre), share


Fitted = tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], dict[str, Any]]


def _gaussian(features: np.ndarray, phi: np.ndarray) -> Fitted:
    mean, held_out, share = _shrunken(
        _boosted("squared_error"), features, phi, float(phi.mean()), lambda a, b: (a - b) ** 2
    )
    # out of fold, or the spread would be too small where the mean was fitted; the gamma loss fits a variance
    squares = (phi - held_out) ** 2
    least = 1e-6 * max(float(squares.mean()), 1e-12)
    variance = _boosted("gamma", trees=30, leaf=40).fit(features, np.maximum(squares, least))

    def score(X: np.ndarray, observed: np.ndarray) -> np.ndarray:
        return gaussian_level(observed, mean(X), np.sqrt(variance.predict(X)))

    return score, {"trust in the record": share}


def _quantiles(features: np.ndarray, phi: np.ndarray) -> Fitted:
    fits = []
    for level in LEVELS:
        loss = functools.partial(pinball_loss, level=level)
        model = _boosted("quantile", quantile=level, trees=60)
        fits.append(_shrunken(model, features, phi, float(np.quantile(phi, level)), loss))

    def score(X: np.ndarray, observed: np.ndarray) -> np.ndarray:
        return quantile_level(observed, np.column_stack([predict(X) for predict, _, _ in fits]), np.array(LEVELS))

    return score, {"trust in the record": [share for _, _, share in fits]}
