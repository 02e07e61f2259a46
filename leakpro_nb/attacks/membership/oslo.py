"""OSLO: one label for a record moved just as far as it takes to mislead models that never saw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from leakpro_nb.attacks.base import NotApplicable, Scores, need_references
from leakpro_nb.attacks.membership.label_only import (
    LogProbabilities,
    Space,
    as_tensor,
    canonical_order,
    log_probabilities,
    space_of,
)
from leakpro_nb.errors import InputError
from leakpro_nb.game.threat import Knowledge
from leakpro_nb.game.views import Access, View

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Oslo", "sources_and_validators", "transferable_points"]

LEAST = 3
"""Fewest OUT models of a record: two to make the example, one to see whether it transfers."""

MOST_VALIDATORS = 3
"""As many as in the paper's experiments."""


@dataclass(frozen=True)
class Oslo:
    """Count the thresholds ``tau`` at which the target still gives the right label to a transferable adversarial example.

    Source: Peng et al., NeurIPS 2024 (One-Shot Label-Only). Source models that never saw the record make an adversarial
    example in steps of growing size; it stops as soon as other such models, the validators, give the right class at most
    ``tau``: the mean over validators of their log-probability is at most ``log(tau)``. A model that still answers
    rightly has probably seen the record. One query for each ``tau``; one walk serves them all.

    Parameters
    ----------
    taus
        Thresholds in (0, 1]. Several give a graded score, a single one the paper's binary score. At 1 the record itself
        is asked about.
    rounds
        Growing balls; ball ``k`` has the radius ``k / rounds`` times the largest.
    steps
        Gradient steps in each ball.
    step, radius
        Length of a step, and the largest radius (L2): for images in ranges of values, as in the paper; for tables in
        spreads, times the square root of the number of columns, so that they are what a column is moved on average.
    """

    title: ClassVar[str] = "OSLO (transferred examples, label-only)"
    paper: ClassVar[str] = "Peng et al., NeurIPS 2024"
    idea: ClassVar[str] = (
        "The attacker changes a person's record just enough to mislead look-alike models that never saw that person. If "
        "the real model is not misled, it has probably seen them."
    )
    access: ClassVar[Access] = "labels"
    references: ClassVar[int] = LEAST
    asks: ClassVar[bool] = True

    taus: tuple[float, ...] = (1.0, 0.5, 0.1, 0.01, 1e-3)
    rounds: int = 80
    steps: int = 5
    step: float = 0.01
    radius: float = 80 / 255

    def __post_init__(self) -> None:
        if isinstance(self.taus, str) or not len(self.taus) or not all(0 < tau <= 1 for tau in self.taus):
            raise InputError("oslo.taus", self.taus, "use a list of numbers above 0 and up to 1")
        object.__setattr__(self, "taus", tuple(self.taus))  # a list from a YAML file is as good
        for name in ("rounds", "steps"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise InputError(f"oslo.{name}", value, "use an integer of at least 1")
        for name in ("step", "radius"):
            if not getattr(self, name) > 0:
                raise InputError(f"oslo.{name}", getattr(self, name), "use a positive number")

    @property
    def knowledge(self) -> tuple[Knowledge, ...]:
        """Labels and recipe: models that did not train on the records are enough."""
        return ("labels", "recipe")

    def run(self, view: View) -> Scores:
        """Score every record of ``view``; records with fewer than three models that never saw them get NaN.

        Raises
        ------
        NotApplicable
            Too few reference models, models without gradients, or records that cannot be moved.
        AccessDenied
            Target or reference models cannot be asked.
        """
        references = need_references(view, online=False)
        sources, validators = sources_and_validators(references.trained_on)
        rows = np.flatnonzero(sources.any(axis=0))
        if not len(rows):
            raise NotApplicable(
                f"it needs {LEAST} shadow models that never saw a record, and no record has as many; "
                f"train at least {2 * LEAST}"
            )
        space = space_of(view)
        rows = rows[canonical_order(space.numbers[rows], view.labels[rows])]
        oracles = references.oracles()
        with log_probabilities(oracles, space.at(rows[:2], space.points[rows[:2]])) as models:
            points, reached = transferable_points(
                models, space, rows, view.labels[rows], sources[:, rows], validators[:, rows],
                as_tensor(space.at(rows, space.points[rows]), oracles[0].model), self,
            )  # fmt: skip
        held = [view.ask(space.at(rows, each)).argmax(axis=1) == view.labels[rows] for each in points]
        values = np.full(len(view), np.nan)
        values[rows] = np.sum(held, axis=0)
        return Scores(values, {
            "queries per record": len(self.taus),
            "source models (median)": float(np.median(sources[:, rows].sum(axis=0))),
            "validation models (median)": float(np.median(validators[:, rows].sum(axis=0))),
            "records that reached each tau": {
                f"{tau:g}": int(row.sum()) for tau, row in zip(self.taus, reached, strict=True)
            },
        })  # fmt: skip


def sources_and_validators(trained_on: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which models make and which check the example of each record, ``(K, N)`` bool each.

    Of the models that did not train on the record, the last quarter, at least one and at most three, are validators:
    nine and three of twelve, as in the paper. Nobody, where there are fewer than three.

    >>> sources, validators = sources_and_validators(np.array([[False], [True], [False], [False]]))
    >>> sources[:, 0].tolist(), validators[:, 0].tolist()
    ([True, False, True, False], [False, False, False, True])
    """
    outside = ~trained_on
    number = outside.sum(axis=0)
    place = np.cumsum(outside, axis=0)
    last = place > number - np.clip(number // 4, 1, MOST_VALIDATORS)
    enough = number >= LEAST
    return outside & ~last & enough, outside & last & enough


def transferable_points(
    models: Sequence[LogProbabilities],
    space: Space,
    rows: np.ndarray,
    labels: np.ndarray,
    sources: np.ndarray,
    validators: np.ndarray,
    x: Tensor,
    options: Oslo,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the points to ask about ``(T, n, D)``, and whether the validators fell to each tau ``(T, n)``.

    Where they never did, the point is where the walk ended.

    Parameters
    ----------
    models
        K shadow models.
    space
        Units and range.
    rows, labels
        (n,) which records, and their labels.
    sources, validators
        (K, n) bool, see ``sources_and_validators``.
    x
        (n, …) the records.
    options
        See ``Oslo``.
    """
    import torch

    def tensor(values: np.ndarray) -> Tensor:
        return torch.as_tensor(values).to(x.device)

    moved = tensor(np.flatnonzero(space.moved))
    unit, low, high = (tensor(values).to(x.dtype) for values in (space.unit, space.low, space.high))
    y, start = tensor(labels), tensor(space.points[rows]).to(x.dtype)
    makes, checks = (tensor(side / side.sum(axis=0)).to(x.dtype) for side in (sources, validators))
    scale = 1.0 if space.is_image else float(np.sqrt(start.shape[1]))
    log_tau = torch.log(torch.tensor(options.taus, dtype=x.dtype, device=x.device))
    found = start.repeat(len(options.taus), 1, 1)
    reached = torch.zeros(found.shape[:2], dtype=torch.bool, device=x.device)
    point, going = start.clone(), torch.arange(len(rows), device=x.device)

    def mean_log_probability(points: Tensor, weights: Tensor) -> Tensor:
        fed = x[going].flatten(1).index_copy(1, moved, points * unit).reshape(len(going), *x.shape[1:])
        total = torch.zeros(len(going), dtype=x.dtype, device=x.device)
        for k, model in enumerate(models):
            if weights[k, going].any():
                total = total + weights[k, going] * model(fed).gather(1, y[going, None])[:, 0]
        return total

    for ball in range(options.rounds + 1):
        with torch.no_grad():
            below = mean_log_probability(point[going], checks) <= log_tau[:, None]
        first = below & ~reached[:, going]
        found[:, going] = torch.where(first[..., None], point[going], found[:, going])
        reached[:, going] |= below
        going = going[~reached[:, going].all(dim=0)]
        if not len(going) or ball == options.rounds:
            break
        for _ in range(options.steps):
            here = point[going].requires_grad_()
            (gradient,) = torch.autograd.grad(mean_log_probability(here, makes).sum(), here)
            length = gradient.norm(dim=1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
            change = here.detach() - options.step * scale * gradient / length - start[going]
            limit = options.radius * scale * (ball + 1) / options.rounds
            change = change * (limit / change.norm(dim=1, keepdim=True).clamp_min(limit))
            point[going] = torch.clamp(start[going] + change, low, high)
    found = torch.where(reached[..., None], found, point)
    return found.double().cpu().numpy(), reached.cpu().numpy()
