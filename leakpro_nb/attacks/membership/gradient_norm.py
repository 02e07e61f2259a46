"""Gradient norm: training has made the model's loss flat around the records that it learnt from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np

from leakpro_nb.attacks.base import Scores
from leakpro_nb.attacks.gradients import Inside, inside_of, look_inside, per_record
from leakpro_nb.attacks.membership import options
from leakpro_nb.attacks.membership.lira import lira_offline, lira_online
from leakpro_nb.attacks.signals import TINY, log_odds
from leakpro_nb.game.threat import Knowledge
from leakpro_nb.game.views import Access, View

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["GradientNorm", "Layers", "Norm", "gradient_norms"]

Norm = Literal["l1", "l2", "linf"]
Layers = Literal["all", "last", "per_layer"]


@dataclass(frozen=True)
class GradientNorm:
    """How far one training step on the record would push the model: little, where the model has learnt it already.

    Source: the norm, Nasr et al., S&P 2019 (1812.00910), section IV; comparing it with shadow models as LiRA does with
    the log-odds, Carlini et al., S&P 2022 (2112.03570).

    Parameters
    ----------
    mode
        ``"plain"``: minus the norm; no shadow models. Per record it nearly repeats the loss. ``"offline"`` and
        ``"online"`` (default): LiRA with the norm in place of the log-odds: its logarithm, after division by the
        probability of the true class, against that of the shadow models. Without the division the norm levels off
        for all models that get the record wrong, and a Gaussian fits badly.
    norm
        ``"l2"`` (default), ``"l1"`` or ``"linf"`` of the gradient.
    layers
        ``"all"`` (default): of the gradient with respect to all parameters. ``"last"``: of the output layer alone, at
        a fraction of the cost. ``"per_layer"``: the geometric mean of the layers' norms, so that no layer outweighs
        the others.
    """

    title: ClassVar[str] = "Gradient norm"
    paper: ClassVar[str] = "Nasr et al., S&P 2019; Carlini et al., S&P 2022"
    idea: ClassVar[str] = (
        "Whoever holds the model file can work out how much one more lesson from a person's record would change the "
        "model. From records that it was trained on, there is little left to learn."
    )
    access: ClassVar[Access] = "white_box"
    asks: ClassVar[bool] = True

    mode: Literal["plain", "offline", "online"] = "online"
    norm: Norm = "l2"
    layers: Layers = "all"

    def __post_init__(self) -> None:
        options.check_choice("gradient_norm.mode", self.mode, ("plain", "offline", "online"))
        options.check_choice("gradient_norm.norm", self.norm, get_args(Norm))
        options.check_choice("gradient_norm.layers", self.layers, get_args(Layers))

    @property
    def references(self) -> int:
        """Fewest shadow models."""
        return 0 if self.mode == "plain" else 1

    @property
    def knowledge(self) -> tuple[Knowledge, ...]:
        """Labels; with shadow models the recipe; online also the candidates' records beforehand."""
        return ("labels",) if self.mode == "plain" else options.mode_knowledge(self.mode)

    def run(self, view: View) -> Scores:
        """Score every record of ``view``; records without a model on a needed side get NaN.

        Raises
        ------
        NotApplicable
            The target or a shadow model is no torch network, or there are no suitable shadow models.
        AccessDenied
            The threat model does not hand out the model.
        """
        own, X, y = inside_of(view), view.features(), view.labels
        if self.mode == "plain":
            return Scores(-gradient_norms(own, X, y, self.norm, self.layers))
        references = options.mode_references(view, self.mode)
        insides = [own, *(look_inside(oracle, X) for oracle in references.oracles())]
        odds = view.signal(log_odds).audit
        # log(norm / p): where the models are wrong, p takes over from 1 - p, which levels off at 1
        target, *others = [
            -np.log(np.maximum(gradient_norms(each, X, y, self.norm, self.layers), TINY)) - np.logaddexp(0.0, -phi)
            for each, phi in zip(insides, (odds.target, *odds.references), strict=True)
        ]
        score = lira_online if self.mode == "online" else lira_offline
        return Scores(score(target, np.stack(others), odds.trained_on))


def gradient_norms(inside: Inside, X: Any, y: np.ndarray, norm: Norm = "l2", layers: Layers = "all") -> np.ndarray:
    """Return the norm of the gradient of every record's loss with respect to the parameters, ``(N,)``.

    Parameters
    ----------
    inside
        The network.
    X, y
        Inputs ``(N, …)`` and labels ``(N,)``.
    norm, layers
        See ``GradientNorm``.
    """
    chosen = inside.layers[-1:] if layers == "last" else inside.layers
    groups: list[Sequence[str]] = [[layer] for layer in chosen] if layers == "per_layer" else [chosen]
    names = [list(inside.parameters_of(group)) for group in groups]

    def reduce(gradients: dict[str, Tensor]) -> Tensor:
        import torch

        return torch.stack([_norm([gradients[name] for name in group], norm) for group in names])

    each = per_record(inside, X, y, reduce, chosen)
    return each[:, 0] if each.shape[1] == 1 else np.exp(np.log(np.maximum(each, TINY)).mean(axis=1))


def _norm(tensors: Sequence[Tensor], norm: Norm) -> Tensor:
    import torch

    flat = torch.cat([each.reshape(-1) for each in tensors])
    if norm == "l2":
        return flat.square().sum().sqrt()
    return flat.abs().sum() if norm == "l1" else flat.abs().amax()
