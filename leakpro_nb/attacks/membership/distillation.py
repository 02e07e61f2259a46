"""Distillation: students that imitate a model, epoch by epoch, and what every epoch says about the records.

What the target's students show can be read only by comparison with students of models whose training records the
attacker knows. So every shadow model is distilled as the target is: on the same inputs, from the same initial weights,
in the same order, for as many steps.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from leakpro_nb.attacks.base import NotApplicable, need_references
from leakpro_nb.attacks.inputs import as_numbers, canonical_order
from leakpro_nb.errors import InputError
from leakpro_nb.game.models import predictor
from leakpro_nb.game.recipes import Recipe, batch_order, flushed_denormals, make_optimizer, seeded
from leakpro_nb.game.records import as_array, take
from leakpro_nb.game.views import View

if TYPE_CHECKING:
    import torch

__all__ = ["Distillation", "Lesson", "distil", "lessons", "log_odds_of_membership"]

FEWEST = 50
"""Population records below which they alone are too few to teach a student."""

STEPS = 2000
"""Optimiser steps of an attack model, at most."""

Material = Literal["everything", "population"]


@dataclass(frozen=True)
class Distillation:
    """How students are made; shared by the attacks that look over their shoulders.

    Parameters
    ----------
    epochs
        Passes of a student over the distillation inputs (T), each of which leaves one trace.
    shadows
        Shadow models that play the target, taken in complementary pairs.
    material
        Whose inputs the students are taught on, always without labels. ``"everything"`` (default): the audited records,
        members and non-members alike, and the population. ``"population"``: the population alone, as in the papers;
        weaker wherever it was measured, as a student then never hears what the model says about a member. Of the
        population, a shadow model and the target beside it teach what the shadow model did not train on.
    seed
        Initial weights and orders of students and of the attack model.
    """

    epochs: int = 15
    shadows: int = 2
    material: Material = "everything"
    seed: int = 0

    @property
    def start(self) -> int:
        """The seed of the students' initial weights and orders.

        Kept apart from ``seed``, from which users train the target as often as not: a student that starts where the
        target started would owe what it shows to a coincidence, not to what the attacker knows.
        """
        return int(np.random.SeedSequence(self.seed, spawn_key=(10,)).generate_state(1)[0])

    def check(self, attack: str) -> None:
        """Raise ``InputError`` for a value out of range; ``attack`` is the name of the section in the message."""
        for name, least in (("epochs", 2), ("shadows", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
                raise InputError(f"{attack}.{name}", value, f"use an integer of at least {least}")
        if self.material not in ("everything", "population"):
            raise InputError(f"{attack}.material", self.material, "use everything or population")


class Lesson(NamedTuple):
    """One shadow model and the target, distilled on the same inputs.

    ``shadow`` and ``target`` are logits ``(T + 1, N, C)`` on the audited records: T epochs of the student, then the
    model itself. ``member`` ``(N,)`` bool is whether the shadow model trained on the record.
    """

    shadow: np.ndarray
    target: np.ndarray
    member: np.ndarray


def lessons(view: View, how: Distillation) -> tuple[list[Lesson], np.ndarray, dict[str, Any]]:
    """Return the lessons, the records ``(N,)`` that they are about, in their order, and notes for the report.

    Raises
    ------
    AccessDenied
        Only predictions are known, of the target or of the shadow models.
    NotApplicable
        No shadow model that trained on some of the records and not on others, or nobody to distil on.
    """
    X = view.features()
    references = need_references(view, online=False)
    references.oracles()
    ks = _players(references.trained_on, references.pair, how.shadows)
    if not ks:
        raise NotApplicable("no shadow model trained on some of the records in question and not on others")
    outside = [_outside(view, k) for k in ks]
    if how.material == "population" and min(map(len, outside)) < FEWEST:
        raise NotApplicable(
            f"its students learn from a population of at least {FEWEST} records that a shadow model did not train on; "
            "material=everything needs none"
        )
    pool = X if view.population_inputs is None else _joined(X, view.population_inputs)
    (numbers,) = as_numbers(pool)
    # twins that differ in nothing but membership in a shadow model need an order as well
    order = canonical_order(np.column_stack([numbers[: len(view)], references.trained_on[ks].T]), view.labels)
    recipe, read = _student(view, pool, numbers)
    every, inputs = [], take(read, order)
    for k, rows in zip(ks, outside, strict=True):
        audited = order if how.material == "everything" else order[:0]
        material = np.concatenate([audited, len(view) + rows])
        asked, taught = take(pool, material), take(read, material)
        practice = view.as_target(k, order)
        shadow, target = (
            np.concatenate([distil(recipe, taught, _answers(each, asked), inputs, how), own[None]])
            for each, own in ((practice, practice.logits), (view, view.logits[order]))
        )
        every.append(Lesson(shadow, target, references.trained_on[k][order]))
    notes = {
        "shadow models distilled": len(ks),
        "inputs per student": len(material),
        "student": recipe.describe().split(",")[0],
    }
    return every, order, notes


def _players(trained_on: np.ndarray, pair: np.ndarray, most: int) -> list[int]:
    """Return up to ``most`` shadow models that have members and non-members, complements next to each other."""
    usable = [k for k in range(len(pair)) if trained_on[k].any() and not trained_on[k].all()]
    return sorted(usable, key=lambda k: (min(k, int(pair[k])) if pair[k] >= 0 else k, k))[:most]


def _outside(view: View, k: int) -> np.ndarray:
    """Return the population records that shadow model ``k`` did not train on."""
    if view.population_inputs is None or view.population_references is None:
        return np.zeros(0, dtype=int)
    return np.flatnonzero(~view.population_references.trained_on[k])


def _joined(X: Any, Z: Any) -> Any:
    if hasattr(X, "iloc"):
        import pandas as pd

        return pd.concat([X, Z], ignore_index=True)
    if hasattr(X, "detach"):
        import torch

        return torch.cat([X, torch.as_tensor(Z)])
    return np.concatenate([X, Z])


def _student(view: View, pool: Any, numbers: np.ndarray) -> tuple[Recipe, Any]:
    """Return a recipe for students, and the inputs of all records as they read them.

    They have the target's architecture where the recipe builds it, else they are small networks that read
    standardised numbers.
    """
    if view.recipe is not None and view.recipe.is_torch:
        return view.recipe, pool
    ordered = np.sort(numbers, axis=0)  # for sums that do not depend on the order of records
    mean, sd = np.nanmean(ordered, axis=0), np.nanstd(ordered, axis=0)
    make = functools.partial(_small_network, numbers.shape[1], view.logits.shape[1])
    functools.update_wrapper(make, _small_network)
    read = np.nan_to_num((numbers - mean) / np.where(sd > 0, sd, 1.0)).astype(np.float32)
    return Recipe(make, lr=3e-3, batch_size=32), read


def _small_network(inputs: int, classes: int) -> torch.nn.Module:
    from torch import nn

    return nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, classes))


def distil(recipe: Recipe, taught: Any, answers: np.ndarray, inputs: Any, how: Distillation) -> np.ndarray:
    """Teach a student to give a model's answers; return what it says after every epoch.

    The loss is the cross-entropy against the answers' probabilities; architecture, optimiser, learning rate and batch
    size are the recipe's, its number of epochs is not.

    Parameters
    ----------
    recipe
        A torch recipe.
    taught, answers
        Inputs ``(M, …)`` and the model's probabilities for them ``(M, C)``; one-hot rows if it gives labels only.
    inputs
        (N, …) what the student is asked about after every epoch.
    how
        Epochs and seed.

    Returns
    -------
    Float64 logits ``(T, N, C)``.
    """
    import torch

    net = recipe.build(how.start)
    X = torch.as_tensor(as_array(taught))
    soft = torch.as_tensor(answers, dtype=torch.float32)
    optimizer = make_optimizer(recipe, list(net.parameters()))
    predict, said = predictor(net, outputs="logits"), []
    with seeded(how.start, torch=True), flushed_denormals():
        for epoch in range(how.epochs):
            net.train()
            # equal parts, as a last batch of one record would break batch normalisation
            batches = np.array_split(batch_order(len(X), how.start, epoch), max(1, len(X) // recipe.batch_size))
            for batch in map(torch.from_numpy, batches):
                optimizer.zero_grad(set_to_none=True)
                loss = -(soft[batch] * torch.log_softmax(_columns(net(X[batch])), dim=-1)).sum(dim=-1).mean()
                loss.backward()
                optimizer.step()
            net.eval()
            said.append(predict(inputs))
    return np.stack(said)


def _answers(view: View, X: Any) -> np.ndarray:
    """Return what the target says about ``X``, as probabilities ``(M, C)``: certain ones where it names labels only."""
    from scipy.special import softmax

    return view.ask(X) if view.access == "labels" else softmax(view.ask(X), axis=-1)


def _columns(out: torch.Tensor) -> torch.Tensor:
    """Return one column of logits per class, of a network with a single output as well."""
    import torch

    if out.ndim > 1 and out.shape[-1] > 1:
        return out
    z = out.reshape(-1, 1)
    return torch.cat([torch.zeros_like(z), z], dim=-1)


def log_odds_of_membership(
    every: Sequence[Lesson],
    labels: np.ndarray,
    features: Callable[[np.ndarray, np.ndarray], np.ndarray],
    make: Callable[[tuple[int, ...]], torch.nn.Module],
    *,
    epochs: int,
    lr: float,
    seed: int,
) -> np.ndarray:
    """Train an attack model on the shadows' traces; return the target's log-odds of membership ``(N,)``.

    Parameters
    ----------
    every, labels
        The lessons and the records' labels ``(N,)``, in the lessons' order.
    features
        From logits ``(T + 1, N, C)`` and labels to features ``(N, …)``. They are standardised by what the shadows
        show.
    make
        From the shape of one record's features to a network with one output.
    epochs, lr
        Passes over the traces, no more than 2000 steps in all, and Adam's learning rate.
    seed
        Initial weights and order of the traces.
    """
    import torch

    traces = np.concatenate([features(lesson.shadow, labels) for lesson in every])
    member = np.concatenate([lesson.member for lesson in every])
    mean, sd = traces.mean(axis=0), traces.std(axis=0)

    def standardised(values: np.ndarray) -> torch.Tensor:
        # a trace far from all that was practised on is as telling as one at the edge, and no more
        return torch.as_tensor(np.clip((values - mean) / np.where(sd > 1e-12, sd, 1.0), -10, 10), dtype=torch.float32)

    X, y = standardised(traces), torch.as_tensor(member, dtype=torch.float32)
    with seeded(seed, torch=True):
        net = make(tuple(X.shape[1:]))
    optimizer = torch.optim.Adam(net.parameters(), lr=lr, weight_decay=1e-4)
    size = max(64, -(-len(y) * epochs // STEPS))
    with flushed_denormals():
        for epoch in range(epochs):
            for batch in torch.from_numpy(batch_order(len(y), seed, epoch)).split(size):
                optimizer.zero_grad(set_to_none=True)
                loss = torch.nn.functional.binary_cross_entropy_with_logits(net(X[batch])[:, 0], y[batch])
                loss.backward()
                optimizer.step()
        net.eval()
        with torch.no_grad():
            each = [net(standardised(features(lesson.target, labels)))[:, 0].double().numpy() for lesson in every]
    return np.mean(each, axis=0)
