"""Sequence attack (SeqMIA): several signals of a record, read in the order in which a student's epochs gave them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from leakpro_nb.attacks.base import Scores
from leakpro_nb.attacks.membership.distillation import Distillation, Material, lessons, log_odds_of_membership
from leakpro_nb.attacks.signals import (
    log_odds,
    log_probability,
    max_probability,
    negative_entropy,
    negative_modified_entropy,
)
from leakpro_nb.errors import InputError
from leakpro_nb.game.threat import Knowledge
from leakpro_nb.game.views import Access, View

if TYPE_CHECKING:
    import torch

__all__ = ["Sequence", "signal_sequence", "spread"]


@dataclass(frozen=True)
class Sequence:
    """Learn from shadow models what the sequence of several signals on a member looks like, under students.

    As the loss trajectory, with six signals per epoch in place of one: loss, largest probability, standard deviation
    of the probabilities, entropy, modified entropy, and the log-odds, which are the loss before it saturates. A
    recurrent network reads them epoch by epoch, the model itself last.

    Source: Li et al., CCS 2024 (2407.15098); the log-odds are ours.

    Parameters
    ----------
    reader
        ``"attention"`` (default): the network's states at all epochs, weighed by what they hold. ``"last"``: its state
        after the last.
    hidden
        Size of the state of the recurrent network (LSTM); the paper's is 4.
    epochs, shadows, material, seed
        See ``Distillation``.
    """

    title: ClassVar[str] = "Signal sequence (SeqMIA)"
    paper: ClassVar[str] = "Li et al., CCS 2024"
    idea: ClassVar[str] = (
        "The attacker trains copies of the model step by step from its answers, and reads how several marks of "
        "certainty about a person develop together, as one reads a sentence word by word."
    )
    access: ClassVar[Access] = "labels"
    references: ClassVar[int] = 1
    asks: ClassVar[bool] = True

    reader: Literal["attention", "last"] = "attention"
    hidden: int = 16
    epochs: int = 15
    shadows: int = 2
    material: Material = "everything"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.reader not in ("attention", "last"):
            raise InputError("sequence.reader", self.reader, "use attention or last")
        if isinstance(self.hidden, bool) or not isinstance(self.hidden, (int, np.integer)) or self.hidden < 1:
            raise InputError("sequence.hidden", self.hidden, "use an integer of at least 1")
        self._how().check("sequence")

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
        values = np.empty(len(view))
        values[order] = log_odds_of_membership(
            every, view.labels[order], signal_sequence, self._network, epochs=30, lr=5e-3, seed=self.seed
        )
        return Scores(values, notes)

    def _network(self, shape: tuple[int, ...]) -> torch.nn.Module:
        return _reader(shape[1], self.hidden, attention=self.reader == "attention")


def signal_sequence(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return six signals per epoch ``(N, T + 1, 6)`` from logits ``(T + 1, N, C)``, the model itself last.

    They are, higher = more member-like: log-probability, largest probability, standard deviation of the
    probabilities, entropy and modified entropy (negated), log-odds.
    """
    signals = (log_probability, max_probability, spread, negative_entropy, negative_modified_entropy, log_odds)
    return np.stack([signal(logits, labels).T for signal in signals], axis=-1)


def spread(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:  # noqa: ARG001  one shape for all signals
    """Return the standard deviation of the softmax probabilities over classes, whatever the label.

    >>> spread(np.array([[0.0, 0.0], [0.0, 900.0]]), np.array([0, 0])).tolist()
    [0.0, 0.5]
    """
    from scipy.special import softmax

    return softmax(np.asarray(logits, dtype=np.float64), axis=-1).std(axis=-1)


def _reader(signals: int, hidden: int, *, attention: bool) -> torch.nn.Module:
    import torch
    from torch import nn

    class Reader(nn.Module):
        """LSTM over the epochs, and one output from its states."""

        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(signals, hidden, batch_first=True)
            self.weigh = nn.Linear(hidden, hidden) if attention else None
            self.out = nn.Linear(2 * hidden if attention else hidden, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            states, _ = self.lstm(x)
            last = states[:, -1]
            if self.weigh is None:
                return self.out(last)
            weights = torch.softmax((states @ self.weigh(last)[:, :, None])[:, :, 0], dim=1)
            return self.out(torch.cat([last, (weights[:, :, None] * states).sum(dim=1)], dim=1))

    return Reader()
