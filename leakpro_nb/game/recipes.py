"""Recipe: how to train another model like the target.

Shadow models are only as good as their recipe: it should be the one that the target was trained with.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from leakpro_nb.errors import InputError
from leakpro_nb.game.code import fingerprint_of
from leakpro_nb.game.records import Records, as_array

if TYPE_CHECKING:
    import torch

__all__ = ["Recipe", "batch_order", "flushed_denormals", "loss_per_record", "make_optimizer", "seeded"]


@dataclass(frozen=True)
class Recipe:
    """How to train another model like the target.

    Exactly one of ``make`` and ``train`` is given.

    Parameters
    ----------
    make
        Function without arguments that returns a fresh, untrained ``torch.nn.Module`` (a class will do), or an
        unfitted scikit-learn estimator, which is cloned for every model.
    optimizer
        ``"adam"``, ``"adamw"`` or ``"sgd"`` (torch only, as are the next five).
    lr
        Learning rate.
    epochs
        Passes over the training records.
    batch_size
        Records per optimiser step; the last, smaller batch is kept.
    weight_decay, momentum
        As in ``torch.optim``; ``momentum`` is used by ``"sgd"`` alone.
    train
        Your own training function ``(records, seed) -> model``, for whatever the above cannot say.
        ``records`` has ``X`` and ``y``; the model may be a torch module, a scikit-learn classifier or a function.
    """

    make: Callable[[], Any] | Any | None = None
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = 1e-3
    epochs: int = 20
    batch_size: int = 128
    weight_decay: float = 0.0
    momentum: float = 0.0
    train: Callable[[Records, int], Any] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if (self.make is None) == (self.train is None):
            raise InputError(
                "recipe",
                "make and train",
                "give exactly one: a model factory, or train=(records, seed) -> model",
            )
        if self.train is not None and not callable(self.train):
            raise InputError("recipe.train", self.train, "pass a function (records, seed) -> model")
        if self.train is None and not (callable(self.make) or self.is_sklearn):
            raise InputError(
                "recipe.make",
                self.make,
                "pass a function that returns a fresh torch module, or an unfitted estimator",
            )
        if hasattr(self.make, "state_dict") and not inspect.isclass(self.make):
            raise InputError(
                "recipe.make",
                f"a {type(self.make).__name__}",
                "pass the function or class that makes the network, not a network: every model starts afresh",
            )
        if inspect.isclass(self.make) and hasattr(self.make, "fit") and hasattr(self.make, "get_params"):
            raise InputError(
                "recipe.make", self.make.__name__, f"pass an estimator, {self.make.__name__}(…), rather than its class"
            )
        if self.optimizer not in ("adam", "adamw", "sgd"):
            raise InputError("recipe.optimizer", self.optimizer, "use adam, adamw or sgd, or pass train=")
        for name, smallest in (("epochs", 1), ("batch_size", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < smallest:
                raise InputError(f"recipe.{name}", value, f"use an integer of at least {smallest}")
        for name in ("lr", "weight_decay", "momentum"):
            value = getattr(self, name)
            number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or value < 0 or (name == "lr" and value == 0):
                remedy = "use a positive number" if name == "lr" else "use a number of at least 0"
                raise InputError(f"recipe.{name}", value, remedy)

    @property
    def is_sklearn(self) -> bool:
        """Whether ``make`` is a scikit-learn estimator to be cloned."""
        return hasattr(self.make, "fit") and hasattr(self.make, "get_params") and not inspect.isclass(self.make)

    @property
    def is_torch(self) -> bool:
        """Whether ``make`` is a factory of torch modules."""
        return self.train is None and not self.is_sklearn

    def fit(self, X: Any, y: np.ndarray, seed: int) -> Any:
        """Train one model on ``X (n, …)`` and integer labels ``y (n,)``; the same seed gives the same model."""
        with seeded(seed, torch=not self.is_sklearn):
            if self.train is not None:
                return self.train(Records(X, y), seed)
            if self.is_sklearn:
                return self._fit_sklearn(X, y, seed)
            return self._fit_torch(X, y, seed)

    def _fit_sklearn(self, X: Any, y: np.ndarray, seed: int) -> Any:
        from sklearn.base import clone

        estimator = clone(self.make)
        states = {
            name: seed % (2**32)
            for name in estimator.get_params(deep=True)
            if name == "random_state" or name.endswith("__random_state")
        }
        return estimator.set_params(**states).fit(X, y)

    def _fit_torch(self, X: Any, y: np.ndarray, seed: int) -> torch.nn.Module:
        import torch

        net = self.build(seed)
        inputs, labels = torch.as_tensor(as_array(X)), torch.as_tensor(np.asarray(y, dtype=np.int64))
        optimizer = make_optimizer(self, list(net.parameters()))
        net.train()
        with flushed_denormals():
            for epoch in range(self.epochs):
                torch.manual_seed(_mix(seed, epoch))
                for batch in torch.from_numpy(batch_order(len(labels), seed, epoch)).split(self.batch_size):
                    optimizer.zero_grad(set_to_none=True)
                    loss_per_record(net(inputs[batch]), labels[batch]).mean().backward()
                    optimizer.step()
        return net.eval()

    def build(self, seed: int) -> torch.nn.Module:
        """Return a fresh torch module whose initial weights depend on ``seed`` alone."""
        import torch

        if self.make is None or not self.is_torch:
            raise InputError("recipe.make", self.make, "only a torch recipe builds torch modules")
        with seeded(seed, torch=True):
            net = self.make()
        if not isinstance(net, torch.nn.Module):
            raise InputError("recipe.make", type(net).__name__, "the factory must return a torch.nn.Module")
        return net

    def describe(self) -> str:
        """Return the recipe in words, for the report."""
        if self.train is not None:
            return f"own training function {getattr(self.train, '__name__', 'train')}"
        if self.is_sklearn:
            return " ".join(repr(self.make).split())
        name = getattr(self.make, "__name__", "network")
        parts = [f"{name}, {self.optimizer}, learning rate {self.lr:g}, {self.epochs} epochs, batch {self.batch_size}"]
        if self.weight_decay:
            parts.append(f"weight decay {self.weight_decay:g}")
        if self.momentum:
            parts.append(f"momentum {self.momentum:g}")
        return ", ".join(parts)

    def fingerprint(self) -> str:
        """Return a hash of everything that a trained shadow depends on, bar data, split and seed."""
        if self.train is not None:
            return fingerprint_of("train", self.train)
        if self.is_sklearn:
            return fingerprint_of("scikit-learn", self.make)
        steps = (self.optimizer, float(self.lr), int(self.epochs), int(self.batch_size))
        return fingerprint_of("torch", self.make, self.build(0), *steps, float(self.weight_decay), float(self.momentum))


@contextlib.contextmanager
def seeded(seed: int, *, torch: bool) -> Iterator[None]:
    """Seed the generators that all code shares, for functions that draw from them, and put them back as they were."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with contextlib.ExitStack() as stack:
        stack.callback(np.random.set_state, legacy)
        stack.callback(random.setstate, python)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        if torch:
            from torch import manual_seed
            from torch.random import fork_rng

            stack.enter_context(fork_rng(devices=[]))
            manual_seed(seed)
        yield


def batch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order ``(n,)`` in which epoch ``epoch`` of the model with ``seed`` visits its records."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch,))).permutation(n)


def _mix(seed: int, epoch: int) -> int:
    """Return a 63-bit seed for torch that depends on model and epoch (dropout masks)."""
    return int(np.random.SeedSequence(seed, spawn_key=(epoch, 1)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def loss_per_record(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return cross-entropy per record ``(n,)``: binary for logits ``(n,)`` or ``(n, 1)``, else multi-class."""
    import torch.nn.functional as F  # noqa: N812

    if logits.ndim == 1 or logits.shape[-1] == 1:
        return F.binary_cross_entropy_with_logits(
            logits.reshape(labels.shape), labels.to(logits.dtype), reduction="none"
        )
    return F.cross_entropy(logits, labels, reduction="none")


def make_optimizer(recipe: Recipe, parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
    """Return the recipe's optimiser; fused, since one kernel per step is several times cheaper than many."""
    import torch

    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True
        )
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)


@contextlib.contextmanager
def flushed_denormals() -> Iterator[None]:
    """Take floats below 1e-38 for zero, on this thread.

    The momentum of weights without gradient, as of dead units and absent categories, decays into such numbers,
    which processors handle so slowly that an epoch came to take twice as long. No result depends on them.
    """
    import torch

    before = bool((torch.tensor([1e-40]) * 1).eq(0).item())
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
