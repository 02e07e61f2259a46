"""Every kind of model behind one function: inputs to logits.

Adapters return float64 logits ``(N, C)`` with one column per class. Probabilities become their logarithms, which
are logits too; a probability of exactly 0 becomes ``-inf`` and is dealt with where all models are in sight.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from leakpro_nb.errors import InputError
from leakpro_nb.game.models.outputs import Outputs, settle, to_logits

__all__ = ["Kind", "Outputs", "Predict", "ask", "kind_of", "load_model", "predictor", "settle", "to_logits"]

Predict = Callable[[Any], np.ndarray]
Kind = Literal["torch", "scikit-learn", "function", "predictions"]


def kind_of(model: Any) -> Kind:
    """Return which adapter serves ``model``.

    Raises
    ------
    InputError
        Nothing that this package knows how to ask for predictions.
    """
    if isinstance(model, np.ndarray) or hasattr(model, "iloc"):
        return "predictions"
    if any(base.__module__.startswith("torch.nn.modules") for base in type(model).__mro__):
        return "torch"
    if hasattr(model, "predict_proba") or hasattr(model, "decision_function"):
        return "scikit-learn"
    if callable(model) and not isinstance(model, type):
        return "function"
    if hasattr(model, "predict"):
        raise InputError(
            "target.model",
            type(model).__name__,
            "it has predict but neither predict_proba nor decision_function; pass a function X -> probabilities",
        )
    raise InputError(
        "target.model",
        type(model).__name__,
        "pass a torch module, a scikit-learn classifier, a function X -> logits, an array of predictions, "
        "or the path of a .skops file",
    )


def predictor(model: Any, classes: int | None = None, outputs: Outputs = "auto") -> Predict:
    """Return a function from inputs to float64 logits ``(N, C)``.

    Parameters
    ----------
    model
        Torch module, scikit-learn classifier or function.
    classes
        Number of classes, for a scikit-learn model that has not seen all of them.
    outputs
        ``"logits"``, ``"probabilities"`` or ``"auto"``: probabilities if that is what the rows look like.
    """
    if kind_of(model) == "scikit-learn":
        from leakpro_nb.game.models.sklearn import predict_sklearn

        return lambda X: predict_sklearn(model, X, classes)
    return lambda X: to_logits(ask(model, X), outputs)


def ask(model: Any, X: Any) -> Any:
    """Return the raw outputs of a torch module or of a function, logits or probabilities.

    Raises
    ------
    InputError
        A model that cannot be asked, or of scikit-learn's kind, which says itself what it returns.
    """
    kind = kind_of(model)
    if kind == "torch":
        from leakpro_nb.game.models.torch import predict_torch

        return predict_torch(model, X)
    if kind == "function":
        return model(X)
    raise InputError("target.model", kind, "a table of predictions cannot be asked about new records")


def load_model(path: str | os.PathLike[str]) -> Any:
    """Load a model file without running code from it.

    Raises
    ------
    InputError
        Missing file, a format that can run code, or types in it that are not trusted.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("model", str(path), "no such file")
    if path.suffix != ".skops":
        raise InputError(
            "model",
            str(path),
            "only .skops files are loaded directly, since pickles can run code; for torch weights (.safetensors) write "
            "a target.py that builds the network and loads them",
        )
    from leakpro_nb.game.models.sklearn import load_skops

    return load_skops(path)
