"""Scikit-learn classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from leakpro_nb.errors import InputError
from leakpro_nb.game.models.outputs import to_logits

__all__ = ["class_codes", "load_skops", "predict_sklearn"]

# fitted trees and optimiser states: arrays of numbers that run no code, yet not on skops' own list of trusted types;
# a tree forged to point outside its own arrays could still crash the process
_PLAIN_DATA = frozenset(
    {
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
    }
)


def predict_sklearn(model: Any, X: Any, classes: int | None = None) -> np.ndarray:
    """Return log-probabilities ``(N, C)``, or the decision function where the model has no probabilities.

    Columns are put where ``model.classes_`` says; a class that the model never saw gets ``-inf``.
    """
    if hasattr(model, "predict_proba"):
        probabilities = np.asarray(model.predict_proba(X))
        # a model that met one class only is sure of it; elsewhere a single column stands for class 1 of two
        one_class = probabilities.ndim == 2 and probabilities.shape[1] == 1 and len(getattr(model, "classes_", ())) == 1
        logits = np.zeros((len(probabilities), 1)) if one_class else to_logits(probabilities, "probabilities")
    else:
        logits = to_logits(model.decision_function(X), "logits")
    known = class_codes(getattr(model, "classes_", np.arange(logits.shape[1])))
    if len(known) != logits.shape[1]:
        raise InputError(
            "model outputs", f"{logits.shape[1]} columns for {len(known)} classes", "one column per class is needed"
        )
    width = max(classes or 0, int(known.max()) + 1)
    if width == logits.shape[1] and np.array_equal(known, np.arange(width)):
        return logits
    wide = np.full((len(logits), width), -np.inf)
    wide[:, known] = logits
    return wide


def class_codes(classes: Any) -> np.ndarray:
    """Return the integer label of each of a classifier's classes.

    Whole numbers from 0 are their own labels; anything else, text and -1 among them, is numbered in order.
    """
    known = np.asarray(classes)
    if known.dtype.kind == "f" and (known == np.round(known)).all():
        known = known.astype(int)
    if known.dtype.kind not in "iub" or known.min() < 0:
        return np.arange(len(known))
    return known.astype(int)


def load_skops(path: Path) -> Any:
    """Load a ``.skops`` file, refusing types that scikit-learn and numpy do not own.

    Raises
    ------
    InputError
        Types that are not trusted by default, by name.
    """
    from zipfile import BadZipFile

    import skops.io

    try:
        unknown = set(skops.io.get_untrusted_types(file=path))
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise InputError("model", str(path), f"not a readable .skops file: {error}") from error
    refused = sorted(unknown - _PLAIN_DATA)
    if refused:
        raise InputError(
            "model",
            str(path),
            f"it holds types that are not trusted: {', '.join(refused)}; write a target.py instead",
        )
    return skops.io.load(path, trusted=sorted(unknown))
