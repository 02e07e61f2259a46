"""Torch modules."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from leakpro_nb.game.records import as_array

__all__ = ["predict_torch"]


def predict_torch(module: torch.nn.Module, X: Any, batch_size: int = 4096) -> np.ndarray:
    """Return the raw outputs of ``module`` on ``X (N, …)`` in evaluation mode, as an array ``(N, …)``."""
    parameter = next(module.parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")
    modes = [(each, each.training) for each in module.modules()]  # one by one: some layers may be frozen
    module.eval()
    inputs = torch.as_tensor(as_array(X))
    try:
        with torch.inference_mode():
            # parts of equal size, lest the last hold a single record, which networks that squeeze mistake for none
            batches = torch.tensor_split(inputs, max(1, math.ceil(len(inputs) / batch_size)))
            parts = [module(batch.to(device)).detach().cpu() for batch in batches]
    finally:
        for each, training in modes:
            each.training = training
    return torch.cat(parts).double().numpy()
