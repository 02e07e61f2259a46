"""What an attack on a synthetic table returns: how often it succeeded, on whom, and on whom it could not have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Attempts", "Contest"]


@dataclass(frozen=True)
class Attempts:
    """Guesses about the records of one table.

    Parameters
    ----------
    success
        (n,) float64 in [0, 1]: whether each guess was right; with tied nearest records, the share of ties that are.
    record
        (n,) int: row of the record that the guess was about, -1 where it hit none. Guesses about one record stand or
        fall together, so intervals are taken over records.
    columns
        (n, columns of the table) bool: which columns each guess went by, where guesses differ in that.
    """

    success: np.ndarray
    record: np.ndarray
    columns: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.success)

    @property
    def rate(self) -> float:
        """Share of the guesses that were right; NaN without any guess."""
        return float(self.success.mean()) if len(self.success) else float("nan")


@dataclass(frozen=True)
class Contest:
    """The same attack on the original's people, on control people, and by guessing.

    Parameters
    ----------
    attack
        Guesses about people in the original.
    control
        The same guesses about control people, whom the generator never saw; ``None`` without a control table.
    baseline
        Guesses at random about people in the original, which use the synthetic table's values but not its records.
    notes
        What the attack chose or met (ties, queries asked for and found), for the report.
    """

    attack: Attempts
    control: Attempts | None = None
    baseline: Attempts | None = None
    notes: dict[str, Any] = field(default_factory=dict)
