"""Difficulty calibration: how much surer is the target than models that never saw the record?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leakpro_nb.attacks.base import Scores
from leakpro_nb.attacks.membership import options
from leakpro_nb.attacks.membership.sides import side_mean
from leakpro_nb.attacks.signals import log_probability
from leakpro_nb.game.threat import Knowledge
from leakpro_nb.game.views import Access, View

__all__ = ["Calibration", "calibrated_loss"]


@dataclass(frozen=True)
class Calibration:
    """Loss of the target, minus the loss that the record gets from models that never saw it.

    Source: Watson et al., ICLR 2022 (2111.08440).
    """

    title: ClassVar[str] = "Difficulty calibration"
    paper: ClassVar[str] = "Watson et al., ICLR 2022"
    idea: ClassVar[str] = (
        "The attacker subtracts how hard a person is to predict for look-alike models from how hard they are for the "
        "real one."
    )
    access: ClassVar[Access] = "scores"
    references: ClassVar[int] = 1

    @property
    def knowledge(self) -> tuple[Knowledge, ...]:
        """Labels and recipe."""
        return options.mode_knowledge("offline")

    def run(self, view: View) -> Scores:
        """Score every record of ``view``; records that every reference model trained on get NaN.

        Raises
        ------
        NotApplicable
            No suitable reference models.
        """
        options.mode_references(view, "offline")
        return Scores(calibrated_loss(*view.signal(log_probability).audit))


def calibrated_loss(target: np.ndarray, references: np.ndarray, trained_on: np.ndarray) -> np.ndarray:
    """Return ``log p(x | target) - mean_out log p(x | reference)``.

    Parameters
    ----------
    target, references, trained_on
        ``log p_y`` (N,) and (K, N), and membership (K, N) bool.

    Returns
    -------
    (N,) float64, NaN for records without an OUT model.
    """
    return target - side_mean(references, ~trained_on)
