"""DP-SGD as a recipe: gradients clipped record by record, Gaussian noise, and the epsilon that this is worth.

Needs the extra ``dp``: Opacus trains, dp-accounting counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from leakpro_nb.errors import InputError
from leakpro_nb.game.records import Records

if TYPE_CHECKING:
    import torch

__all__ = ["Claim", "DpRun", "DpSgd", "GradientCanaries"]

ACCOUNTANT = "privacy loss distribution (dp-accounting)"

ASSUMPTIONS = (
    "Two training sets are neighbours when one has a record more than the other.",
    "At each step every record is drawn by a coin of its own (Poisson sampling).",
    "The number of records is public.",
    "The seed of the noise is secret: audits train with a known seed, a model to be released must not.",
    "Only this one training is counted: a search for its settings on the same records is not.",
)


@dataclass(frozen=True)
class Claim:
    """What a training promises: (epsilon, delta)-differential privacy, and what that rests on.

    Parameters
    ----------
    epsilon
        In nats; infinite where nothing is promised.
    delta
        In (0, 1).
    accountant
        Who says so.
    assumptions
        Sentences without which the figure does not hold.
    """

    epsilon: float
    delta: float
    accountant: str
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True)
class GradientCanaries:
    """Gradients that are slipped into DP-SGD as if they were those of further records.

    Parameters
    ----------
    inserted
        (m,) bool, a fair coin for each: whether it takes part in training.
    directions
        ``"dirac"``: each canary is a single parameter, no two the same; ``"random"``: a random direction.
    seed
        Decides the directions.

    Source: Nasr et al., USENIX Security 2023 (gradient canaries); Steinke, Nasr and Jagielski, NeurIPS 2023, section 6
    (Dirac canaries in one run).
    """

    inserted: np.ndarray
    directions: Literal["dirac", "random"] = "dirac"
    seed: int = 0


@dataclass(frozen=True)
class DpRun:
    """One training: the model, how surely each gradient canary was seen (m,), and what the training really did.

    ``trace`` holds ``steps``, ``parameters`` (their number), ``sample_rate`` (as configured), ``drawn`` (mean share of the records drawn per step),
    ``noise`` (standard deviation of the noise added, over the clipping norm) and ``pull`` (largest mean gradient of a
    batch after clipping, over the clipping norm: at most 1).
    """

    model: torch.nn.Module
    scores: np.ndarray
    trace: dict[str, float]


@dataclass(frozen=True)
class DpSgd:
    """A training function for ``Recipe(train=DpSgd(make_net, …))`` that is differentially private.

    Parameters
    ----------
    make
        Function without arguments, or class, that returns a fresh network without batch normalisation.
    noise_multiplier
        Standard deviation of the noise over ``max_grad_norm``; 0 trains without noise and promises nothing.
    max_grad_norm
        Norm to which the gradient of each record is clipped.
    epochs
        Passes over the records in expectation: an epoch has as many steps as batches fit into the records.
    batch_size
        Records per step in expectation; each record is drawn by a coin of its own.
    lr, momentum
        Of plain gradient descent.
    delta
        Of the promise; below one over the number of records.

    Raises
    ------
    InputError
        The extra ``dp`` is missing, or a value that cannot be.

    Source: Abadi et al., Deep learning with differential privacy, CCS 2016.
    """

    make: Callable[[], Any]
    noise_multiplier: float = field(kw_only=True)
    max_grad_norm: float = field(default=1.0, kw_only=True)
    epochs: int = field(default=20, kw_only=True)
    batch_size: int = field(default=256, kw_only=True)
    lr: float = field(default=0.5, kw_only=True)
    momentum: float = field(default=0.0, kw_only=True)
    delta: float = field(default=1e-5, kw_only=True)

    def __post_init__(self) -> None:
        _need_extra()
        if not callable(self.make) or (hasattr(self.make, "state_dict") and not isinstance(self.make, type)):
            raise InputError(
                "DpSgd.make", type(self.make).__name__, "pass the function or class that makes the network"
            )
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise InputError(f"DpSgd.{name}", value, "use an integer of at least 1")
        for name, zero in (("noise_multiplier", True), ("max_grad_norm", False), ("lr", False), ("momentum", True)):
            value = getattr(self, name)
            number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or value < 0 or (value == 0 and not zero):
                raise InputError(
                    f"DpSgd.{name}", value, f"use a {'number of at least 0' if zero else 'positive number'}"
                )
        if not 0 < self.delta < 1:
            raise InputError("DpSgd.delta", self.delta, "use a probability such as 1e-5, below one over the records")

    def __call__(self, records: Records, seed: int) -> torch.nn.Module:
        """Return the network trained on ``records``; the same seed gives the same network."""
        return self.run(records, seed).model

    def run(self, records: Records, seed: int, canaries: GradientCanaries | None = None) -> DpRun:
        """Train as ``__call__`` does, with gradient canaries and a look at every step.

        Raises
        ------
        InputError
            A network that has no gradient for each record by itself (batch normalisation), or too few parameters for
            as many Dirac canaries.
        """
        from leakpro_nb.defences import dp_training

        return dp_training.train(self, records.X, records.y, seed, canaries)

    def sample_rate(self, n: int) -> float:
        """Return the probability with which each of ``n`` records is drawn at a step."""
        return min(1.0, self.batch_size / n)

    def steps(self, n: int) -> int:
        """Return the number of steps on ``n`` records."""
        return self.epochs * max(1, round(n / self.batch_size))

    def claim(self, n: int, delta: float | None = None) -> Claim:
        """Return what training on ``n`` records promises, at ``delta`` or at the recipe's own.

        >>> claim = DpSgd(object, noise_multiplier=1.0, epochs=2, batch_size=100).claim(1600)
        >>> print(f"{claim.epsilon:.2f}")
        2.80
        """
        delta = self.delta if delta is None else delta
        eps = _pld_epsilon(float(self.noise_multiplier), self.sample_rate(n), self.steps(n), float(delta))
        return Claim(eps, delta, ACCOUNTANT, ASSUMPTIONS)

    def describe(self) -> str:
        """Return the recipe in words, for the report."""
        momentum = f", momentum {self.momentum:g}" if self.momentum else ""
        return (
            f"DP-SGD of {getattr(self.make, '__name__', 'network')}: noise multiplier {self.noise_multiplier:g}, gradients "
            f"clipped to norm {self.max_grad_norm:g}, {self.epochs} epochs of batches of about {self.batch_size} records, "
            f"learning rate {self.lr:g}{momentum}"
        )

    @property
    def __name__(self) -> str:
        """What a recipe calls its training function."""
        return self.describe()

    @property
    def __wrapped__(self) -> tuple[Any, ...]:
        """What a trained model depends on: so that caches tell recipes apart by the code of the network too."""
        settings = (self.noise_multiplier, self.max_grad_norm, self.lr, self.momentum)
        return (self.make, *map(float, settings), int(self.epochs), int(self.batch_size))


@lru_cache
def _pld_epsilon(noise: float, rate: float, steps: int, delta: float) -> float:
    """Return the epsilon of the subsampled Gaussian mechanism."""
    if noise == 0:
        return math.inf
    _need_extra()
    from dp_accounting import GaussianDpEvent, NeighboringRelation, PoissonSampledDpEvent, SelfComposedDpEvent
    from dp_accounting.pld import PLDAccountant

    step: Any = GaussianDpEvent(noise)
    if rate < 1:
        step = PoissonSampledDpEvent(rate, step)
    accountant = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE)
    accountant.compose(SelfComposedDpEvent(step, steps))
    return float(accountant.get_epsilon(delta))


def _need_extra() -> None:
    missing = [name for name in ("opacus", "dp_accounting") if find_spec(name) is None]
    if missing:
        raise InputError("DpSgd", f"{' and '.join(missing)} not installed", 'run: pip install "leakpro-nb[dp]"')
