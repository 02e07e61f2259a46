"""YOQO: one question, made so that models trained on the record and others answer it differently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from leakpro_nb.attacks.base import Scores, need_references
from leakpro_nb.attacks.membership.label_only import (
    LogProbabilities,
    Space,
    as_tensor,
    canonical_order,
    log_probabilities,
    sides_of,
    space_of,
)
from leakpro_nb.errors import InputError
from leakpro_nb.game.threat import Knowledge
from leakpro_nb.game.views import Access, View

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Yoqo", "optimise_query"]


@dataclass(frozen=True)
class Yoqo:
    """Ask the target once, about the record moved to where shadow models that saw it still know it and others err.

    Source: Wu et al., ICLR 2024 (You Only Query Once). The record moves by ``dx``, from 0, down the gradient of

    * online: ``sum_in CE(f(x + dx), y) + alpha * sum_out CE(f(x + dx), y')``, where ``y'`` is the class that this
      shadow model likes best at ``x`` beside ``y``;
    * offline: ``sum_out CE(f(x + dx), y') + alpha * mean(dx^2)``

    until the loss is below an eighth of the number of models, or for ``iterations`` steps. ``dx`` is in units of the
    range of values for images and of each column's spread for tables (``label_only.Space``), and stays in the data's
    range.

    Parameters
    ----------
    mode
        See above. Offline needs no models trained on the record.
    score
        ``"binary"`` (default): the paper's, whether the one answer is ``y``. ``"graded"`` (ours): how much the answer
        shifts the odds, by what the shadow models answer to the same question: the logarithm of IN models' mean
        probability of that answer (``y`` or not ``y``) over OUT models'. Online only; the shadow models the question
        was made with flatter it, so it orders records but is no calibrated likelihood ratio.
    alpha
        Weight of the second part.
    step
        Length of a step relative to the gradient of the loss per model. The paper's 0.001 is for sums of many models,
        and stands still in the units and with the few models here.
    iterations
        Most steps.
    """

    title: ClassVar[str] = "YOQO (one query, label-only)"
    paper: ClassVar[str] = "Wu et al., ICLR 2024"
    idea: ClassVar[str] = (
        "The attacker changes a person's record until look-alike models answer rightly only if they were trained on "
        "that person, and then asks the real model that one question."
    )
    access: ClassVar[Access] = "labels"
    references: ClassVar[int] = 2
    asks: ClassVar[bool] = True

    mode: Literal["online", "offline"] = "online"
    score: Literal["binary", "graded"] = "binary"
    alpha: float = 2.0
    step: float = 0.02
    iterations: int = 200

    def __post_init__(self) -> None:
        if self.mode not in ("online", "offline"):
            raise InputError("yoqo.mode", self.mode, "use online or offline")
        if self.score not in ("binary", "graded"):
            raise InputError("yoqo.score", self.score, "use binary or graded")
        if self.score == "graded" and self.mode == "offline":
            raise InputError("yoqo.score", self.score, "offline there are no models to grade with; use binary")
        for name in ("alpha", "step"):
            if not getattr(self, name) > 0:
                raise InputError(f"yoqo.{name}", getattr(self, name), "use a positive number")
        if (
            isinstance(self.iterations, bool)
            or not isinstance(self.iterations, (int, np.integer))
            or self.iterations < 1
        ):
            raise InputError("yoqo.iterations", self.iterations, "use an integer of at least 1")

    @property
    def knowledge(self) -> tuple[Knowledge, ...]:
        """Labels and recipe; online also the candidates' records beforehand."""
        return ("labels", "recipe", "candidates") if self.mode == "online" else ("labels", "recipe")

    def run(self, view: View) -> Scores:
        """Score every record of ``view``; records without a model on a needed side get NaN.

        Raises
        ------
        NotApplicable
            No suitable reference models, models without gradients, or records that cannot be moved.
        AccessDenied
            Target or reference models cannot be asked.
        """
        online = self.mode == "online"
        references = need_references(view, online=online)
        inside, outside = sides_of(references, online=online)
        rows = np.flatnonzero(outside.any(axis=0) & (inside.any(axis=0) if online else True))
        space = space_of(view)
        rows = rows[canonical_order(space.numbers[rows], view.labels[rows])]
        oracles = references.oracles()
        with log_probabilities(oracles, space.at(rows[:2], space.points[rows[:2]])) as models:
            question, steps = optimise_query(
                models, space, rows, view.labels[rows], inside[:, rows], outside[:, rows],
                as_tensor(space.at(rows, space.points[rows]), oracles[0].model), self,
            )  # fmt: skip
        asked = space.at(rows, question)
        said = view.ask(asked).argmax(axis=1) == view.labels[rows]
        values = np.full(len(view), np.nan)
        values[rows] = said
        if self.score == "graded":
            from leakpro_nb.attacks.signals import probability

            p = probability(view.ask_references(asked), view.labels[rows])
            values[rows] = graded(said, p, inside[:, rows], outside[:, rows])
        return Scores(values, {
            "queries per record": 1, "steps (median)": float(np.median(steps)),
            "records that met the stopping rule": int((steps < self.iterations).sum()),
        })  # fmt: skip


def graded(said: np.ndarray, p: np.ndarray, inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Return ``log P(answer | IN) - log P(answer | OUT)`` per record ``(n,)``.

    Parameters
    ----------
    said
        (n,) bool, whether the target answered ``y``.
    p
        (K, n) the shadow models' probability of ``y`` at the same question.
    inside, outside
        (K, n) bool. One imaginary model of probability 1/2 is added to each side.
    """
    p_in = (0.5 + np.where(inside, p, 0).sum(axis=0)) / (1 + inside.sum(axis=0))
    p_out = (0.5 + np.where(outside, p, 0).sum(axis=0)) / (1 + outside.sum(axis=0))
    return np.where(said, np.log(p_in) - np.log(p_out), np.log1p(-p_in) - np.log1p(-p_out))


def optimise_query(
    models: Sequence[LogProbabilities],
    space: Space,
    rows: np.ndarray,
    labels: np.ndarray,
    inside: np.ndarray,
    outside: np.ndarray,
    x: Tensor,
    options: Yoqo,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the questions ``(n, D)`` and the steps ``(n,)`` that each took; see ``Yoqo`` for the loss.

    Parameters
    ----------
    models
        K shadow models.
    space
        Units and range.
    rows, labels
        (n,) which records, and their labels.
    inside, outside
        (K, n) bool, who trained on them.
    x
        (n, …) the records.
    options
        See ``Yoqo``.
    """
    import torch

    def tensor(values: np.ndarray) -> Tensor:
        return torch.as_tensor(values).to(x.device)

    n, moved = len(rows), tensor(np.flatnonzero(space.moved))
    unit, low, high = (tensor(values).to(x.dtype) for values in (space.unit, space.low, space.high))
    y, weight_in, weight_out = tensor(labels), tensor(inside).to(x.dtype), tensor(outside).to(x.dtype)
    start = tensor(space.points[rows]).to(x.dtype)
    with torch.no_grad():
        other = torch.stack([model(x).scatter(1, y[:, None], -torch.inf).argmax(dim=1) for model in models])
    count = (weight_in + weight_out).sum(dim=0)
    point, steps = start.clone(), torch.zeros(n, dtype=torch.long, device=x.device)
    going = torch.arange(n, device=x.device)
    for _ in range(options.iterations):
        here = point[going].requires_grad_()
        flat = x[going].flatten(1).index_copy(1, moved, here * unit)
        fed = flat.reshape(len(going), *x.shape[1:])
        loss = torch.zeros(len(going), dtype=x.dtype, device=x.device)
        for k, model in enumerate(models):
            logp = model(fed)
            loss = loss - weight_in[k, going] * logp.gather(1, y[going, None])[:, 0]
            weight = weight_out[k, going] * (options.alpha if options.mode == "online" else 1.0)
            loss = loss - weight * logp.gather(1, other[k, going, None])[:, 0]
        if options.mode == "offline":
            loss = loss + options.alpha * (here - start[going]).square().mean(dim=1)
        left = loss.detach() >= count[going] / 8
        if not left.any():
            break
        (gradient,) = torch.autograd.grad(loss.sum(), here)
        ahead = here.detach() - options.step * gradient / count[going, None]
        point[going[left]] = torch.clamp(ahead, low, high)[left]
        going = going[left]
        steps[going] += 1
    return point.double().cpu().numpy(), steps.cpu().numpy()
