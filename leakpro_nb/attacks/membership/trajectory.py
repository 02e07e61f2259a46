"""Loss trajectory: how the loss on a record falls while a student learns from the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from leakpro_nb.attacks.base import Scores
from leakpro_nb.attacks.membership.distillation import Distillation, Material, lessons, log_odds_of_membership
from leakpro_nb.attacks.signals import log_odds, log_probability
from leakpro_nb.errors import InputError
from leakpro_nb.game.threat import Knowledge
from leakpro_nb.game.views import Access, View

if TYPE_CHECKING:
    import torch

__all__ = ["Trajectory", "log_odds_trajectory", "loss_trajectory"]


@dataclass(frozen=True)
class Trajectory:
    """Learn from shadow models what the path of the loss on a member looks like, under students of the model.

    Every shadow model plays the target once: the two are distilled on the same inputs from the same start, a small
    network learns from the shadow's path who is a member, and reads the target's. Under ``access: labels`` students
    are taught on labels only, the shadows' as well as the target's, as the paper's label-only variant does.

    Source: Liu et al., CCS 2022 (2208.14933).

    Parameters
    ----------
    signal
        ``"log_odds"`` (default): the same path as that of the loss, ``-log sigmoid(log-odds)``, before it saturates
        at 0. ``"loss"``: as in the paper.
    epochs, shadows, material, seed
        See ``Distillation``.
    """

    title: ClassVar[str] = "Loss trajectory"
    paper: ClassVar[str] = "Liu et al., CCS 2022"
    idea: ClassVar[str] = (
        "The attacker trains copies of the model step by step from its answers, and watches how soon each copy comes to "
        "be sure about a person; with people the model was trained on, it takes another course."
    )
    access: ClassVar[Access] = "labels"
    references: ClassVar[int] = 1
    asks: ClassVar[bool] = True

    signal: Literal["log_odds", "loss"] = "log_odds"
    epochs: int = 15
    shadows: int = 2
    material: Material = "everything"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.signal not in ("log_odds", "loss"):
            raise InputError("trajectory.signal", self.signal, "use log_odds or loss")
        self._how().check("trajectory")

    def _how(self) -> Distillation:
        return Distillation(self.epochs, self.shadows, self.material, self.seed)

    @property
    def knowledge(self) -> tuple[Knowledge, ...]:
        """Labels, recipe and the candidates' records beforehand."""
        return ("labels", "recipe", "candidates")

    def run(self, view: View) -> Scores:
        """Score every record of ``view`` with log-odds of membership.

        Raises
        ------
        AccessDenied, NotApplicable
            See ``lessons``.
        """
        every, order, notes = lessons(view, self._how())
        path = loss_trajectory if self.signal == "loss" else log_odds_trajectory
        values = np.empty(len(view))
        values[order] = log_odds_of_membership(
            every, view.labels[order], path, _network, epochs=30, lr=1e-3, seed=self.seed
        )
        return Scores(values, notes)


def loss_trajectory(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the loss under each student epoch and under the model itself ``(N, T + 1)`` from ``(T + 1, N, C)``."""
    return -log_probability(logits, labels).T


def log_odds_trajectory(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the log-odds of the true label along the same path ``(N, T + 1)``."""
    return log_odds(logits, labels).T


def _network(shape: tuple[int, ...]) -> torch.nn.Module:
    from torch import nn

    return nn.Sequential(nn.Linear(shape[0], 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))
