"""A torch network seen from inside: activations and gradients per record.

Everything here works on a copy of the network: in evaluation mode, where BatchNorm and the like treat every record by
itself so that a gradient per record exists at all, and in double precision, where records of which the network is very
sure keep different gradients.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from leakpro_nb.attacks.base import NotApplicable
from leakpro_nb.game.models import Outputs, kind_of
from leakpro_nb.game.models.outputs import as_columns, looks_like_probabilities, settle
from leakpro_nb.game.oracle import Oracle
from leakpro_nb.game.records import as_array
from leakpro_nb.game.views import View

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Inside", "activations", "inside_of", "log_odds_of", "look_inside", "loss_of", "per_record"]

AT_ONCE = 2**20
"""Numbers of all gradients that are held at once (8 MB, which stays in the cache of the processor)."""

log = logging.getLogger(__name__)

Gradients = dict[str, "Tensor"]


@dataclass(frozen=True)
class Inside:
    """A copy of a torch network.

    Parameters
    ----------
    module
        In evaluation mode, and in double precision unless it refuses that.
    outputs
        Whether it returns logits or probabilities.
    layers
        The modules with parameters of their own, in the order in which they finish: the last is the output layer.
    """

    module: nn.Module
    outputs: Outputs
    layers: tuple[str, ...]

    def parameters_of(self, layers: Sequence[str]) -> dict[str, Tensor]:
        """Return the parameters of the given layers, by name."""
        named = {name: each.detach() for name, each in self.module.named_parameters()}
        return {name: each for name, each in named.items() if name.rpartition(".")[0] in layers}

    def tensor(self, X: Any) -> Tensor:
        """Return inputs ``(n, …)`` as the network takes them."""
        import torch

        inputs = torch.as_tensor(as_array(X))
        like = next(self.module.parameters())
        return inputs.to(like.device, like.dtype if inputs.is_floating_point() else inputs.dtype)


def inside_of(view: View) -> Inside:
    """Return a copy of the target's network.

    Raises
    ------
    AccessDenied
        The threat model does not hand out the model.
    NotApplicable
        Only predictions are known, or see ``look_inside``.
    """
    view.require("white_box")
    if view.oracle is None:
        raise NotApplicable("it needs the model itself, and only its predictions are known")
    return look_inside(view.oracle, view.features())


def look_inside(oracle: Oracle, X: Any) -> Inside:
    """Return a copy of the oracle's network; ``X (n, …)`` are inputs for it.

    Raises
    ------
    NotApplicable
        The model is no torch network, has no parameters, or cannot be copied.
    AccessDenied
        The model may be asked, not seen.
    """
    import torch

    kind = kind_of(oracle.model)
    if kind != "torch":
        raise NotApplicable(
            f"it needs a torch network, whose gradients can be computed, and this model is a {kind} one"
        )
    if not any(each.is_floating_point() for each in oracle.model.parameters()):
        raise NotApplicable("it needs a torch network with parameters, and this one has none")
    first = as_array(X)[:2]
    for dtype in (torch.float64, None):
        try:
            module = copy.deepcopy(oracle.model).eval()
        except RuntimeError as error:
            raise NotApplicable(
                f"it needs a torch network that can be copied, and torch says: {' '.join(str(error).split())}"
            ) from error
        inside = Inside(module if dtype is None else module.to(dtype), oracle.outputs.get("torch", "auto"), ())
        try:
            layers = _trace(inside.module, inside.tensor(first))
            break
        except (RuntimeError, TypeError):  # a network that converts to single precision on its way, or a device without
            if dtype is None:
                raise
    return Inside(inside.module, _outputs(inside, X), layers)


def _trace(module: nn.Module, inputs: Tensor) -> tuple[str, ...]:
    import torch

    order: list[str] = []
    handles = [
        each.register_forward_hook(lambda *_, name=name: order.append(name))
        for name, each in module.named_modules()
        if any(True for _ in each.parameters(recurse=False))
    ]
    try:
        with torch.no_grad():
            module(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(dict.fromkeys(order))


def _outputs(inside: Inside, X: Any) -> Outputs:
    import torch

    if inside.outputs != "auto":
        return inside.outputs
    with torch.no_grad():
        columns = as_columns(inside.module(inside.tensor(as_array(X)[:256])))
    if columns.shape[1] == 1:
        return settle(columns, "auto")
    return "probabilities" if looks_like_probabilities(columns) else "logits"


def log_odds_of(raw: Tensor, labels: Tensor, outputs: Outputs = "logits") -> Tensor:
    """Return the log-odds of the true label ``(n,)`` from outputs ``(n,)`` or ``(n, C)`` and labels ``(n,)``."""
    import torch

    z = raw.reshape(labels.shape[0], -1)
    if outputs == "probabilities":
        tiny = torch.finfo(z.dtype).tiny
        z = torch.logit(z, eps=1e-15) if z.shape[1] == 1 else z.clamp_min(tiny).log()
    if z.shape[1] == 1:
        return torch.where(labels == 1, z[:, 0], -z[:, 0])
    own = labels[:, None] == torch.arange(z.shape[1], device=z.device)
    others = z.masked_fill(own, -torch.inf).logsumexp(dim=1)
    return torch.where(own, z, 0.0).sum(dim=1) - others


def loss_of(raw: Tensor, labels: Tensor, outputs: Outputs = "logits") -> Tensor:
    """Return the cross-entropy per record ``(n,)``; see ``log_odds_of``.

    As ``softplus(-log-odds)``: the same number as torch's cross-entropy, but its gradient ``1 - p`` does not cancel to
    nothing where the network is nearly sure.
    """
    import torch.nn.functional as F  # noqa: N812

    return F.softplus(-log_odds_of(raw, labels, outputs))


def per_record(
    inside: Inside,
    X: Any,
    y: np.ndarray,
    reduce: Callable[[Gradients], Tensor],
    layers: Sequence[str] | None = None,
    *,
    vectorised: bool = True,
) -> np.ndarray:
    """Return ``reduce`` of every record's gradient of its loss with respect to the parameters, ``(n, …)``.

    Parameters
    ----------
    inside
        The network.
    X, y
        Inputs ``(n, …)`` and labels ``(n,)``.
    reduce
        From one record's gradients, by name of parameter, to a tensor of fixed shape.
    layers
        The layers whose parameters count; ``None`` for all.
    vectorised
        Many records at once through ``torch.func.vmap``. Networks that it refuses (recurrent layers, branches that
        depend on the data) go one by one by themselves.
    """
    import torch
    from torch.func import functional_call, grad, vmap

    parameters = inside.parameters_of(inside.layers if layers is None else layers)

    def loss(values: Gradients, x: Tensor, label: Tensor) -> Tensor:
        return loss_of(functional_call(inside.module, values, (x[None],)), label[None], inside.outputs)[0]

    def alone(x: Tensor, label: Tensor) -> Tensor:
        values = {name: each.clone().requires_grad_() for name, each in parameters.items()}
        found = torch.autograd.grad(loss(values, x, label), list(values.values()), materialize_grads=True)
        return reduce(dict(zip(values, found, strict=True)))

    inputs = inside.tensor(X)
    labels = torch.as_tensor(np.asarray(y), device=inputs.device)
    size = max(1, AT_ONCE // max(1, sum(each.numel() for each in parameters.values())))
    together = vmap(lambda x, label: reduce(grad(loss)(parameters, x, label)), randomness="different")
    parts: list[Tensor] = []
    for xs, ls in zip(inputs.split(size), labels.split(size), strict=True):
        part = None
        if vectorised:
            try:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", message="There is a performance drop")
                    part = together(xs, ls)
            except (RuntimeError, ValueError, NotImplementedError) as error:
                log.info("gradients are computed record by record: %s", " ".join(str(error).split())[:200])
                vectorised = False
        parts.append(torch.stack([alone(x, label) for x, label in zip(xs, ls, strict=True)]) if part is None else part)
    return torch.cat(parts).detach().cpu().double().numpy()


def activations(inside: Inside, X: Any, layers: Sequence[str]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the network's outputs and what each of ``layers`` returns, before any activation function, ``(n, …)``."""
    import torch

    inputs, seen = inside.tensor(X), {}
    outputs: list[Tensor] = []
    found: dict[str, list[Tensor]] = {name: [] for name in layers}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: Any, _args: Any, out: Any) -> None:
            first = out[0] if isinstance(out, tuple) else out
            seen[name] = first.detach().cpu().clone()

        return hook

    modules = dict(inside.module.named_modules())
    handles = [modules[name].register_forward_hook(keep(name)) for name in layers]
    try:
        with torch.no_grad():
            for batch in inputs.split(1024):
                outputs.append(inside.module(batch).reshape(len(batch), -1).cpu())
                for name in layers:
                    found[name].append(seen[name])
    finally:
        for handle in handles:
            handle.remove()
    return torch.cat(outputs).double().numpy(), [torch.cat(found[name]).double().numpy() for name in layers]
