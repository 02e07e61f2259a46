"""Train many shadow models at once: their weights are stacked, so that one kernel does the work of all.

Small networks spend much of their time in the overhead of many small operations. Models that differ in
nothing but weights and records can share every one of them: ``torch.func.vmap`` turns the forward pass into
batched operations, ordinary autograd goes backward (the models' gradients are independent, so the gradient of
the summed loss is each model's own), and one fused optimiser step moves all models.

What a stacked model gets is exactly what :meth:`Recipe.fit` gives it: its own initial weights, its own records
in its own order, its own optimiser steps. No batch is padded, so batch statistics are right too; models of
different sizes part ways in the few steps in which their batches differ. Results differ from ``fit`` by float
rounding, and by the dropout masks, which are drawn for all models of a stack from one generator.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import itertools
import os
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
import torch.fx
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from leakpro_nb.errors import InputError
from leakpro_nb.game.recipes import Recipe, batch_order, flushed_denormals, loss_per_record, make_optimizer

__all__ = ["predict_stacked", "train_stacked", "why_not_stackable"]

_TRIAL_RECORDS = 8  # per model: enough for batch statistics, cheap for any network
_TRIAL_RTOL = 1e-3  # float32 rounding stays far below, a wrong rule is off by far more
_LARGE = 400_000  # parameters from which a stack no longer fits the caches (tests/benchmarks/bench_shadows.py)


def train_stacked(
    recipe: Recipe,
    X: Any,
    y: np.ndarray,
    members: np.ndarray,
    seeds: Sequence[int],
    *,
    device: str = "cpu",
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 30.0,
    on_epoch: Callable[[int], None] | None = None,
) -> list[dict[str, Tensor]]:
    """Train one model per row of ``members``, all at once; call :func:`why_not_stackable` first.

    Parameters
    ----------
    recipe
        A torch recipe.
    X, y
        Records ``(N, …)`` and integer labels ``(N,)``.
    members
        Boolean ``(G, N)``: the records that each of the G models trains on. Sizes may differ; equal or nearly
        equal sizes are fastest.
    seeds
        One per model ``(G,)``.
    device
        Where to train, as torch names it.
    checkpoint
        File for the state of unfinished training. A call that finds the file of an interrupted, otherwise
        equal call goes on from it and ends with the same bits; a file that does not fit is ignored and
        overwritten. The file is removed at the end.
    checkpoint_seconds
        Least time between two writes.
    on_epoch
        Called with the number of epochs done after every epoch.

    Returns
    -------
    list of dict
        G state dicts (CPU tensors), as of what ``recipe.fit(X[members[g]], y[members[g]], seeds[g])`` returns.

    Raises
    ------
    InputError
        If ``members`` or ``seeds`` do not fit the records.
    """
    labels = torch.as_tensor(np.asarray(y, dtype=np.int64))
    inputs = torch.as_tensor(X)
    members = np.asarray(members, dtype=bool)
    if members.ndim != 2 or members.shape[1] != len(labels) or len(inputs) != len(labels):
        raise InputError("members", members.shape, f"pass a mask (models, {len(labels)} records)")
    if len(seeds) != len(members) or not len(members):
        raise InputError("seeds", list(seeds), f"pass one per model; members has {len(members)} rows")
    with _own_randomness(device), flushed_denormals():
        stack = _Stack(recipe, inputs, labels, members, seeds=seeds, device=device)
        saved = _Checkpoint(checkpoint, checkpoint_seconds, stack)
        for epoch in range(saved.resume(), recipe.epochs):
            stack.run_epoch(epoch)
            saved.offer(epoch + 1)
            if on_epoch is not None:
                on_epoch(epoch + 1)
        saved.remove()
        return stack.state_dicts()


class _Stack:
    """G models as one set of stacked tensors, with the records and the order in which they visit them.

    Models are held by falling size. So the models that share a batch size in a step, and those that take the
    same number of steps, are neighbours, and a slice picks them without a copy.
    """

    def __init__(
        self,
        recipe: Recipe,
        inputs: Tensor,
        labels: Tensor,
        members: np.ndarray,
        *,
        seeds: Sequence[int],
        device: str,
    ) -> None:
        self.recipe, self.seeds, self.members, self.device = recipe, list(seeds), members, device
        self.inputs, self.labels = inputs.to(device), labels.to(device)
        self.place = np.argsort(-members.sum(axis=1), kind="stable")
        self.records = [np.flatnonzero(members[g]) for g in self.place]
        sizes = np.array([len(rows) for rows in self.records])
        self.plan = _plan(sizes, recipe.batch_size)

        nets = [recipe.build(self.seeds[g]).to(device).train() for g in self.place]
        self.net = nets[0]
        self.params, self.buffers = stack_module_state(nets)
        self.forward = _vectorised(self.net)
        orders = self._adopt_gradient_layout()

        self.moved = [
            _Moved(self.params[name], low, high, order, steps)
            for low, high, steps in _runs(-(-sizes // recipe.batch_size))
            for name, order in orders.items()
        ]
        self.optimizer = make_optimizer(recipe, [moved.view for moved in self.moved])

    def _adopt_gradient_layout(self) -> dict[str, list[int]]:
        """Store each parameter in the memory order of its gradient; return those orders of dimensions.

        The gradient of ``x @ W.T`` comes out transposed. Autograd would copy it into the order of ``W`` in
        every step, a sixth of the training time of a small network; storing ``W`` transposed avoids that.
        """
        orders = {name: list(range(param.ndim)) for name, param in self.params.items()}
        for name, grad in self._first_gradients().items():
            param, stride = self.params[name].detach(), grad.stride()
            order = [0, *sorted(range(1, param.ndim), key=stride.__getitem__, reverse=True)]
            if grad.permute(order).is_contiguous() and not grad.is_contiguous():
                back = [order.index(d) for d in range(param.ndim)]
                stored = param.permute(order).contiguous().permute(back)
                self.params[name], orders[name] = stored.requires_grad_(), order
        return orders

    def _first_gradients(self) -> dict[str, Tensor]:
        """Return the gradients of the first step as autograd makes them, without training anything."""
        trained = {name: param for name, param in self.params.items() if param.requires_grad}
        if not self.plan or not trained:
            return {}
        low, high, count = self.plan[0][0]
        rows = torch.from_numpy(np.stack([self.records[g][:count] for g in range(low, high)])).to(self.device)
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        loss = self._loss(rows, _cut(self.params, low, high), _cut(buffers, low, high))
        grads = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
        return {name: grad for name, grad in zip(trained, grads, strict=True) if grad is not None}

    def _loss(self, rows: Tensor, params: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        """Return the sum over models of the mean loss of their records ``rows (models, records)``."""
        flat = rows.reshape(-1)
        batch = self.inputs.index_select(0, flat).unflatten(0, rows.shape)
        return _summed_loss(self.forward(params, buffers, batch), self.labels.index_select(0, flat))

    def run_epoch(self, epoch: int) -> None:
        """Take every model once through its records."""
        torch.manual_seed(_dropout_seed(self.seeds, epoch))
        visits = self._visits(epoch).to(self.device)
        for step, runs in enumerate(self.plan):
            first = step * self.recipe.batch_size
            self._forget_gradients()  # before the backward pass, which can then use their memory
            for low, high, count in runs:
                rows = visits[low:high, first : first + count]
                self._loss(rows, _cut(self.params, low, high), _cut(self.buffers, low, high)).backward()
            for moved in self.moved:
                moved.take_gradient(step)
            self.optimizer.step()

    def _forget_gradients(self) -> None:
        for tensor in (*self.params.values(), *(moved.view for moved in self.moved)):
            tensor.grad = None

    def _visits(self, epoch: int) -> Tensor:
        """Return the records in the order in which each model meets them ``(G, most records)``; 0 beyond."""
        visits = torch.zeros(len(self.records), max(map(len, self.records)), dtype=torch.int64)
        for g, rows in enumerate(self.records):
            order = batch_order(len(rows), self.seeds[self.place[g]], epoch)
            visits[g, : len(rows)] = torch.from_numpy(rows[order])
        return visits

    def state_dicts(self) -> list[dict[str, Tensor]]:
        """Return each model's state dict, in the caller's order."""
        stacked = {**self.params, **self.buffers}
        states: dict[int, dict[str, Tensor]] = {}
        for at, g in enumerate(self.place):
            # by way of the module, which knows about tied weights and buffers that are not saved
            with torch.no_grad():
                for name, tensor in [*self.net.named_parameters(), *self.net.named_buffers()]:
                    tensor.copy_(stacked[name][at])
            states[int(g)] = {
                name: tensor.detach().to("cpu", copy=True)
                for name, tensor in self.net.state_dict().items()
                if isinstance(tensor, Tensor)
            }
        return [states[g] for g in range(len(states))]

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that the next epoch depends on, bar the recipe, records and seeds."""
        found = {f"parameter.{name}": tensor.detach() for name, tensor in self.params.items()}
        found |= {f"buffer.{name}": tensor for name, tensor in self.buffers.items()}
        for i, moved in enumerate(self.moved):
            for key, value in self.optimizer.state[moved.view].items():
                if isinstance(value, Tensor):
                    found[f"optimizer.{i}.{key}"] = value
        return found

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Set what :meth:`tensors` returned."""
        with torch.no_grad():
            for name, param in self.params.items():
                param.copy_(tensors[f"parameter.{name}"])
            for name, buffer in self.buffers.items():
                buffer.copy_(tensors[f"buffer.{name}"])
        for full, tensor in tensors.items():
            if full.startswith("optimizer."):
                _, i, key = full.split(".", 2)
                self.optimizer.state[self.moved[int(i)].view][key] = tensor.to(self.device)


@dataclass
class _Moved:
    """The slice of one stacked parameter that the optimiser moves together: models with as many steps an epoch.

    The optimiser skips a tensor without gradient. So a model that has run out of records keeps its weights,
    its momentum and its step count, as it would alone.
    """

    param: Tensor
    low: int
    high: int
    order: list[int]
    steps: int

    def __post_init__(self) -> None:
        self.view = self._cut(self.param.detach())

    def _cut(self, tensor: Tensor) -> Tensor:
        """Return the slice with its dimensions in memory order: fused kernels copy anything else."""
        return tensor[self.low : self.high].permute(self.order)

    def take_gradient(self, step: int) -> None:
        """Hand the gradient to the optimiser, unless these models are through with their records."""
        grad = self.param.grad
        self.view.grad = None if grad is None or step >= self.steps else self._cut(grad)


def _vectorised(net: nn.Module) -> Callable[..., Tensor]:
    """Return ``(params, buffers, inputs) -> outputs``, all with a leading dimension over models."""

    def one(params: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return functional_call(net, (params, buffers), (inputs,))

    return _as_chain(net) or vmap(one, randomness="different")


# Work on every number by itself, so that one more leading dimension makes no difference
_ELEMENTWISE_MODULES = (
    nn.Dropout,
    nn.ELU,
    nn.GELU,
    nn.Identity,
    nn.LeakyReLU,
    nn.Sigmoid,
    nn.SiLU,
    nn.Softplus,
    nn.Tanh,
)
_ELEMENTWISE_FUNCTIONS = (F.dropout, F.gelu, F.leaky_relu, F.silu, torch.sigmoid, torch.tanh)


def _as_chain(net: nn.Module) -> Callable[..., Tensor] | None:
    """Return what :func:`_vectorised` does without ``vmap``, for dense layers and activations in a row, else None.

    For the commonest of shadow models ``vmap`` and its longer backward pass cost as much as all products.
    """
    try:
        # on a copy: tracing runs the user's code on stand-ins, which may stick in the network
        nodes = list(torch.fx.symbolic_trace(copy.deepcopy(net)).graph.nodes)
    except Exception:  # noqa: BLE001 - and anything may come of it
        return None
    links = [_as_link(net, node) for node in nodes[1:-1]]
    for at, (before, link) in enumerate(itertools.pairwise(links), start=1):
        if link is _relu and isinstance(before, _Dense):  # whose output nobody else needs, autograd included
            links[at] = _relu_in_place
    in_a_row = all(
        after.all_input_nodes == [before] and after.args[:1] == (before,) for before, after in itertools.pairwise(nodes)
    )
    if not in_a_row or None in links:
        return None

    def chain(params: dict[str, Tensor], _: dict[str, Tensor], inputs: Tensor) -> Tensor:
        for link in links:
            inputs = link(params, inputs)  # type: ignore[misc]
        return inputs

    return chain


def _as_link(net: nn.Module, node: torch.fx.Node) -> Callable[[dict[str, Tensor], Tensor], Tensor] | None:
    """Return one step of a chain, ``(params, x) -> x``, or None if it needs ``vmap``."""
    if node.op == "call_module":
        return _layer_as_link(net, str(node.target))
    if node.op == "call_function" and node.target in (F.relu, torch.relu):
        return _relu
    if node.op == "call_function" and node.target in _ELEMENTWISE_FUNCTIONS:
        return lambda _, x: node.target(x, *node.args[1:], **node.kwargs)  # type: ignore[operator]
    if node.op == "call_method" and node.target == "squeeze" and node.args[1:] == (-1,):
        return lambda _, x: x.squeeze(-1)
    return None


def _layer_as_link(net: nn.Module, name: str) -> Callable[[dict[str, Tensor], Tensor], Tensor] | None:
    layer = net.get_submodule(name)
    if layer._forward_hooks or layer._forward_pre_hooks:
        return None
    if type(layer) is nn.ReLU:
        return _relu
    if type(layer) in _ELEMENTWISE_MODULES:
        return lambda _, x: layer(x)
    if type(layer) is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1):
        return lambda _, x: x.flatten(2)
    weight, bias = f"{name}.weight", f"{name}.bias"
    # both names are there, unless there is no bias, or weights are tied and go by one name alone
    if type(layer) is nn.Linear and {weight, bias} <= dict(net.named_parameters()).keys():
        return _Dense(weight, bias)
    return None


@dataclass
class _Dense:
    """Dense layers of several models, by the names of their parameters."""

    weight: str
    bias: str

    def __call__(self, params: dict[str, Tensor], x: Tensor) -> Tensor:
        """Return ``x (G, …, in)`` times weights ``(G, out, in)`` plus biases ``(G, out)``."""
        product = torch.baddbmm(params[self.bias].unsqueeze(1), x.flatten(1, -2), params[self.weight].mT)
        return product if x.ndim == 3 else product.unflatten(1, x.shape[1:-1])


def _relu(_: dict[str, Tensor], x: Tensor) -> Tensor:
    return x.relu()


def _relu_in_place(_: dict[str, Tensor], x: Tensor) -> Tensor:
    return x.relu_()


def _summed_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the sum over models of the mean loss, for outputs ``(models, records, …)``, labels flattened."""
    return loss_per_record(outputs.flatten(0, 1), labels).sum() / outputs.shape[1]


def _cut(tensors: dict[str, Tensor], low: int, high: int) -> dict[str, Tensor]:
    """Return models ``low`` to ``high``; the tensors themselves if that is all of them, as slicing costs."""
    return {name: t if high - low == len(t) else t[low:high] for name, t in tensors.items()}


def _runs(values: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Yield ``(low, high, value)`` for each run of equal neighbours."""
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    for low, high in itertools.pairwise(edges):
        yield low, high, int(values[low])


def _plan(sizes: np.ndarray, batch_size: int) -> list[list[tuple[int, int, int]]]:
    """Return, per step of an epoch, the neighbours ``(low, high, records)`` with equal batches."""
    left = [sizes - first for first in range(0, int(sizes.max()), batch_size)]
    return [[run for run in _runs(np.clip(some, 0, batch_size)) if run[2]] for some in left]


def _dropout_seed(seeds: Sequence[int], epoch: int) -> int:
    """Return a 63-bit seed for torch from all seeds and the epoch, so that any epoch can be redone."""
    return int(np.random.default_rng([*seeds, epoch, 2]).integers(2**63))


@contextlib.contextmanager
def _own_randomness(device: str) -> Iterator[None]:
    """Leave torch's generators as they were found."""
    cuda = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        yield


class _Checkpoint:
    """The state of unfinished training on disk: tensors, and a hash of what they depend on."""

    def __init__(self, path: Path | None, seconds: float, stack: _Stack) -> None:
        self.path, self.seconds, self.stack = path, seconds, stack
        self.key = "" if path is None else _key(stack)
        self.written = time.monotonic()

    def resume(self) -> int:
        """Restore the stack and return the number of epochs done; 0 if there is nothing that fits."""
        if self.path is None or not self.path.exists():
            return 0
        try:
            with safetensors.safe_open(self.path, framework="pt") as file:
                header = file.metadata() or {}
                if header.get("key") != self.key:
                    return 0
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, safetensors.SafetensorError):
            return 0
        self.stack.restore(tensors)
        return int(header["epochs"])

    def offer(self, epochs: int) -> None:
        """Write the state after ``epochs`` epochs, unless the last write is recent or training is over."""
        due = time.monotonic() - self.written >= self.seconds and epochs < self.stack.recipe.epochs
        if self.path is None or not due:
            return
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self.stack.tensors().items()}
        part = self.path.with_name(f"{self.path.name}.part")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(to_safetensors(tensors, {"key": self.key, "epochs": str(epochs)}))
            file.flush()
            os.fsync(file.fileno())  # a power cut must not leave a whole name on half a file
        part.replace(self.path)
        self.written = time.monotonic()

    def remove(self) -> None:
        """Delete the file, and what a killed call may have left half-written."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            self.path.with_name(f"{self.path.name}.part").unlink(missing_ok=True)


def _key(stack: _Stack) -> str:
    """Return a hash of everything that training depends on; the torch version, since rounding follows it."""
    digest = hashlib.sha256(f"{torch.__version__} {stack.recipe.fingerprint()} {stack.seeds}".encode())
    digest.update(f"{stack.members.shape} {stack.inputs.shape} {stack.inputs.dtype}".encode())
    digest.update(np.packbits(stack.members).tobytes())
    for tensor in (stack.inputs, stack.labels):
        digest.update(tensor.cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def predict_stacked(
    recipe: Recipe,
    states: Sequence[dict[str, Tensor]],
    X: Any,
    *,
    batch_size: int = 4096,
    device: str = "cpu",
) -> np.ndarray:
    """Return the raw outputs ``(G, N, C)`` float32 of models given by their state dicts, in evaluation mode.

    Networks with one output per record have ``C = 1``. Models go one by one: at these batch sizes the kernels
    are busy, so stacking would gain nothing, and any network will do.
    """
    inputs = torch.as_tensor(X)
    with _own_randomness(device), torch.inference_mode():
        net = recipe.build(0).to(device).eval()
        outputs = []
        for state in states:
            net.load_state_dict(state)
            joined = torch.cat([net(batch.to(device)).float().cpu() for batch in inputs.split(batch_size)])
            outputs.append(joined[:, None] if joined.ndim == 1 else joined)
        return torch.stack(outputs).numpy()


def why_not_stackable(recipe: Recipe, X: Any, y: np.ndarray, *, device: str = "cpu") -> str | None:
    """Return None when the recipe's network can and should be trained stacked, else one sentence saying why not.

    Two models are run in training mode on a few of the records ``X (N, …)``, ``y (N,)``, one by one and
    stacked, and their outputs, gradients and buffers compared. Takes as long as a few steps of training;
    torch's random state is left alone. Where ``device``, the place of the training to come, is a processor
    (CPU), networks that would be slower stacked are refused too.
    """
    if recipe.train is not None:
        return "The recipe has its own training function (train=), which trains one model at a time."
    if recipe.is_sklearn:
        return "The recipe is a scikit-learn estimator, not a torch network."
    with _own_randomness("cpu"):
        try:
            trial = _Trial(recipe, X, y)
            return trial.verdict() or (trial.why_slower() if torch.device(device).type == "cpu" else None)
        except Exception as error:  # noqa: BLE001 - whatever the network raises, fit shows it in context
            return f"The network does not run on these records ({_first_line(error)})."


class _Trial:
    """Two models, each with a handful of records of its own, to be run one by one and stacked."""

    def __init__(self, recipe: Recipe, X: Any, y: np.ndarray) -> None:
        self.recipe, self.looped = recipe, ""
        inputs, labels = torch.as_tensor(X), torch.as_tensor(np.asarray(y, dtype=np.int64))
        rows = torch.arange(2 * _TRIAL_RECORDS).remainder(len(labels))
        self.inputs = inputs[rows].unflatten(0, (2, _TRIAL_RECORDS))
        self.labels = labels[rows].unflatten(0, (2, _TRIAL_RECORDS))

    def verdict(self) -> str | None:
        """Return the reason, or None."""
        states = [
            dict([*net.named_parameters(), *net.named_buffers()])
            for net in (self.recipe.build(seed) for seed in (0, 1))
        ]
        if any(nn.parameter.is_lazy(tensor) for tensor in states[0].values()):
            return "The network has lazy parameters, whose shapes are unknown before the first batch."
        first, second = ([(name, tensor.shape) for name, tensor in state.items()] for state in states)
        if first != second:
            return "The network's parameters change shape from seed to seed, so they cannot be stacked."
        alone = self._alone(train=True)
        comparable = _alike(alone, self._alone(train=True, other_masks=True))
        if not comparable:  # random in a way that cannot be switched off: evaluation has to do
            alone = self._alone(train=False)
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                self._stacked(train=True, dropout=True)
                stacked = self._stacked(train=comparable)
        except Exception as error:  # noqa: BLE001 - torch raises all sorts, and each is an answer
            return _reason(error)
        self.looped = _looped_operator(caught)
        if not _alike(alone, stacked):
            return (
                "Vectorised over models, the network gives other outputs, gradients or buffers than by itself; "
                "it may keep state outside its parameters and buffers."
            )
        return None

    def why_slower(self) -> str | None:
        """Return why a processor would take longer with the stack than with one model after the other."""
        net = self.recipe.build(0)
        if any(isinstance(module, nn.modules.conv._ConvNd) for module in net.modules()):
            return "The network has convolutions, which are slower stacked on a processor."
        size = sum(parameter.numel() for parameter in net.parameters())
        if size > _LARGE:
            return f"The network has {size:,} parameters: too many for a processor to gain from stacking."
        if self.looped:
            return f"The network uses the operator {self.looped}, which is no faster stacked on a processor."
        return None

    def _nets(self, train: bool, dropout: bool = False) -> list[nn.Module]:
        nets = [self.recipe.build(seed).train(train) for seed in (0, 1)]
        for module in [] if dropout else [module for net in nets for module in net.modules()]:
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.p = 0.0
            elif isinstance(getattr(module, "dropout", None), float):  # attention layers
                module.dropout = 0.0  # type: ignore[assignment]
        return nets

    def _alone(self, train: bool, other_masks: bool = False) -> list[list[Tensor]]:
        """Return ``[outputs, gradients…, buffers…]`` per model, each run by itself."""
        found = []
        for g, net in enumerate(self._nets(train)):
            torch.manual_seed(10 * g + other_masks)
            outputs = net(self.inputs[g])
            loss_per_record(outputs, self.labels[g]).mean().backward()
            found.append([outputs.detach(), *_gradients(net.parameters()), *net.buffers()])
        return found

    def _stacked(self, train: bool, dropout: bool = False) -> list[list[Tensor]]:
        """Return the same from one vectorised run."""
        nets = self._nets(train, dropout)
        params, buffers = stack_module_state(nets)
        outputs = _vectorised(nets[0])(params, buffers, self.inputs)
        _summed_loss(outputs, self.labels.flatten()).backward()
        everything = [outputs.detach(), *_gradients(params.values()), *buffers.values()]
        return [[tensor[g] for tensor in everything] for g in range(len(nets))]


def _gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Return the gradients; zeros for parameters without, since stacking cannot tell the two apart."""
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]


def _alike(ours: list[list[Tensor]], theirs: list[list[Tensor]]) -> bool:
    """Whether two sets of tensors are equal but for rounding; by norm, as small entries are all rounding."""
    for mine, other in zip(ours, theirs, strict=True):
        pairs = [(a.double(), b.double()) for a, b in zip(mine, other, strict=True)]
        floor = 1e-2 * _TRIAL_RTOL * max(float(b.norm()) for _, b in pairs)
        for a, b in pairs:
            if a.shape != b.shape or not float((a - b).norm()) <= _TRIAL_RTOL * float(b.norm()) + floor:
                return False
    return True


def _looped_operator(caught: Iterable[warnings.WarningMessage]) -> str:
    """Return an operator that torch has warned of doing model by model under ``vmap``, or the empty string."""
    found = (re.search(r"performance drop.*aten::(\w+)", str(warning.message)) for warning in caught)
    return next((match[1].strip("_") for match in found if match), "")


def _reason(error: Exception) -> str:
    """Say in plain words why vectorising failed."""
    text = str(error)
    if "data-dependent control flow" in text or ".item()" in text:
        return "The network takes decisions from the values in a batch (data-dependent control flow)."
    operator = re.search(r"aten::(\w+)", text)
    if operator:
        return f"The network uses the operator {operator[1]}, which torch cannot vectorise over models."
    return f"The network cannot be vectorised over models ({_first_line(error)})."


def _first_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {line[:200]}"
