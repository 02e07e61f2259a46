"""Gap attack: members are those whom the model gets right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from leakpro_nb.attacks.base import Scores
from leakpro_nb.attacks.signals import predicted_correctly
from leakpro_nb.game.threat import Knowledge
from leakpro_nb.game.views import Access, View

__all__ = ["Gap"]


@dataclass(frozen=True)
class Gap:
    """Accuse every record that the target classifies correctly: the baseline of a label-only attacker.

    Source: Yeom et al., CSF 2018 (1709.01604). Its expected advantage is training accuracy minus test accuracy.
    """

    title: ClassVar[str] = "Gap (correct or not)"
    paper: ClassVar[str] = "Yeom et al., CSF 2018"
    idea: ClassVar[str] = "The attacker accuses everyone whom the model classifies correctly."
    access: ClassVar[Access] = "labels"
    references: ClassVar[int] = 0

    @property
    def knowledge(self) -> tuple[Knowledge, ...]:
        """True labels."""
        return ("labels",)

    def run(self, view: View) -> Scores:
        """Score every record of ``view`` with 1 (correct) or 0."""
        return Scores(predicted_correctly(view.predicted_classes(), view.labels))
