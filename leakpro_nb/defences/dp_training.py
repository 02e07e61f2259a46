"""The training loop of DP-SGD, on Opacus; imported only when something is trained."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator
from torch import Tensor, nn

from leakpro_nb.errors import InputError
from leakpro_nb.game.recipes import flushed_denormals, loss_per_record, seeded
from leakpro_nb.game.records import as_array

if TYPE_CHECKING:
    from leakpro_nb.defences.dp_sgd import DpRun, DpSgd, GradientCanaries

__all__ = ["train"]

LOUD = 10.0
"""Norm of a canary before clipping, in clipping norms: a training that forgets to clip betrays itself."""


def train(recipe: DpSgd, X: Any, y: np.ndarray, seed: int, canaries: GradientCanaries | None = None) -> DpRun:
    """Train one network; see ``DpSgd.run``."""
    from leakpro_nb.defences.dp_sgd import DpRun

    inputs, labels = torch.as_tensor(as_array(X)), torch.as_tensor(np.asarray(y, dtype=np.int64))
    n, rng = len(labels), np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(3,)))
    with seeded(seed, torch=True), flushed_denormals(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        net = _checked(recipe.make())
        module = GradSampleModule(net, loss_reduction="sum")
        sgd = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=recipe.lr, momentum=recipe.momentum)
        optimizer = _Watched(
            sgd,
            noise_multiplier=recipe.noise_multiplier,
            max_grad_norm=recipe.max_grad_norm,
            expected_batch_size=max(1.0, recipe.sample_rate(n) * n),
            generator=torch.Generator().manual_seed(int(rng.integers(2**62))),
        )
        watch = _Watch(optimizer, canaries, rate=recipe.sample_rate(n), rng=rng)
        module.train()
        for _ in range(recipe.steps(n)):
            batch = torch.from_numpy(np.flatnonzero(rng.random(n) < watch.rate))
            optimizer.zero_grad()
            optimizer.extra = watch.draw()
            loss_per_record(module(inputs[batch]), labels[batch]).sum().backward()
            optimizer.step()
            watch.look(len(batch))
        trace = watch.trace(n)
        # Opacus leaves its own attributes on the parameters of the network
        plain = recipe.make()
        plain.load_state_dict(net.state_dict())
    return DpRun(plain.eval(), watch.scores, trace)


def _checked(net: Any) -> nn.Module:
    if not isinstance(net, nn.Module):
        raise InputError("DpSgd.make", type(net).__name__, "the factory must return a torch.nn.Module")
    problems = ModuleValidator.validate(net, strict=False)
    if any("BatchNorm" in str(problem) for problem in problems):
        raise InputError(
            "DpSgd.make",
            "a network with batch normalisation",
            "it mixes the records of a batch, so no record has a gradient of its own to clip; use nn.GroupNorm instead",
        )
    if problems:
        raise InputError(
            "DpSgd.make", type(net).__name__, f"Opacus cannot train it: {' '.join(str(problems[0]).split())}"
        )
    return net


class _Watched(DPOptimizer):
    """Opacus' optimiser, fed with the gradients of canaries besides those of records."""

    extra: Tensor | None = None
    """(k, P) gradients of the canaries drawn for this step."""

    known: Tensor
    """(P,) sum of the clipped gradients of the records alone."""

    def clip_and_accumulate(self) -> None:
        """Clip and add up records, then canaries by the same code."""
        super().clip_and_accumulate()
        self.known = torch.cat([p.summed_grad.flatten() for p in self.params]).clone()
        if self.extra is not None:
            for p, part in zip(self.params, self.extra.split([p.numel() for p in self.params], dim=1), strict=True):
                p.grad_sample = part.reshape(len(part), *p.shape)
            super().clip_and_accumulate()


class _Watch:
    """What an attacker sees who follows every step and knows all records but the canaries.

    The guarantee holds against this attacker too, who therefore may subtract what the records contributed: its proof
    compares noise with noise plus one record, given everything else, the other records' draws included.
    """

    def __init__(
        self, optimizer: _Watched, canaries: GradientCanaries | None, *, rate: float, rng: np.random.Generator
    ) -> None:
        self.optimizer, self.rate, self.rng = optimizer, rate, rng
        self.inserted = np.zeros(0, dtype=bool) if canaries is None else canaries.inserted
        self.scores = np.zeros(len(self.inserted))
        self.size = sum(p.numel() for p in optimizer.params)
        self.directions = None if canaries is None else _directions(canaries, self.size)
        self.steps = self.drawn = 0
        self.noise = self.pull = 0.0

    def draw(self) -> Tensor | None:
        """Return the gradients (k, P) of the canaries that take part in this step."""
        if self.directions is None:
            return None
        rows = np.flatnonzero(self.inserted & (self.rng.random(len(self.inserted)) < self.rate))
        loud = LOUD * self.optimizer.max_grad_norm
        if self.directions.ndim == 2:
            return loud * self.directions[rows]
        gradients = torch.zeros(len(rows), self.size)
        gradients[torch.arange(len(rows)), self.directions[rows]] = loud
        return gradients

    def look(self, batch: int) -> None:
        """Take in the update that has just been released."""
        released, clip = self.optimizer, self.optimizer.max_grad_norm
        update = torch.cat([p.grad.flatten() for p in released.params]) * released.expected_batch_size
        summed = torch.cat([p.summed_grad.flatten() for p in released.params])
        self.noise += float((update - summed).double().square().mean())
        self.pull = max(self.pull, float(released.known.norm()) / (clip * max(1, batch)))
        self.steps, self.drawn = self.steps + 1, self.drawn + batch
        if self.directions is None:
            return
        rest = (update - released.known) / clip
        seen = self.directions @ rest if self.directions.ndim == 2 else rest[self.directions]
        self.scores += _evidence(seen.double().numpy(), self.rate, released.noise_multiplier)

    def trace(self, n: int) -> dict[str, float]:
        """Return what was measured on the way."""
        return {
            "steps": float(self.steps),
            "parameters": float(self.size),
            "sample_rate": self.rate,
            "drawn": self.drawn / (self.steps * n),
            "noise": float(np.sqrt(self.noise / self.steps)) / self.optimizer.max_grad_norm,
            "pull": self.pull,
        }


def _evidence(seen: np.ndarray, rate: float, noise: float) -> np.ndarray:
    """Return the log-likelihood ratio of "takes part" against "does not" from inner products with the canaries.

    In units of the clipping norm a canary adds 1 with probability ``rate`` to noise of standard deviation ``noise``.
    """
    if noise == 0:
        return seen
    with np.errstate(divide="ignore"):
        return np.logaddexp(np.log1p(-rate), np.log(rate) + (seen - 0.5) / noise**2)


def _directions(canaries: GradientCanaries, size: int) -> Tensor:
    """Return one parameter per canary (m,), or unit vectors (m, P)."""
    rng, m = np.random.default_rng(np.random.SeedSequence(canaries.seed, spawn_key=(4,))), len(canaries.inserted)
    if canaries.directions == "random":
        vectors = torch.from_numpy(rng.standard_normal((m, size), dtype=np.float32))
        return vectors / vectors.norm(dim=1, keepdim=True)
    if m > size:
        raise InputError(
            "num_canaries",
            m,
            f"the network has {size} parameters and each gradient canary takes one of its own; use at most {size}",
        )
    return torch.from_numpy(rng.permutation(size)[:m])
