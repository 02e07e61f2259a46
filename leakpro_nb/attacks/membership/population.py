"""Population attack: is the model surer of this record than of records it cannot have seen?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from leakpro_nb.attacks.base import NotApplicable, Scores
from leakpro_nb.attacks.membership import options
from leakpro_nb.attacks.signals import log_odds
from leakpro_nb.game.threat import Knowledge
from leakpro_nb.game.views import Access, View

__all__ = ["Population", "population_rank"]


@dataclass(frozen=True)
class Population:
    """Loss threshold (Attack-P): accuse the records that the target fits better than a population.

    Source: Ye et al., CCS 2022 (2111.09679), attack P; without a population it is the loss attack of Yeom et al. 2018.

    Parameters
    ----------
    score
        ``"signal"``: the log-odds of the true class, which ranks as the negated loss does and never saturates.
        ``"rank"``: the paper's form, the share of the population that the target fits worse; it ties records.
    """

    title: ClassVar[str] = "Population (loss threshold)"
    paper: ClassVar[str] = "Ye et al., CCS 2022"
    idea: ClassVar[str] = (
        "The model is usually surer about people it was trained on. The attacker accuses everyone about whom the model "
        "is unusually sure."
    )
    access: ClassVar[Access] = "scores"
    references: ClassVar[int] = 0

    score: Literal["signal", "rank"] = "signal"

    def __post_init__(self) -> None:
        options.check_choice("population.score", self.score, ("signal", "rank"))

    @property
    def knowledge(self) -> tuple[Knowledge, ...]:
        """True labels; for the rank also a population."""
        return ("labels", "population") if self.score == "rank" else ("labels",)

    def run(self, view: View) -> Scores:
        """Score every record of ``view``.

        Raises
        ------
        NotApplicable
            ``score="rank"`` without population records.
        """
        signal = view.signal(log_odds)
        if self.score == "signal":
            return Scores(signal.audit.target)
        if signal.population is None:
            raise NotApplicable("its rank needs population records; there are none (use score=signal)")
        return Scores(population_rank(signal.audit.target, signal.population.target))


def population_rank(signal: np.ndarray, population: np.ndarray) -> np.ndarray:
    """Return the share of the population ``(Z,)`` whose signal is strictly lower, for each record ``(N,)``.

    >>> population_rank(np.array([0.5, 2.0]), np.array([0.0, 1.0])).tolist()
    [0.5, 1.0]
    """
    return np.searchsorted(np.sort(population), signal, side="left") / len(population)
