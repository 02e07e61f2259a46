"""What each access reveals, and nothing more.

An attack is handed a view, never the target. Asking a view for what the threat model withholds raises
``AccessDenied``; membership is not part of any view.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from leakpro_nb.errors import AccessDenied
from leakpro_nb.game.oracle import Access, Oracle, one_hot
from leakpro_nb.game.recipes import Recipe
from leakpro_nb.game.records import take

__all__ = [
    "Access",
    "Observed",
    "References",
    "Signal",
    "Transform",
    "View",
    "apply_floor",
    "floor_logits",
    "floor_of",
    "one_hot",
]

_RANK: dict[str, int] = {"table": -1, "labels": 0, "scores": 1, "white_box": 2}

SignalFunction = Callable[[np.ndarray, np.ndarray], np.ndarray]

Transform = Callable[[Any], Any]
"""Changes inputs ``(n, …)`` into others of the same shape and type, record by record, whatever their order."""


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
    models
        The K models themselves, to be asked about other records; empty where only their answers are known.
    """

    logits: np.ndarray
    trained_on: np.ndarray
    pair: np.ndarray
    models: tuple[Oracle, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.trained_on)

    def without(self, k: int) -> np.ndarray:
        """Return the indices of the models that may judge model ``k``: all but itself and its complement.

        The complement trained on exactly the records that ``k`` left out, so it would give the answer away.
        """
        return np.setdiff1d(np.arange(len(self)), [k, int(self.pair[k])])

    def select(self, models: np.ndarray | slice, records: np.ndarray | slice) -> References:
        """Return the given models, and their observations on the given records."""
        keep = np.arange(len(self))[models]
        position = {int(old): new for new, old in enumerate(keep)}
        pair = np.array([position.get(int(self.pair[k]), -1) for k in keep], dtype=int)
        oracles = tuple(self.models[k] for k in keep) if self.models else ()
        return References(self.logits[keep][:, records], self.trained_on[keep][:, records], pair, oracles)

    def oracles(self) -> tuple[Oracle, ...]:
        """Return the models themselves.

        Raises
        ------
        AccessDenied
            Only their answers about the records of the audit are known.
        """
        if len(self.models) != len(self):
            raise AccessDenied(
                "it needs to ask the shadow models about other records, and only their predictions are known"
            )
        return self.models

    def ask(self, X: Any) -> np.ndarray:
        """Return every model's float64 logits ``(K, n, C)`` for inputs ``X (n, …)``; see ``oracles`` for errors."""
        if not len(self):
            return np.zeros((0, len(X), self.logits.shape[-1]))
        return np.stack([oracle(X) for oracle in self.oracles()])


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
    inputs, population_inputs
        What the models are fed for these records, as in ``Records.X``; ``None`` where only predictions are known.
    oracle
        The target, to be asked about other records; ask it through the methods.
    recipe
        How to train a model like the target, if the attacker knows.
    known, known_members
        (N,) bool: the people in question about whom the attacker knows whether they are members, and those of them who
        are. They are practice material, not part of the question: an attack that uses them gives them NaN.
    floor
        (C,) what stands for the logit of a probability of exactly 0.
    """

    access: Access
    labels: np.ndarray
    logits: np.ndarray = field(repr=False)
    references: References | None = field(default=None, repr=False)
    population: np.ndarray | None = field(default=None, repr=False)
    population_labels: np.ndarray | None = field(default=None, repr=False)
    population_references: References | None = field(default=None, repr=False)
    knows_candidates: bool = True
    inputs: Any = field(default=None, repr=False)
    population_inputs: Any = field(default=None, repr=False)
    oracle: Oracle | None = field(default=None, repr=False)
    recipe: Recipe | None = field(default=None, repr=False)
    known: np.ndarray | None = field(default=None, repr=False)
    known_members: np.ndarray | None = field(default=None, repr=False)
    floor: np.ndarray | None = field(default=None, repr=False)
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

    def ask(self, X: Any) -> np.ndarray:
        """Return what the target reveals about any inputs ``X (n, …)``: finite float64 logits ``(n, C)``.

        Where only labels are revealed they are 1 for the predicted class and 0 elsewhere.

        Raises
        ------
        AccessDenied
            The target is known by its predictions only.
        """
        if self.oracle is None:
            raise AccessDenied(
                "it needs to ask the target about other records, and only its predictions on these are known"
            )
        return self._finite(self.oracle(X))

    def ask_references(self, X: Any) -> np.ndarray:
        """Return what the attacker's own models say about any inputs ``X (n, …)``: finite logits ``(K, n, C)``.

        Raises
        ------
        AccessDenied
            There are no such models, or only their predictions are known.
        """
        if self.references is None:
            raise AccessDenied("the view holds no reference models that could be asked")
        return self._finite(self.references.ask(X))

    def _finite(self, logits: np.ndarray) -> np.ndarray:
        return apply_floor(logits, floor_of(logits) if self.floor is None else self.floor)

    def features(self) -> Any:
        """Return the inputs ``(N, …)`` of the records in question, which whoever asks about a person holds.

        Raises
        ------
        AccessDenied
            Only predictions are known.
        """
        if self.inputs is None:
            raise AccessDenied("it needs the records themselves, and only predictions about them are known")
        return self.inputs

    def through(self, transform: Transform) -> View:
        """Return the view in which ``transform`` has changed every record before any model was asked about it.

        Computed once per view and transform; the population is changed in the same way.

        Raises
        ------
        AccessDenied
            See ``ask`` and ``features``.
        """
        key = ("through", transform)
        if key not in self._cache:
            X = transform(self.features())
            references, population_references = self.references, self.population_references
            if references is not None:
                references = replace(references, logits=self.ask_references(X))
            Z, population = self.population_inputs, self.population
            if population is not None and Z is not None:
                Z = transform(Z)
                population = self.ask(Z)
                if population_references is not None:
                    population_references = replace(
                        population_references, logits=self._finite(population_references.ask(Z))
                    )
            self._cache[key] = replace(
                self, inputs=X, logits=self.ask(X), references=references, population_inputs=Z,
                population=population, population_references=population_references, _cache={},
            )  # fmt: skip
        return self._cache[key]

    def white_box(self) -> Any:
        """Return the model itself.

        Raises
        ------
        AccessDenied
            The view does not grant white-box access, or there is no model, only predictions.
        """
        self.require("white_box")
        if self.oracle is None:
            raise AccessDenied("it needs the model itself, and only its predictions are known")
        return self.oracle.model

    def as_target(self, k: int, records: np.ndarray | slice = slice(None)) -> View:
        """Return the view in which reference model ``k`` plays the target.

        Its references are the others (see ``References.without``), its population is what it did not train on.
        """
        if self.references is None:
            raise AccessDenied("the view holds no reference models that could play the target")
        references, others = self.references, self.references.without(k)
        logits = references.logits[k][records]
        around, labels, around_references, around_inputs = None, None, None, None
        if self.population_references is not None and self.population_labels is not None:
            outside = np.flatnonzero(~self.population_references.trained_on[k])
            if len(outside):
                around = self.population_references.logits[k][outside]
                labels = self.population_labels[outside]
                around_references = self.population_references.select(others, outside)
                if self.population_inputs is not None:
                    around_inputs = take(self.population_inputs, outside)
        rows = np.arange(len(self))[records]
        return replace(
            self,
            labels=self.labels[records],
            logits=one_hot(logits) if self.access == "labels" else logits,
            references=references.select(others, records),
            population=one_hot(around) if around is not None and self.access == "labels" else around,
            population_labels=labels,
            population_references=around_references,
            inputs=None if self.inputs is None else take(self.inputs, rows),
            population_inputs=around_inputs,
            oracle=references.models[k].behind(self.access) if references.models else None,
            known=None if self.known is None else self.known[records],
            known_members=None if self.known is None else (self.known & references.trained_on[k])[records],
            _cache={},
        )


def _observe(
    function: SignalFunction, logits: np.ndarray, labels: np.ndarray, references: References | None
) -> Observed:
    target = function(logits, labels)
    if references is None:
        return Observed(target, np.zeros((0, len(labels))), np.zeros((0, len(labels)), dtype=bool))
    return Observed(target, function(references.logits, labels), references.trained_on)


def floor_logits(*stacks: np.ndarray) -> list[np.ndarray]:
    """Replace ``-inf`` (a probability of exactly 0) in every stack ``(…, C)``; see ``floor_of``."""
    floor = floor_of(*stacks)
    return [apply_floor(stack, floor) for stack in stacks]


def floor_of(*stacks: np.ndarray) -> np.ndarray:
    """Return what stands for a logit of ``-inf``, per class ``(C,)``: half the smallest positive probability.

    One floor for target and references keeps them comparable; without it a tree ensemble's exact zeros would decide
    every Gaussian fit. A class that no model knows at all (label 0, where labels start at 1) gets next to nothing
    instead, as it must not take probability from the others.
    """
    smallest = min(float(stack[np.isfinite(stack)].min(initial=0.0)) for stack in stacks)
    unknown = np.all([np.isneginf(stack).all(axis=tuple(range(stack.ndim - 1))) for stack in stacks], axis=0)
    return np.where(unknown, smallest - 1000, smallest - np.log(2))


def apply_floor(logits: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Return ``logits (…, C)`` with ``floor (C,)`` in place of ``-inf``; the array itself where there is none."""
    return logits if np.isfinite(logits).all() else np.where(np.isneginf(logits), floor, logits)
