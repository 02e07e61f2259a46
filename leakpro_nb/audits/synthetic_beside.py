"""What stands beside the attacks: disclosure, outliers, distances that cannot show privacy, and quality."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leakpro_nb.attacks.synthetic.anomalies import anomalies
from leakpro_nb.attacks.synthetic.base import Contest
from leakpro_nb.attacks.synthetic.disclosure import anonymity_loss, disclosure
from leakpro_nb.attacks.synthetic.distances import CHECKS, WARNING, sanity_distances
from leakpro_nb.audits.quality import quality
from leakpro_nb.measures.residual import rate

if TYPE_CHECKING:
    from leakpro_nb.audits.synthetic_data import Plan

__all__ = ["beside"]

MOST_ROWS = 5_000
"""Rows of the original and the control that are compared here; what stands here is no measure of risk."""

MOST_SECRETS = 6
"""Secrets whose disclosure is measured by a forest each; the others' would take longer than it is worth."""


def beside(plan: Plan) -> dict[str, Any]:
    """Return disclosure by secret, outliers at risk, sanity checks by distance, and quality, as plain JSON."""
    tables = plan.tables
    rng = np.random.default_rng(np.random.SeedSequence(plan.seed, spawn_key=(4,)))
    real = tables.original.take(np.sort(rng.permutation(len(tables.original))[:MOST_ROWS]))
    control = tables.control
    control = None if control is None else control.take(np.sort(rng.permutation(len(control))[:MOST_ROWS]))
    distances = sanity_distances(real, tables.synthetic, control, seed=plan.seed)
    outliers = anomalies(real, tables.synthetic, control, seed=plan.seed).contest
    secrets = plan.secrets[:MOST_SECRETS]
    attributed = disclosure(real, tables.synthetic, control, secrets=secrets, known=plan.known)
    told = []
    for each in secrets:
        mine, theirs = attributed[each].original, attributed[each].control
        loss, control_loss = anonymity_loss(
            real, tables.synthetic, control, secret=each, known=plan.known, seed=plan.seed
        )
        told.append(
            {
                "secret": each, "original": float(mine.nearest.mean()),
                "control": None if theirs is None else float(theirs.nearest.mean()),
                "loss": loss.coefficient, "control_loss": None if control_loss is None else control_loss.coefficient,
            }
        )  # fmt: skip
    return {
        "warning": WARNING,
        "distances": [
            {"name": name, "title": CHECKS[name].title, "share": CHECKS[name].share, **_sides(contest, plan.confidence)}
            for name, contest in distances.items()
        ],
        "outliers": {"count": len(outliers.attack), **_sides(outliers, plan.confidence)}
        if len(outliers.attack)
        else None,
        "disclosure": told,
        "quality": quality(real, tables.synthetic, seed=plan.seed).as_dict() if plan.quality else None,
    }


def _sides(contest: Contest, level: float) -> dict[str, Any]:
    sides: dict[str, Any] = {}
    for side, attempts in (("original", contest.attack), ("control", contest.control)):
        if attempts is None or not len(attempts):
            sides[side] = None
            continue
        found = rate(attempts.success, attempts.record, level)
        sides[side] = {"value": found.value, "low": found.low, "high": found.high}
    return sides
