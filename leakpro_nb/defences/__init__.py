"""Defences: ways of training that promise something about privacy, as recipes.

Names load on first use; what they need beyond the base installation is in the extra ``dp``.
"""

from __future__ import annotations

from leakpro_nb.defences.dp_sgd import Claim, DpRun, DpSgd, GradientCanaries

__all__ = ["Claim", "DpRun", "DpSgd", "GradientCanaries"]
