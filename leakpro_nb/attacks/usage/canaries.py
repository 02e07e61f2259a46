"""Canaries: records, or gradients, of which a fair coin decides whether they take part in training.

Who finds out how the coins fell has learnt something that only training could tell. Everything here is fixed before the
coins are tossed, or is a function of what the trained model shows; no model that saw the coins, or their complement, is
ever used to score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from leakpro_nb.attacks.signals import log_odds, predicted_correctly
from leakpro_nb.game.oracle import Access
from leakpro_nb.game.threat import Knowledge

__all__ = ["KINDS", "Canary", "Gradient", "Input", "Mislabelled", "score", "stream", "toss"]

CLIP = 50.0
"""Largest log-odds that count: beyond, a probability of exactly 0 would make all others look alike."""


class Canary(Protocol):
    """A kind of canary: what the report says of it, and what it asks of an attacker."""

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    idea: ClassVar[str]
    access: ClassVar[Access]
    knowledge: ClassVar[tuple[Knowledge, ...]]


@dataclass(frozen=True)
class Mislabelled:
    """Real records with a wrong label; their right versions are kept out of training.

    Source: Steinke, Nasr and Jagielski, NeurIPS 2023, section 6 (black-box).
    """

    name: ClassVar[str] = "mislabelled"
    title: ClassVar[str] = "Mislabelled records"
    paper: ClassVar[str] = "Steinke, Nasr and Jagielski, NeurIPS 2023"
    idea: ClassVar[str] = (
        "Real records with a wrong label: a model that believes the wrong label has learnt it by heart"
    )
    access: ClassVar[Access] = "labels"
    knowledge: ClassVar[tuple[Knowledge, ...]] = ()

    def make(self, X: Any, y: np.ndarray, classes: int, rng: np.random.Generator) -> tuple[Any, np.ndarray]:
        """Return the records ``X (m, …)`` as they are, with labels (m,) that are all wrong."""
        return X, (y + rng.integers(1, classes, size=len(y))) % classes


@dataclass(frozen=True)
class Input:
    """Inputs unlike any record, with a random label.

    Tables: every column at the smallest or the largest of its values, by a coin (a column that is no number: at any of
    its values). Images and other arrays: uniform noise between the smallest and the largest value.

    Source: Nasr et al., IEEE S&P 2021, section IV (inputs far from the data).
    """

    name: ClassVar[str] = "input"
    title: ClassVar[str] = "Nonsense records"
    paper: ClassVar[str] = "Nasr et al., IEEE S&P 2021"
    idea: ClassVar[str] = (
        "Records unlike any real one, with a random label: nothing but their own presence teaches the model that label"
    )
    access: ClassVar[Access] = "labels"
    knowledge: ClassVar[tuple[Knowledge, ...]] = ()

    def make(self, X: Any, y: np.ndarray, classes: int, rng: np.random.Generator) -> tuple[Any, np.ndarray]:
        """Return as many inputs as ``X (m, …)`` has, of its type, and labels (m,)."""
        labels = rng.integers(classes, size=len(y))
        if hasattr(X, "iloc"):
            columns = {name: _edges(X[name].to_numpy(), rng) for name in X.columns}
            return type(X)(columns, index=X.index).astype(X.dtypes), labels
        values = X.detach().cpu().numpy() if hasattr(X, "detach") else np.asarray(X)
        if values.ndim == 2:
            made = np.where(rng.random(values.shape) < 0.5, values.min(axis=0), values.max(axis=0))
        else:
            made = rng.uniform(values.min(), values.max(), size=values.shape)
        made = made.astype(values.dtype)
        if hasattr(X, "detach"):
            import torch

            return torch.from_numpy(made), labels
        return made, labels


@dataclass(frozen=True)
class Gradient:
    """Gradients slipped into DP-SGD; see ``leakpro_nb.defences.GradientCanaries``."""

    name: ClassVar[str] = "gradient"
    title: ClassVar[str] = "Gradient canaries"
    paper: ClassVar[str] = "Nasr et al., USENIX Security 2023; Steinke, Nasr and Jagielski, NeurIPS 2023"
    idea: ClassVar[str] = (
        "The worst contribution that a record could make to a training step, looked for in what each step releases by "
        "someone who knows what all other records contributed"
    )
    access: ClassVar[Access] = "white_box"
    knowledge: ClassVar[tuple[Knowledge, ...]] = ("recipe",)


KINDS: dict[str, Callable[[], Any]] = {"gradient": Gradient, "mislabelled": Mislabelled, "input": Input}


def toss(m: int, seed: int, kind: str, run: int) -> np.ndarray:
    """Return (m,) bool: a fair coin for each canary of one kind in one run, independent of all others."""
    return _rng(seed, kind, run + 1).random(m) < 0.5


def stream(seed: int, kind: str) -> np.random.Generator:
    """Return the generator from which the canaries of a kind are made: apart from their coins."""
    return _rng(seed, kind, 0)


def score(logits: np.ndarray, labels: np.ndarray, *, clean: np.ndarray | None = None, access: Access) -> np.ndarray:
    """Return how much a model believes the label of each canary, beyond what a clean model does.

    Parameters
    ----------
    logits
        (m, C) of the model under audit on the canaries.
    labels
        (m,) the canaries' labels.
    clean
        (m, C) of a model that was trained without any canary, and so knows nothing of the coins.
    access
        Under ``"labels"`` only the predicted class counts.

    Returns
    -------
    ndarray
        (m,) higher = more likely inserted.
    """
    if access == "labels":
        own, others = (None if z is None else predicted_correctly(z.argmax(-1), labels) for z in (logits, clean))
    else:
        own, others = (None if z is None else _log_odds(z, labels) for z in (logits, clean))
    assert own is not None
    return own if others is None else own - others


def _log_odds(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    floored = np.maximum(logits, logits.max(axis=-1, keepdims=True) - 2 * CLIP)  # where all others are impossible
    return np.clip(log_odds(floored, labels), -CLIP, CLIP)


def _edges(column: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if column.dtype.kind in "fiu":
        return np.where(rng.random(len(column)) < 0.5, np.nanmin(column), np.nanmax(column))
    return rng.choice(column, size=len(column))


def _rng(seed: int, kind: str, part: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(6, sorted(KINDS).index(kind), part)))
