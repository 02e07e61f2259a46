"""What an attack is: hyper-parameters and one method that turns a view into scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from leakpro_nb.errors import LeakproError
from leakpro_nb.game.threat import Knowledge
from leakpro_nb.game.views import Access, References, View

__all__ = ["Attack", "NotApplicable", "Scores", "need_references"]


class NotApplicable(LeakproError):
    """This attack cannot run on this view; the message says why, and the other attacks go on."""


@dataclass(frozen=True)
class Scores:
    """One number per audited record, higher = more member-like.

    Parameters
    ----------
    values
        (N,) float64; NaN where the attack has nothing to go by.
    notes
        What the attack chose by itself (a tuned parameter, say), for the report.
    """

    values: np.ndarray
    notes: dict[str, Any] = field(default_factory=dict)


class Attack(Protocol):
    """A membership attack.

    ``access`` and ``knowledge`` are what the threat model must grant; ``references`` is the fewest reference models
    that the attack can work with. A class attribute ``asks = True`` marks an attack that needs the records themselves,
    or asks models about other records, so that stored predictions are not enough for it.
    """

    title: ClassVar[str]
    paper: ClassVar[str]
    idea: ClassVar[str]
    access: ClassVar[Access]
    references: ClassVar[int]

    @property
    def knowledge(self) -> tuple[Knowledge, ...]:
        """What the attacker must know."""
        ...

    def run(self, view: View) -> Scores:
        """Score every record of ``view``."""
        ...


def need_references(view: View, *, online: bool) -> References:
    """Return the view's reference models.

    Raises
    ------
    NotApplicable
        There are none, or no record has a model on each side that the attack compares.
    """
    references = view.references
    if references is None or len(references) == 0:
        raise NotApplicable("it needs shadow models and there are none (no recipe, num_shadows = 0, or none known)")
    trained_on = references.trained_on
    usable = ~trained_on.all(axis=0)
    if online:
        usable &= trained_on.any(axis=0)
    if not usable.any():
        sides = "shadow models that saw it and others that did not" if online else "a shadow model that never saw it"
        raise NotApplicable(f"no record has {sides}; train at least {2 if online else 1} shadow models")
    return references
