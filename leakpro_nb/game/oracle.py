"""Oracle: a model that answers questions about any records, not only about those of the audit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from leakpro_nb.errors import AccessDenied
from leakpro_nb.game.models import Kind, Outputs, kind_of, predictor

__all__ = ["Access", "Oracle", "one_hot"]

Access = Literal["labels", "scores", "white_box", "table"]


@dataclass(frozen=True)
class Oracle:
    """A model to ask, fetched when it is first needed.

    Parameters
    ----------
    _fetch
        Function that returns the model.
    classes
        Number of classes (C).
    outputs
        How to read the answers of each kind of model.
    access
        What whoever holds the oracle may learn from it.
    """

    _fetch: Callable[[], Any] = field(repr=False)
    classes: int
    outputs: Mapping[Kind, Outputs] = field(default_factory=dict)
    access: Access = "white_box"

    @cached_property
    def _model(self) -> Any:
        return self._fetch()

    @property
    def model(self) -> Any:
        """The model itself: torch module, scikit-learn classifier or function.

        Raises
        ------
        AccessDenied
            The model may be asked, not seen.
        """
        if self.access != "white_box":
            raise AccessDenied(
                f"the threat model's line 'access: {self.access}' does not reveal what 'access: white_box' would"
            )
        return self._model

    def behind(self, access: Access) -> Oracle:
        """Return the same model behind an interface that grants ``access`` and no more."""
        return self if access == self.access else replace(self, _fetch=lambda: self._model, access=access)

    def __call__(self, X: Any) -> np.ndarray:
        """Return float64 logits ``(n, C)`` for inputs ``X (n, …)``; ``-inf`` where a probability is exactly 0.

        Behind ``access="labels"`` they are 1 for the predicted class and 0 elsewhere.
        """
        logits = predictor(self._model, self.classes, self.outputs.get(kind_of(self._model), "auto"))(X)
        return one_hot(logits) if self.access == "labels" else logits


def one_hot(logits: np.ndarray) -> np.ndarray:
    """Return 1 for the predicted class and 0 elsewhere: all that a label-only attacker sees of logits ``(…, C)``."""
    return (np.arange(logits.shape[-1]) == logits.argmax(axis=-1)[..., None]).astype(np.float64)
