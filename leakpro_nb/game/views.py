"""What each access reveals, and nothing more.

An attack is handed a view, never the target. Asking a view for what the threat model withholds raises
``AccessDenied``; membership is not part of any view.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from leakpro_nb.errors import AccessDenied

__all__ = ["Access", "Observed", "References", "Signal", "View", "floor_logits", "one_hot"]

Access = Literal["labels", "scores", "white_box"]
_RANK: dict[str, int] = {"labels": 0, "scores": 1, "white_box": 2}

SignalFunction = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class References:
    """Reference models: who trained on what, and what each says about every record.

    Parameters
    ----------
    logits
        (K, N, C).
    trained_on
        (K, N) bool.
    pair
        (K,) index of the model that trained on the complementary half, -1 if there is none.
    """

    logits: np.ndarray
    trained_on: np.ndarray
    pair: np.ndarray

    def __len__(self) -> int:
        return len(self.trained_on)

    def without(self, k: int) -> np.ndarray:
        """Return the indices of the models that may judge model ``k``: all but itself and its complement.

        The complement trained on exactly the records that ``k`` left out, so it would give the answer away.
        """
        return np.setdiff1d(np.arange(len(self)), [k, int(self.pair[k])])

    def select(self, models: np.ndarray | slice, records: np.ndarray | slice) -> References:
        """Return the given models' observations on the given records."""
        keep = np.arange(len(self))[models]
        position = {int(old): new for new, old in enumerate(keep)}
        pair = np.array([position.get(int(self.pair[k]), -1) for k in keep], dtype=int)
        return References(self.logits[keep][:, records], self.trained_on[keep][:, records], pair)


class Observed(NamedTuple):
    """One signal of the target and of the references, for one set of records."""

    target: np.ndarray
    references: np.ndarray
    trained_on: np.ndarray


class Signal(NamedTuple):
    """One signal for the audited records and, where the attacker has one, for a population."""

    audit: Observed
    population: Observed | None


@dataclass(frozen=True)
class View:
    """What one attacker sees.

    Parameters
    ----------
    access
        ``labels`` < ``scores`` < ``white_box``.
    labels
        (N,) true labels of the records in question.
    logits
        (N, C) the target's outputs; ask for them through the methods. Where only labels are revealed they are 1 for
        the predicted class and 0 elsewhere, so that there is nothing more to be had.
    references
        The attacker's own models on the same records, if the threat model lets them train any.
    population, population_labels, population_references
        The same for records that the attacker knows to be outside the target's training set.
    knows_candidates
        Whether the attacker had the records in question before training the references. If not, what references that
        trained on them say is not the attacker's to use: they cannot rehearse.
    """

    access: Access
    labels: np.ndarray
    logits: np.ndarray = field(repr=False)
    references: References | None = field(default=None, repr=False)
    population: np.ndarray | None = field(default=None, repr=False)
    population_labels: np.ndarray | None = field(default=None, repr=False)
    population_references: References | None = field(default=None, repr=False)
    model: Any = field(default=None, repr=False)
    knows_candidates: bool = True
    _cache: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def rehearsal(self) -> References | None:
        """The references that may play the target for practice, with known membership; ``None`` if none may."""
        return self.references if self.knows_candidates else None

    def require(self, access: Access) -> None:
        """Raise ``AccessDenied`` unless the view grants ``access``."""
        if _RANK[self.access] < _RANK[access]:
            raise AccessDenied(
                f"the threat model's line 'access: {self.access}' does not reveal what 'access: {access}' would"
            )

    def predicted_classes(self) -> np.ndarray:
        """Return the target's predicted class per record ``(N,)``; every access reveals it."""
        return np.argmax(self.logits, axis=-1)

    def signal(self, function: SignalFunction) -> Signal:
        """Return ``function(logits, labels)`` for target, references and population, computed once per view.

        Raises
        ------
        AccessDenied
            The view reveals labels only.
        """
        self.require("scores")
        if function not in self._cache:
            self._cache[function] = Signal(
                _observe(function, self.logits, self.labels, self.references),
                None
                if self.population is None or self.population_labels is None
                else _observe(function, self.population, self.population_labels, self.population_references),
            )
        return self._cache[function]

    def white_box(self) -> Any:
        """Return the model itself.

        Raises
        ------
        AccessDenied
            The view does not grant white-box access.
        """
        self.require("white_box")
        return self.model

    def as_target(self, k: int, records: np.ndarray | slice = slice(None)) -> View:
        """Return the view in which reference model ``k`` plays the target.

        Its references are the others (see ``References.without``), its population is what it did not train on.
        """
        if self.references is None:
            raise AccessDenied("the view holds no reference models that could play the target")
        others = self.references.without(k)
        logits = self.references.logits[k][records]
        around, labels, around_references = None, None, None
        if self.population_references is not None and self.population_labels is not None:
            outside = np.flatnonzero(~self.population_references.trained_on[k])
            if len(outside):
                around = self.population_references.logits[k][outside]
                labels = self.population_labels[outside]
                around_references = self.population_references.select(others, outside)
        return replace(
            self,
            labels=self.labels[records],
            logits=one_hot(logits) if self.access == "labels" else logits,
            references=self.references.select(others, records),
            population=one_hot(around) if around is not None and self.access == "labels" else around,
            population_labels=labels,
            population_references=around_references,
            model=None,
            _cache={},
        )


def _observe(
    function: SignalFunction, logits: np.ndarray, labels: np.ndarray, references: References | None
) -> Observed:
    target = function(logits, labels)
    if references is None:
        return Observed(target, np.zeros((0, len(labels))), np.zeros((0, len(labels)), dtype=bool))
    return Observed(target, function(references.logits, labels), references.trained_on)


def one_hot(logits: np.ndarray) -> np.ndarray:
    """Return 1 for the predicted class and 0 elsewhere: all that a label-only attacker sees of logits ``(…, C)``."""
    return (np.arange(logits.shape[-1]) == logits.argmax(axis=-1)[..., None]).astype(np.float64)


def floor_logits(*stacks: np.ndarray) -> list[np.ndarray]:
    """Replace ``-inf`` (a probability of exactly 0) by half the smallest positive probability in any stack.

    One floor for target and references keeps them comparable; without it a tree ensemble's exact zeros would decide
    every Gaussian fit. A class that no model knows at all (label 0, where labels start at 1) gets next to nothing
    instead, as it must not take probability from the others.
    """
    if all(np.isfinite(stack).all() for stack in stacks):
        return list(stacks)
    smallest = min(float(stack[np.isfinite(stack)].min(initial=0.0)) for stack in stacks)
    unknown = np.all([np.isneginf(stack).all(axis=tuple(range(stack.ndim - 1))) for stack in stacks], axis=0)
    floor = np.where(unknown, smallest - 1000, smallest - np.log(2))
    return [np.where(np.isneginf(stack), floor, stack) for stack in stacks]
