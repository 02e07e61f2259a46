"""Activations and gradients: a network that learns what training leaves behind inside another network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np

from leakpro_nb.attacks.base import NotApplicable, Scores, need_references
from leakpro_nb.attacks.gradients import Inside, activations, inside_of, log_odds_of, look_inside, per_record
from leakpro_nb.attacks.membership import options
from leakpro_nb.attacks.membership.lira import gaussian_sides
from leakpro_nb.attacks.signals import TINY
from leakpro_nb.errors import InputError
from leakpro_nb.game.recipes import flushed_denormals, seeded
from leakpro_nb.game.threat import Knowledge
from leakpro_nb.game.views import Access, References, View

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["ActivationGradient", "Part", "look_at", "summarise"]

FEWEST_KNOWN = 20
"""Known members, and known non-members, below which nothing can be learnt."""

FEWEST_REFERENCES = 4
"""Below this, no shadow model that plays the target has others on both sides of every record."""

LARGEST = 2**13
"""Numbers of one layer's gradient that are looked at; of larger layers, those of randomly chosen inputs of the layer."""

AFFORDABLE = 500_000
"""Weights up to which the attack model has the paper's widths."""

MOST_ROWS = 40_000
"""Rows to which practice on shadow models is thinned."""

PATIENCE = 15
"""Epochs without progress on the records set aside after which training ends."""

Practice = Literal["known", "shadows"]
Kind = Literal["dense", "label", "convolution", "gradient"]


class Part(NamedTuple):
    """One input of the attack model: which component network reads it, and its values ``(N, …)``."""

    kind: Kind
    values: np.ndarray


@dataclass(frozen=True)
class ActivationGradient:
    """The attack model of Nasr, Shokri and Houmansadr: one component network per input, and an encoder of them all.

    Its inputs are what layers return, the label, the loss, and the gradients of the loss with respect to the weights of
    layers. It is trained on batches of as many members as non-members, with the mean squared error, by Adam. Records
    that it may practise on are cut into ``folds``: each in turn is set aside to choose the number of epochs, and the
    networks trained on the others are averaged.

    Source: Nasr et al., S&P 2019 (1812.00910). Changed: torch's initial weights instead of
    N(0, 0.01^2), with which a few hundred records teach it next to nothing; a larger learning rate, as there are fewer
    records; the inverse hyperbolic sine of scaled gradients, which differ by orders of magnitude; gradients of
    convolutions are read as those of dense layers are.

    Parameters
    ----------
    practice
        ``"known"``: on the records whose membership the attacker knows; these get NaN. ``"shadows"``: on shadow models
        that play the target, judged by the others. Weights of different networks do not correspond to each other, so
        only what does not depend on the order of neurons is looked at: per layer the gradient's norm, the activations'
        norm and the share of them above 0, each compared with the shadow models' on the same record; and the log-odds.
    activation_layers, gradient_layers
        How many layers, counted from the output, are looked at (practice on known records).
    width
        Factor by which hidden layers of the attack model are narrower than the paper's; 0: 1, halved until it has at
        most half a million weights.
    epochs
        Most epochs.
    learning_rate
        Of Adam.
    folds
        Parts of the practice records; at least 2. Shadow models give many more rows, so that two do there.
    seed
        Of the attack model's initial weights, batches and folds.
    """

    title: ClassVar[str] = "Activations and gradients"
    paper: ClassVar[str] = "Nasr et al., S&P 2019"
    idea: ClassVar[str] = (
        "Whoever holds the model file can watch its inner parts at work. The attacker trains a second model to see, from "
        "the way they respond, whether a person's record was used."
    )
    access: ClassVar[Access] = "white_box"
    asks: ClassVar[bool] = True

    practice: Practice = "known"
    activation_layers: int = 2
    gradient_layers: int = 1
    width: float = 0.0
    epochs: int = 100
    learning_rate: float = 1e-3
    folds: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        options.check_choice("activation_gradient.practice", self.practice, get_args(Practice))
        for name, least, example in (
            ("activation_layers", 0, 2), ("gradient_layers", 0, 1), ("epochs", 1, 100), ("folds", 2, 4), ("seed", 0, 0),
        ):  # fmt: skip
            options.check_count(f"activation_gradient.{name}", getattr(self, name), least, example)
        if not 0 <= self.width <= 1:
            raise InputError("activation_gradient.width", self.width, "use a factor above 0 and up to 1, or 0")
        if not 0 < self.learning_rate < 1:
            raise InputError("activation_gradient.learning_rate", self.learning_rate, "use a number between 0 and 1")

    @property
    def references(self) -> int:
        """Fewest shadow models."""
        return FEWEST_REFERENCES if self.practice == "shadows" else 0

    @property
    def knowledge(self) -> tuple[Knowledge, ...]:
        """Labels, and whose membership is known or how to train shadow models on the candidates."""
        return ("labels", "known_members") if self.practice == "known" else ("labels", "recipe", "candidates")

    def run(self, view: View) -> Scores:
        """Score every record of ``view`` with log-odds of membership; records practised on get NaN.

        Raises
        ------
        NotApplicable
            The model is no torch network, or there are too few records or shadow models to practise on.
        AccessDenied
            The threat model does not hand out the model.
        """
        view.require("white_box")
        return self._on_known(view) if self.practice == "known" else self._on_shadows(view)

    def _on_known(self, view: View) -> Scores:
        if view.known is None or view.known_members is None:
            raise NotApplicable("it practises on records whose membership the attacker knows, and there are none")
        known, member = view.known, view.known_members
        if min((known & member).sum(), (known & ~member).sum()) < FEWEST_KNOWN:
            raise NotApplicable(
                f"it practises on records whose membership the attacker knows, and needs at least {FEWEST_KNOWN} members "
                f"and as many others; there are {(known & member).sum()} and {(known & ~member).sum()}"
            )
        inside = inside_of(view)
        phi, parts = look_at(
            inside, view.features(), view.labels, view.logits.shape[1],
            self.activation_layers, self.gradient_layers, self.seed,
        )  # fmt: skip
        # one order of records, whatever that of the view, so that batches and sums are the same
        order = np.lexsort([member, phi])
        practice = order[known[order]]
        scale = [_scaling(part, practice) for part in parts]
        values, epochs = self._learnt(
            [Part(part.kind, each(part.values)) for part, each in zip(parts, scale, strict=True)],
            practice, member[practice], np.arange(len(practice)), self.folds,
        )  # fmt: skip
        values[known] = np.nan
        return Scores(values, {"practised on": f"{len(practice)} known records", "epochs chosen": epochs})

    def _on_shadows(self, view: View) -> Scores:
        references = need_references(view, online=True)
        if view.rehearsal is None or len(references) < FEWEST_REFERENCES:
            raise NotApplicable(
                f"it practises on shadow models that trained on these records, and needs at least {FEWEST_REFERENCES}"
            )
        X, y = view.features(), view.labels
        networks = [inside_of(view), *(look_inside(oracle, X) for oracle in references.oracles())]
        each = [summarise(network, X, y) for network in networks]
        if len({one.shape for one in each}) > 1:
            raise NotApplicable(
                "its shadow models have other layers than the target, so that there is no comparing them"
            )
        target, shadows = each[0], np.stack(each[1:])
        order = np.lexsort([*shadows[:, :, 0], target[:, 0]])
        games = [_compared(shadows[k], shadows, references, references.without(k)) for k in range(len(references))]
        panels = sorted({tuple(references.without(k).tolist()) for k in range(len(references))})[:8]
        judged = [_compared(target, shadows, references, np.array(panel)) for panel in panels]
        n = len(y)
        table = np.concatenate([*games, *judged])
        label = np.tile(np.eye(view.logits.shape[1], dtype=np.float32)[y], (len(games) + len(panels), 1))
        member = references.trained_on.ravel()
        rows = np.concatenate([k * n + order for k in range(len(games))])
        rows = rows[~np.isnan(table[rows]).any(axis=1)]
        rows = rows[:: max(1, -(-len(rows) // MOST_ROWS))]
        if min(member[rows].sum(), (~member[rows]).sum()) < FEWEST_KNOWN:
            raise NotApplicable("too few records have shadow models on both sides to practise on")
        rank = np.empty(n, dtype=int)
        rank[order] = np.arange(n)
        dense = Part("dense", table)
        parts = [Part("dense", _scaling(dense, rows)(table)), Part("label", label)]
        values, epochs = self._learnt(parts, rows, member[rows], rank[rows % n], min(self.folds, 2))
        values = values[len(games) * n :].reshape(len(panels), n)
        count = (~np.isnan(values)).sum(axis=0)
        mean = np.divide(np.nansum(values, axis=0), count, out=np.full(n, np.nan), where=count > 0)
        return Scores(mean, {"practised on": f"{len(games)} shadow models", "epochs chosen": epochs})

    def _learnt(
        self, parts: Sequence[Part], practice: np.ndarray, member: np.ndarray, record: np.ndarray, folds: int
    ) -> tuple[np.ndarray, list[int]]:
        """Return log-odds for every row ``(n,)``, averaged over folds, and each fold's number of epochs.

        ``practice`` are rows, ``member`` and ``record`` say for each of them whether it is a member, and whose row it is:
        a record is never on both sides of the choice of epochs.
        """
        import torch

        inputs = [torch.as_tensor(np.asarray(part.values, dtype=np.float32)) for part in parts]
        usable = ~np.logical_or.reduce([np.isnan(part.values.reshape(len(part.values), -1)).any(1) for part in parts])
        rng = np.random.default_rng([self.seed, 11])
        fold = rng.permutation(int(record.max()) + 1)[record] % folds
        total, epochs = np.zeros(len(usable)), []
        for f in range(folds):
            with seeded(self.seed + f, torch=True), flushed_denormals():
                model = _model(parts, self.width)
                learn, aside = fold != f, fold == f
                if min(member[learn].sum(), (~member[learn]).sum(), aside.sum()) == 0:
                    continue
                epochs.append(
                    _train(
                        model, inputs, practice[learn], member[learn], practice[aside], member[aside],
                        self.epochs, self.learning_rate, rng,
                    )
                )  # fmt: skip
                with torch.no_grad():
                    rows = torch.from_numpy(np.flatnonzero(usable))
                    out = torch.cat([model([each[r] for each in inputs]) for r in rows.split(2048)])
            total[usable] += out.double().numpy()
        return np.where(usable, total / max(1, len(epochs)), np.nan), epochs


def look_at(
    inside: Inside,
    X: Any,
    y: np.ndarray,
    classes: int,
    activation_layers: int = 2,
    gradient_layers: int = 1,
    seed: int = 0,
) -> tuple[np.ndarray, list[Part]]:
    """Return the log-odds ``(N,)`` and the inputs of the attack model for records ``X (N, …)`` with labels ``y (N,)``.

    Parts are as ``ActivationGradient`` has them; their scale is the network's own.
    """
    import torch

    chosen = inside.layers[len(inside.layers) - min(activation_layers, len(inside.layers)) :]
    raw, acts = activations(inside, X, chosen)
    phi = log_odds_of(torch.as_tensor(raw), torch.as_tensor(y), inside.outputs).numpy()
    parts = [Part("convolution" if each.ndim == 4 else "dense", each.reshape(len(y), -1)) for each in acts]
    parts.append(Part("label", np.eye(classes)[y]))
    parts.append(Part("dense", np.log(np.maximum(np.logaddexp(0.0, -phi), TINY))[:, None]))
    weights = {name: each for name, each in inside.parameters_of(inside.layers).items() if each.ndim >= 2}
    layers = [layer for layer in inside.layers if any(name.rpartition(".")[0] == layer for name in weights)]
    for layer in layers[len(layers) - min(gradient_layers, len(layers)) :]:
        name = next(name for name in weights if name.rpartition(".")[0] == layer)
        wide, rows = weights[name].shape[0], int(np.prod(weights[name].shape[1:]))
        kept = np.random.default_rng([seed, 13]).permutation(rows)[: max(1, LARGEST // wide)]
        gradient = per_record(inside, X, y, _matrix(name, torch.as_tensor(np.sort(kept))), [layer])
        parts.append(Part("gradient", gradient.astype(np.float32)))
    return phi, parts


def _matrix(name: str, kept: torch.Tensor) -> Callable[[dict[str, torch.Tensor]], torch.Tensor]:
    """Return the function from gradients to that of one weight as a matrix, a row per input of the layer."""

    def reduce(gradients: dict[str, torch.Tensor]) -> torch.Tensor:
        weight = gradients[name]
        return weight.reshape(weight.shape[0], -1).T[kept.to(weight.device)]

    return reduce


def summarise(inside: Inside, X: Any, y: np.ndarray) -> np.ndarray:
    """Return per record what does not depend on the order of neurons, ``(N, 1 + 3 L)`` for L layers.

    The log-odds; per layer the log of the gradient's norm over the probability of the true class (negated), of the
    activations' norm, and the share of them above 0.
    """
    import torch

    raw, acts = activations(inside, X, inside.layers)
    phi = log_odds_of(torch.as_tensor(raw), torch.as_tensor(y), inside.outputs).numpy()
    names = [list(inside.parameters_of([layer])) for layer in inside.layers]
    norms = per_record(
        inside, X, y,
        lambda g: torch.stack([torch.stack([g[name].square().sum() for name in group]).sum().sqrt() for group in names]),
    )  # fmt: skip
    flat = [each.reshape(len(y), -1) for each in acts]
    return np.column_stack(
        [
            phi,
            -np.log(np.maximum(norms, TINY)) - np.logaddexp(0.0, -phi)[:, None],
            *[np.log(np.maximum(np.linalg.norm(each, axis=1), TINY)) for each in flat],
            *[(each > 0).mean(axis=1) for each in flat],
        ]
    )


def _compared(target: np.ndarray, shadows: np.ndarray, references: References, judges: np.ndarray) -> np.ndarray:
    """Return signals ``(N, D)`` as distances from the judges' IN and OUT means, and the log-odds, ``(N, 2 D + 1)``."""
    inside = references.trained_on[judges]
    columns = [target[:, 0]]
    for d in range(target.shape[1]):
        sides = gaussian_sides(shadows[judges, :, d], inside, "shrunken")
        for mean, sd in ((sides.mean_in, sides.sd_in), (sides.mean_out, sides.sd_out)):
            columns.append(np.arcsinh((target[:, d] - mean) / sd))
    return np.stack(columns, axis=1)


def _scaling(part: Part, rows: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function that brings values to a common scale, learnt from the practice rows alone."""
    if part.kind == "label":
        return lambda values: values
    seen = part.values[rows]
    if part.kind == "gradient":
        size = np.abs(seen)
        scale = float(np.median(size[size > 0])) if (size > 0).any() else 1.0
        return lambda values: np.arcsinh(values / scale)
    mean, sd = seen.mean(axis=0), seen.std(axis=0)
    return lambda values: np.clip((values - mean) / np.where(sd > 0, sd, 1.0), -10, 10)


def _model(parts: Sequence[Part], width: float) -> nn.Module:
    """Return a fresh attack model, of the paper's widths or as wide as is affordable."""
    model = _attack_model(parts, width or 1.0)
    factor = 1.0
    while not width and factor > 1 / 64 and sum(each.numel() for each in model.parameters()) > AFFORDABLE:
        factor /= 2
        model = _attack_model(parts, factor)
    return model


def _attack_model(parts: Sequence[Part], width: float) -> nn.Module:
    import torch
    from torch import nn

    def chain(*widths: int, drop: int = 0) -> list[nn.Module]:
        """Return dense layers with ReLU, with dropout after each of the first ``drop``."""
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(pairwise(widths)):
            layers += [nn.Dropout(0.2)] if 0 < i <= drop else []
            layers += [nn.Linear(before, after), nn.ReLU()]
        return layers

    def w(size: int) -> int:
        return max(4, round(size * width))

    def component(part: Part) -> tuple[nn.Module, int]:
        inputs = int(np.prod(part.values.shape[1:]))
        if part.kind == "dense":
            return nn.Sequential(*chain(inputs, w(100), w(64))), w(64)
        if part.kind == "label":
            return nn.Sequential(*chain(inputs, w(128), w(64))), w(64)
        if part.kind == "convolution":
            return nn.Sequential(*chain(inputs, w(256), w(1024), w(512), w(128), w(64), drop=2)), w(64)
        rows, outputs = part.values.shape[1:]
        return nn.Sequential(
            nn.Dropout(0.2), nn.Linear(outputs, w(100)), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2),
            *chain(rows * w(100), w(2024), w(512), w(256), drop=1),
        ), w(256)  # fmt: skip

    class AttackModel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            built = [component(part) for part in parts]
            self.components = nn.ModuleList([each for each, _ in built])
            code = sum(size for _, size in built)
            self.encoder = nn.Sequential(*chain(code, w(256), w(128), w(64)), nn.Linear(w(64), 1))

        def forward(self, inputs: list[torch.Tensor]) -> torch.Tensor:
            codes = [each(x) for each, x in zip(self.components, inputs, strict=True)]
            return self.encoder(torch.cat(codes, dim=1))[:, 0]

    return AttackModel()


def _train(
    model: nn.Module,
    inputs: Sequence[torch.Tensor],
    learn: np.ndarray,
    member: np.ndarray,
    aside: np.ndarray,
    aside_member: np.ndarray,
    epochs: int,
    learning_rate: float,
    rng: np.random.Generator,
) -> int:
    """Train the model in place; leave it as it was after the epoch that was best on the rows set aside, and return that.

    Returns 0 where no epoch was better than none.
    """
    import torch

    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    truth = torch.as_tensor(aside_member.astype(np.float32))

    def loss_aside() -> float:
        model.eval()
        with torch.no_grad():
            return float((torch.sigmoid(model([each[aside] for each in inputs])) - truth).square().mean())

    best, chosen, kept = loss_aside(), 0, copy.deepcopy(model.state_dict())
    half = min(int(member.sum()), int((~member).sum()))
    size = 32 if half < 2000 else 128
    for epoch in range(1, epochs + 1):
        model.train()
        pairs = [learn[side][rng.permutation(int(side.sum()))[:half]] for side in (member, ~member)]
        for start in range(0, half, size):
            batch = [side[start : start + size] for side in pairs]
            rows, wanted = np.concatenate(batch), torch.cat([torch.ones(len(batch[0])), torch.zeros(len(batch[1]))])
            optimizer.zero_grad(set_to_none=True)
            (torch.sigmoid(model([each[rows] for each in inputs])) - wanted).square().mean().backward()
            optimizer.step()
        now = loss_aside()
        if now < best:
            best, chosen, kept = now, epoch, copy.deepcopy(model.state_dict())
        elif epoch - chosen >= PATIENCE:
            break
    model.load_state_dict(kept)
    model.eval()
    return chosen
