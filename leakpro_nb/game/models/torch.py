"""Torch modules."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

__all__ = ["predict_torch"]


def predict_torch(module: torch.nn.Module, X: Any, batch_size: int = 4096) -> np.ndarray:
    """Return the raw outputs of ``module`` on ``X (N, …)`` in evaluation mode, as an array ``(N, …)``."""
    parameter = next(module.parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            parts = [
                module(part.to(device)).detach().cpu()
                for part in torch.as_tensor(X.to_numpy() if hasattr(X, "iloc") else X).split(batch_size)
            ]
    finally:
        module.train(was_training)
    return torch.cat(parts).double().numpy()
